"""Arrays of a fixed length: `array[u8, Literal[16]]` (or `array[u8, 16]` where no type checker looks).

An array in a structure, a packet or a map is a view of its bytes, as a structure is: elements are read and written in
place. Addresses, which are arrays with a name and copied as one value, are in `addresses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar, cast, get_args, get_origin

from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.typeinfo import ArrayType
from ebpfkit.dsl.types import Integer, info_of, type_name

__all__ = ["array"]

E = TypeVar("E")
N = TypeVar("N")


class array(Generic[E, N]):
    """`length` elements of one type in a row, without padding between them.

    >>> from ebpfkit.dsl.types import u8
    >>> list(array[u8, 2]([1, 2]))
    [u8(1), u8(2)]
    """

    __slots__ = ("_offset", "_region")
    __ebpf_type__: ClassVar[ArrayType]
    element: ClassVar[Any]
    _classes: ClassVar[dict[tuple[Any, int], type[Any]]] = {}
    _region: Region
    _offset: int

    if not TYPE_CHECKING:

        def __class_getitem__(cls, params):
            if not isinstance(params, tuple) or len(params) != 2:
                refuse("bad-array", "an array has an element type and a length", "write array[u8, Literal[16]]")
            element, length = params
            if get_origin(length) is Literal:
                (length,) = get_args(length)
            if isinstance(length, TypeVar):
                return super().__class_getitem__(params)
            if not isinstance(length, int) or isinstance(length, bool) or length < 1:
                refuse("bad-array", f"the length of an array is a positive number, not {length!r}")
            made = cls._classes.get((element, length))
            if made is None:
                info = ArrayType(info_of(element), int(length))
                made = type(f"array[{element.__name__}, {length}]", (array,), {"__slots__": ()})
                made.__ebpf_type__, made.element = info, element
                cls._classes[element, length] = made
            return made

    def __init__(self, elements: Sequence[E | int] | bytes = (), /) -> None:
        info = self.__ebpf_type__
        if len(elements) not in (0, info.length):
            refuse("bad-array", f"{type(self).__name__} has {info.length} elements, not {len(elements)}")
        self._region = Region(bytearray(info.size))
        self._offset = 0
        for index, element in enumerate(elements):
            self[index] = element

    @classmethod
    def __ebpf_load__(cls, region: Region, offset: int) -> Self:
        view = cls.__new__(cls)
        view._region = region
        view._offset = offset
        return view

    @classmethod
    def __ebpf_store__(cls, region: Region, offset: int, value: object) -> None:
        if isinstance(value, bytes) and len(value) == cls.__ebpf_type__.size:
            region.write(offset, value)
        elif isinstance(value, array) and value.__ebpf_type__ == cls.__ebpf_type__:
            region.write(offset, bytes(value))
        else:
            refuse("bad-type", f"a {type_name(value)} is not an {cls.__name__}")

    def _place(self, index: int) -> int:
        info = self.__ebpf_type__
        number = int(index)
        if not 0 <= number < info.length:
            refuse("array-index", f"index {number} is outside of {type(self).__name__}", "test the index first")
        return self._offset + number * info.element.size

    def __getitem__(self, index: int, /) -> E:
        return cast(E, self.element.__ebpf_load__(self._region, self._place(index)))

    def __setitem__(self, index: int, value: E | int, /) -> None:
        self.element.__ebpf_store__(self._region, self._place(index), value)

    def __len__(self) -> int:
        return self.__ebpf_type__.length

    def __iter__(self) -> Iterator[E]:
        return (self[index] for index in range(len(self)))

    def copy(self) -> Self:
        """The same elements in storage of their own."""
        made = type(self)()
        made._region.write(0, bytes(self))
        return made

    def __bytes__(self) -> bytes:
        return self._region.read(self._offset, self.__ebpf_type__.size)

    def __eq__(self, other: object, /) -> bool:
        if isinstance(other, bytes):
            return bytes(self) == other
        return isinstance(other, array) and self.__ebpf_type__ == other.__ebpf_type__ and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]  # its elements change

    def __repr__(self) -> str:
        shown = ", ".join(str(int(e)) if isinstance(e, Integer) else repr(e) for e in self)
        return f"{type(self).__name__}([{shown}])"
