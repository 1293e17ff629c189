"""The first road in one run: compile, verify, interpret, run in the kernel, AF_XDP. Ratios with their spread.

    python benchmarks/road.py [--rounds 15] [--json]

Where there is something to compare with (a clang process, the kernel's verifier), both are measured in turn within the
same round. Absolute figures are of this machine and minute; only ratios mean anything elsewhere. What needs root, or
clang, is left out with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FIREWALL = ROOT / "programs" / "firewall.py"
C_TWIN = Path(__file__).parent / "c" / "firewall.c"


def clock(action: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def row(samples: list[float], unit: float) -> dict[str, float]:
    """Median and spread (the middle half's width over the median)."""
    quarters = statistics.quantiles(samples, n=4) if len(samples) > 1 else [samples[0]] * 3
    middle = statistics.median(samples)
    return {"median": middle / unit, "spread": (quarters[2] - quarters[0]) / middle}


def measure_compile(rounds: int) -> dict[str, Any]:
    from ebpfkit import pipeline

    program = pipeline.import_file(FIREWALL).firewall
    first = clock(program.build)
    clang = shutil.which("clang")
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "x.o")
        command = [
            clang or "",
            "-O2",
            "-g",
            "-target",
            "bpf",
            "-I/usr/include/x86_64-linux-gnu",
            "-c",
            str(C_TWIN),
            "-o",
            target,
        ]
        for _ in range(rounds):
            ours.append(clock(program.build))
            if clang:
                theirs.append(clock(lambda: subprocess.run(command, check=True)))
    found: dict[str, Any] = {"first_ms": first * 1e3, "warm_ms": row(ours, 1e-3)}
    if clang:
        found["clang_process_ms"] = row(theirs, 1e-3)
        found["ratio_to_clang"] = row([a / b for a, b in zip(ours, theirs, strict=True)], 1)
    return found


def measure_verify(rounds: int) -> dict[str, Any]:
    from ebpfkit import pipeline
    from ebpfkit.verifier import verify_program

    program = pipeline.import_file(FIREWALL).firewall
    spec = program.build().programs["firewall"]
    reports = [verify_program(spec) for _ in range(rounds)]
    found: dict[str, Any] = {
        "verdict": reports[0].verdict,
        "insns_processed": reports[0].insns_processed,
        "ms": row([report.seconds for report in reports], 1e-3),
        "insns_per_second": row([report.insns_processed / report.seconds for report in reports], 1),
    }
    return found


def measure_interpreter(rounds: int) -> dict[str, Any]:
    from ebpfkit import pipeline
    from ebpfkit.vm import Machine
    from ebpfkit.vm.pcap import open_pcap

    obj = pipeline.import_file(FIREWALL).firewall.build()
    machine = Machine(obj)
    with open_pcap(ROOT / "ebpfkit" / "cli" / "demo_files" / "packets.pcap") as capture:
        frames = [packet.data for packet in capture]
    insns = sum(machine.run(frame).insns for frame in frames)
    seconds = [clock(lambda: [machine.run(frame) for frame in frames for _ in range(20)]) for _ in range(rounds)]
    return {
        "packets_per_second": row([20 * len(frames) / spent for spent in seconds], 1),
        "insns_per_second": row([20 * insns / spent for spent in seconds], 1),
    }


def measure_kernel(rounds: int) -> dict[str, Any]:
    from ebpfkit import pipeline
    from ebpfkit.elf import open_object
    from ebpfkit.loader import Collection

    frame = (
        bytes(12)
        + b"\x08\0"
        + bytes.fromhex("450000220001000040110000")
        + bytes([10, 0, 0, 1, 10, 0, 0, 2])
        + bytes(26)
    )
    ours, theirs = [], []
    with Collection.load(pipeline.import_file(FIREWALL).firewall.build()) as collection:
        program = collection.programs["firewall"]
        twin = _clang_twin()
        other = Collection.load(open_object(twin)) if twin else None
        for _ in range(rounds):
            ours.append(float(program.test_run(frame, repeat=200_000).duration_ns))
            if other is not None:
                theirs.append(float(other.programs["firewall"].test_run(frame, repeat=200_000).duration_ns))
        if other is not None:
            other.close()
    found: dict[str, Any] = {"ns_per_packet": row(ours, 1)}
    if theirs:
        found["clang_ns_per_packet"] = row(theirs, 1)
        found["ratio_to_clang"] = row([a / b for a, b in zip(ours, theirs, strict=True)], 1)
    return found


def _clang_twin() -> bytes | None:
    clang = shutil.which("clang")
    if clang is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "x.o"
        flags = ["-O2", "-g", "-mcpu=v3", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu"]
        subprocess.run([clang, *flags, "-c", str(C_TWIN), "-o", str(target)], check=True)
        return target.read_bytes()


def measure_start(rounds: int) -> dict[str, Any]:
    """What `import ebpfkit` and `ebpfkit --help` add to a bare interpreter, in milliseconds."""
    commands = {
        "bare": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import ebpfkit"],
        "help": [sys.executable, "-m", "ebpfkit", "--help"],
    }
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            spent[name].append(
                clock(lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
            )
    return {
        f"{name}_adds_ms": row([a - b for a, b in zip(spent[name], spent["bare"], strict=True)], 1e-3)
        for name in ("import", "help")
    }


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "start": measure_start,
    "compile the firewall": measure_compile,
    "verify it": measure_verify,
    "interpret it": measure_interpreter,
    "run it in the kernel": measure_kernel,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from ebpfkit.errors import KernelError

    found: dict[str, Any] = {}
    for name, part in PARTS.items():
        try:
            found[name] = part(options.rounds)
        except KernelError as error:
            found[name] = {"left out": str(error)}
        if not options.json:
            print(name)
            for key, value in found[name].items():
                shown = f"{value['median']:,.3g} (spread {value['spread']:.0%})" if isinstance(value, dict) else value
                print(f"    {key:<24} {shown}")
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print("\nAF_XDP: python benchmarks/xsk.py; the verifier against the kernel: python benchmarks/verifier.py")


if __name__ == "__main__":
    main()
