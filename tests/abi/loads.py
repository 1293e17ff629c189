"""Tiny programs for asking the kernel: what it says to one access, one call, one map."""

from __future__ import annotations

import ctypes
import os
import struct
from functools import cache

from ebpfkit.abi import uapi
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.kernel import bpf

SIZE_CODES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
PROG_NUMBERS = {
    name.removeprefix("BPF_PROG_TYPE_").lower(): number for name, number in uapi.ENUMS["bpf_prog_type"].items()
}
ATTACH_NUMBERS = {name.removeprefix("BPF_").lower(): number for name, number in uapi.ENUMS["bpf_attach_type"].items()}
# Descriptors of maps, closed when the room's tests end.
OPEN: list[int] = []


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


def load_wide(register: int, source: int, fd: int) -> bytes:
    return insn(0x18, register, source, 0, fd) + insn(0)


def exit_with(verdict: int) -> bytes:
    return insn(0xB7, imm=verdict) + insn(0x95)


def verdict(
    code: bytes,
    prog_type: str,
    attach_type: str | None = None,
    *,
    license: str = "GPL",
    level: int = 1,
    flags: int = 0,
) -> tuple[bool, str]:
    """Whether the kernel takes the program, and its log."""
    result = bpf.prog_load(
        PROG_NUMBERS[prog_type],
        code,
        license,
        expected_attach_type=ATTACH_NUMBERS[attach_type] if attach_type else 0,
        flags=flags,
        log_level=level,
        log_size=1 << 16,
    )
    if result.fd is None:
        return False, result.log or os.strerror(result.errno)
    result.fd.close()
    return True, result.log


def last_line(log: str) -> str:
    """The last line that is not the summary: the complaint."""
    lines = [line for line in log.strip().splitlines() if not line.startswith("processed ")]
    return lines[-1] if lines else ""


def raw_map_create(map_type: int, key_size: int, value_size: int, entries: int, flags: int = 0, inner: int = 0) -> int:
    """A map's descriptor, or minus errno; closed at the end of the tests."""
    attr = struct.pack("<7I16s6I", map_type, key_size, value_size, entries, flags, inner, 0, b"", *[0] * 6).ljust(
        80, b"\0"
    )
    buffer = ctypes.create_string_buffer(attr, len(attr))
    fd = bpf.raw_bpf(uapi.BPF_MAP_CREATE, ctypes.addressof(buffer), len(attr))
    if fd >= 0:
        OPEN.append(fd)
    return fd


@cache
def inner_map() -> int:
    return raw_map_create(MAP_TYPES["array"].id, 4, 8, 1)


def create_like_row(name: str, **changes: int) -> int:
    """A map with the smallest sizes that its row allows, some of them changed; the descriptor or minus errno."""
    row = MAP_TYPES[name]
    sizes = {
        "key_size": row.key_size if row.key_size is not None else (*row.key_sizes, 8)[0],
        "value_size": row.value_size if row.value_size is not None else (*row.value_sizes, 8)[0],
        "entries": 0 if row.max_entries_zero else 4096 if row.max_entries_power_of_two else 4,
        "flags": sum(getattr(uapi, flag) for flag in row.required_flags),
    }
    sizes.update(changes)
    inner = inner_map() if name.endswith("_of_maps") else 0
    return raw_map_create(row.id, sizes["key_size"], sizes["value_size"], sizes["entries"], sizes["flags"], inner)


@cache
def map_of(name: str) -> int:
    fd = create_like_row(name)
    assert fd >= 0, f"{name}: {os.strerror(-fd)}"
    return fd
