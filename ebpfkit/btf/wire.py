"""The wire format of `.BTF`: header, types, strings, in either byte order.

Facts: linux/btf.h and the kernel's documentation of BTF. Decoding first walks the type section, checking every size,
and then decodes each type; with `lazy` the second step waits for the type's first use, which makes a kernel's 150,000
types affordable. Meaning (sizes, names, chains) is in `types`.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

from ebpfkit.btf import types as t
from ebpfkit.errors import ObjectError

__all__ = ["MAGIC", "decode", "encode", "ids_of_kinds", "offsets_of"]

MAGIC = 0xEB9F
HEADER_SIZE = 24
MAX_TYPES = 0x000F_FFFF
MAX_NAME = 4096  # bytes of one name; the kernel allows 511
MAX_NAME_BYTES = 64 << 20  # of all decoded names: bounds the memory that overlapping names can cost

# 32-bit words of a type: a fixed part and a part per element (vlen). A fixed part of 0 marks an unknown kind.
_EXTRA = {
    1: (1, 0),
    3: (3, 0),
    4: (0, 3),
    5: (0, 3),
    6: (0, 2),
    13: (0, 2),
    14: (1, 0),
    15: (0, 3),
    17: (1, 0),
    19: (0, 3),
}
_LAST_KIND = 19
_FIXED = tuple(3 + _EXTRA.get(kind, (0, 0))[0] if 0 < kind <= _LAST_KIND else 0 for kind in range(32))
_PER_ELEMENT = tuple(_EXTRA.get(kind, (0, 0))[1] for kind in range(32))


class _Strings(dict[int, str]):
    """Names by their offset, decoded when first asked for."""

    def __init__(self, data: bytes, base: t.Btf | None) -> None:
        super().__init__({0: ""})
        self.data = data
        self.base = base
        self.base_size = _strings_size(base)
        self.budget = MAX_NAME_BYTES

    def __missing__(self, offset: int) -> str:
        found = self[offset] = self._decode(offset)
        return found

    def _decode(self, offset: int) -> str:
        if offset < self.base_size and self.base is not None:
            return self.base.string(offset)
        start = offset - self.base_size
        if start >= len(self.data):
            raise ObjectError(f"name offset {offset} is outside the {len(self.data)} bytes of strings", place=".BTF")
        end = self.data.find(b"\0", start, start + MAX_NAME)
        if end < 0:
            raise ObjectError(f"a name is longer than {MAX_NAME} bytes", place=f".BTF strings+{offset:#x}")
        self.budget -= end - start
        if self.budget < 0:
            raise ObjectError(
                f"names overlap so much that they take more than {MAX_NAME_BYTES >> 20} MiB", place=".BTF strings"
            )
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            raise ObjectError("a name is not UTF-8", place=f".BTF strings+{offset:#x}") from None


def _strings_size(base: t.Btf | None) -> int:
    return 0 if base is None else len(base.strings) + _strings_size(base.base)


def decode(data: bytes, *, base: t.Btf | None = None, lazy: bool = False, offsets: array[int] | None = None) -> t.Btf:
    """Read BTF; `types.Btf.from_bytes` is the public name. `offsets` is where each type begins, when that is known.

    Offsets that cannot be those of this BTF are ignored.
    """
    if len(data) < HEADER_SIZE:
        raise ObjectError(f"{len(data)} bytes are too few for a header of {HEADER_SIZE}", place=".BTF")
    magic = data[:2]
    if magic not in (b"\x9f\xeb", b"\xeb\x9f"):
        raise ObjectError(f"magic {magic.hex()} is not that of BTF (9feb or eb9f)", place=".BTF+0x0")
    big_endian = magic == b"\xeb\x9f"
    order = ">" if big_endian else "<"
    version, flags, header_size, type_off, type_len, str_off, str_len = struct.unpack_from(f"{order}BBIIIII", data, 2)
    if version != 1:
        raise ObjectError(f"version {version} is not known (1 is)", place=".BTF+0x2")
    if flags:
        raise ObjectError(f"unknown flags {flags:#x}", place=".BTF+0x3")
    if header_size < HEADER_SIZE or header_size > len(data):
        raise ObjectError(f"header size {header_size} is not within {HEADER_SIZE}..{len(data)}", place=".BTF+0x4")
    body = len(data) - header_size
    if type_off % 4 or type_off + type_len > body:
        raise ObjectError(
            f"types at {type_off}+{type_len} are outside the {body} bytes behind the header", place=".BTF+0x8"
        )
    if str_off + str_len > body:
        raise ObjectError(
            f"strings at {str_off}+{str_len} are outside the {body} bytes behind the header", place=".BTF+0x10"
        )
    strings = data[header_size + str_off : header_size + str_off + str_len]
    if not base and not str_len:
        raise ObjectError("the string section is empty", place=".BTF+0x14")
    if strings and (strings[-1] or (base is None and strings[0])):
        raise ObjectError("the string section does not begin and end with a zero byte", place=".BTF strings")
    start = header_size + type_off
    if offsets is None or not _is_plausible(offsets, start, start + type_len):
        offsets = _walk(data, start, start + type_len, order)
    decoder = _Decoder(data, start, order, _Strings(strings, base), (len(base.types) if base else 1) + len(offsets))
    lazy_types = _LazyTypes(decoder, offsets, base, strings)
    types: Sequence[t.BtfType] = lazy_types if lazy else list(lazy_types)
    return t.Btf(types, strings, big_endian=big_endian, data=bytes(data), base=base)


def offsets_of(btf: t.Btf) -> array[int] | None:
    """Where each type of lazily decoded BTF begins, in bytes from its start; None for other BTF."""
    return btf.types.offsets if isinstance(btf.types, _LazyTypes) else None


def _is_plausible(offsets: array[int], start: int, end: int) -> bool:
    """Whether these may be the beginnings of types from `start` to `end`: ascending words, all inside."""
    if not offsets:
        return start == end
    values = list(offsets)
    return values[0] == start and values[-1] + 12 <= end and values == sorted(values) and len(values) <= MAX_TYPES


def _walk(data: bytes, start: int, end: int, order: str) -> array[int]:
    """The offset of every type, with each one's size checked against the section's end."""
    if (end - start) % 4:
        raise ObjectError(f"the type section of {end - start} bytes is no whole number of words", place=".BTF+0xc")
    words: Sequence[int] = memoryview(data)[start:end].cast("I")
    if order != ("<" if sys.byteorder == "little" else ">"):
        swapped = array("I", words)
        swapped.byteswap()
        words = swapped
    offsets = array("I")
    add = offsets.append
    fixed, per_element = _FIXED, _PER_ELEMENT
    at, count = 0, len(words)
    # A kernel has 130,000 types: this loop is what opening its BTF costs.
    while at < count - 2:
        info = words[at + 1]
        step = fixed[info >> 24 & 0x1F]
        if not step or info & 0x60FF_0000:
            raise _bad_info(info, at)
        add(start + at * 4)
        at += step + (info & 0xFFFF) * per_element[info >> 24 & 0x1F]
    if at < count:
        raise ObjectError(f"the last type is cut off after {(count - at) * 4} bytes", place=f".BTF types+{at * 4:#x}")
    if at > count:
        raise ObjectError("the last type reaches behind the type section", place=f".BTF types+{offsets[-1] - start:#x}")
    if len(offsets) > MAX_TYPES:
        raise ObjectError(f"{len(offsets)} types are more than the {MAX_TYPES} that BTF allows", place=".BTF types")
    return offsets


def _bad_info(info: int, at: int) -> ObjectError:
    kind = info >> 24 & 0x1F
    what = f"unknown bits in info {info:#x}" if 0 < kind <= _LAST_KIND else f"kind {kind} is not known"
    return ObjectError(what, place=f".BTF types+{at * 4:#x}")


def ids_of_kinds(btf: t.Btf, kinds: Iterable[int]) -> list[int]:
    """The ids of every type of some kinds, in order; other types are not decoded."""
    wanted = frozenset(kinds)
    lazy = btf.types
    if not isinstance(lazy, _LazyTypes):
        return [type_id for type_id, type_ in enumerate(lazy) if type_.kind in wanted]
    own = lazy.kinds()
    found = [type_id for type_id, kind in enumerate(own, len(lazy) - len(own)) if kind in wanted]
    return [*(ids_of_kinds(btf.base, wanted) if btf.base is not None else ()), *found]


class _LazyTypes(Sequence[t.BtfType]):
    """Types that are decoded when asked for, and kept."""

    def __init__(self, decoder: _Decoder, offsets: array[int], base: t.Btf | None, strings: bytes) -> None:
        self._decoder = decoder
        self.offsets = offsets
        self._base = base
        self._first = len(base.types) if base else 1
        self._strings = strings
        self._cache: dict[int, t.BtfType] = {}
        self._count = self._first + len(offsets)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> t.BtfType: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[t.BtfType]: ...
    def __getitem__(self, index: int | slice) -> t.BtfType | Sequence[t.BtfType]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        found = self._cache.get(index)
        if found is None:
            found = self._first_look(index)
        return found

    def _first_look(self, index: int) -> t.BtfType:
        if not 0 <= index < self._count:
            return self[self._count + index] if -self._count <= index < 0 else self._raise(index)
        if index < self._first:
            return self._base.types[index] if self._base else t.VOID
        found = self._cache[index] = self._decoder.decode(self.offsets[index - self._first])
        return found

    def _raise(self, index: int) -> t.BtfType:
        raise IndexError(f"type id {index} is not within 0..{len(self) - 1}")

    def kinds(self) -> bytes:
        """The kind of each type that is not the base's."""
        data, at = self._decoder.data, 7 if self._decoder.order == "<" else 4
        return bytes([data[offset + at] & 0x1F for offset in self.offsets])

    def ids_of_name(self, name: str) -> list[int]:
        """The ids of that name, found through the string table without decoding any other type."""
        found = list(self._base.ids(name)) if self._base else []
        offset = self._base.string_offset(name) if self._base else None
        wanted = [] if offset is None else [offset]
        own = find_string(self._strings, name.encode())
        if own is not None:
            wanted.append(own + self._decoder.strings.base_size)
        return found + [type_id for offset in wanted for type_id in self._named(offset)]

    def _named(self, name_offset: int) -> Iterator[int]:
        """The ids whose first word is that string offset: a search for its bytes, for each hit that begins a type."""
        data, offsets = self._decoder.data, self.offsets
        if not offsets:
            return
        needle = struct.pack(f"{self._decoder.order}I", name_offset)
        at = data.find(needle, offsets[0])
        while 0 <= at <= offsets[-1]:
            index = bisect_left(offsets, at)
            if offsets[index] == at:
                yield self._first + index
            at = data.find(needle, at + 1)

    def __iter__(self) -> Iterator[t.BtfType]:
        for index in range(len(self)):
            yield self[index]


def find_string(strings: bytes, name: bytes) -> int | None:
    """The offset of a whole string in a string table, or None."""
    if not name:
        return 0
    found = strings.find(b"\0" + name + b"\0")
    return None if found < 0 else found + 1


def string_offset(btf: t.Btf, text: str) -> int | None:
    """The offset of a whole string in the table of a BTF or of those it extends, or None."""
    found = string_offset(btf.base, text) if btf.base else None
    if found is None:
        own = find_string(btf.strings, text.encode())
        found = None if own is None else own + _strings_size(btf.base)
    return found


_SIMPLE = {2: t.Ptr, 8: t.Typedef, 9: t.Volatile, 10: t.Const, 11: t.Restrict}


class _Decoder:
    """Decodes one type at an offset; every id and name in it is checked."""

    def __init__(self, data: bytes, start: int, order: str, strings: _Strings, count: int) -> None:
        self.data = data
        self.start = start
        self.order = order
        self.strings = strings
        self.count = count
        self._head = struct.Struct(f"{order}III").unpack_from
        self._two = struct.Struct(f"{order}Ii")
        self._two_unsigned = struct.Struct(f"{order}II")
        self._three = struct.Struct(f"{order}III")
        self._readers: dict[int, Callable[[str, int, int, int, int], t.BtfType]] = {
            1: self._int, 3: self._array, 4: self._struct, 5: self._struct, 6: self._enum, 13: self._func_proto,
            14: self._var, 15: self._datasec, 17: self._decl_tag, 19: self._enum64,
        }  # fmt: skip

    def decode(self, position: int) -> t.BtfType:
        name_off, info, value = self._head(self.data, position)
        kind = info >> 24 & 0x1F
        name = self.strings[name_off]
        simple = _SIMPLE.get(kind)
        if simple is not None and value < self.count and not info & 0x8000_FFFF:
            return simple(name, value)
        flag = bool(info >> 31)
        if flag and kind not in (4, 5, 6, 7, 17, 18, 19):
            raise self._error(position, f"{t.KIND_NAMES[kind]} has a kind flag, which means nothing there")
        reader = self._readers.get(kind)
        if reader is not None:
            return reader(name, info, value, position, position + 12)
        vlen = info & 0xFFFF
        if kind == 12:
            if vlen > 2:
                raise self._error(position, f"linkage {vlen} of function {name!r} is not 0, 1 or 2")
            return t.Func(name, self._id(value, position), vlen)
        if vlen:
            raise self._error(position, f"{t.KIND_NAMES[kind]} says it has {vlen} elements and can have none")
        if kind == 7:
            return t.Fwd(name, flag)
        if kind == 16:
            return t.Float(name, value)
        if kind == 18:
            return t.TypeTag(name, self._id(value, position), flag)
        return _SIMPLE[kind](name, self._id(value, position))

    def _error(self, position: int, message: str) -> ObjectError:
        return ObjectError(message, place=f".BTF types+{position - self.start:#x}")

    def _id(self, type_id: int, position: int) -> int:
        if type_id >= self.count:
            raise self._error(position, f"type id {type_id} is not within 0..{self.count - 1}")
        return type_id

    def _rows(self, row: struct.Struct, info: int, body: int) -> Iterator[tuple[Any, ...]]:
        return row.iter_unpack(self.data[body : body + (info & 0xFFFF) * row.size])

    def _int(self, name: str, info: int, size: int, position: int, body: int) -> t.BtfType:
        (word,) = struct.unpack_from(f"{self.order}I", self.data, body)
        bits, bit_offset, encoding = word & 0xFF, word >> 16 & 0xFF, word >> 24 & 0x0F
        if size not in (1, 2, 4, 8, 16) or bits + bit_offset > size * 8:
            raise self._error(
                position, f"integer {name!r} of {size} bytes cannot hold {bits} bits from bit {bit_offset}"
            )
        return t.Int(name, size, encoding, bits, bit_offset)

    def _array(self, name: str, info: int, size: int, position: int, body: int) -> t.BtfType:
        element, index, nelems = self._three.unpack_from(self.data, body)
        return t.Array(name, self._id(element, position), self._id(index, position), nelems)

    def _struct(self, name: str, info: int, size: int, position: int, body: int) -> t.BtfType:
        flag = bool(info >> 31)
        names, count, make = self.strings, self.count, tuple.__new__
        members = []
        # A kernel has 100,000 members: this loop is much of what reading its structures costs.
        for name_off, type_id, offset in self._rows(self._three, info, body):
            if type_id >= count:
                self._id(type_id, position)
            width, bits = (offset >> 24, offset & 0xFF_FFFF) if flag else (0, offset)
            members.append(make(t.Member, (names[name_off], type_id, bits, width)))
        kind = t.Struct if info >> 24 & 0x1F == 4 else t.Union
        return kind(name, size, tuple(members), flag)

    def _enum(self, name: str, info: int, size: int, position: int, body: int) -> t.BtfType:
        signed = bool(info >> 31)
        if size not in (1, 2, 4, 8):
            raise self._error(position, f"enumeration {name!r} has a size of {size} bytes")
        row = self._two if signed else self._two_unsigned
        names, make = self.strings, tuple.__new__
        values = tuple([make(t.Enumerator, (names[n], v)) for n, v in self._rows(row, info, body)])
        return t.Enum(name, size, values, signed)

    def _enum64(self, name: str, info: int, size: int, position: int, body: int) -> t.BtfType:
        signed = bool(info >> 31)
        if size not in (1, 2, 4, 8):
            raise self._error(position, f"enumeration {name!r} has a size of {size} bytes")
        values = []
        for name_off, low, high in self._rows(self._three, info, body):
            value = high << 32 | low
            values.append(t.Enumerator(self.strings[name_off], value - (1 << 64) if signed and value >> 63 else value))
        return t.Enum64(name, size, tuple(values), signed)

    def _func_proto(self, name: str, info: int, ret: int, position: int, body: int) -> t.BtfType:
        names, count, make = self.strings, self.count, tuple.__new__
        params = []
        for name_off, type_id in self._rows(self._two_unsigned, info, body):
            if type_id >= count:
                self._id(type_id, position)
            params.append(make(t.Param, (names[name_off], type_id)))
        return t.FuncProto(name, self._id(ret, position), tuple(params))

    def _var(self, name: str, info: int, type_id: int, position: int, body: int) -> t.BtfType:
        (linkage,) = struct.unpack_from(f"{self.order}I", self.data, body)
        if linkage > 2:
            raise self._error(position, f"linkage {linkage} of variable {name!r} is not 0, 1 or 2")
        return t.Var(name, self._id(type_id, position), linkage)

    def _datasec(self, name: str, info: int, size: int, position: int, body: int) -> t.BtfType:
        rows = self._rows(self._three, info, body)
        return t.Datasec(
            name, size, tuple(t.VarSecinfo(self._id(i, position), offset, length) for i, offset, length in rows)
        )

    def _decl_tag(self, name: str, info: int, type_id: int, position: int, body: int) -> t.BtfType:
        (component,) = struct.unpack_from(f"{self.order}i", self.data, body)
        return t.DeclTag(name, self._id(type_id, position), component, bool(info >> 31))


class _StringTable:
    """Adds strings behind an existing table, reusing what is there."""

    def __init__(self, btf: t.Btf) -> None:
        self._base = btf.base
        self._base_size = _strings_size(btf.base)
        self.data = bytearray(btf.strings or b"\0")
        self.offsets: dict[str, int] = {}
        position = 0
        for piece in bytes(self.data).split(b"\0")[:-1]:
            self.offsets.setdefault(piece.decode(errors="replace"), position)
            position += len(piece) + 1

    def offset(self, text: str) -> int:
        if not text:
            return 0
        found = self.offsets.get(text)
        if found is None and self._base is not None:
            shared = self._base.string_offset(text)
            if shared is not None:
                return shared
        if found is None:
            found = self.offsets[text] = len(self.data)
            encoded = text.encode()
            if b"\0" in encoded:
                raise ObjectError(f"the name {text!r} holds a zero byte", place=".BTF strings")
            self.data += encoded + b"\0"
        return found + self._base_size


def encode(btf: t.Btf) -> tuple[bytes, bytes]:
    """The `.BTF` section of a set of types and its string table, in which existing strings keep their offsets."""
    order = ">" if btf.big_endian else "<"
    strings = _StringTable(btf)
    first = len(btf.base.types) if btf.base else 1
    body = b"".join(_encode_type(type_, order, strings) for type_ in list(btf.types)[first:])
    table = bytes(strings.data)
    header = struct.pack(f"{order}HBBIIIII", MAGIC, 1, 0, HEADER_SIZE, 0, len(body), len(body), len(table))
    return header + body + table, table


def _encode_type(type_: t.BtfType, order: str, strings: _StringTable) -> bytes:
    try:
        value, vlen, flag, tail = _parts(type_, order, strings)
        if vlen > 0xFFFF:
            raise ObjectError(f"{vlen} elements are more than the 65535 that BTF allows", place=f".BTF {type_.name}")
        info = type_.kind << 24 | vlen | flag << 31
        return struct.pack(f"{order}III", strings.offset(type_.name), info, value) + tail
    except struct.error as error:
        raise ObjectError(f"a number does not fit its field: {error}", place=f".BTF {type_.name or type_}") from None


def _parts(type_: t.BtfType, order: str, strings: _StringTable) -> tuple[int, int, bool, bytes]:
    """size or type, vlen, kind flag and what follows the 12 bytes."""
    pack, name = struct.pack, strings.offset
    match type_:
        case t.Int():
            return type_.size, 0, False, pack(f"{order}I", type_.encoding << 24 | type_.bit_offset << 16 | type_.bits)
        case t.Array():
            return 0, 0, False, pack(f"{order}III", type_.type, type_.index_type, type_.nelems)
        case t.Struct():
            flag = type_.kind_flag or any(m.bitfield_size for m in type_.members)
            rows = [
                pack(
                    f"{order}III", name(m.name), m.type, m.bitfield_size << 24 | m.bit_offset if flag else m.bit_offset
                )
                for m in type_.members
            ]
            return type_.size, len(rows), flag, b"".join(rows)
        case t.Enum64():
            rows = [
                pack(f"{order}III", name(v.name), v.value & 0xFFFF_FFFF, v.value >> 32 & 0xFFFF_FFFF)
                for v in type_.values
            ]
            return type_.size, len(rows), type_.signed, b"".join(rows)
        case t.Enum():
            row = f"{order}Ii" if type_.signed else f"{order}II"
            return (
                type_.size,
                len(type_.values),
                type_.signed,
                b"".join(pack(row, name(v.name), v.value) for v in type_.values),
            )
        case t.FuncProto():
            return (
                type_.ret,
                len(type_.params),
                False,
                b"".join(pack(f"{order}II", name(p.name), p.type) for p in type_.params),
            )
        case t.Func():
            return type_.type, type_.linkage, False, b""
        case t.Var():
            return type_.type, 0, False, pack(f"{order}I", type_.linkage)
        case t.Datasec():
            return (
                type_.size,
                len(type_.vars),
                False,
                b"".join(pack(f"{order}III", v.type, v.offset, v.size) for v in type_.vars),
            )
        case t.DeclTag():
            return type_.type, 0, type_.attribute, pack(f"{order}i", type_.component)
        case t.TypeTag():
            return type_.type, 0, type_.attribute, b""
        case t.Fwd():
            return 0, 0, type_.is_union, b""
        case t.Float():
            return type_.size, 0, False, b""
        case t.Ptr() | t.Typedef() | t.Volatile() | t.Const() | t.Restrict():
            return type_.type, 0, False, b""
    raise TypeError(f"{type_!r} is no BTF type")
