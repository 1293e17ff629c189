"""Helper calls whose arguments were proved before at the same place: what is left depends on the path alone.

Whether a call is allowed follows from the values of its arguments, except for what lies on the stack and what a proof
relies on. Only calls without effects beyond their result are remembered here; all others go through `calls` each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.abi.model import ArgKind, HelperSpec, RetKind
from ebpfkit.verifier.arguments import CallFacts, Plan
from ebpfkit.verifier.domain.pointer import CTX, MAP_KEY, MAP_PTR, MAP_VALUE, MEM, PACKET, PACKET_META, SCALAR, STACK
from ebpfkit.verifier.transfer.jumps import keeps_identity
from ebpfkit.verifier.transfer.stack import find_constant_key

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["RepeatedCall", "is_repeatable", "remember"]

_A = ArgKind
_KINDS = frozenset(
    {
        _A.ANYTHING, _A.SCALAR, _A.CONST_MAP_PTR, _A.CTX, _A.MAP_KEY, _A.MAP_VALUE, _A.MAP_VALUE_OR_NULL, _A.MEM,
        _A.MEM_OR_NULL, _A.MEM_FIXED, _A.SIZE, _A.SIZE_OR_ZERO,
    }
)  # fmt: skip
_RESULTS = frozenset({RetKind.VOID, RetKind.INTEGER, RetKind.MAP_VALUE, RetKind.MAP_VALUE_OR_NULL})
_VALUES = frozenset({SCALAR, CTX, STACK, PACKET, PACKET_META, MAP_VALUE, MAP_KEY, MEM, MAP_PTR})
_ACQUIRING = ("sockmap", "sockhash")
_NOTHING = [None] * 6
_NO_IDS = [0] * 6


class RepeatedCall:
    """What one call does to the path when it comes again with the same values in its arguments."""

    __slots__ = ("demands", "entries", "fresh", "key", "present", "reads", "result")

    def __init__(self, facts: CallFacts, result: Any, fresh: bool) -> None:
        self.reads = tuple(facts.reads)
        self.demands = tuple(facts.demands)
        self.result = result  # None: the register is not written
        self.fresh = fresh  # the result gets an id of its own
        # Where the key is on the stack: its place; a known key below `entries` always has a value, `present`.
        self.key = facts.stack_key
        self.entries = 0
        self.present: Any = None

    def apply(self, w: Walk, index: int, vals: list[Any], ids: list[int]) -> None:
        """Read the stack, mark what is relied on, and give the result."""
        chain = w.frame.chain
        if chain.writes.get(index, chain) is not None:
            w.stack_liveness.note_write(chain, index, 0, 0)
        for read in self.reads:
            read.again(w, index)
        for register in self.demands:
            w.precision.demand_register(w.state, index, register)
        result, fresh = self.result, self.fresh
        if self.key is not None:
            key = find_constant_key(w, index, *self.key)
            if key is not None and key < self.entries:
                result, fresh = self.present, False
        vals[:6] = _NOTHING
        ids[:6] = _NO_IDS
        if result is not None:
            vals[0] = result
            if fresh:
                ids[0] = w.new_id()


def is_repeatable(w: Walk, spec: HelperSpec, plans: list[Plan]) -> bool:
    """Whether calls of this helper may be remembered at all."""
    return (
        w.profile.privileged
        and not spec.effects
        and spec.ret in _RESULTS
        and all(plan.kind in _KINDS for plan in plans)
    )


def remember(
    w: Walk, spec: HelperSpec, values: tuple[Any, ...], facts: CallFacts, vals: list[Any]
) -> RepeatedCall | None:
    """What to do when these values come again, after the call was proved and its result given; None: prove it again."""
    if facts.blank is not None or any(value.kind not in _VALUES for value in values):
        return None
    if any(value.kind == STACK and value.var.const is None for value in values):
        return None
    target = facts.target
    if target is not None and target.spec.type in _ACQUIRING:
        return None
    result = vals[0]
    if spec.ret in (RetKind.VOID, RetKind.INTEGER):
        return RepeatedCall(facts, result, False)
    if facts.stack_key is None:
        return RepeatedCall(facts, result, result.nullable or keeps_identity(w, result))
    present = w.values.pointer(MAP_VALUE, target)
    if keeps_identity(w, present):
        return None
    nullable = spec.ret is RetKind.MAP_VALUE_OR_NULL
    found = RepeatedCall(facts, w.values.pointer(MAP_VALUE, target, nullable=nullable), nullable)
    if spec.name == "map_lookup_elem":
        assert target is not None
        found.entries, found.present = target.spec.max_entries, present
    return found
