"""Many random programs of the language: plain Python, the virtual machine, its native code and the kernel must agree.

    python tools/language_campaign.py --programs 10000 [--first 0] [--workers 2] [--write docs/language-campaign.md]

Compared are the verdict and the bytes of each packet, and in the end the maps, records, queues and variables. Programs
are `tests/compiler/random_language.py`'s; four make one object. One object in eight also runs in native code. What is
wrong is printed with the number that makes it again (`--first N --programs 4`), and the exit status is 1. As root; work
is done in processes of their own, so that one that dies is noticed. With `--log FILE` a run that was cut short goes on
where it ended.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.program import Program
from ebpfkit.errors import CompileError, EbpfError, VerifierError
from ebpfkit.vm.jit import Unit
from tests.compiler.everywhere import differences, outcomes
from tests.compiler.random_language import LANGUAGE, language_body
from tests.compiler.support import PRELUDE, indent, load_module, packets

TOGETHER = 4
CHUNK = 40
JIT_EACH = 8
TOO_MANY = ("BPF program is too large. Processed 1000001 insn", "jumps is too complex")
KINDS = {
    "loops": r"\b(for|while) ", "match": r"\bmatch ", "structures": r"\.copy\(\)|Nested|Pair\(",
    "atomics": r"\.atomic_",
    "maps": r"\b(counts|table|pairs|lru|percpu|slots|routes|nested)\b", "queues": r"\b(waiting|stacked)\b",
    "records": r"\bevents\.", "locks": r"\bwith ", "variables": r"\b(total|begun|shared|row)\.value",
    "configuration": r"\b(LIMIT|OFFSET)\b", "network order": r"to_host|d\.[nm]\d", "signed": r"\bs(8|16|32|64)\(",
    "functions": r"\b(early|blend|signs|fold|clamp)\(", "subprograms": r"\b(apart|counted|checked)\(",
    "moved ends": r"\b(push_head|pop_head|trim|extend)\(", "peeks": r"\bpeek\(",
}  # fmt: skip
START, END = "<!-- language_campaign: begin -->", "<!-- language_campaign: end -->"


def programs_of(numbers: list[int], folder: Path) -> list[Program]:
    text = PRELUDE + LANGUAGE
    for number in numbers:
        text += (
            f"@bpf.xdp(short=XDP_DROP)\ndef prog_{number}(pkt: Packet) -> XdpAction:\n{indent(language_body(number))}\n"
        )
    module = load_module(text, folder)
    return [getattr(module, f"prog_{number}") for number in numbers]


def accepted(progs: list[Program], counts: Counter[str]) -> list[Program]:
    """Those that the compiler takes: constants that meet may make a division by zero, or names of two types."""
    kept = []
    for prog in progs:
        try:
            compile_programs([prog])
        except CompileError as error:
            if error.span is None or not error.code:
                raise
            counts[f"refused: {error.code}"] += 1
        else:
            kept.append(prog)
    return kept


def one(numbers: list[int], folder: Path, counts: Counter[str]) -> list[str]:
    """Run some programs everywhere; what was wrong."""
    progs = programs_of(numbers, folder)
    frames = packets(3, seed=numbers[0])
    executors = ["python", "interpreter", "kernel"]
    if numbers[0] // TOGETHER % JIT_EACH == 0:
        executors.append("jit")
        Unit.speed = 2 if numbers[0] // TOGETHER % (JIT_EACH * 8) == 0 else 0
    try:
        found = outcomes(progs, frames, executors)
    except CompileError:
        progs = accepted(programs_of(numbers, folder), counts)
        if not progs:
            return []
        found = outcomes(progs, frames, executors)
    counts["programs"] += len(progs)
    counts["runs"] += len(progs) * len(frames) * len(executors)
    counts["in native code too"] += len(progs) if "jit" in executors else 0
    for number in numbers:
        body = language_body(number)
        counts.update(f"with {kind}" for kind, pattern in KINDS.items() if re.search(pattern, body))
    return [f"programs {numbers}: {text[:600]}" for text in differences(found, frames)[:3]]


def chunk(first: int, count: int) -> tuple[int, Counter[str], list[str]]:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count, TOGETHER):
            numbers = list(range(number, min(number + TOGETHER, first + count)))
            try:
                wrong += one(numbers, Path(folder), counts)
            except VerifierError as error:
                if any(
                    text in str(error) for text in TOO_MANY
                ):  # loops in loops with many branches: correct, but too many ways through
                    counts["too many ways for the verifier"] += len(numbers)
                else:
                    wrong.append(f"programs {numbers}: {str(error)[:600]}")
            except EbpfError as error:
                wrong.append(f"programs {numbers}: {type(error).__name__}: {str(error)[:600]}")
            except Exception:  # a bug: found, and told with what makes it again
                wrong.append(f"programs {numbers}: {traceback.format_exc()}")
    return first, counts, wrong


def report(counts: Counter[str], wrong: list[str]) -> str:
    """The summary as Markdown."""
    kinds = ", ".join(f"{name} {counts[f'with {name}']:,}" for name in KINDS)
    refusals = [(name[9:], count) for name, count in sorted(counts.items()) if name.startswith("refused")]
    refused = ", ".join(f"`{name}` {count}" for name, count in refusals)
    return "\n".join((
        f"Linux {platform.release()}, Python {platform.python_version()}:",
        "",
        "| | |",
        "|---|--:|",
        f"| programs that ran in Python, the interpreter and the kernel | {counts['programs']:,} |",
        f"| of these also in the virtual machine's native code | {counts['in native code too']:,} |",
        f"| runs of a program on a packet | {counts['runs']:,} |",
        f"| refused by the compiler, with place and code | {sum(count for _, count in refusals):,} |",
        f"| not run: too many ways through for a kernel's verifier | {counts['too many ways for the verifier']:,} |",
        f"| objects that differed, or that a kernel's verifier refused | {len(wrong):,} |",
        "",
        f"Programs with each part of the language: {kinds}.",
        "",
        f"Refused: {refused or 'none'}.",
    ))  # fmt: skip


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--programs", type=int, default=10_000)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument(
        "--log", type=Path, help="one line for each chunk that is done; chunks in it are not run again"
    )
    options.add_argument("--write", type=Path, help="put the summary between the marks of this file")
    chosen = options.parse_args()
    done: dict[int, dict[str, object]] = {}
    if chosen.log is not None and chosen.log.exists():
        done = {row["first"]: row for row in map(json.loads, chosen.log.read_text().splitlines())}
    todo = [first for first in range(chosen.first, chosen.first + chosen.programs, CHUNK) if first not in done]
    with ProcessPoolExecutor(chosen.workers, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(chunk, first, min(CHUNK, chosen.first + chosen.programs - first)): first for first in todo}
        for job in as_completed(jobs):
            try:
                first, counts, wrong = job.result()
            except Exception as error:  # the process died
                first, counts, wrong = jobs[job], Counter(), [f"chunk {jobs[job]}: {type(error).__name__}: {error}"]
            done[first] = {"first": first, "counts": dict(counts), "wrong": wrong}
            if chosen.log is not None:
                with chosen.log.open("a") as log:
                    log.write(json.dumps(done[first]) + "\n")
            for text in wrong:
                print(text, flush=True)
    total: Counter[str] = Counter()
    wrong = []
    for row in done.values():
        total.update(row["counts"])  # type: ignore[arg-type]
        wrong += row["wrong"]  # type: ignore[arg-type]
    text = report(total, wrong)
    print(text)
    if chosen.write is not None:
        before, _, rest = chosen.write.read_text().partition(START)
        chosen.write.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ.setdefault("EBPFKIT_CACHE", "")
    sys.exit(main())
