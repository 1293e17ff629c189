"""A long comparison of our verdicts with the running kernel's: random programs, mutants, broken bytes.

    python tools/verifier_campaign.py [--seconds 600] [--programs 50000] [--first 0] [--write docs/verifier-campaign.md]

Prints, and with --write stores, agreement per stratum, the walked ratio, the rules hit and every disagreement. Exit
status 1 if we accepted a program that the kernel rejects. Needs CAP_BPF.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "verifier")]

from cases import program  # noqa: E402
from differential import Outcome, compare_bytes, compare_program, mutants_of  # noqa: E402
from generator import generate  # noqa: E402
from verifier_kernel import KernelOracle  # noqa: E402


class Tally:
    """What a campaign counts."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        self.rules: Counter[str] = Counter()
        self.unsupported: Counter[str] = Counter()
        self.disagreements: list[tuple[str, Outcome]] = []
        self.walked = self.kernel_walked = self.same_count = self.accepted = 0
        self.skipped = 0

    def note(self, stratum: str, outcome: Outcome | None) -> None:
        if outcome is None:
            self.skipped += 1
            return
        self.verdicts[stratum][outcome.kernel, outcome.ours] += 1
        if outcome.ours == "unsupported":
            self.unsupported[outcome.message] += 1
        elif outcome.ours != outcome.kernel:
            self.disagreements.append((stratum, outcome))
        elif outcome.ours == "accept":
            self.accepted += 1
            self.walked += outcome.walked
            self.kernel_walked += outcome.kernel_walked
            self.same_count += outcome.walked == outcome.kernel_walked
        else:
            self.rules[outcome.rule] += 1

    @property
    def compared(self) -> int:
        return sum(sum(counter.values()) for counter in self.verdicts.values())

    def text(self, seconds: float) -> str:
        lines = [
            "# The last verifier campaign",
            "",
            f"Kernel {platform.release()}, {self.compared} programs compared in {seconds:.0f} s.",
            f"{self.skipped} more were not compared (walks beyond 20,000 instructions).",
            "Written by `tools/verifier_campaign.py`. A false accept is a program that the kernel rejects.",
            "",
            "| stratum | programs | kernel accepts | false accepts | false rejects | unsupported | agreement |",
            "|---|---|---|---|---|---|---|",
        ]
        for stratum in sorted(self.verdicts):
            counter = self.verdicts[stratum]
            total = sum(counter.values())
            accepts = sum(n for (kernel, _), n in counter.items() if kernel == "accept")
            unsupported = sum(n for (_, ours), n in counter.items() if ours == "unsupported")
            false_accepts, false_rejects = counter["reject", "accept"], counter["accept", "reject"]
            agree = total - unsupported - false_accepts - false_rejects
            share = agree / max(1, total - unsupported)
            lines.append(
                f"| {stratum} | {total} | {accepts} | {false_accepts} | {false_rejects} | {unsupported} | {share:.4%} |"
            )
        ratio = self.walked / max(1, self.kernel_walked)
        lines += [
            "",
            f"Instructions walked where both accept: {self.walked} by us, {self.kernel_walked} by the kernel,",
            f"ratio {ratio:.4f}; exactly the same count in {self.same_count} of {self.accepted} programs.",
            "",
            "Rules that rejections hit: " + ", ".join(f"{rule} {n}" for rule, n in self.rules.most_common()) + ".",
            "",
        ]
        if self.unsupported:
            lines += [
                "Unsupported: " + ", ".join(f"{what} ({n})" for what, n in self.unsupported.most_common()) + ".",
                "",
            ]
        lines.append("Disagreements:" if self.disagreements else "No disagreements.")
        for stratum, o in self.disagreements[:50]:
            lines.append(f"- {stratum}, seed {o.seed}: kernel {o.kernel} ({o.reason}), we {o.ours} ({o.message})")
        return "\n".join(lines) + "\n"


def run(first: int, seconds: float, programs: int) -> tuple[Tally, float]:
    """Compare until the time or the number of programs is used up."""
    oracle = KernelOracle()
    tally = Tally()
    started = time.monotonic()
    seed = first
    while time.monotonic() - started < seconds and tally.compared < programs:
        prog_type = ("xdp", "xdp", "sched_cls", "socket_filter")[seed % 4]
        text, stratum = generate(seed, prog_type=prog_type)
        spec = program(text, prog_type)
        stratum = stratum if prog_type == "xdp" else prog_type
        tally.note(stratum, compare_program(spec, oracle, seed))
        for mutant in mutants_of(spec, seed, 2):
            tally.note(f"{stratum}, mutants", compare_program(mutant, oracle, seed))
        if seed % 3 == 0:
            tally.note("broken bytes", compare_bytes(seed, oracle))
        seed += 1
    oracle.close()
    return tally, time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--programs", type=int, default=50_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    tally, seconds = run(options.first, options.seconds, options.programs)
    text = tally.text(seconds)
    print(text)
    if options.write:
        options.write.write_text(text)
    return any(outcome.ours == "accept" for _, outcome in tally.disagreements)


if __name__ == "__main__":
    sys.exit(main())
