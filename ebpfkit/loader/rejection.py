"""The kernel verifier's refusal as the same `VerifierError` that ours gives: at the author's line.

Reading the log is `diag.kernel_log`'s; here its slot is joined with the spans that ride on the instructions.
"""

from __future__ import annotations

import errno

from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import VerifierError
from ebpfkit.span import Span

__all__ = ["kernel_rejection", "span_of_slot"]

# What the verifier itself answers; other errnos with a log are failures around it (memory, signals, the JIT).
_VERDICTS = frozenset({errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EPERM, errno.ENOENT, errno.EFAULT, errno.ENOSPC})
_ENOUGH = 1 << 20


def span_of_slot(spec: ProgramSpec, slot: int) -> Span | None:
    """The author's place of the instruction at or before the slot."""
    at, span = 0, None
    for insn in spec.instructions:
        if at > slot:
            break
        span = insn.span or span
        at += insn.slots
    return span


def kernel_rejection(spec: ProgramSpec, log: str, number: int) -> VerifierError | None:
    """The VerifierError of a log that ends in a refusal; None when the log holds none and the errno is no verdict."""
    from ebpfkit.diag.kernel_log import parse_kernel_log  # only failures pay for it

    # The complaint, the last state and the counts stand at the end; the spans are ours.
    end = log if len(log) <= _ENOUGH else log[log.index("\n", -_ENOUGH) + 1 :]
    read = parse_kernel_log(end)
    if not read.message and number not in _VERDICTS:
        return None
    if not read.message:
        read = parse_kernel_log(end, rejected=True)
    span = span_of_slot(spec, read.insn) if read.insn is not None else None
    return VerifierError(
        read.message or f"the kernel refuses it with errno {number} and no message",
        rule=read.rule,
        insn=read.insn,
        span=span or read.span,
        log=log,
        origin="kernel",
        program=spec.name,
    )
