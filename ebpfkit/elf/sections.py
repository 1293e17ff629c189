"""SEC() names: which program type and attach point a section's name stands for, as strictly as libbpf 1.x.

The names themselves are rows in `abi.sections`.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

from ebpfkit.abi.model import SectionSpec
from ebpfkit.abi.sections import SECTIONS
from ebpfkit.errors import ObjectError

__all__ = ["SectionName", "parse_section_name"]


class SectionName(NamedTuple):
    """A parsed name: `name` without the leading "?" of a program that is not loaded by default."""

    name: str
    spec: SectionSpec
    target: str | None
    autoload: bool


def parse_section_name(text: str, *, suggest: bool = True) -> SectionName:
    """What a program section's name says. Raises ObjectError that names the nearest legal spelling (with `suggest`)."""
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
    hint = f'; write SEC("{nearest_name(name)}")' if suggest else ""
    raise ObjectError(f'"{text}" is no section name of a program{hint}')


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
