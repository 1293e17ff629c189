"""Enumerations as types of fields, keys and values: an `enum.IntEnum` that is told its width."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.typeinfo import IntType
from ebpfkit.dsl.types import Integer

__all__ = ["enum"]

E = TypeVar("E", bound=IntEnum)


def enum(kind: type[Integer], /) -> Callable[[type[E]], type[E]]:
    """Give an `enum.IntEnum` the width of an integer type, so that it can be a field.

        @bpf.enum(u8)
        class Kind(enum.IntEnum):
            SMALL = 1
            LARGE = 2

    What is read is a member, or the plain number where no member has it: whoever sends packets keeps to no enumeration.
    """
    given: object = kind
    if not isinstance(given, type) or not issubclass(given, Integer) or not hasattr(given, "__ebpf_type__"):
        refuse("bad-enum", f"an enumeration has the width of an integer type, not {getattr(given, '__name__', given)}")

    def decorate(cls: type[E]) -> type[E]:
        decorated: object = cls
        made: Any = cls
        if not isinstance(decorated, type) or not issubclass(decorated, IntEnum):
            refuse("bad-enum", "@enum(...) decorates an enum.IntEnum", "class Kind(enum.IntEnum):")
        for member in cls:
            if not kind._low <= member.value <= kind._high:
                refuse("bad-enum", f"{cls.__name__}.{member.name} = {member.value} does not fit {kind.__name__}")
        info = kind.__ebpf_type__
        members = tuple((member.name, member.value) for member in cls)
        made.__ebpf_type__ = IntType(cls.__name__, info.bits, info.signed, enum=members)

        def load(_: type[E], region: Region, offset: int) -> E | Integer:
            number = int.from_bytes(region.read(offset, info.size), sys.byteorder, signed=info.signed)
            return cls(number) if number in cls._value2member_map_ else kind(number)

        def store(_: type[E], region: Region, offset: int, value: object) -> None:
            region.write(offset, kind.accept(value).to_bytes(info.size, sys.byteorder, signed=info.signed))

        made.__ebpf_load__ = classmethod(load)
        made.__ebpf_store__ = classmethod(store)
        return cls

    return decorate
