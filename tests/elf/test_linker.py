"""Objects of clang become programs: which, with what behind them, and what is wrong with the others."""

from __future__ import annotations

import pickle

import pytest

from ebpfkit.asm.codec import encode, slot_starts
from ebpfkit.asm.insn import FuncRef, Instruction, KfuncRef, MapRef, MapValueRef, VarRef
from ebpfkit.btf.types import Datasec, Func, Linkage
from ebpfkit.elf import ProgramSpec, open_object
from ebpfkit.errors import ObjectError
from tests.elf.objects import compile_c, open_c


def functions(program: ProgramSpec) -> list[str]:
    return [info.name for info in program.func_infos]


def references(program: ProgramSpec, kind: type) -> list[object]:
    return [insn.ref for insn in program.instructions if isinstance(insn.ref, kind)]


PROGRAMS = [
    # object, program, section, attach type, functions in order
    ("maps", "firewall", "xdp", ["firewall"]),
    ("globals", "count", "xdp", ["count"]),
    ("calls", "first", "xdp", ["first", "global_sub", "middle", "deepest"]),
    ("calls", "second", "xdp", ["second", "hidden_sub", "deepest"]),
    ("calls", "plain", "xdp", ["plain"]),
    ("calls", "third", "xdp.frags", ["third", "deepest", "middle"]),
    ("calls", "looped", "xdp/devmap", ["looped", "callback"]),
    ("optional", "optional", "xdp", ["optional"]),
    ("nested", "entry", "xdp", ["entry"]),
    ("legacy", "old", "xdp", ["old"]),
]


@pytest.mark.parametrize(("name", "program", "section", "expected"), PROGRAMS, ids=[row[1] for row in PROGRAMS])
def test_program(name: str, program: str, section: str, expected: list[str]) -> None:
    spec = open_c(name).programs[program]
    assert (spec.section, spec.prog_type) == (section, "xdp")
    assert functions(spec) == expected


def test_attach_types_flags_and_autoload() -> None:
    programs = open_c("calls").programs
    assert programs["looped"].attach_type == "xdp_devmap"
    assert {name: spec.flags for name, spec in programs.items() if spec.flags} == {"third": 1 << 5}
    assert {name: spec.autoload for name, spec in open_c("optional").programs.items()} == {
        "always": True,
        "optional": False,
    }


def test_licence_and_version() -> None:
    obj = open_c("maps")
    assert obj.license == obj.programs["firewall"].license == "Dual MIT/GPL"
    assert obj.programs["firewall"].kernel_version == 0x60000
    assert open_c("problems").license == ""


def test_calls_reach_the_function_they_name() -> None:
    for spec in open_c("calls").programs.values():
        begins = {info.slot: info.name for info in spec.func_infos}
        for slot, insn in zip(slot_starts(spec.instructions), spec.instructions):
            if isinstance(insn.ref, FuncRef):
                distance = insn.imm - (1 << 32) if insn.imm >> 31 == 1 else insn.imm
                assert begins[slot + 1 + distance] == insn.ref.name


def test_subprograms_are_the_same_instructions_everywhere() -> None:
    """Each function's body, apart from calls, is what the object's section holds."""
    obj = open_c("calls")

    def body(program: str, function: str) -> list[Instruction]:
        spec = obj.programs[program]
        infos = [*spec.func_infos]
        index = next(i for i, info in enumerate(infos) if info.name == function)
        end = infos[index + 1].slot if index + 1 < len(infos) else 1 << 30
        rows = zip(slot_starts(spec.instructions), spec.instructions)
        return [insn.replace(imm=0) for slot, insn in rows if infos[index].slot <= slot < end]

    assert body("first", "deepest") == body("second", "deepest") == body("third", "deepest")
    assert body("first", "middle") == body("third", "middle")


def test_map_references() -> None:
    spec = open_c("maps").programs["firewall"]
    names = [ref.name for ref in references(spec, MapRef)]
    assert set(names) == {"seen", "per_cpu", "blocked", "xsks"} == set(spec.maps)


def test_global_data_references() -> None:
    obj = open_c("globals")
    found = {(ref.name, ref.offset) for ref in references(obj.programs["count"], MapValueRef)}
    expected = {(obj.variables[name].map_name, obj.variables[name].offset) for name in
                ("port", "signed_value", "total", "calls", "count.inner", "threshold", "enabled", "extra")}  # fmt: skip
    limits, table = obj.variables["limits"], obj.variables["table"]
    # The compiler adds the offset of a member or element to the address, or leaves it to the load.
    assert expected <= found
    assert {(name, offset) for name, offset in found - expected} <= {
        (limits.map_name, limits.offset), (limits.map_name, limits.offset + 4),
        (table.map_name, table.offset), (table.map_name, table.offset + 8),
    }  # fmt: skip


def test_every_instruction_has_its_source_line() -> None:
    spec = open_c("calls").programs["first"]
    for insn in spec.instructions:
        assert insn.span is not None
        assert insn.span.file.endswith("calls.c")
        assert insn.span.text is not None
    names = {insn.span.function for insn in spec.instructions if insn.span}
    assert names == set(functions(spec))
    call = next(insn for insn in spec.instructions if insn.ref == FuncRef("global_sub"))
    assert call.span is not None and call.span.text is not None
    assert call.span.text[call.span.column - 1 :].startswith("global_sub(")


def test_function_and_line_records_are_rebased() -> None:
    obj = open_c("calls")
    assert obj.btf is not None
    for spec in obj.programs.values():
        starts = set(slot_starts(spec.instructions))
        for info in spec.func_infos:
            func = obj.btf.types[info.type_id]
            assert isinstance(func, Func) and func.name == info.name
            assert info.is_global == (func.linkage == Linkage.GLOBAL)
        slots = [line.slot for line in spec.line_infos]
        assert slots == sorted(set(slots)) and set(slots) <= starts
        assert {info.slot for info in spec.func_infos} <= set(slots)
    assert obj.btf.find("hidden_sub", Func) == Func("hidden_sub", obj.btf.find("hidden_sub", Func).type, Linkage.STATIC)  # type: ignore[union-attr]


def test_sections_of_types_have_sizes_and_order() -> None:
    obj = open_c("globals")
    assert obj.btf is not None
    for _, datasec in obj.btf.iter_kind(Datasec):
        offsets = [row.offset for row in datasec.vars]
        assert datasec.size > 0 and offsets == sorted(offsets) and len(set(offsets)) == len(offsets)
        for row in datasec.vars:
            variable = obj.variables.get(obj.btf.name(row.type))
            if variable is not None:
                assert (variable.offset, variable.size) == (row.offset, row.size)


PROBLEMS = {
    "calls_undefined": "undefined_function() is called and not defined",
    "reads_undefined": "undefined_variable is used and not defined",
    "reads_config": "CONFIG_HZ is a value of the kernel's configuration (.kconfig extern); give",
    "reads_strange": "odd_place lies in section 'strange'",
    "reads_pointer": "holds addresses",
    "odd_section": 'write SEC("xdp")',
}


def test_problems_stay_with_their_program() -> None:
    obj = open_c("problems")
    assert set(obj.problems) == set(PROBLEMS)
    for name, part in PROBLEMS.items():
        assert part in obj.problems[name]
    assert set(obj.programs) == {
        "good",
        "calls_kernel",
        "reads_kernel_variable",
        "reads_number",
        "takes_kernel_address",
    }
    assert references(obj.programs["calls_kernel"], KfuncRef) == [KfuncRef("bpf_xdp_metadata_rx_hash")]
    assert references(obj.programs["reads_kernel_variable"], VarRef) == [VarRef("kernel_variable")]


def test_a_function_without_a_section_is_explained() -> None:
    obj = open_c("text_only")
    assert not obj.programs
    assert "give it a section" in obj.problems["lonely"]


def test_without_debug_information() -> None:
    """Without -g there are no types and no lines, and map definitions in .maps cannot be read."""
    obj = open_object(compile_c("legacy", "-g0"))
    assert obj.btf is None and set(obj.programs) == {"old"} and set(obj.maps) == {"first_map", "second_map"}
    assert not obj.programs["old"].line_infos
    with pytest.raises(ObjectError, match="compile with -g"):
        open_object(compile_c("maps", "-g0"))


def test_big_endian_objects_read_alike() -> None:
    """The same source for big-endian BPF links to the same programs; the bytes differ."""
    little, big = open_c("calls"), open_object(compile_c("calls", "--target=bpfeb"))
    assert big.big_endian and not little.big_endian
    assert {name: functions(spec) for name, spec in big.programs.items()} == {
        name: functions(spec) for name, spec in little.programs.items()
    }
    assert big.maps[".bss"].value_size == 4
    first = big.programs["first"]
    assert encode(first.instructions, big_endian=True) != encode(first.instructions)
    assert open_object(compile_c("maps", "--target=bpfeb")).maps["seen"].max_entries == 100


def test_specs_pickle() -> None:
    obj = open_c("nested")
    assert pickle.loads(pickle.dumps(obj)) == obj


def test_messages_name_the_file(tmp_path: object) -> None:
    with pytest.raises(ObjectError, match=r"^/nowhere/x\.o: cannot read: No such file"):
        open_object("/nowhere/x.o")
    with pytest.raises(ObjectError, match=r"^short\.o: ELF header\+0x0: this is no ELF file"):
        open_object(b"", name="short.o")


def test_struct_ops() -> None:
    """Structures of kernel operations are data: their values, and which program each of their functions is."""
    obj = open_c("struct_ops")
    assert set(obj.programs) == {"good", "threshold", "undo"} and not obj.problems
    assert obj.programs["undo"].prog_type == "struct_ops"
    ops, linked = obj.struct_ops["ops"], obj.struct_ops["linked"]
    assert (ops.type_name, ops.link, linked.link) == ("tcp_congestion_ops", False, True)
    assert ops.members == {"ssthresh": "threshold", "undo_cwnd": "undo"} and not linked.members
    assert ops.data.rstrip(b"\0").endswith(b"test") and b"again" in linked.data


@pytest.mark.kernel
def test_struct_ops_are_left_out_when_programs_are_named() -> None:
    from ebpfkit.loader import Collection

    with Collection.load(open_c("struct_ops"), programs=["good"]) as collection:
        assert set(collection.programs) == {"good"} and not collection.operations


@pytest.mark.kernel
def test_exceptions_have_their_function() -> None:
    """Nothing calls the function that a declaration tag names; it is linked in last, and decides the verdict."""
    from ebpfkit.kernel.version import kernel_version
    from ebpfkit.loader import Collection

    obj = open_c("exceptions")
    assert [info.name for info in obj.programs["throws"].func_infos] == ["throws", "deep", "handler"]
    assert obj.problems == {"lost": "'nowhere', which is to handle its exceptions, is no function of this object"}
    if kernel_version() < (6, 7):
        pytest.skip("this kernel has no exceptions")
    with Collection.load(obj, programs=["throws"]) as collection:
        assert collection.programs["throws"].test_run(bytes(64)).retval == 47
