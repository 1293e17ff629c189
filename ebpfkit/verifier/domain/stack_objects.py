"""Objects that the kernel builds in the program's stack and that only its own functions may touch.

One `StackObject` stands in every 8-byte slot that the object takes. Which id and reference it has is in the slot's
identity word; how they come, are used and go is `transfer/stack_objects`'s.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ACTIVE", "DRAINED", "LASTING_SLICE", "PACKET_SLICE", "StackObject"]

ACTIVE, DRAINED = "active", "drained"

PACKET_SLICE = 1 << 48
"""Marks, in the `range` of memory from a dynptr (its id), that the dynptr is over a packet."""

LASTING_SLICE = 1 << 49
"""Marks there a slice that outlives the overwriting of its dynptr (those of kernel functions do on 6.18)."""


class StackObject(NamedTuple):
    """A dynptr ("local", "ringbuf", "skb", "xdp", "skb_meta"), an iterator (its structure's name) or saved IRQ flags.

    `first`: the slot at the lowest address. `state` and `depth` (rounds walked) are an iterator's; `rcu`: it began in
    an RCU section.
    """

    word: str
    first: bool = True
    state: str = ""
    depth: int = 0
    rcu: bool = False

    # What code that looks for values finds here: neither number nor pointer.
    is_scalar = False
    nullable = False
    kind = -1
    const = None

    def covers(self, other: object) -> bool:
        """Whether two states that differ only in these slots may be taken for one."""
        return isinstance(other, StackObject) and self._replace(depth=0) == other._replace(depth=0)
