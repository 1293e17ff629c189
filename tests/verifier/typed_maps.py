"""Maps whose values hold locks, timers, pointers, lists and trees, with types built here: for programs in assembly."""

from __future__ import annotations

from ebpfkit.asm.codec import slot_starts
from ebpfkit.asm.insn import Instruction
from ebpfkit.btf.build import BtfBuilder
from ebpfkit.btf.types import Btf, Func, Linkage, Struct, TypeTag
from ebpfkit.elf.model import FuncInfo, MapSpec

__all__ = ["MAPS", "NODE", "NODE_MEMBERS", "TYPES", "function_infos"]


def _make() -> tuple[Btf, dict[str, int]]:
    b = BtfBuilder()
    u32, u64 = b.integer("u32", 4), b.integer("u64", 8)

    def opaque(name: str, words: int) -> int:
        return b.struct(name, 8 * words, [("opaque", b.array(u64, words), 0)])

    spin = b.struct("bpf_spin_lock", 4, [("val", u32, 0)])
    resilient = b.struct("bpf_res_spin_lock", 4, [("val", u32, 0)])
    timer, work = opaque("bpf_timer", 2), opaque("bpf_wq", 2)
    head, list_node = opaque("bpf_list_head", 2), opaque("bpf_list_node", 3)
    root, tree_node = opaque("bpf_rb_root", 2), opaque("bpf_rb_node", 4)
    count = b.struct("bpf_refcount", 4, [("opaque", b.array(u32, 1), 0)])
    members = [
        ("key", u64, 0),
        ("list", list_node, 8),
        ("tree", tree_node, 32),
        ("count", count, 64),
        ("data", u64, 72),
    ]
    node = b.struct("leaf_of_mine", 80, members)
    task = b.struct("task_struct", 0, [])
    owned = b.pointer(b.add(TypeTag("kptr", node)))
    counted = b.pointer(b.add(TypeTag("kptr", task)))
    found = {
        "u32": u32,
        "node": node,
        "guarded": b.struct(
            "guarded", 32, [("first", u64, 0), ("lock", spin, 8), ("n", u32, 12), ("more", b.array(u64, 2), 16)]
        ),
        "resilient": b.struct(
            "resilient", 32, [("first", u64, 0), ("lock", resilient, 8), ("n", u32, 12), ("more", b.array(u64, 2), 16)]
        ),
        "timed": b.struct("timed", 24, [("timer", timer, 0), ("n", u64, 16)]),
        "worked": b.struct("worked", 24, [("work", work, 0), ("n", u64, 16)]),
        "kept": b.struct("kept", 24, [("node", owned, 0), ("task", counted, 8), ("n", u64, 16)]),
        "shelf": b.struct("shelf", 48, [("lock", spin, 0), ("list", head, 8), ("tree", root, 24), ("n", u64, 40)]),
    }
    b.decl_tag("contains:leaf_of_mine:list", found["shelf"], 1)
    b.decl_tag("contains:leaf_of_mine:tree", found["shelf"], 2)
    for number in range(8):
        b.func(f"f{number}", b.func_proto(b.integer("int", 4, signed=True), []), Linkage.STATIC)
    return b.build(), found


TYPES, _IDS = _make()
NODE = _IDS["node"]
"""The type id of the structure that programs allocate."""
NODE_MEMBERS = {"list": 8, "tree": 32}


def _map(name: str, kind: str, struct: str) -> MapSpec:
    found = TYPES.get(_IDS[struct])
    assert isinstance(found, Struct)
    return MapSpec(name, kind, 4, found.size, 8, btf_key_type=_IDS["u32"], btf_value_type=_IDS[struct])


MAPS = {
    spec.name: spec
    for spec in (
        _map("locks", "array", "guarded"),
        _map("cellar", "hash", "guarded"),
        _map("tough", "array", "resilient"),
        _map("rugged", "hash", "resilient"),
        _map("timers", "array", "timed"),
        _map("works", "array", "worked"),
        _map("kept", "array", "kept"),
        _map("shelves", "array", "shelf"),
    )
}
"""By name; all need the types `TYPES`."""


def function_infos(insns: tuple[Instruction, ...]) -> tuple[FuncInfo, ...]:
    """A type for every function of a program: the main one, what is called and whose address is taken."""
    slots = slot_starts(insns)
    starts = {0} | {
        slot + (insn.imm ^ 1 << 31) - (1 << 31) + 1
        for slot, insn in zip(slots, insns)
        if insn.op.name in ("CALL_LOCAL", "LDDW_FUNC")
    }
    return tuple(
        FuncInfo(start, f"f{number}", TYPES.find_id(f"f{number}", Func)) for number, start in enumerate(sorted(starts))
    )
