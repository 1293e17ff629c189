"""A module's types: shown as C and as lines with the kernel's below them, and cleaned of what the kernel has."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from ebpfkit.btf import Btf
from ebpfkit.btf.types import VOID, BtfType, Func, FuncProto, Int, Member, Param, Ptr, Struct
from ebpfkit.cli.main import cli
from tests.conftest import require_tool

BASE: list[BtfType] = [
    VOID,
    Int("int", 4, Int.SIGNED, 32),
    Struct("device", 8, (Member("number", 1, 0), Member("port", 1, 32))),
    Ptr(type=2),
]
# A module that repeats the kernel's structure, uses it in one of its own, and has a function.
ADDED: list[BtfType] = [
    Struct("device", 8, (Member("number", 1, 0), Member("port", 1, 32))),
    Struct("driver", 16, (Member("device", 4, 0), Member("other", 3, 64))),
    FuncProto("", 1, (Param("driver", 7),)),
    Ptr(type=5),
    Func("driver_start", 6),
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    base = Btf.from_bytes(Btf(BASE).to_bytes())
    kernel, module = tmp_path / "kernel.btf", tmp_path / "module.btf"
    kernel.write_bytes(base.to_bytes())
    module.write_bytes(Btf([*base.types, *ADDED], b"", base=base).to_bytes())
    return kernel, module


def ran(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_only_the_module_s_types_are_lines(files: tuple[Path, Path]) -> None:
    kernel, module = files
    lines = [line for line in ran("btf", "dump", module, "--base", kernel).splitlines() if line.startswith("[")]
    assert lines == [
        "[4] STRUCT 'device' size=8 kind_flag=0", "[5] STRUCT 'driver' size=16 kind_flag=0",
        "[6] FUNC_PROTO '(anon)' ret=1", "[7] PTR '(anon)' type=5", "[8] FUNC 'driver_start' type=6 linkage=1",
    ]  # fmt: skip
    shown = subprocess.run(
        [require_tool("bpftool"), "-B", kernel, "btf", "dump", "file", module],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    theirs = [line.split()[:3] for line in shown.splitlines() if line.startswith("[")]
    assert [line.split()[:3] for line in lines] == theirs


def test_a_module_as_c_compiles_with_what_it_needs(files: tuple[Path, Path], tmp_path: Path) -> None:
    kernel, module = files
    header = ran("btf", "dump", module, "--base", kernel, "--c")
    assert header.count("struct device {") == 1 and "struct device___2 *other;" in header
    text = header + '_Static_assert(sizeof(struct driver) == 16, "");\n'
    command = [require_tool("clang"), "--target=bpf", "-fsyntax-only", "-x", "c", "-"]
    subprocess.run(command, input=text.encode(), check=True)


def test_removing_what_the_base_has(files: tuple[Path, Path], tmp_path: Path) -> None:
    kernel, module = files
    out = tmp_path / "clean.btf"
    shown = json.loads(ran("btf", "dedup", module, "--base", kernel, "-o", out, "--json"))
    assert (shown["types"], shown["removed"]) == (4, 1)
    header = ran("btf", "dump", out, "--base", kernel, "--c")
    assert header.count("struct device") == header.count("struct device {") + 2 and "___2" not in header
    again = json.loads(ran("btf", "dedup", out, "--base", kernel, "-o", tmp_path / "again.btf", "--json"))
    assert again["removed"] == 0 and (tmp_path / "again.btf").read_bytes() == out.read_bytes()
    whole = json.loads(ran("btf", "dedup", kernel, "-o", tmp_path / "kernel2.btf", "--json"))
    assert whole["removed"] == 0
