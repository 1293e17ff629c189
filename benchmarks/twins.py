"""Programs and their twins in C: where they are, how they are compiled, and whether they do the same.

For `benchmarks/language.py`. A twin has the name of its program, and maps of the same names and layouts; what the
module puts into its maps goes into both. C is compiled by clang 22 (PyPI's ziglang), which keeps its own cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.typeinfo import StructType
from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.loader.collection import Collection
from ebpfkit.loader.maps import Map
from ebpfkit.loader.ringbuf import RingBuffer
from tests.programs.contents import prepare

HERE = Path(__file__).parent
ROOT = HERE.parent
CASES = ROOT / "tests" / "programs" / "cases"
INCLUDES = ("-D__x86_64__", "-I/usr/include", "-I/usr/include/x86_64-linux-gnu")
FLAGS = ("-O2", "-g", "-mcpu=v3", *INCLUDES)
TIMES = {"first", "last", "stamp", "time", "filled", "tokens", "start", "times"}
"""Fields that hold a clock's time or follow from it, which no two runs share."""
DEVICE = "twin0"
"""The interface of the benchmark's namespace that routes lead to and redirects go to."""
WITHOUT_ENTRIES = {"xskmap", "devmap", "devmap_hash", "cpumap", "prog_array", "bloom_filter", "queue", "stack"}


@dataclass(frozen=True)
class Twin:
    """A program of the language and its C source.

    `name` is that of the module, or module.program; `c_name` the program's in C. `whole`: the sources hold the same.
    """

    name: str
    python: Path
    c: Path
    flags: tuple[str, ...] = ()
    c_name: str = ""
    whole: bool = True

    @property
    def module(self) -> ModuleType:
        """Its module, with what user space would have put into its maps."""
        return load_module(self.python)

    @property
    def c_programs(self) -> list[str] | None:
        """The programs of the C object that are meant; None: all of them."""
        return None if self.c.parent == HERE / "c" else [self.c_name]

    @property
    def program(self) -> Program:
        found = getattr(self.module, self.name.rpartition(".")[2])
        assert isinstance(found, Program)
        return found


@lru_cache
def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"twin_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    linecache.checkcache(str(path))
    spec.loader.exec_module(module)
    prepare(path.stem, module)
    return module


def find_twins() -> list[Twin]:
    """Every C source of `benchmarks/c` that has a program of its name in `programs` or among the tests' cases."""
    out = []
    for source in sorted((HERE / "c").glob("*.c")):
        for folder in (ROOT / "programs", CASES):
            if (folder / f"{source.stem}.py").exists():
                out.append(Twin(source.stem, folder / f"{source.stem}.py", source, c_name=source.stem))
                break
    return out


# Compiling C


@lru_cache
def zig() -> str:
    """The executable of the ziglang package."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        sys.exit("clang 22 comes with PyPI's ziglang: pip install ziglang")
    return str(Path(spec.origin).parent / "zig")


def clang_process(twin: Twin, target: str) -> list[str]:
    """A bare clang 22, without what zig's driver adds around it: what compile times are held against."""
    own = f"-I{Path(zig()).parent / 'lib' / 'include'}"
    return [zig(), "clang", "--target=bpfel", *FLAGS, own, *twin.flags, "-c", str(twin.c), "-o", target]


def zig_cc(twin: Twin, target: str) -> list[str]:
    """Clang 22 as PyPI's ziglang offers it."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding", *FLAGS, *twin.flags]
    return [*command, "-c", str(twin.c), "-o", target]


def compile_c(twin: Twin) -> bytes:
    """The object of a twin, kept by the content of its source, its neighbours and its command."""
    command = zig_cc(twin, "")
    headers = b"".join(path.read_bytes() for path in sorted(twin.c.parent.glob("*.h")))
    digest = hashlib.sha256("\0".join(command).encode() + headers + twin.c.read_bytes()).hexdigest()[:24]
    folder = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "ebpfkit-twins"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{twin.name}-{digest}.o"
    if not kept.exists():
        made = folder / f"{twin.name}-{os.getpid()}.o"
        subprocess.run(zig_cc(twin, str(made)), check=True)
        made.rename(kept)
    return kept.read_bytes()


def instructions(obj: ObjectFile, names: Sequence[str] | None = None) -> int:
    """Instructions of linked programs (all, or these) with their subprograms, in units of 8 bytes."""
    chosen = obj.programs if names is None else names
    return sum(insn.slots for name in chosen for insn in obj.programs[name].instructions)


# Source lines


def python_lines(path: Path) -> int:
    """Lines of a program without blank lines, comments and docstrings, formatted at 100 columns by ruff.

    What only runs in user space is no part of it: the `__main__` block, what is put into maps, and asserts.
    """
    import ast

    text = path.read_text()
    skipped: set[int] = set()
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, (ast.For, ast.Assert)) or (isinstance(node, ast.If) and "__name__" in ast.dump(node.test)):
            skipped |= set(range(node.lineno, (node.end_lineno or 0) + 1))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            skipped |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    for owner in ast.walk(tree):
        if isinstance(owner, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(owner) is not None:
            node = owner.body[0]
            if len(owner.body) > 1:
                skipped |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    kept = "\n".join(line for number, line in enumerate(text.split("\n"), 1) if number not in skipped)
    options = ["--line-length=100", "--config", "format.skip-magic-trailing-comma=true", "--isolated", "-"]
    command = [sys.executable, "-m", "ruff", "format", *options]
    done = subprocess.run(command, input=kept, capture_output=True, text=True, check=True)
    return sum(1 for line in done.stdout.splitlines() if line.strip() and not line.strip().startswith("#"))


C_STYLE = "{BasedOnStyle: LLVM, IndentWidth: 4, ColumnLimit: 100}"


def c_lines(path: Path) -> int:
    """Lines of a C source without blank lines and comments, formatted at 100 columns by clang-format."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    text = re.sub(r"(?m)//.*$", "", text)
    done = subprocess.run(
        ["clang-format", f"--style={C_STYLE}"], input=text, capture_output=True, text=True, check=True
    )
    return sum(1 for line in done.stdout.splitlines() if line.strip())


# Behaviour


@dataclass
class Behaviour:
    """What a series of packets did in the kernel: verdict and bytes for each, then maps and ring records."""

    results: list[tuple[int, bytes]] = field(default_factory=list)
    maps: dict[str, Any] = field(default_factory=dict)
    records: dict[str, list[bytes]] = field(default_factory=dict)


def without_times(facade: MapFacade, data: bytes) -> bytes:
    """A value or record without its clock times."""
    info = facade.value_type.__ebpf_type__
    shown = bytearray(data)
    if isinstance(info, StructType):
        for one in info.fields:
            if one.name in TIMES:
                shown[one.offset : one.offset + one.type.size] = bytes(one.type.size)
    return bytes(shown)


def live_map(live: Collection, name: str) -> Map:
    """A map by its name, of which the kernel (and the language) keep 15 characters."""
    return next(found for full, found in live.maps.items() if full[:15] == name)


def behave(live: Collection, name: str, program: Program, frames: Sequence[bytes]) -> Behaviour:
    """Run frames through a loaded program, which has the maps of `program`."""
    out = Behaviour()
    facades = {facade.name: facade for facade in program.maps}
    rings = {name: RingBuffer(live_map(live, name)) for name, f in facades.items() if f.map_type == "ringbuf"}
    out.records = {name: [] for name in rings}
    running = live.programs[name]
    for frame in frames:
        ran = running.test_run(frame)
        out.results.append((ran.retval, ran.data))
        for name, ring in rings.items():
            out.records[name] += [without_times(facades[name], bytes(record)) for record in ring.poll(0)]
    for ring in rings.values():
        ring.close()
    for name, facade in facades.items():
        if name in rings or facade.map_type in WITHOUT_ENTRIES:
            continue
        items = live_map(live, name).items()
        out.maps[name] = sorted((bytes(key), without_times(facade, bytes(value))) for key, value in items)
    return out


def fill(live: Collection, program: Program) -> None:
    """Put what the module put into its maps into those of a loaded object."""
    for facade in program.maps:
        for key, value in facade.initial_contents():
            live_map(live, facade.name).set(key, value)
        if facade.map_type == "devmap":
            index = socket.if_nametoindex(DEVICE)
            live_map(live, facade.name).set(struct.pack("=I", index), struct.pack("=I", index))
        if facade.map_type == "cpumap":
            live_map(live, facade.name).set(struct.pack("=I", 0), struct.pack("=I", 192))


def differences(twin: Twin, ours: Collection, theirs: Collection, frames: Sequence[bytes]) -> list[str]:
    """What differs between two loaded objects over these frames, in words; nothing when they are the same."""
    program = twin.program
    mine, other = behave(ours, program.name, program, frames), behave(theirs, twin.c_name, program, frames)
    out = []
    for number, (one, two) in enumerate(zip(mine.results, other.results, strict=True)):
        if one != two:
            what = f"{one[0]} and {two[0]}" if one[0] != two[0] else f"bytes {one[1].hex()} and {two[1].hex()}"
            out.append(f"frame {number} {frames[number].hex()}: {what}")
    out += [f"map {name}" for name in mine.maps if mine.maps[name] != other.maps[name]]
    out += [f"records of {name}" for name in mine.records if mine.records[name] != other.records[name]]
    return out


def open_twin(twin: Twin) -> ObjectFile:
    """The C object; public sources have section names of before libbpf 1.0."""
    return open_object(compile_c(twin), legacy_sections=True, prog_type="xdp")
