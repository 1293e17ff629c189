"""Writing LLVM IR line by line: fresh names, labels, branches. What the lines mean is the caller's."""

from __future__ import annotations

__all__ = ["IrText"]


class IrText:
    """Lines of LLVM IR; values are names or numbers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names = 0

    def name(self, stem: str = "v") -> str:
        """A name that was not used before."""
        self._names += 1
        return f"{stem}{self._names}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def op(self, text: str) -> str:
        """A line that gives a value; its name."""
        name = f"%{self.name()}"
        self.lines.append(f"  {name} = {text}")
        return name

    def go(self, label: str) -> None:
        self.line(f"br label %{label}")

    def pointer(self, address: str) -> str:
        return self.op(f"inttoptr i64 {address} to ptr")

    def add(self, value: str, number: int) -> str:
        return self.op(f"add i64 {value}, {number}") if number else value
