"""Objects and types in one run: parse and link, opening of the kernel's BTF, dumps; against libbpf through bpftool.

    python benchmarks/elf.py [--rounds 11] [--object FILE] [--json]

libbpf is measured as a bpftool process, so what such a process costs by itself (`bpftool version`) is measured too and
taken off: that is "the constant part" below. Our side is measured in this process, imports done, and once more as a
whole `python -m ebpfkit` process. Rounds alternate. Times are processor time, of this process and those it started:
what else a machine does counts less. Only ratios mean anything elsewhere.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

VMLINUX = "/sys/kernel/btf/vmlinux"


def clock(action: Callable[[], Any]) -> float:
    """Seconds of processor time of one call, with those of the processes that it waited for."""
    started = processor_time()
    action()
    return processor_time() - started


def processor_time() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run(*command: str) -> Callable[[], Any]:
    return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def row(samples: list[float]) -> dict[str, float]:
    """Median in milliseconds, and spread: the middle half's width over the median."""
    quarters = statistics.quantiles(samples, n=4)
    middle = statistics.median(samples)
    return {"ms": round(middle * 1000, 3), "spread": round((quarters[2] - quarters[0]) / middle, 3)}


def measure(rounds: int, actions: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Every action once in each round, in turn; the first round warms up and does not count."""
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            took = clock(action)
            if number:
                samples[name].append(took)
    return samples


def compare(title: str, samples: dict[str, list[float]], ours: str, theirs: str, constant: str) -> dict[str, Any]:
    """Ours over theirs without its constant part; None where that part is below the noise of the constant part."""
    net = statistics.median(samples[theirs]) - statistics.median(samples[constant])
    quarters = statistics.quantiles(samples[constant], n=4)
    ours_quarters = statistics.quantiles(samples[ours], n=4)
    measurable = net > quarters[2] - quarters[0]
    return {
        "what": title, "ours": row(samples[ours]), "bpftool": row(samples[theirs]),
        "constant part": row(samples[constant]),
        "ratio": round(statistics.median(samples[ours]) / net, 2) if measurable else None,
        "ratio quarters": [round(ours_quarters[0] / net, 2), round(ours_quarters[2] / net, 2)] if measurable else None,
        "ratio to the whole process": round(statistics.median(samples[ours]) / statistics.median(samples[theirs]), 2),
    }  # fmt: skip


def large_source(programs: int) -> str:
    """A C file with many programs that share maps and a function: an object larger than any package has."""
    text = """
#define SEC(name) __attribute__((section(name), used))
struct hits { unsigned long packets, bytes; };
struct { int (*type)[1]; int (*max_entries)[64]; unsigned *key; struct hits *value; } hits SEC(".maps");
static void *(*lookup)(void *, const void *) = (void *)1;
volatile unsigned seen;
static __attribute__((noinline)) int tail(struct hits *hits, int by) { hits->packets += by; return seen += by; }
"""
    for number in range(programs):
        text += f"""
SEC("xdp") int program_{number}(unsigned *ctx)
{{
    unsigned key = {number};
    struct hits *found = lookup(&hits, &key);
    if (!found) return 1;
    found->bytes += ctx[1] - ctx[0];
    return tail(found, {number}) & 1 ? 2 : 1;
}}
"""
    return text + 'char _license[] SEC("license") = "GPL";\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--object", help="an eBPF object (default: the largest of the system's packages, and one of 400"
                        " programs made for this)")  # fmt: skip
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bpftool = shutil.which("bpftool", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    found = sorted(glob.glob("/usr/lib/*/bpf/*.o"), key=os.path.getsize)
    path = options.object or (found[-1] if found else None)
    clang = shutil.which("clang")
    if bpftool is None or clang is None or path is None or not Path(VMLINUX).exists():
        sys.exit("bpftool, clang, an eBPF object (--object) and the kernel's BTF are needed")

    from ebpfkit.btf import Btf
    from ebpfkit.btf.dump import dump_c
    from ebpfkit.btf.index import open_indexed
    from ebpfkit.btf.types import Struct
    from ebpfkit.btf.vmlinux import read_btf_file
    from ebpfkit.elf import open_object
    from ebpfkit.elf.static import link_objects

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out, cache = f"{folder}/out.o", Path(folder) / "cache"
        constant = run(bpftool, "version")
        large = f"{folder}/large.o"
        command = [clang, "--target=bpf", "-O2", "-g", "-mcpu=v3", "-x", "c", "-c", "-", "-o", large]
        subprocess.run(command, input=large_source(400).encode(), check=True)
        for each in [options.object] if options.object else [path, large]:
            data = Path(each).read_bytes()
            # bpftool has no command that only opens an object: a static link of one object parses and writes it.
            samples = measure(options.rounds, {
                "open": lambda data=data: open_object(data),
                "join": lambda data=data, each=each: link_objects([(each, data)]),
                "gen object": run(bpftool, "gen", "object", out, each), "constant": constant,
                "process": run(sys.executable, "-m", "ebpfkit", "link", each, "-o", f"{folder}/ours.o"),
            })  # fmt: skip
            name = f"{Path(each).name}, {len(data)} bytes"
            rows.append(compare(f"parse and link {name}", samples, "open", "gen object", "constant"))
            rows.append(compare(f"statically link {name}", samples, "join", "gen object", "constant"))
            rows.append(compare("the same, a whole process of ours", samples, "process", "gen object", "constant"))

        def later() -> None:
            assert open_indexed(Path(VMLINUX).read_bytes(), "bench", cache).find("xdp_buff", Struct) is not None

        def first() -> None:
            assert Btf.from_bytes(Path(VMLINUX).read_bytes(), lazy=True).find("xdp_buff", Struct) is not None

        later()
        # What asks bpftool for the least beyond opening the file: the types that one relocation needs.
        source = "struct xdp_buff { void *data; } __attribute__((preserve_access_index));\n"
        source += "void *f(struct xdp_buff *b) { return b->data; }\n"
        asks = f"{folder}/asks.o"
        command = [clang, "--target=bpf", "-O2", "-g", "-x", "c", "-c", "-", "-o", asks]
        subprocess.run(command, input=source.encode(), check=True)
        least = run(bpftool, "gen", "min_core_btf", VMLINUX, f"{folder}/min.btf", asks)
        samples = measure(options.rounds, {"first": first, "later": later, "btf": least, "constant": constant})
        rows.append(compare("open the kernel's BTF, first", samples, "first", "btf", "constant"))
        rows.append(compare("open the kernel's BTF, later (index on disk)", samples, "later", "btf", "constant"))

        every = run(bpftool, "btf", "dump", "file", VMLINUX, "format", "c")
        samples = measure(max(2, options.rounds // 4), {
            "dump": lambda: dump_c(read_btf_file()), "btf": every, "constant": constant,
        })  # fmt: skip
        rows.append(compare("the kernel's BTF as C, all of it", samples, "dump", "btf", "constant"))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for entry in rows:
        quarters = entry["ratio quarters"]
        net = f"{entry['ratio']} ({quarters[0]} to {quarters[1]}) without" if quarters else "not measurable without"
        print(f"{entry['what']}: times bpftool {net}, {entry['ratio to the whole process']} with its constant part")
        for name in ("ours", "bpftool", "constant part"):
            print(f"    {name} {entry[name]['ms']} ms, spread {entry[name]['spread']}")


if __name__ == "__main__":
    main()
