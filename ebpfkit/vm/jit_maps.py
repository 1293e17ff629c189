"""Map helpers on native stores as LLVM IR, and the few other helpers that are a load or two.

A helper that is not translated here, or whose arguments are not what they seem, is done by the machine's Python.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ebpfkit.asm.insn import Instruction
from ebpfkit.maps.native import store_code
from ebpfkit.maps.native_code import DECLARATIONS
from ebpfkit.maps.store import BPF_EXIST, BPF_NOEXIST
from ebpfkit.vm.jit_access import block_address, place, value_address
from ebpfkit.vm.jit_flow import Facts
from ebpfkit.vm.jit_text import PROGRAM, State

if TYPE_CHECKING:
    from ebpfkit.vm.jit_emit import Emitter, MapPlace

__all__ = ["call"]

_LOOKUP, _UPDATE, _DELETE, _PROCESSOR = 1, 2, 3, 8


def call(e: Emitter, slot: int, insn: Instruction, facts: Facts) -> bool:
    """Translate a helper call; False when that is Python's."""
    if insn.imm == _PROCESSOR:
        e.set(0, e.read(State.CPU))
        return True
    fact = facts[1]
    found = e.target.map(fact.number) if fact.kind == "map" and fact.off == 0 else None
    if found is None or insn.imm not in (_LOOKUP, _UPDATE, _DELETE):
        return False
    if insn.imm != _LOOKUP and not found.layout.writable:
        return False
    done, slow = e.name("next"), e.name("slow")
    if found.layout.kind in ("array", "percpu_array"):
        if insn.imm == _DELETE:
            return False
        result = (_array_lookup if insn.imm == _LOOKUP else _array_update)(e, found, facts, slow)
    else:
        result = _table(e, found, insn.imm, facts, slow)
    e.set(0, result)
    e.go(done)
    e.label(slow)
    e.slow(slot, reads=tuple(range(1, 1 + e.target.arity(insn.imm))), writes=(0,))
    e.go(done)
    e.label(done)
    return True


def _index(e: Emitter, facts: Facts, slow: str) -> str:
    key = place(e, facts[2], 2, 0, 4, slow, write=False)
    number = e.turned(e.op(f"load i32, ptr {key}, align 1{PROGRAM}"), 4)
    return e.op(f"zext i32 {number} to i64")


def _array_lookup(e: Emitter, found: MapPlace, facts: Facts, slow: str) -> str:
    index = _index(e, facts, slow)
    present = e.op(f"icmp ult i64 {index}, {found.layout.count}")
    return e.op(f"select i1 {present}, i64 {value_address(e, found, index)}, i64 0")


def _array_update(e: Emitter, found: MapPlace, facts: Facts, slow: str) -> str:
    layout = found.layout
    index = _index(e, facts, slow)
    value = place(e, facts[3], 3, 0, layout.value_size, slow, write=False)
    flags = e.get(4)
    present = e.op(f"icmp ult i64 {index}, {layout.count}")
    may = e.op(f"icmp ne i64 {flags}, {BPF_NOEXIST}")
    plain = e.name("plain")
    e.branch(e.op(f"icmp ule i64 {flags}, {BPF_EXIST}"), plain, slow, likely=True)
    e.label(plain)
    code = e.op(f"select i1 {may}, i64 0, i64 {-errno.EEXIST}")
    code = e.op(f"select i1 {present}, i64 {code}, i64 {-errno.E2BIG}")
    write, after = e.name("write"), e.name("written")
    e.branch(e.op(f"icmp eq i64 {code}, 0"), write, after)
    e.label(write)
    cpu = e.read(State.CPU) if len(layout.addresses) > 1 else None
    start = e.op(f"add i64 {e.op(f'mul i64 {index}, {layout.stride}')}, {block_address(e, found, cpu)}")
    copy(e, e.pointer(start), value, layout.value_size)
    e.go(after)
    e.label(after)
    return code


def _table(e: Emitter, found: MapPlace, helper: int, facts: Facts, slow: str) -> str:
    """A helper on a hash table or trie: a call of the store's own code, which is part of the module."""
    spec, name = found.spec, f"map{found.slot}"
    e.needed.add(store_code(found.layout, spec.key_size, name))
    e.needed.update(DECLARATIONS.splitlines())
    key = place(e, facts[2], 2, 0, spec.key_size, slow, write=False)
    if helper == _LOOKUP:
        index = e.op(f"call i64 @{name}_lookup(ptr {key})")
        address = value_address(e, found, e.op(f"sub i64 {index}, 1"))
        return e.op(f"select i1 {e.op(f'icmp eq i64 {index}, 0')}, i64 0, i64 {address}")
    if helper == _DELETE:
        return e.op(f"call i64 @{name}_delete(ptr {key})")
    value = place(e, facts[3], 3, 0, spec.value_size, slow, write=False)
    return e.op(f"call i64 @{name}_update(ptr {key}, ptr {value}, i64 {e.get(4)})")


def copy(e: Emitter, target: str, source: str, size: int) -> None:
    """Copy bytes that may overlap."""
    e.needed.update(DECLARATIONS.splitlines())
    e.line(f"call void @llvm.memmove.p0.p0.i64(ptr align 8 {target}, ptr {source}, i64 {size}, i1 false)")
