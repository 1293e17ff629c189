"""The builder writes what the parser reads, and refuses what cannot be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebpfkit.asm.builder import Builder
from ebpfkit.asm.insn import R0, R1, R2, R3, R10
from ebpfkit.asm.parser import parse
from ebpfkit.asm.printer import format_program
from ebpfkit.errors import AsmError

TEXT = """\
r2 = *(u32 *)(r1 +16)
*(u32 *)(r10 -4) = r2
*(u32 *)(r10 -8) = 7
r2 = *(s8 *)(r10 -4)
w2 s>>= 3
r3 = (s16)r2
r3 = be16 r3
r3 = -r3
r1 = map[xsks] ll
r1 = map[.bss][0]+8 ll
r1 = 0xffffffffffffffff ll
r2 = subprog[fn] ll
if r2 > 0x5 goto out
if w2 == w3 goto out
r0 = atomic64_fetch_add((u64 *)(r10 -8), r0)
call bpf_redirect_map#51
call fn
gotol out
out:
exit
fn:
r0 = 0
exit
"""


def test_builder_and_parser_agree() -> None:
    built = (
        Builder()
        .load(4, R2, R1, 16).store(4, R10, -4, R2).store(4, R10, -8, 7).load(1, R2, R10, -4, signed=True)
        .alu("arsh", R2, 3, width=32).sign_extend(R3, R2, 16).swap("to_be", R3, 16).alu("neg", R3)
        .load_map(R1, "xsks").load_map_value(R1, ".bss", 8).load_imm64(R1, -1).load_function(R2, "fn")
        .jump("jgt", R2, 5, "out").jump("jeq", R2, R3, "out", width=32).atomic("fetch_add", 8, R10, -8, R0)
        .call("bpf_redirect_map").call_local("fn").goto("out", long=True)
        .label("out").exit().label("fn").mov(R0, 0).exit()
        .build()
    )  # fmt: skip
    assert built == parse(TEXT)
    assert format_program(built) == TEXT


REFUSED: list[tuple[Callable[[Builder], object], str]] = [
    (lambda b: b.goto("x").build(), "label 'x' is not set"),
    (lambda b: b.label("x").build(), "behind the last instruction"),
    (lambda b: b.label("r1"), "'r1' cannot be a label"),
    (lambda b: b.alu("pow", R1, 2), "no instruction POW64_IMM"),
    (lambda b: b.load(3, R1, R2), "1, 2, 4 or 8 bytes, not 3"),
    (lambda b: b.load(8, R1, R2, signed=True), "no instruction LDXSDW"),
    (lambda b: b.call("bpf_nothing"), "'bpf_nothing' is no helper"),
    (lambda b: b.load_imm64(R1, 1 << 64), "does not fit 64 bits"),
    (lambda b: b.mov(R1, 1 << 40).to_bytes(), "imm = 1099511627776 of MOV64_IMM"),
]


@pytest.mark.parametrize(("use", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refusals(use: Callable[[Builder], object], message: str) -> None:
    with pytest.raises(AsmError, match=message):
        use(Builder())
