"""How a rejection came about: the failing path walked once more with everything noted, and what of it matters.

Runs only after a rejection; the walk itself records no more than it needs to prove things.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebpfkit.asm.isa import Kind
from ebpfkit.verifier.rejection import Rejection, Unmodelled

if TYPE_CHECKING:
    from ebpfkit.diag.explain import PathStep
    from ebpfkit.verifier.explore import Walk
    from ebpfkit.verifier.program import Code

__all__ = ["Seen", "causes_of", "path_to"]

_LONGEST = 50_000  # instructions of a path that is walked again
_SHOWN = 8
_TEXTS = (Kind.ALU, Kind.MOV, Kind.MOVSX, Kind.SWAP, Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE, Kind.WIDE)


@dataclass(frozen=True, slots=True)
class Seen:
    """One instruction walked again: the number of frames and the current frame's registers before and after."""

    index: int
    depth: int
    before: list[Any]
    depth_after: int
    after: list[Any]


def path_to(walk: Walk, index: int) -> list[int] | None:
    """The instructions from the start of the function to the one at which the walk stopped; None if too many."""
    state = walk.state
    history, first, at, parent = state.history, state.first, index, state.parent
    path = [at]
    while len(path) < _LONGEST:
        if at == first and (history is None or (history.count == 1 and history.index == at)):
            if parent is None or parent.last < 0:
                return path[::-1]
            history, first, at, parent = parent.history, parent.first, parent.last, parent.parent
        elif history is not None and history.index == at:
            at, history = history.previous, history.before
        else:
            at -= 1
        if at < 0:
            return None
        path.append(at)
    return None


def causes_of(walk: Walk, outcome: Rejection) -> tuple[PathStep, ...]:
    """The steps that made the register what it was when the program was rejected, oldest first."""
    if outcome.index is None:
        return ()
    code = walk.code
    if outcome.rule == "reference-leak" and walk.state.references:
        return (_step(code, walk.state.references[-1][1], "acquired here"),)
    path = path_to(walk, outcome.index)
    if path is None:
        return ()
    if outcome.rule in ("lock", "execution-context") and (opened := _open_section(walk, path)):
        return opened
    if outcome.register is None or not 0 <= outcome.register < 10:
        return ()
    try:
        seen = walk.follow(walk.state.frames[0].function, path)
    except (Rejection, Unmodelled):
        return ()  # a widened loop does not repeat step by step
    return _trace_back(code, seen, outcome.register)


def _open_section(walk: Walk, path: list[int]) -> tuple[PathStep, ...]:
    """The call that took the lock, or began the section, that is still open where the path ends."""
    code, state = walk.code, walk.state
    names = [name for name, is_open in (
        ("spin_lock", state.lock is not None), ("bpf_res_spin_lock", state.lock is not None),
        ("bpf_res_spin_lock_irqsave", state.lock is not None), ("bpf_local_irq_save", bool(state.irqs)),
        ("bpf_rcu_read_lock", state.rcu > 0), ("bpf_preempt_disable", state.preempt > 0),
    ) if is_open]  # fmt: skip
    for index in reversed(path[:-1]):
        callee = code.helper_of(index) or code.kfunc_of(index)
        if callee is not None and callee.name in names:
            return (_step(code, index, "begun here"),)
    return ()


def _step(code: Code, index: int, note: str) -> PathStep:
    from ebpfkit.asm.printer import format_instruction
    from ebpfkit.diag.explain import PathStep

    slot = code.slots[index]
    insn = code.spec.instructions[index]
    text = format_instruction(insn, slot)
    # A kernel function has its number from the kernel, at loading.
    return PathStep(slot, text.removesuffix("#0") if insn.op.name == "CALL_KFUNC" else text, insn.span, note)


def _trace_back(code: Code, seen: list[Seen], register: int) -> tuple[PathStep, ...]:
    if not seen:
        return ()
    wanted = {(seen[-1].depth_after, register)}
    found: list[PathStep] = []
    for entry in reversed(seen):
        insn = code.insns[entry.index]
        if entry.depth_after != entry.depth:
            # Into a function go its arguments, out of it comes R0.
            inner = max(entry.depth, entry.depth_after)
            wanted = {
                (entry.depth, number) if depth == inner or not number else (depth, number) for depth, number in wanted
            }
            continue
        touched = [n for depth, n in wanted if depth == entry.depth and _is_touched(entry, insn, n)]
        if not touched:
            continue
        found.append(_step(code, entry.index, "; ".join(f"R{n} is now {_words(entry.after[n])}" for n in touched)))
        for number in touched:
            if insn.op.kind in (Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO):
                continue
            if insn.op.kind is not Kind.ALU and insn.op.kind is not Kind.SWAP:
                wanted.discard((entry.depth, number))
            if insn.op.source == "reg" and insn.op.kind in (Kind.ALU, Kind.MOV, Kind.MOVSX) and insn.dst == number:
                wanted.add((entry.depth, int(insn.src)))
        if not wanted or len(found) >= _SHOWN:
            break
    return tuple(reversed(found))


def _is_touched(entry: Seen, insn: Any, number: int) -> bool:
    if entry.before[number] is not entry.after[number]:
        return True
    return insn.op.kind in _TEXTS and insn.dst == number


def _words(value: Any) -> str:
    return "not written" if value is None else str(value.describe())
