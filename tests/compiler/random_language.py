"""Random well-typed programs over the whole language: what `random_programs` writes, and all that has come since.

Structures of the stack, atomics, maps of each kind, variables, locks, subprograms, matches of tuples, records, and at
the end the calls that move the packet's ends. Programs are text; every choice comes from the seed.
"""

from __future__ import annotations

import random

from tests.compiler.random_programs import MAPS, SIGNED, STORES, UNSIGNED, Writer

__all__ = ["LANGUAGE", "language_body"]

LANGUAGE = (
    MAPS
    + """
lru = bpf.LruHash[u32, u32](max_entries=500)
percpu = bpf.PerCpuHash[u16, u64](max_entries=64)
slots = bpf.PerCpuArray[Pair](max_entries=4)
routes = bpf.LpmTrie[IPv4Addr, u32](max_entries=64)
waiting = bpf.Queue[Pair](max_entries=4)
stacked = bpf.Stack[u64](max_entries=4)
known = bpf.BloomFilter[u32](max_entries=64)
events = bpf.RingBuf[Pair](max_entries=4096)
nested = bpf.Array[Nested](max_entries=4)
routes["10.0.0.0/8"] = 1
routes["0.0.0.0/1"] = 2
waiting.push(Pair(a=1, b=2))
LIMIT = bpf.config(u32, 9)
OFFSET = bpf.config(s64, -3)
total = bpf.var(u64)
begun = bpf.var(u32, 7)
shared = bpf.var(Pair)
row = bpf.var(array[u16, 4])
class Account(Struct):
    lock: bpf.SpinLock
    hits: u32
    left: u64
accounts = bpf.Array[Account](max_entries=4)
class Small(Header):
    kind: be16
    size: u8
    flags: u8 = bits(4)
    rest: u8 = bits(4)
    word: be32
    def heavy(self) -> bool:
        return self.size > 100
    @property
    def double(self) -> u16:
        return u16(self.size) * 2
def early(a: u32, b: u64) -> u64:
    for i in range(4):
        if a & (1 << i):
            return b + u64(a)
        b ^= u64(a) << i
    return b
def blend(p: Pair, n: u32) -> u32:
    if p.a == 0:
        return n
    return p.a * n + p.b
def signs(n: s64) -> s32:
    return s32(n >> 7) if n < 0 else -s32(n)
@bpf.noinline
def apart(a: u32, b: u32) -> u32:
    if a < b:
        return (b - a) ^ 0x55
    return a // (b + 1)
@bpf.noinline
def counted(n: u8) -> u64:
    total.value += 1
    return u64(n) * 3
@bpf.global_func
def checked(a: u64, b: u64) -> u64:
    return (a ^ b) >> 3
"""
)


class LanguageWriter(Writer):
    """Writes one program over the whole language."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.budget = rng.randint(5, 16)
        self.structs: list[str] = []
        self.unique = 0

    def fresh(self, prefix: str) -> str:
        self.unique += 1
        return f"{prefix}_{self.unique}"

    def leaf(self, kind: str) -> str:
        roll = self.rng.randrange(12)
        if roll == 0:
            more = {
                "u16": ["row.value[1]", f"row.value[{self.rng.choice(('d.x8', 'd.y8'))} & 3]"],
                "u32": ["LIMIT", "begun.value", "shared.value.a"],
                "u64": ["total.value"],
                "s64": ["OFFSET"],
            }.get(kind, [])
            if more:
                return self.rng.choice(more)
        if roll == 1 and kind == "u32" and self.structs:
            return f"{self.rng.choice(self.structs)}.{self.pick('a', 'b')}"
        return super().leaf(kind)

    def expr(self, kind: str, depth: int) -> str:
        if depth > 0 and self.rng.randrange(9) == 0:
            inner = depth - 1
            match kind:
                case "u64":
                    return self.rng.choice((
                        f"early({self.expr('u32', inner)}, {self.expr('u64', inner)})",
                        f"checked({self.expr('u64', inner)}, {self.expr('u32', inner)})",
                        f"counted({self.expr('u8', inner)})",
                    ))  # fmt: skip
                case "u32" if self.structs and self.rng.randrange(2):
                    return f"blend({self.rng.choice(self.structs)}, {self.expr('u32', inner)})"
                case "u32":
                    return f"apart({self.expr('u32', inner)}, {self.expr('u16', inner)})"
                case "s32":
                    return f"signs({self.expr('s64', inner)})"
        return super().expr(kind, depth)

    def condition(self, depth: int) -> str:
        if self.rng.randrange(8) == 0:
            return self.pick(
                "d.y8 not in counts", "u32(d.y8) in known", "d.ip in routes", "d.ip == IPv4Addr('10.0.0.1')",
                "d.mac[0] & 1 == 1", "d.n16 in (0x0800, 0x86DD)", "d.m16 < d.n16", "LIMIT > 5 and d.flag",
                "d.arr == b'\\0\\0\\0\\0\\0\\0\\0\\0'", "0 < d.p8 <= d.q32 < d.p64", "(d.x8 > 3) != d.flag",
            )  # fmt: skip
        return super().condition(depth)

    def statement(self, indent: int, depth: int) -> None:
        if self.budget > 0 and self.rng.randrange(5) < 2:
            self.budget -= 1
            self.rng.choice(
                (self.local, self.atomic, self.other_map, self.queue, self.record, self.variable, self.lock,
                 self.order, self.walk, self.cases, self.peeked, self.swap)
            )(indent, depth)  # fmt: skip
            return
        super().statement(indent, depth)

    def local(self, indent: int, depth: int) -> None:
        name = self.fresh("p")
        choice = self.rng.randrange(5)
        if choice == 0 and self.structs:
            self.put(indent, f"{name} = {self.rng.choice(self.structs)}.copy()")
        elif choice == 1:
            self.put(indent, f"{name} = Pair.zero()")
        else:
            self.put(indent, f"{name} = Pair(a={self.expr('u32', 2)}, b={self.expr('u32', 1)})")
        self.put(indent, f"{name}.b {self.pick('+', '^', '-')}= {self.expr('u32', 1)}")
        if self.rng.randrange(3) == 0:
            other = self.fresh("q")
            self.put(indent, f"{other} = Nested.zero()")
            self.put(indent, f"{other}.first = {name}")
            self.put(indent, f"{other}.tail[{self.expr('u8', 1)} & 3] = {self.expr('u16', 1)}")
            self.put(indent, f"d.t32 = {other}.first.a + u32({other}.tail[2])")
            if self.rng.randrange(2):
                self.put(indent, f"nested[{self.expr('u8', 1)} & 3] = {other}")
        self.put(indent, f"d.t32 ^= {name}.a + {name}.b")
        if indent == 0:
            self.structs.append(name)

    def atomic(self, indent: int, depth: int) -> None:
        kind, place = self.rng.choice((
            ("u64", "total.value"), ("u32", "shared.value.b"), ("u32", "begun.value"),
            ("u32", f"table[{self.expr('u8', 1)} & 7]"),
        ))  # fmt: skip
        store = self.rng.choice([s for s in STORES[kind] if s not in ("d.ip", "d.n32", "d.n64")])
        operation = self.pick("atomic_add", "atomic_sub", "atomic_and", "atomic_or", "atomic_xor", "atomic_exchange")
        call = f"{place}.{operation}({self.expr(kind, 1)})"
        if self.rng.randrange(4) == 0:
            call = f"{place}.atomic_compare_exchange({self.expr(kind, 0)}, {self.expr(kind, 1)})"
        self.put(indent, call if self.rng.randrange(2) else f"{store} = {call}")

    def other_map(self, indent: int, depth: int) -> None:
        name = self.fresh("m")
        match self.rng.randrange(7):
            case 0:
                self.put(indent, f"lru[{self.expr('u32', 1)} & 15] = {self.expr('u32', 1)}")
            case 1:
                self.put(indent, f"if ({name} := lru.get({self.expr('u8', 1)})) is not None:")
                self.put(indent + 1, f"d.t32 += {name}")
                self.block(indent + 1, depth - 1)
            case 2:
                self.put(indent, f"percpu[{self.expr('u16', 1)} & 31] = {self.expr('u64', 1)}")
            case 3:
                self.put(indent, f"slots[{self.expr('u8', 1)} & 3].a {self.pick('+', '^')}= {self.expr('u32', 1)}")
            case 4:
                self.put(indent, f"{name} = routes.get(d.ip)")
                self.put(indent, f"if {name} is None:")
                self.put(indent + 1, f"routes[d.ip] = {self.expr('u32', 1)}")
                self.put(indent, "else:")
                self.put(indent + 1, f"d.t32 = {name}")
            case 5:
                self.put(
                    indent, f"nested[{self.rng.randrange(4)}].tail[{self.expr('u8', 1)} & 3] += {self.expr('u16', 1)}"
                )
            case _:
                self.put(indent, f"known.add({self.expr('u32', 1)} & 7)")

    def queue(self, indent: int, depth: int) -> None:
        name = self.fresh("w")
        match self.rng.randrange(4):
            case 0:
                value = f"Pair(a={self.expr('u32', 1)}, b={self.expr('u32', 1)})"
                more = self.pick("", ", replace=True")
                self.put(indent, f"d.s0 = waiting.push({value}{more})")
            case 1:
                self.put(indent, f"{name} = waiting.{self.pick('pop', 'peek')}()")
                self.put(indent, f"if {name} is not None:")
                self.put(indent + 1, f"d.t32 = {name}.a - {name}.b")
            case 2:
                self.put(indent, f"stacked.push({self.expr('u64', 1)})")
            case _:
                self.put(indent, f"if ({name} := stacked.pop()) is not None:")
                self.put(indent + 1, f"d.r0 = {name}")

    def record(self, indent: int, depth: int) -> None:
        if self.rng.randrange(2):
            self.put(indent, f"events.output(Pair(a={self.expr('u32', 1)}, b={self.expr('u32', 1)}))")
            return
        name = self.fresh("e")
        self.put(indent, f"{name} = events.reserve()")
        self.put(indent, f"if {name} is not None:")
        self.put(indent + 1, f"{name}.a = {self.expr('u32', 0)}")
        self.put(indent + 1, f"{name}.b = {self.expr('u32', 0)}")
        self.put(indent + 1, f"{name}.{self.pick('submit', 'discard')}()")

    def variable(self, indent: int, depth: int) -> None:
        self.put(indent, self.rng.choice((
            f"total.value = {self.expr('u64', 2)}",
            f"begun.value {self.pick('+', '-', '^')}= {self.expr('u32', 1)}",
            f"shared.value = Pair(a={self.expr('u32', 1)}, b=LIMIT)",
            f"shared.value.a = {self.expr('u32', 1)}",
            f"row.value[{self.expr('u8', 1)} & 3] = {self.expr('u16', 1)}",
        )))  # fmt: skip

    def lock(self, indent: int, depth: int) -> None:
        name, amount = self.fresh("a"), self.fresh("n")
        self.put(indent, f"{amount} = {self.expr('u32', 1)}")
        self.put(indent, f"{name} = accounts.get({self.expr('u8', 1)} & 3)")
        self.put(indent, f"if {name} is not None:")
        self.put(indent + 1, f"with {name}.lock:")
        self.put(indent + 2, f"{name}.hits += 1")
        self.put(indent + 2, f"if {name}.left < u64({amount}):")
        self.put(indent + 3, f"{name}.left = {self.literal('u64')}")
        self.put(indent + 2, "else:")
        self.put(indent + 3, f"{name}.left -= u64({amount})")
        self.put(indent + 1, f"d.t32 = {name}.hits")

    def order(self, indent: int, depth: int) -> None:
        kind, field, other = self.rng.choice(
            (("u16", "d.n16", "d.m16"), ("u32", "d.n32", "d.ip"), ("u64", "d.n64", ""))
        )
        match self.rng.randrange(4):
            case 0:
                self.put(indent, f"{field} = {self.expr(kind, 2)}")
            case 1 if kind == "u16":
                self.put(indent, f"{field}, {other} = {other}, {field}")
            case 2:
                name = self.fresh("h")
                self.put(indent, f"{name} = {field}.to_host()")
                self.put(indent, f"{field} = {name} + {self.expr(kind, 1)}")
            case _:
                self.put(indent, f"if {field} {self.pick('==', '<', '>=')} {self.literal(kind)}:")
                self.put(indent + 1, f"{field} = {self.literal(kind)}")

    def walk(self, indent: int, depth: int) -> None:
        name = self.fresh("b")
        match self.rng.randrange(3):
            case 0:
                self.put(indent, f"for {name} in d.arr:")
                self.put(indent + 1, f"d.t16 {self.pick('+', '^')}= u16({name})")
            case 1:
                self.put(indent, f"for {name}, {name}x in ((1, 2), (3, 70), (200, 9)):")
                self.put(indent + 1, f"if d.x8 > {name}:")
                self.put(indent + 2, f"d.t8 += {name}x")
            case _:
                self.put(indent, f"for {name} in range({self.rng.randint(1, 6)}):")
                self.put(indent + 1, f"if d.arr[{name}] == {self.expr('u8', 0)}:")
                self.put(indent + 2, self.pick("break", "continue"))
                self.put(indent + 1, f"d.words[{name} & 3] += {self.expr('u32', 0)}")
                self.put(indent, "else:")
                self.put(indent + 1, "d.t8 ^= 3")

    def cases(self, indent: int, depth: int) -> None:
        left, right = self.rng.choice(("u8", "u16")), self.rng.choice(UNSIGNED)
        self.put(indent, f"match ({self.expr(left, 1)}, {self.expr(right, 1)}):")
        self.put(indent + 1, f"case (0, {self.literal(right)}):")
        self.put(indent + 2, "d.t8 = 1")
        self.put(indent + 1, f"case (1 | 2 | {self.literal(left)}, _):")
        self.block(indent + 2, depth - 1)
        if self.rng.randrange(2):
            self.put(indent + 1, "case _:")
            self.put(indent + 2, "d.t8 = 2")

    def peeked(self, indent: int, depth: int) -> None:
        name = self.fresh("s")
        if self.rng.randrange(2):
            self.put(indent, f"pkt.skip({self.expr('u8', 1)} & 7)")
        self.put(indent, f"{name} = pkt.peek(Small)")
        self.put(indent, f"if {name} is not None:")
        self.put(indent + 1, self.rng.choice((
            f"{name}.word = {self.expr('u32', 1)}",
            f"{name}.flags = {self.rng.randrange(16)}",
            f"d.t16 = {name}.double + u16({name}.rest)",
            f"d.flag = {name}.heavy()",
            f"{name}.kind = {name}.kind.to_host() + 1",
        )))  # fmt: skip

    def swap(self, indent: int, depth: int) -> None:
        self.put(indent, self.pick(
            "d.mac, d.mac2 = d.mac2, d.mac", "d.x8, d.y8, d.t8 = d.y8, d.t8, d.x8",
            "d.words[0], d.words[3] = d.words[3], d.words[0]", "d.ip = IPv4Addr('192.0.2.1')",
            "d.t32 = (k1 := d.x32 & 0xFF) + k1", "d.mac = MAC('02:00:00:00:00:01')",
        ))  # fmt: skip

    def program(self) -> str:
        self.put(0, "d = pkt.read(Data)")
        for number in range(self.rng.randint(1, 4)):
            kind = self.rng.choice((*UNSIGNED, *SIGNED))
            self.put(0, f"n{number} = {kind}({self.expr(kind, 1)})")
            self.variables[kind].append(f"n{number}")
        while self.budget > 0:
            self.statement(0, 3)
        for kind, names in self.variables.items():
            for name in names:
                self.put(0, f"{STORES[kind][0]} = {name}")
        if self.rng.randrange(3) == 0:
            self.resize()
        self.put(0, f"return {self.pick('XDP_PASS', 'XDP_DROP')} if begun.value & 1 == 0 else XDP_TX")
        return "\n".join(self.lines) + "\n"

    def resize(self) -> None:
        """The packet's ends move, and it is read and written anew; what was read before is dead."""
        self.put(0, "kept = d.x16")
        for _ in range(self.rng.randint(0, 3)):
            call = self.pick("pop_head", "trim", "extend")
            self.put(0, f"pkt.{call}({self.pick('4', '8', '14', '20', 'u8(kept & 15)')})")
        if self.rng.randrange(2):
            self.put(0, f"pkt.push_head({self.pick('4', '8')})")  # all of the new bytes are written below
        name = self.fresh("again")
        self.put(0, f"{name} = pkt.read(Small)")
        self.put(0, f"{name}.kind, {name}.size, {name}.flags, {name}.rest = kept, 5, 1, 2")
        self.put(0, f"{name}.word = len(pkt)")


def language_body(seed: int) -> str:
    """The body of the random program with this number."""
    return LanguageWriter(random.Random(f"language {seed}")).program()
