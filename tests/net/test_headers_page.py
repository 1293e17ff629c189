"""docs/headers.md lists every header of `ebpfkit.net` with its fields, as the classes have them."""

from __future__ import annotations

import re
from pathlib import Path

from ebpfkit import net
from ebpfkit.compiler.values import type_text
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.typeinfo import BitsType

PAGE = Path(__file__).parents[2] / "docs" / "headers.md"


def rows() -> list[str]:
    """One row for each structure: its size, then its fields with their types."""
    out = []
    for name in sorted(net.__all__):
        found = getattr(net, name)
        if not isinstance(found, type) or not issubclass(found, Struct):
            continue
        info = found.__ebpf_type__
        fields = [
            f"`{field.name}` {field.type.width} bits" if isinstance(field.type, BitsType)
            else f"`{field.name}` {type_text(field.type)}"
            for field in info.fields
        ]  # fmt: skip
        longer = ", then what its length says" if info.header_length is not None else ""
        out.append(f"| `{name}` | {info.size}{longer} | {', '.join(fields)} |")
    return out


def test_every_header_is_on_the_page_as_it_is():
    listed = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `", line)]
    assert listed == rows()
