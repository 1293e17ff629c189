"""The virtual machine: instructions a second, packets a second, and captures; as root against the kernel's JIT.

    python benchmarks/vm.py [--rounds 9] [--json]

Each program runs in the interpreter and, with privileges, in the kernel on the same packet (BPF_PROG_TEST_RUN), in turn
within a round. Absolute figures are of this machine and minute; only ratios mean anything elsewhere.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import KernelError
from ebpfkit.vm import Machine, Packet, PcapWriter, open_pcap

PACKET = bytes.fromhex("020000000001020000000002080045000054") + bytes(46)
LOOKUP = """
    r1 = map[counts] ll
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
"""
FIND = """
    r1 = map[{kind}] ll
    r2 = r10
    r2 += {at}
    call bpf_map_lookup_elem#1
"""
PROGRAMS = {
    "arithmetic": """
        r0 = 1
        r3 = 1000
        again:
        r0 *= 31
        r0 += r3
        w4 = w0
        w4 >>= 7
        r0 ^= r4
        r0 <<= 1
        r3 += -1
        if r3 != 0 goto again
        exit
    """,
    "stack": """
        r0 = 0
        r3 = 500
        *(u64 *)(r10 -8) = 1
        again:
        r1 = *(u64 *)(r10 -8)
        r1 += r3
        *(u64 *)(r10 -8) = r1
        r2 = *(u32 *)(r10 -8)
        *(u32 *)(r10 -12) = r2
        r0 += r2
        r3 += -1
        if r3 != 0 goto again
        exit
    """,
    "calls": """
        r6 = 300
        r7 = 0
        again:
        r1 = r6
        call double
        r7 += r0
        r6 += -1
        if r6 != 0 goto again
        r0 = r7
        exit
        double:
        r0 = r1
        r0 += r1
        exit
    """,
    "array look-ups": f"""
        r6 = 100
        *(u32 *)(r10 -4) = 1
        again:
        {LOOKUP}
        if r0 == 0 goto out
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
        r6 += -1
        if r6 != 0 goto again
        out:
        r0 = 2
        exit
    """,
    **{
        f"{kind} look-ups": f"""
        r6 = 100
        *(u32 *)(r10 -12) = 32
        again:
        *(u32 *)(r10 -8) = r6
        {FIND.format(kind=kind, at=-12 if kind == "lpm" else -8)}
        if r0 == 0 goto out
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
        r6 += -1
        if r6 != 0 goto again
        out:
        r0 = 2
        exit
    """
        for kind in ("hash", "lru", "lpm", "percpu")
    },
    "hash updates": """
        r6 = 100
        again:
        *(u32 *)(r10 -8) = r6
        *(u64 *)(r10 -16) = r6
        r1 = map[hash] ll
        r2 = r10
        r2 += -8
        r3 = r10
        r3 += -16
        r4 = 0
        call bpf_map_update_elem#2
        r6 += -1
        if r6 != 0 goto again
        r0 = 2
        exit
    """,
    "small filter": f"""
        r0 = 2
        r2 = *(u32 *)(r1 +4)
        r1 = *(u32 *)(r1 +0)
        r3 = r1
        r3 += 34
        if r3 > r2 goto out
        r4 = *(u16 *)(r1 +12)
        if r4 != 8 goto out
        r4 = *(u8 *)(r1 +23)
        *(u32 *)(r10 -4) = r4
        {LOOKUP}
        if r0 == 0 goto drop
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
        r0 = 2
        goto out
        drop:
        r0 = 1
        out:
        exit
    """,
}
KEYS = [number.to_bytes(4, "little") for number in range(1, 129)]
MAPS = {
    "hash": MapSpec("hash", "hash", 4, 8, 1024, contents=tuple((key, bytes(8)) for key in KEYS)),
    "lru": MapSpec("lru", "lru_hash", 4, 8, 1024, contents=tuple((key, bytes(8)) for key in KEYS)),
    "percpu": MapSpec("percpu", "percpu_array", 4, 8, 1024),
    "lpm": MapSpec(
        "lpm", "lpm_trie", 8, 8, 1024, 1,
        contents=tuple((length.to_bytes(4, "little") + bytes(4), bytes(8)) for length in (0, 8, 16))
        + tuple(((32).to_bytes(4, "little") + key, bytes(8)) for key in KEYS[::2]),
    ),
}  # fmt: skip
COUNTS = MapSpec("counts", "hash", 4, 8, 256, contents=((bytes(4), bytes(8)), (b"\x01\0\0\0", bytes(8))))


def object_of(asm: str) -> ObjectFile:
    maps = {name: spec for name, spec in {"counts": COUNTS, **MAPS}.items() if f"map[{name}]" in asm}
    program = ProgramSpec("prog", "xdp", "xdp", tuple(parse(asm)), license="GPL", maps=maps)
    return ObjectFile({"prog": program}, maps, license="GPL")


def seconds_of(action: Callable[[], Any]) -> float:
    """Seconds of this process's CPU time: others on the machine do not count."""
    started = time.process_time()
    action()
    return time.process_time() - started


def summary(samples: list[float]) -> dict[str, float]:
    """Median and spread (the middle half's width over the median)."""
    quarters = statistics.quantiles(samples, n=4) if len(samples) > 1 else [samples[0]] * 3
    middle = statistics.median(samples)
    return {"median": middle, "spread": (quarters[2] - quarters[0]) / middle}


def kernel_runner(obj: ObjectFile) -> tuple[Callable[[], float] | None, Callable[[], None]]:
    """A function that gives the kernel's seconds for one run, or None without privileges; and what closes it."""
    from ebpfkit.loader.collection import Collection

    try:
        collection = Collection.load(obj)
    except KernelError:
        return None, lambda: None
    program = collection.programs["prog"]
    return lambda: program.test_run(PACKET, repeat=2000).duration_ns / 1e9, collection.close


def interpreter_rates(obj: ObjectFile, rounds: int) -> list[float]:
    """Instructions a second of the interpreter, round by round."""
    machine = Machine(obj)
    insns = machine.run(PACKET).insns or 0
    repeat = max(1, 40_000 // insns)
    return [insns * repeat / seconds_of(lambda: [machine.run(PACKET) for _ in range(repeat)]) for _ in range(rounds)]


def measure_program(asm: str, rounds: int) -> dict[str, Any]:
    obj = object_of(asm)
    insns = Machine(obj).run(PACKET).insns or 0
    in_kernel, close = kernel_runner(obj)
    ours, ratios = [], []
    for _ in range(rounds):
        ours += interpreter_rates(obj, 1)
        if in_kernel is not None:
            ratios.append(insns / ours[-1] / max(in_kernel(), 1e-9))
    close()
    result: dict[str, Any] = {"insns": insns, "insns_per_second": summary(ours)}
    result["runs_per_second"] = summary([rate / insns for rate in ours])
    if ratios:
        result["times_slower_than_the_kernel"] = summary(ratios)
    return result


def measure_captures(rounds: int) -> dict[str, Any]:
    count = 20_000
    out = io.BytesIO()
    with PcapWriter(out) as writer:
        for i in range(count):
            writer.write(Packet(PACKET, i * 1000, len(PACKET)))
    data = out.getvalue()
    machine = Machine(object_of(PROGRAMS["small filter"]))

    def read() -> None:
        for _ in open_pcap(data):
            pass

    def run() -> None:
        for packet in open_pcap(data):
            machine.run(packet.data)

    return {
        "packets_read_per_second": summary([count / seconds_of(read) for _ in range(rounds)]),
        "packets_run_per_second": summary([count / seconds_of(run) for _ in range(max(1, rounds // 3))]),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = options.parse_args()
    programs = {name: measure_program(asm, chosen.rounds) for name, asm in PROGRAMS.items()}
    captures = measure_captures(chosen.rounds)
    if chosen.json:
        print(json.dumps({"programs": programs, "captures": captures}, indent=2))
        return
    print(f"{'program':<16}{'insns':>8}{'M insns/s':>12}{'runs/s':>12}{'x kernel':>10}")
    for name, row in programs.items():
        rate, runs = row["insns_per_second"], row["runs_per_second"]
        slower = row.get("times_slower_than_the_kernel")
        against = f"{slower['median']:>10.0f}" if slower else f"{'(root)':>10}"
        print(f"{name:<16}{row['insns']:>8}{rate['median'] / 1e6:>12.2f}{runs['median']:>12.0f}{against}")
    for name, row in captures.items():
        print(f"{name.replace('_', ' '):<28}{row['median']:>12.0f}  (spread {row['spread']:.0%})")


if __name__ == "__main__":
    main()
