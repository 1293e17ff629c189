"""What comparisons of states ask about iterators: whether one still runs, and whether it was advanced in between."""

from __future__ import annotations

from typing import Any

from ebpfkit._bits import to_signed
from ebpfkit.verifier.domain.stack_objects import ACTIVE, StackObject
from ebpfkit.verifier.state import ITER, Frame, State

__all__ = ["depths_differ", "is_active_at", "slot_at"]


def slot_at(off: int) -> int:
    """The slot at a stack offset as the kernel reckons it: division cuts towards zero."""
    return (-off - 1) // 8 if off < 0 else -((off + 1) // 8)


def is_active_at(state: State) -> bool:
    """Whether the iterator that R1 of the current frame points to still has elements."""
    p = state.frames[-1].vals[1]
    number = slot_at(p.off + to_signed(p.var.value, 64))
    slot = state.frames[p.target].slots.get(number)
    made: Any = slot.value if slot is not None else None
    return isinstance(made, StackObject) and made.state == ACTIVE


def depths_differ(old: list[Frame], new: list[Frame]) -> bool:
    """Whether some active iterator was advanced between the two states: then the loop makes progress."""
    for mine, theirs in zip(old, new):
        for number, slot in mine.slots.items():
            made: Any = slot.value
            if slot.types[0] != ITER or not made.first or made.state != ACTIVE:
                continue
            other = theirs.slots.get(number)
            value: Any = other.value if other is not None else None
            if not isinstance(value, StackObject) or value.depth != made.depth:
                return True
    return False
