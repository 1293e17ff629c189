"""Loads, stores and atomics as LLVM IR.

In safe mode each address is checked against a window and translated: of the frame, of a value whose map is known, of
the table of regions, of any native store, in this order; what matches nothing goes to Python, which has the remaining
kinds of memory and the words for faults. In trusted mode an address is used as it is, unless it may point to
fields (of a context or a socket), which are no memory.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ebpfkit._bits import U32_MAX
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.vm.arena import GUARD_BYTES, WINDOW_BYTES, ArenaWindow
from ebpfkit.vm.interpreter import FRAME_BYTES
from ebpfkit.vm.jit_flow import Fact, Facts
from ebpfkit.vm.jit_text import LIKELY, MACHINE, MASK, PROGRAM, State
from ebpfkit.vm.native_memory import (
    ENTRY_BYTES,
    FIELDS_BYTES,
    MAX_STORE_ENTRIES,
    MIDDLE,
    STORE_BIT,
    STORE_ENTRY_BYTES,
    STORE_SLOTS,
    TABLE_ENTRIES,
)

if TYPE_CHECKING:
    from ebpfkit.vm.jit_emit import Emitter, MapPlace

__all__ = ["KINDS", "access", "place", "value_address"]

KINDS: Final = frozenset({Kind.LOAD, Kind.LOADSX, Kind.STORE, Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE, Kind.ATOMIC})
_SIZE_INDEX: Final = MappingProxyType({1: 0, 2: 1, 4: 2, 8: 3})


def access(e: Emitter, slot: int, insn: Instruction, facts: Facts) -> None:
    """Translate one load, store or atomic."""
    kind, dst, src = insn.op.kind, int(insn.dst), int(insn.src)
    loads = kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE)
    base = src if loads else dst
    fact = facts[base]
    if fact.kind == "context" and fact.off is not None:
        if not (kind is Kind.LOAD and _load_field(e, insn, fact.off + insn.off)):
            _in_python(e, slot, insn)
        return
    if kind is Kind.ATOMIC and e.is_swapped and insn.op.operation.removeprefix("fetch_") == "add":
        _in_python(e, slot, insn)  # no processor adds in the other byte order
        return
    slow, mark = e.name("slow"), len(e.lines)
    pointer = place(e, fact, base, insn.off, insn.op.size, slow, write=not loads)
    if kind is Kind.ATOMIC:
        aligned = fact.kind == "stack" and fact.off is not None and not (fact.off + insn.off) % insn.op.size
        _atomic(e, insn, pointer, None if aligned else slow)
    elif loads:
        _load(e, insn, pointer)
    else:
        _store(e, insn, pointer)
    if not any(f"%{slow}" in line for line in e.lines[mark:]):
        return
    done = e.name("next")
    e.go(done)
    e.label(slow)
    _in_python(e, slot, insn)
    e.go(done)
    e.label(done)


def _in_python(e: Emitter, slot: int, insn: Instruction) -> None:
    dst, src = int(insn.dst), int(insn.src)
    if insn.op.kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE):
        e.slow(slot, reads=(src,), writes=(dst,))
    elif insn.op.kind is Kind.ATOMIC:
        writes = (0,) if insn.op.operation == "cmpxchg" else () if src == 10 else (src,)
        e.slow(slot, reads=(0, dst, src), writes=writes)
    else:
        e.slow(slot, reads=(dst, src) if insn.op.source == "reg" else (dst,))


def _load_field(e: Emitter, insn: Instruction, offset: int) -> bool:
    found = e.target.field(offset, insn.op.size)
    if found is None:
        return False
    e.set(insn.dst, e.read(found))
    return True


def _load(e: Emitter, insn: Instruction, pointer: str) -> None:
    size = insn.op.size
    value = e.turned(e.op(f"load i{size * 8}, ptr {pointer}, align 1{PROGRAM}"), size)
    if insn.op.kind is Kind.LOAD_ACQUIRE:
        e.line("fence acquire")
    e.set(insn.dst, e.widen(value, size, signed=insn.op.kind is Kind.LOADSX))


def _store(e: Emitter, insn: Instruction, pointer: str) -> None:
    size = insn.op.size
    if insn.op.source == "reg":
        value = e.turned(e.cut(e.get(insn.src), size), size)
    else:
        value = e.turned(str(insn.imm & ((1 << size * 8) - 1)), size)
    if insn.op.kind is Kind.STORE_RELEASE:
        e.line("fence release")
    e.line(f"store i{size * 8} {value}, ptr {pointer}, align 1{PROGRAM}")


def _atomic(e: Emitter, insn: Instruction, pointer: str, slow: str | None) -> None:
    """Natively where the place is aligned: other places are Python's, since no processor does them at once."""
    size, operation = insn.op.size, insn.op.operation
    kind = f"i{size * 8}"
    if slow is not None:
        aligned = e.name("aligned")
        low = e.op(f"and i64 {e.op(f'ptrtoint ptr {pointer} to i64')}, {size - 1}")
        e.branch(e.op(f"icmp eq i64 {low}, 0"), aligned, slow, likely=True)
        e.label(aligned)
    operand = e.turned(e.cut(e.get(insn.src), size), size)
    if operation == "cmpxchg":
        expected = e.turned(e.cut(e.get(0), size), size)
        pair = e.op(
            f"cmpxchg ptr {pointer}, {kind} {expected}, {kind} {operand} seq_cst seq_cst, align {size}{PROGRAM}"
        )
        e.set(0, e.widen(e.turned(e.op(f"extractvalue {{ {kind}, i1 }} {pair}, 0"), size), size))
        return
    fetches = operation.startswith("fetch_") or operation == "xchg"
    name = operation.removeprefix("fetch_")
    order = "seq_cst" if fetches else "monotonic"
    old = e.op(f"atomicrmw {name} ptr {pointer}, {kind} {operand} {order}, align {size}{PROGRAM}")
    if fetches:
        e.set(insn.src, e.widen(e.turned(old, size), size))


# --- from an address to a place ---------------------------------------------------------------------------------------


def place(e: Emitter, fact: Fact, register: int, off: int, size: int, slow: str, *, write: bool) -> str:
    """A pointer to `size` bytes at `register` + `off`; where that is not certain, control goes to the label `slow`."""
    if fact.kind == "stack" and fact.off is not None and -FRAME_BYTES <= fact.off + off <= -size:
        return e.pointer(e.add(e.op("load i64, ptr %sp"), fact.off + off))
    address = e.add(e.get(register), off & MASK)
    if e.target.trusted:
        if fact.kind == "unknown" or e.target.arena is not None:
            inside = e.name("memory")
            distance = e.op(f"sub i64 {address}, {e.target.fields}")
            e.branch(e.op(f"icmp uge i64 {distance}, {FIELDS_BYTES}"), inside, slow, likely=True)
            e.label(inside)
            if e.target.arena is not None:
                _outside_arena(e, address, e.target.arena, slow)
        return e.pointer(address)
    if fact.kind == "place" and fact.off is not None:
        known = _constant_place(e, fact, off, size, write)
        if known is not None:
            return known
    if fact.kind == "value":
        found = e.target.map(fact.number)
        if found is not None:
            return _value_place(e, found, address, size, slow, write)
    return _table_place(e, address, size, slow, write)


def _outside_arena(e: Emitter, address: str, window: ArenaWindow, slow: str) -> None:
    """In trusted mode: pointers of an arena lead to no memory of the process."""
    for start in (0, window.high):
        outside = e.name("outside")
        distance = e.op(f"sub i64 {address}, {(start - GUARD_BYTES) & MASK}")
        e.branch(e.op(f"icmp uge i64 {distance}, {WINDOW_BYTES + 2 * GUARD_BYTES}"), outside, slow, likely=True)
        e.label(outside)


def _constant_place(e: Emitter, fact: Fact, off: int, size: int, write: bool) -> str | None:
    assert fact.off is not None
    found = e.target.place(fact.number)
    if found is None:
        return None
    native, readable, writable = found
    start = fact.off + off
    if start >= 0 and start + size <= (writable if write else readable):
        return e.op(f"inttoptr i64 {native + start} to ptr")
    return None


def _value_place(e: Emitter, found: MapPlace, address: str, size: int, slow: str, write: bool) -> str:
    """Inside one value of a map that is known."""
    layout = found.layout
    if (write and not layout.writable) or size > layout.value_size:
        e.go(slow)
        e.label(e.name("never"))
        return "null"
    tag = str((STORE_BIT >> 56) + found.slot)
    cpu = None
    if len(layout.addresses) > 1:
        cpu = e.read(State.CPU)
        tag = e.op(f"add i64 {cpu}, {tag}")
    entry = e.op(f"and i64 {e.op(f'lshr i64 {address}, 32')}, {MAX_STORE_ENTRIES - 1}")
    distance = e.op(f"sub i64 {e.op(f'and i64 {address}, {U32_MAX}')}, {MIDDLE}")
    mine = e.op(f"icmp eq i64 {e.op(f'lshr i64 {address}, 56')}, {tag}")
    present = e.op(f"icmp ult i64 {entry}, {layout.count}")
    inside = e.op(f"icmp ule i64 {distance}, {layout.value_size - size}")
    good = e.op(f"and i1 {e.op(f'and i1 {mine}, {present}')}, {inside}")
    fast = e.name("fast")
    e.branch(good, fast, slow, likely=True)
    e.label(fast)
    start = e.op(f"add i64 {e.op(f'mul i64 {entry}, {layout.stride}')}, {block_address(e, found, cpu)}")
    return e.pointer(e.op(f"add i64 {start}, {distance}"))


def block_address(e: Emitter, found: MapPlace, cpu: str | None) -> str:
    """Where the values of a store begin, on this CPU."""
    if cpu is None:
        return str(found.layout.addresses[0])
    first = e.target.stores + found.slot * STORE_ENTRY_BYTES
    entry = e.op(f"add i64 {e.op(f'mul i64 {cpu}, {STORE_ENTRY_BYTES}')}, {first}")
    return e.op(f"load i64, ptr {e.pointer(entry)}{MACHINE}")


def value_address(e: Emitter, found: MapPlace, entry: str) -> str:
    """What the program sees as the address of a value."""
    cpu = e.read(State.CPU) if len(found.layout.addresses) > 1 else None
    if e.target.trusted:
        offset = e.op(f"mul i64 {entry}, {found.layout.stride}")
        return e.op(f"add nuw i64 {offset}, {block_address(e, found, cpu)}")
    first = STORE_BIT | found.slot << 56 | MIDDLE
    address = e.op(f"or i64 {e.op(f'shl i64 {entry}, 32')}, {first}")
    if cpu is not None:
        address = e.op(f"add nuw i64 {address}, {e.op(f'shl i64 {cpu}, 56')}")
    return address


def _table_place(e: Emitter, address: str, size: int, slow: str, write: bool) -> str:
    shift = 32 - (ENTRY_BYTES - 1).bit_length()
    row = e.op(f"and i64 {e.op(f'lshr i64 {address}, {shift}')}, {(TABLE_ENTRIES - 1) * ENTRY_BYTES}")
    entry = e.pointer(e.op(f"add i64 {row}, {e.target.table}"))
    distance = e.op(f"sub i64 {address}, {e.op(f'load i64, ptr {entry}, align 8{MACHINE}')}")
    column = (6 if write else 2) + _SIZE_INDEX.get(size, 0)
    limit = _column(e, entry, column)
    good = e.op(f"icmp ult i64 {distance}, {limit}")
    if size not in _SIZE_INDEX:
        last = e.op(f"icmp ult i64 {e.op(f'add i64 {distance}, {size - 1}')}, {limit}")
        good = e.op(f"and i1 {good}, {last}")
    fast, miss = e.name("fast"), e.name("miss")
    e.branch(good, fast, miss if e.target.has_stores else slow, likely=True)
    if not e.target.has_stores:
        e.label(fast)
        return e.pointer(e.op(f"add i64 {distance}, {_column(e, entry, 1)}"))
    both = e.name("both")
    e.label(miss)
    e.needed.add(_FAR.replace("STORES", str(e.target.stores)))
    far = e.op(f"call i64 @far(i64 {address}, i64 {size}, i64 {int(write)})")
    e.line(f"br i1 {e.op(f'icmp ne i64 {far}, 0')}, label %{both}, label %{slow}")
    e.label(fast)
    near = e.op(f"add i64 {distance}, {_column(e, entry, 1)}")
    e.go(both)
    e.label(both)
    return e.pointer(e.op(f"phi i64 [ {far}, %{miss} ], [ {near}, %{fast} ]"))


def _column(e: Emitter, entry: str, number: int) -> str:
    return e.op(f"load i64, ptr {e.op(f'getelementptr i64, ptr {entry}, i64 {number}')}, align 8{MACHINE}")


_FAR = f"""define internal i64 @far(i64 %a, i64 %size, i64 %write) noinline nounwind {{
  %tag = lshr i64 %a, 56
  %slot = sub i64 %tag, {STORE_BIT >> 56}
  %known = icmp ult i64 %slot, {STORE_SLOTS}
  br i1 %known, label %look, label %none{LIKELY}
look:
  %row = mul i64 %slot, {STORE_ENTRY_BYTES}
  %at = add i64 %row, STORES
  %p = inttoptr i64 %at to ptr
  %base = load i64, ptr %p
  %p1 = getelementptr i64, ptr %p, i64 1
  %stride = load i64, ptr %p1
  %p2 = getelementptr i64, ptr %p, i64 2
  %bytes = load i64, ptr %p2
  %p3 = getelementptr i64, ptr %p, i64 3
  %count = load i64, ptr %p3
  %p4 = getelementptr i64, ptr %p, i64 4
  %writable = load i64, ptr %p4
  %high = lshr i64 %a, 32
  %entry = and i64 %high, {MAX_STORE_ENTRIES - 1}
  %present = icmp ult i64 %entry, %count
  %low = and i64 %a, {U32_MAX}
  %distance = sub i64 %low, {MIDDLE}
  %fits = icmp uge i64 %bytes, %size
  %last = sub i64 %bytes, %size
  %inside = icmp ule i64 %distance, %last
  %allowed = icmp ule i64 %write, %writable
  %c1 = and i1 %present, %fits
  %c2 = and i1 %inside, %allowed
  %good = and i1 %c1, %c2
  br i1 %good, label %found, label %none{LIKELY}
found:
  %offset = mul i64 %entry, %stride
  %start = add i64 %base, %offset
  %result = add i64 %start, %distance
  ret i64 %result
none:
  ret i64 0
}}"""
