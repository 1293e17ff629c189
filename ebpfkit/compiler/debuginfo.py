"""Debug metadata for LLVM, from which its BPF back end makes BTF: types, functions, lines and map definitions.

Belongs here: the numbered metadata nodes and nothing of code generation. `DebugDirectivesOnly` gives the full BTF
without any DWARF. A file that is not on disk (a notebook cell) brings its text along, so that the BTF has its lines.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ebpfkit.compiler.ir import Extern, Function, Param, Place, Scope
from ebpfkit.dsl.kernel_structs import Address
from ebpfkit.dsl.typeinfo import ArrayType, BitsType, Field, IntType, StructType, TypeInfo

__all__ = ["DebugInfo", "quote"]

ADDRESS = Address.__ebpf_type__
"""A pointer, which programs see as a number."""


def quote(text: str) -> str:
    """Text as LLVM's assembly writes it between quotes."""
    return "".join(
        chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in text.encode(errors="surrogateescape")
    )


class DebugInfo:
    """Metadata nodes by number, each made once. `sources`: text of the files that are not on disk."""

    def __init__(self, main_file: str, sources: dict[str, str]) -> None:
        self._lines: list[str] = []
        self._known: dict[object, int] = {}
        self._sources = sources
        self._unit = self._reserve()
        self._globals: list[int] = []
        self._main_file = main_file
        self._flags = [
            self.node('!{i32 2, !"Debug Info Version", i32 3}'),
            self.node('!{i32 7, !"Dwarf Version", i32 5}'),
        ]

    def _reserve(self) -> int:
        self._lines.append("")
        return len(self._lines) - 1

    def node(self, text: str) -> int:
        """The number of a node with this text; equal uniqued texts share one."""
        if text.startswith("distinct"):
            number = self._reserve()
            self._lines[number] = text
            return number
        if text not in self._known:
            self._known[text] = self._reserve()
            self._lines[self._known[text]] = text
        return self._known[text]

    def file(self, path: str) -> int:
        directory, name = os.path.split(path)
        source = f', source: "{quote(self._sources[path])}"' if path in self._sources else ""
        return self.node(f'!DIFile(filename: "{quote(name)}", directory: "{quote(directory)}"{source})')

    def finish(self) -> str:
        """All nodes and the named metadata as text."""
        globals_ = self.node("!{" + ", ".join(f"!{g}" for g in self._globals) + "}")
        self._lines[self._unit] = (
            f"distinct !DICompileUnit(language: DW_LANG_Python, file: !{self.file(self._main_file)}, "
            'producer: "ebpfkit", isOptimized: true, runtimeVersion: 0, emissionKind: DebugDirectivesOnly, '
            f"globals: !{globals_}, splitDebugInlining: false, nameTableKind: None)"
        )
        out = [f"!llvm.dbg.cu = !{{!{self._unit}}}"]
        out.append("!llvm.module.flags = !{" + ", ".join(f"!{f}" for f in self._flags) + "}")
        out += [f"!{number} = {text}" for number, text in enumerate(self._lines)]
        return "\n".join(out) + "\n"

    # Types

    def integer(self, name: str, bits: int, encoding: str = "unsigned") -> int:
        return self.node(f'!DIBasicType(name: "{quote(name)}", size: {bits}, encoding: DW_ATE_{encoding})')

    def pointer(self, base: int) -> int:
        return self.node(f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: !{base}, size: 64)")

    def array(self, element: int, count: int, bits: int) -> int:
        range_ = self.node(f"!DISubrange(count: {count})")
        elements = self.node(f"!{{!{range_}}}")
        return self.node(
            f"!DICompositeType(tag: DW_TAG_array_type, baseType: !{element}, size: {bits}, elements: !{elements})"
        )

    def type(self, info: TypeInfo) -> int:
        """The node of a DSL type; the same type is one node."""
        if info in self._known:
            return self._known[info]
        number = self._make_type(info)
        self._known[info] = number
        return number

    def _make_type(self, info: TypeInfo) -> int:
        if isinstance(info, IntType):
            if info == ADDRESS:
                return self.node("!DIDerivedType(tag: DW_TAG_pointer_type, baseType: null, size: 64)")
            if info.enum:
                members = self.node(
                    "!{" + ", ".join(f"!{self._enumerator(n, v, info.signed)}" for n, v in info.enum) + "}"
                )
                base = self.integer(f"{'s' if info.signed else 'u'}{info.bits}", info.bits)
                return self.node(
                    f'!DICompositeType(tag: DW_TAG_enumeration_type, name: "{quote(info.name)}", baseType: !{base}, '
                    f"size: {info.bits}, elements: !{members})"
                )
            encoding = "boolean" if info.is_bool else "signed" if info.signed else "unsigned"
            return self.integer(info.name, info.bits, encoding)
        if isinstance(info, BitsType):
            return self.integer(f"u{info.unit * 8}", info.unit * 8)
        if isinstance(info, ArrayType):
            return self.array(self.type(info.element), info.length, info.size * 8)
        if info.opaque and info.name == "kptr":
            return self._kept_pointer(info)
        return self._make_struct(info)

    def _enumerator(self, name: str, value: int, signed: bool) -> int:
        return self.node(
            f'!DIEnumerator(name: "{quote(name)}", value: {value}{"" if signed else ", isUnsigned: true"})'
        )

    def _kept_pointer(self, info: StructType) -> int:
        """A pointer in a map's value to an object that a program has allocated."""
        tag = self.node('!{!"btf_type_tag", !"kptr"}')
        tags = self.node(f"!{{!{tag}}}")
        pointee = self.type(info.fields[0].type)
        return self.node(
            f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: !{pointee}, size: 64, annotations: !{tags})"
        )

    def _make_struct(self, info: StructType) -> int:
        """A structure; bit fields that share a unit become one member named after all of them."""
        members: list[tuple[str, int, int, int]] = []
        units: dict[int, list[Field]] = {}
        for field in info.fields:
            if isinstance(field.type, BitsType):
                units.setdefault(field.offset, []).append(field)
        for field in info.fields:
            name = field.name
            if isinstance(field.type, BitsType):
                if units[field.offset][0] is not field:
                    continue
                name = "_".join(f.name for f in units[field.offset])
            members.append((name, self.type(field.type), field.type.size, field.offset))
        return self.structure(info.name, members, info.size, union=info.union)

    def structure(
        self, name: str, members: Sequence[tuple[str, int, int, int]], size: int, *, union: bool = False
    ) -> int:
        """A structure or union of (name, type node, bytes, offset) members."""
        nodes = [
            self.node(
                f'!DIDerivedType(tag: DW_TAG_member, name: "{quote(member)}", baseType: !{type_}, '
                f"size: {bytes_ * 8}, offset: {offset * 8})"
            )
            for member, type_, bytes_, offset in members
        ]
        elements = self.node("!{" + ", ".join(f"!{n}" for n in nodes) + "}")
        named = f'name: "{quote(name)}", ' if name else ""
        return self.node(
            f"distinct !DICompositeType(tag: DW_TAG_{'union' if union else 'structure'}_type, {named}size: {size * 8}, "
            f"elements: !{elements})"
        )

    # Functions and lines

    def subprogram(self, scope: Scope, *, context: str | None) -> int:
        """A function: the program itself, whose argument points to a `context`, or (None) an inlined one."""
        if scope in self._known:
            return self._known[scope]
        arguments = [] if context is None else [("ctx", self._context(context))]
        result = self.integer("int", 32, "signed")
        return self._subprogram(scope, result, arguments, local=context is None, kept=context is not None)

    def function(self, function: Function) -> int:
        """A subprogram with the types of its parameters."""
        whole = function.linkage == "global"
        arguments = [(p.arg.name, self._parameter(p, function.context, complete=whole)) for p in function.params]
        given = function.result_info
        result = self.integer("int", 32, "signed") if given is None else self.type(given)
        return self._subprogram(function.scope, result, arguments, local=function.linkage == "static", kept=True)

    def extern(self, extern: Extern, context: str) -> int:
        """The declaration of a kernel function, in the file that is compiled."""
        result = "null" if extern.result is None else f"!{self._parameter(extern.result, context, complete=True)}"
        params = [f"!{self._parameter(p, context, complete=True)}" for p in extern.params]
        types = self.node("!{" + ", ".join([result, *params]) + "}")
        routine = self.node(f"!DISubroutineType(types: !{types})")
        file = self.file(self._main_file)
        return self.node(
            f'!DISubprogram(name: "{quote(extern.name)}", scope: !{file}, file: !{file}, line: 1, type: !{routine}, '
            "flags: DIFlagPrototyped, spFlags: DISPFlagOptimized)"
        )

    def _parameter(self, param: Param, context: str, *, complete: bool) -> int:
        """The node of a parameter's or result's type."""
        if param.void:
            return self.node("!DIDerivedType(tag: DW_TAG_pointer_type, baseType: null, size: 64)")
        if param.info is None:
            return self._context(context, complete=complete)
        return self.pointer(self.type(param.info)) if param.pointee else self.type(param.info)

    def _context(self, name: str, *, complete: bool = False) -> int:
        """A pointer to the context, which only its name tells; of a global function it must be a complete structure."""
        if complete:
            if ("context", name) not in self._known:
                self._known["context", name] = self.structure(name, [], 0)
            return self.pointer(self._known["context", name])
        nothing = self.node("!{}")
        return self.pointer(
            self.node(
                f'!DICompositeType(tag: DW_TAG_structure_type, name: "{name}", size: 0, '
                f"flags: DIFlagFwdDecl, elements: !{nothing})"
            )
        )

    def _subprogram(
        self, scope: Scope, result: int, arguments: Sequence[tuple[str, int]], *, local: bool, kept: bool
    ) -> int:
        """The node of a function of these (name, type) arguments; `kept`: it has code of its own."""
        number = self._known[scope] = self._reserve()
        file = self.file(scope.file)
        types = self.node("!{" + ", ".join(f"!{node}" for node in (result, *(node for _, node in arguments))) + "}")
        routine = self.node(f"!DISubroutineType(types: !{types})")
        rest = ""
        if kept:
            names = [
                self.node(
                    f'!DILocalVariable(name: "{quote(name)}", arg: {position}, scope: !{number}, file: !{file}, '
                    f"line: {scope.line}, type: !{node})"
                )
                for position, (name, node) in enumerate(arguments, 1)
            ]
            retained = self.node("!{" + ", ".join(f"!{name}" for name in names) + "}")
            rest = f", retainedNodes: !{retained}"
        flags = ("DISPFlagLocalToUnit | " if local else "") + "DISPFlagDefinition | DISPFlagOptimized"
        self._lines[number] = (
            f'distinct !DISubprogram(name: "{quote(scope.name)}", scope: !{file}, file: !{file}, line: {scope.line}, '
            f"type: !{routine}, scopeLine: {scope.line}, flags: DIFlagPrototyped, spFlags: {flags}, "
            f"unit: !{self._unit}{rest})"
        )
        return number

    def location(self, place: Place) -> int:
        """The node of a place, with its inlining chain."""
        key = (place.span.line, place.span.column, id(place.scope))  # scopes live as long as their functions
        if key not in self._known:
            self._known[key] = self._make_location(place)
        return self._known[key]

    def _make_location(self, place: Place) -> int:
        scope = place.scope
        inlined = ""
        if scope.parent is not None and scope.call is not None:
            at = self.location(Place(scope.call, scope.parent))
            inlined = f", inlinedAt: !{at}"
        number = self.subprogram(scope, context=None)
        return self.node(
            f"!DILocation(line: {place.span.line}, column: {place.span.column}, scope: !{number}{inlined})"
        )

    # Maps

    def map_variable(
        self, name: str, file: str, line: int, members: Sequence[tuple[str, int]], values: int | None = None
    ) -> int:
        """A `.maps` variable: an anonymous structure whose members are pointers to these types.

        `values` is the type of a flexible array behind them: what the map's slots hold at first.
        """
        fields = [(member, self.pointer(type_), 8, 8 * i) for i, (member, type_) in enumerate(members)]
        size = 8 * len(fields)
        if values is not None:
            fields.append(("values", values, 0, size))
        return self.variable(name, file, line, self.structure("", fields, size))

    def program_pointers(self) -> int:
        """A flexible array of pointers to functions from a pointer to an int."""
        nothing = self.node("!DIDerivedType(tag: DW_TAG_pointer_type, baseType: null, size: 64)")
        types = self.node(f"!{{!{self.integer('int', 32, 'signed')}, !{nothing}}}")
        return self.array(self.pointer(self.node(f"!DISubroutineType(types: !{types})")), 0, 0)

    def map_pointers(self, members: Sequence[tuple[str, int]]) -> int:
        """A flexible array of pointers to maps that are defined by these members."""
        fields = [(member, self.pointer(type_), 8, 8 * i) for i, (member, type_) in enumerate(members)]
        return self.array(self.pointer(self.structure("", fields, 8 * len(fields))), 0, 0)

    def variable(self, name: str, file: str, line: int, type_: int) -> int:
        """A global variable of a type node."""
        where = self.file(file)
        variable = self.node(
            f'distinct !DIGlobalVariable(name: "{quote(name)}", scope: !{self._unit}, file: !{where}, line: {line}, '
            f"type: !{type_}, isLocal: false, isDefinition: true)"
        )
        expression = self.node(f"!DIGlobalVariableExpression(var: !{variable}, expr: !DIExpression())")
        self._globals.append(expression)
        return expression

    def number(self, value: int) -> int:
        """The type that carries a number in a map definition: an array of `value` ints."""
        return self.array(self.integer("int", 32, "signed"), value, value * 32)
