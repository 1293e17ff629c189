# ruff: noqa: E501 - one program a line
"""Limits and the structure of programs: one readable case for each rule, held against the running kernel's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cases import MAPS, program
from judged import assert_agrees

from ebpfkit.abi import limits
from ebpfkit.asm.codec import decode
from ebpfkit.asm.insn import MapRef
from ebpfkit.diag.rules import RULES
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

END = "r0 = 0; exit"


def raw(text: str) -> ProgramSpec:
    """A program from bytes in hexadecimal."""
    insns = tuple(decode(bytes.fromhex(text.replace(" ", "")), strict=False))
    return ProgramSpec("bytes", "xdp", "xdp", insns, "GPL", maps=MAPS)


def chain(functions: int) -> str:
    """Each function calls the next."""
    return "; ".join(["call +1; exit"] * (functions - 1) + [END])


def calls(functions: int) -> str:
    """The main program calls `functions` others, one after the other."""
    lines = [f"call +{functions + 1 + number}" for number in range(functions)]
    return "; ".join([*lines, END, *[END] * functions])


def with_maps(count: int) -> ProgramSpec:
    """A program that uses so many maps."""
    maps = {f"m{number}": MapSpec(f"m{number}", "array", 4, 8 + 8 * number, 1) for number in range(count)}
    spec = program("; ".join(["r1 = map[hash] ll"] * count + [END])).replace(maps=maps)
    insns = list(spec.instructions)
    for number, name in enumerate(maps):
        insns[number] = insns[number].replace(ref=MapRef(name))
    return spec.replace(instructions=tuple(insns))


# name -> (rule, "" for accepted, program)
STRUCTURE = {
    "code that nothing reaches": ("unreachable-code", program(f"goto +1; r1 = 1; {END}")),
    "code behind the end": ("unreachable-code", program(f"{END}; {END}")),
    "a jump beyond the end": ("jump-out-of-range", program(f"goto +9; {END}")),
    "a jump before the start": ("jump-out-of-range", program(f"r0 = 0; goto -3; {END}")),
    "a branch beyond the end": ("jump-out-of-range", program(f"if r1 == 0 goto +9; {END}")),
    "a jump into a wide load": ("unreachable-code", program(f"goto +1; r1 = 1 ll; {END}")),
    "a branch into a wide load": ("jump-out-of-range", program(f"if r1 == 0 goto +1; r1 = 1 ll; {END}")),
    "a jump into another function": ("jump-out-of-range", program(f"call +2; goto +2; exit; {END}")),
    "no end": ("fall-through", program("r0 = 0")),
    "an end in the first function only": ("fall-through", program(f"call +2; {END}; r0 = 0")),
    "falling into the next function": ("fall-through", program(f"call +1; r0 = 0; {END}")),
    "a call beyond the end": ("invalid-call", program(f"call +9; {END}")),
    "a call before the start": ("invalid-call", program(f"call -3; {END}")),
    "a call of itself": ("call-depth", program(f"call -1; {END}")),
    "a loop that stands still": ("infinite-loop", program("goto -1")),
    "an unknown opcode": ("unknown-opcode", raw("8f00000000000000 9500000000000000")),
    "an unknown mode of a load": ("reserved-field", raw("e100000000000000 9500000000000000")),
    "an unknown atomic": ("unknown-opcode", raw("db1a f8ff 99000000 b700000000000000 9500000000000000")),
    "a reserved offset in a move": ("reserved-field", raw("b700 0500 00000000 9500000000000000")),
    "a reserved source in a move": ("reserved-field", raw("b710 0000 00000000 9500000000000000")),
    "a reserved immediate in a move": ("reserved-field", raw("bf10 0000 05000000 9500000000000000")),
    "a reserved immediate in a load": ("reserved-field", raw("6110 0000 05000000 b700000000000000 9500000000000000")),
    "a reserved source in a store": ("reserved-field", raw("7a1a f8ff 05000000 b700000000000000 9500000000000000")),
    "a reserved immediate in a jump": ("reserved-field", raw("1d11 0000 05000000 b700000000000000 9500000000000000")),
    "a reserved immediate in a goto": ("reserved-field", raw("0500 0000 05000000 b700000000000000 9500000000000000")),
    "a reserved immediate in an exit": ("reserved-field", raw("b700000000000000 9500 0000 01000000")),
    "a reserved offset in a call": ("reserved-field", raw("8500 0100 05000000 b700000000000000 9500000000000000")),
    "a reserved destination in a call": ("reserved-field", raw("8501 0000 05000000 b700000000000000 9500000000000000")),
    "a register beyond the last": ("invalid-register", raw("b70b 0000 00000000 b700000000000000 9500000000000000")),
    "a source beyond the last": ("invalid-register", raw("bfb0 0000 00000000 9500000000000000")),
    "a frame pointer written": ("frame-pointer-write", program(f"r10 = 1; {END}")),
    "division by the constant 0": ("invalid-immediate", program(f"r1 = 1; r1 /= 0; {END}")),
    "a shift by the width": ("invalid-immediate", program(f"r1 = 1; r1 <<= 64; {END}")),
    "a shift by the narrow width": ("invalid-immediate", program(f"w1 = 1; w1 <<= 32; {END}")),
    "half a wide load": ("fall-through", raw("b700000000000000 9500000000000000 1801000001000000")),
    "a wide load of an unknown kind": ("invalid-wide-load", raw("1871000001000000 0000000000000000 b700000000000000 9500000000000000")),
    "a wide load with an odd second half": ("invalid-wide-load", raw("1801000001000000 0500000000000000 b700000000000000 9500000000000000")),
    "no such map": ("invalid-map", raw("1811000099990000 0000000000000000 b700000000000000 9500000000000000")),
    "a register before its first write": ("uninitialised-register", program("r0 = r3; exit")),
    "no result": ("uninitialised-register", program("exit")),
    "an unknown helper": ("unknown-helper", program(f"call 9999; {END}")),
    "a helper of other programs": ("helper-not-allowed", program(f"call 64; {END}")),
}  # fmt: skip
LIMITS = {
    "functions up to the limit": ("", program(calls(255))),
    "one function too many": ("too-many-functions", program(calls(256))),
    "frames up to the limit": ("", program(chain(8))),
    "one frame too many": ("call-depth", program(chain(9))),
    "maps up to the limit": ("", with_maps(64)),
    "one map too many": ("too-many-maps", with_maps(65)),
    "the whole stack": ("", program(f"*(u64 *)(r10 - 512) = 0; {END}")),
    "beyond the stack": ("stack-out-of-bounds", program(f"*(u64 *)(r10 - 520) = 0; {END}")),
    "a stack over two functions": ("", program(f"*(u64 *)(r10 - 256) = 0; call +1; exit; *(u64 *)(r10 - 256) = 0; {END}")),
    "too large a stack over two functions": (
        "stack-depth",
        program(f"*(u64 *)(r10 - 264) = 0; call +1; exit; *(u64 *)(r10 - 256) = 0; {END}"),
    ),
    "an offset up to the limit": ("", program(f"r1 = r10; r1 += {limits.MAX_VARIABLE_OFFSET - 1}; {END}")),
    "an offset beyond the limit": ("value-out-of-range", program(f"r1 = r10; r1 += {limits.MAX_VARIABLE_OFFSET}; {END}")),
    "a packet offset beyond its limit": (
        "unbounded-packet-access",
        program(f"r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); r2 += 65536; r4 = r2; r4 += 8; if r4 > r3 goto +1; r0 = *(u8 *)(r2 + 0); {END}"),
    ),
    "a counted loop": ("", program(f"r1 = 0; r1 += 1; if r1 < 1000 goto -2; {END}")),
    "branches that are pending": ("", program("; ".join(["r0 = *(u32 *)(r1 + 12)", *["if r0 == 1 goto +0"] * 100, END]))),
}  # fmt: skip


def group(asm: str) -> ProgramSpec:
    """A program of a control group, which may return 0 or 1."""
    return program(asm, "cgroup_skb").replace(attach_type="cgroup_inet_ingress")


RESULTS = {
    "a result in range": ("", group("r0 = 1; exit")),
    "a result out of range": ("return-value", group("r0 = 2; exit")),
    "a result that is right in its lower half only": ("return-value", group("r0 = 0x100000001 ll; exit")),
    "a result of one bit": ("", group("call 5; w0 &= 1; exit")),
    "a result of any bits": ("return-value", group("call 5; exit")),
    "a result of 32 unknown bits": ("return-value", group("call 5; w0 = w0; exit")),
    "a pointer as result": ("return-value", group("r0 = r1; exit")),
    "any result where the type has none": ("", program("call 5; exit")),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", [*STRUCTURE, *LIMITS, *RESULTS])
def test_limits_and_structure(name: str, oracle: KernelOracle) -> None:
    rule, spec = {**STRUCTURE, **LIMITS, **RESULTS}[name]
    assert_agrees(spec, "reject" if rule else "accept", oracle)
    assert verify_program(spec).rule == rule
    assert not rule or rule in RULES


def test_a_program_has_an_instruction_and_no_more_than_a_million() -> None:
    one = program(END).instructions
    assert verify_program(program(END).replace(instructions=())).rule == "empty-program"
    report = verify_program(program(END).replace(instructions=one[:1] * (limits.MAX_INSNS + 1)))
    assert report.rule == "too-large"


def test_a_walk_ends_at_the_million_or_at_the_budget() -> None:
    spec = program(f"r2 = *(u32 *)(r1 + 12); r3 = 0; r3 += 1; if r3 < r2 goto -2; {END}")
    report = verify_program(spec, max_insns=5_000)
    assert report.rule == "too-complex" and report.insns_processed == 5_001
