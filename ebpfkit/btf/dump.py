"""A whole set of types as one C header that compiles: declarations in order, sizes and offsets as BTF has them.

Single declarations are `cformat`'s; what padding a structure needs is `layout`'s. A name that C could not tell from an
earlier one gets "___2" behind it, as a CO-RE flavour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ebpfkit.btf import types as t
from ebpfkit.btf.layout import Gap, Layouts
from ebpfkit.btf.wire import ids_of_kinds
from ebpfkit.errors import ObjectError

__all__ = ["dump_c"]

MAX_DEPTH = 200
# What one definition, and all together, may take: types within types make text that grows without end.
MAX_STEPS, MAX_ALL_STEPS = 100_000, 20_000_000
_BUILTIN = frozenset(["unsigned", "signed", "char", "short", "int", "long", "__int128", "_Bool", "float", "double"])
_UNITS = {8: "char", 16: "short", 32: "int", 64: "long"}
_QUALIFIERS = {9: "volatile", 10: "const", 11: "restrict"}
_MODES = {1: "byte", 2: "HI", 8: "DI"}
_WRITTEN = frozenset([t.Struct.kind, t.Union.kind, t.Enum.kind, t.Enum64.kind, t.Typedef.kind, t.Fwd.kind])
_PATTERN_MARK = "\0"  # stands for the name in the text of a declaration that is kept
_KEYWORDS = frozenset([
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float",
    "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof",
    "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "_Bool",
])  # fmt: skip


def dump_c(btf: t.Btf, roots: Iterable[int] | None = None, *, guard: str = "__VMLINUX_H__") -> str:
    """A C header of the types `roots` (ids) and what they need; by default of all types.

    Raises ObjectError for types that no C text could describe.
    """
    dumper = _Dumper(btf)
    wanted = ids_of_kinds(btf, _WRITTEN) if roots is None else roots
    constants = []  # anonymous enumerations: written by themselves, unless something that is written holds them
    try:
        for type_id in wanted:
            type_ = btf.get(type_id)
            if type_.kind in _WRITTEN and type_.name:
                dumper.need(type_id, True, 0)
                dumper.finish_definition()
            elif isinstance(type_, t.Enum):
                constants.append(type_id)
        for type_id in constants:
            dumper.write_constants(type_id)
    except RecursionError:
        raise ObjectError("types nest too deeply", place=".BTF") from None
    return "\n".join([
        f"#ifndef {guard}", f"#define {guard}", "",
        "#ifndef BPF_NO_PRESERVE_ACCESS_INDEX",
        "#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)", "#endif", "",
        *dumper.lines,
        "#ifndef BPF_NO_PRESERVE_ACCESS_INDEX", "#pragma clang attribute pop", "#endif", "",
        f"#endif /* {guard} */", "",
    ])  # fmt: skip


class _Dumper:
    def __init__(self, btf: t.Btf) -> None:
        self.btf = btf
        self.layouts = Layouts(btf)
        self.lines: list[str] = []
        self._steps = 0  # of the definition being written
        self._all_steps = 0
        self._done: set[int] = set()
        self._declared: set[str] = set()
        self._busy: set[int] = set()
        self._tags: dict[int, str] = {}
        self._tag_counts: dict[str, int] = {}
        self._ordinary: dict[int, str] = {}
        self._ordinary_counts: dict[str, int] = {}
        self._declared_forwards: dict[str, str] = {}
        self._needed: set[int] = set()  # ids for which `need` has nothing left to do, negated: as complete types
        self._patterns: dict[int, tuple[str, str]] = {}
        self._inlined: set[int] = set()
        self._identifiers: dict[str, str] = {}
        self._types: list[t.BtfType | None] = [None] * len(btf.types)
        self._forwards = self._forward_targets()

    def _forward_targets(self) -> dict[tuple[str, bool], int]:
        """Forward declarations mean the first definition of their name."""
        found: dict[tuple[str, bool], int] = {}
        for type_id in ids_of_kinds(self.btf, (t.Struct.kind, t.Union.kind)):
            type_ = self._get(type_id)
            if type_.name:
                found.setdefault((type_.name, isinstance(type_, t.Union)), type_id)
        return found

    def _get(self, type_id: int) -> t.BtfType:
        found = self._types[type_id]
        if found is None:
            found = self._types[type_id] = self.btf.get(type_id)
        return found

    def need(self, type_id: int, complete: bool, depth: int) -> None:
        """Write what must stand before a use of this type; `complete`: its size must be known there."""
        key = -type_id if complete else type_id
        if key in self._needed:
            return
        self._need(type_id, self._get(type_id), complete, depth)
        self._needed.add(key)

    def _need(self, type_id: int, type_: t.BtfType, complete: bool, depth: int) -> None:
        self._steps += 1
        if depth > MAX_DEPTH or self._steps > MAX_STEPS:
            raise ObjectError(f"types nest too deeply or too often at id {type_id}", place=".BTF")
        match type_:
            case t.Struct() if type_.name and not complete:
                self._declare(type_id)
            case t.Struct():
                self._define_struct(type_id, type_, depth)
            case t.Enum() if type_.name:
                self._define_enum(type_id, type_)
            case t.Fwd():
                self._declare(type_id)
            case t.Typedef():
                self._define_typedef(type_id, type_, complete, depth)
            case t.Array():
                self.need(type_.type, True, depth + 1)
            case t.Ptr():
                self.need(type_.type, False, depth + 1)
            case t.FuncProto():
                self.need(type_.ret, False, depth + 1)
                for param in type_.params:
                    self.need(param.type, False, depth + 1)
            case t.Const() | t.Volatile() | t.Restrict() | t.TypeTag():
                self.need(type_.type, complete, depth + 1)
            case t.Int():
                self._define_int(type_id, type_)

    def finish_definition(self) -> None:
        """Begin to count anew what the next one takes."""
        self._all_steps += self._steps
        self._steps = 0
        if self._all_steps > MAX_ALL_STEPS:
            raise ObjectError(f"the types take more than {MAX_ALL_STEPS} steps to write", place=".BTF")

    # --- names ---

    def tag(self, type_id: int) -> str:
        """`struct name`, with a number behind where the name is taken."""
        type_ = self._get(type_id)
        if isinstance(type_, t.Fwd):
            target = self._forwards.get((type_.name, type_.is_union))
            if target is not None:
                return self.tag(target)
            word = "union" if type_.is_union else "struct"
        else:
            word = "enum" if isinstance(type_, t.Enum) else "union" if isinstance(type_, t.Union) else "struct"
        if not type_.name:
            return word
        found = self._tags.get(type_id)
        if found is None:
            # A forward without a definition is one type however often it is declared.
            key = f"{word} {type_.name}" if isinstance(type_, t.Fwd) else ""
            if key and key in self._declared_forwards:
                return self._declared_forwards[key]
            found = self._tags[type_id] = f"{word} {self._unique(type_.name, self._tag_counts)}"
            if key:
                self._declared_forwards[key] = found
        return found

    def ordinary(self, type_id: int, name: str) -> str:
        """A typedef's name, unique among typedefs and enumeration constants."""
        found = self._ordinary.get(type_id)
        if found is None:
            found = self._ordinary[type_id] = self._unique(name, self._ordinary_counts)
        return found

    def _unique(self, name: str, counts: dict[str, int]) -> str:
        text = _identifier(name)
        counts[text] = counts.get(text, 0) + 1
        return text if counts[text] == 1 else f"{text}___{counts[text]}"

    # --- definitions ---

    def _declare(self, type_id: int) -> None:
        tag = self.tag(type_id)
        if tag not in self._declared:
            self._declared.add(tag)
            self.lines += [f"{tag};", ""]

    def _define_int(self, type_id: int, type_: t.Int) -> None:
        """An integer of a name that is no C keyword (of another language) becomes a typedef."""
        if type_id in self._done or all(word in _BUILTIN for word in type_.name.split()):
            return
        self._done.add(type_id)
        if type_.name.startswith("__") and type_.size == 4 and "ARRAY_SIZE" in type_.name:
            return
        base = {1: "char", 2: "short", 4: "int", 8: "long", 16: "__int128"}.get(type_.size, "int")
        name = self.ordinary(type_id, type_.name)
        self.lines += [f"typedef {'signed' if type_.is_signed else 'unsigned'} {base} {name};", ""]

    def _define_typedef(self, type_id: int, type_: t.Typedef, complete: bool, depth: int) -> None:
        if type_id in self._done and not complete:
            return
        if type_id not in self._done:
            if type_id in self._busy:
                raise ObjectError(f"typedef {type_.name!r} refers to itself", place=".BTF")
            self._busy.add(type_id)
            self.need(type_.type, type_.name.startswith("__builtin_"), depth + 1)
            self._busy.discard(type_id)
            if type_id not in self._done:
                self._done.add(type_id)
                if not type_.name.startswith("__builtin_"):
                    name = self.ordinary(type_id, type_.name)
                    self.lines += [f"typedef {self.declaration(type_.type, name, depth)};", ""]
        if complete:
            self.need(type_.type, True, depth + 1)

    def _define_struct(self, type_id: int, type_: t.Struct, depth: int) -> None:
        if type_id in self._done:
            return
        if type_id in self._busy:
            raise ObjectError(f"structure {type_.name or type_id} contains itself", place=".BTF")
        self._busy.add(type_id)
        needed = self._needed
        for member in type_.members:
            if -member.type not in needed:
                self.need(member.type, True, depth + 1)
        self._busy.discard(type_id)
        if type_.name:
            self._done.add(type_id)
            tag = self.tag(type_id)
            self._declared.add(tag)
            self.lines += [*self._body(type_id, type_, tag, 0, depth), ""]
            self.lines[-2] += ";"

    def _define_enum(self, type_id: int, type_: t.Enum) -> None:
        if type_id in self._done:
            return
        self._done.add(type_id)
        self.lines += [*self._enum_body(type_id, type_, 0), ""]
        self.lines[-2] += ";"

    def write_constants(self, type_id: int) -> None:
        """An anonymous enumeration by itself, if nothing that was written holds it."""
        type_ = self._get(type_id)
        if isinstance(type_, t.Enum) and type_id not in self._inlined:
            self._define_enum(type_id, type_)

    # --- text ---

    def _body(self, type_id: int, type_: t.Struct, head: str, indent: int, depth: int) -> list[str]:
        if depth > MAX_DEPTH:
            raise ObjectError(f"structures nest too deeply at id {type_id}", place=".BTF")
        layout = self.layouts.of(type_id)
        pad = "\t" * (indent + 1)
        lines = [f"{head} {{"]
        gaps: dict[int, Gap] = {gap.before: gap for gap in layout.gaps}
        patterns, identifiers = self._patterns, self._identifiers
        for index, (member, member_type, _, bits) in enumerate(type_.members):
            if gaps and index in gaps:
                lines += _padding(gaps[index], pad)
            name = identifiers.get(member)
            if name is None:
                name = identifiers[member] = _identifier(member) if member else ""
            width = f": {bits}" if bits else ""
            pattern = patterns.get(member_type)
            if pattern is not None and name:
                lines.append(f"{pad}{pattern[0]}{name}{pattern[1]}{width};")
                continue
            text = self.declaration(member_type, name, depth + 1, indent + 1)
            if "\n" in text:
                lines += f"{pad}{text}{width};".split("\n")
            else:
                lines.append(f"{pad}{text}{width};")
        if len(type_.members) in gaps:
            lines += _padding(gaps[len(type_.members)], pad)
        if layout.filler:
            lines.append(f"{pad}unsigned char __size[{layout.filler}];")
        attributes = " __attribute__((packed))" if layout.packed else ""
        if layout.aligned:
            attributes += f" __attribute__((aligned({layout.aligned})))"
        return [*lines, "\t" * indent + "}" + attributes]

    def _enum_body(self, type_id: int, type_: t.Enum, indent: int) -> list[str]:
        pad = "\t" * (indent + 1)
        lines = [f"{self.tag(type_id)} {{"]
        for value in type_.values:
            name = self._unique(value.name, self._ordinary_counts)
            suffix = "" if -(1 << 31) <= value.value < 1 << 31 else "LL" if type_.signed else "ULL"
            number = f"(-{-value.value - 1}{suffix} - 1)" if value.value < 0 and suffix else f"{value.value}{suffix}"
            lines.append(f"{pad}{name} = {number},")
        if not type_.values:
            lines.append(f"{pad}{self._unique(f'__{type_.name or type_id}_empty', self._ordinary_counts)} = 0,")
        mode = _MODES.get(type_.size)
        return [*lines, "\t" * indent + "}" + (f" __attribute__((mode({mode})))" if mode else "")]

    def declaration(self, type_id: int, name: str, depth: int, indent: int = 0) -> str:
        """`name` declared with a type, anonymous structures written out."""
        pattern = self._patterns.get(type_id)
        if pattern is None:
            if not name:
                return self._declaration(type_id, name, depth, indent)
            text = self._declaration(type_id, _PATTERN_MARK, depth, indent)
            before, _, behind = text.partition(_PATTERN_MARK)
            if "{" in text:  # an anonymous structure: its text depends on where it stands
                return f"{before}{name}{behind}"
            pattern = self._patterns[type_id] = before, behind
        return f"{pattern[0]}{name}{pattern[1]}" if name else self._declaration(type_id, name, depth, indent)

    def _declaration(self, type_id: int, name: str, depth: int, indent: int) -> str:
        self._steps += 1
        if self._steps > MAX_STEPS or depth > MAX_DEPTH:
            raise ObjectError(f"types nest too deeply or too often at id {type_id}", place=".BTF")
        declarator = name
        behind_pointer = False
        for _ in range(t.MAX_DEPTH * 2):
            type_ = self._get(type_id)
            match type_:
                case t.Ptr():
                    declarator, behind_pointer, type_id = f"*{declarator}", True, type_.type
                    continue
                case t.Array():
                    declarator = f"({declarator})" if behind_pointer else declarator
                    declarator, type_id = f"{declarator}[{type_.nelems}]", type_.type
                case t.FuncProto():
                    declarator = f"({declarator})" if behind_pointer else declarator
                    declarator, type_id = f"{declarator}({self._params(type_, depth)})", type_.ret
                case t.Const() | t.Volatile() | t.Restrict():
                    word = _QUALIFIERS[type_.kind]
                    # "const *p" qualifies the pointer; anything else is qualified in front.
                    if isinstance(self.btf.resolve(type_.type), t.Ptr) and self._is_bare_pointer(type_.type):
                        declarator, type_id = f"{word} {declarator}".rstrip(), type_.type
                        continue
                    if isinstance(self._get(type_.type), t.FuncProto) or word == "restrict":
                        type_id = type_.type
                        continue
                    inner = self.declaration(type_.type, declarator, depth + 1, indent)
                    # A constant array of constants says it once.
                    return inner if inner.startswith(f"{word} ") else f"{word} {inner}"
                case t.TypeTag():
                    type_id = type_.type
                    continue
                case t.Typedef() if type_.name.startswith("__builtin_"):
                    # A compiler's own name for a type of its target: what it stands for here is what counts.
                    type_id = type_.type
                    continue
                case _:
                    return _join(self._base(type_id, type_, depth, indent), declarator)
            behind_pointer = False
        raise ObjectError(f"types refer to each other in a circle at id {type_id}", place=".BTF")

    def _is_bare_pointer(self, type_id: int) -> bool:
        """Whether qualifiers on this type belong behind the star."""
        while isinstance(type_ := self._get(type_id), t.Const | t.Volatile | t.Restrict | t.TypeTag):
            type_id = type_.type
        return isinstance(type_, t.Ptr)

    def _params(self, proto: t.FuncProto, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise ObjectError("functions nest too deeply", place=".BTF")
        params = ["..." if not p.name and not p.type else self.declaration(p.type, "", depth + 1) for p in proto.params]
        return ", ".join(params) if params else "void"

    def _base(self, type_id: int, type_: t.BtfType, depth: int, indent: int) -> str:
        match type_:
            case t.Void():
                return "void"
            case t.Struct() if not type_.name:
                return "\n".join(self._body(type_id, type_, self.tag(type_id), indent, depth + 1))
            case t.Enum() if not type_.name:
                self._inlined.add(type_id)
                return "\n".join(self._enum_body(type_id, type_, indent))
            case t.Struct() | t.Enum() | t.Fwd():
                return self.tag(type_id)
            case t.Typedef():
                return self.ordinary(type_id, type_.name)
            case t.Int() if all(word in _BUILTIN for word in type_.name.split()):
                return type_.name
            case t.Int():
                return self.ordinary(type_id, type_.name)
            case t.Float():
                return type_.name
        raise ObjectError(f"{t.KIND_NAMES[type_.kind].lower()} {type_.name!r} has no place in a type", place=".BTF")


def _padding(gap: Gap, pad: str) -> Iterator[str]:
    for unit, width in gap.units():
        yield f"{pad}{_UNITS[unit]} : {width};"


def _join(base: str, declarator: str) -> str:
    return f"{base} {declarator}" if declarator and not declarator.startswith("[") else base + declarator


def _identifier(name: str) -> str:
    """A name as C allows it: other languages' (`Option<u32>`) get underscores."""
    if name.isascii() and name.isidentifier():
        return f"_{name}" if name in _KEYWORDS else name
    text = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return f"_{text}" if text[:1].isdigit() or text in _KEYWORDS else text
