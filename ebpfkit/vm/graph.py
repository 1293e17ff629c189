"""Objects that a program allocated, and the lists and trees that own them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Graph"]


@dataclass
class Graph:
    """`allocated` has [region, references] by address, `heads` the nodes of each list and tree in order, `owners` the
    head of each node that is in one."""

    allocated: dict[int, list[Any]] = field(default_factory=dict)
    heads: dict[int, list[int]] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)

    def object_of(self, node: int) -> int | None:
        """The address of the object that a node is in."""
        for base, (region, _) in self.allocated.items():
            if 0 <= node - base < len(region.data):
                return base
        return None
