"""Step comparison: our walk against the kernel's level-2 log, instruction by instruction and register by register.

    python tools/verifier_steps.py FILE.s [--type xdp]     a program in assembly
    python tools/verifier_steps.py --seed N                a program of tests/verifier/generator.py

Shows the first instruction where the walks part, or the first register whose state differs, with ten lines of the
kernel's log around it. Needs CAP_BPF.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "verifier")]

from verifier_kernel import KernelOracle  # noqa: E402

from ebpfkit.abi.model import HostProfile  # noqa: E402
from ebpfkit.abi.prog_types import PROG_TYPES  # noqa: E402
from ebpfkit.elf.model import ProgramSpec  # noqa: E402
from ebpfkit.verifier import verify  # noqa: E402
from ebpfkit.verifier.domain.scalar import Scalar  # noqa: E402
from ebpfkit.verifier.explore import Step, Walk  # noqa: E402

_LINE = re.compile(r"^(\d+): (?:(?P<before>R\d.*?)\s*)?(?:\([0-9a-f]{2}\) (?P<text>.*?))?(?:\s*; (?P<after>R\d.*))?$")
_REGISTER = re.compile(r"(?<![\w-])R(\d+)(?:_w)?=(scalar\([^()]*(?:\([^()]*\)[^()]*)*\)|0x[0-9a-f]+|-?\d+|\S+)")
_DEFAULTS = {
    "smin": -(1 << 63), "smax": (1 << 63) - 1, "umin": 0, "umax": (1 << 64) - 1,
    "smin32": -(1 << 31), "smax32": (1 << 31) - 1, "umin32": 0, "umax32": (1 << 32) - 1,
}  # fmt: skip


@dataclass
class SeenStep:
    """One instruction walked: its slot, and the registers after it."""

    slot: int
    after: dict[int, Any]


class WatchedWalk(Walk):
    """A walk that notes every instruction and the registers behind it."""

    seen: list[SeenStep]

    def _build(self, index: int) -> Step:
        step = super()._build(index)
        seen = self.__dict__.setdefault("seen", [])
        slot = self.code.slot_of(index)

        def watched(vals: list[Any], ids: list[int]) -> int:
            entry = SeenStep(slot, {})
            seen.append(entry)
            following = step(vals, ids)
            entry.after = dict(enumerate(self.state.frames[-1].vals))
            return following

        return watched


def walk(spec: ProgramSpec, limit: int = 1_000_000) -> tuple[list[SeenStep], Any]:
    """Our walk of the program and our report."""
    run = verify._Run(spec, PROG_TYPES[spec.prog_type], HostProfile(), limit)
    run.walk_type = WatchedWalk
    outcome = run.judge()
    seen: list[SeenStep] = run.walk.__dict__.get("seen", []) if run.walk else []
    return seen, run.report(outcome, 0.0)


def parse_scalar(text: str) -> dict[str, Any] | None:
    """The bounds in the kernel's words, None for what is no number."""
    if re.fullmatch(r"-?\d+|0x[0-9a-f]+", text):
        value = int(text, 0)
        return {"const": value & ((1 << 64) - 1)}
    if not text.startswith("scalar("):
        return None
    result: dict[str, Any] = dict(_DEFAULTS)
    result["var_off"] = (0, (1 << 64) - 1)
    inside = text[len("scalar(") : -1]
    known = re.search(r"var_off=\((0x[0-9a-f]+); (0x[0-9a-f]+)\)", inside)
    if known:
        result["var_off"] = (int(known[1], 16), int(known[2], 16))
        inside = inside.replace(known[0], "")
    for part in inside.split(","):
        *names, value = part.split("=")
        for name in names:
            if name in _DEFAULTS:
                result[name] = _in_range(int(value, 0), name)
    return result


def _in_range(value: int, name: str) -> int:
    """Negative bounds may be printed as hexadecimal 64-bit patterns."""
    bits = 32 if name.endswith("32") else 64
    value &= (1 << bits) - 1
    return value - (1 << bits) if name.startswith("s") and value >> (bits - 1) else value


def differs(kernel: dict[str, Any], ours: Any) -> str:
    """How our value differs from the kernel's, empty when it does not."""
    if not isinstance(ours, Scalar):
        return f"we have {ours!r}"
    if "const" in kernel:
        return "" if ours.const == kernel["const"] else f"we have {ours!r}"
    mine = {
        "smin": ours.smin, "smax": ours.smax, "umin": ours.umin, "umax": ours.umax, "smin32": ours.s32_min,
        "smax32": ours.s32_max, "umin32": ours.u32_min, "umax32": ours.u32_max, "var_off": ours.tnum,
    }  # fmt: skip
    wrong = [f"{name}: kernel {kernel[name]}, we {mine[name]}" for name in mine if mine[name] != kernel[name]]
    return "; ".join(wrong)


def compare(spec: ProgramSpec, oracle: KernelOracle) -> str:
    """The first difference between the two walks as text, empty when there is none."""
    seen, report = walk(spec, 2_000)
    if report.insns_processed >= 2_000:
        return ""  # too long to print
    verdict = oracle.ask(spec, log_level=2, log_size=1 << 22)
    lines = verdict.log.splitlines()
    position = 0
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if not found or found["text"] is None:
            continue
        slot = int(found[1])
        context = "\n".join(lines[max(0, number - 10) : number + 3])
        if position >= len(seen):
            return f"we stopped before slot {slot}, after {position} steps: {report}\n{context}"
        if seen[position].slot != slot:
            ours = [step.slot for step in seen[max(0, position - 10) : position + 3]]
            return f"step {position}: the kernel walks {slot}, we {seen[position].slot} (ours {ours})\n{context}"
        for register, text in _REGISTER.findall(found["after"] or ""):
            kernel = parse_scalar(text)
            if kernel is None:
                continue
            wrong = differs(kernel, seen[position].after.get(int(register)))
            if wrong and "frame" not in line:
                return f"step {position}, slot {slot}, R{register}: {wrong}\n{context}"
        position += 1
    if position < len(seen):
        return f"the kernel stopped after {position} steps, we walk {seen[position].slot}\n" + "\n".join(lines[-12:])
    kernel_verdict = "accept" if verdict.accepted else "reject"
    if report.verdict != kernel_verdict:
        return f"the kernel says {kernel_verdict} ({verdict.reason}), we {report}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?")
    parser.add_argument("--type", default="xdp")
    parser.add_argument("--seed", type=int, nargs=2, metavar=("FIRST", "LAST"))
    options = parser.parse_args()
    from cases import program
    from generator import generate

    oracle = KernelOracle()
    if options.file:
        difference = compare(program(Path(options.file).read_text(), options.type), oracle)
        print(difference or "no difference")
        return bool(difference)
    count = 0
    for seed in range(*options.seed):
        difference = compare(program(generate(seed)[0]), oracle)
        if difference:
            count += 1
            print(f"=== seed {seed}: {difference}\n")
    print(f"{count} programs differ")
    return bool(count)


if __name__ == "__main__":
    sys.exit(main())
