"""The language reference taken apart: its snippets, its codes, and the codes that the sources can raise."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "language.md"
RAISED_BY = ("compiler", "dsl", "llvm")
_CALLS = {"error": 1, "refuse": 0, "Conflict": 0}


@dataclass(frozen=True)
class Snippet:
    """A fenced block: `kind` is the word behind `python` ("" for a fragment that compiles), `code` a refusal's."""

    line: int
    kind: str
    code: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line} {self.kind} {self.code}".strip()


def snippets() -> list[Snippet]:
    text = PAGE.read_text()
    out = []
    for found in re.finditer(r"^```python ?(\w*) ?([\w-]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        out.append(Snippet(text[: found.start()].count("\n") + 1, found[1], found[2], found[3]))
    return out


def listed_codes() -> list[str]:
    """The codes in the table at the end of the page."""
    return re.findall(r"^\| `([\w-]+)` \|", PAGE.read_text().split("## Every code")[1], re.MULTILINE)


def raised_codes() -> dict[str, set[str]]:
    """Every code that the sources name, with the rooms that do."""
    out: dict[str, set[str]] = {}
    for room in RAISED_BY:
        for path in (ROOT / "ebpfkit" / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    for code in _codes_of(node):
                        out.setdefault(code, set()).add(room)
    return out


def _codes_of(call: ast.Call) -> list[str]:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    nodes = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    if name in _CALLS and len(call.args) > _CALLS[name]:
        nodes.append(call.args[_CALLS[name]])
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if re.fullmatch(r"[a-z]+(-[a-z]+)*", text)]
