"""`with`: blocks that hold a lock or a ring buffer record, and what leaving one early has to do.

Belongs here: taking, and giving back on every way out (the end of the block, `break`, `continue`, `return`, the short
exit). Loops are `loops.py`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from ebpfkit.compiler.base import Frame
from ebpfkit.compiler.calls import Calls
from ebpfkit.compiler.ir import Imm, Operand, Temp
from ebpfkit.compiler.state import Record
from ebpfkit.compiler.values import Space, View, describe
from ebpfkit.dsl.locks import SpinLock
from ebpfkit.dsl.special_maps import RingBuf

__all__ = ["Blocks"]


@dataclass(frozen=True, slots=True)
class Guard:
    """A `with` block that is open: whose, how many loops are around it, and what it holds.

    `record` is the number of a ring buffer record and `slot` where its pointer stands as long as nobody has submitted
    or discarded it; of a lock both are 0 and None. A loop over an iterator of the kernel's has `iterator`.
    """

    frame: Frame
    loops: int
    record: int = 0
    slot: Temp | None = None
    iterator: Operand | None = None


class Blocks(Calls):
    """Execution of `with`."""

    def __init__(self) -> None:
        super().__init__()
        self.guards: list[Guard] = []

    def _do_With(self, node: ast.With) -> None:
        """`with value.lock:` and `with ring.record() as name:`, given back however the block is left."""
        item = node.items[0]
        if len(node.items) != 1:
            raise self.error(node, "unsupported-syntax", "with takes one thing at a time", "write a with inside")
        guard = self._record_block(item) or self._lock_block(item)
        self.guards.append(guard)
        try:
            self.block(node.body)
            if self.state is not None:
                self._give_back(guard)
        finally:
            self.guards.pop()
            self.guarded.pop(guard.record, None)

    def _lock_block(self, item: ast.withitem) -> Guard:
        where = item.context_expr
        lock = self.expr(where)
        if not isinstance(lock, View) or lock.type != SpinLock.__ebpf_type__:
            hint = "with value.lock: or with ring.record() as event:"
            raise self.error(where, "bad-type", f"{describe(lock)} is no lock", hint)
        if item.optional_vars is not None:
            raise self.error(where, "unsupported-syntax", "a lock has no name", "with value.lock:")
        if lock.space is not Space.MAP:
            raise self.error(where, "bad-lock", f"this lock lies in {lock.space.value}", "lock a map value")
        if self.live.lock is not None:
            raise self.error(where, "bad-lock", "a second lock inside of another", "give back the first")
        self.call("spin_lock", "void", lock.pointer)
        self.live.lock = (lock.pointer, self.span(where))
        return Guard(self.frame, len(self.frame.loops))

    def _record_block(self, item: ast.withitem) -> Guard | None:
        """`ring.record()`: reserve, and remember the record where discarding it can take it away again."""
        call = item.context_expr
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "record":
            return None
        ring = self.map_of(self.expr(call.func.value))
        if not isinstance(ring, RingBuf):
            return None
        target = item.optional_vars
        if not isinstance(target, ast.Name):
            raise self.error(call, "unsupported-syntax", "a record wants a name", "with ring.record() as event:")
        with self.at(call):
            args, kwargs = self.evaluate(call)
            held = self.ring_reserve(ring, "record", args, kwargs, call)
            slot = self.builder.slot("ptr", "$record")
            self.builder.store(held.view.pointer, slot, 8)
        self.guarded[held.view.owner] = slot
        self.bind(target.id, held, target)
        return Guard(self.frame, len(self.frame.loops), held.view.owner, slot)

    # Leaving

    def _give_back(self, guard: Guard) -> None:
        """Free the lock, or submit the record, that a block holds."""
        if guard.iterator is not None:
            self.end_iterator(guard.iterator)
            return
        if guard.slot is None:
            self.unlock()
            return
        status, span = self.live.records[guard.record]
        self._finish_guarded(guard.slot, "ringbuf_submit")
        if status is not Record.ABSENT:
            self.live.records[guard.record] = (Record.CLOSED, span)

    def _finish_guarded(self, slot: Temp, helper: str) -> None:
        """Hand a record that nobody has finished to a helper."""
        held, onward = self.builder.label("held"), self.builder.label("finished")
        pointer = self.builder.load("ptr", slot, 8)
        self.builder.condbr(self.builder.compare("ne", pointer, self.null()), held, onward)
        self.builder.start(held)
        self.call(helper, "void", pointer, Imm(0, "i64"))
        self.builder.store(self.null(), slot, 8)
        self.builder.br(onward)
        self.builder.start(onward)

    def unlock(self) -> None:
        """Give back the lock that is held here, if any."""
        if self.live.lock is not None:
            self.call("spin_unlock", "void", self.live.lock[0])
            self.live.lock = None

    def leave_for_loop(self) -> None:
        """Give back what blocks hold that `break` or `continue` leaves."""
        for guard in reversed(self.guards):
            if guard.frame is self.frame and len(self.frame.loops) <= guard.loops:
                self._give_back(guard)

    def leave_function(self) -> None:
        """Give back what blocks of this function hold, where it returns."""
        for guard in reversed(self.guards):
            if guard.frame is self.frame:
                self._give_back(guard)

    def discard_guarded(self) -> None:
        """On the way to the short exit: discard the records that blocks hold."""
        for guard in reversed(self.guards):
            if guard.slot is not None:
                self._finish_guarded(guard.slot, "ringbuf_discard")
            elif guard.iterator is not None:
                self.end_iterator(guard.iterator)

    def end_iterator(self, place: Operand) -> None:
        raise NotImplementedError

    # What `statements` gives

    def block(self, statements: list[ast.stmt]) -> None:
        raise NotImplementedError
