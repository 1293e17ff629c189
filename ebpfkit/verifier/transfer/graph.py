"""Objects that programs allocate, and the lists and trees that they put them into: the kernel functions for both.

An object is owned through a reference. Put into a list or tree, it belongs there: pointers to it stay usable, without
owning, until the lock that guards the list or tree is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ebpfkit._bits import U32_MAX, to_signed
from ebpfkit.btf.types import Int, Struct
from ebpfkit.verifier import check
from ebpfkit.verifier.domain import objects as kinds
from ebpfkit.verifier.domain.objects import Object
from ebpfkit.verifier.domain.pointer import CTX, FUNC, MAP_VALUE, Pointer
from ebpfkit.verifier.kernel_functions import name_of
from ebpfkit.verifier.objects import is_trusted
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.special import LOCK, SpecialField
from ebpfkit.verifier.state import ID_MASK, SPILL, Frame, Slot, reference_word
from ebpfkit.verifier.transfer import callbacks
from ebpfkit.verifier.transfer.jumps import keeps_identity

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["CALLS", "OBJECTS", "call_object_function", "drop_borrowed", "in_comparison"]

OBJECTS = "objects"
"""Stands for the map where a lock is in an allocated object."""

_MAX_PERCPU = 512
_OWNED = kinds.ALLOC
_PERCPU = kinds.ALLOC | kinds.PERCPU
_NODES = {"bpf_list_head": "bpf_list_node", "bpf_rb_root": "bpf_rb_node"}


def call_object_function(w: Walk, index: int, name: str) -> None:
    """Prove the arguments of one of `CALLS` and do what it does."""
    for register in _ARGUMENTS[name]:
        if w.vals[register] is None:
            raise Rejection("uninitialised-register", f"R{register} !read_ok", index=index, register=register)
    result = CALLS[name](w, index, name)
    for register in range(6):
        w.vals[register] = None
        w.ids[register] = 0
    if result is not None:
        w.vals[0], w.ids[0] = result


# --- allocation -------------------------------------------------------------------------------------------------------


def _acquire(w: Walk, index: int, pointer: Pointer) -> tuple[Any, int]:
    """The pointer with a reference of its own."""
    identity = w.new_id()
    w.state.references = (*w.state.references, (identity, index))
    own = identity if pointer.nullable or keeps_identity(w, pointer) else 0
    return pointer, reference_word(own, identity)


def _refuse(index: int, message: str, register: int | None = None, rule: str = "kfunc-argument") -> Rejection:
    return Rejection(rule, message, index=index, register=register)


def _new(w: Walk, index: int, name: str) -> tuple[Any, int]:
    size = w.vals[1]
    if not size.is_scalar:
        raise _refuse(index, "R1 is not a scalar", 1)
    if size.const is None:
        raise _refuse(index, "R1 must be a known constant", 1)
    w.precision.demand_register(w.state, index, 1)
    number = size.const
    if number > U32_MAX:
        raise _refuse(index, "local type ID argument must be in range [0, U32_MAX]", 1)
    btf = w.code.spec.btf
    if btf is None:
        raise _refuse(index, "bpf_obj_new/bpf_percpu_obj_new requires prog BTF", 1)
    type_ = btf.get(number) if 0 < number < len(btf) else None
    if type(type_) is not Struct:
        raise _refuse(index, "bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct", 1)
    target = Object(number, type_.name, _OWNED, True)
    if name == "bpf_percpu_obj_new_impl":
        if type_.size > _MAX_PERCPU:
            message = f"bpf_percpu_obj_new type size ({type_.size}) is greater than {_MAX_PERCPU}"
            raise _refuse(index, message, 1)
        if w.object_fields(target):
            message = "bpf_percpu_obj_new type ID argument must not contain special fields"
            raise _refuse(index, message, 1)
        if not all(isinstance(btf.resolve(member.type), Int) for member in type_.members):
            raise Unmodelled("per-CPU objects of more than numbers", index=index)
        target = target.with_flags(_PERCPU)
    return _acquire(w, index, w.values.pointer(kinds.BTF, target, nullable=True))


def _is_owned(w: Walk, register: int, flags: int = _OWNED) -> bool:
    value = w.vals[register]
    return bool(value.kind == kinds.BTF and value.target.flags == flags and not value.nullable)


def _drop(w: Walk, index: int, name: str) -> None:
    value = w.vals[1]
    if value.nullable or (value.is_scalar and value.const == 0):
        raise _refuse(index, "Possibly NULL pointer passed to trusted arg0", 1)
    if value.kind != kinds.BTF or not is_trusted(w, value, w.ids[1]):
        raise _refuse(index, "R1 must be referenced or trusted", 1)
    wanted, other = (_OWNED, _PERCPU) if name == "bpf_obj_drop_impl" else (_PERCPU, _OWNED)
    if _is_owned(w, 1, other):
        right = "bpf_percpu_obj_drop_impl" if wanted == _OWNED else "bpf_obj_drop_impl"
        raise _refuse(index, f"arg#0 expected for {right}()", 1)
    if not _is_owned(w, 1, wanted):
        raise _refuse(index, "arg#0 expected pointer to allocated object", 1)
    reference = w.ids[1] >> 32
    if not reference:
        raise _refuse(index, "allocated object must be referenced", 1, "reference-misuse")
    if value.off:
        message = "R1 must have zero offset when passed to release func or trusted arg to kfunc"
        raise _refuse(index, message, 1, "reference-misuse")
    check.check_fixed(index, 1, value)
    _forget(w, reference)


def _forget(w: Walk, reference: int) -> None:
    from ebpfkit.verifier.transfer.calls import release_reference

    release_reference(w, reference)


def _share(w: Walk, index: int, name: str) -> tuple[Any, int]:
    value = w.vals[1]
    if value.nullable or (value.is_scalar and value.const == 0):
        raise _refuse(index, "Possibly NULL pointer passed to trusted arg0", 1)
    if value.kind != kinds.BTF or not value.target.flags & kinds.ALLOC:
        raise _refuse(index, "arg#0 is neither owning or non-owning ref", 1)
    if not any(field.kind == "bpf_refcount" for field in w.object_fields(value.target)):
        raise _refuse(index, "arg#0 doesn't point to a type with bpf_refcount field", 1)
    owned = not value.target.flags & kinds.NON_OWNING
    target = value.target.with_flags(_OWNED)
    return _acquire(w, index, w.values.pointer(kinds.BTF, target, nullable=not owned))


# --- lists and trees --------------------------------------------------------------------------------------------------


def _root(w: Walk, index: int, kind: str) -> SpecialField:
    """R1 points to the head of a list or the root of a tree, and its lock is held."""
    value = w.vals[1]
    owned = _is_owned(w, 1)
    if (value.kind != MAP_VALUE and not owned) or value.nullable:
        raise _refuse(index, "arg#0 expected pointer to map value or allocated object", 1)
    if owned and not w.ids[1] >> 32:
        raise _refuse(index, "allocated object must be referenced", 1, "reference-misuse")
    if value.var.const is None:
        message = f"R1 doesn't have constant offset. {kind} has to be at the constant offset"
        raise _refuse(index, message, 1)
    fields = w.object_fields(value.target) if owned else w.special_fields(value.target.spec)
    at = value.off + to_signed(value.var.const, 64)
    field = next((field for field in fields if field.kind == kind and field.offset == at), None)
    if field is None:
        raise _refuse(index, f"{kind} not found at offset={at}", 1)
    home = OBJECTS if owned else value.target
    held = w.state.lock
    if held is None or held[0] != w.ids[1] & ID_MASK or held[1] is not home:
        lock = next((field for field in fields if field.kind == LOCK), None)
        if lock is None:
            raise Unmodelled(f"{kind} without a bpf_spin_lock beside it", index=index)
        message = f"bpf_spin_lock at off={lock.offset} must be held for {kind}"
        raise _refuse(index, message, 1, "lock")
    return field


def _node(w: Walk, index: int, register: int, root: SpecialField) -> None:
    """The register points to the node of an object of the type that the list or tree holds."""
    value, node = w.vals[register], _NODES[root.kind]
    btf = w.code.spec.btf
    assert btf is not None
    if value.var.const is None:
        message = f"R{register} doesn't have constant offset. {node} has to be at the constant offset"
        raise _refuse(index, message, register)
    at = value.off + to_signed(value.var.const, 64)
    fields = w.object_fields(value.target)
    if not any(field.kind == node and field.offset == at for field in fields):
        raise _refuse(index, f"{node} not found at offset={at}", register)
    wanted = btf.name(root.type_id)
    if value.target.type_id != root.type_id:
        message = (
            f"operation on {root.kind} expects arg#1 {node} at offset={root.node_offset} in struct {wanted}, "
            f"but arg is at offset={at} in struct {value.target.name}"
        )
        raise _refuse(index, message, register)
    if at != root.node_offset:
        message = f"arg#1 offset={at}, but expected {node} at offset={root.node_offset} in struct {wanted}"
        raise _refuse(index, message, register)


def _owned_node(w: Walk, index: int, root: SpecialField) -> None:
    value = w.vals[2]
    if not _is_owned(w, 2) or (value.is_scalar and value.const == 0):
        raise _refuse(index, "arg#1 expected pointer to allocated object", 2)
    if not w.ids[2] >> 32:
        raise _refuse(index, "allocated object must be referenced", 2, "reference-misuse")
    _node(w, index, 2, root)


def _number(w: Walk, index: int, register: int) -> None:
    """The offset that the loader fills in: any number will do."""
    value = w.vals[register]
    if value is None or not value.is_scalar:
        raise _refuse(index, f"R{register} is not a scalar", register)


def _element(w: Walk, root: SpecialField, flags: int) -> Pointer:
    """A pointer to the node of an object in the list or tree."""
    btf = w.code.spec.btf
    assert btf is not None
    target = Object(root.type_id, btf.name(root.type_id), flags, True)
    return w.values.pointer(kinds.BTF, target, root.node_offset, nullable=True)


def _borrowed_flags(w: Walk, target: Object) -> int:
    """Flags of a pointer that does not own: a counted object is kept alive by RCU beyond the lock."""
    counted = any(field.kind == "bpf_refcount" for field in w.object_fields(target))
    return kinds.ALLOC | kinds.NON_OWNING | (kinds.RCU if counted else 0)


def _lend(w: Walk, reference: int) -> None:
    """The object now belongs to the list or tree: its pointers stay without owning it."""
    state = w.state
    state.references = tuple(held for held in state.references if held[0] != reference)

    def after(value: Any, identity: int) -> tuple[Any, int] | None:
        if value is None or value.is_scalar or identity >> 32 != reference:
            return None
        flags = _borrowed_flags(w, value.target)
        return w.values.change(value, target=value.target.with_flags(flags)), identity & ID_MASK

    _change_all(w, after)


def drop_borrowed(w: Walk) -> None:
    """The lock is dropped: pointers that do not own their object are numbers now."""

    def after(value: Any, identity: int) -> tuple[Any, int] | None:
        if value is None or value.kind != kinds.BTF or not value.target.flags & kinds.NON_OWNING:
            return None
        return w.values.unknown, 0

    _change_all(w, after)


def _change_all(w: Walk, after: Callable[[Any, int], tuple[Any, int] | None]) -> None:
    for frame in w.state.frames:
        for register in range(10):
            changed = after(frame.vals[register], frame.ids[register])
            if changed is not None:
                frame.vals[register], frame.ids[register] = changed
        for number, slot in list(frame.slots.items()):
            changed = after(slot.value, slot.id) if slot.types[0] == SPILL else None
            if changed is not None:
                frame.set_slot(number, Slot(slot.types, *changed))


def _push(w: Walk, index: int, name: str) -> tuple[Any, int]:
    root = _root(w, index, "bpf_list_head")
    _owned_node(w, index, root)
    _number(w, index, 4)
    _lend(w, w.ids[2] >> 32)
    return w.values.unknown, 0


def _pop(w: Walk, index: int, name: str) -> tuple[Any, int]:
    return _acquire(w, index, _element(w, _root(w, index, "bpf_list_head"), _OWNED))


def _look(w: Walk, index: int, name: str) -> tuple[Any, int]:
    """The first or last of a list, the first or root of a tree: not owned."""
    root = _root(w, index, "bpf_list_head" if name.startswith("bpf_list") else "bpf_rb_root")
    return _borrow(w, root)


def _borrow(w: Walk, root: SpecialField) -> tuple[Any, int]:
    plain = _element(w, root, kinds.ALLOC)
    flags = _borrowed_flags(w, plain.target)
    return w.values.change(plain, target=plain.target.with_flags(flags)), w.new_id()


def _add(w: Walk, index: int, name: str) -> tuple[Any, int]:
    root = _root(w, index, "bpf_rb_root")
    _owned_node(w, index, root)
    callback = w.vals[3]
    if callback.kind != FUNC:
        raise _refuse(index, "arg2 expected pointer to func", 3)
    _number(w, index, 5)
    if in_comparison(w):
        raise Unmodelled("a tree changed while it compares", index=index)

    def enter(walk: Walk, caller: Frame, callee: Frame) -> None:
        plain = _element(walk, root, kinds.ALLOC)
        target = plain.target.with_flags(_borrowed_flags(walk, plain.target))
        for register in (1, 2):
            callee.vals[register] = walk.values.change(plain, target=target, nullable=False)

    callbacks.call_back(w, index, callback.target, enter)
    _lend(w, w.ids[2] >> 32)
    return w.values.unknown, 0


def in_comparison(w: Walk) -> bool:
    """Whether this runs while a tree compares two of its objects."""
    for frame in w.state.frames:
        if frame.callback is not None and frame.site >= 0:
            insn = w.code.insns[frame.site]
            if name_of(insn, w.code.kernel_btf) == "bpf_rbtree_add_impl" and insn.op.name == "CALL_KFUNC":
                return True
    return False


def _neighbour(w: Walk, index: int, name: str) -> tuple[Any, int]:
    """The object is taken out of its tree, or the one beside it is looked at."""
    root = _root(w, index, "bpf_rb_root")
    value = w.vals[2]
    if value.nullable and value.off:
        message = f"dereference of modified {value.type_name()} ptr R2 off={value.off} disallowed"
        raise _refuse(index, message, 2)
    if value.nullable or (value.is_scalar and value.const == 0):
        raise Unmodelled("a node that may be null", index=index)
    allocated = value.kind == kinds.BTF and value.target.flags & kinds.ALLOC
    borrowed = allocated and value.target.flags & kinds.NON_OWNING
    if not borrowed and not w.ids[2] >> 32:
        message = f"{name} can only take non-owning or refcounted bpf_rb_node pointer"
        raise _refuse(index, message, 2)
    if not allocated:
        raise Unmodelled("another object as a node of a tree", index=index)
    if in_comparison(w):
        raise Rejection("callback", f"{name} not allowed in rbtree cb", index=index)
    _node(w, index, 2, root)
    if name != "bpf_rbtree_remove":
        return _borrow(w, root)
    return _acquire(w, index, _element(w, root, _OWNED))


# --- casts ------------------------------------------------------------------------------------------------------------


def _cast_readonly(w: Walk, index: int, name: str) -> tuple[Any, int]:
    """Any number or pointer as an object of the kernel that is read with care."""
    number = w.vals[2]
    if number is None or not number.is_scalar:
        raise _refuse(index, "R2 is not a scalar", 2)
    if number.const is None:
        raise _refuse(index, "R2 must be a known constant", 2)
    w.precision.demand_register(w.state, index, 2)
    if not number.const:
        if "casts-to-void" not in w.behaviours:
            raise _refuse(index, "kfunc bpf_rdonly_cast type ID argument must be of a struct", 2)
        return w.values.pointer(kinds.UNTRUSTED_MEM, None, readonly=True), 0
    btf = w.code.kernel_btf
    if btf is None:
        raise Unmodelled("a cast to a structure without the kernel's types (give them with --btf)", index=index)
    if number.const >= len(btf):
        message = f"Unknown type ID {number.const} passed to kfunc bpf_rdonly_cast"
        raise _refuse(index, message, 2)
    type_ = btf.get(number.const)
    if not isinstance(type_, Struct):
        raise _refuse(index, "kfunc bpf_rdonly_cast type ID argument must be of a struct or void", 2)
    return w.values.pointer(kinds.BTF, Object(number.const, type_.name, kinds.UNTRUSTED)), 0


def _cast_context(w: Walk, index: int, name: str) -> tuple[Any, int]:
    """The context as the kernel's own object behind it."""
    value, btf = w.vals[1], w.code.kernel_btf
    if value is None or value.kind != CTX:
        shown = check.type_name(value) if value is not None else ""
        raise _refuse(index, f"arg#0 expected pointer to ctx, but got {shown}", 1)
    check.check_unmoved(index, 1, value)
    if btf is None:
        raise Unmodelled("the kernel's own context without its types (give them with --btf)", index=index)
    table = btf.find("bpf_ctx_convert", Struct)
    member = table.member(f"BPF_PROG_TYPE_{w.prog_type.name.upper()}_kern") if table is not None else None
    target = btf.strip(member.type) if member is not None else 0
    if not isinstance(btf.get(target), Struct):
        raise Unmodelled(f"the kernel's own context of programs of type {w.prog_type.name}", index=index)
    return w.values.pointer(kinds.BTF, Object(target, btf.name(target), kinds.TRUSTED)), 0


CALLS: dict[str, Callable[[Walk, int, str], Any]] = {
    "bpf_obj_new_impl": _new,
    "bpf_percpu_obj_new_impl": _new,
    "bpf_obj_drop_impl": _drop,
    "bpf_percpu_obj_drop_impl": _drop,
    "bpf_refcount_acquire_impl": _share,
    "bpf_list_push_front_impl": _push,
    "bpf_list_push_back_impl": _push,
    "bpf_list_pop_front": _pop,
    "bpf_list_pop_back": _pop,
    "bpf_list_front": _look,
    "bpf_list_back": _look,
    "bpf_rbtree_add_impl": _add,
    "bpf_rbtree_remove": _neighbour,
    "bpf_rbtree_left": _neighbour,
    "bpf_rbtree_right": _neighbour,
    "bpf_rbtree_first": _look,
    "bpf_rbtree_root": _look,
    "bpf_rdonly_cast": _cast_readonly,
    "bpf_cast_to_kern_ctx": _cast_context,
}
"""The kernel functions that are modelled here."""

_TWO = frozenset(
    {"bpf_list_push_front_impl", "bpf_list_push_back_impl", "bpf_rbtree_remove", "bpf_rbtree_left", "bpf_rbtree_right"}
)
_ARGUMENTS = {name: range(1, 3 if name in _TWO else 2) for name in CALLS} | {
    "bpf_rbtree_add_impl": range(1, 4),
    "bpf_rdonly_cast": range(2, 3),
}
