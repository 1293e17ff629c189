"""Compiled test programs: the C sources of `tests/elf/c`, built when a test asks for them."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from ebpfkit.elf import ObjectFile, open_object
from tests.conftest import require_tool, skip_or_fail

SOURCES = Path(__file__).parent / "c"


def compile_c(name: str, *flags: str) -> bytes:
    """The object that clang makes of `tests/elf/c/NAME.c`."""
    return _compile(require_tool("clang"), name, flags)


@functools.cache
def _compile(clang: str, name: str, flags: tuple[str, ...]) -> bytes:
    target = () if any(flag.startswith("--target") for flag in flags) else ("--target=bpf",)
    command = [clang, *target, "-O2", "-g", "-mcpu=v3", *flags, "-c", f"{name}.c", "-o", "-"]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def compile_zig(name: str, *flags: str) -> bytes:
    """The object that the clang in the `ziglang` package (a later one) makes of `tests/elf/c/NAME.c`."""
    require_zig()
    return _compile_zig(name, flags)


def require_zig() -> list[str]:
    """The command of that compiler, without a target."""
    if importlib.util.find_spec("ziglang") is None:
        skip_or_fail("the ziglang package is not installed")
    return [sys.executable, "-m", "ziglang", "cc", "-w"]


@functools.cache
def _compile_zig(name: str, flags: tuple[str, ...]) -> bytes:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding", "-O2", "-g", "-mcpu=v3", "-w"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{Path(name).name}.o"
        command += [*flags, "-c", f"{name}.c", "-o", str(out)]
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return out.read_bytes()


def open_c(name: str, *flags: str) -> ObjectFile:
    """That object, read and linked."""
    return open_object(compile_c(name, *flags), name=f"{name}.o")
