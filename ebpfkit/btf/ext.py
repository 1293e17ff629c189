"""`.BTF.ext`: where functions and source lines begin in each ELF section, and the CO-RE relocations.

Offsets here are bytes inside an ELF section; rebasing to the slots of a linked program is `elf.linker`'s.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ebpfkit.btf.types import Btf
from ebpfkit.errors import ObjectError

__all__ = ["BtfExt", "CoreRelo", "FuncRecord", "LineRecord", "encode_ext"]

PLACE = ".BTF.ext"


class FuncRecord(NamedTuple):
    """A function begins `offset` bytes into its section; `type_id` is its FUNC."""

    offset: int
    type_id: int


class LineRecord(NamedTuple):
    """The instruction `offset` bytes into its section begins line `line`; names are string offsets into the BTF."""

    offset: int
    file_name_off: int
    line_off: int
    line: int
    column: int


class CoreRelo(NamedTuple):
    """The instruction `offset` bytes into its section depends on the target's types; `access` is like "0:1:2"."""

    offset: int
    type_id: int
    access: str
    kind: int


@dataclass(frozen=True, slots=True)
class BtfExt:
    """The records of each ELF section by its name, in ascending order of offset."""

    funcs: Mapping[str, tuple[FuncRecord, ...]] = field(default_factory=dict)
    lines: Mapping[str, tuple[LineRecord, ...]] = field(default_factory=dict)
    relos: Mapping[str, tuple[CoreRelo, ...]] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, btf: Btf) -> BtfExt:
        """Read a `.BTF.ext` section that belongs to `btf`. Raises ObjectError with the place."""
        order = ">" if btf.big_endian else "<"
        if len(data) < 24:
            raise ObjectError(f"{len(data)} bytes are too few for a header of 24", place=PLACE)
        magic, version, flags, header_size = struct.unpack_from(f"{order}HBBI", data)
        if magic != 0xEB9F:
            raise ObjectError(f"magic {magic:#x} is not 0xeb9f in the byte order of .BTF", place=f"{PLACE}+0x0")
        if version != 1 or flags:
            raise ObjectError(
                f"version {version} with flags {flags:#x} is not known (1 with 0 is)", place=f"{PLACE}+0x2"
            )
        if header_size < 24 or header_size > len(data):
            raise ObjectError(f"header size {header_size} is not within 24..{len(data)}", place=f"{PLACE}+0x4")
        reader = _Reader(data, order, header_size, btf)
        return cls(reader.read_funcs(), reader.read_lines(), reader.read_relos() if header_size >= 32 else {})


class _Reader:
    def __init__(self, data: bytes, order: str, header_size: int, btf: Btf) -> None:
        self.data = data
        self.order = order
        self.header_size = header_size
        self.btf = btf
        self._names: dict[int, str] = {}

    def read_funcs(self) -> dict[str, tuple[FuncRecord, ...]]:
        count = len(self.btf.types)
        found: dict[str, list[FuncRecord]] = {}
        for section, position, values in self._records(8, "II", 8, "func_info"):
            if values[1] >= count:
                raise ObjectError(
                    f"function type id {values[1]} is not within 0..{count - 1}", place=f"{PLACE}+{position:#x}"
                )
            found.setdefault(section, []).append(FuncRecord(*values))
        return {section: tuple(sorted(records)) for section, records in found.items()}

    def read_lines(self) -> dict[str, tuple[LineRecord, ...]]:
        limit = len(self.btf.strings)
        found: dict[str, list[LineRecord]] = {}
        for section, position, (offset, file_off, line_off, where) in self._records(16, "IIII", 16, "line_info"):
            if file_off >= limit or line_off >= limit:
                raise ObjectError(
                    f"string offsets {file_off}, {line_off} are outside {limit} bytes", place=f"{PLACE}+{position:#x}"
                )
            found.setdefault(section, []).append(LineRecord(offset, file_off, line_off, where >> 10, where & 0x3FF))
        # The sort is stable on the offset alone: of two records for one instruction the later one in the file counts.
        return {section: tuple(sorted(records, key=lambda record: record.offset)) for section, records in found.items()}

    def read_relos(self) -> dict[str, tuple[CoreRelo, ...]]:
        count = len(self.btf.types)
        found: dict[str, list[CoreRelo]] = {}
        for section, position, (offset, type_id, access_off, kind) in self._records(24, "IIII", 16, "core_relo"):
            if type_id >= count:
                raise ObjectError(f"type id {type_id} is not within 0..{count - 1}", place=f"{PLACE}+{position:#x}")
            found.setdefault(section, []).append(CoreRelo(offset, type_id, self._string(access_off, position), kind))
        return {section: tuple(sorted(records)) for section, records in found.items()}

    def _string(self, offset: int, position: int) -> str:
        found = self._names.get(offset)
        if found is None:
            if offset >= len(self.btf.strings) or self.btf.strings.find(b"\0", offset, offset + 4096) < 0:
                raise ObjectError(f"string offset {offset} is not that of a name", place=f"{PLACE}+{position:#x}")
            found = self._names[offset] = self.btf.string(offset)
        return found

    def _records(self, header_at: int, row: str, minimum: int, what: str) -> list[tuple[str, int, tuple[int, ...]]]:
        """(section, position, fields) of every record of one of the three parts."""
        part, length = struct.unpack_from(f"{self.order}II", self.data, header_at)
        if not length:
            return []
        position, end = self.header_size + part, self.header_size + part + length
        if end > len(self.data) or length < 4 or part % 4:
            raise ObjectError(
                f"{what} at {part}+{length} is outside {len(self.data)} bytes", place=f"{PLACE}+{header_at:#x}"
            )
        (size,) = struct.unpack_from(f"{self.order}I", self.data, position)
        if size < minimum or size % 4:
            raise ObjectError(
                f"{what} records of {size} bytes are no multiple of 4 from {minimum}", place=f"{PLACE}+{position:#x}"
            )
        position += 4
        unpack = struct.Struct(f"{self.order}{row}").unpack_from
        found = []
        while position < end:
            if position + 8 > end:
                raise ObjectError(f"a section header of {what} is cut off", place=f"{PLACE}+{position:#x}")
            name_off, count = struct.unpack_from(f"{self.order}II", self.data, position)
            section = self._string(name_off, position)
            position += 8
            if not count or position + count * size > end:
                raise ObjectError(f"{count} {what} records do not fit", place=f"{PLACE}+{position - 4:#x}")
            for _ in range(count):
                found.append((section, position, unpack(self.data, position)))
                position += size
        return found


def encode_ext(ext: BtfExt, string_offset: Callable[[str], int], *, big_endian: bool = False) -> bytes:
    """A `.BTF.ext` section; `string_offset` gives the place of a section's name or an access path in the BTF's strings.

    The string offsets in line records are taken as they are.
    """
    order = ">" if big_endian else "<"

    def part(table: Mapping[str, Sequence[bytes]], size: int) -> bytes:
        if not any(table.values()):
            return b""
        rows = [
            struct.pack(f"{order}II", string_offset(section), len(records)) + b"".join(records)
            for section, records in table.items()
            if records
        ]
        return struct.pack(f"{order}I", size) + b"".join(rows)

    funcs = part({s: [struct.pack(f"{order}II", *row) for row in rows] for s, rows in ext.funcs.items()}, 8)
    lines = part({
        section: [
            struct.pack(f"{order}IIII", r.offset, r.file_name_off, r.line_off, r.line << 10 | r.column) for r in rows
        ]
        for section, rows in ext.lines.items()
    }, 16)  # fmt: skip
    relos = part({
        section: [struct.pack(f"{order}IIII", r.offset, r.type_id, string_offset(r.access), r.kind) for r in rows]
        for section, rows in ext.relos.items()
    }, 16)  # fmt: skip
    places = (0, len(funcs), len(funcs), len(lines), len(funcs) + len(lines), len(relos))
    return struct.pack(f"{order}HBBI6I", 0xEB9F, 1, 0, 32, *places) + funcs + lines + relos
