"""Contexts whose layout is a prototype in the kernel's BTF: typed tracepoints, function entry and exit, LSM hooks,
iterators.

The context is an array of 8-byte arguments. What BTF does not say of them (which may be null, which are buffers) stands
in `abi/btf_contexts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.abi.attach_types import BTF_TARGETS
from ebpfkit.abi.btf_contexts import ITERATORS, RAW_TRACEPOINTS
from ebpfkit.abi.model import FieldResult
from ebpfkit.btf.types import Enum, Func, FuncProto, Int, Param, Ptr, Struct, Typedef, Void
from ebpfkit.verifier.domain import objects as kinds
from ebpfkit.verifier.domain.objects import Buffer, Object
from ebpfkit.verifier.operations import operations_of, prototype_of_member
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.structures import struct_pointer

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf
    from ebpfkit.elf.model import ProgramSpec
    from ebpfkit.verifier.domain.values import Values

__all__ = ["TypedContext"]

_MAX_ARGUMENTS = 12
_RESULTS = frozenset({"trace_fexit", "trace_fsession", "lsm_mac", "lsm_cgroup", "modify_return"})
"""Attach types whose context ends with the function's result."""
_BUFFERS = {"rdonly_buf": "rdonly", "buf": "rdwr"}
_FLAGS = {"trusted": kinds.TRUSTED, "rcu": kinds.RCU, "untrusted": kinds.UNTRUSTED}


class TypedContext:
    """The context of one program that is attached by BTF; answers like a ContextTable."""

    def __init__(self, spec: ProgramSpec, btf: Btf, values: Values, whole: bool = True) -> None:
        self._btf = btf
        self._whole = whole  # pointers are read as a whole only
        self._values = values
        self._attach = spec.attach_type or ""
        self._name = spec.attach_target or ""
        self._promoted: dict[str, str] = {}
        self._stub: tuple[Param, ...] = ()
        if spec.prog_type == "struct_ops":
            row, member = operations_of(spec)
            self.function, self._attach = member, "struct_ops"
            self.proto = prototype_of_member(spec, btf)
            self._promoted = dict(row.promoted)
            self._stub = _stub(btf, f"{row.name}__{member}")
        else:
            self.function = BTF_TARGETS[self._attach][0] + self._name
            self.proto = _prototype(spec, btf)
        skipped = 1 if self._attach == "trace_raw_tp" else 0
        self._params: tuple[Param, ...] = self.proto.params[skipped:]
        self._pointers: dict[int, Any] = {}

    @property
    def returns_nothing(self) -> bool:
        """Whether the function attached to has no result."""
        return isinstance(self._btf.resolve(self.proto.ret), Void)

    def access(self, offset: int, size: int, write: bool) -> FieldResult | None:
        """What an access gives (BTF: see `pointer`), None where it is not allowed."""
        if write or offset < 0 or offset >= 8 * _MAX_ARGUMENTS or offset % size or offset % 8:
            return None
        number = offset // 8
        if number < len(self._params):
            type_id = self._params[number].type
        elif number == len(self._params) and self._attach in _RESULTS:
            type_id = self.proto.ret
        else:
            return None
        found = self._btf.resolve(type_id)
        if isinstance(found, Int | Enum):
            return FieldResult.SCALAR if found.size <= 8 else None
        if isinstance(found, Struct):
            return FieldResult.SCALAR
        if not isinstance(found, Ptr) or (size != 8 and self._whole):
            return None
        return self._pointer_result(number, type_id)

    def _pointer_result(self, number: int, type_id: int) -> FieldResult | None:
        word = self._word(number)
        if word == "scalar":
            return FieldResult.SCALAR
        base, _, _ = word.partition("_or_null")
        if base in _BUFFERS:
            buffer = Buffer(_BUFFERS[base])
            nullable = word.endswith("_or_null")
            readonly = base == "rdonly_buf"
            self._pointers[number] = self._values.pointer(kinds.BUF, buffer, nullable=nullable, readonly=readonly)
            return FieldResult.BTF
        target = self._btf.resolve(type_id)
        pointee = self._btf.resolve(target.type) if isinstance(target, Ptr) else None
        found = struct_pointer(self._btf, type_id)
        if found is None:
            # To a number or nothing: as good as a number; to anything else: refused.
            return FieldResult.SCALAR if isinstance(pointee, Int | Void) else None
        flags = sum(flag for text, flag in _FLAGS.items() if f"{text}_" in word)
        target_id, tags = found
        wider = self._promoted.get(self._btf.name(target_id))
        if wider is not None:
            target_id = self._btf.find_id(wider, Struct)
        thing = Object(target_id, self._btf.name(target_id), flags | tags)
        self._pointers[number] = self._values.pointer(kinds.BTF, thing, nullable="or_null" in word)
        return FieldResult.BTF

    def _word(self, number: int) -> str:
        """The kernel's word for the argument when it points to a structure."""
        if self._attach == "trace_iter":
            words = ITERATORS.get(self._name)
            if words is None:
                raise Unmodelled(f"the iterator {self._name}")
            return words[number] if number < len(words) else ""
        if self._attach == "trace_raw_tp":
            letters = RAW_TRACEPOINTS.get(self._name, "")
            letter = letters[number : number + 1]
            return {"n": "trusted_ptr_or_null_", "e": "scalar"}.get(letter, "trusted_ptr_")
        trusted = "trusted_" if self._attach in ("lsm_mac", "lsm_cgroup", "struct_ops") else ""
        # Members of structures have no names for their parameters; a function beside them has.
        named = self._stub or self._params
        nullable = number < len(named) and named[number].name.endswith("__nullable")
        return f"{trusted}ptr_{'or_null_' if nullable else ''}"

    def pointer(self, offset: int) -> Any:
        """What a load of 8 bytes at the offset of a pointer yields."""
        return self._pointers[offset // 8]


def _stub(btf: Btf, name: str) -> tuple[Param, ...]:
    func = btf.find(name, Func)
    proto = btf.get(func.type) if func is not None else None
    return proto.params if isinstance(proto, FuncProto) else ()


def _prototype(spec: ProgramSpec, btf: Btf) -> FuncProto:
    prefix, kind = BTF_TARGETS[spec.attach_type or ""]
    if not spec.attach_target:
        raise Rejection("attach-target", "Tracing programs must provide btf_id")
    if ":" in spec.attach_target:
        raise Unmodelled("targets in kernel modules")
    name = prefix + spec.attach_target
    number = btf.find_id(name, Typedef if kind == "typedef" else Func)
    if not number:
        raise Unmodelled(f"{kind} {name}, which the given kernel's types do not have")
    found = btf.get(number)
    if isinstance(found, Func):
        proto = btf.get(found.type)
    else:
        pointer = btf.resolve(number)
        proto = btf.resolve(pointer.type) if isinstance(pointer, Ptr) else pointer
    if not isinstance(proto, FuncProto):
        raise Rejection("attach-target", f"attach_btf_id {number} is not a function")
    return proto
