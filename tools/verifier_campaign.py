"""A long comparison of our verdicts with the running kernel's: random programs, real ones, mutants, broken bytes.

    python tools/verifier_campaign.py [--seconds 600] [--programs 50000] [--first 0] [--write docs/verifier-campaign.md]
                                      [--objects FILE.o ...] [--jobs 1] [--robustness 200000]

Prints, and with --write stores, agreement per stratum, the walked ratio, the rules hit and every disagreement that
tests/verifier/known_disagreements.yaml does not explain. Exit status 1 if we accepted a program that the kernel
rejects. With --robustness the kernel is not asked: so many random and mutated inputs must each give an answer within
the limits of time and memory. Needs CAP_BPF.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import platform
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "verifier")]

import yaml  # noqa: E402
from cases import MAPS, program  # noqa: E402
from constructs import STRATA, generate_construct  # noqa: E402
from differential import LIMIT, Outcome, broken_bytes, compare_bytes, compare_program, mutants_of  # noqa: E402
from generator import generate  # noqa: E402
from rare_rules import generate_rare  # noqa: E402
from test_unprivileged import CASES  # noqa: E402
from unprivileged_kernel import SYSCTL, ask_unprivileged, unprivileged_bpf  # noqa: E402
from verifier_corpus import CONSTRUCTS, Sample, corpus  # noqa: E402
from verifier_kernel import KernelOracle, encode_for  # noqa: E402

from ebpfkit.abi.model import HostProfile  # noqa: E402
from ebpfkit.asm.codec import decode  # noqa: E402
from ebpfkit.diag.rules import RULES  # noqa: E402
from ebpfkit.elf.model import ProgramSpec  # noqa: E402
from ebpfkit.errors import EbpfError  # noqa: E402
from ebpfkit.verifier import verify_program  # noqa: E402

KNOWN = yaml.safe_load((ROOT / "tests/verifier/known_disagreements.yaml").read_text())
APART = 10_000_000
"""The seeds of processes that run at once are so far apart."""
RARE = 20
"""A rule is well tried when so many programs were rejected by it."""
ROBUST_LIMIT = 2_000
MUTATED = 3_000
"""Real programs whose walk is longer are compared, but not mutated: there is more to learn from many short ones."""
UNPRIVILEGED = "unprivileged users"
WRITTEN = list(CASES.values())
GENTLE = {*CONSTRUCTS, *STRATA, "allocated objects", "shipped"}
"""Strata of constructs, which most changes would break: their mutants differ in one small thing."""
ELSEWHERE = {
    "not-in-kernel": "is about kernels other than the one that is asked",
    "not-modelled": "is what programs without a verdict have",
    "other": "stands for what the kernel's log says and no rule names",
    "unprivileged": "is for types of programs that users without privilege may not load, which bpf(2) refuses itself",
}
"""Rules that no program can raise here, and why."""
_SLOW_SECONDS = 20.0


class Tally:
    """What a campaign counts."""

    def __init__(self) -> None:
        self.verdicts: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        self.rules: Counter[str] = Counter()
        self.unsupported: Counter[str] = Counter()
        self.disagreements: list[tuple[str, Outcome]] = []
        self.walked = self.kernel_walked = self.same_count = self.accepted = 0
        self.skipped = 0
        self.explained: Counter[str] = Counter()

    def note(self, stratum: str, outcome: Outcome | None) -> None:
        if outcome is None:
            self.skipped += 1
            return
        self.verdicts[stratum][outcome.kernel, outcome.ours] += 1
        if outcome.ours == "unsupported":
            self.unsupported[outcome.message] += 1
        elif outcome.ours != outcome.kernel:
            known = next(
                (row for row in KNOWN if row["ours"] == outcome.ours and row["kernel"] in outcome.reason), None
            )
            if known is not None:
                self.explained[known["cause"]] += 1
            else:
                self.disagreements.append((stratum, outcome))
        elif outcome.ours == "accept" and stratum != UNPRIVILEGED:  # where the kernel walks speculation too
            self.accepted += 1
            self.walked += outcome.walked
            self.kernel_walked += outcome.kernel_walked
            self.same_count += outcome.walked == outcome.kernel_walked
        elif outcome.ours == "reject":
            self.rules[outcome.rule] += 1

    def add(self, other: Tally) -> None:
        """Count what another process counted too."""
        for stratum, counter in other.verdicts.items():
            self.verdicts[stratum] += counter
        self.rules += other.rules
        self.unsupported += other.unsupported
        self.explained += other.explained
        self.disagreements += other.disagreements
        self.walked += other.walked
        self.kernel_walked += other.kernel_walked
        self.same_count += other.same_count
        self.accepted += other.accepted
        self.skipped += other.skipped

    @property
    def compared(self) -> int:
        return sum(sum(counter.values()) for counter in self.verdicts.values())

    def text(self, seconds: float) -> str:
        lines = [
            "# The last verifier campaign",
            "",
            f"Kernel {platform.release().partition('-')[0]}, {self.compared} programs compared in {seconds:.0f} s.",
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
            exceptions = sum(n for (_, ours), n in counter.items() if ours == "exception")
            agree = total - unsupported - false_accepts - false_rejects - exceptions
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
            f"Fewer than {RARE} times: "
            + (", ".join(rule for rule, n in self.rules.items() if n < RARE) or "none of these")
            + "; never: "
            + (", ".join(sorted(set(RULES) - set(self.rules) - set(ELSEWHERE))) or "none of the others")
            + ".",
            "",
            "No program can raise, here: " + "; ".join(f"`{rule}` {why}" for rule, why in ELSEWHERE.items()) + ".",
            "",
        ]
        if self.unsupported:
            lines += [
                "Unsupported: " + ", ".join(f"{what} ({n})" for what, n in self.unsupported.most_common()) + ".",
                "",
            ]
        for cause, count in self.explained.items():
            lines += [f"Known, {count} times: {cause}", ""]
        lines.append("Disagreements:" if self.disagreements else "No disagreements.")
        for stratum, o in self.disagreements[:200]:
            lines.append(f"- {stratum}, seed {o.seed}: kernel {o.kernel} ({o.reason}), we {o.ours} ({o.message})")
        return "\n".join(lines) + "\n"


def run(first: int, seconds: float, programs: int, objects: list[Path], jobs: int) -> tuple[Tally, float]:
    """Compare until the time or the number of programs is used up, in `jobs` processes with seeds of their own."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        samples = list(corpus(objects, place=Path(place)))
    print(f"{len(samples)} real programs after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    tally = Tally()
    unprivileged(tally, first, min(1_500, programs // 25))
    oracle = KernelOracle()
    mutated = []
    for sample in samples:
        outcome = _compare(sample.spec, oracle, 0)
        tally.note(sample.stratum, outcome)
        if outcome is not None and outcome.walked <= MUTATED:
            mutated.append(sample)
    oracle.close()
    left = seconds - (time.monotonic() - started)
    share = max(0, programs - tally.compared) // jobs
    context = multiprocessing.get_context("fork")
    pipes = []
    for number in range(jobs):
        reader, writer = context.Pipe(duplex=False)
        context.Process(target=_slice, args=(writer, first + number * APART, left, share, mutated)).start()
        pipes.append(reader)
    for reader in pipes:
        tally.add(reader.recv())
    return tally, time.monotonic() - started


def _slice(writer: Connection, first: int, seconds: float, programs: int, mutated: list[Sample]) -> None:
    """One process's part: sends its tally."""
    oracle, tally = KernelOracle(), Tally()
    started, seed = time.monotonic(), first
    while time.monotonic() - started < seconds and tally.compared < programs:
        _random_round(tally, oracle, seed)
        sample = mutated[seed % len(mutated)]
        for mutant in mutants_of(sample.spec, seed, 3, sample.stratum in GENTLE):
            tally.note(f"{sample.stratum}, mutants", _compare(mutant, oracle, seed))
        _construct_round(tally, oracle, seed)
        seed += 1
        if seed % 200 == 0:
            print(f"{tally.compared} programs, {len(tally.disagreements)} disagreements", file=sys.stderr, flush=True)
    oracle.close()
    writer.send(tally)


def _compare(spec: ProgramSpec, oracle: KernelOracle, seed: int) -> Outcome | None:
    """`compare_program`, where an exception of ours is an outcome too: the run goes on and tells it."""
    try:
        return compare_program(spec, oracle, seed)
    except Exception as error:  # what this run looks for
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return Outcome(seed, "exception", "unknown", "", message, "", 0, 0)


def _random_round(tally: Tally, oracle: KernelOracle, seed: int) -> None:
    prog_type = ("xdp", "xdp", "sched_cls", "socket_filter")[seed % 4]
    text, stratum = generate(seed, prog_type=prog_type)
    spec = program(text, prog_type)
    stratum = stratum if prog_type == "xdp" else prog_type
    tally.note(stratum, _compare(spec, oracle, seed))
    for mutant in mutants_of(spec, seed, 2):
        tally.note(f"{stratum}, mutants", _compare(mutant, oracle, seed))
    if seed % 3 == 0:
        tally.note("broken bytes", compare_bytes(seed, oracle))


def _construct_round(tally: Tally, oracle: KernelOracle, seed: int) -> None:
    spec, stratum = generate_construct(seed)
    tally.note(stratum, _compare(spec, oracle, seed))
    for mutant in mutants_of(spec, seed, 2, gently=True):
        tally.note(f"{stratum}, mutants", _compare(mutant, oracle, seed))
    if seed % 2:
        rare, _ = generate_rare(seed // 2)
        tally.note("rare rules", _compare(rare, oracle, seed))


def _can_encode(spec: ProgramSpec, oracle: KernelOracle) -> bool:
    try:
        encode_for(spec, oracle.map_fd)
    except EbpfError:
        return False
    return True


def unprivileged(tally: Tally, first: int, count: int) -> None:
    """Socket filters of a user without any capability, asked all at once."""
    if not SYSCTL.exists() or SYSCTL.read_text().strip() == "1":
        return
    oracle = KernelOracle()
    specs = []
    for seed in range(first, first + count):
        spec = program(generate(seed, prog_type="socket_filter")[0], "socket_filter")
        specs += [spec, *(mutant for mutant in mutants_of(spec, seed, 1) if mutant.maps == spec.maps)]
    specs += [program(random.Random(seed).choice(WRITTEN)[1], "socket_filter") for seed in range(first, first + count)]
    specs = [spec for spec in specs if _can_encode(spec, oracle)]
    with unprivileged_bpf():
        verdicts = ask_unprivileged(oracle, specs, log_size=1 << 12)
    for number, (spec, kernel) in enumerate(zip(specs, verdicts, strict=True)):
        report = verify_program(spec, HostProfile(privileged=False), max_insns=LIMIT)
        if report.insns_processed >= LIMIT or kernel.errno == errno.ENOSPC:
            continue
        outcome = Outcome(
            first + number, report.verdict, "accept" if kernel.accepted else "reject", report.rule, report.message,
            kernel.reason, report.insns_processed, kernel.processed,
        )  # fmt: skip
        tally.note(UNPRIVILEGED, outcome)
    oracle.close()


def robustness(count: int, first: int, seconds: float) -> str:
    """Answers to random and mutated inputs; an exception ends the run."""
    with tempfile.TemporaryDirectory() as place:
        samples = [sample for sample in corpus(place=Path(place)) if len(sample.spec.instructions) < 2000]
    verdicts: Counter[str] = Counter()
    slowest, slowest_name = 0.0, ""
    started = time.monotonic()
    number = first
    while number < first + count and time.monotonic() - started < seconds:
        name, spec = _input(number, samples)
        before = time.monotonic()
        verdicts[verify_program(spec, max_insns=ROBUST_LIMIT).verdict] += 1
        taken = time.monotonic() - before
        if taken > slowest:
            slowest, slowest_name = taken, f"{name}, number {number}"
        if taken > _SLOW_SECONDS:
            raise SystemExit(f"{name}, number {number}: {taken:.1f} s")
        number += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    named = ", ".join(f"{verdict} {n}" for verdict, n in verdicts.most_common())
    return (
        "## Robustness\n\n"
        f"{number - first} random and mutated inputs (walks bounded to {ROBUST_LIMIT} instructions), each answered, in "
        f"{time.monotonic() - started:.0f} s: {named}.\n"
        f"Slowest: {slowest:.2f} s ({slowest_name}); peak memory {peak:.0f} MB.\n"
    )


def _input(number: int, samples: list[Sample]) -> tuple[str, ProgramSpec]:
    """Broken bytes, or a real program of any type with several things changed."""
    if number % 2:
        data = broken_bytes(number)
        kind = random.Random(number).choice(("xdp", "sched_cls", "kprobe", "socket_filter", "cgroup_skb", "tracepoint"))
        return "bytes", ProgramSpec("bytes", kind, kind, tuple(decode(data, strict=False)), "GPL", maps=MAPS)
    sample = samples[number // 2 % len(samples)]
    spec = sample.spec
    for change in range(random.Random(number).randrange(1, 8)):
        (spec,) = mutants_of(spec, number * 8 + change, 1)
    return sample.name, spec


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--programs", type=int, default=50_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--objects", nargs="*", type=Path, default=[])
    parser.add_argument("--robustness", type=int, default=0, metavar="INPUTS")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    failed = False
    if options.robustness:
        text = robustness(options.robustness, options.first, options.seconds)
    else:
        tally, seconds = run(options.first, options.seconds, options.programs, options.objects, options.jobs)
        text = tally.text(seconds)
        failed = any(outcome.ours == "accept" for _, outcome in tally.disagreements)
    print(text)
    if options.write:
        # Each of the two kinds of run keeps what the other wrote.
        before = options.write.read_text() if options.write.exists() else ""
        runs, _, robust = before.partition("\n## Robustness")
        robust = f"## Robustness{robust}" if robust else ""
        options.write.write_text(f"{runs}\n{text}" if options.robustness else f"{text}\n{robust}".rstrip() + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
