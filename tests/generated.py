"""Well-typed programs at random: arithmetic, comparison and control flow over integers of every width.

`source(seed)` is the text of a module whose program `prog` reads 30 bytes, computes, and leaves a value of every type
in the map `out`. `test_agreement.py` runs them.
"""

from __future__ import annotations

import random

TYPES = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64")
SIMPLE = ("+", "-", "*", "&", "|", "^")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
HEAD = """import ebpfkit as bpf
from ebpfkit import Packet, s8, s16, s32, s64, u8, u16, u32, u64

class Input(bpf.Header):
{fields}

class Output(bpf.Struct):
{fields}

out = bpf.Array[Output](max_entries=1)

@bpf.xdp
def prog(pkt: Packet) -> bpf.XdpAction:
    given = pkt.read(Input)
"""


class Writer:
    """Writes one program, remembering the type of each variable."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.variables = {f"in_{kind}": kind for kind in TYPES}
        self.lines = [f"    in_{kind} = given.{kind}_" for kind in TYPES]

    def literal(self, kind: str) -> str:
        bits, signed = int(kind[1:]), kind[0] == "s"
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        high = min(high, (1 << 63) - 1)
        value = self.random.choice([0, 1, 2, 3, 7, high, low, high // 2, self.random.randint(low, high)])
        return f"({value})" if value < 0 else str(value)

    def expression(self, kind: str, depth: int) -> str:
        chance = self.random.random()
        names = [name for name, known in self.variables.items() if known == kind]
        if depth == 0 or chance < 0.15:
            return self.random.choice(names) if self.random.random() < 0.8 else f"{kind}({self.literal(kind)})"
        if chance < 0.65:
            return self.operation(kind, depth)
        if chance < 0.75:
            return f"{kind}({self.expression(self.random.choice(TYPES), depth - 1)})"
        if chance < 0.82:
            return f"({self.random.choice('-~+')}{self.expression(kind, depth - 1)})"
        left, right = self.expression(kind, depth - 1), self.expression(kind, depth - 1)
        if chance < 0.92:
            return f"({left} if {self.condition(depth - 1)} else {right})"
        if chance < 0.96:
            return f"{self.random.choice(['min', 'max'])}({left}, {right})"
        return f"{kind}({self.condition(depth - 1)})"

    def operation(self, kind: str, depth: int) -> str:
        symbol = self.random.choice([*SIMPLE, "<<", ">>", *(("//", "%") if kind[0] == "u" else ())])
        left = self.expression(kind, depth - 1)
        if self.random.random() < 0.6:
            divisor = " | 1" if symbol in ("//", "%") else ""  # a constant 0 is refused
            return f"({left} {symbol} ({self.expression(kind, depth - 1)}{divisor}))"
        if symbol in ("<<", ">>"):
            return f"({left} {symbol} {self.random.randrange(int(kind[1:]))})"
        if symbol in ("//", "%"):
            return f"({left} {symbol} {self.random.choice([1, 2, 3, 7, 100])})"
        pair = [left, self.literal(kind)]
        self.random.shuffle(pair)
        return f"({pair[0]} {symbol} {pair[1]})"

    def condition(self, depth: int) -> str:
        kind = self.random.choice(TYPES)
        symbol = self.random.choice(COMPARISONS)
        smaller = max(depth - 1, 0)
        chance = self.random.random()
        if chance < 0.5:
            other = self.random.choice([t for t in TYPES if t[0] == kind[0]])
            return f"({self.expression(kind, smaller)} {symbol} {self.expression(other, smaller)})"
        if chance < 0.7:
            return f"({self.expression(kind, smaller)} {symbol} {self.random.choice([0, 1, 5, 255, 65536, -1])})"
        if chance < 0.8:
            a, b, c = (self.expression(kind, 0) for _ in range(3))
            return f"({a} <= {b} < {c})"
        if chance < 0.85 or depth <= 0:
            return f"({self.expression(kind, 0)} in (1, 2, 3))"
        if chance < 0.9:
            return f"(not {self.condition(smaller)})"
        return f"({self.condition(smaller)} {self.random.choice(['and', 'or'])} {self.condition(smaller)})"

    def block(self, depth: int, count: int) -> None:
        indent = "    " * depth
        for _ in range(count):
            chance = self.random.random()
            if chance < 0.4:
                kind = self.random.choice(TYPES)
                new = depth == 1 and self.random.random() < 0.5
                name = f"v{len(self.variables)}" if new else self.pick(kind)
                self.lines.append(f"{indent}{name} = {self.expression(kind, 3)}")
                self.variables[name] = kind
            elif chance < 0.6 or depth > 2:
                name = self.random.choice(list(self.variables))
                symbol = self.random.choice(SIMPLE)
                self.lines.append(f"{indent}{name} {symbol}= {self.expression(self.variables[name], 2)}")
            elif chance < 0.8:
                self.lines.append(f"{indent}if {self.condition(2)}:")
                self.block(depth + 1, 2)
                if self.random.random() < 0.5:
                    self.lines.append(f"{indent}else:")
                    self.block(depth + 1, 1)
            else:
                self.lines.append(f"{indent}for i{depth} in range({self.random.randint(0, 4)}):")
                self.block(depth + 1, 2)
                if self.random.random() < 0.4:
                    self.lines.append(f"{indent}    if {self.condition(1)}:")
                    self.lines.append(f"{indent}        {self.random.choice(['break', 'continue'])}")

    def pick(self, kind: str) -> str:
        return self.random.choice([name for name, known in self.variables.items() if known == kind])


def source(seed: int) -> str:
    """The text of one module."""
    writer = Writer(seed)
    writer.block(1, writer.random.randint(2, 6))
    fields = "\n".join(f"    {kind}_: {kind}" for kind in TYPES)
    ends = ["    result = out[0]", *(f"    result.{kind}_ = {writer.pick(kind)}" for kind in TYPES)]
    return HEAD.format(fields=fields) + "\n".join([*writer.lines, *ends, "    return bpf.XDP_PASS", ""])


def frames(seed: int) -> list[bytes]:
    """Inputs with many values at the edges."""
    chance = random.Random(seed)
    edges = [0, 1, 2, 127, 128, 254, 255]
    noisy = [bytes(chance.choice([*edges, chance.randrange(256)]) for _ in range(30)) for _ in range(5)]
    return [bytes(30), b"\xff" * 30, *noisy]
