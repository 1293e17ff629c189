"""Many random programs: the JIT against the interpreter, trusted code and the kernel, and hostile bytes.

    python tools/jit_campaign.py [--agree 20000] [--bytes 100000] [--mutated 10000] [--newer 10000] [--out FILE]

Every program runs in the interpreter and in safe native code; result or fault (instruction, message, region),
instructions executed, packet and map contents must be the same. One program in ten is compiled with all of LLVM's
passes, the others without; one in five is big-endian. Computations that our verifier accepts also run in
trusted code and, as root, in the kernel. Work is done in processes of their own, so that one that dies is noticed. Any
disagreement is printed with what makes it again, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ebpfkit.elf.raw import program_from_code
from ebpfkit.verifier import Report, verify_program
from ebpfkit.vm.jit import Unit
from tests.vm.kernel_runner import Rejected, run_in_kernel
from tests.vm.random_code import KINDS, MAPS, MEMORY, agree, outcome

CHUNK = 100
PROGRAM_TYPES = (None, "xdp", "sched_cls")


def one(kind: str, seed: int, number: int, counts: Counter[str]) -> list[str]:
    """Run one program everywhere; what was wrong."""
    # Unoptimised code is compiled four times as fast; every tenth program goes through all of LLVM's passes.
    Unit.speed = 0 if number % 10 else 2
    dice = random.Random(f"{kind}/{seed}/{number}")
    program = KINDS[kind](dice)
    prog_type = "xdp" if kind == "computation" else dice.choice(PROGRAM_TYPES)
    options = {"big_endian": True} if number % 5 == 3 else {}
    theirs = outcome(program, None, prog_type, **options)
    ours = outcome(program, "safe", prog_type, **options)
    name = theirs[0].__name__ if isinstance(theirs[0], type) else "result"
    counts[f"{kind}: {name}"] += 1
    wrong = [] if agree(ours, theirs) else [f"{kind} {seed} {number}: safe {ours} interpreter {theirs}"]
    counts["also big-endian"] += bool(options)
    if options or kind != "computation" or name != "result":
        return wrong
    spec = program_from_code(program, prog_type="xdp", maps=MAPS)
    verdict = verify_program(spec)
    if verdict.ok:
        counts["computation: also trusted"] += 1
        trusted = outcome(program, "trusted", "xdp", report=Report((verdict,)))
        if not agree(trusted, theirs, counted=False):
            wrong.append(f"{kind} {seed} {number}: trusted {trusted} interpreter {theirs}")
    if os.geteuid() == 0:
        try:
            there = run_in_kernel(program, MEMORY)
        except Rejected:
            return wrong
        counts["computation: also in the kernel"] += 1
        if there.r0 != theirs[0]:
            wrong.append(f"{kind} {seed} {number}: kernel {there.r0:#x} interpreter {theirs[0]:#x}")
    return wrong


def chunk(kind: str, seed: int, first: int, count: int) -> tuple[Counter[str], list[str]]:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(first, first + count):
        try:
            wrong += one(kind, seed, number, counts)
        except Exception:  # a bug: found, and told with what makes it again
            wrong.append(f"{kind} {seed} {number}: {traceback.format_exc()}")
    gc.collect()
    return counts, wrong


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--agree", type=int, default=20_000, help="half computations, half instructions that decode")
    options.add_argument("--bytes", type=int, default=100_000)
    options.add_argument("--mutated", type=int, default=10_000)
    options.add_argument("--newer", type=int, default=10_000, help="arenas, kernel functions, jumps through tables")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time, done or not")
    options.add_argument("--skip", type=int, default=0, help="chunks that an earlier run of this seed has done")
    options.add_argument("--out", type=Path, help="write the summary to this file too")
    chosen = options.parse_args()
    amounts = {
        "computation": chosen.agree // 2,
        "anything": chosen.agree - chosen.agree // 2,
        "mutated": chosen.mutated,
        "bytes": chosen.bytes,
        "newer": chosen.newer,
    }
    started = time.time()
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    done = 0
    with ProcessPoolExecutor(chosen.workers, mp_context=get_context("spawn")) as pool:
        todo = [
            (kind, first, min(CHUNK, amount - first))
            for kind, amount in amounts.items()
            for first in range(0, amount, CHUNK)
        ]
        random.Random(chosen.seed).shuffle(todo)  # so that a run that is cut short has some of everything
        todo = todo[chosen.skip :]
        jobs = {pool.submit(chunk, kind, chosen.seed, first, count): (kind, first) for kind, first, count in todo}
        try:
            for job in as_completed(jobs):
                more, bad = job.result()
                counts += more
                wrong += bad
                done += 1
                print(f"{done}/{len(jobs)} chunks, {len(wrong)} wrong, {time.time() - started:.0f} s", flush=True)
                for line in bad:
                    print(line, flush=True)
                if time.time() - started > chosen.seconds:
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
        except BrokenProcessPool as broken:
            kind, first = jobs[job]
            wrong.append(f"a process died in or near {kind} {chosen.seed} {first}: {broken}")
            print(wrong[-1])
    total = sum(count for name, count in counts.items() if "also" not in name)
    lines = [f"{total} programs, seed {chosen.seed}, {time.time() - started:.0f} s, {len(wrong)} disagreements"]
    lines += [f"{count:>8}  {name}" for name, count in sorted(counts.items())]
    text = "\n".join([*lines, *wrong[:20]]) + "\n"
    print(text)
    if chosen.out:
        chosen.out.write_text(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
