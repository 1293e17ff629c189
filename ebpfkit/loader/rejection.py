"""The kernel verifier's refusal as the same `VerifierError` that ours gives: at the author's line.

Reading the log is `diag.kernel_log`'s; here its slot is joined with the spans that ride on the instructions.
"""

from __future__ import annotations

import re

from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import VerifierError
from ebpfkit.span import Span

__all__ = ["kernel_rejection", "span_of_slot"]

_STEP = re.compile(r"^(\d+): \([0-9a-f]{2}\)")


def span_of_slot(spec: ProgramSpec, slot: int) -> Span | None:
    """The author's place of the instruction at or before the slot."""
    at, span = 0, None
    for insn in spec.instructions:
        if at > slot:
            break
        span = insn.span or span
        at += insn.slots
    return span


def kernel_rejection(spec: ProgramSpec, log: str, errno: int) -> VerifierError:
    """The VerifierError of a log that ends in a refusal."""
    message, slot = "", None
    for line in log.splitlines():
        if match := _STEP.match(line):
            slot = int(match[1])
        elif line.strip() and not line.startswith(("processed ", ";", "verification time", "stack depth")):
            message = line.strip()
    span = span_of_slot(spec, slot) if slot is not None else None
    return VerifierError(
        message or f"rejected with errno {errno}", insn=slot, span=span, log=log, origin="kernel", program=spec.name
    )
