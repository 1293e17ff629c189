"""Every kind of CO-RE question, answered as libbpf answers it: for the running kernel and for changed types."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ebpfkit.asm.codec import slot_starts
from ebpfkit.asm.insn import Instruction
from ebpfkit.btf import Btf
from ebpfkit.btf import types as t
from ebpfkit.btf.core import Question
from ebpfkit.btf.minimal import minimal_btf
from ebpfkit.btf.vmlinux import KERNEL_BTF, read_btf_file
from ebpfkit.elf import open_object
from ebpfkit.elf.core import POISON
from ebpfkit.elf.reader import read_elf
from ebpfkit.elf.types import read_raw_types
from tests.conftest import require_tool, skip_or_fail
from tests.elf.objects import SOURCES, compile_c, compile_zig

pytestmark = pytest.mark.kernel
PATCHED = re.compile(r"prog '(\w+)': relo #\d+: patched insn #(\d+) \(\S+\) (off|imm|imm64|mem_sz) \d+ -> (\d+)")
POISONED = re.compile(r"prog '(\w+)': relo #\d+: substituting insn #(\d+) w/ invalid insn")


@pytest.fixture(scope="module")
def libbpf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The helper that loads an object with libbpf against a BTF file."""
    if not Path("/usr/include/bpf/libbpf.h").exists():
        skip_or_fail("libbpf-dev is not installed")
    out = tmp_path_factory.mktemp("libbpf") / "custom_btf"
    command = [require_tool("gcc"), "-w", str(SOURCES / "custom_btf.c"), "-o", str(out), "-lbpf"]
    subprocess.run(command, check=True)
    return out


def compare(data: bytes, target: Path, libbpf: Path, folder: Path) -> tuple[int, int]:
    """The number of instructions that libbpf patches and poisons; ours are the same."""
    path = folder / "object.o"
    path.write_bytes(data)
    text = subprocess.run([str(libbpf), str(path), str(target)], capture_output=True, text=True, check=False).stdout
    obj = open_object(path, target_btf=read_btf_file(target))
    found: dict[str, dict[int, Instruction]] = {
        name: dict(zip(slot_starts(spec.instructions), spec.instructions)) for name, spec in obj.programs.items()
    }
    patched, poisoned = PATCHED.findall(text), POISONED.findall(text)
    for program, slot, field, value in patched:
        insn = found[program][int(slot)]
        actual = {"off": insn.off, "mem_sz": insn.op.size}.get(field, insn.imm)
        assert actual & 0xFFFF_FFFF == int(value) & 0xFFFF_FFFF, (program, slot, field, value, insn)
    for program, slot in poisoned:
        assert found[program][int(slot)].imm == POISON, (program, slot)
    return len(patched), len(poisoned)


def kinds_of(data: bytes) -> set[int]:
    _, ext = read_raw_types(read_elf(data))
    return {relo.kind for relos in ext.relos.values() for relo in relos}


def objects() -> list[bytes]:
    return [compile_c("core"), compile_zig("core"), compile_zig("matches")]


def test_every_kind_is_asked() -> None:
    asked: set[int] = set().union(*map(kinds_of, objects()))
    assert asked == set(map(int, Question))


def test_the_running_kernel(libbpf: Path, tmp_path: Path) -> None:
    counts = [compare(data, Path(KERNEL_BTF), libbpf, tmp_path) for data in objects()]
    assert counts[0][0] > 30 and counts[1][0] > 30 and counts[2][0] == 16 and counts[0][1] == 3


def changed(whole: Btf, data: bytes) -> Btf:
    """The part of the kernel's types that the object needs, with everything about them a little different."""
    local, ext = read_raw_types(read_elf(data))
    assert local is not None
    btf = minimal_btf(whole, [(local, relo) for relos in ext.relos.values() for relo in relos])
    wide = t.Int("long unsigned int", 8, 0, 64)
    types = [*btf.types, wide]
    for index, type_ in enumerate(types):
        if isinstance(type_, t.Struct) and type_.name:
            members = tuple(
                # Everything moves up by eight bytes, and bit-fields by a bit more.
                t.Member(m.name, len(types) - 1 if m.name == "frame_sz" else m.type, m.bit_offset + 64, m.bitfield_size)
                for m in type_.members
                if m.name not in ("cb", "pkt_type")
            )
            types[index] = type(type_)(type_.name, type_.size + 24, members, type_.kind_flag)
        elif isinstance(type_, t.Enum):
            values = tuple(
                t.Enumerator(v.name, v.value + 100) for v in type_.values if v.name != "BPF_PROG_TYPE_TRACING"
            )
            types[index] = type(type_)(type_.name, type_.size, values, type_.signed)
        elif isinstance(type_, t.Int) and type_.name == "int":
            types[index] = t.Int("int", type_.size, 0, type_.bits)
    return Btf(types)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["clang14", "clang22", "matches"])
def test_changed_types(which: int, libbpf: Path, tmp_path: Path) -> None:
    data = objects()[which]
    target = tmp_path / "changed.btf"
    target.write_bytes(changed(read_btf_file(), data).to_bytes())
    patched, poisoned = compare(data, target, libbpf, tmp_path)
    assert patched == 16 if which == 2 else patched > 25 and poisoned > 3
