"""Objects that the kernel builds in the program's stack and that only its own functions may touch.

One `StackObject` stands in every 8-byte slot that the object takes. Which id and reference it has is in the slot's
identity word; how they come, are used and go is `transfer/stack_objects`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

__all__ = ["ACTIVE", "DRAINED", "LASTING_SLICE", "PACKET_SLICE", "StackObject"]

ACTIVE, DRAINED = "active", "drained"

PACKET_SLICE = 1 << 48
"""Marks, in the `range` of memory from a dynptr (its id), that the dynptr is over a packet."""

LASTING_SLICE = 1 << 49
"""Marks there a slice that outlives the overwriting of its dynptr (those of kernel functions do on 6.18)."""


@dataclass(frozen=True, slots=True)
class StackObject:
    """A dynptr ("local", "ringbuf", "skb", "xdp", "skb_meta"), an iterator (its structure's name) or saved IRQ flags.

    `first`: the slot at the lowest address. `state` and `depth` (rounds walked) are an iterator's; `rcu`: 1 when it
    needs an RCU section, 2 when that is over (or never was).
    """

    word: str
    first: bool = True
    state: str = ""
    depth: int = 0
    rcu: int = 0

    # What code that looks for values finds here: neither number nor pointer.
    is_scalar: ClassVar[bool] = False
    nullable: ClassVar[bool] = False
    kind: ClassVar[int] = -1
    const: ClassVar[None] = None

    def changed(self, **parts: Any) -> StackObject:
        """The same with some parts changed."""
        return replace(self, **parts)

    def covers(self, other: object) -> bool:
        """Whether two states that differ only in these slots may be taken for one."""
        return isinstance(other, StackObject) and self.changed(depth=0) == other.changed(depth=0)
