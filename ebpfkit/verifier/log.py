"""The walk in the kernel's own log format, level 2, so that both logs can be laid side by side.

Every instruction with the registers and stack slots that it touched, states where paths are taken up, and where a path
ends at a stored state. What the kernel says about following precision, liveness and its counters of states is left out.
The wording of the lines is in `diag.messages`; the walk is `explore`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ebpfkit._bits import U32_MAX, U64_MAX, to_signed
from ebpfkit.asm.codec import encode
from ebpfkit.asm.isa import Kind
from ebpfkit.asm.printer import format_instruction
from ebpfkit.diag.messages import LOG_LINES
from ebpfkit.verifier.domain.pointer import MAP_KEY, MAP_PTR, MAP_VALUE, MEM, PACKET, PACKET_META, STACK, Pointer
from ebpfkit.verifier.domain.scalar import Scalar
from ebpfkit.verifier.explore import Step, Walk
from ebpfkit.verifier.liveness import uses_and_defines
from ebpfkit.verifier.program import Subprogram
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.state import DYNPTR, ID_MASK, INVALID, SPILL, Frame, Slot, State, link_offset

__all__ = ["format_value", "logging"]

_TYPES = "?rm0dif"
_DECIMAL = 1 << 15  # numbers beyond are printed in hexadecimal
_U_DECIMAL = 1 << 16
_LOADS = (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE)
_STORES = (Kind.STORE, Kind.STORE_RELEASE, Kind.ATOMIC)
_RANGES = (
    ("smin", -(1 << 63)), ("smax", (1 << 63) - 1), ("umin", 0), ("umax", U64_MAX),
    ("smin32", 1 << 31), ("smax32", (1 << 31) - 1), ("umin32", 0), ("umax32", (1 << 32) - 1),
)  # fmt: skip


def _signed(number: int) -> str:
    return str(number) if -_DECIMAL <= number < _DECIMAL else f"{number & U64_MAX:#x}"


def _unsigned(number: int) -> str:
    return str(number) if number < _U_DECIMAL else f"{number:#x}"


def _ranges(s: Scalar) -> list[str]:
    """The bounds that say something; equal ones are printed together, minima with minima and maxima with maxima."""
    low, high = (n if -_DECIMAL <= n < _DECIMAL else n & U32_MAX for n in (s.s32_min, s.s32_max))
    values = (s.smin, s.smax, s.umin, s.umax, low, high, s.u32_min, s.u32_max)
    left = {name: value for (name, default), value in zip(_RANGES, values) if value != default}
    found = []
    for position, (name, _) in enumerate(_RANGES):
        if name not in left:
            continue
        value = left.pop(name)
        names = [name]
        for other, _ in _RANGES[position + 2 :: 2]:
            if left.get(other) == value:
                names.append(other)
                del left[other]
        found.append(f"{'='.join(names)}={_signed(value) if name[0] == 's' else _unsigned(value)}")
    return found


def _bits(s: Scalar) -> list[str]:
    return [f"var_off=({s.value:#x}; {s.mask:#x})"] if s.mask != U64_MAX else []


def format_value(value: Any, identity: int, frame: int) -> str:
    """A value as the kernel prints it in the frame with that number: `scalar(id=1,smin=0,...)`, `pkt(off=14,r=14)`."""
    if value.is_scalar:
        if value.const is not None:
            return _signed(to_signed(value.const, 64))
        word = identity & ID_MASK
        link = f"{link_offset(identity):+d}" if link_offset(identity) else ""
        parts = [f"id={word}{link}"] if word else []
        return f"scalar({','.join(parts + _ranges(value) + _bits(value))})"
    return _format_pointer(value, identity, frame)


def _format_pointer(p: Pointer, identity: int, frame: int) -> str:
    name = p.type_name()
    if p.kind == STACK:
        name += f"[{p.target}]" if p.target != frame else ""
        if p.var.const is not None:
            return f"{name}{_signed(p.off + to_signed(p.var.const, 64))}"
    parts = [f"id={identity & ID_MASK}"] if identity & ID_MASK else []
    parts += [f"ref_obj_id={identity >> 32}"] if identity >> 32 else []
    if p.kind in (MAP_PTR, MAP_VALUE, MAP_KEY):
        spec = p.target.spec
        parts += [f"map={spec.name[:15]}", f"ks={spec.key_size}", f"vs={spec.value_size}"]
    parts += [f"off={_signed(p.off)}"] if p.off else []
    parts += [f"r={_unsigned(p.range & U64_MAX)}"] if p.kind in (PACKET, PACKET_META) else []
    parts += [f"sz={_unsigned(p.target)}"] if p.kind == MEM else []
    if p.var.const is None:
        parts += _ranges(p.var) + _bits(p.var)
    elif p.var.const:
        parts.append(f"imm={_signed(to_signed(p.var.const, 64))}")
    return f"{name}({','.join(parts)})"


def _format_slot(slot: Slot, frame: int) -> str:
    types = slot.types[::-1]  # printed from the highest address down
    if slot.types[0] == SPILL and slot.value is not None:
        above = "".join(_TYPES[kind] for kind in types[: types.index(SPILL)])
        return above + format_value(slot.value, slot.id, frame)
    return "".join(_TYPES[kind] for kind in types)


def _format_state(state: State, frame: Frame, registers: int, slots: set[int] | None) -> str:
    """Those registers (a mask) and slots (None: all) of a frame."""
    parts = [
        f"R{number}={format_value(value, frame.ids[number], frame.number)}"
        for number, value in enumerate(frame.vals)
        if value is not None and registers >> number & 1
    ]
    for number, slot in sorted(frame.slots.items()):
        kinds = slot.types
        if (slots is None or number in slots) and kinds[0] < DYNPTR and any(kind != INVALID for kind in kinds):
            parts.append(f"fp-{8 * (number + 1)}={_format_slot(slot, frame.number)}")
    if state.references:
        parts.append(f"refs={','.join(str(held[0]) for held in state.references)}")
    if frame.number and parts:
        parts.insert(0, f"frame{frame.number}:")
    return " ".join(parts)


def _whole(state: State, frame: Frame) -> str:
    return _format_state(state, frame, 0x7FF, None)


def _padding(text: str) -> int:
    """Blanks between an instruction and its state: to column 40, then to the next multiple of 8."""
    return max((len(text) + 12) // 8 * 8, 40) - len(text) - 2


def logging(write: Callable[[str], None]) -> type[Walk]:
    """The walk that writes the kernel's log, line by line."""

    class Logged(Walk):
        _last: State | None = None
        _entered = False  # a function of the program was just called
        _waiting: tuple[str, str] | None = None  # an instruction, and the state that is told when the next one begins

        def _run_function(self, function: Subprogram) -> None:
            if function.number:
                write(LOG_LINES["validating"].format(name=function.name, number=function.number))
            visit = self.checkpoints.visit

            def visit_and_tell(state: State, frame: Frame, index: int, flag: int, processed: int) -> bool:
                ended = visit(state, frame, index, flag, processed)
                if ended:
                    self._tell(with_state=state is not self._last)
                    safe = LOG_LINES["safe" if state is self._last else "from-safe"]
                    write(safe.format(previous=self._slot(state.previous), slot=self._slot(index)))
                return ended

            self.checkpoints.visit = visit_and_tell  # type: ignore[method-assign]
            try:
                super()._run_function(function)
            finally:
                self._tell(with_state=False)
                self.checkpoints.visit = visit  # type: ignore[method-assign]
            if function.number:
                write(LOG_LINES["function-safe"].format(name=function.name, number=function.number))

        def _slot(self, index: int) -> int:
            return self.code.slot_of(index) if index >= 0 else -1

        def _build(self, index: int) -> Step:
            step = super()._build(index)
            insn, slot = self.code.insns[index], self.code.slot_of(index)
            code = encode([self.code.spec.instructions[index].replace(ref=None, labels=())])[0]
            text = LOG_LINES["insn"].format(slot=slot, code=code, text=format_instruction(insn, slot))
            kind = insn.op.kind
            address = insn.src if kind in _LOADS else insn.dst if kind in _STORES else None
            used, defined = uses_and_defines(self.code, index)
            touched = used | defined

            def logged(vals: list[Any], ids: list[int]) -> int:
                state, frame = self.state, self.frame
                self._tell()
                if state is not self._last:
                    if state.previous >= 0:
                        whole = _whole(state, frame)
                        write(LOG_LINES["from"].format(previous=self._slot(state.previous), slot=slot, state=whole))
                    write(LOG_LINES["state"].format(slot=slot, state=_whole(state, frame)))
                    self._last = state
                elif self._entered:
                    write(LOG_LINES["state"].format(slot=slot, state=_whole(state, frame)))
                self._entered = False
                before, depth = dict(frame.slots), len(state.frames)
                pointer = vals[address] if address is not None else None
                try:
                    following = step(vals, ids)
                except (Rejection, Unmodelled):
                    write(text)
                    raise
                if len(state.frames) != depth:
                    self._tell_switch(text, state, frame, depth)
                    return following
                # What comparisons teach of copies on the stack, and what helpers write there, is not told.
                slots = {} if insn.op.kind in (Kind.JUMP, Kind.CALL) else frame.slots
                changed = {number for number, now in slots.items() if before.get(number) is not now}
                if pointer is not None and pointer.kind == STACK and pointer.target == frame.number:
                    at = pointer.off + insn.off + to_signed(pointer.var.value, 64)
                    changed.add((-at - 1) // 8)
                known = _format_state(state, frame, touched, changed)
                shown = touched and following != -1
                self._waiting = text, f"{' ' * _padding(text)}; {known}".rstrip() if shown else ""
                if insn.op.kind is Kind.JUMP:
                    self._tell()
                return following

            return logged

        def _tell(self, *, with_state: bool = True) -> None:
            """Write the instruction that waits; a state found again ends the path before its state is told."""
            if self._waiting is not None:
                write(self._waiting[0] + (self._waiting[1] if with_state else ""))
                self._waiting = None

        def _tell_switch(self, text: str, state: State, frame: Frame, depth: int) -> None:
            write(text)
            now = state.frames[-1]
            if len(state.frames) > depth:
                write(LOG_LINES["call"].format(caller=_whole(state, frame), callee=_whole(state, now)))
                self._entered = True
            else:
                place, whole = self._slot(self.next), _whole(state, now)
                write(LOG_LINES["return"].format(callee=_whole(state, frame), slot=place, caller=whole))
                self._last = None  # told like a path that is taken up

    return Logged
