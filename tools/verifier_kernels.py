"""Our verdicts for other kernels against those kernels themselves: a corpus through Debian's 6.1 and 6.12 under qemu.

    python tools/verifier_kernels.py 6.1 6.12 [--random 2000] [--mutants 2] [--first 0] [--objects FILE.o ...]
                                              [--write docs/verifier-kernels.md]

The corpus is that of verifier_corpus.py, generated programs, and mutants of both; each program goes to every kernel in
one batch (guest_kernel.py says how to fetch the images). Prints for each kernel agreement, walked ratio and every
disagreement, grouped by what the kernel said. Exit status 1 if we accepted a program that its kernel rejects.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "verifier")]

from cases import program  # noqa: E402
from differential import LIMIT, mutants_of  # noqa: E402
from generator import generate  # noqa: E402
from guest_kernel import Guest, Load, NotSubmitted  # noqa: E402
from verifier_corpus import Sample, corpus  # noqa: E402
from verifier_kernel import Verdict  # noqa: E402

from ebpfkit.abi.model import HostProfile  # noqa: E402
from ebpfkit.verifier import verify_program  # noqa: E402
from ebpfkit.verifier.report import ProgramReport  # noqa: E402


@dataclass(frozen=True)
class Pair:
    """Both verdicts on one sample."""

    sample: Sample
    kernel: Verdict
    ours: ProgramReport

    @property
    def kind(self) -> str:
        if self.ours.verdict == "unsupported":
            return "unsupported"
        if self.kernel.accepted:
            return "agree" if self.ours.verdict == "accept" else "false reject"
        return "agree" if self.ours.verdict == "reject" else "false accept"

    @property
    def about(self) -> str:
        """What was said by the side that refused, without numbers."""
        text = self.ours.message if self.kernel.accepted else self.kernel.reason
        return re.sub(r"0x[0-9a-f]+|-?\d+", "N", text)


def samples(random_programs: int, mutants: int, first: int, objects: list[Path]) -> list[Sample]:
    """What is compared."""
    with tempfile.TemporaryDirectory() as place:
        found = list(corpus(objects, place=Path(place)))
    for seed in range(first, first + random_programs):
        prog_type = ("xdp", "xdp", "sched_cls", "socket_filter")[seed % 4]
        text, stratum = generate(seed, prog_type=prog_type)
        found.append(Sample(f"random, {stratum}", f"seed {seed}", program(text, prog_type)))
    changed = []
    for number, sample in enumerate(found):
        for count, mutant in enumerate(mutants_of(sample.spec, first + number, mutants)):
            changed.append(
                Sample(f"{sample.stratum}, mutants", f"{sample.name}, mutant {first + number}.{count}", mutant)
            )
    return found + changed


def compare(kernel: str, chosen: list[Sample]) -> tuple[str, list[Pair], int]:
    """The kernel's release, the pairs, and how many were not compared (long walks, maps that the kernel refuses)."""
    profile = HostProfile(kernel=kernel)
    guest = Guest(kernel)
    types = guest.vmlinux
    reports = [verify_program(sample.spec, profile, max_insns=LIMIT, kernel_btf=types) for sample in chosen]
    short = [(sample, report) for sample, report in zip(chosen, reports, strict=True) if report.insns_processed < LIMIT]
    verdicts = guest.load([Load(sample.spec, log_tail=4096) for sample, _ in short])
    pairs = [
        Pair(sample, verdict, report)
        for (sample, report), verdict in zip(short, verdicts, strict=True)
        if not isinstance(verdict, NotSubmitted)
    ]
    return guest.release, pairs, len(chosen) - len(pairs)


def text_of(release: str, pairs: list[Pair], skipped: int) -> str:
    """The result as Markdown."""
    by_stratum: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in pairs:
        by_stratum[pair.sample.stratum][pair.kind] += 1
        by_stratum[pair.sample.stratum]["accepted"] += pair.kernel.accepted
    total = sum(by_stratum.values(), Counter())
    by_stratum["all"] = total
    accepted = [pair for pair in pairs if pair.kernel.accepted and pair.ours.verdict == "accept"]
    walked = sum(pair.ours.insns_processed for pair in accepted)
    kernel_walked = sum(pair.kernel.processed for pair in accepted)
    lines = [
        f"## Linux {release}",
        "",
        f"{len(pairs)} programs compared, {skipped} not (long walks, maps that this kernel refuses). Walked where both",
        f"accept: {walked} by us, {kernel_walked} by the kernel ({walked / max(1, kernel_walked):.3f}).",
        "",
        "| stratum | programs | kernel accepts | false accepts | false rejects | unsupported | agreement |",
        "|---|---|---|---|---|---|---|",
    ]
    for stratum in sorted(by_stratum, key=lambda name: (name == "all", name)):
        row = by_stratum[stratum]
        judged = row["agree"] + row["false accept"] + row["false reject"]
        lines.append(
            f"| {stratum} | {judged + row['unsupported']} | {row['accepted']} | {row['false accept']} "
            f"| {row['false reject']} | {row['unsupported']} | {row['agree'] / max(1, judged):.2%} |"
        )
    lines.append("")
    for kind in ("false accept", "false reject", "unsupported"):
        groups: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            if pair.kind == kind:
                groups[pair.ours.message if kind == "unsupported" else pair.about].append(pair)
        for about, group in sorted(groups.items(), key=lambda item: -len(item[1])):
            lines.append(f"- {kind}, {len(group)} times: {about} (first: {group[0].sample.name})")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="+")
    parser.add_argument("--random", type=int, default=1000)
    parser.add_argument("--mutants", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--objects", nargs="*", type=Path, default=[])
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    chosen = samples(options.random, options.mutants, options.first, options.objects)
    parts, unsound = [], False
    for kernel in options.kernels:
        release, pairs, skipped = compare(kernel, chosen)
        parts.append(text_of(release, pairs, skipped))
        unsound |= any(pair.kind == "false accept" for pair in pairs)
        print(parts[-1], flush=True)
    if options.write:
        head = "# Verdicts for other kernels\n\nWritten by `tools/verifier_kernels.py`.\n\n"
        options.write.write_text(head + "\n".join(parts))
    return int(unsound)


if __name__ == "__main__":
    sys.exit(main())
