"""The object itself: golden stages, BTF, line information for every instruction, and tools that load it unchanged."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ebpfkit.asm.codec import slot_starts
from ebpfkit.btf.ext import BtfExt
from ebpfkit.btf.types import Btf, Func
from ebpfkit.compiler.driver import STAGES, Compiled, Options, compile_programs, cpu_for_kernel, section_bytes
from ebpfkit.dsl.program import Program
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError, UsageError
from tests.compiler.support import PRELUDE, load_module, program
from tests.compiler.test_maps import MAPS, OPERATIONS
from tests.conftest import require_tool

GOLDEN = Path(__file__).parent / "golden"
PROGRAMS = ("counter", "loop")
LLVM = "22.1"
"""The LLVM that the golden assembly is from."""


def golden_program(name: str) -> Program:
    spec = importlib.util.spec_from_file_location(f"golden_{name}", GOLDEN / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name)
    assert isinstance(found, Program)
    return found


def _llvm_version() -> str:
    import llvmlite.binding as llvm

    return ".".join(str(part) for part in llvm.llvm_version_info[:2])


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("stage", ["ast", "ir", "llvm", "asm"])
def test_the_stages_are_as_recorded(name: str, stage: str, request: pytest.FixtureRequest):
    text = compile_programs([golden_program(name)]).stages[stage]
    assert isinstance(text, str)
    text = text.replace(str(GOLDEN), "/golden")
    if stage == "ast" and sys.version_info[:2] != (3, 11):  # what ast.dump leaves out differs between Pythons
        assert f"name='{name}'" in text
        return
    if stage == "asm":  # the functions alone: debug sections hold offsets that every change moves
        if _llvm_version() != LLVM:
            assert name in text
            return
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith((".", "#"))]
        text = "\n".join(line.split("#")[0].rstrip() for line in lines[: _end_of_code(lines)]) + "\n"
    path = GOLDEN / f"{name}.{stage}"
    if request.config.getoption("--update-golden", default=False):
        path.write_text(text)
    assert text == path.read_text(), f"the {stage} of {name} changed: look at it, then pytest --update-golden"


def _end_of_code(lines: list[str]) -> int:
    labels = ("_license:", "ports:", ".Linfo", ".Lsec_end", ".Lfunc_end")
    return next((n for n, line in enumerate(lines) if line.startswith(labels)), len(lines))


def test_every_stage_is_there():
    compiled = compile_programs([golden_program("counter")])
    assert set(STAGES) <= set(compiled.stages)
    assert compiled.stages["elf"] == compiled.elf and compiled.elf[:4] == b"\x7fELF"
    assert Btf.from_bytes(section_bytes(compiled.elf, ".BTF")).find("counter", Func) is not None


def test_the_same_source_gives_the_same_bytes():
    first = compile_programs([golden_program("counter")]).elf
    assert compile_programs([golden_program("counter")]).elf == first
    assert compile_programs([golden_program("counter")], options=Options(kernel="5.15")).elf == first
    assert compile_programs([golden_program("counter")], options=Options(mcpu="v1")).elf != first


@pytest.mark.parametrize(
    ("kernel", "cpu"),
    [(None, "v3"), ("5.4", "v2"), ("5.11", "v2"), ("5.12", "v3"), ("6.1.99-cloud", "v3"), ("6.6", "v4"), ("7", "v4")],
)
def test_the_kernel_chooses_the_instruction_set(kernel: str | None, cpu: str):
    assert cpu_for_kernel(kernel) == cpu
    assert Options(kernel=kernel).cpu == cpu
    assert Options(kernel=kernel, mcpu="v1").cpu == "v1"


def test_bad_options_are_refused():
    with pytest.raises(UsageError, match="no kernel version"):
        compile_programs([golden_program("loop")], options=Options(kernel="six"))
    with pytest.raises(UsageError, match="v9"):
        compile_programs([golden_program("loop")], options=Options(mcpu="v9"))
    with pytest.raises(UsageError, match="no program"):
        compile_programs([])


def everything(folder: Path) -> Compiled:
    """Many features in one program."""
    import textwrap

    wanted = ("get struct", "trie", "atomic", "in a loop", "padded key", "addresses")
    body = "d = pkt.read(Data)\n" + "".join(textwrap.dedent(OPERATIONS[n]).strip() + "\n" for n in wanted)
    body += "d.m16 = csum_replace2(d.m16, d.n16, be16(d.x16))\nreturn XDP_PASS if d.x8 in PORTS else XDP_DROP\n"
    return compile_programs([program(body, folder, MAPS)])


def check_lines(compiled: Compiled) -> int:
    """Every instruction of every program has a line of a Python file in force; how many instructions."""
    obj = open_object(compiled.elf)
    total = 0
    for spec in obj.programs.values():
        lines = {info.slot: info for info in spec.line_infos}
        assert spec.btf is not None and 0 in lines
        current = None
        for slot, insn in zip(slot_starts(spec.instructions), spec.instructions, strict=True):
            current = lines.get(slot, current)
            assert current is not None and current.line > 0, f"slot {slot} of {spec.name} has line {current}"
            file = spec.btf.string(current.file_name_off)
            assert file.endswith(".py")
            source = Path(file).read_text().splitlines()
            assert spec.btf.string(current.line_off).strip() == source[current.line - 1].strip()
            assert insn.span is not None and insn.span.line > 0
            total += 1
    return total


def test_every_instruction_has_its_python_line(tmp_path: Path):
    assert check_lines(compile_programs([golden_program("counter")])) > 20
    assert check_lines(compile_programs([golden_program("loop")])) > 20
    assert check_lines(everything(tmp_path)) > 150


def test_func_info_and_map_types(tmp_path: Path):
    compiled = everything(tmp_path)
    btf = Btf.from_bytes(section_bytes(compiled.elf, ".BTF"))
    BtfExt.from_bytes(section_bytes(compiled.elf, ".BTF.ext"), btf)
    obj = open_object(compiled.elf)
    spec = obj.programs["prog"]
    assert [(f.slot, f.name) for f in spec.func_infos] == [(0, "prog")]
    for name, facade in compiled.maps.items():
        wanted, got = facade.spec, obj.maps[name]
        assert (got.type, got.key_size, got.value_size, got.max_entries, got.flags) == (
            wanted.type, wanted.key_size, wanted.value_size, wanted.max_entries, wanted.flags)  # fmt: skip
        assert got.btf_key_type and got.btf_value_type


TWO = """
seen = bpf.Array[u64](max_entries=4)
@bpf.xdp
def one(pkt: Packet) -> XdpAction:
    seen[0] += 1
    return XDP_PASS
@bpf.xdp(frags=True, short=XDP_DROP, name="renamed")
def two(pkt: Packet) -> XdpAction:
    seen[1] += len(pkt) * u64(1) if False else 1
    pkt.read(Ethernet)
    return XDP_TX if len(pkt) > 60 else XDP_DROP
"""


@pytest.mark.kernel
def test_several_programs_share_an_object(tmp_path: Path):
    from ebpfkit.loader.collection import Collection

    module = load_module(PRELUDE + TWO, tmp_path)
    compiled = compile_programs([module.one, module.two])
    obj = open_object(compiled.elf)
    assert [(p.name, p.section) for p in obj.programs.values()] == [("one", "xdp"), ("renamed", "xdp.frags")]
    assert list(obj.maps) == ["seen"] and obj.license == "GPL"
    with Collection.load(obj) as live:
        assert live.programs["one"].test_run(bytes(64)).retval == 2
        assert live.programs["renamed"].test_run(bytes(64)).retval == 3
        assert live.programs["renamed"].test_run(bytes(20)).retval == 1
        assert [int.from_bytes(live.maps["seen"].get(bytes([i, 0, 0, 0])) or b"", "little") for i in (0, 1)] == [1, 2]


def test_two_programs_of_one_name_are_refused(tmp_path: Path):
    module = load_module(PRELUDE + TWO, tmp_path)
    other = load_module(PRELUDE + TWO, tmp_path)
    with pytest.raises(CompileError, match="two programs of one object are called one"):
        compile_programs([module.one, other.one])


def test_names_and_licences_are_checked(tmp_path: Path):
    body = "seen[0] += 1\nreturn XDP_PASS\n"
    maps = 'seen = bpf.Array[u64](max_entries=1, name="prog")\n'
    with pytest.raises(CompileError, match="prog names a program and something else"):
        compile_programs([program(body, tmp_path, maps)])
    with pytest.raises(CompileError, match="LICENSE has a zero character"):
        compile_programs([program("return XDP_PASS\n", tmp_path, 'LICENSE = "GPL\\0 not really"\n')])


def test_what_is_nested_too_deeply_is_refused(tmp_path: Path):
    body = f"d = pkt.read(Data)\nd.r0 = {' + '.join(['d.x64'] * 2000)}\nreturn XDP_PASS\n"
    with pytest.raises(CompileError) as caught:
        compile_programs([program(body, tmp_path)])
    assert caught.value.code == "too-deep" and caught.value.span is not None


@pytest.mark.kernel
def test_bpftool_loads_it_unchanged(tmp_path: Path):
    bpftool = require_tool("bpftool")
    path = tmp_path / "prog.o"
    path.write_bytes(everything(tmp_path).elf)
    pin = Path(f"/sys/fs/bpf/compiler_{os.getpid()}")
    try:
        done = subprocess.run([bpftool, "prog", "load", path, pin], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        dump = subprocess.run(
            [bpftool, "prog", "dump", "xlated", "pinned", pin, "linum"], capture_output=True, text=True, check=True
        ).stdout
        assert "snippet_" in dump and "d = pkt.read(Data)" in dump
    finally:
        pin.unlink(missing_ok=True)


@pytest.mark.kernel
def test_iproute2_attaches_it_unchanged(tmp_path: Path):
    ip = require_tool("ip")
    path = tmp_path / "prog.o"
    path.write_bytes(compile_programs([golden_program("counter")]).elf)
    space = f"compiler-{os.getpid()}"

    def run(*command: str) -> str:
        done = subprocess.run([ip, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {' '.join(command)}: {done.stderr}"
        return done.stdout

    run("netns", "add", space)
    try:
        run("-n", space, "link", "add", "cmp0", "type", "veth", "peer", "name", "cmp1")
        run("-n", space, "link", "set", "dev", "cmp0", "xdp", "obj", str(path), "sec", "xdp")
        assert "xdp" in run("-n", space, "link", "show", "cmp0")
    finally:
        run("netns", "del", space)


def test_a_gpl_only_helper_wants_the_licence(tmp_path: Path):
    body = "return XDP_PASS if helpers.get_current_task() else XDP_DROP\n"
    assert compile_programs([program(body, tmp_path)]).elf
    with pytest.raises(CompileError) as caught:
        compile_programs([program(body, tmp_path, 'LICENSE = "Apache-2.0"')])
    assert caught.value.code == "gpl-only" and "Apache-2.0" in caught.value.message
    with pytest.raises(CompileError, match="no LICENSE"):
        compile_programs([program(body, tmp_path, "del LICENSE")])


def test_a_notebook_cell_brings_its_text_along():
    import linecache

    name = "<ipython-input-7-abc>"
    text = PRELUDE + "@bpf.xdp\ndef cell(pkt: Packet) -> XdpAction:\n    return XDP_PASS  # the cell\n"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module = types.ModuleType("__main__")
    exec(compile(text, name, "exec"), module.__dict__)
    elf = compile_programs([module.cell]).elf
    assert b"return XDP_PASS  # the cell" in section_bytes(elf, ".BTF")


def test_without_source_there_is_no_program():
    module = types.ModuleType("nowhere")
    exec(PRELUDE + "@bpf.xdp\ndef lost(pkt: Packet) -> XdpAction:\n    return XDP_PASS\n", module.__dict__)
    with pytest.raises(CompileError, match="source text of lost is not available"):
        compile_programs([module.lost])


def test_a_changed_file_is_noticed(tmp_path: Path):
    prog = program("return XDP_PASS\n", tmp_path)
    path = Path(prog.function.__code__.co_filename)
    path.write_text("# nothing here any more\n")
    with pytest.raises(CompileError, match="changed after it was imported"):
        compile_programs([prog])


def test_a_lambda_is_refused():
    with pytest.raises(CompileError, match="lambda"):
        compile_programs([Program(lambda pkt: 2, name="f")])


def test_columns_count_characters(tmp_path: Path):
    body = 'x = "äöü€"; n = unknown_thing\nreturn XDP_PASS\n'
    with pytest.raises(CompileError) as caught:
        compile_programs([program(body, tmp_path)])
    assert caught.value.span is not None and caught.value.span.column == 5 + len('x = "äöü€"; n = ')
    assert caught.value.render().splitlines()[2].endswith("^" * len("unknown_thing"))
