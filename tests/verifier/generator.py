"""Random programs near the edge of safety, and mutants of programs: food for the comparison with the kernel.

Deterministic for a seed. `generate` writes well-formed assembly from idioms (checks before accesses, masks, spills,
look-ups, loops, calls), each now and then slightly wrong; `mutate` changes one thing in a program.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ebpfkit.asm.insn import Instruction, Register
from ebpfkit.asm.isa import OPCODES, Kind

__all__ = ["Generator", "generate", "mutate", "mutate_gently"]

_ALU = ("+=", "-=", "*=", "&=", "|=", "^=", "<<=", ">>=", "s>>=", "/=", "%=")
_JUMPS = ("==", "!=", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<=", "&")
_NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    127,
    255,
    256,
    -1,
    -2,
    -8,
    -128,
    0xFFFF,
    0x7FFFFFFF,
    -0x80000000,
)
_STRATA = ("numbers", "stack", "packet", "map", "calls", "loops", "mixed")


class Generator:
    """Writes one program; `kinds` remembers what each register holds, so that most of it makes sense."""

    def __init__(self, rng: random.Random, stratum: str, wrong: float = 0.06, prog_type: str = "xdp") -> None:
        self.prog_type = prog_type
        self.offsets = {"xdp": (0, 4)}.get(prog_type, (76, 80))  # of data and data_end in the context
        self.rng = rng
        self.stratum = stratum
        self.wrong = wrong
        self.lines: list[str] = []
        self.functions: list[list[str]] = []
        self.labels = 0
        self.kinds: dict[int, str] = {1: "ctx"}
        self.slots: dict[int, str] = {}

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def off(self, number: int) -> int:
        """The number, now and then one off."""
        return number + self.rng.choice((-1, 1, 8)) if self.chance(self.wrong) else number

    def label(self) -> str:
        self.labels += 1
        return f"L{self.labels}"

    def emit(self, line: str) -> None:
        self.lines.append(line)

    def pick(self, kind: str) -> int | None:
        found = [r for r, k in self.kinds.items() if k == kind]
        return self.rng.choice(found) if found else None

    def fresh(self) -> int:
        """A register to overwrite; R6 keeps the context."""
        return self.rng.choice((0, 2, 3, 4, 5, 7, 8, 9))

    def put(self, register: int, kind: str) -> int:
        self.kinds[register] = kind
        return register

    def number(self) -> int:
        """A register that holds a number."""
        found = self.pick("number")
        if found is not None and self.chance(0.85):
            return found
        return self.new_number()

    def new_number(self) -> int:
        register = self.fresh()
        match self.rng.randrange(6):
            case 0:
                self.emit(f"r{register} = {self.rng.choice(_NUMBERS)}")
            case 1 if self.kinds.get(6) == "ctx":
                self.emit(f"r{register} = *(u32 *)(r6 + {self.rng.choice((12, 16))})")
            case 2:
                self.emit(
                    f"r{register} = *(u{self.rng.choice((8, 16, 32, 64))} *)(r10 - {self.rng.choice((8, 16, 64))})"
                )
            case 3:
                self.emit(f"w{register} = {self.rng.choice(_NUMBERS)}")
            case 4 if self.kinds.get(6) == "ctx":
                self.emit(f"r{register} = *(u32 *)(r6 + 12)")
                self.emit(f"r{register} &= {self.rng.choice((1, 3, 7, 15, 255, 0xFFFF))}")
            case _:
                self.emit(f"r{register} = {self.rng.randrange(-300, 300)}")
        return self.put(register, "number")

    # -- idioms ----------------------------------------------------------------------------------------------------

    def arithmetic(self) -> None:
        register = self.number()
        letter = self.rng.choice("rw")
        width = 64 if letter == "r" else 32
        match self.rng.randrange(12):
            case 0:
                self.emit(f"{letter}{register} = -{letter}{register}")
            case 1:
                size = self.rng.choice((8, 16, 32) if letter == "r" else (8, 16))
                target = self.fresh()
                self.emit(f"{letter}{target} = (s{size}){letter}{register}")
                self.put(target, "number")
            case 2:
                self.emit(
                    f"r{register} = {self.rng.choice(('be', 'le', 'bswap'))}{self.rng.choice((16, 32, 64))} r{register}"
                )
            case 3:
                self.emit(f"{letter}{register} {self.rng.choice(('s/=', 's%='))} {self.rng.choice((1, 2, 3, -1, -7))}")
            case 4 | 5 | 6:
                other = self.number()
                register = self.number()
                self.emit(f"{letter}{register} {self.rng.choice(_ALU)} {letter}{other}")
            case 7:
                target = self.fresh()
                self.emit(f"{letter}{target} = {letter}{register}")
                self.put(target, "number")
            case 8:
                self.emit(f"{letter}{register} s>>= {width - 1}")
                self.emit(f"{letter}{register} &= {self.rng.choice(_NUMBERS)}")
            case _:
                operation = self.rng.choice(_ALU)
                value = self.rng.choice(_NUMBERS)
                if operation in ("<<=", ">>=", "s>>="):
                    value = self.rng.randrange(width)
                elif operation in ("/=", "%="):
                    value = value or 3
                self.emit(f"{letter}{register} {operation} {value}")

    def bound(self, register: int, top: int) -> None:
        """Make the number small by one of the usual ways."""
        match self.rng.randrange(6):
            case 0:
                self.emit(f"r{register} &= {self.off((1 << top.bit_length()) - 1 if self.chance(0.1) else top)}")
            case 1:
                self.emit(f"if r{register} > {self.off(top)} goto out")
            case 2:
                self.emit(f"if r{register} >= {self.off(top + 1)} goto out")
            case 3:
                self.emit(f"if r{register} s> {self.off(top)} goto out")
                if not self.chance(self.wrong):
                    self.emit(f"if r{register} s< 0 goto out")
            case 4:
                self.emit(f"w{register} &= {self.off(top)}")
            case _:
                self.emit(f"w{register} = w{register}")
                self.emit(f"if w{register} > {self.off(top)} goto out")

    def branch(self) -> None:
        register = self.number()
        letter = self.rng.choice("rrw")
        operand = f"{letter}{self.number()}" if self.chance(0.35) else str(self.rng.choice(_NUMBERS))
        label = self.label()
        self.emit(f"if {letter}{register} {self.rng.choice(_JUMPS)} {operand} goto {label}")
        before = dict(self.kinds)
        for _ in range(self.rng.randrange(1, 4)):
            self.rng.choice((self.arithmetic, self.arithmetic, self.spill, self.idle))()
        self.kinds = {r: k for r, k in before.items() if self.kinds.get(r) == k}
        if self.chance(0.25):
            done = self.label()
            self.emit(f"goto {done}")
            self.emit(f"{label}:")
            kept = dict(self.kinds)
            self.arithmetic()
            self.kinds = {r: k for r, k in kept.items() if self.kinds.get(r) == k}
            self.emit(f"{done}:")
        else:
            self.emit(f"{label}:")

    def decide(self) -> None:
        """A branch that something known decides; the other side is broken."""
        register = self.number()
        label = self.label()
        self.bound(register, self.rng.choice((3, 7, 15)))
        self.emit(f"if r{register} < {self.off(16)} goto {label}")
        self.emit("r0 = r5" if 5 not in self.kinds else f"r0 = *(u64 *)(r{register} + 0)")
        self.emit("exit")
        self.emit(f"{label}:")

    def linked(self) -> None:
        """A copy some way from its original; one is tested, the other decides."""
        one, other = self.rng.sample((7, 8, 9), 2)
        letter = self.rng.choice("rrw")
        self.emit(f"r{one} = *(u{self.rng.choice((32, 64))} *)(r10 - 24)")
        self.emit(f"{letter}{other} = {letter}{one}")
        distance = self.rng.choice((0, 1, 4, -4))
        if distance:
            self.emit(f"{letter}{other} {self.rng.choice(('+=', '-='))} {distance}")
        self.put(one, "number")
        self.put(other, "number")
        tested, used = self.rng.sample((one, other), 2)
        self.emit(f"if {self.rng.choice((letter, 'r'))}{tested} > {self.rng.choice((3, 8, 15))} goto out")
        label = self.label()
        self.emit(f"if r{used} < {self.rng.choice((16, 20, 32))} goto {label}")
        if self.chance(0.5):
            self.emit(f"r{used} = *(u64 *)(r{used} + 0)")
        self.emit(f"{label}:")

    def spill(self) -> None:
        size = self.rng.choice((1, 2, 4, 8, 8))
        place = self.rng.randrange(1, 9) * 8 - (self.rng.randrange(8 // size) * size if self.chance(0.4) else 0)
        place = self.off(place) if self.chance(0.2) else place
        if self.chance(0.3):
            self.emit(f"*(u{8 * size} *)(r10 - {place}) = {self.rng.choice((0, 0, 1, 5, -1))}")
        else:
            kind = self.rng.choice(("number", "number", "number", "ctx", "packet"))
            register = self.pick(kind)
            if register is None:
                register = self.number()
            if kind != "number" and not self.chance(self.wrong):
                size, place = 8, (place + 7) // 8 * 8
            self.emit(f"*(u{8 * size} *)(r10 - {place}) = r{register}")
            self.slots[place] = self.kinds.get(register, "number") if size == 8 else "number"

    def fill(self) -> None:
        register = self.fresh()
        if self.slots and self.chance(0.7):
            place = self.rng.choice(list(self.slots))
            kind = self.slots[place]
            size = 8 if kind != "number" or self.chance(0.5) else self.rng.choice((1, 2, 4))
        else:
            size = self.rng.choice((1, 2, 4, 8))
            place, kind = self.rng.randrange(1, 9) * 8 // size * size, "number"
        if self.chance(0.2):
            signed = "s" if size < 8 else "u"
            self.emit(f"r{register} = *({signed}{8 * size} *)(r10 - {place})")
        else:
            self.emit(f"r{register} = *(u{8 * size} *)(r10 - {place})")
        self.put(register, kind if size == 8 else "number")

    def stack_index(self) -> None:
        """An access to the stack at an unknown place."""
        index = self.number()
        self.bound(index, self.rng.choice((1, 3, 7, 15)))
        base = self.rng.choice([r for r in (2, 3, 4, 5) if r != index])
        self.emit(f"r{base} = r10")
        self.emit(f"r{base} += {-self.off(self.rng.choice((4, 12, 16, 20, 24, 32)))}")
        self.emit(f"r{base} += r{index}")
        if self.chance(0.5):
            self.emit(f"*(u8 *)(r{base} + 0) = {self.rng.choice((0, 1))}")
            self.fill()
            self.branch()
        else:
            self.emit(f"r{index} = *(u8 *)(r{base} + 0)")
        self.kinds.pop(base, None)

    def packet(self) -> None:
        if self.kinds.get(6) != "ctx":
            return
        data, end, probe = self.rng.sample((2, 3, 4, 5, 7, 8), 3)
        self.emit(f"r{data} = *(u32 *)(r6 + {self.offsets[0]})")
        self.emit(f"r{end} = *(u32 *)(r6 + {self.offsets[1]})")
        for register in (data, end, probe):
            self.kinds.pop(register, None)
        if self.chance(0.35):
            index = self.rng.choice((0, 9))
            self.emit(f"r{index} = *(u32 *)(r6 + {self.rng.choice((12, 16))})")
            self.put(index, "number")
            self.bound(index, self.rng.choice((15, 60, 255, 0xFFFF)))
            self.emit(f"r{data} += r{index}")
        if self.chance(0.3):
            self.emit(f"*(u64 *)(r10 - 40) = r{data}")
            self.slots[40] = "packet"
        size = self.rng.choice((2, 4, 8, 14, 20, 34))
        self.emit(f"r{probe} = r{data}")
        self.emit(f"r{probe} += {self.off(size)}")
        compare, first, second = self.rng.choice(
            ((">", probe, end), (">=", probe, end), ("<", end, probe), ("<=", end, probe))
        )
        if self.chance(0.2):
            label = self.label()
            self.emit(f"if r{probe} {self.rng.choice(('<=', '<'))} r{end} goto {label}")
            self.emit("goto out")
            self.emit(f"{label}:")
        else:
            self.emit(f"if r{first} {compare} r{second} goto out")
        self.put(data, "packet")
        for _ in range(self.rng.randrange(1, 4)):
            width = self.rng.choice([w for w in (1, 2, 4, 8) if w <= size])
            place = self.off(self.rng.randrange(size - width + 1))
            if self.chance(0.3):
                self.emit(f"*(u{8 * width} *)(r{data} {place:+d}) = {self.rng.choice((0, 7))}")
            else:
                target = self.rng.choice((0, 9))
                self.emit(f"r{target} = *(u{8 * width} *)(r{data} {place:+d})")
                self.put(target, "number")

    def lookup(self) -> None:
        name = self.rng.choice(("hash", "array", "array", "percpu", "lpm"))
        size = {"hash": 16, "array": 16, "percpu": 8, "lpm": 8}[name]
        place = self.rng.choice((8, 8, 16, 12 if name != "lpm" else 16))
        key = self.rng.randrange(5)
        if self.chance(0.6):
            if self.chance(0.5):
                self.emit(f"*(u32 *)(r10 - {place}) = {key}")
            else:
                register = self.number()
                self.emit(f"*(u32 *)(r10 - {place}) = r{register}")
        if name == "lpm":
            self.emit(f"*(u32 *)(r10 - {place - 4}) = 0")
        self.emit("r2 = r10")
        self.emit(f"r2 += -{place}")
        self.emit(f"r1 = map[{name}] ll")
        self.emit("call 1")
        for register in (1, 2, 3, 4, 5):
            self.kinds.pop(register, None)
        if not self.chance(self.wrong):
            if self.chance(0.7):
                self.emit("if r0 == 0 goto out")
            else:
                label = self.label()
                self.emit(f"if r0 != 0 goto {label}")
                self.emit("goto out")
                self.emit(f"{label}:")
        value = self.rng.choice((0, 7, 8))
        if value:
            self.emit(f"r{value} = r0")
        self.put(0, "value")
        self.put(value, "value")
        if self.chance(0.5):
            index = self.rng.choice([r for r in (2, 3, 9) if r != value])
            self.emit(f"r{index} = *(u{self.rng.choice((8, 16, 32, 64))} *)(r{value} + 0)")
            self.put(index, "number")
            self.bound(index, size - 1 if self.chance(0.5) else 7)
            self.emit(f"r{value} += r{index}")
            self.kinds.pop(value, None)
            self.kinds.pop(0, None)
            self.emit(f"r{index} = *(u8 *)(r{value} {self.off(0):+d})")
            return
        width = self.rng.choice((1, 2, 4, 8))
        at = self.off(self.rng.randrange(size // width) * width)
        match self.rng.randrange(3):
            case 0:
                self.emit(f"*(u{8 * width} *)(r{value} {at:+d}) = 1")
            case 1:
                register = self.number()
                atomic = 8 if width == 8 else 4
                at = self.off(self.rng.randrange(size // atomic) * atomic)
                fetch = self.rng.choice(("", "fetch"))
                if fetch:
                    tag = "64" if atomic == 8 else ""
                    self.emit(f"r{register} = atomic{tag}_fetch_add((u{8 * atomic} *)(r{value} {at:+d}), r{register})")
                else:
                    self.emit(f"lock *(u{8 * atomic} *)(r{value} {at:+d}) {self.rng.choice(('+=', '|='))} r{register}")
            case _:
                target = self.rng.choice((2, 3, 9))
                self.emit(f"r{target} = *(u{8 * width} *)(r{value} {at:+d})")
                self.put(target, "number")

    def call(self) -> None:
        """A call of a function of the program, with numbers and perhaps a stack pointer."""
        name = f"F{len(self.functions)}"
        lines = [f"{name}:"]
        stack_argument = self.chance(0.4)
        if stack_argument:
            self.emit(f"*(u64 *)(r10 - 48) = {self.rng.randrange(9)}")
            self.emit("r1 = r10")
            self.emit("r1 += -48")
            lines.append(f"*(u64 *)(r1 + 0) = {self.rng.randrange(9)}" if self.chance(0.5) else "r0 = *(u64 *)(r1 + 0)")
        else:
            self.emit(f"r1 = r{self.number()}")
        self.emit(f"r2 = r{self.number()}" if self.chance(0.5) else f"r2 = {self.rng.choice(_NUMBERS)}")
        inner = Generator(self.rng, self.stratum, self.wrong)
        inner.kinds = {2: "number"} if stack_argument else {1: "number", 2: "number"}
        inner.labels = 1000 * (len(self.functions) + 1)
        for _ in range(self.rng.randrange(1, 4)):
            self.rng.choice((inner.arithmetic, inner.branch, inner.spill, inner.fill))()
        result = inner.pick("number")
        inner.emit(f"r0 = r{result}" if result is not None else "r0 = 1")
        inner.emit("exit")
        self.functions.append(lines + inner.lines)
        self.emit(f"call {name}")
        for register in (0, 1, 2, 3, 4, 5):
            self.kinds.pop(register, None)
        self.put(0, "number")
        if stack_argument and self.chance(0.5):
            target = self.fresh()
            self.emit(f"r{target} = *(u64 *)(r10 - 48)")
            self.put(target, "number")

    def helper(self) -> None:
        match self.rng.randrange(7):
            case 0:
                self.emit(f"call {self.rng.choice((5, 7, 8))}")
            case 1 if self.kinds.get(6) == "ctx":
                self.emit("r1 = r6")
                self.emit(f"r2 = {self.rng.choice((0, 4, -4))}")
                self.emit("call 44" if self.prog_type == "xdp" else "call 39")
                self.kinds = {r: k for r, k in self.kinds.items() if k != "packet"}
                self.slots = {s: k for s, k in self.slots.items() if k != "packet"}
            case 2:
                size = self.number()
                self.bound(size, 32)
                self.emit(f"r2 = r{size}")
                self.emit("r1 = r10")
                self.emit("r1 += -64")
                self.emit("r3 = 0")
                self.emit("r4 = 0")
                self.emit("r5 = 0")
                self.emit("call 28")
            case 3:
                self.emit("r2 = r10")
                self.emit("r2 += -8")
                self.emit("r3 = r10")
                self.emit(f"r3 += -{self.off(32)}")
                self.emit(f"r1 = map[{self.rng.choice(('hash', 'array'))}] ll")
                self.emit(f"r4 = {self.rng.choice((0, 1))}")
                self.emit("call 2")
            case 4 if self.kinds.get(6) == "ctx":
                self.emit("r1 = r6")
                self.emit("r2 = r10")
                self.emit("r2 += -72")
                self.emit(f"r3 = {self.off(64)}")
                self.emit("r4 = 0")
                self.emit("call 69")
            case 5:
                self.reserve()
                return
            case _:
                self.emit(f"r1 = map[{self.rng.choice(('xsks', 'xsks', 'hash'))}] ll")
                self.emit(f"r2 = r{self.number()}" if self.chance(0.4) else "r2 = 0")
                self.emit("r3 = 2")
                self.emit("call 51")
        for register in (0, 1, 2, 3, 4, 5):
            self.kinds.pop(register, None)
        self.put(0, "number")

    def reserve(self) -> None:
        """A ring buffer record: reserved, tested, filled, submitted - or not."""
        size = self.rng.choice((8, 16, 24))
        self.emit("r1 = map[ring] ll")
        self.emit(f"r2 = {size}")
        self.emit("r3 = 0")
        self.emit("call 131")
        for register in (1, 2, 3, 4, 5):
            self.kinds.pop(register, None)
        label = self.label()
        self.emit(f"if r0 == 0 goto {label}")
        self.emit(f"*(u64 *)(r0 {self.off(self.rng.randrange(size // 8) * 8):+d}) = 1")
        if self.chance(0.3):
            self.emit("*(u64 *)(r10 - 56) = r0")
            self.emit("r0 = *(u64 *)(r10 - 56)")
        if not self.chance(self.wrong):
            self.emit("r1 = r0")
            self.emit("r2 = 0")
            self.emit(f"call {self.rng.choice((132, 133))}")
        self.emit(f"{label}:")
        self.emit("r0 = 0")
        self.put(0, "number")

    def loop(self) -> None:
        counter = self.rng.choice((7, 8, 9))
        label = self.label()
        top = self.rng.choice((2, 3, 5, 10, 17, 40))
        self.emit(f"r{counter} = 0")
        self.put(counter, "number")
        self.emit(f"{label}:")
        before = dict(self.kinds)
        for _ in range(self.rng.randrange(1, 4)):
            self.rng.choice((self.arithmetic, self.branch, self.spill, self.fill, self.idle))()
        self.kinds = {r: k for r, k in before.items() if self.kinds.get(r) == k}
        if self.kinds.get(counter) != "number":
            self.emit(f"r{counter} = {top}")
            self.put(counter, "number")
        if self.chance(0.15):
            self.emit(f"may_goto {label}x")
            self.emit(f"{label}x:")
        self.emit(f"r{counter} += 1")
        self.emit(
            f"if {self.rng.choice('rrw')}{counter} {self.rng.choice(('<', '<', '!=', 's<', '<='))} {top} goto {label}"
        )

    def idle(self) -> None:
        register = self.number()
        target = self.fresh()
        self.emit(f"r{target} = r{register}")
        self.put(target, "number")

    def build(self) -> str:
        """The whole program."""
        self.emit("r6 = r1")
        self.put(6, "ctx")
        idioms: dict[str, tuple[Callable[[], None], ...]] = {
            "numbers": (self.arithmetic, self.arithmetic, self.branch, self.branch, self.decide, self.linked),
            "stack": (self.spill, self.fill, self.fill, self.stack_index, self.arithmetic, self.branch, self.linked),
            "packet": (self.packet, self.packet, self.arithmetic, self.branch, self.fill, self.helper),
            "map": (self.lookup, self.lookup, self.arithmetic, self.branch, self.spill),
            "calls": (self.call, self.call, self.helper, self.arithmetic, self.fill, self.branch),
            "loops": (self.loop, self.loop, self.arithmetic, self.fill),
        }
        idioms["mixed"] = tuple(dict.fromkeys(idiom for group in list(idioms.values()) for idiom in group))
        for _ in range(self.rng.randrange(2, 9)):
            self.rng.choice(idioms[self.stratum])()
        result = self.pick("number")
        self.emit(f"r0 = r{result}" if result is not None and self.chance(0.5) else "r0 = 2")
        self.emit("exit")
        if any("goto out" in line for line in self.lines):
            self.emit("out:")
            self.emit("r0 = 1")
            self.emit("exit")
        for lines in self.functions:
            self.lines += lines
            if any("goto out" in line for line in lines):
                own = f"out{self.label()}"
                self.lines[-len(lines) :] = [line.replace("goto out", f"goto {own}") for line in lines]
                self.lines += [f"{own}:", "r0 = 1", "exit"]
        return "\n".join(self.lines)


def generate(seed: int, stratum: str | None = None, prog_type: str = "xdp") -> tuple[str, str]:
    """The program of this seed as assembly, and its stratum."""
    rng = random.Random(seed)
    chosen = stratum or _STRATA[seed % len(_STRATA)]
    return Generator(rng, chosen, prog_type=prog_type).build(), chosen


_BY_SHAPE: dict[tuple[Kind, int, str], list[str]] = {}
for _op in OPCODES.values():
    _BY_SHAPE.setdefault((_op.kind, 0, _op.source), []).append(_op.name)


_NEAR = {
    "JGT": "JGE", "JGE": "JGT", "JLT": "JLE", "JLE": "JLT", "JEQ": "JNE", "JNE": "JEQ", "JSGT": "JSGE", "JSGE": "JSGT",
    "JSLT": "JSLE", "JSLE": "JSLT", "ADD": "SUB", "SUB": "ADD", "OR": "AND", "AND": "OR",
}  # fmt: skip


def mutate_gently(insns: list[Instruction], rng: random.Random) -> list[Instruction]:
    """The program with one small thing changed that may well leave it right: for what most changes would break."""
    result = list(insns)
    for _ in range(20):
        at = rng.randrange(len(result))
        insn = result[at]
        kind, stem = insn.op.kind, insn.op.name.partition("_")[0]
        match rng.randrange(6):
            case 0 if kind in (Kind.LOAD, Kind.STORE) and insn.op.source != "imm":
                result[at] = insn.replace(off=_wrap(insn.off + rng.choice((-8, 8, -4, 4, 1)), 16))
            case 1 if kind in (Kind.ALU, Kind.MOV, Kind.STORE) and insn.op.source == "imm":
                result[at] = insn.replace(imm=_wrap(insn.imm + rng.choice((-1, 1, 8, -8)), 32))
            case 2 if stem.rstrip("3264") in _NEAR:
                name = insn.op.name.replace(stem.rstrip("3264"), _NEAR[stem.rstrip("3264")], 1)
                if name not in OPCODES:
                    continue
                result[at] = insn.replace(op=OPCODES[name])
            case 3 if kind in (Kind.ALU, Kind.STORE, Kind.JUMP):
                result[at] = Instruction(OPCODES["JA"])
            case 4 if at + 1 < len(result) and insn.slots == result[at + 1].slots == 1:
                following = result[at + 1]
                if {kind, following.op.kind} & {Kind.JUMP, Kind.GOTO, Kind.CALL, Kind.EXIT}:
                    continue  # distances and what calls leave would change
                result[at], result[at + 1] = following, insn
            case 5 if kind is Kind.LOAD:
                result[at] = insn.replace(dst=Register(rng.choice((0, 9))))
            case _:
                continue
        break
    return result


def mutate(insns: list[Instruction], rng: random.Random) -> list[Instruction]:
    """The program with one thing changed; the number of slots stays the same, so that jumps keep their targets."""
    result = list(insns)
    at = rng.randrange(len(result))
    insn = result[at]
    if insn.op.name == "CALL_LOCAL":
        insn = insn.replace(ref=None)  # the number counts, as it does for the kernel
    match rng.randrange(8):
        case 0 if insn.op.kind not in (Kind.WIDE, Kind.ATOMIC, Kind.LOAD_ACQUIRE, Kind.STORE_RELEASE):
            result[at] = insn.replace(imm=_wrap(insn.imm + rng.choice((-8, -1, 1, 8)), 32))
        case 1 if insn.op.kind in (Kind.LOAD, Kind.STORE, Kind.ATOMIC, Kind.JUMP, Kind.LOADSX):
            result[at] = insn.replace(off=_wrap(insn.off + rng.choice((-8, -4, -1, 1, 4, 8)), 16))
        case 2:
            names = _BY_SHAPE[insn.op.kind, 0, insn.op.source]
            op = OPCODES[rng.choice(names)]
            if op.slots == insn.op.slots and insn.op.kind not in (Kind.WIDE, Kind.CALL):
                result[at] = insn.replace(op=op)
        case 3:
            result[at] = insn.replace(dst=Register(rng.randrange(11)))
        case 4:
            if insn.op.source == "reg" or insn.op.kind in (Kind.LOAD, Kind.LOADSX, Kind.MOVSX):
                result[at] = insn.replace(src=Register(rng.randrange(11)))
        case 5 if insn.slots == 1:
            result[at] = Instruction(OPCODES["JA"])  # as good as deleted, and jumps keep their targets
        case 6 if insn.slots == 1:
            other = rng.randrange(len(result))
            if result[other].slots == 1:
                result[at], result[other] = result[other], insn
        case _:
            if insn.op.name == "CALL":
                result[at] = insn.replace(imm=rng.choice((1, 2, 3, 5, 7, 8, 12, 26, 28, 44, 51, 65, 69, 131, 132, 999)))
            elif insn.op.kind is Kind.ALU and insn.op.source == "imm":
                result[at] = insn.replace(imm=rng.choice(_NUMBERS))
    return result


def _wrap(value: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half
