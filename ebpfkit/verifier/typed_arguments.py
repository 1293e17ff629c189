"""Helper arguments and results that are objects of the kernel: sockets, structures by BTF, per-CPU variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.abi.model import ArgKind, ArgSpec, HelperSpec, RetKind
from ebpfkit.btf.types import Struct
from ebpfkit.verifier import check
from ebpfkit.verifier.domain import objects as kinds
from ebpfkit.verifier.domain.objects import Object
from ebpfkit.verifier.domain.pointer import MEM, OPAQUE
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.structures import holds_struct

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["TYPED", "TYPED_RESULTS", "give_object", "prove_typed"]

_A = ArgKind
_SOCKETS = "sock_common, sock, tcp_sock, xdp_sock"
_WANTED = {
    _A.SOCK_COMMON: _SOCKETS,
    _A.BTF_SOCK_COMMON: f"{_SOCKETS}, ptr_, trusted_ptr_",
    _A.SOCKET: "sock",
    _A.SOCKET_OR_NULL: "sock",
    _A.BTF_ID: "ptr_, trusted_ptr_, rcu_ptr_",
    _A.BTF_ID_OR_NULL: "ptr_, trusted_ptr_, rcu_ptr_",
    _A.PERCPU_BTF_ID: "percpu_ptr_, percpu_rcu_ptr_, percpu_trusted_ptr_",
}
TYPED = frozenset(_WANTED)
"""Kinds of arguments that are judged here."""

TYPED_RESULTS = frozenset(
    {RetKind.BTF_ID, RetKind.BTF_ID_OR_NULL, RetKind.MEM_OR_BTF_ID, RetKind.MEM_OR_BTF_ID_OR_NULL}
)
_TRUSTED_RESULTS = frozenset({"get_current_task_btf", "task_pt_regs"})
_WHOLE_SOCKETS = frozenset({_A.SOCKET, _A.SOCKET_OR_NULL})
_PLAIN_FLAGS = {
    _A.BTF_SOCK_COMMON: (0, kinds.TRUSTED),
    _A.BTF_ID: (0, kinds.TRUSTED, kinds.RCU),
    _A.BTF_ID_OR_NULL: (0, kinds.TRUSTED, kinds.RCU),
    _A.PERCPU_BTF_ID: (kinds.PERCPU, kinds.PERCPU | kinds.RCU, kinds.PERCPU | kinds.TRUSTED),
}


def prove_typed(w: Walk, index: int, register: int, value: Any, arg: ArgSpec, releases: bool) -> None:
    """The register holds an object of the kind that the argument wants."""
    kind = arg.kind
    may_be_null = kind in (_A.BTF_ID_OR_NULL, _A.SOCKET_OR_NULL)
    if value.kind == OPAQUE:
        wanted = value.target == "sock" if kind in _WHOLE_SOCKETS else kind in (_A.SOCK_COMMON, _A.BTF_SOCK_COMMON)
        fits = wanted and (not value.nullable or may_be_null)
    elif value.kind == kinds.BTF:
        flags = value.target.flags
        fits = flags in _PLAIN_FLAGS.get(kind, ()) and (not value.nullable or may_be_null)
    else:
        fits = False
    if not fits:
        message = f"R{register} type={check.type_name(value)} expected={_WANTED[kind]}"
        raise Rejection("helper-argument", message, index=index, register=register)
    if value.kind == kinds.BTF and kind is not _A.PERCPU_BTF_ID:
        _check_struct(w, index, register, value, arg)
    if not releases:
        _check_offset(index, register, value)


def _check_struct(w: Walk, index: int, register: int, value: Any, arg: ArgSpec) -> None:
    """The structure is the wanted one, or begins with it at this offset."""
    name = arg.btf_type or "sock_common"
    if value.target.local:
        wanted = None
    else:
        wanted = w.objects.kernel_object(name)
        btf = w.objects.btf_of(value.target)
        if holds_struct(btf, value.target.type_id, value.off, wanted.type_id):
            return
    message = f"R{register} is of type {value.target.name} but {name} is expected"
    raise Rejection("helper-argument", message, index=index, register=register)


def _check_offset(index: int, register: int, value: Any) -> None:
    """A fixed offset is fine for structures, a variable one never."""
    name = value.type_name()
    if value.off < 0:
        message = f"negative offset {name} ptr R{register} off={value.off} disallowed"
    elif value.off and value.kind != kinds.BTF:
        message = f"dereference of modified {name} ptr R{register} off={value.off} disallowed"
    elif value.var.const != 0:
        message = f"variable {name} access var_off=({value.var.value:#x}; {value.var.mask:#x}) disallowed"
    else:
        return
    raise Rejection("helper-argument", message, index=index, register=register)


def give_object(w: Walk, index: int, spec: HelperSpec, argument: Any) -> Any:
    """The pointer that the helper returns. `argument`: the per-CPU variable that it was given."""
    nullable = spec.ret in (RetKind.BTF_ID_OR_NULL, RetKind.MEM_OR_BTF_ID_OR_NULL)
    if spec.ret in (RetKind.BTF_ID, RetKind.BTF_ID_OR_NULL):
        name = spec.ret_ctype.removeprefix("struct ").removesuffix(" *")
        flags = kinds.TRUSTED if spec.name in _TRUSTED_RESULTS else 0
        return w.values.pointer(kinds.BTF, w.objects.kernel_object(name, flags), nullable=nullable)
    target = argument.target
    if target.flags & kinds.ALLOC:
        raise Unmodelled("objects of a type that are per CPU", index=index)
    btf = w.objects.btf_of(target)
    if isinstance(btf.resolve(target.type_id), Struct):
        thing = Object(target.type_id, target.name, 0, target.local)
        return w.values.pointer(kinds.BTF, thing, nullable=nullable)
    return w.values.pointer(MEM, btf.size_of(target.type_id), nullable=nullable, readonly=True)
