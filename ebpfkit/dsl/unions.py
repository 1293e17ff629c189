"""Unions: members that share their bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.typeinfo import StructType

__all__ = ["Union"]

if TYPE_CHECKING:  # apart from Struct, whose constructor names every field

    class Union:
        """The base of unions: every member begins at the first byte; the largest says how long it is.

            class Address(bpf.Union):
                v4: IPv4Addr
                v6: IPv6Addr

        `Address(v4=...)` names one member, and what it does not fill is zero.
        """

        __ebpf_type__: StructType

        def __init__(self, **member: Any) -> None: ...

        @classmethod
        def zero(cls) -> Self: ...

        @classmethod
        def from_bytes(cls, data: bytes) -> Self: ...

        def copy(self) -> Self: ...

        def __bytes__(self) -> bytes: ...

else:

    class Union(Struct):
        """The base of unions: every member begins at the first byte; the largest says how long it is.

            class Address(bpf.Union):
                v4: IPv4Addr
                v6: IPv6Addr

        `Address(v4=...)` names one member, and what it does not fill is zero.
        """

        _union = True

        def __init__(self, **member: Any) -> None:
            info = self.__ebpf_type__
            if len(member) != 1:
                names = ", ".join(field.name for field in info.fields)
                hint = f"one of {names}, or {info.name}.zero()"
                refuse("bad-union", f"{info.name}(...) takes one of its members", hint)
            super().__init__(**member)
