"""One line of assembly text and a position in it: registers, numbers, places, and errors with a caret.

The grammar of instructions is `parser`'s.
"""

from __future__ import annotations

import re

from ebpfkit._bits import S32_MAX, S32_MIN, U32_MAX, to_signed
from ebpfkit.asm.insn import Label, Reference, Register
from ebpfkit.errors import AsmError
from ebpfkit.span import Span

__all__ = ["NAME", "PC", "REGISTER", "TARGET_NAME", "Scanner", "is_label_name"]

REGISTER = re.compile(r"([rw])([0-9]{1,2})\b", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})(?![\w.])", re.ASCII)
NAME = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
_SPACES = " \t\r"
_COMMENT = re.compile(r"(?:(?<=[ \t])|^)[;#]|//", re.ASCII)
_SIZE = re.compile(r"([us])(8|16|32|64)\b", re.ASCII)
PC = re.compile(r"pc(?=[+-])|(?=[+-][0-9])", re.ASCII)
TARGET_NAME = re.compile(r"<[^<>]*>")
_RESERVED_NAMES = re.compile(r"(?:[rw][0-9]+|exit|goto|gotol|gotox|may_goto|call|if|lock|store_release|pc)$", re.ASCII)

_FORMS = {
    "": "`r1 = 5`, `r1 += r2`, `r2 = *(u32 *)(r1 +0)`, `*(u64 *)(r10 -8) = r1`, "
    "`if r1 == 5 goto label`, `call name`, `exit`",
    "goto": "`goto label` or `goto pc+3`",
    "gotol": "`gotol label` or `gotol pc+3`",
    "gotox": "`gotox r1`",
    "may_goto": "`may_goto label` or `may_goto pc+3`",
    "if": "`if r1 == 5 goto label` or `if w1 s> w2 goto pc+3`",
    "call": "`call bpf_map_lookup_elem`, `call helper_name#1`, `call label` or `call pc+5`",
    "lock": "`lock *(u64 *)(r1 +0) += r2`",
    "store": "`*(u64 *)(r10 -8) = r1` or `*(u32 *)(r10 -8) = 5`",
    "load": "`r2 = *(u32 *)(r1 +0)`",
    "skb": "`r0 = *(u8 *)skb[14]` or `r0 = *(u8 *)skb[r6 + 14]`",
    "atomic": "`r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)` or `r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)`",
    "store_release": "`store_release((u64 *)(r1 +0), r2)`",
    "load_acquire": "`r2 = load_acquire((u64 *)(r1 +0))`",
    "assign": "`r1 = 5`, `r1 = r2`, `r1 = -r1`, `r1 = (s8)r2`, `r1 = be16 r1`, "
    "`r1 = *(u32 *)(r2 +0)`, `r1 = map[name] ll`",
    "alu": "`r1 += r2` or `w1 s>>= 3`",
    "addr_space_cast": "`r1 = addr_space_cast(r2, 0, 1)`",
    "map": "`r1 = map[name] ll`, `r1 = map[fd:5] ll` or `r1 = map[name][0]+8 ll`",
    "subprog": "`r1 = subprog[label] ll` or `r1 = subprog[+5] ll`",
    "var": "`r1 = var[name] ll` or `r1 = var[btf:5] ll`",
    "wide": "`r1 = 0x1122334455667788 ll`",
    "llvm_xchg": "`r1 = xchg_64(r2 + 0, r1)` or `w1 = xchg32_32(r2 + 0, w1)`",
    "llvm_cmpxchg": "`r0 = cmpxchg_64(r2 + 0, r0, r1)` or `w0 = cmpxchg32_32(r2 + 0, w0, w1)`",
    "place": "`[%r1+4]`",
    "target": "`ja +3` or `ja label`",
    "reserved": "`exit {imm=3}` with dst, src, off, imm or high",
}


def is_label_name(name: str) -> bool:
    """Whether a name can be a label: an identifier (dots and dollars too) that is no register and no mnemonic."""
    return bool(NAME.fullmatch(name)) and not _RESERVED_NAMES.match(name)


def _end_of_code(raw: str) -> int:
    """Where a line of compiler output ends and its comment, `#` or `//` outside of strings, begins."""
    if '"' not in raw:
        return min((at for at in (raw.find("#"), raw.find("//")) if at >= 0), default=len(raw))
    at, in_string = 0, False
    while at < len(raw):
        character = raw[at]
        if in_string and character == "\\":
            at += 1
        elif character == '"':
            in_string = not in_string
        elif not in_string and (character == "#" or raw.startswith("//", at)):
            return at
        at += 1
    return len(raw)


class Scanner:
    """One line of text, a position in it; every error names both."""

    def __init__(self, raw: str, number: int, file: str, *, hash_comments: bool = False) -> None:
        self.raw, self.number, self.file = raw, number, file
        if hash_comments:  # a compiler's text: only # and // begin comments, and not within strings
            self.text, self.comment = raw[: _end_of_code(raw)], ""
        else:
            found = _COMMENT.search(raw)
            self.text = raw[: found.start()] if found else raw
            self.comment = raw[found.end() :] if found else ""
        self.pos = 0
        self.start = 0
        self.code: int | None = None

    # scanning

    def span(self, at: int) -> Span:
        return Span(self.file, self.number, at + 1, self.number, max(at + 1, len(self.text.rstrip())) + 1, self.raw)

    def error(self, message: str, form: str | None = None, at: int | None = None) -> AsmError:
        place = self.pos if at is None else at
        hint = f"; write {_FORMS[form]}" if form is not None else ""
        return AsmError(f"{message}{hint}", span=Span(self.file, self.number, place + 1, text=self.raw))

    def form_error(self, message: str, form: str, at: int | None = None) -> AsmError:
        """An error with the legal form given as text."""
        place = self.pos if at is None else at
        return AsmError(f"{message}; write {form}", span=Span(self.file, self.number, place + 1, text=self.raw))

    def skip(self) -> int:
        text, at = self.text, self.pos
        while at < len(text) and text[at] in _SPACES:
            at += 1
        self.pos = at
        return at

    def at_end(self) -> bool:
        return self.skip() >= len(self.text)

    def accept(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.skip())
        if found:
            self.pos = found.end()
        return found

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.skip()):
            self.pos += len(token)
            return True
        return False

    def expect(self, token: str, form: str) -> None:
        if not self.take(token):
            raise self.error(f"expected `{token}`", form)

    def rest_word(self) -> str:
        found = re.compile(r"\S+").match(self.text, self.skip())
        return found.group() if found else "a comment" if self.comment else "the end of the line"

    def register(self, form: str, letters: str = "rw") -> tuple[str, Register]:
        found = self.accept(REGISTER)
        if not found:
            raise self.error(f"expected a register, found {self.rest_word()!r}", form)
        if found[1] not in letters:
            raise self.error(f"{found[0]} cannot be used here, r{found[2]} can", form, found.start())
        if int(found[2]) > 11:
            raise self.error(f"{found[0]} is no register; there are r0 to r10", None, found.start())
        return found[1], Register(int(found[2]))

    def number_or_none(self) -> tuple[int, bool] | None:
        """A number, and whether it was written in hexadecimal."""
        found = self.accept(_NUMBER)
        if not found:
            return None
        is_hex = "x" in found[0].lower()
        return int(found[0], 16 if is_hex else 10), is_hex

    def immediate(self, form: str, *, unsigned: bool, unsigned_hex: bool = False) -> int:
        at = self.skip()
        found = self.number_or_none()
        if found is None:
            raise self.error(f"expected a register or a number, found {self.rest_word()!r}", form)
        value, is_hex = found
        if S32_MIN <= value <= S32_MAX:
            return value
        if 0 <= value <= U32_MAX and (unsigned or (unsigned_hex and is_hex)):
            return to_signed(value, 32)
        raise self.error(
            f"{value} does not fit a 32-bit immediate, which is sign-extended ({S32_MIN}..{S32_MAX}); "
            "load it with `rN = VALUE ll`",
            None,
            at,
        )

    def offset(self, form: str, bits: int = 16) -> int:
        self.skip()
        at = self.pos
        sign = re.compile(r"[+-]").match(self.text, at)
        if not sign:
            raise self.error("expected an offset with its sign, such as +0", form)
        self.pos = sign.end()
        self.skip()
        found = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}", re.ASCII).match(self.text, self.pos)
        if not found:
            raise self.error("expected an offset, such as +0", form)
        self.pos = found.end()
        value = int(found[0], 16 if "x" in found[0].lower() else 10) * (-1 if sign[0] == "-" else 1)
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise self.error(f"offset {value} does not fit {bits} bits", None, at)
        return value

    def sized(self, form: str) -> tuple[str, int]:
        """`(u32 *)`: the sign letter and the size in bytes."""
        self.expect("(", form)
        found = self.accept(_SIZE)
        if not found:
            raise self.error(f"expected a size such as u32, found {self.rest_word()!r}", form)
        self.expect("*", form)
        self.expect(")", form)
        return found[1], int(found[2]) // 8

    def place(self, form: str) -> tuple[Register, int]:
        """`(r1 +0)`: base and offset; the offset may be left out."""
        self.expect("(", form)
        _, base = self.register(form, "r")
        off = 0 if self.text.startswith(")", self.skip()) else self.offset(form)
        self.expect(")", form)
        return base, off

    def unsigned_place(self, form: str) -> tuple[int, Register, int]:
        at = self.skip()
        sign, size = self.sized(form)
        if sign != "u":
            raise self.error("only plain loads have a signed size", form, at)
        base, off = self.place(form)
        return size, base, off

    def value_register(self, size: int, form: str) -> Register:
        return self.register(form, "rw" if size < 8 else "r")[1]

    def target(self, form: str, bits: int = 16) -> tuple[int, Reference | None]:
        if self.accept(PC):
            distance = self.offset(form, bits)
            self.accept(TARGET_NAME)
            return distance, None
        at = self.skip()
        found = self.accept(NAME)
        if not found or not is_label_name(found[0]):
            raise self.error(f"expected a label or pc+N, found {found[0] if found else self.rest_word()!r}", form, at)
        return 0, Label(found[0])
