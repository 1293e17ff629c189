# ruff: noqa: E501 - a line of assembly is a line
"""Random programs of the kernel's younger constructs: locks, sections, references, dynptrs, iterators, callbacks,
objects, kernel functions.

Each program is right but for at most one slip, which may stand anywhere: a check left out, a step done twice or not at
all, a number one off. Deterministic for a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from cases import MAPS, kernel_program
from typed_maps import MAPS as TYPED
from typed_maps import NODE, NODE_MEMBERS, TYPES, function_infos

from ebpfkit.elf.model import ProgramSpec

__all__ = ["STRATA", "generate_construct"]

SLEEPS = 1 << 4
_TRACING = ("syscall", "perf_event", "tracepoint")
_NETWORK = ("xdp", "sched_cls", "cgroup_skb", "sk_skb")


class Writer:
    """Writes one program. R6 keeps the context, R7 and R8 what an idiom holds, R9 counts."""

    def __init__(self, rng: random.Random, prog_type: str) -> None:
        self.rng = rng
        self.prog_type = prog_type
        self.lines = ["r6 = r1"]
        self.functions: list[str] = []
        self.maps: set[str] = set()
        self.labels = 0
        self.used = 0
        # Half of the programs have one slip; which decision it is depends on how many the program has.
        self.until_slip = rng.randrange(1, 16) if rng.random() < 0.62 else 1000

    def slip(self) -> bool:
        """Whether this is the place where the program goes wrong."""
        self.until_slip -= 1
        return not self.until_slip

    def emit(self, text: str) -> None:
        self.lines += [line.strip() for line in text.split(";") if line.strip()]

    def label(self) -> str:
        self.labels += 1
        return f"C{self.labels}"

    def place(self, size: int) -> int:
        """Fresh stack bytes: the distance below the frame pointer."""
        self.used += -(-size // 8) * 8
        return self.used

    def near(self, number: int) -> int:
        return number + self.rng.choice((-8, -1, 1, 8)) if self.slip() else number

    def function(self, body: str) -> str:
        name = f"F{len(self.functions)}"
        self.functions.append(f"{name}:; {body}")
        return name

    def value(self, name: str, into: int) -> None:
        """A value of a typed map, checked."""
        self.maps.add(name)
        key = self.place(8)
        self.emit(
            f"*(u32 *)(r10 - {key}) = {self.rng.randrange(3)}; r2 = r10; r2 += -{key}; r1 = map[{name}] ll; call 1"
        )
        if not self.slip():
            self.emit("if r0 == 0 goto out")
        self.emit(f"r{into} = r0")

    def busy(self, base: str = "") -> None:
        """Something harmless, between two steps."""
        match self.rng.randrange(6):
            case 0:
                self.emit("r9 = 7; r9 += r9")
            case 1:
                done = self.label()
                self.emit(f"r9 = r10; if r9 == 0 goto {done}; r9 = 1; {done}:")
            case 2 if base:
                self.emit(f"r9 = *(u64 *)(r{base} + 0); if r9 > 9 goto +0")
            case 3 if base:
                self.emit(f"*(u64 *)(r{base} + 0) = 1")
            case 4:
                self.emit(f"*(u64 *)(r10 - {self.place(8)}) = {self.rng.randrange(3)}")
            case _:
                self.emit("r9 = 0")

    # -- locks and sections ----------------------------------------------------------------------------------------

    def lock(self) -> None:
        name = self.rng.choice(("locks", "cellar"))
        self.value(name, 7)
        self.emit(f"r1 = r7; r1 += {self.near(8)}; call 93")
        self.busy("7")
        if self.slip():
            self.emit(self.rng.choice(("call 5", "r1 = r7; r1 += 8; call 93", "r9 = *(u32 *)(r7 + 8)", "exit")))
        self.emit("r9 = *(u32 *)(r7 + 12); r9 += 1; *(u32 *)(r7 + 12) = r9")
        if not self.slip():
            self.emit("r1 = r7; r1 += 8; call 94")
        if self.slip():
            self.emit("r1 = r7; r1 += 8; call 94")

    def resilient(self) -> None:
        irq = self.rng.random() < 0.4
        self.value(self.rng.choice(("tough", "rugged")), 7)
        two = self.rng.random() < 0.4
        if two:
            self.value(self.rng.choice(("tough", "rugged")), 8)
        flags = [self.place(8), self.place(8)]
        took, gave = ("bpf_res_spin_lock_irqsave", "bpf_res_spin_unlock_irqrestore") if irq else (
            "bpf_res_spin_lock", "bpf_res_spin_unlock"
        )  # fmt: skip
        end = self.label()

        def call(name: str, register: int, at: int) -> None:
            self.emit(f"r1 = r{register}; r1 += {self.near(8)}; r2 = r10; r2 += -{flags[at]}; kcall {name}")

        call(took, 7, 0)
        if not self.slip():
            self.emit(f"if r0 != 0 goto {end}")
        if two:
            inner = self.label()
            call(took, 8, 1)
            self.emit(f"if r0 {'==' if self.slip() else '!='} 0 goto {inner}")
            self.busy("8")
            call(gave, 7 if self.slip() else 8, 1)
            self.emit(f"{inner}:")
        self.busy("7")
        if self.slip():
            self.emit("call 5")
        if not self.slip():
            call(gave, 7, 0)
        self.emit(f"{end}:")

    def section(self) -> None:
        match self.rng.randrange(3):
            case 0:
                opened, closed = "kcall bpf_rcu_read_lock", "kcall bpf_rcu_read_unlock"
            case 1:
                opened, closed = "kcall bpf_preempt_disable", "kcall bpf_preempt_enable"
            case _:
                place = f"r1 = r10; r1 += -{self.place(8)}"
                opened, closed = f"{place}; kcall bpf_local_irq_save", f"{place}; kcall bpf_local_irq_restore"
        self.emit(opened)
        if self.slip():
            self.emit(self.rng.choice((opened, "exit", "r1 = r10; r1 += -8; r2 = 8; r3 = r6; call 148")))
        self.rng.choice((self.busy, self.busy, self.numbers, self.record, self.section))()
        if not self.slip():
            self.emit(closed)
        if self.slip():
            self.emit(closed)

    def protected(self) -> None:
        """An object that RCU keeps alive."""
        self.emit("kcall bpf_rcu_read_lock; call 158; r7 = r0")
        self.emit(f"r8 = *(u64 *)(r7 + {_PARENT})")
        if not self.slip():
            self.emit("if r8 == 0 goto +1")
        self.emit("r9 = *(u32 *)(r8 + 0)")
        if self.slip():
            self.emit("*(u32 *)(r8 + 0) = 1")
        if not self.slip():
            self.emit("kcall bpf_rcu_read_unlock")
        if self.slip():
            self.emit("r1 = r8; kcall bpf_task_acquire")

    # -- references ------------------------------------------------------------------------------------------------

    def record(self) -> None:
        size = self.rng.choice((8, 16, 24))
        self.emit(f"r1 = map[ring] ll; r2 = {size}; r3 = 0; call 131")
        end = self.label()
        if not self.slip():
            self.emit(f"if r0 == 0 goto {end}")
        self.emit(f"r8 = r0; *(u64 *)(r8 {self.near(size - 8):+d}) = 1")
        if self.rng.random() < 0.3:
            spilled = self.place(8)
            self.emit(f"*(u64 *)(r10 - {spilled}) = r8; r8 = *(u64 *)(r10 - {spilled})")
        if not self.slip():
            self.emit(f"r1 = r8; r2 = 0; call {self.rng.choice((132, 133))}")
        if self.slip():
            self.emit(self.rng.choice(("r1 = r8; r2 = 0; call 133", "r9 = *(u64 *)(r8 + 0)")))
        self.emit(f"{end}:")

    def acquired(self) -> None:
        """An object of the kernel that is asked for, used and given back."""
        get, give, member = self.rng.choice(
            (
                ("r1 = 1; kcall bpf_task_from_pid", "bpf_task_release", 0),
                ("r1 = 1; kcall bpf_cgroup_from_id", "bpf_cgroup_release", 0),
                ("kcall bpf_cpumask_create", "bpf_cpumask_release", 0),
                ("r1 = 1; kcall bpf_task_from_vpid", "bpf_task_release", 0),
            )
        )
        if "cpumask" in get and self.prog_type not in _TRACING:
            get, give = "r1 = 1; kcall bpf_task_from_pid", "bpf_task_release"
        end = self.label()
        self.emit(get)
        if not self.slip():
            self.emit(f"if r0 == 0 goto {end}")
        self.emit("r7 = r0")
        if "cpumask" in give:
            self.emit(
                self.rng.choice(("r1 = 0; r2 = r7; kcall bpf_cpumask_set_cpu", "r1 = r7; kcall bpf_cpumask_first"))
            )
        else:
            self.emit(f"r9 = *(u32 *)(r7 {self.near(member):+d})")
        if self.rng.random() < 0.3 and "task" in give:
            self.emit("r1 = r7; kcall bpf_task_acquire; if r0 == 0 goto +2; r1 = r0; kcall bpf_task_release")
        if self.rng.random() < 0.3 and give == "bpf_task_release":
            self._keep_task()
        elif not self.slip():
            self.emit(f"r1 = r7; kcall {'bpf_cgroup_release' if self.slip() else give}")
        if self.slip():
            self.emit(self.rng.choice((f"r1 = r7; kcall {give}", "r9 = *(u32 *)(r7 + 0)")))
        self.emit(f"{end}:")

    def _keep_task(self) -> None:
        """Exchange the task in R7 for the one in a map value."""
        self.maps.add("kept")
        key, label = self.place(8), self.label()
        self.emit(f"*(u32 *)(r10 - {key}) = 1; r2 = r10; r2 += -{key}; r1 = map[kept] ll; call 1")
        self.emit(f"if r0 == 0 goto {label}; r1 = r0; r1 += {self.near(8)}; r2 = r7; call 194; r7 = r0; {label}:")
        if not self.slip():
            self.emit("if r7 == 0 goto +2")
        self.emit("r1 = r7; kcall bpf_task_release")

    def object(self) -> None:
        """An object of the program's own: alone, in a list, in a tree."""
        self.maps.add("shelves")
        end = self.label()
        self.emit(f"r1 = {NODE}; r2 = 0; kcall bpf_obj_new_impl")
        if not self.slip():
            self.emit(f"if r0 == 0 goto {end}")
        self.emit(f"r8 = r0; *(u64 *)(r8 {self.near(0):+d}) = 5")
        shared = self.rng.random() < 0.3
        if shared:
            self.emit("r1 = r8; r2 = 0; kcall bpf_refcount_acquire_impl; r7 = r0")
            self.emit("r1 = r7; r2 = 0; kcall bpf_obj_drop_impl" if not self.slip() else "r9 = 1")
        if self.rng.random() < 0.4:
            if not self.slip():
                self.emit("r1 = r8; r2 = 0; kcall bpf_obj_drop_impl")
            if self.slip():
                self.emit(self.rng.choice(("r1 = r8; r2 = 0; kcall bpf_obj_drop_impl", "r9 = *(u64 *)(r8 + 0)")))
            self.emit(f"{end}:")
            return
        self.emit(f"*(u64 *)(r10 - {(kept := self.place(8))}) = r8")
        key, gone = self.place(8), self.label()
        self.emit(
            f"*(u32 *)(r10 - {key}) = 1; r2 = r10; r2 += -{key}; r1 = map[shelves] ll; call 1; r8 = *(u64 *)(r10 - {kept})"
        )
        self.emit(f"if r0 != 0 goto {gone}; r1 = r8; r2 = 0; kcall bpf_obj_drop_impl; goto {end}; {gone}:; r7 = r0")
        if not self.slip():
            self.emit("r1 = r7; call 93")
        if self.rng.random() < 0.5:
            self.emit(
                f"r1 = r7; r1 += {self.near(8)}; r2 = r8; r2 += {self.near(NODE_MEMBERS['list'])}; r3 = 0; r4 = 0"
            )
            self.emit(f"kcall bpf_list_push_{self.rng.choice(('front', 'back'))}_impl")
            taken, offset = "r1 = r7; r1 += 8; kcall bpf_list_pop_front", NODE_MEMBERS["list"]
        else:
            less = self.function(
                f"r3 = *(u64 *)(r1 - {self.near(32)}); r4 = *(u64 *)(r2 - 32); r0 = 0; if r3 >= r4 goto +1; r0 = "
                f"{2 if self.slip() else 1}; exit"
            )
            self.emit(f"r1 = r7; r1 += {self.near(24)}; r2 = r8; r2 += {self.near(NODE_MEMBERS['tree'])}")
            self.emit(f"r3 = subprog[{less}] ll; r4 = 0; r5 = 0; kcall bpf_rbtree_add_impl")
            none = self.label()
            first = "r1 = r7; r1 += 24; kcall bpf_rbtree_first"
            taken = f"{first}; if r0 == 0 goto {none}; r1 = r7; r1 += 24; r2 = r0; kcall bpf_rbtree_remove; {none}:"
            offset = NODE_MEMBERS["tree"]
        if self.slip():
            self.emit("r1 = r8; r2 = 0; kcall bpf_obj_drop_impl")
        if self.rng.random() < 0.6:
            self.emit(f"{taken}; r8 = r0")
            if not self.slip():
                self.emit("r1 = r7; call 94")
            if not self.slip():
                self.emit(f"if r8 == 0 goto {end}; r1 = r8; r1 += {-offset}; r2 = 0; kcall bpf_obj_drop_impl")
        elif not self.slip():
            self.emit("r1 = r7; call 94")
        if self.slip():
            self.emit("r9 = *(u64 *)(r8 + 0)")
        self.emit(f"{end}:")

    def socket(self) -> None:
        """A socket that is looked up and given back."""
        tuple_ = self.place(16)
        self.emit(f"*(u64 *)(r10 - {tuple_}) = 0; *(u64 *)(r10 - {tuple_ - 8}) = 0; r1 = r6; r2 = r10; r2 += -{tuple_}")
        self.emit(f"r3 = {12 if not self.slip() else 20}; r4 = -1; r5 = 0; call {self.rng.choice((84, 99, 85))}")
        end = self.label()
        if not self.slip():
            self.emit(f"if r0 == 0 goto {end}")
        self.emit(f"r7 = r0; r9 = *(u32 *)(r7 {self.near(4):+d})")
        if not self.slip():
            self.emit("r1 = r7; call 86")
        if self.slip():
            self.emit(self.rng.choice(("r1 = r7; call 86", "r9 = *(u32 *)(r7 + 4)")))
        self.emit(f"{end}:")

    # -- dynptrs, iterators ----------------------------------------------------------------------------------------

    def dynptr(self) -> None:
        at = self.place(16)
        here = f"r10; r{{}} += -{at}"

        def pointer(register: int) -> str:
            return f"r{register} = {here.format(register)}"

        kind = self.rng.choice(("memory", "memory", "ring", "packet"))
        if kind == "packet" and self.prog_type not in ("xdp", "sched_cls"):
            kind = "memory"
        if kind == "memory":
            self.emit(
                f"r1 = map[data][0]+0 ll; r2 = {self.rng.choice((8, 32, 64))}; r3 = {int(self.slip())}; {pointer(4)}; call 197"
            )
        elif kind == "ring":
            self.emit(f"r1 = map[ring] ll; r2 = {self.rng.choice((8, 32))}; r3 = 0; {pointer(4)}; call 198")
        else:
            self.emit(
                f"r1 = r6; r2 = {int(self.slip())}; {pointer(3)}; kcall bpf_dynptr_from_{'xdp' if self.prog_type == 'xdp' else 'skb'}"
            )
        if self.slip():
            self.emit(
                self.rng.choice(
                    (f"*(u64 *)(r10 - {at}) = 0", f"r9 = *(u64 *)(r10 - {at - 8})", pointer(9) + "; r9 += 8")
                )
            )
        for _ in range(self.rng.randrange(1, 3)):
            buffer = self.place(16)
            size = self.near(8) if self.rng.random() < 0.5 else 16
            self.emit(f"*(u64 *)(r10 - {buffer}) = 1; *(u64 *)(r10 - {buffer - 8}) = 1")
            match self.rng.randrange(5):
                case 0:
                    self.emit(f"r1 = r10; r1 += -{buffer}; r2 = {size}; {pointer(3)}; r4 = 0; r5 = 0; call 201")
                case 1:
                    self.emit(f"{pointer(1)}; r2 = 0; r3 = r10; r3 += -{buffer}; r4 = {size}; r5 = 0; call 202")
                case 2 if kind != "packet":
                    end = self.label()
                    self.emit(f"{pointer(1)}; r2 = 0; r3 = 8; call 203")
                    if not self.slip():
                        self.emit(f"if r0 == 0 goto {end}")
                    self.emit(f"*(u64 *)(r0 {self.near(0):+d}) = 3; {end}:")
                case 3:
                    end = self.label()
                    self.emit(f"{pointer(1)}; r2 = 0; r3 = r10; r3 += -{buffer}; r4 = {size}; kcall bpf_dynptr_slice")
                    if not self.slip():
                        self.emit(f"if r0 == 0 goto {end}")
                    self.emit(f"r9 = *(u64 *)(r0 {self.near(0):+d}); {end}:")
                case _:
                    self.emit(f"{pointer(1)}; kcall bpf_dynptr_{self.rng.choice(('size', 'is_null', 'is_rdonly'))}")
        if kind == "ring" and not self.slip():
            self.emit(f"{pointer(1)}; r2 = 0; call {self.rng.choice((199, 200))}")
        if self.slip():
            self.emit(f"{pointer(1)}; r2 = 0; call 199")

    def numbers(self) -> None:
        bits = self.rng.random() < 0.3
        at = self.place(16)
        here = f"r1 = r10; r1 += -{at if not self.slip() else at - 4}"
        if bits:
            word = self.place(8)
            self.emit(f"*(u64 *)(r10 - {word}) = 5; {here}; r2 = r10; r2 += -{word}; r3 = 1; kcall bpf_iter_bits_new")
        else:
            self.emit(f"{here}; r2 = 0; r3 = {self.rng.choice((1, 4, 100))}; kcall bpf_iter_num_new")
        name = "bits" if bits else "num"
        loop, end = self.label(), self.label()
        if self.slip():
            self.emit(f"*(u64 *)(r10 - {at}) = 0")
        self.emit(f"r8 = 0; {loop}:; {here}; kcall bpf_iter_{name}_next")
        if not self.slip():
            self.emit(f"if r0 == 0 goto {end}")
        self.emit("r9 = *(s32 *)(r0 + 0)" if self.rng.random() < 0.5 else "w9 = *(u32 *)(r0 + 0)")
        if self.rng.random() < 0.4:
            array = self.place(16)
            skip = self.label()
            self.emit(
                f"if r9 > {self.near(7)} goto {skip}; r1 = r10; r1 += -{array - 8}; r1 += r9; *(u8 *)(r1 + 0) = 1; {skip}:"
            )
        self.emit("r8 += r9")
        if self.slip():
            self.emit("*(u32 *)(r0 + 0) = 1")
        self.emit(f"goto {loop}; {end}:")
        if not self.slip():
            self.emit(f"{here}; kcall bpf_iter_{name}_destroy")
        if self.slip():
            self.emit(f"{here}; kcall bpf_iter_{name}_{self.rng.choice(('next', 'destroy'))}")

    # -- callbacks -------------------------------------------------------------------------------------------------

    def callback(self) -> None:
        shared = self.place(16)
        self.emit(f"*(u64 *)(r10 - {shared}) = 0; *(u64 *)(r10 - {shared - 8}) = 0")
        result = self.rng.choice(("r0 = 0", "r0 = 0", "r0 = 1", "r0 = r9; r0 &= 1"))
        if self.slip():
            result = self.rng.choice(("r0 = 2", "r0 = r10", ""))
        match self.rng.randrange(4):
            case 0 | 1:
                body = f"r9 = *(u64 *)(r2 {self.near(0):+d}); r9 += r1; *(u64 *)(r2 + 0) = r9; {result}; exit"
                name = self.function(body)
                rounds = self.rng.choice(("3", "1000", "0"))
                self.emit(
                    f"r1 = {rounds}; r2 = subprog[{name}] ll; r3 = r10; r3 += -{shared}; r4 = {int(self.slip())}; call 181"
                )
            case 2:
                at = self.near(8)
                body = f"r9 = *(u64 *)(r3 {at:+d}); r8 = *(u32 *)(r2 + 0); *(u64 *)(r4 + 0) = r9; {result}; exit"
                name = self.function(body)
                which = "lpm" if self.slip() else self.rng.choice(("hash", "array"))
                self.emit(f"r1 = map[{which}] ll; r2 = subprog[{name}] ll; r3 = r10; r3 += -{shared}; r4 = 0; call 164")
            case _:
                self.emit(f"r9 = *(u64 *)(r10 - {shared})")
                body = f"r1 += r9; {result}; exit" if self.slip() else f"r9 = r1; {result}; exit"
                name = self.function(body)
                self.emit(f"r1 = r9; r1 &= 7; r2 = subprog[{name}] ll; r3 = 0; r4 = 0; call 181")
        if self.rng.random() < 0.5:
            skip = self.label()
            self.emit(
                f"r9 = *(u64 *)(r10 - {shared}); if r9 > 7 goto {skip}; r1 = r10; r1 += -{shared - self.near(8)}; r1 += r9"
            )
            self.emit(f"r9 = *(u8 *)(r1 - 8); {skip}:")

    def later(self) -> None:
        """A timer or a work queue, and what it calls."""
        work = self.rng.random() < 0.5
        name, result = ("works" if work else "timers"), "r0 = 1" if self.slip() else "r0 = 0"
        self.value(name, 7)
        body = f"r1 = *(u64 *)(r3 {self.near(16):+d}); *(u64 *)(r3 + 16) = r1; {result}; exit"
        called = self.function(body)
        other = name if not self.slip() else "locks"
        self.maps.add(other)
        self.emit(f"r1 = r7; r1 += {self.near(0)}; r2 = map[{other}] ll; r3 = 0")
        self.emit("kcall bpf_wq_init" if work else "call 169")
        if self.slip():
            self.emit("r9 = *(u64 *)(r7 + 0)")
        if work:
            self.emit(f"r1 = r7; r2 = subprog[{called}] ll; r3 = 0; r4 = 0; kcall bpf_wq_set_callback_impl")
            self.emit("r1 = r7; r2 = 0; kcall bpf_wq_start")
        else:
            self.emit(f"r1 = r7; r2 = subprog[{called}] ll; call 170; r1 = r7; r2 = 100; r3 = 0; call 171")

    def throw(self) -> None:
        """An exception, here or in a function below."""
        skip = self.label()
        self.emit(f"call 7; if r0 != 5 goto {skip}")
        if self.slip():
            self.record()
        if self.rng.random() < 0.5:
            self.emit("r1 = 1; kcall bpf_throw")
        else:
            where = self.rng.choice((self.function("r1 = 1; kcall bpf_throw; r0 = 0; exit"), ""))
            if self.slip() and where:
                self.emit(f"r1 = 2; r2 = subprog[{where}] ll; r3 = 0; r4 = 0; call 181")
            self.emit(f"call {where}" if where else "r1 = 0; kcall bpf_throw")
        self.emit(f"{skip}:")

    def text(self) -> None:
        """Strings, for kernel functions."""
        match self.rng.randrange(4):
            case 0:
                self.emit(f"r1 = map[rodata][0]+{self.near(8)} ll; kcall bpf_strlen")
            case 1:
                self.emit("r1 = map[rodata][0]+0 ll; r2 = map[rodata][0]+8 ll; kcall bpf_strcmp")
            case 2:
                self.emit(
                    f"r1 = map[rodata][0]+0 ll; r2 = {self.rng.choice(('97', 'r10' if self.slip() else '98'))}; kcall bpf_strchr"
                )
            case _:
                self.emit(f"r1 = map[rodata][0]+0 ll; r2 = {'r6' if self.slip() else '5'}; kcall bpf_strnlen")
        if self.slip():
            self.emit("r1 = 5; kcall bpf_strlen")

    # -- the program -----------------------------------------------------------------------------------------------

    def build(self, idioms: tuple[Callable[[Writer], None], ...]) -> ProgramSpec:
        for _ in range(self.rng.randrange(1, 4)):
            self.rng.choice(idioms)(self)
        lines = [*self.lines, "r0 = 0", "exit"]
        if any("goto out" in line for line in self.lines):
            lines += ["out:", "r0 = 0", "exit"]
        text = "; ".join([*lines, *self.functions])
        flags = SLEEPS if self.prog_type == "syscall" else 0
        spec = kernel_program(text, self.prog_type, flags=flags)
        maps = MAPS | {name: TYPED[name] for name in sorted(self.maps)}
        # The kernel wants the types of functions where it calls some of them.
        infos = function_infos(spec.instructions) if self.functions or "bpf_obj_new" in text else ()
        return spec.replace(maps=maps, btf=TYPES, func_infos=infos)


def _parent_offset() -> int:
    from ebpfkit.btf.types import Struct
    from ebpfkit.btf.vmlinux import read_btf_file
    from ebpfkit.errors import EbpfError

    try:
        task = read_btf_file().find("task_struct", Struct)
    except EbpfError:
        return 0
    member = task.member("real_parent") if task is not None else None
    return member.offset if member is not None else 0


_PARENT = _parent_offset()

STRATA: dict[str, tuple[tuple[str, ...], tuple[Callable[[Writer], None], ...]]] = {
    "spin locks": (_NETWORK, (Writer.lock, Writer.resilient)),
    "sections": ((*_NETWORK, *_TRACING), (Writer.section, Writer.section, Writer.busy, Writer.protected)),
    "references": ((*_TRACING, "sched_cls"), (Writer.acquired, Writer.record)),
    "sockets": (("xdp", "sched_cls"), (Writer.socket, Writer.record)),
    "objects": (("xdp", "sched_cls"), (Writer.object,)),
    "dynptrs, written": ((*_NETWORK, *_TRACING), (Writer.dynptr,)),
    "iterators": ((*_NETWORK, *_TRACING), (Writer.numbers, Writer.numbers, Writer.busy)),
    "callbacks, written": ((*_NETWORK, *_TRACING), (Writer.callback, Writer.callback, Writer.record)),
    "timers": (("xdp", "sched_cls"), (Writer.later,)),
    "exceptions": (("xdp", "sched_cls", "syscall"), (Writer.throw, Writer.busy, Writer.numbers)),
    "strings": ((*_NETWORK, *_TRACING), (Writer.text, Writer.dynptr)),
    "constructs, mixed": (
        ("xdp", "sched_cls"),
        (
            Writer.lock, Writer.resilient, Writer.section, Writer.record, Writer.acquired, Writer.object, Writer.socket,
            Writer.dynptr, Writer.numbers, Writer.callback, Writer.later, Writer.text,
        ),
    ),
}  # fmt: skip
"""Name: the program types, and what programs of it are made of."""


def generate_construct(seed: int) -> tuple[ProgramSpec, str]:
    """The program of this seed, and its stratum."""
    rng = random.Random(seed)
    stratum = list(STRATA)[seed % len(STRATA)]
    prog_types, idioms = STRATA[stratum]
    return Writer(rng, rng.choice(prog_types)).build(idioms), stratum
