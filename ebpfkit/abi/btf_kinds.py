"""The kinds of types that came later than BTF itself (Linux 4.18), by the kernel's names, with their first kernel."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["ANY_SECTION_NAME", "BTF_KINDS", "GLOBAL_FUNCTIONS"]

BTF_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "FUNC": "5.0",
        "FUNC_PROTO": "5.0",
        "VAR": "5.2",
        "DATASEC": "5.2",
        "FLOAT": "5.13",
        "DECL_TAG": "5.16",
        "TYPE_TAG": "5.17",
        "ENUM64": "6.0",
    }
)
"""First kernel of each kind; the others are as old as BTF."""

GLOBAL_FUNCTIONS = "5.6"
"""From here on a FUNC may say that it is global."""

ANY_SECTION_NAME = "6.9"
"""From here on a section's name may hold any printable character, such as the question mark of "?.struct_ops"."""
