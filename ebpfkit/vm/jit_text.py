"""The text of one function of LLVM IR, line by line: names, registers of the program, words of the machine's state.

Belongs here: what every piece of generated code writes the same way. What instructions become is in `jit_emit`, maps
are in `jit_maps`.
"""

from __future__ import annotations

from typing import Final

from ebpfkit.llvm.text import IrText

__all__ = ["FRAME_WORDS", "MACHINE", "PROGRAM", "RETURNED", "State", "Text"]

FRAME_WORDS: Final = 8
PROGRAM: Final = ", !alias.scope !3, !noalias !4"
MACHINE: Final = ", !alias.scope !4, !noalias !3"
METADATA: Final = "!0 = distinct !{!0}\n!1 = distinct !{!1, !0}\n!2 = distinct !{!2, !0}\n!3 = !{!1}\n!4 = !{!2}\n"
METADATA_LIKELY: Final = '!5 = !{!"branch_weights", i32 2000, i32 1}\n'
LIKELY: Final = ", !prof !5"
MASK: Final = (1 << 64) - 1

# What generated code answers.
FINISHED, STOPPED, OUT_OF_BUDGET, TAIL, RETURNED = range(5)


class State:
    """Words of the machine's state, which generated code and Python share."""

    R0 = 0
    LEFT = 11
    DEPTH = 12
    NEXT = 13
    CPU = 14
    DATA, DATA_END, DATA_META = 15, 16, 17
    FIELDS = 18
    FIELD_COUNT = 30
    FRAMES = 48  # of each: slot to return to, r6 to r9, what may_goto has left
    WORDS = FRAMES + 10 * FRAME_WORDS


class Text(IrText):
    """Lines of a program's function: its registers and the words of the state."""

    def branch(self, condition: str, then: str, other: str, *, likely: bool = False) -> None:
        self.line(f"br i1 {condition}, label %{then}, label %{other}{LIKELY if likely else ''}")

    def get(self, register: int) -> str:
        return self.op(f"load i64, ptr %r{int(register)}")

    def set(self, register: int, value: str | int) -> None:
        self.line(f"store i64 {value}, ptr %r{int(register)}")

    def word(self, index: int | str) -> str:
        """A pointer to a word of the state."""
        return self.op(f"getelementptr i64, ptr %st, i64 {index}")

    def read(self, index: int | str) -> str:
        return self.op(f"load i64, ptr {self.word(index)}{MACHINE}")

    def write(self, index: int | str, value: str | int) -> None:
        self.line(f"store i64 {value}, ptr {self.word(index)}{MACHINE}")

    def spill(self, *registers: int) -> None:
        """Registers into the state, where Python finds them."""
        for register in registers:
            self.write(State.R0 + register, self.get(register))

    def fill(self, *registers: int) -> None:
        for register in registers:
            self.set(register, self.read(State.R0 + register))

    def cut(self, value: str, size: int) -> str:
        """The low `size` bytes."""
        return value if size == 8 else self.op(f"trunc i64 {value} to i{size * 8}")

    def widen(self, value: str, size: int, *, signed: bool = False) -> str:
        return value if size == 8 else self.op(f"{'sext' if signed else 'zext'} i{size * 8} {value} to i64")
