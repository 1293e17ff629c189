"""Verification speed: instructions walked a second, and the ratio to the kernel's time on the same programs.

    python benchmarks/verifier.py [OBJECT.o ...]

Programs: the objects given, else Debian's xdp-tools if installed, and generated ones. CPU time of this process, the
best of five, ours and the kernel's in turn. Without CAP_BPF only ours is measured.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "verifier")]

from cases import program  # noqa: E402
from generator import generate  # noqa: E402
from verifier_kernel import KernelOracle  # noqa: E402

from ebpfkit.elf import open_object  # noqa: E402
from ebpfkit.elf.model import ProgramSpec  # noqa: E402
from ebpfkit.errors import EbpfError  # noqa: E402
from ebpfkit.verifier import verify_program  # noqa: E402

DEBIAN = "/usr/lib/x86_64-linux-gnu/bpf"


def programs(paths: list[str]) -> list[ProgramSpec]:
    found = []
    for path in paths or sorted(str(p) for p in Path(DEBIAN).glob("*.o")):
        try:
            found += list(open_object(path).programs.values())
        except EbpfError as error:
            print(f"skipped {path}: {error}", file=sys.stderr)
    return found + [program(generate(seed)[0]) for seed in range(60)]


def cpu(action: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    before = time.process_time()
    action()
    return time.process_time() - before


def best_pair(ours: Callable[[], object], theirs: Callable[[], object] | None, rounds: int) -> tuple[float, float]:
    """The best of several rounds of each, measured in turn."""
    mine, kernel = [], []
    for _ in range(rounds):
        mine.append(cpu(ours))
        if theirs is not None:
            kernel.append(cpu(theirs))
    return min(mine), min(kernel, default=0.0)


def main() -> int:
    oracle: KernelOracle | None = KernelOracle()
    rows = []
    for spec in programs(sys.argv[1:]):
        report = verify_program(spec, max_insns=300_000)
        if report.verdict != "accept":
            continue
        if oracle is not None:
            try:
                if not oracle.ask(spec).accepted:
                    continue
            except EbpfError as error:
                print(f"without the kernel: {error}", file=sys.stderr)
                oracle = None
        kernel = oracle
        theirs = (lambda s=spec, o=kernel: o.ask(s, log_level=0)) if kernel is not None else None
        rounds = 5 if report.insns_processed > 1000 else 3
        mine, other = best_pair(lambda s=spec: verify_program(s), theirs, rounds)
        rows.append((spec.name, report.insns_processed, mine, other))
    large = [row for row in rows if row[1] > 1000]
    for title, group in (("all programs", rows), ("above 1,000 walked", large)):
        walked = sum(row[1] for row in group)
        mine, other = sum(row[2] for row in group), sum(row[3] for row in group)
        line = f"{title}: {len(group)} programs, {walked} instructions walked, {walked / mine:,.0f} a second"
        if other:
            line += f"; kernel {walked / other:,.0f} a second; we need {mine / other:.2f} times its time"
        print(line)
    print(f"median program: {statistics.median(row[2] for row in rows) * 1000:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
