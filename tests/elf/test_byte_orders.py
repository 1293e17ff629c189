"""Each program built for both byte orders: the same model, the same verdict, the same results."""

from __future__ import annotations

import sys

import pytest

import ebpfkit
from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.parser import parse
from ebpfkit.btf.dump import dump_c
from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.elf.static import link_objects
from ebpfkit.errors import UsageError
from ebpfkit.vm.machine import Machine
from tests.elf.objects import SOURCES, compile_c, compile_zig
from tests.elf.test_compilers import HOST_PROGRAMS, opened

NAMES = sorted(path.stem for path in SOURCES.glob("*.c") if path.stem not in HOST_PROGRAMS)
COMPILERS = ("clang", "zig")


def built(compiler: str, name: str, order: str, *flags: str) -> bytes:
    if compiler == "clang":
        return compile_c(name, f"--target=bpf{order}", *flags)
    return compile_zig(name, "-target", f"bpf{order}-freestanding", *flags)


def model(obj: ObjectFile) -> dict[str, object]:
    """All of an object that does not depend on the byte order."""
    return {
        "programs": {
            spec.name: (spec.section, spec.prog_type, spec.attach_type, spec.license, spec.flags, sorted(spec.maps))
            for spec in obj.programs.values()
        },
        "maps": {
            spec.name: (spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags, spec.value_slots)
            for spec in obj.maps.values()
        },
        "variables": {row.name: (row.map_name, row.offset, row.size) for row in obj.variables.values()},
        "problems": obj.problems,
        "struct_ops": {row.name: (row.type_name, row.members) for row in obj.struct_ops.values()},
        "needs": (obj.needs_target, obj.needs_config, obj.license),
        "types": dump_c(obj.btf) if obj.btf is not None else "",
    }


def places(spec: ProgramSpec) -> list[tuple[str, int]]:
    return sorted({(insn.span.file, insn.span.line) for insn in spec.instructions if insn.span is not None})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_same_model_and_verdict(compiler: str, name: str) -> None:
    little, big = (opened(built(compiler, name, order)) for order in ("el", "eb"))
    assert (little.big_endian, big.big_endian) == (False, True)
    assert model(little) == model(big)
    for spec in little.programs.values():
        other = big.programs[spec.name]
        assert other.big_endian
        if [insn.op for insn in spec.instructions] == [insn.op for insn in other.instructions]:
            assert places(other) == places(spec)  # byte swaps and bit-fields make other code, in other places
        assert decode(encode(other.instructions, big_endian=True), big_endian=True) == [
            insn.replace(ref=None, span=None, labels=()) for insn in other.instructions
        ]
        reports = [ebpfkit.verify(one) for one in (spec, other)]
        assert reports[0].verdict == reports[1].verdict
        assert [error.rule for error in reports[0].errors] == [error.rule for error in reports[1].errors]
        assert reports[1].programs[0].basis == "documented"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_constants_and_bit_fields(compiler: str) -> None:
    """The verifier knows the constants in the machine's order, and the machine computes the same."""
    found = []
    for order in ("el", "eb"):
        obj = opened(built(compiler, "byte_orders", order))
        assert ebpfkit.verify(obj.programs["orders"]).verdict == "accept"
        machine = Machine(obj)
        results = [machine.run(bytes(12) + kind + bytes(20)).r0 for kind in (b"\x08\x00", b"\x00\x08")]
        name = "big" if obj.big_endian else "little"
        seen = int.from_bytes(machine.maps[".bss"].get(bytes(4)) or b"", name)  # type: ignore[arg-type]
        count = int.from_bytes(machine.maps["counts"].get((4).to_bytes(4, name)) or b"", name)  # type: ignore[arg-type]
        found.append((results, seen, count))
    assert found[0] == found[1]
    assert found[0][0] == [2, 2]


@pytest.mark.parametrize("order", ["el", "eb"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_bit_fields_of_another_layout(compiler: str, order: str) -> None:
    """What CO-RE finds of a structure whose fields lie elsewhere, in either order."""
    target = open_object(built(compiler, "core_bits", order, "-DMOVED"))
    contents = target.maps[".data"].data
    assert target.btf is not None and contents is not None
    obj = open_object(built(compiler, "core_bits", order), target_btf=target.btf)
    assert not obj.problems
    assert ebpfkit.verify(obj.programs["bits"]).verdict == "accept"
    machine = Machine(obj)
    assert machine.run(contents.ljust(64, b"\0")).r0 == 2
    name = "big" if obj.big_endian else "little"
    held = machine.maps[".bss"].get(bytes(4))
    assert held is not None
    values = {
        row.name: int.from_bytes(held[row.offset : row.offset + 8], name, signed=True)  # type: ignore[arg-type]
        for row in obj.variables.values()
    }
    assert values == {"a": 5, "b": 100, "c": 3000, "d": -54321, "e": 21, "plain": 777}


def test_a_kernel_of_the_other_byte_order_answers_nothing() -> None:
    """Bit-fields lie elsewhere there: what it would answer is wrong for this object."""
    target = open_object(built("clang", "core_bits", "el", "-DMOVED"))
    obj = open_object(built("clang", "core_bits", "eb"), target_btf=target.btf)
    assert "the BTF given is that of a kernel of the other byte order" in obj.problems["bits"]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_joined(compiler: str) -> None:
    parts = [(name, built(compiler, name, "eb")) for name in ("link_a", "link_b")]
    joined = opened(link_objects(parts))
    little = opened(link_objects([(name, built(compiler, name, "el")) for name in ("link_a", "link_b")]))
    assert joined.big_endian and model(joined) == model(little)


CONSTANTS = MapSpec(
    name="constants", type="array", key_size=4, value_size=8, max_entries=1, flags=1 << 7, frozen=True,
    data=bytes.fromhex("0102030405060708"),
)  # fmt: skip
OUT = "r0 = *(u64 *)(r10 -600)\nexit"  # refused wherever it is reached

# Assembly that is accepted for one byte order only: a branch into what is refused is never taken there.
ONE_ORDER = {
    "a constant of two bytes": ("r1 = map[constants][0]+0 ll\nr1 = *(u16 *)(r1 +0)", {"el": 0x0201, "eb": 0x0102}),
    "a constant of four bytes": (
        "r1 = map[constants][0]+4 ll\nr1 = *(u32 *)(r1 +0)",
        {"el": 0x08070605, "eb": 0x05060708},
    ),
    "to little-endian": ("r1 = 0x0102\nr1 = le16 r1", {"el": 0x0102, "eb": 0x0201}),
    "to big-endian": ("r1 = 0x0102\nr1 = be16 r1", {"el": 0x0201, "eb": 0x0102}),
    "a swap": ("r1 = 0x0102\nr1 = bswap16 r1", {"el": 0x0201, "eb": 0x0201}),
    "the first half of a spill": ("r1 = 5\n*(u64 *)(r10 -8) = r1\nr1 = *(u32 *)(r10 -8)", {"el": 5}),
    "the second half of a spill": ("r1 = 5\n*(u64 *)(r10 -8) = r1\nr1 = *(u32 *)(r10 -4)", {"eb": 5}),
    "the last byte of a spill": ("*(u32 *)(r10 -8) = 7\nr1 = *(u8 *)(r10 -5)", {"eb": 7}),
    "the first byte of a spill": ("*(u32 *)(r10 -8) = 7\nr1 = *(u8 *)(r10 -8)", {"el": 7}),
}


@pytest.mark.parametrize("order", ["el", "eb"])
@pytest.mark.parametrize("case", ONE_ORDER)
def test_what_is_known_depends_on_the_order(case: str, order: str) -> None:
    asm, known = ONE_ORDER[case]
    values = set(known.values())
    for value in values:
        text = f"{asm}\nr2 = {value} ll\nif r1 == r2 goto same\n{OUT}\nsame: r0 = 0\nexit"
        spec = ProgramSpec("p", "", "socket_filter", tuple(parse(text)), license="GPL", maps={"constants": CONSTANTS})
        report = ebpfkit.verify(spec.replace(big_endian=order == "eb"))
        assert report.verdict == ("accept" if known.get(order) == value else "reject"), (value, report)


def test_loading_for_the_other_order_is_refused_with_a_reason() -> None:
    from ebpfkit.loader import Collection

    theirs = "eb" if sys.byteorder == "little" else "el"
    with pytest.raises(UsageError, match=f"this one is {sys.byteorder}-endian: compile it for this one"):
        Collection.load(opened(built("clang", "maps", theirs)))


def test_an_instruction_reads_the_same_in_both_orders() -> None:
    (insn,) = decode(bytes.fromhex("61120004 00000000"), big_endian=True)
    assert insn == Instruction(insn.op, insn.dst, insn.src, 4) and str(insn.op) == "LDXW"
