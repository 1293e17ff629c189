"""What a wide load may name: `map[...]`, `subprog[...]`, `var[...]`, by name, number or place.

The rest of a line's grammar is `statement`'s.
"""

from __future__ import annotations

import re

from ebpfkit._bits import S32_MAX, S32_MIN, U32_MAX
from ebpfkit.asm.insn import FuncRef, Instruction, Label, MapRef, MapValueRef, Register, VarRef
from ebpfkit.asm.isa import OPCODES, Opcode
from ebpfkit.asm.scanner import NAME, Scanner, is_label_name

__all__ = ["ReferenceScanner"]

_BRACKET = re.compile(r"\[([^\]]*)\]")
_TAGGED = re.compile(r"(fd|id|idx|btf):([0-9]{1,10})(?: fd:([0-9]{1,10}))?", re.ASCII)


class ReferenceScanner(Scanner):
    """A line, and the references on it."""

    def read_reference(self, word: str, dst: Register, at: int) -> Instruction:
        """`map[...]`, `subprog[...]` or `var[...]`, whose word has been read."""
        readers = {"map": self.read_map, "subprog": self.read_subprog, "var": self.read_var}
        if word not in readers:
            raise self.error(f"{word!r} is nothing a wide load can refer to", "map", at)
        return readers[word](dst)

    def hash_name(self, kind: type[FuncRef]) -> FuncRef | None:
        if not self.take("#"):
            return None
        name = self.accept(NAME)
        if not name:
            raise self.error("expected a name behind #")
        return kind(name[0])

    def bracket(self, form: str) -> str:
        found = self.accept(_BRACKET)
        if not found:
            raise self.error("expected brackets", form)
        return found[1].strip()

    def tagged(self, inside: str, tags: tuple[str, ...], form: str) -> tuple[str, int, int] | None:
        found = _TAGGED.fullmatch(inside)
        if not found:
            if not NAME.fullmatch(inside):
                raise self.error(f"{inside!r} is no name and no number", form)
            return None
        if found[1] not in tags or int(found[2]) > U32_MAX or int(found[3] or 0) > U32_MAX:
            raise self.error(f"{inside!r} does not fit here", form)
        if found[3] and found[1] != "btf":
            raise self.error(f"{inside!r} has two numbers", form)
        return found[1], int(found[2]), int(found[3] or 0)

    def symbol(self) -> str | None:
        ref = self.hash_name(FuncRef)
        return ref.name if ref else None

    def read_map(self, dst: Register) -> Instruction:
        inside = self.bracket("map")
        number = self.tagged(inside, ("fd", "id", "idx"), "map")
        has_index = self.take("[0]")
        at = self.skip()
        is_value = has_index or self.text.startswith("+", at)
        offset = self.offset("map", 33) if is_value else 0
        if offset < 0:
            raise self.error("the offset into a map value is not negative", "map", at)
        name = self.symbol() if number else inside
        low = number[1] if number else 0
        stem = "LDDW_MAP_IDX" if number and number[0] == "idx" else "LDDW_MAP"
        if is_value:
            op: Opcode = OPCODES[f"{stem}_VALUE"]
            value_ref = MapValueRef(name, offset) if name else None
            return Instruction(op, dst, imm=low | offset << 32, ref=value_ref)
        op = OPCODES["LDDW_MAP_FD" if stem == "LDDW_MAP" else stem]
        return Instruction(op, dst, imm=low, ref=MapRef(name) if name else None)

    def read_subprog(self, dst: Register) -> Instruction:
        op = OPCODES["LDDW_FUNC"]
        inside = self.bracket("subprog")
        if is_label_name(inside):
            return Instruction(op, dst, ref=Label(inside))
        if not re.fullmatch(r"[+-][0-9]{1,10}", inside, re.ASCII) or not S32_MIN <= int(inside) <= S32_MAX:
            raise self.error(f"{inside!r} is no label and no distance", "subprog")
        return Instruction(op, dst, imm=int(inside) & U32_MAX, ref=self.hash_name(FuncRef))

    def read_var(self, dst: Register) -> Instruction:
        op = OPCODES["LDDW_VAR"]
        inside = self.bracket("var")
        number = self.tagged(inside, ("btf",), "var")
        if number is None:
            return Instruction(op, dst, ref=VarRef(inside))
        name = self.symbol()
        imm = number[1] | number[2] << 32
        return Instruction(op, dst, imm=imm, ref=VarRef(name, number[1]) if name else None)
