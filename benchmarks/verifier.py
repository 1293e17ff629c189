"""Verification speed: instructions walked a second, and the ratio to the kernel's time on the same programs.

    python benchmarks/verifier.py [OBJECT.o ...]

Programs: the objects given, else those of Debian's xdp-tools and suricata where installed, `benchmarks/parsers.py`,
`programs/` and `tests/programs/cases/`; and generated ones. CPU time of this process, ours and the kernel's in turn;
the best of some rounds counts, and the ratio of every round makes the spread. Without CAP_BPF only ours is measured.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "verifier")]

from cases import program  # noqa: E402
from generator import generate  # noqa: E402
from verifier_kernel import KernelOracle  # noqa: E402

from ebpfkit.elf import open_object  # noqa: E402
from ebpfkit.elf.model import ProgramSpec  # noqa: E402
from ebpfkit.errors import EbpfError  # noqa: E402
from ebpfkit.pipeline import open_source  # noqa: E402
from ebpfkit.verifier import verify_program  # noqa: E402

DEBIAN = (("/usr/lib/x86_64-linux-gnu/bpf", "*.o"), ("/usr/lib/suricata/ebpf", "*.bpf"))
OURS = ("benchmarks/parsers.py", "programs/[!x]*.py", "tests/programs/cases/*.py")
ROUNDS = 7
LARGE = 1000


@dataclass
class Row:
    """One program: instructions walked, and seconds of each round, ours and the kernel's."""

    name: str
    walked: int
    ours: list[float]
    kernel: list[float]


def programs(paths: list[str]) -> list[ProgramSpec]:
    found: list[ProgramSpec] = []
    places = [*DEBIAN, *((str(ROOT), pattern) for pattern in OURS)]
    for path in paths or [str(path) for folder, pattern in places for path in sorted(Path(folder).glob(pattern))]:
        try:
            source = open_source(path).object if path.endswith(".py") else open_object(path)
        except EbpfError as error:
            print(f"skipped {path}: {error}", file=sys.stderr)
            continue
        found += source.programs.values()
    return found + [program(generate(seed)[0]) for seed in range(60)]


def cpu(action: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    before = time.process_time()
    action()
    return time.process_time() - before


def measure(spec: ProgramSpec, walked: int, oracle: KernelOracle | None) -> Row:
    """Rounds of both, measured in turn."""
    row = Row(spec.name, walked, [], [])
    for _ in range(ROUNDS):
        row.ours.append(cpu(lambda: verify_program(spec)))
        if oracle is not None:
            row.kernel.append(cpu(lambda: oracle.ask(spec, log_level=0)))
    return row


def summarise(title: str, rows: list[Row]) -> str:
    walked = sum(row.walked for row in rows)
    best = sum(min(row.ours) for row in rows)
    line = f"{title}: {len(rows)} programs, {walked} instructions walked, {walked / best:,.0f} a second"
    if not all(row.kernel for row in rows):
        return line
    kernel = sum(min(row.kernel) for row in rows)
    rounds = sorted(sum(row.ours[n] for row in rows) / sum(row.kernel[n] for row in rows) for n in range(ROUNDS))
    return (
        f"{line}; kernel {walked / kernel:,.0f} a second; we need {best / kernel:.2f} times its time "
        f"(rounds {rounds[0]:.2f} to {rounds[-1]:.2f})"
    )


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
        rows.append(measure(spec, report.insns_processed, oracle))
    print(f"{'program':<24}{'walked':>9}{'a second':>11}{'of the kernel':>15}")
    for row in sorted(rows, key=lambda row: -row.walked):
        if row.walked > LARGE:
            ratio = f"{min(row.ours) / min(row.kernel):.2f}" if row.kernel else ""
            print(f"{row.name:<24}{row.walked:>9}{row.walked / min(row.ours):>11,.0f}{ratio:>15}")
    print(summarise("all programs", rows))
    print(summarise(f"above {LARGE} walked", [row for row in rows if row.walked > LARGE]))
    print(f"median program: {statistics.median(min(row.ours) for row in rows) * 1000:.2f} ms")
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
