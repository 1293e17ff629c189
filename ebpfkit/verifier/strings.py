"""Strings that the kernel reads while it verifies: constants in frozen maps, and formats for printing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ebpfkit._bits import to_signed
from ebpfkit.verifier import check
from ebpfkit.verifier.domain.pointer import MAP_VALUE
from ebpfkit.verifier.rejection import Rejection, Unmodelled

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["check_format", "prove_constant_string"]

_BEHIND = r"(?=$|[\s!-/:-@\[-`{-~])"  # a string or pointer ends at white space, punctuation or the end
_SPECIFIER = re.compile(
    r"%(?:%|(?P<counts>[0+\- ]*(?:[1-9][0-9]*)?"
    rf"(?:p(?:[ku]s{_BEHIND}|[KxsSB]|[iI][46]|{_BEHIND})|s{_BEHIND}|c|l{{0,2}}[iduxX])))"
)


def prove_constant_string(w: Walk, index: int, register: int, otherwise: str) -> bytes:
    """The string that the register points to: in a map whose contents cannot change. `otherwise`: for anything else."""
    p = w.vals[register]

    def refuse(message: str) -> Rejection:
        return Rejection("helper-argument", message, index=index, register=register)

    if p is None or p.kind != MAP_VALUE or p.nullable:
        raise refuse(otherwise)
    spec = p.target.spec
    if not spec.frozen:
        raise refuse(f"R{register} does not point to a readonly map'")
    if p.var.const is None:
        raise refuse(f"R{register} is not a constant address'")
    if spec.type != "array" or spec.max_entries != 1:
        raise refuse("no direct value access support for this map type")
    check.check_region(index, register, p, 0, spec.value_size - p.off, spec.value_size, "map value")
    data = spec.data if spec.data is not None else spec.contents[0][1] if spec.contents else b""
    text = data.ljust(spec.value_size, b"\0")[p.off + to_signed(p.var.const, 64) :]
    end = text.find(b"\0")
    if end < 0:
        raise refuse("string is not zero-terminated")
    return text[:end]


def check_format(w: Walk, index: int, text: bytes, arguments: int) -> None:
    """The format of bpf_snprintf is one that the kernel prints, with no more places than arguments."""
    refusal = Rejection("helper-argument", "Invalid format string", index=index, register=3)
    if any(not (32 <= byte < 127 or 9 <= byte <= 13 or byte > 127) for byte in text):
        raise refusal
    plain = text.decode("latin-1")
    places = 0
    at = plain.find("%")
    while at >= 0:
        found = _SPECIFIER.match(plain, at)
        if found is None:
            if not text.isascii():
                raise Unmodelled("letters beyond ASCII behind a place of a format", index=index)
            raise refusal
        places += found["counts"] is not None
        if places > arguments:
            raise refusal
        at = plain.find("%", found.end())
