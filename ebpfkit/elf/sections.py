"""SEC() names: which program type and attach point a section's name stands for, as strictly as libbpf 1.x.

On request also the older spellings that objects still carry: text behind a legal name ("xdp_filter"), and "ID/KEY" of
iproute2. The names themselves are rows in `abi.sections`.
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from ebpfkit.abi.model import SectionSpec
from ebpfkit.abi.sections import SECTIONS
from ebpfkit.errors import ObjectError

__all__ = ["SectionName", "parse_section_name", "parse_tail_call"]

# iproute2: the program goes into slot KEY of the program array with id ID.
_TAIL_CALL = re.compile(r"(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})/(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})", re.ASCII)


class SectionName(NamedTuple):
    """A parsed name: `name` without the leading "?" of a program that is not loaded by default."""

    name: str
    spec: SectionSpec
    target: str | None
    autoload: bool


def parse_section_name(
    text: str, *, suggest: bool = True, legacy: bool = False, prog_type: str | None = None
) -> SectionName:
    """What a program section's name says; raises ObjectError that names the nearest legal spelling (with `suggest`).

    `legacy` accepts more text behind a legal name, as libbpf did before 1.0. `prog_type` is what a name means that says
    nothing.
    """
    autoload = not text.startswith("?")
    name = text if autoload else text[1:]
    exact = SECTIONS.get(name)
    if exact is not None:
        return SectionName(name, exact, None, autoload)
    end = name.rfind("/")
    while end > 0:
        spec = SECTIONS.get(name[:end])
        if spec is not None and spec.extra and name[end + 1 :]:
            return SectionName(name, spec, name[end + 1 :], autoload)
        end = name.rfind("/", 0, end)
    if legacy and parse_tail_call(name) is None:
        known = [known for known in SECTIONS if name.startswith(known)]
        if known:
            return SectionName(name, SECTIONS[max(known, key=len)], None, autoload)
    if prog_type is not None:
        return SectionName(name, SectionSpec(name, prog_type, _usual_attach_type(prog_type)), None, autoload)
    if legacy and parse_tail_call(name) is not None:
        raise ObjectError(f'"{text}" is a place in a program array and says no program type; give prog_type')
    hint = f'; write SEC("{nearest_name(name)}")' if suggest else ""
    raise ObjectError(f'"{text}" is no section name of a program{hint}')


def _usual_attach_type(prog_type: str) -> str | None:
    """The attach type of a program that only says its type: none, where a section name has none."""
    rows = [row for row in SECTIONS.values() if row.prog_type == prog_type]
    optional = [row.attach_type for row in rows if row.attach_type_optional]
    return optional[0] if optional and all(row.attach_type for row in rows) else None


def parse_tail_call(name: str) -> tuple[int, int] | None:
    """The id of a program array and the slot in it that iproute2's section name "ID/KEY" stands for, or None."""
    match = _TAIL_CALL.fullmatch(name)
    return (
        (
            int(match[1], 0) if match[1].startswith("0x") else int(match[1]),
            int(match[2], 0) if match[2].startswith("0x") else int(match[2]),
        )
        if match
        else None
    )


def nearest_name(name: str) -> str:
    """The legal section name that looks most like `name`."""
    short = name[:64].lower()
    known = list(SECTIONS)
    close = difflib.get_close_matches(short, known, n=1, cutoff=0.8)
    if close:
        return close[0]
    # "xdp_filter", "xdp/drop": old habits put free text behind a legal name.
    prefixes = [legal for legal in known if short.startswith(legal) and not SECTIONS[legal].extra]
    return max(prefixes, key=len) if prefixes else difflib.get_close_matches(short, known, n=1, cutoff=0.0)[0]
