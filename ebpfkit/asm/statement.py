"""The grammar of one line: an instruction in the kernel's, LLVM's or uBPF's spelling, and what may stand before it.

`12:` states the slot number, `name:` sets a label, `(b7)` states the opcode byte, eight bytes in hexadecimal are the
instruction itself. uBPF's words are read by `mnemonics`; how lines make a program is `parser`'s.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache

from ebpfkit._bits import S32_MAX, S32_MIN, U32_MAX, U64_MAX, to_signed
from ebpfkit.asm.insn import FuncRef, Instruction, KfuncRef, Label, Register
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.asm.mistakes import nearest_form
from ebpfkit.asm.mnemonics import (
    CALL_REGISTER,
    is_mnemonic,
    near_mnemonic,
    read_kind_of_call,
    read_locked,
    read_mnemonic,
    read_register,
)
from ebpfkit.asm.printer import ALU_SYMBOLS, JUMP_SYMBOLS, LOCK_SYMBOLS, SWAP_WORDS, helpers
from ebpfkit.asm.references import ReferenceScanner
from ebpfkit.asm.scanner import NAME, PC, REGISTER, TARGET_NAME, is_label_name
from ebpfkit.errors import AsmError

__all__ = ["Statement", "helper_numbers"]

_WORD = re.compile(r"[A-Za-z_.][\w.-]*", re.ASCII)
_SLOT = re.compile(r"([0-9]{1,9}):(?!:)", re.ASCII)
_LABEL = re.compile(r"([A-Za-z_.$][\w.$]*):(?!:)", re.ASCII)
_CODE = re.compile(r"\(([0-9a-fA-F]{2})\)", re.ASCII)
_SYMBOL_TAIL = re.compile(r"([+-][ \t]*(?:0[xX][0-9a-fA-F]{1,8}|[0-9]{1,9}))?[ \t]*ll\b", re.ASCII)
_SIGNED_CAST = re.compile(r"\(s(8|16|32)\)", re.ASCII)
_ALU_TOKEN = re.compile(r"s?(?:<<|>>|[-+*/%|&^])=", re.ASCII)
_JUMP_TOKEN = re.compile(r"s?[<>]=?|==|!=|&", re.ASCII)

_ALU = {symbol: name for name, symbol in ALU_SYMBOLS.items()}
_JUMP = {symbol: name for name, symbol in JUMP_SYMBOLS.items()}
_LOCK = {symbol: name for name, symbol in LOCK_SYMBOLS.items()}
_SWAP = {f"{word}{bits}": f"{name.upper()}{bits}" for name, word in SWAP_WORDS.items() for bits in (16, 32, 64)}
_FETCH = {op.operation for op in OPCODES.values() if op.kind is Kind.ATOMIC} - set(LOCK_SYMBOLS)
_LETTERS = {1: "B", 2: "H", 4: "W", 8: "DW"}
_OPS_BY_CODE_WIDE = 0x18
_BYTE_COLUMN = re.compile(r"(?:[0-9a-f]{2} ){7}[0-9a-f]{2}(?: (?:[0-9a-f]{2} ){7}[0-9a-f]{2})?(?=\s|$)", re.ASCII)
_LLVM_EXCHANGE = re.compile(r"(xchg|cmpxchg)(?:32)?_(32|64)$", re.ASCII)
_PER_CPU = re.compile(r"&\(void __percpu \*\)\((r[0-9]{1,2})\)", re.ASCII)
_MAP_FUNCTION = re.compile(r"\w*(?:map|trie|queue|stack)\w*_(?:elem|redirect)$", re.ASCII)
_MAX_PARTS = 1000  # instructions in one line of compiler output
_NOSPEC = 0xC2  # the kernel's own barrier, seen in dumps
_MAX_HELPER = 1023  # a greater number behind a helper's name is the kernel's distance to it


@cache
def helper_numbers() -> Mapping[str, int]:
    """Helper numbers by name, `bpf_` included."""
    return {f"bpf_{row.name}": number for number, row in helpers().items()}


def is_kfunc(name: str) -> bool:
    """Whether a name is one of the kernel functions that are known."""
    from ebpfkit.abi.kfuncs import KFUNCS

    return name in KFUNCS


class Statement(ReferenceScanner):
    """One line and the grammar of what stands on it."""

    has_externs = False  # calls of names that the text does not set are calls of kernel functions
    is_mnemonic = False  # uBPF's spelling, where `;` separates instructions
    following: int | None = None  # where the next of them begins
    position_in_line = 1
    symbol_used: tuple[str, int] | None = None  # what a wide load names, with the addend: LLVM's `r1 = name+8 ll`

    def parts(self) -> Iterator[Statement]:
        """The statements of a line of compiler output, where `;` separates them."""
        start = 0
        pieces = self.text.split(";")
        if len(pieces) > _MAX_PARTS:
            raise self.error(f"a line holds at most {_MAX_PARTS} instructions", at=0)
        for piece in pieces:
            part = Statement("", self.number, self.file)
            part.raw, part.text, part.pos = self.raw, self.text[: start + len(piece)], start
            part.has_externs = True
            start += len(piece) + 1
            yield part

    def next_statement(self) -> Statement | None:
        """What stands behind a `;` of uBPF's spelling."""
        if self.following is None:
            return None
        if self.position_in_line == _MAX_PARTS:
            raise self.error(f"a line holds at most {_MAX_PARTS} instructions", at=self.following)
        part = Statement(" " * self.following + self.raw[self.following :], self.number, self.file)
        part.raw, part.position_in_line = self.raw, self.position_in_line + 1
        return part

    def read_bytes(self) -> bytes | None:
        """The byte column of a dump: one slot, or two."""
        found = self.accept(_BYTE_COLUMN)
        return bytes.fromhex(found[0]) if found else None

    def read_prefixes(self, labels: list[str]) -> tuple[int | None, int | None]:
        stated = None
        while True:
            slot = self.accept(_SLOT)
            if slot:
                stated = int(slot[1])
                continue
            label = self.accept(_LABEL)
            if not label:
                break
            if not is_label_name(label[1]):
                raise self.error(f"{label[1]!r} cannot be a label: it is a register or a mnemonic", at=label.start())
            labels.append(label[1])
        code = self.accept(_CODE)
        return stated, int(code[1], 16) if code else None

    def read_instruction(self, code: int | None) -> Instruction:
        """The instruction that stands here. Raises AsmError with the nearest legal form."""
        self.code = code
        self.start = self.skip()
        try:
            return self.read_whole(code)
        except AsmError as error:
            form = nearest_form(self.text[self.start :].rstrip())
            if form is None:
                raise
            raise AsmError(f"{error.message.split('; ', 1)[0]}; write {form}", span=error.span) from None

    def read_whole(self, code: int | None) -> Instruction:
        insn = self.read_statement()
        insn = self.read_reserved(insn)
        separator = self.skip()
        if self.take(";") and not self.at_end():
            if not self.is_mnemonic:
                raise self.error("write one instruction a line, and a space before a comment", at=separator)
            self.following = self.pos
        elif not self.at_end():
            raise self.error(f"unexpected {self.rest_word()!r} behind the instruction; write one instruction a line")
        elif self.comment and self.comment_is_instruction():
            if not self.is_mnemonic or not self.raw.startswith(";", len(self.text)):
                raise self.error("the comment is an instruction; write one instruction a line", at=len(self.text))
            self.following = len(self.text) + 1
        actual = insn.imm & 0xFF if insn.op.kind is Kind.INVALID else insn.op.code
        if code is not None and code != actual:
            raise self.error(f"opcode byte {code:02x} is written here, but this is {insn.op.name} ({actual:02x})")
        return insn

    def comment_is_instruction(self) -> bool:
        other = Statement(self.comment, self.number, self.file)
        if other.at_end():
            return False
        try:
            other.read_instruction(None)
        except AsmError:
            return False
        return True

    def read_reserved(self, insn: Instruction) -> Instruction:
        if not self.take("{"):
            return insn
        changes: dict[str, int | Register] = {}
        while not self.take("}"):
            at = self.skip()
            key = self.accept(NAME)
            if not key or key[0] not in ("dst", "src", "off", "imm", "high") or key[0] in changes:
                raise self.error("expected a field that is not given yet", "reserved", at)
            self.expect("=", "reserved")
            found = self.number_or_none()
            if found is None:
                raise self.error("expected a number", "reserved")
            value, name = found[0], key[0]
            if name == "imm" and insn.op.name == "CALL_LOCAL" and not changes and -0x8000 <= insn.imm <= 0x7FFF:
                changes["off"] = insn.imm  # as the kernel keeps a translated call: the distance in `off`
                insn = insn.replace(imm=0)
                changes["imm"] = value
                continue
            used = name in insn.op.operands and not (name == "off" and insn.op.name == "CALL_KFUNC")
            if (used and name != "high") or (name == "high" and insn.op.slots != 2):
                raise self.error(f"{insn.op.name} has its {name} in the text already", None, at)
            limits = {"dst": (0, 15), "src": (0, 15), "off": (-0x8000, 0x7FFF), "high": (0, U32_MAX)}
            low, high = limits.get(name, (S32_MIN, S32_MAX))
            if not low <= value <= high:
                raise self.error(f"{name} = {value} is not within {low}..{high}", None, at)
            if name == "high":
                changes["imm"] = insn.imm & U32_MAX | value << 32
            else:
                changes[name] = Register(value) if name in ("dst", "src") else value
        return insn.replace(**changes)

    def read_statement(self) -> Instruction:
        if self.take("*"):
            return self.read_store()
        if REGISTER.match(self.text, self.pos):
            return self.read_register_statement()
        word = self.accept(_WORD)
        name = word[0] if word else ""
        if name == "exit":
            return Instruction(OPCODES["EXIT"])
        if is_mnemonic(name):
            self.is_mnemonic = True
            return read_mnemonic(self, name)
        if name == "callx":
            return Instruction(OPCODES["CALLX"], read_register(self, "`callx %r1`"))
        if name == "nospec":
            return Instruction(OPCODES["INVALID"], imm=_NOSPEC)
        if name in ("goto", "gotol", "may_goto"):
            off, ref = self.target(name, 32 if name == "gotol" else 16)
            return Instruction(OPCODES[{"goto": "JA", "gotol": "JA32", "may_goto": "MAY_GOTO"}[name]], off=off, ref=ref)
        if name == "gotox":
            return Instruction(OPCODES["JA_INDIRECT"], self.register("gotox", "r")[1])
        if name == "if":
            return self.read_jump()
        if name == "call":
            return self.read_call()
        if name == "lock":
            return self.read_lock()
        if name == "store_release":
            self.expect("(", name)
            size, base, off = self.unsigned_place(name)
            self.expect(",", name)
            source = self.value_register(size, name)
            self.expect(")", name)
            return Instruction(OPCODES[f"STORE_REL_{_LETTERS[size]}"], base, source, off)
        if name == ".8byte":
            found = self.number_or_none()
            if found is None or not 0 <= found[0] <= U64_MAX:
                raise self.error("expected 64 bits, as in `.8byte 0x0000000000000000`")
            return Instruction(OPCODES["INVALID"], imm=found[0])
        if not name and self.text.startswith("<unknown>", self.pos):
            message = (
                "the tool that printed this did not know the instruction: dump it with its bytes, or with a newer one"
            )
            raise self.error(message, None, self.start)
        words = ["exit", "goto", "gotol", "gotox", "may_goto", "if", "call", "lock", "store_release"]
        close = difflib.get_close_matches(name, words, 1)
        if close and close[0] != "exit":
            raise self.error(f"{name!r} is no instruction", close[0], self.start)
        near = near_mnemonic(name)
        if near:
            raise self.error(f"{name!r} is no instruction; did you mean {near!r}?", None, self.start)
        raise self.error(f"{(name or self.rest_word())!r} begins no instruction", "", self.start)

    def read_store(self) -> Instruction:
        size, base, off = self.unsigned_place("store")
        self.expect("=", "store")
        if REGISTER.match(self.text, self.skip()):
            return Instruction(OPCODES[f"STX{_LETTERS[size]}"], base, self.value_register(size, "store"), off)
        imm = self.immediate("store", unsigned=size <= 4)
        return Instruction(OPCODES[f"ST{_LETTERS[size]}"], base, off=off, imm=imm)

    def read_lock(self) -> Instruction:
        found = read_locked(self)
        if found is not None:
            return found
        self.expect("*", "lock")
        at = self.skip()
        size, base, off = self.unsigned_place("lock")
        if size < 4:
            raise self.error("atomic operations are 32 or 64 bits wide", "lock", at)
        symbol = self.accept(_ALU_TOKEN)
        if not symbol or symbol[0] not in _LOCK:
            raise self.error("expected +=, |=, &= or ^=", "lock", symbol.start() if symbol else None)
        op = OPCODES[f"ATOMIC{size * 8}_{_LOCK[symbol[0]].upper()}"]
        return Instruction(op, base, self.value_register(size, "lock"), off)

    def read_jump(self) -> Instruction:
        letter, dst = self.register("if")
        symbol = self.accept(_JUMP_TOKEN)
        if not symbol:
            raise self.error(f"expected one of {' '.join(_JUMP)}, found {self.rest_word()!r}", "if")
        stem = f"{_JUMP[symbol[0]].upper()}{64 if letter == 'r' else 32}"
        src, imm = Register(0), 0
        if REGISTER.match(self.text, self.skip()):
            src = self.same_width(letter, "if")
            op = OPCODES[f"{stem}_REG"]
        else:
            imm = self.immediate("if", unsigned=letter == "w", unsigned_hex=True)
            op = OPCODES[f"{stem}_IMM"]
        self.expect("goto", "if")
        off, ref = self.target("if")
        return Instruction(op, dst, src, off, imm, ref)

    def same_width(self, letter: str, form: str) -> Register:
        at = self.skip()
        other, register = self.register(form)
        if other != letter:
            raise self.error(f"{other}{int(register)} has another width than {letter}N on the left", form, at)
        return register

    def read_call(self) -> Instruction:
        if CALL_REGISTER.match(self.text, self.skip()):
            return Instruction(OPCODES["CALLX"], read_register(self, "`callx %r1`"))
        if self.accept(PC):
            imm = self.offset("call", 32)
            self.accept(TARGET_NAME)
            return Instruction(OPCODES["CALL_LOCAL"], imm=imm, ref=self.hash_name(FuncRef))
        by_kind = read_kind_of_call(self)
        if by_kind is not None:
            return by_kind
        found = self.number_or_none()
        if found is not None:
            if not 0 <= found[0] <= S32_MAX:
                raise self.error("a helper has a positive number", "call")
            if self.accept(TARGET_NAME):  # llvm-objdump says which function is that far away
                return Instruction(OPCODES["CALL_LOCAL"], imm=found[0])
            return Instruction(OPCODES["CALL"], imm=found[0])
        at = self.skip()
        name = self.accept(_WORD)
        if not name:
            raise self.error(f"expected a helper, a label or pc+N, found {self.rest_word()!r}", "call")
        number = helper_numbers().get(name[0])
        if self.take("#"):
            given = self.number_or_none()
            if given is None or not S32_MIN <= given[0] <= S32_MAX:
                raise self.error("expected a number of 32 bits", "call")
            return self.numbered_call(name[0], given[0], number, at)
        if number is not None:
            return Instruction(OPCODES["CALL"], imm=number)
        if is_kfunc(name[0]):
            return Instruction(OPCODES["CALL_KFUNC"], ref=KfuncRef(name[0]))
        if not is_label_name(name[0]) or (name[0].startswith("bpf_") and not self.has_externs):
            close = difflib.get_close_matches(name[0], helper_numbers(), 1)
            raise self.error(f"{name[0]!r} is no helper{f'; did you mean {close[0]!r}?' if close else ''}", "call", at)
        return Instruction(OPCODES["CALL_LOCAL"], ref=Label(name[0]))

    def numbered_call(self, name: str, given: int, number: int | None, at: int) -> Instruction:
        if name == "unknown":
            return Instruction(OPCODES["CALL"], imm=given)
        if name == "kernel-function":
            return Instruction(OPCODES["CALL_KFUNC"], imm=given)
        if number is None and _MAP_FUNCTION.match(name):  # the kernel calls a map's own function in a helper's place
            return Instruction(OPCODES["CALL"], imm=given)
        if number is None:
            return Instruction(OPCODES["CALL_KFUNC"], imm=given, ref=KfuncRef(name, given & U32_MAX))
        if number != given and not 0 <= given <= _MAX_HELPER:
            return Instruction(OPCODES["CALL"], imm=given)
        if number != given:
            raise self.error(f"{name} is helper {number}, not {given}", None, at)
        return Instruction(OPCODES["CALL"], imm=given)

    def read_register_statement(self) -> Instruction:
        letter, dst = self.register("")
        width = 64 if letter == "r" else 32
        symbol = self.accept(_ALU_TOKEN)
        if symbol:
            if symbol[0] not in _ALU:
                raise self.error(f"{symbol[0]} is no operator; there are {' '.join(_ALU)}", "alu", symbol.start())
            return self.with_operand(f"{_ALU[symbol[0]].upper()}{width}", letter, dst, "alu")
        if not self.take("="):
            raise self.error(f"expected `=` or an operator such as +=, found {self.rest_word()!r}", "assign")
        return self.read_assignment(letter, dst, width)

    def with_operand(self, stem: str, letter: str, dst: Register, form: str) -> Instruction:
        if REGISTER.match(self.text, self.skip()):
            return Instruction(OPCODES[f"{stem}_REG"], dst, self.same_width(letter, form))
        return Instruction(OPCODES[f"{stem}_IMM"], dst, imm=self.immediate(form, unsigned=letter == "w"))

    def read_assignment(self, letter: str, dst: Register, width: int) -> Instruction:
        at = self.skip()
        if self.text.startswith("-", at) and REGISTER.match(self.text, at + 1):
            self.pos += 1
            if self.same_width(letter, "assign") != dst:
                raise self.error("negation has one register on both sides, as in `r1 = -r1`", None, at)
            return Instruction(OPCODES[f"NEG{width}"], dst)
        cast = self.accept(_SIGNED_CAST)
        if cast:
            op = OPCODES.get(f"MOVSX{width}_{cast[1]}")
            if op is None:
                raise self.error(f"w registers are not extended from {cast[1]} bits", "assign", at)
            return Instruction(op, dst, self.same_width(letter, "assign"))
        if self.take("*"):
            return self.read_load(letter, dst, at)
        if REGISTER.match(self.text, at):
            return Instruction(OPCODES[f"MOV{width}_REG"], dst, self.same_width(letter, "assign"))
        per_cpu = self.accept(_PER_CPU)
        if per_cpu:
            return self.per_cpu_address(dst, int(per_cpu[1][1:]), at)
        word = self.accept(_WORD)
        if word:
            return self.read_named_value(word[0], letter, dst, at)
        wide = self.read_wide_number(letter, dst)
        return wide or self.with_operand(f"MOV{width}", letter, dst, "assign")

    def per_cpu_address(self, dst: Register, src: int, at: int) -> Instruction:
        """A move that the kernel marks with an offset of -1: no instruction for anyone else."""
        if src > 11:
            raise self.error(f"r{src} is no register; there are r0 to r10", None, at)
        return Instruction(OPCODES["INVALID"], imm=0xFFFF_00BF | (src << 4 | int(dst)) << 8)

    def read_wide_number(self, letter: str, dst: Register) -> Instruction | None:
        start = self.pos
        found = self.number_or_none()
        has_suffix = found is not None and self.take("ll")
        if found is None or not (has_suffix or self.code == _OPS_BY_CODE_WIDE):
            self.pos = start
            return None
        if letter != "r":
            raise self.error("a wide load fills a 64-bit register", "wide", start)
        if not -(1 << 63) <= found[0] <= U64_MAX:
            raise self.error("the value does not fit 64 bits", "wide", start)
        return Instruction(OPCODES["LDDW"], dst, imm=found[0] & U64_MAX)

    def read_load(self, letter: str, dst: Register, at: int) -> Instruction:
        sign, size = self.sized("load")
        if self.take("skb"):
            if dst != 0 or sign != "u" or size == 8:
                raise self.error("packet loads fill r0 with u8, u16 or u32", "skb", at)
            return self.read_packet_load(size)
        base, off = self.place("load")
        op = OPCODES.get(f"LDX{'S' if sign == 's' else ''}{_LETTERS[size]}")
        if op is None or (letter == "w" and (sign == "s" or size == 8)):
            raise self.error(f"{sign}{size * 8} cannot be loaded into a {letter} register", "load", at)
        return Instruction(op, dst, base, off)

    def read_packet_load(self, size: int) -> Instruction:
        self.expect("[", "skb")
        stem, src = "LD_ABS", Register(0)
        if REGISTER.match(self.text, self.skip()):
            stem, src = "LD_IND", self.register("skb", "r")[1]
            if self.take("]"):
                return Instruction(OPCODES[f"{stem}_{_LETTERS[size]}"], src=src)
            self.expect("+", "skb")
        imm = self.immediate("skb", unsigned=False)
        self.expect("]", "skb")
        return Instruction(OPCODES[f"{stem}_{_LETTERS[size]}"], src=src, imm=imm)

    def read_named_value(self, word: str, letter: str, dst: Register, at: int) -> Instruction:
        if word in ("map", "subprog", "var") and self.text.startswith("[", self.pos):
            if letter != "r":
                raise self.error("a wide load fills a 64-bit register", word, at)
            insn = self.read_reference(word, dst, at)
            self.take("ll")
            return insn
        if word in _SWAP:
            if self.register("assign", "r")[1] != dst or letter != "r":
                raise self.error("a byte swap has one r register on both sides, as in `r1 = be16 r1`", None, at)
            return Instruction(OPCODES[_SWAP[word]], dst)
        if word == "addr_space_cast":
            return self.read_addr_space_cast(letter, dst)
        if word == "load_acquire":
            self.expect("(", word)
            size, base, off = self.unsigned_place(word)
            self.expect(")", word)
            if letter == "w" and size == 8:
                raise self.error("64 bits do not fit a w register", word, at)
            return Instruction(OPCODES[f"LOAD_ACQ_{_LETTERS[size]}"], dst, base, off)
        if word.startswith("atomic"):
            return self.read_atomic(word, dst, at)
        exchange = _LLVM_EXCHANGE.match(word)
        if exchange:
            return self.read_llvm_exchange(exchange[1], int(exchange[2]) // 8, dst, at)
        if letter == "r" and self.is_symbol_load(word):
            return Instruction(OPCODES["LDDW"], dst)
        known = [*_SWAP, "addr_space_cast", "load_acquire", "atomic64_fetch_add", "map", "subprog", "var"]
        close = difflib.get_close_matches(word, known, 1)
        raise self.error(f"{word!r} is no value{f'; did you mean {close[0]!r}?' if close else ''}", "assign", at)

    def is_symbol_load(self, name: str) -> bool:
        """`name ll` or `name+8 ll`, whose name has just been read: it is kept for when all symbols are known."""
        found = self.accept(_SYMBOL_TAIL)
        if not found:
            return False
        addend = re.sub(r"\s", "", found[1] or "0")
        self.symbol_used = (name, int(addend, 16 if "x" in addend.lower() else 10))
        return True

    def read_llvm_exchange(self, operation: str, size: int, dst: Register, at: int) -> Instruction:
        """LLVM's `r5 = xchg_64(r3 + 0, r5)` and `w0 = cmpxchg32_32(r3 + 0, w0, w7)`."""
        form = "llvm_xchg" if operation == "xchg" else "llvm_cmpxchg"
        self.expect("(", form)
        _, base = self.register(form, "r")
        off = 0 if self.text.startswith(",", self.skip()) else self.offset(form)
        self.expect(",", form)
        if operation == "cmpxchg":
            if self.value_register(size, form) != 0 or dst != 0:
                raise self.error("cmpxchg compares with r0 and leaves the old value in r0", form, at)
            self.expect(",", form)
        src = self.value_register(size, form)
        if operation == "xchg" and src != dst:
            raise self.error("the old value goes to the register that had the operand", form, at)
        self.expect(")", form)
        return Instruction(OPCODES[f"ATOMIC{size * 8}_{operation.upper()}"], base, src, off)

    def read_addr_space_cast(self, letter: str, dst: Register) -> Instruction:
        form = "addr_space_cast"
        self.expect("(", form)
        src = self.same_width("r", form)
        spaces = []
        for _ in range(2):
            self.expect(",", form)
            at = self.skip()
            found = self.number_or_none()
            if found is None or not 0 <= found[0] <= 0xFFFF:
                raise self.error("expected the number of an address space", form, at)
            spaces.append(found[0])
        self.expect(")", form)
        if letter != "r":
            raise self.error("addresses are 64 bits wide", form)
        return Instruction(OPCODES["ADDR_SPACE_CAST"], dst, src, imm=to_signed(spaces[0] << 16 | spaces[1], 32))

    def read_atomic(self, word: str, dst: Register, at: int) -> Instruction:
        operation = word.removeprefix("atomic64_").removeprefix("atomic_")
        if operation not in _FETCH:
            close = difflib.get_close_matches(operation, _FETCH, 1)
            raise self.error(
                f"{word!r} is no atomic operation{f'; did you mean {close[0]!r}?' if close else ''}", "atomic", at
            )
        self.expect("(", "atomic")
        size, base, off = self.unsigned_place("atomic")
        if size < 4 or ("64" in word and size == 4):
            raise self.error(f"{word} does not work on {size * 8} bits", "atomic", at)
        self.expect(",", "atomic")
        if operation == "cmpxchg":
            if self.value_register(size, "atomic") != 0 or dst != 0:
                raise self.error("cmpxchg compares with r0 and leaves the old value in r0", "atomic", at)
            self.expect(",", "atomic")
        src = self.value_register(size, "atomic")
        if operation != "cmpxchg" and src != dst:
            raise self.error("the old value goes to the register that had the operand", "atomic", at)
        self.expect(")", "atomic")
        return Instruction(OPCODES[f"ATOMIC{size * 8}_{operation.upper()}"], base, src, off)
