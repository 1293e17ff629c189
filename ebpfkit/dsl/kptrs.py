"""Objects that programs allocate, and pointers to them in map values: `new`, `drop`, `Kptr` (kernel 6.2)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import Run, current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.typeinfo import Field, StructType

__all__ = ["Kptr", "drop", "new"]

T = TypeVar("T", bound=Struct)
_TOKENS = itertools.count(1)
_KEPT: dict[int, bytearray] = {}
"""Objects that map values in memory point to, by what stands there for a pointer."""


def new(kind: type[T], /) -> T | None:
    """A zeroed object of its own (bpf_obj_new), or None without memory.

    Every path must `drop` it, or put it into a map's value with `swap`.
    """
    run = _running("new()")
    made = kind.zero()
    run.allocated.append(made._region)
    return made


def drop(thing: Struct, /) -> None:
    """Give an object back (bpf_obj_drop); the view dies."""
    _let_go(_running("drop()"), thing, "it was dropped")


class Kptr(Generic[T]):
    """A pointer to an object, as a field of a map's value; it is never named in a constructor.

    node: bpf.Kptr[Node] = bpf.Kptr[Node]()      # what stands behind = is for type checkers, and may be left out
    """

    __slots__ = ("_offset", "_region")
    __ebpf_type__: ClassVar[StructType]
    pointee: ClassVar[Any]
    _classes: ClassVar[dict[Any, type[Any]]] = {}
    _region: Region
    _offset: int

    if not TYPE_CHECKING:

        def __class_getitem__(cls, kind):
            if isinstance(kind, TypeVar):
                return super().__class_getitem__(kind)
            if not isinstance(kind, type) or not issubclass(kind, Struct):
                refuse("bad-type", "a Kptr points to a structure", "write Kptr[Node]")
            if kind not in cls._classes:
                made = type(f"Kptr[{kind.__name__}]", (Kptr,), {"__slots__": ()})
                made.pointee = kind
                field = Field("pointee", kind.__ebpf_type__, 0)
                made.__ebpf_type__ = StructType("kptr", (field,), 8, 8, opaque=True)
                cls._classes[kind] = made
            return cls._classes[kind]

    @classmethod
    def __ebpf_load__(cls, region: Region, offset: int) -> Self:
        view = cls.__new__(cls)
        view._region, view._offset = region, offset
        return view

    @classmethod
    def __ebpf_store__(cls, region: Region, offset: int, value: object) -> None:
        refuse("read-only", "a Kptr cannot be assigned", "write value.field.swap(object)")

    def swap(self, thing: T | None, /) -> T | None:
        """Put an object, or None, in (bpf_kptr_xchg): what was there before, which is then the program's own."""
        run = _running("swap()")
        if self._region.kind is not RegionKind.MAP:
            refuse(
                "bad-kptr", f"this pointer lies in {self._region.kind.value}", "use the one of a value that a map gave"
            )
        token = 0
        if thing is not None:
            token = next(_TOKENS)
            _KEPT[token] = cast(bytearray, thing._region.data)
            _let_go(run, thing, "it was put into a map's value")
        before = int.from_bytes(self._region.read(self._offset, 8), "little")
        self._region.write(self._offset, token.to_bytes(8, "little"))
        data = _KEPT.pop(before, None)
        if data is None:
            return None
        region = Region(data)
        run.allocated.append(region)
        return cast(T, self.pointee.__ebpf_load__(region, 0))


def _running(what: str) -> Run:
    run = current_run()
    if run is None:
        refuse("program-only", f"{what} has a meaning only in a running program")
    if run.locked:
        refuse("in-lock", f"{what} is called while a spin lock is held", "call it before or after the with")
    return run


def _let_go(run: Run, thing: Struct, why: str) -> None:
    if thing._region not in run.allocated or thing._region.dead:
        refuse("bad-kptr", "this is no object that the program has allocated", "make one with bpf.new(T)")
    run.allocated.remove(thing._region)
    thing._region.dead = why
