"""Calls of the kernel's helpers, each as its row in `abi/` says.

Belongs here: arguments by kind, results by C type, licences. What maps and the packet offer as methods is `maps.py`.
"""

from __future__ import annotations

import ast
from typing import Any

from ebpfkit.abi.model import ArgKind, Effect, HelperSpec, RetKind
from ebpfkit.compiler.contexts import is_record
from ebpfkit.compiler.conversions import is_plain_int
from ebpfkit.compiler.ir import Arg, Imm, Null, Operand
from ebpfkit.compiler.socket_maps import SocketMaps
from ebpfkit.compiler.values import (
    INT,
    Bytes,
    Const,
    ContextValue,
    OptionalView,
    Scalar,
    Space,
    Value,
    View,
    Void,
    ir_type,
    scalar,
)
from ebpfkit.dsl.helpers import POINTERS, result_type
from ebpfkit.dsl.kernel_structs import Kernel
from ebpfkit.dsl.kfuncs import Dynptr
from ebpfkit.dsl.kinds import KINDS
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.sockets import Socket
from ebpfkit.dsl.typeinfo import ArrayType, IntType

__all__ = ["HelperCalls"]

_NUMBERS = (
    ArgKind.SIZE, ArgKind.SIZE_OR_ZERO, ArgKind.ANYTHING, ArgKind.UNCHECKED, ArgKind.SCALAR, ArgKind.CONST,
)  # fmt: skip


_OF_KERNEL = (ArgKind.BTF_SOCK_COMMON, ArgKind.BTF_ID, ArgKind.BTF_ID_OR_NULL)


class HelperCalls(SocketMaps):
    """Evaluation of helper calls."""

    gpl: bool
    license: str

    def call_helper(self, spec: HelperSpec, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """A helper as its row says: each argument by its kind, the result by its C type."""
        arguments = spec.args_in(self.kind.prog_type)
        names = tuple(argument.name for argument in arguments or ())
        given: dict[str, tuple[Value, ast.expr]] = {
            name: (value, where) for name, value, where in zip(names, args, node.args)
        }
        for keyword in node.keywords:
            if keyword.arg not in names or keyword.arg in given or keyword.arg is None:
                raise self.error(keyword.value, "bad-call", f"{spec.name}() takes ({', '.join(names)})")
            given[keyword.arg] = (kwargs[keyword.arg], keyword.value)
        if arguments is None or len(args) > len(names) or len(given) != len(names):
            raise self.error(node, "bad-call", f"{spec.name}() takes ({', '.join(names)})")
        self.require_licence(spec, node)
        if not spec.prog_types & {self.kind.prog_type, "*"}:
            allowed = [kind.decorator for kind in KINDS.values() if spec.prog_types & {kind.prog_type, "*"}]
            what = f"a {self.kind.decorator} program may not call {spec.name}"
            raise self.error(node, "program-type", what, f"it is for {', '.join(allowed)}")
        operands: list[Operand] = []
        facade: MapFacade | None = None
        for argument in arguments:
            value, where = given[argument.name]
            if argument.kind is ArgKind.CONST_MAP_PTR:
                facade = self.map_of(value)
                if facade is None:
                    raise self.wrong_kind(value, where, "a map")
                if spec.map_types is not None and facade.map_type not in spec.map_types:
                    raise self.error(
                        where, "bad-map-operation", f"{spec.name}() does not take this {type(facade).__name__}"
                    )
                operands.append(self.map_ref(facade, where))
            else:
                operands.append(self._helper_argument(argument.kind, argument.ctype, value, facade, where))
        self._check_sizes(spec, given)
        kinds = {RetKind.VOID: "void", **dict.fromkeys(POINTERS, "ptr")}
        result = self.call(spec.name, kinds.get(spec.ret, "i64"), *operands)
        if Effect.CHANGES_PACKET in spec.effects and self.kind.access:
            self.packet_moved(f"{spec.name}()", node)
        if spec.ret is RetKind.VOID:
            return Void(f"{spec.name}()")
        if spec.ret in POINTERS:
            return self._of_kernel(spec, result)
        kind: IntType = result_type(spec, self.kind.verdict).__ebpf_type__  # type: ignore[union-attr]  # as for XdpAction
        return scalar(self.builder.convert("trunc", result, ir_type(kind)), kind)

    @staticmethod
    def _of_kernel(spec: HelperSpec, pointer: Operand) -> Value:
        """A socket or a structure of the kernel's, which may be missing."""
        cls: Any = Socket if "Socket" in POINTERS[spec.ret] else Kernel
        view = View(pointer, cls.__ebpf_type__, cls, Space.KERNEL, 8)
        return OptionalView(view, f"{spec.name}()") if "None" in POINTERS[spec.ret] else view

    def require_licence(self, spec: HelperSpec, node: ast.AST) -> None:
        """Refuse a helper that the program's licence does not allow."""
        if spec.gpl_only and not self.gpl:
            said = f"LICENSE is {self.license!r}" if self.license else "the module has no LICENSE"
            raise self.error(
                node,
                "gpl-only",
                f"the helper {spec.name} is only for GPL-compatible programs, and {said}",
                'write LICENSE = "GPL" or "Dual MIT/GPL" in the module',
            )

    def _check_sizes(self, spec: HelperSpec, given: dict[str, tuple[Value, ast.expr]]) -> None:
        """A constant length must not pass the memory before it."""
        before: Value | None = None
        for argument in spec.args or ():
            value, where = given[argument.name]
            if argument.kind in (ArgKind.SIZE, ArgKind.SIZE_OR_ZERO) and before is not None:
                size = before.type.size if isinstance(before, (View, Bytes)) else None
                if isinstance(before, Const):
                    size = len(before.value) if isinstance(before.value, bytes) else 0
                most = int(value.value) if isinstance(value, Const) and is_plain_int(value.value) else None
                if isinstance(value, Scalar):
                    most = value.hi
                if size is not None and most is not None and most > size:
                    raise self.error(
                        where, "bad-size", f"{most} bytes may be asked of {size}", "write sizeof(T), or test it"
                    )
            before = value

    def _helper_argument(
        self, kind: ArgKind, ctype: str, value: Value, facade: MapFacade | None, node: ast.expr
    ) -> Operand:
        if kind in (ArgKind.CTX, ArgKind.CTX_OR_NULL):
            if isinstance(value, ContextValue):
                return Arg()
            if is_record(value):
                return Arg()
            raise self.wrong_kind(value, node, "the packet" if self.kind.has_packet else "the context")
        if kind in (ArgKind.MAP_KEY, ArgKind.MAP_VALUE):
            assert facade is not None
            if kind is ArgKind.MAP_KEY:
                return self.key_pointer(facade, value, node)
            return self.in_memory("value", value, facade.value_type.__ebpf_type__, facade.value_type, node)
        if kind in _NUMBERS:
            return self._helper_number(ctype, value, node)
        if value == Const(None) and kind in (ArgKind.MEM_OR_NULL, ArgKind.BTF_ID_OR_NULL):
            return Null()
        if isinstance(value, Const) and isinstance(value.value, bytes) and kind in (ArgKind.MEM, ArgKind.MEM_OR_NULL):
            info = ArrayType(IntType("u8", 8), len(value.value))
            view = self.new_local(info, None, "bytes", zeroed=False)
            self.store_bytes(view, value.value)
            return view.pointer
        if not isinstance(value, View):
            raise self.wrong_kind(value, node, "a structure or an array")
        self.check_alive(value, node)
        if kind in _OF_KERNEL and value.space is not Space.KERNEL:
            raise self.wrong_kind(value, node, "what a helper or kernel function gave")
        if kind in (ArgKind.DYNPTR, ArgKind.DYNPTR_UNINIT) and value.cls is not Dynptr:
            raise self.wrong_kind(value, node, "a Dynptr")
        if value.space is Space.CONTEXT:
            raise self.error(node, "bad-type", "a helper cannot read a record of the kernel's", "give it a .copy()")
        if kind in (ArgKind.MEM_UNINIT, ArgKind.MEM_RW, ArgKind.MEM_FIXED_UNINIT) and value.space is Space.PACKET:
            raise self.error(node, "bad-type", "a helper cannot write into the packet", "use a local structure")
        return value.pointer

    def _helper_number(self, ctype: str, value: Value, node: ast.expr) -> Operand:
        """A number as the helper's C type; 32-bit values are extended as that type is."""
        signed = ctype.startswith("s") or ctype in ("int", "long")
        bits = 32 if "32" in ctype or ctype == "int" else 64
        if isinstance(value, Const) and is_plain_int(value.value):
            number = int(value.value)
            if not -(1 << (bits - 1)) <= number < 1 << bits:
                raise self.error(node, "does-not-fit", f"{number} does not fit {ctype}")
            return Imm(number, "i64")
        one = self.scalar_of(value, node)
        if one.type.network:
            raise self.error(node, "network-order", f"a {one.type.name} is not a {ctype}", "write .to_host()")
        if one.type != INT and (one.type.bits > bits or (one.type.signed and not signed and not one.type.is_bool)):
            raise self.error(
                node,
                "narrowing",
                f"{ctype} cannot take every {one.type.name}",
                f"write the cast {'s' if signed else 'u'}{bits}(...)",
            )
        return self.builder.convert("sext" if one.type.signed else "zext", one.op, "i64")
