"""Random programs that are built to break, or just to keep, the rules that others seldom meet: food for campaigns.

Each kind aims at one rule and is near it from both sides. Deterministic for a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from cases import MAPS, kernel_program, program
from typed_maps import TYPES, function_infos

from ebpfkit.elf.model import MapSpec, ProgramSpec

__all__ = ["KINDS", "generate_rare"]

SLEEPS = 1 << 4
_WRITE_ONLY, _READ_ONLY = 1 << 8, 1 << 7
_MANY = {f"m{number}": MapSpec(f"m{number}", "array", 4, 8, number + 1) for number in range(70)}
_ARENAS = {
    name: MapSpec(name, "arena", 0, 0, pages, flags=1024, map_extra=place)
    for name, pages, place in (("arena", 10, 1 << 44), ("second", 20, 1 << 45))
}
_ONE_WAY = {
    "in": MapSpec("in", "array", 4, 16, 4, flags=_WRITE_ONLY),
    "out": MapSpec("out", "array", 4, 16, 4, flags=_READ_ONLY),
}
_LOOKUP = "r2 = 0; *(u32 *)(r10 - 8) = r2; r2 = r10; r2 += -8; r1 = map[{}] ll; call 1; if r0 == 0 goto out"
_OUT = "out:; r0 = 0; exit"


def _deep_calls(rng: random.Random) -> ProgramSpec:
    """A chain of calls, about as long as frames allow."""
    depth = rng.choice((6, 7, 8, 8, 9))
    parts = ["r1 = 1; call f1; exit"]
    for number in range(1, depth):
        parts.append(f"f{number}:; r1 += {rng.randrange(3)}; call f{number + 1}; exit")
    parts.append(f"f{depth}:; r0 = {rng.randrange(3)}; exit")
    return program("; ".join(parts), rng.choice(("xdp", "sched_cls")))


def _mixed_pointers(rng: random.Random) -> ProgramSpec:
    """One load that two kinds of pointers reach, which sometimes need different code."""
    kinds = {
        "context": "r3 = r6",
        "stack": "*(u64 *)(r10 - 16) = 1; r3 = r10; r3 += -16",
        "value": _LOOKUP.format("array") + "; r3 = r0",
        "packet": "r3 = *(u32 *)(r6 + 0); r4 = *(u32 *)(r6 + 4); r5 = r3; r5 += 8; if r5 > r4 goto out",
        "map": "r3 = map[array] ll",
    }
    one, other = rng.choice(list(kinds)), rng.choice(("context", "context", *kinds))
    size = rng.choice((32, 32, 8))
    store = rng.random() < 0.25
    last = f"*(u{size} *)(r3 + 0) = 1" if store else f"r9 = *(u{size} *)(r3 + 0)"
    body = (
        f"r6 = r1; call 7; if r0 == 3 goto b; {kinds[one]}; goto both; b:; {kinds[other]}; both:; {last}; r0 = 0; exit"
    )
    return program(f"{body}; {_OUT}")


def _arena(rng: random.Random) -> ProgramSpec:
    """Memory of an arena, with atomics that it has and has not."""
    page = "r1 = map[arena] ll; r2 = 0; r3 = 1; r4 = -1; r5 = 0; kcall bpf_arena_alloc_pages"
    page += "; r1 = addr_space_cast(r0, 0, 1)"
    use = rng.choice(
        (
            "*(u64 *)(r1 + 0) = 1",
            "r2 = *(u32 *)(r1 + 4)",
            "r2 = 1; lock *(u64 *)(r1 + 8) += r2",
            "r2 = 1; r2 = atomic64_fetch_add((u64 *)(r1 + 0), r2)",
            "r2 = 1; r2 = atomic64_fetch_or((u64 *)(r1 + 0), r2)",
            "r2 = 1; r2 = atomic64_fetch_and((u64 *)(r1 + 0), r2)",
            "r2 = 1; r2 = atomic64_fetch_xor((u64 *)(r1 + 0), r2)",
            "r2 = map[second] ll",
        )
    )
    first = rng.random() < 0.85
    text = f"{page}; {use}; r0 = 0; exit" if first else "r1 = 5; r1 = addr_space_cast(r1, 0, 1); r0 = 0; exit"
    return kernel_program(text, "syscall", flags=SLEEPS).replace(maps=_ARENAS)


def _maps_that_fit(rng: random.Random) -> ProgramSpec:
    """Maps for programs that sleep, and descriptors of none."""
    if rng.random() < 0.4:
        return program(f"r1 = map[fd:{rng.choice((900_000, 77_777, 123_456))}] ll; r0 = 0; exit")
    name = rng.choice(("hash", "array", "ring", "xsks", "lpm", "progs", "percpu"))
    return program(f"r1 = map[{name}] ll; r0 = 0; exit", "syscall", flags=SLEEPS)


def _places(rng: random.Random) -> ProgramSpec:
    """Programs at places that fit their type and flags, and do not."""
    match rng.randrange(4):
        case 0:
            return program("r0 = 0; exit", rng.choice(("xdp", "sched_cls", "tracepoint", "syscall")), flags=SLEEPS)
        case 1:
            return program("r0 = 0; exit", "syscall", flags=rng.choice((0, SLEEPS)))
        case 2:
            target = f"tcp_congestion_ops/{rng.choice(('get_info', 'ssthresh', 'init'))}"
            return program("r0 = 0; exit", "struct_ops").replace(attach_type="struct_ops", attach_target=target)
        case _:
            target = f"bpf_dummy_ops/{rng.choice(('test_1', 'test_sleepable'))}"
            found = program("r0 = 0; exit", "struct_ops", flags=rng.choice((0, SLEEPS)))
            return found.replace(attach_type="struct_ops", attach_target=target)


def _many(rng: random.Random) -> ProgramSpec:
    """About as many functions, or maps, as there may be."""
    if rng.random() < 0.5:
        count = rng.choice((64, 64, 65, 66))
        names = rng.sample(list(_MANY), count)
        return program("; ".join(f"r1 = map[{name}] ll" for name in names) + "; r0 = 0; exit").replace(maps=_MANY)
    count = rng.choice((254, 255, 256, 257))
    calls = "; ".join(f"call f{number}" for number in range(count))
    return program(f"{calls}; r0 = 0; exit; " + "; ".join(f"f{number}:; r0 = 0; exit" for number in range(count)))


def _one_way(rng: random.Random) -> ProgramSpec:
    """Maps that programs only read, or only write."""
    name = rng.choice(list(_ONE_WAY))
    use = rng.choice(("*(u64 *)(r0 + 0) = 1", "r9 = *(u32 *)(r0 + 4)", "r2 = 1; lock *(u64 *)(r0 + 8) += r2"))
    body = f"{_LOOKUP.format(name)}; {use}"
    if rng.random() < 0.3:
        body = f"*(u64 *)(r10 - 8) = 0; *(u64 *)(r10 - 16) = 0; *(u64 *)(r10 - 24) = 0; r1 = map[{name}] ll; r2 = r10"
        body += "; r2 += -8; r3 = r10; r3 += -24; r4 = 0; call 2; if r0 != 0 goto out"
    return program(f"{body}; r0 = 0; exit; {_OUT}").replace(maps=_ONE_WAY)


def _own_stack(rng: random.Random) -> ProgramSpec:
    """Addresses of a function's own stack, handed to its caller or not."""
    inside = rng.choice(
        (
            "r0 = r10; exit",
            "r2 = r10; r2 += -8; *(u64 *)(r1 + 0) = r2; r0 = 0; exit",
            "*(u64 *)(r1 + 0) = r1; r0 = 0; exit",
            "r0 = r1; exit",
            "r2 = 5; *(u64 *)(r1 + 0) = r2; r0 = *(u64 *)(r1 + 0); exit",
        )
    )
    return program(f"r1 = r10; r1 += -16; call f; r0 = 0; exit; f:; {inside}")


def _throws(rng: random.Random) -> ProgramSpec:
    """Exceptions, inside and outside of callbacks."""
    where = rng.choice(("callback", "callback", "below", "outside"))
    throw = "r1 = 1; kcall bpf_throw"
    inside = {"callback": throw, "below": "call g", "outside": "r0 = 0"}[where]
    body = "call 7; if r0 != 5 goto +2; r1 = 1; kcall bpf_throw; " if where == "outside" else ""
    text = f"{body}r1 = 4; r2 = subprog[f] ll; r3 = 0; r4 = 0; call 181; r0 = 0; exit; f:; {inside}; r0 = 0; exit"
    if where == "below":
        text += f"; g:; {throw}; r0 = 0; exit"
    spec = kernel_program(text, "sched_cls")
    return spec.replace(btf=TYPES, func_infos=function_infos(spec.instructions))


def _tail_calls(rng: random.Random) -> ProgramSpec:
    """Tail calls in functions, with and without types."""
    spec = program("call f; exit; f:; r2 = map[progs] ll; r3 = 0; call 12; r0 = 0; exit")
    if rng.random() < 0.5:
        return spec
    return spec.replace(btf=TYPES, func_infos=function_infos(spec.instructions)[: rng.choice((1, 2, 2))])


def _nothing(_: random.Random) -> ProgramSpec:
    """No instruction at all."""
    return ProgramSpec("case", "xdp", "xdp", (), "GPL", maps=MAPS)


def _dropped(rng: random.Random) -> ProgramSpec:
    """A function whose address is taken and that may never be walked."""
    rounds = rng.choice(("0", "0", "1"))
    text = f"r1 = {rounds}; r2 = subprog[f] ll; r3 = 0; r4 = 0; call 181; call g; exit"
    spec = program(f"{text}; g:; r0 = 0; exit; f:; r0 = 0; exit")
    return spec.replace(btf=TYPES, func_infos=function_infos(spec.instructions))


def _branches(rng: random.Random) -> ProgramSpec:
    """About as many branches as may wait at once."""
    count = rng.choice((8192, 8193, 8193, 9000))
    return program("; ".join(["call 7", *["if r0 == 7 goto +0"] * count, "r0 = 0; exit"]))


def _instructions(_: random.Random) -> ProgramSpec:
    """One instruction more than a program may have."""
    short = program("r0 = 0; exit")
    return short.replace(instructions=(short.instructions[0],) * 1_000_000 + short.instructions[-1:])


KINDS: dict[str, Callable[[random.Random], ProgramSpec]] = {
    "deep calls": _deep_calls,
    "mixed pointers": _mixed_pointers,
    "arenas": _arena,
    "maps that fit": _maps_that_fit,
    "places": _places,
    "many functions or maps": _many,
    "one-way maps": _one_way,
    "own stack": _own_stack,
    "throws": _throws,
    "tail calls": _tail_calls,
    "nothing": _nothing,
    "dropped functions": _dropped,
}
LARGE = {"branches": _branches, "instructions": _instructions}
"""Kinds whose programs are large: few of them."""


def generate_rare(seed: int) -> tuple[ProgramSpec, str]:
    """The program of this seed, and its kind."""
    rng = random.Random(seed)
    for every, kind in ((499, "instructions"), (97, "branches")):
        if seed % every == 0:
            return LARGE[kind](rng), kind
    kind = list(KINDS)[seed % len(KINDS)]
    return KINDS[kind](rng), kind
