"""An instruction that is younger than the kernel is rejected; from its version on it is accepted."""

from __future__ import annotations

import struct

import pytest

import ebpfkit
from ebpfkit.elf.model import MapSpec


def _slot(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


EXIT = _slot(0x95)
ZERO = _slot(0xB7)
LOOP = _slot(0xB7, 0, 0, 0, 4) + _slot(0x07, 0, 0, 0, -1) + _slot(0x55, 0, 0, -2) + EXIT
STORE = _slot(0x7B, 10, 0, -8) + _slot(0xB7, 1, 0, 0, 1)

CASES = {
    "32-bit jump": (ZERO + _slot(0x66, 0, 0, 1, 1) + ZERO + EXIT, "5.0", "5.1", "unknown-opcode"),
    "signed division": (_slot(0xB7, 0, 0, 0, 4) + _slot(0x37, 0, 0, 1, 2) + EXIT, "6.5", "6.6", "reserved-field"),
    "signed division, measured": (ZERO + _slot(0x37, 0, 0, 1, 2) + EXIT, "6.1", "6.12", "reserved-field"),
    "byte swap": (ZERO + _slot(0xD7, 0, 0, 0, 16) + EXIT, "6.5", "6.6", "unknown-opcode"),
    "long jump": (ZERO + _slot(0x06) + EXIT, "6.5", "6.6", "unknown-opcode"),
    "fetching atomic": (ZERO + STORE + _slot(0xDB, 10, 1, -8, 1) + EXIT, "5.11", "5.12", "reserved-field"),
    "call": (_slot(0x85, 0, 1, 0, 1) + EXIT + ZERO + EXIT, "4.15", "4.16", "reserved-field"),
    "global data": (_slot(0x18, 1, 2) + _slot(0) + _slot(0x61, 0, 1) + EXIT, "5.1", "5.2", "invalid-wide-load"),
    "loop": (LOOP, "5.2", "5.3", "back-edge"),
    "4097 instructions": (ZERO * 4096 + EXIT, "5.1", "5.2", "too-large"),
}  # fmt: skip


@pytest.mark.parametrize("kernel", ["5.10", "6.18", "7.1"])
def test_no_kernel_calls_through_a_register(kernel: str) -> None:
    report = ebpfkit.verify(ZERO + _slot(0x8D, 1) + ZERO + EXIT, prog_type="socket_filter", kernel=kernel)
    assert (report.verdict, report.errors[0].rule, report.errors[0].message) == (
        "reject", "unknown-opcode", "unknown opcode 8d at instruction 1",
    )  # fmt: skip


def test_indirect_jumps_are_unknown_to_a_kernel_or_to_us() -> None:
    jump = ZERO + _slot(0x0D, 1) + ZERO + EXIT
    older = ebpfkit.verify(jump, prog_type="socket_filter", kernel="6.18")
    assert (older.verdict, older.errors[0].message) == ("reject", "unknown opcode 0d at instruction 1")
    newer = ebpfkit.verify(jump, prog_type="socket_filter", kernel="6.19")
    assert newer.verdict == "unsupported" and "gotox" in newer.programs[0].message


@pytest.mark.parametrize("case", CASES)
def test_it_needs_its_kernel(case: str) -> None:
    raw, below, since, rule = CASES[case]
    data = MapSpec(name="data", type="array", key_size=4, value_size=8, max_entries=1)
    older = ebpfkit.verify(raw, prog_type="socket_filter", maps=[data], kernel=below)
    newer = ebpfkit.verify(raw, prog_type="socket_filter", maps=[data], kernel=since)
    assert (older.verdict, older.errors[0].rule) == ("reject", rule)
    assert newer.verdict == "accept", newer.errors
