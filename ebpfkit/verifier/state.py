"""The state of one path: frames with registers and stack, held references, and the record of how it came here.

Values are shared and immutable (`domain/`); what is private to a path is here: which value stands where, identities
(`ids`), which stack slots hold what. Copies are cheap: the stack of a frame is shared until one side writes.

An identity word is one integer: the low 32 bits are the id (0: none). Above them, a scalar that is a constant away from
the others of its id has that distance (`link`), and a pointer the reference it carries (`reference_word`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ebpfkit.verifier.domain.values import Value

if TYPE_CHECKING:
    from ebpfkit.verifier.domain.stack_objects import StackObject
    from ebpfkit.verifier.liveness import Chain
    from ebpfkit.verifier.program import Subprogram

__all__ = [
    "DYNPTR", "ID_MASK", "INVALID", "IRQ", "ITER", "LINK32", "LINK64", "MISC", "SPILL", "ZERO",
    "Callback", "Checkpoint", "Frame", "History", "Lock", "Note", "Slot", "State", "link", "link_offset",
    "reference_of", "reference_word",
]  # fmt: skip

# Types of a stack byte.
INVALID, SPILL, MISC, ZERO, DYNPTR, ITER, IRQ = range(7)

ID_MASK = 0xFFFF_FFFF
LINK64, LINK32 = 1 << 32, 1 << 33
_LINKS = LINK32 | LINK64
_OFFSET_SHIFT = 40


def link(word: int, offset: int, width: int) -> int:
    """The identity word of a scalar `offset` away from its fellows (a 32-bit signed number)."""
    return word & ID_MASK | (LINK64 if width == 64 else LINK32) | (offset & 0xFFFF_FFFF) << _OFFSET_SHIFT


def link_offset(word: int) -> int:
    """The distance in the identity word of a linked scalar (0 when there is none)."""
    return ((word >> _OFFSET_SHIFT & 0xFFFF_FFFF) ^ 0x8000_0000) - 0x8000_0000 if word & _LINKS else 0


def reference_word(identity: int, reference: int) -> int:
    """The identity word of a pointer that carries a reference."""
    return identity | reference << 32


def reference_of(word: int) -> int:
    """The reference that a pointer with this identity word carries, 0 for none."""
    return word >> 32


class Slot:
    """Eight bytes of the stack: the type of each byte by address, and the spilled value with its identity word.

    Where the kernel keeps an object of its own, that is the value.
    """

    __slots__ = ("id", "types", "value")

    def __init__(self, types: bytes, value: Value | StackObject | None = None, identity: int = 0) -> None:
        self.types = types
        self.value: Any = value
        self.id = identity

    @property
    def spilled(self) -> Value | None:
        """The value spilled here, if there is one."""
        return self.value if self.types[0] == SPILL else None

    def __repr__(self) -> str:
        return f"Slot({''.join('?rm0dif'[t] for t in self.types)}, {self.value})"


@dataclass(frozen=True, slots=True)
class Callback:
    """How the kernel calls a function of the program: what it may return, and whether later and on its own.

    `entries`: how many asynchronous entries, one from the other, led to an asynchronous one.
    """

    low: int
    high: int
    is_async: bool = False
    entries: int = 0


class Frame:
    """One function call on the path."""

    __slots__ = (
        "callback", "chain", "depth", "function", "ids", "number", "rounds", "shared", "site", "slots", "vals",
    )  # fmt: skip

    def __init__(self, number: int, function: Subprogram, site: int, chain: Chain) -> None:
        self.number = number
        self.function = function
        self.site = site  # logical index of the call in the caller, -1 for a frame that is walked on its own
        self.chain = chain
        self.vals: list[Any] = [None] * 11
        self.ids: list[int] = [0] * 11
        self.slots: dict[int, Slot] = {}
        self.shared = False
        self.depth = 0  # bytes of stack touched so far
        self.callback: Callback | None = None  # how the kernel calls this frame, None for the program itself
        self.rounds = 0  # visits of a callback that this frame asked for and that lead here

    def copy(self) -> Frame:
        twin = Frame.__new__(Frame)
        twin.number = self.number
        twin.function = self.function
        twin.site = self.site
        twin.chain = self.chain
        twin.vals = self.vals[:]
        twin.ids = self.ids[:]
        twin.slots = self.slots
        twin.depth = self.depth
        twin.callback = self.callback
        twin.rounds = self.rounds
        self.shared = twin.shared = True
        return twin

    def drop_slots(self, numbers: list[int]) -> None:
        """Forget slots; how deep the frame reaches stays."""
        if self.shared:
            self.slots = dict(self.slots)
            self.shared = False
        for number in numbers:
            del self.slots[number]

    def set_slot(self, number: int, slot: Slot) -> None:
        """Write a slot; the dictionary is copied first when another state shares it."""
        if self.shared:
            self.slots = dict(self.slots)
            self.shared = False
        self.slots[number] = slot
        if self.depth < 8 * (number + 1):
            self.depth = 8 * (number + 1)


class Lock(NamedTuple):
    """A spin lock that is held: identity and map of the value that it is in (or what stands for no map).

    `kind`: "spin", "res" or "res_irq" (with interrupts off). `outer`: the one taken before (resilient ones nest).
    """

    identity: int
    home: Any
    kind: str = "spin"
    outer: Lock | None = None

    def find(self, identity: int, home: Any, kind: str) -> bool:
        """Whether such a lock is held, this one or one taken before."""
        held: Lock | None = self
        while held is not None:
            if (held.identity, held.kind) == (identity, kind) and held.home is home:
                return True
            held = held.outer
        return False


class History:
    """One entry of the path record: how the walk came to `index`. What the instruction did there, a `Note` tells."""

    __slots__ = ("before", "count", "index", "previous")

    is_note = False

    def __init__(self, before: History | None, index: int, previous: int) -> None:
        self.before = before
        self.count: int = before.count + 1 if before is not None else 1
        self.index = index
        self.previous = previous


class Note(History):
    """An entry that tells what the instruction did.

    `frame` and `slot` are set where a spilled register was stored or filled (slot -1: not). `linked` lists the
    (frame, register or -1 - slot) places that shared an id at a jump. `stack_operands` marks jump operands that point
    to the stack (1: destination, 2: source).
    """

    __slots__ = ("frame", "linked", "slot", "stack_operands")

    is_note = True

    def __init__(self, before: History | None, index: int, previous: int, frame: int = 0, slot: int = -1) -> None:
        self.before = before
        self.count = before.count + 1 if before is not None else 1
        self.index = index
        self.previous = previous
        self.frame = frame
        self.slot = slot
        self.linked: tuple[tuple[int, int], ...] = ()
        self.stack_operands = 0


class State:
    """One path being walked."""

    __slots__ = (
        "depth", "first", "frames", "goto_depth", "history", "irqs", "lock", "parent", "preempt", "previous", "rcu",
        "references", "unrolled",
    )  # fmt: skip

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self.references: tuple[tuple[int, int], ...] = ()  # (reference id, logical index that acquired it)
        self.lock: Lock | None = None  # the spin lock taken last
        self.parent: Checkpoint | None = None
        self.history: History | None = None
        self.first = 0  # first instruction after the parent checkpoint
        self.previous = -1  # instruction before the current one
        self.depth = 0  # checkpoints above
        self.goto_depth = 0  # may_goto branches on the path
        self.rcu = 0  # 1 inside an RCU section
        self.preempt = 0  # sections without preemption entered
        self.irqs: tuple[tuple[int, int], ...] = ()  # (id of the saved flags, logical index), the innermost last
        self.unrolled = 0  # entries into synchronous callbacks on the path

    def copy(self) -> State:
        twin = State.__new__(State)
        frames = self.frames
        twin.frames = [frames[0].copy()] if len(frames) == 1 else [frame.copy() for frame in frames]
        twin.references = self.references
        twin.lock = self.lock
        twin.parent = self.parent
        twin.history = self.history
        twin.first = self.first
        twin.previous = self.previous
        twin.depth = self.depth
        twin.goto_depth = self.goto_depth
        twin.unrolled = self.unrolled
        twin.rcu = self.rcu
        twin.preempt = self.preempt
        twin.irqs = self.irqs
        return twin


_NONE: frozenset[Any] = frozenset()


class Checkpoint:
    """A stored state: where later paths may find that what lies ahead was already proved.

    `branches` counts the paths from here that are not finished. `marks` holds, per frame, the masks of precise
    registers and precise slots. `checks` is the compiled comparison, dropped whenever marks or contents change.
    """

    __slots__ = (
        "branches", "chain", "checks", "depth", "first", "frames", "goto_depth", "history", "hits",
        "index", "irqs", "last", "lock", "marks", "misfits", "misses", "parent", "place", "preempt", "rcu",
        "references", "site", "unrolled",
    )  # fmt: skip

    def __init__(self, state: State, index: int) -> None:
        self.index = index
        frames = state.frames
        self.frames = [frames[0].copy()] if len(frames) == 1 else [frame.copy() for frame in frames]
        self.references = state.references
        self.lock = state.lock
        self.parent = state.parent
        self.history = state.history
        self.first = state.first
        self.last = state.previous
        self.depth = state.depth
        self.goto_depth = state.goto_depth
        self.unrolled = state.unrolled
        self.rcu = state.rcu
        self.preempt = state.preempt
        self.irqs = state.irqs
        self.branches = 1
        self.hits = 0
        self.misses = 0
        self.marks = [[0, 0]] if len(frames) == 1 else [[0, 0] for _ in frames]
        self.checks: Any = None
        # The register of the last frame that lately did not fit, and values that are known not to fit there.
        self.place = 0
        self.misfits: set[Any] | frozenset[Any] = _NONE
        self.site = state.frames[-1].site
        # The innermost call chain tells whether two states went through the same call sites.
        self.chain = state.frames[-1].chain
