"""Random well-typed programs of the language, as text, for comparing executors."""

from __future__ import annotations

import ast
import random

UNSIGNED = ("u8", "u16", "u32", "u64")
SIGNED = ("s8", "s16", "s32", "s64")
FIELDS = {
    "u8": ("d.x8", "d.y8", "d.t8", "d.hi", "d.lo", "d.mac[2]"),
    "u16": ("d.x16", "d.y16", "d.t16", "d.wide", "d.n16.to_host()"),
    "u32": ("d.x32", "d.y32", "d.t32", "d.n32.to_host()", "d.ip.to_host()", "len(pkt)", "d.words[1]"),
    "u64": ("d.x64", "d.y64", "d.r0", "d.r1", "d.n64.to_host()"),
    "s8": ("d.p8", "d.q8"),
    "s16": ("d.p16",),
    "s32": ("d.p32", "d.q32"),
    "s64": ("d.p64", "d.q64", "d.s0"),
}
STORES = {
    "u8": ("d.x8", "d.t8", "d.lo", "d.arr[5]"),
    "u16": ("d.t16", "d.n16", "d.wide"),
    "u32": ("d.t32", "d.n32", "d.words[2]", "d.ip"),
    "u64": ("d.r0", "d.r1", "d.r2", "d.n64"),
    "s8": ("d.q8",),
    "s16": ("d.p16",),
    "s32": ("d.q32",),
    "s64": ("d.s0", "d.q64"),
}
MAPS = """
counts = bpf.Hash[u8, u64](max_entries=300)
table = bpf.Array[u32](max_entries=8)
pairs = bpf.Hash[u16, Pair](max_entries=64)
counts[1] = 5
counts[0] = 3
def fold(a: u32, b: u32) -> u32:
    if a > b:
        return a - b
    return a * 3 + b
def clamp(n: u8, top: u8 = u8(9)) -> u8:
    return n if n < top else top
"""


class Writer:
    """Writes one program; every choice comes from `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.variables: dict[str, list[str]] = {t: [] for t in (*UNSIGNED, *SIGNED)}
        self.lines: list[str] = []
        self.loops = 0
        self.counter = 0
        self.budget = rng.randint(4, 14)

    def pick(self, *options: str) -> str:
        return self.rng.choice(options)

    def literal(self, kind: str) -> int:
        bits = int(kind[1:])
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
        return self.rng.choice([n for n in (0, 1, 2, 3, 7, 100, 255, low, high, high // 2) if low <= n <= high])

    def leaf(self, kind: str) -> str:
        options = [*FIELDS[kind], *self.variables[kind], *self.variables[kind], f"{kind}({self.literal(kind)})"]
        return self.rng.choice(options)

    def expr(self, kind: str, depth: int) -> str:
        if depth <= 0:
            return self.leaf(kind)
        bits = int(kind[1:])
        match self.rng.randrange(16):
            case 0 | 1 | 2:
                op = self.pick("+", "-", "*", "&", "|", "^")
                return f"({self.expr(kind, depth - 1)} {op} {self.expr(kind, depth - 1)})"
            case 3:
                return f"({self.expr(kind, depth - 1)} {self.pick('+', '-', '*', '&', '|', '^')} {self.literal(kind)})"
            case 4 if kind[0] == "u":
                divisor = self.rng.choice([str(self.literal(kind) or 1), self.expr(kind, depth - 1)])
                return f"({self.expr(kind, depth - 1)} {self.pick('//', '%')} {divisor})"
            case 5:
                amount = self.rng.choice([str(self.rng.randrange(bits)), self.expr(kind, depth - 1)])
                return f"({self.expr(kind, depth - 1)} {self.pick('<<', '>>')} {amount})"
            case 6 | 7 | 8:
                other = self.rng.choice((*UNSIGNED, *SIGNED))
                return f"{kind}({self.expr(other, depth - 1)})"
            case 9:
                return f"({self.pick('-', '~')}{self.expr(kind, depth - 1)})"
            case 10:
                return (
                    f"({self.expr(kind, depth - 1)} if {self.condition(depth - 1)} else {self.expr(kind, depth - 1)})"
                )
            case 11:
                return f"{self.pick('min', 'max')}({self.expr(kind, depth - 1)}, {self.expr(kind, depth - 1)})"
            case 12 if kind == "u8":
                return f"d.arr[{self.expr('u8', depth - 1)} & 7]"
            case 13 if kind == "u32":
                return f"fold({self.expr('u32', depth - 1)}, {self.expr(self.pick('u8', 'u32'), depth - 1)})"
            case 14 if kind == "u8":
                return f"clamp({self.expr('u8', depth - 1)})"
            case 15 if kind[0] == "u":
                return f"{kind}({self.condition(depth - 1)})"
            case _:
                return self.leaf(kind)

    def condition(self, depth: int) -> str:
        match self.rng.randrange(7):
            case 0 if depth > 0:
                return f"({self.condition(depth - 1)} {self.pick('and', 'or')} {self.condition(depth - 1)})"
            case 1 if depth > 0:
                return f"(not {self.condition(depth - 1)})"
            case 2:
                kind = self.rng.choice(UNSIGNED)
                return f"({self.expr(kind, depth - 1)} in (1, 2, {self.literal(kind)}))"
            case 3:
                kind = self.rng.choice((*UNSIGNED, *SIGNED))
                low = self.literal(kind)
                return f"({low} {self.pick('<', '<=')} {self.expr(kind, depth - 1)} < {self.literal(kind)})"
            case 4:
                return self.pick("d.flag", "d.n16 == 0x0800", "d.n32 < d.ip", "d.mac == d.mac2", "d.x8 in counts")
            case _:
                kinds = self.rng.choice((UNSIGNED, SIGNED))
                op = self.pick("==", "!=", "<", "<=", ">", ">=")
                left, right = self.rng.choice(kinds), self.rng.choice(kinds)
                return f"({self.expr(left, depth - 1)} {op} {self.expr(right, depth - 1)})"

    def put(self, indent: int, line: str) -> None:
        self.lines.append("    " * indent + line)

    def block(self, indent: int, depth: int) -> None:
        before = len(self.lines)
        for _ in range(self.rng.randint(1, 3)):
            self.statement(indent, depth)
        if len(self.lines) == before:
            self.put(indent, "pass")

    def statement(self, indent: int, depth: int) -> None:
        if self.budget <= 0:
            return
        self.budget -= 1
        kind = self.rng.choice((*UNSIGNED, *SIGNED))
        choice = self.rng.randrange(15)
        if choice <= 2 or depth <= 0:
            self.put(indent, f"{self.rng.choice(STORES[kind])} = {self.expr(kind, 3)}")
        elif choice == 3 and self.variables[kind]:
            self.put(indent, f"{self.rng.choice(self.variables[kind])} = {self.expr(kind, 3)}")
        elif choice == 4 and self.variables[kind]:
            op = self.pick("+", "-", "*", "&", "|", "^")
            self.put(indent, f"{self.rng.choice(self.variables[kind])} {op}= {self.expr(kind, 2)}")
        elif choice in (5, 6):
            self.put(indent, f"if {self.condition(2)}:")
            self.block(indent + 1, depth - 1)
            if self.rng.random() < 0.4:
                self.put(indent, f"elif {self.condition(1)}:")
                self.block(indent + 1, depth - 1)
            if self.rng.random() < 0.5:
                self.put(indent, "else:")
                self.block(indent + 1, depth - 1)
        elif choice in (7, 8) and self.loops < 2:
            self.loop(indent, depth)
        elif choice == 9:
            self.match(indent, depth)
        elif choice == 10:
            self.put(indent, f"if {self.condition(1)}:")
            self.put(indent + 1, f"return {self.pick('XDP_PASS', 'XDP_DROP', 'XDP_TX')}")
        elif choice in (11, 12):
            self.map_statement(indent, depth)
        elif choice == 13:
            self.put(indent, "d.x16, d.y16 = d.y16, d.x16")
        else:
            self.put(indent, f"d.flag = {self.condition(2)}")

    def loop(self, indent: int, depth: int) -> None:
        self.loops += 1
        if self.rng.random() < 0.6:
            self.counter += 1
            name = f"i{self.counter}"
            self.put(indent, f"for {name} in range({self.pick('3', '2, 7, 2', '4, 0, -1', 'd.x8 & 3')}):")
            self.put(indent + 1, f"d.r2 += {name}")
        else:
            self.counter += 1
            name = f"w{self.counter}"
            self.put(indent, f"{name} = u32(0)")
            self.put(indent, f"while {name} < 4 and {self.condition(1)}:")
            self.put(indent + 1, f"{name} += 1")
        if self.rng.random() < 0.5:
            self.put(indent + 1, f"if {self.condition(1)}:")
            self.put(indent + 2, self.pick("break", "continue"))
        self.block(indent + 1, depth - 1)
        if self.rng.random() < 0.3:
            self.put(indent, "else:")
            self.put(indent + 1, "d.t8 += 1")
        self.loops -= 1

    def match(self, indent: int, depth: int) -> None:
        kind = self.rng.choice(UNSIGNED)
        self.put(indent, f"match {self.expr(kind, 2)}:")
        self.put(indent + 1, f"case 0 | {self.literal(kind)}:")
        self.block(indent + 2, depth - 1)
        if self.rng.random() < 0.5:
            self.put(indent + 1, f"case 7 if {self.condition(1)}:")
            self.block(indent + 2, depth - 1)
        if self.rng.random() < 0.5:
            self.put(indent + 1, "case _:")
            self.block(indent + 2, depth - 1)

    def map_statement(self, indent: int, depth: int) -> None:
        self.counter += 1
        name = f"v{self.counter}"
        match self.rng.randrange(6):
            case 0:
                self.put(indent, f"counts[{self.expr('u8', 1)}] = {self.expr('u64', 1)}")
            case 1:
                self.put(indent, f"table[{self.expr('u32', 1)} & 7] += {self.expr('u32', 1)}")
            case 2:
                self.put(indent, f"{name} = counts.get({self.expr('u8', 1)})")
                self.put(indent, f"if {name} is not None:")
                self.put(indent + 1, f"d.r1 = {name} + {self.expr('u64', 1)}")
                self.block(indent + 1, depth - 1)
            case 3:
                self.put(indent, f"if ({name} := pairs.get({self.expr('u16', 1)})) is None:")
                self.put(indent + 1, f"pairs[{self.expr('u16', 1)}] = Pair(a={self.expr('u32', 1)}, b=1)")
                self.put(indent, "else:")
                self.put(indent + 1, f"{name}.a += {self.expr('u32', 1)}")
                self.put(indent + 1, f"d.t32 = {name}.b.atomic_add(1)")
            case 4:
                self.put(indent, f"del counts[{self.expr('u8', 1)}]")
            case _:
                self.put(indent, f"{name} = pkt.peek(u16)")
                self.put(indent, f"if {name} is None:")
                self.put(indent + 1, "d.t8 = 1")
                self.put(indent, f"elif {name} > 100:")
                self.put(indent + 1, "d.t16 = pkt.read(u16)")

    def program(self) -> str:
        """The body of the program."""
        self.put(0, "d = pkt.read(Data)")
        for number in range(self.rng.randint(1, 5)):
            kind = self.rng.choice((*UNSIGNED, *SIGNED))
            self.put(0, f"n{number} = {kind}({self.expr(kind, 1)})")
            self.variables[kind].append(f"n{number}")
        while self.budget > 0:
            self.statement(0, 3)
        for kind, names in self.variables.items():
            for name in names:
                self.put(0, f"{STORES[kind][0]} = {name}")
        self.put(0, f"return {self.pick('XDP_PASS', 'XDP_DROP')} if {self.condition(2)} else XDP_TX")
        return "\n".join(self.lines) + "\n"


def random_body(seed: int) -> str:
    """The body of the random program with this number."""
    return Writer(random.Random(seed)).program()


STRANGERS = [
    *("None", "True", "False", "pkt", "d", "ZERO", "BIG", "TYPED", "DEBUG", "PORTS", "Kind.HIGH", "u8", "be16", "1.5"),
    *("len(pkt)", "d.n16", "d.ip", "d.mac", "d.ip6", "d.arr", "d.hi", "d.flag", "counts.get(1)", "counts[1]", "'x'"),
    *("pairs.get(2)", "pkt.peek(u8)", "pkt.peek(Pair)", "pkt.read(u16)", "Pair(a=1, b=2)", "Pair.zero()", "d.copy()"),
    *("d.arr[1]", "-1", "2 ** 40", "b'abc'", "(1, 2)", "d.p64", "fold", "min", "XDP_PASS", "be16(5)", "d.x8 > 3"),
    *("table", "pairs[1].a", "d.x8.atomic_add(1)", "table[1].atomic_add(2)", "IPv4Addr('1.2.3.4')", "not d.x8"),
]
_OPERATORS = (ast.Add, ast.Sub, ast.FloorDiv, ast.Mod, ast.LShift, ast.BitAnd, ast.Pow, ast.Div)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.Is, ast.IsNot, ast.In, ast.NotIn)


def mutated_body(seed: int) -> str:
    """A random program in which some expressions have changed places, or are strangers."""
    rng = random.Random(seed)
    tree = ast.parse(random_body(seed))
    places = [
        (node, name)
        for node in ast.walk(tree)
        for name, held in ast.iter_fields(node)
        if isinstance(held, ast.expr) and isinstance(getattr(held, "ctx", ast.Load()), ast.Load)
    ]
    values = [getattr(node, name) for node, name in places]
    for node, name in rng.sample(places, min(3, len(places))):
        stranger = ast.parse(rng.choice(STRANGERS), mode="eval").body
        setattr(node, name, rng.choice([stranger, stranger, rng.choice(values)]))
        if isinstance(node, ast.BinOp):
            node.op = rng.choice(_OPERATORS)()
        if isinstance(node, ast.Compare):
            node.ops[0] = rng.choice(_COMPARISONS)()
    try:
        return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    except RecursionError:  # it now holds itself
        return "return XDP_PASS\n"
