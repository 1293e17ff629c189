"""Values of data directives: numbers, strings in quotes, sums and differences of symbols.

Which directive puts them where is `sections`'s; what a symbol stands for is known only when all text is read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ebpfkit.asm.scanner import Scanner

__all__ = ["Expression", "read_expressions", "read_number", "read_strings", "uleb128"]

_TERM = re.compile(r"\s*([+-]?)\s*(?:(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})(?![\w.])|([A-Za-z_.$][\w.$]*))\s*", re.ASCII)
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.ASCII | re.DOTALL)
_ESCAPED = {"n": 10, "t": 9, "r": 13, "b": 8, "f": 12, "v": 11, "a": 7, '"': 34, "\\": 92, "'": 39}
_MAX_TERMS = 16


class Expression(NamedTuple):
    """A constant plus symbols, each added (1) or taken away (-1)."""

    constant: int
    terms: tuple[tuple[int, str], ...] = ()


def read_expressions(line: Scanner, text: str, at: int) -> list[Expression]:
    """The values behind a directive, separated by commas. Raises AsmError at column `at` for anything else."""
    return [_read_expression(line, part, at) for part in text.split(",")]


def _read_expression(line: Scanner, text: str, at: int) -> Expression:
    terms: list[tuple[int, str]] = []
    constant = position = 0
    while position < len(text) or not position:
        found = _TERM.match(text, position)
        if not found or (position and not found[1]) or len(terms) >= _MAX_TERMS:
            raise line.error(f"{text.strip()!r} is no number and no sum of symbols", at=at)
        sign = -1 if found[1] == "-" else 1
        if found[2]:
            constant += sign * int(found[2], 16 if found[2][:2].lower() == "0x" else 10)
        else:
            terms.append((sign, found[3]))
        position = found.end()
    return Expression(constant, tuple(terms))


def read_number(line: Scanner, text: str, at: int, what: str) -> int:
    """A plain number that is not negative. Raises AsmError at column `at`."""
    found = re.fullmatch(r"\s*(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})\s*", text, re.ASCII)
    if not found:
        raise line.error(f"expected {what}, a number, found {text.strip()!r}", at=at)
    return int(found[1], 16 if found[1][:2].lower() == "0x" else 10)


def read_strings(line: Scanner, text: str, terminator: bytes, at: int) -> bytes:
    """The bytes of strings in quotes, separated by commas, each with `terminator` behind it."""
    out, position = bytearray(), 0
    while True:
        start = re.compile(r"\s*\"").match(text, position)
        if not start:
            raise line.error(f"expected a string in quotes, found {text[position:].strip()!r}", at=at)
        position = start.end()
        while not text.startswith('"', position):
            if position >= len(text):
                raise line.error("the string has no closing quote", at=at)
            position = _read_character(line, text, position, out, at)
        out += terminator
        rest = text[position + 1 :].strip()
        if not rest:
            return bytes(out)
        if not rest.startswith(","):
            raise line.error(f"expected a comma or the end of the line, found {rest!r}", at=at)
        position = text.index(",", position + 1) + 1


def _read_character(line: Scanner, text: str, position: int, out: bytearray, at: int) -> int:
    """Put the character at a position of a string into `out`; the position behind it."""
    if text[position] != "\\":
        out += text[position].encode("utf-8", "surrogateescape")
        return position + 1
    found = _ESCAPE.match(text, position)
    if not found or (found[3] and found[3] not in _ESCAPED):
        raise line.error(f"{text[position : position + 2]!r} is no escape in a string", at=at)
    if found[1]:
        out.append(int(found[1], 8) & 0xFF)
    elif found[2]:
        out.append(int(found[2], 16))
    else:
        out.append(_ESCAPED[found[3]])
    return found.end()


def uleb128(value: int, *, signed: bool = False) -> bytes:
    """A number in the variable-length form of DWARF."""
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        if (value == 0 and not (signed and low & 0x40)) or (signed and value == -1 and low & 0x40):
            return bytes([*out, low])
        out.append(low | 0x80)
