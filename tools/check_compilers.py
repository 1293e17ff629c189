"""The C corpus of tests/elf by every clang that PyPI has, and a Rust program by rustc, held against each other.

    python tools/check_compilers.py [--install] [--markdown]

`ziglang` wheels carry a clang each (0.8: clang 12, ... 0.17: clang 22); `--install` puts those of VERSIONS into
~/.cache/ebpfkit-compilers (about 200 MB each). The reference is the clang of the system. For each source of the corpus
the object opens, has the programs, problems, maps (type and sizes), variables and operations of the reference, and the
running kernel loads what it loads of the reference. A source that a compiler itself refuses is counted apart.

rustc (nightly: the program brings its own little `core`) writes LLVM bitcode for BPF, which llvmlite's LLVM makes an
object of, as bpf-linker does for aya; maps and sections are those that aya's macros leave behind.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.errors import EbpfError, KernelError
from ebpfkit.loader import Collection

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "tests/elf/c"
RUST = ROOT / "tests/elf/rust/aya_like.rs"
FOLDER = Path(os.environ.get("EBPFKIT_COMPILERS", Path.home() / ".cache" / "ebpfkit-compilers"))
# ziglang release -> clang inside
VERSIONS = {
    "0.8.1": 12, "0.9.1": 13, "0.10.1.post1": 15, "0.11.0": 16, "0.12.1": 17, "0.13.0": 18, "0.14.1": 19, "0.15.2": 20,
    "0.16.0": 21,
}  # fmt: skip
HOST_PROGRAMS = {"custom_btf"}  # a program of the host
KCONFIG = {
    "CONFIG_HZ": "250", "CONFIG_BPF": "y", "CONFIG_NET": "y", "CONFIG_LOCALVERSION": '""', "CONFIG_BPF_SYSCALL": "y",
    "LINUX_KERNEL_VERSION": 1,
}  # fmt: skip


@dataclass
class Outcome:
    """What one compiler's objects did."""

    name: str
    same: list[str] = field(default_factory=list)
    different: dict[str, str] = field(default_factory=dict)
    not_compiled: list[str] = field(default_factory=list)
    programs: int = 0
    loaded: int = 0


def compilers() -> Iterator[tuple[str, list[str]]]:
    """(name, command) of every clang at hand, the reference first."""
    clang = shutil.which("clang")
    if clang is None:
        sys.exit("a clang is needed as the reference")
    text = subprocess.run([clang, "--version"], capture_output=True, text=True, check=True).stdout
    yield f"clang {text.split('version ', 1)[1].split('.', 1)[0]} (system)", [clang, "--target=bpf"]
    for version, number in VERSIONS.items():
        zig = FOLDER / version / "ziglang" / "zig"
        if zig.exists():
            # The oldest does not know the target by its own name; the clang inside does.
            own = ["clang", "--target=bpf"] if number < 13 else ["cc", "-target", "bpfel-freestanding"]
            yield f"clang {number} (ziglang {version})", [str(zig), *own]
    yield "clang of the installed ziglang", [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding"]


def compiled(command: list[str], source: Path) -> bytes | None:
    """The object, or None when the compiler does not take the source."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.o"
        flags = ["-O2", "-g", "-mcpu=v3", "-w", "-c", source.name, "-o", str(out)]
        done = subprocess.run([*command, *flags], cwd=source.parent, capture_output=True, check=False)
        return out.read_bytes() if done.returncode == 0 and out.exists() else None


def opened(data: bytes) -> ObjectFile:
    return open_object(data, legacy_sections=True, prog_type="xdp", kconfig=KCONFIG, target_btf=read_btf_file())


def shape(obj: ObjectFile) -> dict[str, object]:
    """What must be the same whoever compiled it."""
    return {
        "programs": sorted(obj.programs), "problems": sorted(obj.problems), "operations": sorted(obj.struct_ops),
        "maps": {n: (m.type, m.key_size, m.max_entries, m.value_slots) for n, m in obj.maps.items() if n[0] != "."},
        "variables": {v.name: v.size for v in obj.variables.values()},
        "lines": all(i.span is not None for s in obj.programs.values() for i in s.instructions),
    }  # fmt: skip


def loads(obj: ObjectFile, name: str) -> bool:
    """Whether the running kernel takes one program of the object."""
    try:
        with Collection.load(obj, programs=[name]):
            return True
    except (EbpfError, KernelError):
        return False


def check(name: str, command: list[str], reference: dict[str, tuple[dict[str, object], set[str]]]) -> Outcome:
    """Every source by one compiler; the first compiler fills the reference."""
    outcome = Outcome(name)
    first = not reference
    for source in sorted(SOURCES.glob("*.c")):
        if source.stem in HOST_PROGRAMS:
            continue
        data = compiled(command, source)
        if data is None:
            outcome.not_compiled.append(source.stem)
            continue
        try:
            obj = opened(data)
        except EbpfError as error:
            outcome.different[source.stem] = str(error)
            continue
        taken = {program for program in obj.programs if loads(obj, program)}
        outcome.programs += len(obj.programs)
        outcome.loaded += len(taken)
        if first:
            reference[source.stem] = shape(obj), taken
        if source.stem not in reference:
            continue
        wanted, wanted_taken = reference[source.stem]
        odd = [key for key, value in shape(obj).items() if value != wanted[key]]
        if taken != wanted_taken:
            odd.append(f"loads {sorted(taken ^ wanted_taken)} differently")
        if odd:
            outcome.different[source.stem] = ", ".join(odd)
        else:
            outcome.same.append(source.stem)
    return outcome


def rust_object() -> bytes | None:
    """The Rust program as an object; None without a nightly rustc."""
    import llvmlite.binding as llvm

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.bc"
        command = ["rustc", "+nightly", "--edition", "2024", "--target", "bpfel-unknown-none", "-C", "opt-level=3"]
        command += ["-C", "debuginfo=2", "-C", "panic=abort", "-C", "codegen-units=1", "--emit=obj", "-o", str(out)]
        try:
            done = subprocess.run([*command, str(RUST)], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return None
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        module = llvm.parse_bitcode(out.read_bytes())
        machine = llvm.Target.from_triple("bpfel").create_target_machine(cpu="v3", opt=2)
        emitted: bytes = machine.emit_object(module)
        return emitted


def check_rust() -> str:
    """One line about the Rust program: read, loaded and run."""
    data = rust_object()
    if data is None:
        return "rustc: no nightly at hand"
    with Collection.load(open_object(data)) as collection:
        retval = collection.programs["count"].test_run(bytes(64)).retval
        return (
            f"rustc: {len(data)} bytes, map SEEN holds {collection.maps['SEEN'].get(bytes(4))!r} after verdict {retval}"
        )


def install() -> None:
    for version in VERSIONS:
        if not (FOLDER / version).exists():
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
            subprocess.run([*command, "--target", str(FOLDER / version), f"ziglang=={version}"], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="fetch the ziglang releases that are missing")
    parser.add_argument("--markdown", action="store_true", help="print rows for docs/objects.md")
    options = parser.parse_args()
    if options.install:
        install()
    reference: dict[str, tuple[dict[str, object], set[str]]] = {}
    failed = False
    for name, command in compilers():
        found = check(name, command, reference)
        failed |= bool(found.different)
        row = (name, len(found.same), len(found.not_compiled), found.programs, found.loaded)
        if options.markdown:
            print("| " + " | ".join(map(str, row)) + " |")
        else:
            print("{}: {} sources the same, {} not compiled, {} programs, {} loaded".format(*row))
        for stem, why in found.different.items():
            print(f"    {stem}: {why}")
        if found.not_compiled:
            print(f"    not compiled: {', '.join(found.not_compiled)}", file=sys.stderr)
        sys.stdout.flush()
    print(check_rust())
    return failed


if __name__ == "__main__":
    sys.exit(main())
