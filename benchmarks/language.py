"""The language against C: instructions, ns per packet, compile time, source lines, and the same behaviour, in one run.

    python benchmarks/language.py [NAME ...] [--rounds 9] [--json] [--markdown]

For each program that has a twin in `benchmarks/c` (or in a Debian source package, see `benchmarks/public.py`): ours and
clang 22's, compiled here, loaded into the running kernel, and run on the same packets in turn. Ratios are ours over
clang's, with geometric means and the worst. Wants root, PyPI's ziglang and scapy, and Debian's libbpf-dev,
linux-libc-dev and clang-format. Works in a network namespace of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns that nothing leads anywhere from here

from public import fetch, find_public  # noqa: E402
from road import clock  # noqa: E402
from twins import (  # noqa: E402
    DEVICE,
    Twin,
    c_lines,
    clang_process,
    differences,
    fill,
    find_twins,
    instructions,
    open_twin,
    python_lines,
    zig_cc,
)

from ebpfkit.compiler.driver import compile_programs  # noqa: E402
from ebpfkit.elf import open_object  # noqa: E402
from ebpfkit.errors import EbpfError  # noqa: E402
from ebpfkit.loader.collection import Collection  # noqa: E402
from ebpfkit.loader.program import Program as LiveProgram  # noqa: E402
from tests.compiler.support import on_one_cpu  # noqa: E402
from tests.programs.packets import FOR_CASE, GENERAL, frames_of  # noqa: E402

BARS = {
    "instructions": 0.95,
    "ns": 1.00,
    "compile": 0.25,
    "compile, zig cc": 0.25,
    "compile again": 0.25,
    "lines": 0.75,
}
"""What the geometric means are held against; "again" is from the cache of objects."""
TIMED_FRAMES = 4
REPEAT = 50_000
SINGLES = 400
INSIDE = "EBPFKIT_BENCHMARK_NAMESPACE"


@dataclass
class Row:
    """One program: ours and clang's, and how they behaved."""

    name: str
    instructions: tuple[int, int]
    ns: tuple[float, float]
    ns_spread: float
    compile_ms: tuple[float, float, float, float]
    lines: tuple[int, int] | None
    packets: int
    differs: list[str]
    single: bool

    def ratio(self, what: str) -> float | None:
        """Ours over clang's; None for lines where only a part of a public source has its counterpart."""
        pair: tuple[float, float] | None = {
            "instructions": self.instructions, "ns": self.ns, "lines": self.lines,
            "compile": self.compile_ms[0:3:2], "compile, zig cc": self.compile_ms[0:4:3],
            "compile again": self.compile_ms[1:3],
        }[what]  # fmt: skip
        return pair[0] / pair[1] if pair is not None else None


def once(program: LiveProgram, frame: bytes, repeat: int) -> float:
    """ns per packet of one measurement: `repeat` runs in the kernel, or single runs where a run changes the packet."""
    if repeat > 1:
        return float(program.test_run(frame, repeat=repeat).duration_ns)
    return statistics.median(float(program.test_run(frame).duration_ns) for _ in range(SINGLES))


def measure_ns(ours: LiveProgram, theirs: LiveProgram, frames: Sequence[bytes], rounds: int) -> tuple[
    tuple[float, float], float, bool]:  # fmt: skip
    """Sums over the frames, each measured in turn; the spread of the ratio's middle half; whether run one by one."""
    totals = [0.0, 0.0]
    ratios: list[list[float]] = []
    single = False
    for frame in frames:
        changes = any(p.test_run(frame).data != frame for p in (ours, theirs))
        repeat = 1 if changes else REPEAT
        single |= changes
        pairs = []
        for number in range(rounds):
            order = (ours, theirs) if number % 2 else (theirs, ours)
            one = {id(p): once(p, frame, repeat) for p in order}
            pairs.append((one[id(ours)], one[id(theirs)]))
        totals[0] += statistics.median(a for a, _ in pairs)
        totals[1] += statistics.median(b for _, b in pairs)
        ratios.append([a / max(b, 1e-9) for a, b in pairs])
    quarters = statistics.quantiles([statistics.fmean(r) for r in zip(*ratios, strict=True)], n=4)
    return (totals[0], totals[1]), quarters[2] - quarters[0], single


def measure_compile(twin: Twin, rounds: int) -> tuple[float, float, float, float]:
    """Milliseconds, the medians of measurements in turn: function to ELF in this process without and with the cache of
    objects, a bare clang process, and `python -m ziglang cc` without its cache."""
    program = twin.program
    ours: list[float] = []
    again: list[float] = []
    theirs: list[float] = []
    driver: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        command = clang_process(twin, os.path.join(folder, "x.o"))
        subprocess.run(command, check=True)
        for _ in range(rounds + 1):
            for cache in (os.path.join(folder, "cache"), ""):
                os.environ["EBPFKIT_CACHE"] = cache
                spent = clock(lambda: compile_programs([program])) * 1e3
                (again if cache else ours).append(spent)
            theirs.append(clock(lambda: subprocess.run(command, check=True)) * 1e3)
            with tempfile.TemporaryDirectory() as cache:
                whole = zig_cc(twin, os.path.join(folder, "y.o"))
                environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": cache, "ZIG_GLOBAL_CACHE_DIR": cache}
                driver.append(clock(lambda: subprocess.run(whole, check=True, env=environment)) * 1e3)  # noqa: B023
    first, second, clang, cc = (statistics.median(row[1:]) for row in (ours, again, theirs, driver))
    return first, second, clang, cc


def timed_frames(name: str) -> list[bytes]:
    """A few whole packets that the program is about, or of every kind."""
    return list(dict.fromkeys(FOR_CASE.get(name, ()) or GENERAL))[:TIMED_FRAMES]


def measure(twin: Twin, rounds: int) -> Row:
    program = twin.program
    compiled, c_object = open_object(compile_programs([program]).elf), open_twin(twin)
    frames = frames_of(twin.python.stem)
    with Collection.load(compiled) as ours, Collection.load(c_object, programs=twin.c_programs) as theirs:
        fill(ours, program)
        fill(theirs, program)
        differs = differences(twin, ours, theirs, frames)
    with Collection.load(compiled) as ours, Collection.load(c_object, programs=twin.c_programs) as theirs:
        fill(ours, program)
        fill(theirs, program)
        live = ours.programs[program.name], theirs.programs[twin.c_name]
        ns, spread, single = measure_ns(*live, timed_frames(twin.python.stem), rounds)
    return Row(
        twin.name,
        (instructions(compiled), instructions(c_object, twin.c_programs)),
        ns,
        spread,
        measure_compile(twin, max(3, rounds // 2)),
        (python_lines(twin.python), c_lines(twin.c)) if twin.whole else None,
        len(frames),
        differs,
        single,
    )


def mean(rows: Sequence[Row], what: str) -> float:
    """The geometric mean of a ratio."""
    return math.exp(statistics.fmean(math.log(found) for _, found in ratios(rows, what)))


def ratios(rows: Sequence[Row], what: str) -> list[tuple[str, float]]:
    """Names of programs and their ratio, where there is one."""
    return [(row.name, found) for row in rows if (found := row.ratio(what)) is not None]


def summary(rows: Sequence[Row]) -> list[str]:
    out = []
    for what, bar in BARS.items():
        worst, most = max(ratios(rows, what), key=lambda pair: pair[1])
        found = mean(rows, what)
        verdict = "held" if found <= bar else "MISSED"
        out.append(f"{what}: {found:.3f} (bar {bar}, {verdict}); worst {most:.2f} ({worst})")
    different = [row.name for row in rows if row.differs]
    out.append(f"SAME: {len(rows) - len(different)} of {len(rows)} programs" + (f", not {different}" * bool(different)))
    return out


HEADINGS = ("program", "instructions", "ratio", "ns", "ratio", "spread", "compile ms", "ratio", "zig cc", "again",
            "lines", "ratio", "packets", "same")  # fmt: skip


def cells(row: Row) -> list[str]:
    return [
        row.name,
        f"{row.instructions[0]} / {row.instructions[1]}", f"{row.ratio('instructions'):.2f}",
        f"{row.ns[0]:.0f} / {row.ns[1]:.0f}{'*' * row.single}", f"{row.ratio('ns'):.2f}", f"{row.ns_spread:.2f}",
        f"{row.compile_ms[0]:.1f} / {row.compile_ms[2]:.1f}", f"{row.ratio('compile'):.2f}",
        f"{row.ratio('compile, zig cc'):.2f}", f"{row.ratio('compile again'):.2f}",
        *((f"{row.lines[0]} / {row.lines[1]}", f"{row.ratio('lines'):.2f}") if row.lines else ("", "")),
        str(row.packets), "SAME" if not row.differs else "DIFFERS",
    ]  # fmt: skip


def in_namespace() -> int:
    """This command again, in a network namespace of its own with an interface, routes and neighbours."""
    fetch()  # while there is a network
    command = ["unshare", "-n", sys.executable, *sys.argv]
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


def set_up_network() -> None:
    """What `bpf_fib_lookup` and redirects find: 192.0.2.0/24 and 2001:db8:2::/64 lead to DEVICE."""
    for command in (
        "link set lo up", f"link add {DEVICE} type veth peer twin1", "link set twin1 up", f"link set {DEVICE} up",
        f"addr add 192.0.2.1/24 dev {DEVICE}", f"addr add 2001:db8:2::1/64 dev {DEVICE} nodad",
        f"neigh add 192.0.2.9 lladdr 02:00:00:00:00:99 dev {DEVICE}",
        f"neigh add 2001:db8:2::9 lladdr 02:00:00:00:00:99 dev {DEVICE}",
    ):  # fmt: skip
        subprocess.run(["ip", *command.split()], check=True)
    for family in ("ipv4", "ipv6"):
        Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text("1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        return in_namespace()
    set_up_network()
    rows, failed = [], []
    with on_one_cpu():
        for twin in [*find_twins(), *find_public()]:
            if options.names and twin.name not in options.names:
                continue
            try:
                row = measure(twin, options.rounds)
            except (EbpfError, subprocess.CalledProcessError) as error:
                failed.append(twin.name)
                print(f"{twin.name}: {error}", file=sys.stderr)
                continue
            rows.append(row)
            if not options.json and not options.markdown:
                if len(rows) == 1:
                    print("  ".join(HEADINGS))
                print("  ".join(cells(row)), flush=True)
                for line in row.differs[:5]:
                    print(f"    differs: {line}")
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    elif options.markdown:
        print("| " + " | ".join(HEADINGS) + " |\n|" + "---|" * len(HEADINGS))
        for row in rows:
            print("| " + " | ".join(cells(row)) + " |")
    if not options.json:
        print("\n".join(["", *summary(rows)]))
    return 1 if failed or any(row.differs for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
