"""What LLVM's BPF back end cannot do, found before it ends the process.

LLVM reports "unsupported" by `exit(1)` and broken assumptions by `abort()`. `assess` reads optimised IR text and says
what might go wrong; `emit_in_child` runs the risky case in a process of its own and turns its last words into an
`LlvmError`.
Nothing here imports llvmlite.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass

from ebpfkit.errors import CompileError

__all__ = ["SAFE_STACK_BYTES", "Assessment", "LlvmError", "assess", "emit_in_child", "optimise_in_child"]

SAFE_STACK_BYTES = 384
"""Allocas up to this sum leave room for spills within BPF's 512 bytes of stack."""
STACK_BYTES = 512
SAFE_LINES = 8000
"""A line of IR is rarely more than two instructions, and a branch reaches 32,767 of them."""
CHILD_SECONDS = 120


class LlvmError(CompileError):
    """LLVM refused the module. `function` is the LLVM function it stopped in, "" when it did not say."""

    def __init__(self, message: str, *, code: str = "llvm", hint: str = "", function: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.function = function


@dataclass(frozen=True, slots=True)
class Assessment:
    """What `assess` saw: the largest function's alloca bytes, its estimated stack with spills, and doubtful things."""

    stack_bytes: int
    estimated_bytes: int
    doubts: tuple[str, ...]

    @property
    def has_wide_integers(self) -> bool:
        """Whether the optimiser left integers that only a 128-bit multiplication could compute."""
        return WIDE in self.doubts

    @property
    def risky(self) -> bool:
        return self.stack_bytes > SAFE_STACK_BYTES or self.estimated_bytes > STACK_BYTES or bool(self.doubts)


WIDE = "an integer wider than 64 bits"
_DOUBTS = (
    (WIDE, re.compile(r"(?<![\w.@%$-])i(?:6[5-9]|[7-9]\d|\d{3,})\b")),
    ("floating point", re.compile(r"(?<![\w.@%$])(?:float|double|half|bfloat|fp128|x86_fp80|ppc_fp128)\b")),
    ("inline assembly", re.compile(r"asm (?!\"\", )")),
    (
        "a memory block of variable length",
        re.compile(r"@llvm\.mem(?:cpy|move|set)[\w.]*\((?:[^()]|\([^()]*\))*?, i64 %"),
    ),
    (
        "an atomic minimum, maximum or other unsupported atomic",
        re.compile(r"atomicrmw (?:volatile )?(?!add|sub|and|or|xor|xchg)\w+"),
    ),
    ("an 8 or 16 bit atomic", re.compile(r"atomicrmw [^,]*, i(?:8|16)\b|cmpxchg [^,]*, i(?:8|16)\b")),
    ("a stack block of variable size", re.compile(r"= alloca [^,\n]*, i\d+ %")),
    ("a vector", re.compile(r"<\d+ x (?:i\d+|ptr)>")),
)
_RARE = {
    WIDE: re.compile(r"i(?:6[5-9]|[7-9]\d|\d{3})"),
    "floating point": re.compile(r"float|double|half|fp128|x86_fp80|ppc_fp128"),
    "an 8 or 16 bit atomic": re.compile(r"rmw|cmpxchg"),
}
"""For patterns that are slow to look for: what must be in the text where they match."""
_ALLOCA = re.compile(r"^\s+(%[\w.]+) = alloca (?:inalloca )?(.+)$")
_TYPE_BYTES = re.compile(r"\[(\d+) x (.+)\]$")
_VALUE = re.compile(r"^\s+(%[\w.]+) = ")
_NAME = re.compile(r"%[\w.]+")


def _type_bytes(text: str) -> int:
    array = _TYPE_BYTES.match(text)
    if array:
        return int(array[1]) * _type_bytes(array[2])
    if text.startswith("i") and text[1:].isdigit():
        return -(-int(text[1:]) // 8)
    if text == "ptr":
        return 8
    if text.startswith("{"):
        return sum(max(8, _type_bytes(part.strip())) for part in text.strip("{} ").split(","))
    return STACK_BYTES  # unknown: leave it to the child


def _alloca_bytes(rest: str) -> int:
    depth = 0
    for position, char in enumerate(rest):
        if char in "[{<":
            depth += 1
        elif char in "]}>":
            depth -= 1
        elif char == "," and not depth:
            return -(-_type_bytes(rest[:position].strip()) // 8) * 8
    return -(-_type_bytes(rest.strip()) // 8) * 8


def _longest_overlap(lines: list[str]) -> int:
    """The most values alive at once, by intervals from first to last mention (loops stretch them, so this is above)."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, line in enumerate(lines):
        value = _VALUE.match(line)
        if value and " alloca " not in line:
            first.setdefault(value[1], number)
        for name in _NAME.findall(line.partition(", !dbg")[0]):
            last[name] = number
    change = [0] * (len(lines) + 2)
    for name, start in first.items():
        change[start] += 1
        change[max(last[name], start) + 1] -= 1
    alive = most = 0
    for step in change:
        alive += step
        most = max(most, alive)
    return most


def _count_arguments(line: str) -> int:
    """Arguments of the call in a line of IR text, counted by commas at the depth of its last argument list."""
    text = line.partition(", !dbg")[0].rstrip()
    text = re.sub(r"\s*#\d+$", "", text)
    if " call " not in f" {text}" or not text.endswith(")") or text.endswith("()"):
        return 0
    depth, commas = 0, 0
    for char in reversed(text):
        if char in ")]}>":
            depth += 1
        elif char in "([{<":
            depth -= 1
            if depth == 0:
                return commas + 1
        elif char == "," and depth == 1:
            commas += 1
    return commas + 1


def _may_match(name: str, body: str) -> bool:
    return name not in _RARE or _RARE[name].search(body) is not None


def assess(optimised: str) -> Assessment:
    """Judge optimised IR text: bytes of stack per function and what the BPF back end may not survive."""
    stack = estimate = 0
    doubts: list[str] = []
    for body in re.findall(r"^define .*?^}", optimised, re.M | re.S):
        lines = body.splitlines()
        if len(lines) > SAFE_LINES:
            doubts.append("a function that may be too long for its branches")
        allocas = sum(_alloca_bytes(m[2]) for m in map(_ALLOCA.match, lines) if m)
        values = sum(1 for line in lines if _VALUE.match(line))
        spills = 8 * values
        if allocas + spills > STACK_BYTES:
            spills = 8 * max(0, _longest_overlap(lines) - 5)
        stack, estimate = max(stack, allocas), max(estimate, allocas + spills)
        doubts += [name for name, pattern in _DOUBTS if _may_match(name, body) and pattern.search(body)]
        if any("@llvm." not in line and _count_arguments(line) > 5 for line in lines if "call " in line):
            doubts.append("a call with more than five arguments")
        header = lines[0][: lines[0].rfind(")")]
        if header.count(",") > 4 and len(re.findall(r"%[\w.]+(?:,|$)", header)) > 5:
            doubts.append("a function with more than five parameters")
    return Assessment(stack, estimate, tuple(dict.fromkeys(doubts)))


def emit_in_child(optimised: str, *, cpu: str, features: str, assembly: bool) -> bytes:
    """Emit in a process of its own; LLVM's exit, abort or silence there becomes an `LlvmError` here."""
    return _ask_child({"ir": optimised, "cpu": cpu, "features": features, "assembly": assembly})


def optimise_in_child(ir_text: str, *, cpu: str, features: str, speed: int) -> str:
    """Optimise again, without closed forms for what loops add up: those need 128-bit products.

    In a process of its own, since LLVM's options belong to the whole process.
    """
    request = {"optimise": ir_text, "cpu": cpu, "features": features, "speed": speed}
    return _ask_child(request).decode()


def _ask_child(request: dict[str, object]) -> bytes:
    if not sys.executable:
        raise LlvmError("this module needs a child process to be compiled safely, and sys.executable is empty")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ebpfkit.llvm.child"],
            input=json.dumps(request).encode(),
            capture_output=True,
            env=environment,
            timeout=CHILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LlvmError(f"LLVM did not finish within {CHILD_SECONDS} s", code="llvm-timeout") from None
    if done.returncode == 0 and done.stdout:
        return done.stdout
    raise explain(done.stderr.decode(errors="replace"), done.returncode)


def explain(text: str, status: int) -> LlvmError:
    """LLVM's last words as an error: the function it was in and what it could not do."""
    where = re.search(r"in function ([\w.$]+)", text)
    function = where[1] if where else ""
    if "stack limit" in text.lower():
        return LlvmError(
            "the variables and temporaries need more than BPF's 512 bytes of stack",
            code="stack-too-large",
            hint="keep large structures in a map (a PerCpuArray of one entry), or split the function",
            function=function,
        )
    if "branch target out of insn range" in text.lower():
        return LlvmError(
            "the function is too long: a branch in it goes over more than 32,767 instructions",
            code="too-large",
            hint="look numbers up in a map, or split it into functions with @noinline",
            function=function,
        )
    said = next((line for line in text.splitlines() if "error:" in line.lower()), "")
    said = re.sub(r"^.*?error:\s*(?:<unknown>:\d+:\d+:\s*)?", "", said, flags=re.I).strip()
    if not said:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = lines[-1] if lines else f"it ended with status {status} and no message"
    return LlvmError(f"LLVM cannot compile this for BPF: {said}", code="llvm-unsupported", function=function)
