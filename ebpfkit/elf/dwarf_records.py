"""Line and function records for the kernel, made from DWARF's lines where the object has none of its own.

The kernel prints a line's text, which DWARF does not have, and the files that an object names are not opened: the text
is the place, "filter.c:12". Reading DWARF is `dwarf`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ebpfkit.btf import types as t
from ebpfkit.btf.ext import LineRecord
from ebpfkit.elf.dwarf import DwarfLine
from ebpfkit.elf.relocate import Code

__all__ = ["RecordMaker"]

MAX_RECORDS = 1 << 18
MAX_COLUMN = 0x3FF


class RecordMaker:
    """Collects the strings of line records behind those of the object's types (None: it has none)."""

    def __init__(self, btf: t.Btf | None, *, big_endian: bool = False) -> None:
        self._btf = btf
        self._big_endian = big_endian
        self._strings = bytearray(btf.strings if btf is not None else b"\0")
        self._offsets: dict[str, int] = {}
        self._count = 0

    def lines(self, lines: Iterable[DwarfLine]) -> Sequence[LineRecord]:
        """The records of one section; none when there are far too many."""
        found = []
        for line in lines:
            self._count += 1
            if self._count > MAX_RECORDS:
                return ()
            if line.line:
                text = f"{line.file.rpartition('/')[2]}:{line.line}"
                where = self._offset(line.file), self._offset(text)
                found.append(LineRecord(line.offset, *where, line.line, min(line.column, MAX_COLUMN)))
        return found

    def _offset(self, text: str) -> int:
        found = self._offsets.get(text)
        if found is None:
            found = self._offsets[text] = len(self._strings)
            self._strings += text.encode(errors="replace").replace(b"\0", b"?") + b"\0"
        return found

    def finish(self, codes: Iterable[Code]) -> t.Btf | None:
        """The types with the new strings; functions get the type of their name, or a made one in an object without."""
        if not self._offsets:
            return self._btf
        functions = [function for code in codes for function in code.functions if not function.type_id]
        if self._btf is None:
            types: list[t.BtfType] = [t.VOID, t.Int("int", 4, t.Int.SIGNED, 32), t.FuncProto("", 1)]
            for function in functions:
                function.type_id = len(types)
                types.append(t.Func(function.name, 2, t.Linkage.STATIC))
            return t.Btf(types, bytes(self._strings), big_endian=self._big_endian)
        for function in functions:
            named = [i for i in self._btf.ids(function.name) if isinstance(self._btf.types[i], t.Func)]
            function.type_id = named[0] if len(named) == 1 else 0
        return t.Btf(list(self._btf.types), bytes(self._strings), big_endian=self._big_endian)
