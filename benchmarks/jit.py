"""The virtual machine in one run: native code against the kernel's JIT, the interpreter, captures, time to compile.

    python benchmarks/jit.py [--rounds 9] [--packets 1000000] [--json]

Each program runs in safe and in trusted native code (a native loop over one packet, as BPF_PROG_TEST_RUN runs it) and,
as root, in the kernel, in turn within a round. A ratio is time against the kernel's, so below 1 is faster; what the
kernel spends on each run of a test run is measured with an empty program and left out on both sides. The best of a few
short stretches counts in each round, since other work on the machine only ever adds time. Beside the ratios stand the
interpreter's instructions a second, and at the end packets a second from a capture, in native code and interpreted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from vm import PACKET, PROGRAMS, interpreter_rates, kernel_runner, measure_captures, object_of, seconds_of, summary

from ebpfkit.elf.model import ObjectFile
from ebpfkit.verifier import Report, verify_program
from ebpfkit.vm import Machine, PcapWriter
from ebpfkit.vm.jit_loop import repeat, run_capture

EMPTY = "r0 = 2\nexit"
STRETCHES = 5
MODES = ("safe", "trusted")


def machines_of(obj: ObjectFile) -> tuple[dict[str, Machine], dict[str, float]]:
    """A machine for each mode, and the seconds from the object to the end of its first run."""
    report = Report(tuple(verify_program(spec) for spec in obj.programs.values()))
    if not report.ok:
        raise SystemExit(f"the verifier does not accept a program of the benchmark: {report}")
    machines, compiled = {}, {}
    for mode in MODES:
        started = time.perf_counter()
        machines[mode] = Machine(obj, jit=mode, report=report)
        machines[mode].run(PACKET)
        compiled[mode] = time.perf_counter() - started
    return machines, compiled


def runner(machine: Machine, times: int) -> Callable[[], float]:
    return lambda: min(seconds_of(lambda: repeat(machine, PACKET, times)) for _ in range(STRETCHES)) / times


def best_of(measure: Callable[[], float]) -> Callable[[], float]:
    return lambda: min(measure() for _ in range(STRETCHES))


def measure_program(asm: str, rounds: int) -> dict[str, Any]:
    obj, empty = object_of(asm), object_of(EMPTY)
    machines, compiled = machines_of(obj)
    idle, _ = machines_of(empty)
    insns = machines["safe"].run(PACKET).insns or 0
    times = max(1000, 4_000_000 // max(insns, 1))
    kernel, close = kernel_runner(obj)
    kernel_idle, close_idle = kernel_runner(empty)
    samples: dict[str, list[float]] = {mode: [] for mode in MODES}
    ratios: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        theirs = None
        if kernel is not None and kernel_idle is not None:
            theirs = max(best_of(kernel)() - best_of(kernel_idle)(), 1e-10)
        for mode in MODES:
            spent = runner(machines[mode], times)()
            samples[mode].append(spent)
            if theirs is not None:
                ratios[mode].append(max(spent - runner(idle[mode], 100_000)(), 1e-10) / theirs)
    close()
    close_idle()
    return {
        "insns": insns,
        "nanoseconds": {mode: summary([value * 1e9 for value in samples[mode]]) for mode in MODES},
        "against_the_kernel": {mode: summary(ratios[mode]) for mode in MODES if ratios[mode]},
        "compile_milliseconds": {mode: compiled[mode] * 1e3 for mode in MODES},
        "interpreter_insns_per_second": summary(interpreter_rates(obj, rounds)),
    }


def measure_capture(packets: int, rounds: int) -> dict[str, Any]:
    machines, _ = machines_of(object_of(PROGRAMS["small filter"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.pcap"
        with PcapWriter(path) as writer:
            for number in range(packets):
                writer.write(PACKET[:23] + bytes([number % 3]) + PACKET[24:], time_ns=number * 1000)
        rates = {}
        for mode, machine in machines.items():
            walk = partial(run_capture, machine, path)
            rates[mode] = summary([packets / seconds_of(walk) for _ in range(rounds)])
    return rates


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--packets", type=int, default=1_000_000)
    options.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = options.parse_args()
    programs = {name: measure_program(asm, chosen.rounds) for name, asm in PROGRAMS.items()}
    capture = measure_capture(chosen.packets, chosen.rounds)
    interpreted = measure_captures(chosen.rounds)
    if chosen.json:
        print(json.dumps({"programs": programs, "packets_per_second": capture, "interpreter": interpreted}, indent=2))
        return
    print(
        f"{'program':<16}{'insns':>7}{'safe ns':>10}{'trusted ns':>12}"
        f"{'safe/kernel':>18}{'trusted/kernel':>18}{'compile ms':>14}{'interpreter M insns/s':>25}"
    )
    for name, row in programs.items():
        times, ratios, compiled = row["nanoseconds"], row["against_the_kernel"], row["compile_milliseconds"]
        shown = [
            f"{ratios[mode]['median']:.2f} (±{ratios[mode]['spread']:.0%})" if mode in ratios else "(root)"
            for mode in MODES
        ]
        took = f"{compiled['safe']:.0f}, {compiled['trusted']:.0f}"
        rate = row["interpreter_insns_per_second"]
        read = f"{rate['median'] / 1e6:.1f} (±{rate['spread']:.0%})"
        print(
            f"{name:<16}{row['insns']:>7}{times['safe']['median']:>10.1f}{times['trusted']['median']:>12.1f}"
            f"{shown[0]:>18}{shown[1]:>18}{took:>14}{read:>25}"
        )
    for name, rate in interpreted.items():
        print(f"{name.replace('_', ' ')}, interpreter: {rate['median'] / 1e6:.2f} million (±{rate['spread']:.0%})")
    for mode, rate in capture.items():
        print(f"packets a second from a capture, {mode}: {rate['median'] / 1e6:.1f} million (±{rate['spread']:.0%})")


if __name__ == "__main__":
    main()
