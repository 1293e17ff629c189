"""The kernel's printf for programs: trace_printk, trace_vprintk, snprintf.

Understood: %% %c %d %i %u %x %X %p %px %pK %pB %s %pks %pus with width, zero and left flags, and the lengths l and ll;
addresses %pi4 %pI4 %pi6 %pI6. Anything else is refused with -EINVAL, as there.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from ebpfkit._bits import to_signed
from ebpfkit.vm.memory import AddressSpace

__all__ = ["format_text"]

_SPEC: Final = re.compile(
    rb"%(?:(?P<percent>%)|(?P<flags>[-+ 0#]*)(?P<width>\d*)"
    rb"(?:p(?P<pointer>[xKB]|ks|us|[iI][46])?|(?P<string>s)|(?P<char>c)|(?P<length>ll?|)(?P<number>[diuxX])))"
)
_MAX_WIDTH = 512


def format_text(text: bytes, values: Sequence[int], memory: AddressSpace) -> bytes | int:
    """`text` with `values` in it, strings read from `memory`; a negative errno when it is wrong."""
    out = bytearray()
    place = 0
    waiting = list(values)
    while (percent := text.find(b"%", place)) >= 0:
        out += text[place:percent]
        match = _SPEC.match(text, percent)
        if match is None or len(match["width"] or b"") > 3 or int(match["width"] or 0) > _MAX_WIDTH:
            return -errno.EINVAL
        if match["percent"]:
            out += b"%"
        elif not waiting:
            return -errno.EINVAL
        else:
            out += _pad(_convert(match, waiting.pop(0), memory), match)
        place = match.end()
    return bytes(out + text[place:])


def _pad(item: bytes, match: re.Match[bytes]) -> bytes:
    width, flags = int(match["width"] or 0), match["flags"] or b""
    if b"-" in flags:
        return item.ljust(width)
    if b"0" in flags and (match["number"] or b"") in (b"d", b"i", b"u", b"x", b"X"):
        sign = item[:1] if item[:1] in (b"-", b"+") else b""
        return sign + item[len(sign) :].rjust(width - len(sign), b"0")
    return item.rjust(width)


def _convert(match: re.Match[bytes], value: int, memory: AddressSpace) -> bytes:
    if match["char"]:
        return bytes([value & 0xFF])
    if match["string"]:
        return memory.read_string(value, 4096)
    if match["number"]:
        return _number(match, value)
    pointer = match["pointer"] or b""
    if pointer in (b"ks", b"us"):
        return memory.read_string(value, 4096)
    if pointer[:1] in (b"i", b"I"):
        packed = memory.read(value, 4 if pointer[1:] == b"4" else 16)
        return str(ipaddress.ip_address(packed)).encode()
    return f"{value:016x}".encode()


def _number(match: re.Match[bytes], value: int) -> bytes:
    bits = 64 if match["length"] else 32
    if match["number"] in (b"d", b"i"):
        number = to_signed(value, bits)
        return (b"+" if b"+" in match["flags"] and number >= 0 else b"") + str(number).encode()
    value &= (1 << bits) - 1
    if match["number"] == b"u":
        return str(value).encode()
    digits = f"{value:x}" if match["number"] == b"x" else f"{value:X}"
    return (("0x" if b"#" in match["flags"] and value else "") + digits).encode()
