"""The same sources by two compilers, clang 14 (or the system's) and the one in the `ziglang` package (22)."""

from __future__ import annotations

import pytest

from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.elf.static import link_objects
from tests.elf.objects import SOURCES, compile_c, compile_zig

HOST_PROGRAMS = {"custom_btf", "matches"}  # a program of the host; a question that clang 14 does not know
NAMES = sorted(path.stem for path in SOURCES.glob("*.c") if path.stem not in HOST_PROGRAMS)
VALUES = {
    "CONFIG_HZ": "250", "CONFIG_BPF": "y", "CONFIG_NET": "y", "CONFIG_LOCALVERSION": '""', "CONFIG_BPF_SYSCALL": "y",
    "LINUX_KERNEL_VERSION": 1,
}  # fmt: skip


def opened(data: bytes) -> ObjectFile:
    return open_object(data, legacy_sections=True, prog_type="xdp", kconfig=VALUES)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_object(name: str) -> None:
    old, new = opened(compile_c(name)), opened(compile_zig(name))
    assert old.programs.keys() == new.programs.keys()
    assert old.problems.keys() == new.problems.keys() and old.needs_target == new.needs_target
    assert old.struct_ops.keys() == new.struct_ops.keys()
    kinds = [{n: (m.type, m.key_size, m.value_slots) for n, m in obj.maps.items()} for obj in (old, new)]
    assert kinds[0] == kinds[1]
    sizes = [{v.name: (v.map_name, v.size) for v in obj.variables.values()} for obj in (old, new)]
    assert sizes[0] == sizes[1]
    for spec in new.programs.values():
        assert all(insn.span is not None for insn in spec.instructions)


@pytest.mark.parametrize("names", [("link_a", "link_b"), ("globals", "calls", "nested")], ids=["pair", "three"])
def test_joined(names: tuple[str, ...]) -> None:
    """Objects of both compilers in one."""
    mixed = [(n, compile_zig(n) if i % 2 else compile_c(n)) for i, n in enumerate(names)]
    plain = [(n, compile_c(n)) for n in names]
    first, second = opened(link_objects(mixed)), opened(link_objects(plain))
    assert first.programs.keys() == second.programs.keys() and not first.problems
    assert first.maps.keys() == second.maps.keys()
