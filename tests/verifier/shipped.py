"""Realistic C programs (`c/`): compiled by clang and by ziglang's clang for several instruction sets."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parent / "c"
NAMES = sorted(path.stem for path in SOURCES.glob("*.c"))
CLANG, ZIG = "clang", "zig"
CPUS = {CLANG: ("v1", "v2", "v3"), ZIG: ("v1", "v2", "v3", "v4")}


def compile_source(name: str, compiler: str, cpu: str, target: Path) -> Path | None:
    """The object, None where the compiler refuses (old instruction sets lack what some programs need)."""
    out = target / f"{name}.{compiler}.{cpu}.o"
    if compiler == CLANG:
        command = [shutil.which("clang") or "clang", "--target=bpf"]
    else:
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding"]
    command += ["-O2", "-g", "-w", f"-mcpu={cpu}", "-c", f"{name}.c", "-o", str(out)]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, check=False)
    return out if done.returncode == 0 else None


def compilers() -> Iterator[str]:
    """Those that are here."""
    if shutil.which("clang") is not None:
        yield CLANG
    if importlib.util.find_spec("ziglang") is not None:
        yield ZIG


def compile_all(target: Path) -> Iterator[Path]:
    """Every source by every compiler for every instruction set."""
    for compiler in compilers():
        for name in NAMES:
            for cpu in CPUS[compiler]:
                found = compile_source(name, compiler, cpu, target)
                if found is not None:
                    yield found
