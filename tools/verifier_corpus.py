"""Real programs for comparisons of verdicts: the examples, the test programs, clang's objects, Debian's, the traps.

`corpus()` yields each with a name that says where it came from. The objects of Debian's xdp-tools are read where the
package is installed, further objects where they are given. What this machine cannot make (no clang) is left out.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests" / "verifier")]

from shipped import compile_all  # noqa: E402
from test_traps import TRAPS, build  # noqa: E402

from ebpfkit.btf.vmlinux import read_btf_file  # noqa: E402
from ebpfkit.elf import open_object  # noqa: E402
from ebpfkit.elf.model import ProgramSpec  # noqa: E402
from ebpfkit.errors import EbpfError  # noqa: E402

DEBIAN = Path("/usr/lib/x86_64-linux-gnu/bpf")
CPUS = ("v1", "v2", "v3")


@dataclass(frozen=True)
class Sample:
    """A program and where it came from."""

    stratum: str
    name: str
    spec: ProgramSpec


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"sample_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _ours(folder: Path, stratum: str) -> Iterator[Sample]:
    from ebpfkit.compiler.driver import Options, compile_programs
    from ebpfkit.dsl.program import Program

    for path in sorted(folder.glob("*.py")):
        programs = [value for value in vars(_module(path)).values() if isinstance(value, Program)]
        for cpu in ("v2", "v3", "v4"):
            for program in programs:
                try:
                    elf = compile_programs([program], options=Options(mcpu=cpu)).elf
                except EbpfError:
                    continue  # an attach kind that the compiler has no program for
                for spec in open_object(elf).programs.values():
                    yield Sample(stratum, f"{path.stem}/{spec.name} {cpu}", spec)


def _objects(paths: Iterable[Path], stratum: str) -> Iterator[Sample]:
    kernel = read_btf_file()
    for path in paths:
        try:
            found = open_object(path, target_btf=kernel, legacy_sections=True)
        except EbpfError:
            continue
        for spec in found.programs.values():
            # Whoever loads such maps gives them their size.
            maps = {name: shape.replace(max_entries=shape.max_entries or 1) for name, shape in spec.maps.items()}
            yield Sample(stratum, f"{path.name}/{spec.name}", spec.replace(maps=maps))


def _clang(folder: Path, target: Path) -> Iterator[Path]:
    clang = shutil.which("clang")
    if clang is None:
        return
    for source in sorted(folder.glob("*.c")):
        for cpu in CPUS:
            out = target / f"{source.stem}.{cpu}.o"
            command = [clang, "--target=bpf", "-O2", "-g", f"-mcpu={cpu}", "-w", "-c", source.name, "-o", str(out)]
            if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0:
                yield out


CONSTRUCTS = ("functions", "locks", "callbacks", "dynptrs", "kfuncs", "kernel_types", "kernel_objects")


def _constructs(place: Path) -> Iterator[Sample]:
    """The C programs of the tests: functions, locks, callbacks, dynptrs, kernel functions, allocated objects."""
    if shutil.which("clang") is None:
        return
    import test_allocated_objects
    import test_functions

    for name in CONSTRUCTS:
        module = importlib.import_module(f"test_{name}")
        for case, (_, source) in module.CASES.items():
            folder = place / name
            folder.mkdir(exist_ok=True)
            try:
                if hasattr(module, "build"):
                    spec = module.build(folder, source)
                else:
                    spec = test_functions.build(folder, module.MORE + source, types=name.startswith("kernel"))
            except (EbpfError, KeyError):
                continue
            yield Sample(name, f"{name}/{case}", spec)
    if importlib.util.find_spec("ziglang") is not None:
        for spec in test_allocated_objects.build_objects(place).programs.values():
            yield Sample("allocated objects", spec.name, spec)


def corpus(objects: Iterable[Path] = (), *, place: Path) -> Iterator[Sample]:
    """Every sample; compiled objects are left in `place`."""
    yield from _ours(ROOT / "programs", "examples")
    yield from _ours(ROOT / "tests/programs/cases", "test programs")
    yield from _objects(_clang(ROOT / "tests/elf/c", place), "clang")
    yield from _objects(_clang(ROOT / "benchmarks/c", place), "clang")
    yield from _objects(compile_all(place), "shipped")
    yield from _objects(sorted(DEBIAN.glob("*.o")), "Debian's objects")
    yield from _constructs(place)
    yield from _objects(objects, "given objects")
    for trap in TRAPS:
        yield Sample("traps", str(trap["name"]), build(trap))
