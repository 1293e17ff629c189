"""Types as Python classes of the DSL: a module of text, with every size and offset as BTF has it.

The classes are packed and pad themselves where BTF does, so their layout does not depend on alignment rules. What the
DSL has no word for (bit-fields, unions, floats) becomes bytes with a comment that says what they are.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable

from ebpfkit.btf import types as t
from ebpfkit.btf.cformat import format_type
from ebpfkit.errors import ObjectError

__all__ = ["dump_python"]

MAX_DEPTH = 100
_SIZES = (1, 2, 4, 8)


def dump_python(btf: t.Btf, roots: Iterable[int] | None = None, *, stub: bool = False, source: str = "BTF") -> str:
    """A Python module with a class for each structure in `roots` (ids; default: all that have a name).

    `stub` writes the same as a .pyi file. Structures and enumerations they contain come along. Raises ObjectError for
    types that contain themselves.
    """
    writer = _Writer(btf)
    wanted = range(1, len(btf.types)) if roots is None else roots
    for type_id in wanted:
        type_id = btf.strip(type_id)
        type_ = btf.get(type_id)
        if isinstance(type_, t.Struct) and type_.name:
            writer.class_of(type_id, 0)
        elif isinstance(type_, t.Enum):
            writer.constants(type_id, type_)
    imports = sorted(writer.used)
    lines = [
        f'"""Types of {source}, written by `ebpfkit btf dump --python`."""',
        "",
        "from __future__ import annotations",
        "",
    ]
    if writer.arrays:
        lines += ["from typing import Literal", ""]
    lines += [f"from ebpfkit import {', '.join(imports)}", ""] if imports else []
    names = ", ".join(f'"{name}"' for name in writer.names)
    lines += [f"__all__ = [{names}]", ""] if not stub else [f"__all__: list[str] = [{names}]", ""]
    if writer.enumerators:
        lines += [f"{name}: int" if stub else f"{name} = {value}" for name, value in writer.enumerators.items()] + [""]
    return "\n".join(lines + writer.lines).rstrip("\n") + "\n"


class _Writer:
    def __init__(self, btf: t.Btf) -> None:
        self.btf = btf
        self.lines: list[str] = []
        self.used: set[str] = set()
        self.arrays = False
        self.enumerators: dict[str, int] = {}
        self.names: list[str] = []
        self._classes: dict[int, str] = {}
        self._busy: set[int] = set()
        self._taken: dict[str, int] = {}
        self._seen_enums: set[int] = set()

    def constants(self, type_id: int, type_: t.Enum) -> None:
        """The constants of an enumeration as module-level numbers."""
        if type_id in self._seen_enums:
            return
        self._seen_enums.add(type_id)
        for value in type_.values:
            name = self._unique(value.name)
            self.enumerators[name] = value.value
            self.names.append(name)

    def class_of(self, type_id: int, depth: int, proposed: str = "") -> str:
        """The name of a structure's class, which is written on first use."""
        found = self._classes.get(type_id)
        if found is not None:
            return found
        type_ = self.btf.get(type_id)
        if not isinstance(type_, t.Struct) or type_id in self._busy or depth > MAX_DEPTH:
            raise ObjectError(f"type {type_id} contains itself or nests too deeply", place=".BTF")
        self._busy.add(type_id)
        name = self._unique(type_.name or proposed or f"anonymous_{type_id}")
        fields = self._fields(type_, name, depth)
        self._busy.discard(type_id)
        self._classes[type_id] = name
        self.names.append(name)
        self.used.add("Struct")
        self.lines += [
            "",
            f"class {name}(Struct, packed=True):",
            f'    """{_describe(type_)}, {type_.size} bytes."""',
            "",
        ]
        self.lines += fields or ["    pass"]
        self.lines.append("")
        return name

    def _fields(self, struct_: t.Struct, owner: str, depth: int) -> list[str]:
        if isinstance(struct_, t.Union):
            parts = ", ".join(f"{m.name or '(anonymous)'}: {_c(self.btf, m.type)}" for m in struct_.members)
            return [f"    raw: {self._bytes(struct_.size)}  # one of {_short(parts)}"] if struct_.size else []
        lines = []
        at = 0  # bytes written so far
        taken: set[str] = set()
        pending: list[t.Member] = []

        def pad(until: int) -> None:
            nonlocal at
            if until > at:
                what = ", ".join(f"{m.name or 'unnamed'}: {m.bitfield_size}" for m in pending)
                note = f"  # bits {_short(what)}" if pending else ""
                lines.append(f"    {'bits' if pending else 'pad'}_{at}: {self._bytes(until - at)}{note}")
                at = until
            pending.clear()

        for index, member in enumerate(struct_.members):
            if member.bitfield_size or member.bit_offset % 8:
                pending.append(member)
                continue
            size = self.btf.size_of(member.type)
            if member.offset < at or member.offset + size > struct_.size:
                raise ObjectError(
                    f"member {member.name!r} of {struct_.name!r} overlaps the one before it", place=".BTF"
                )
            pad(member.offset)
            if not size:
                lines.append(f"    # {_c(self.btf, member.type)} {member.name} begins here, of no size of its own")
                continue
            name = _field_name(member.name or f"anonymous_{index}", taken)
            text, note = self._type(member.type, f"{owner}_{member.name or f'anonymous_{index}'}", depth)
            lines.append(f"    {name}: {text}" + (f"  # {note}" if note else ""))
            at = member.offset + size
        pad(struct_.size)
        return lines

    def _type(self, type_id: int, proposed: str, depth: int) -> tuple[str, str]:
        """The annotation of a field, and what should be said about it."""
        type_id = self.btf.strip(type_id)
        type_ = self.btf.get(type_id)
        size = self.btf.size_of(type_id)
        match type_:
            case t.Int() if type_.is_bool and size == 1:
                return self._use("bool_"), ""
            case t.Int() if size in _SIZES:
                return self._use(f"{'s' if type_.is_signed else 'u'}{size * 8}"), ""
            case t.Enum():
                self.constants(type_id, type_)
                return self._use(f"{'s' if type_.signed else 'u'}{size * 8}"), f"enum {type_.name}".rstrip()
            case t.Ptr():
                return self._use("u64"), _c(self.btf, type_id)
            case t.Struct():
                return self.class_of(type_id, depth + 1, proposed), ""
            case t.Array() if type_.nelems and self.btf.size_of(type_.type):
                self.arrays = True
                element, note = self._type(type_.type, proposed, depth + 1)
                return f"{self._use('array')}[{element}, Literal[{type_.nelems}]]", note
        return self._bytes(size), _c(self.btf, type_id)

    def _bytes(self, size: int) -> str:
        self.arrays = True
        return f"{self._use('array')}[{self._use('u8')}, Literal[{size}]]"

    def _use(self, name: str) -> str:
        self.used.add(name)
        return name

    def _unique(self, name: str) -> str:
        text = _identifier(name)
        if text in ("Struct", "Literal", "array", "bool_") or (text[:1] in "us" and text[1:].isdigit()):
            text += "_"
        self._taken[text] = self._taken.get(text, 0) + 1
        return text if self._taken[text] == 1 else f"{text}___{self._taken[text]}"


def _identifier(name: str) -> str:
    text = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    text = f"_{text}" if text[:1].isdigit() or not text else text
    return f"{text}_" if keyword.iskeyword(text) or text.startswith("__") else text


# Names that a field cannot have because the base class has them.
_RESERVED = frozenset(["zero", "copy", "from_bytes", "mro", "submit", "discard"])


def _field_name(name: str, taken: set[str]) -> str:
    text = _identifier(name.lstrip("_") or "unnamed")
    while text in taken or text in _RESERVED:
        text += "_"
    taken.add(text)
    return text


def _describe(type_: t.Struct) -> str:
    word = "union" if isinstance(type_, t.Union) else "struct"
    return f"{word} {_identifier(type_.name)}" if type_.name else f"An anonymous {word}"


def _c(btf: t.Btf, type_id: int) -> str:
    return _short(format_type(btf, type_id))


def _short(text: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 60 else f"{text[:57]}..."
