"""What is linked here is what libbpf links: the kernel's tag of each program says so."""

from __future__ import annotations

import glob
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ebpfkit.btf.types import Datasec
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.loader.collection import Collection
from tests.conftest import require_tool
from tests.elf.objects import compile_c, open_c

pytestmark = pytest.mark.kernel


def libbpf_tags(path: Path, pins: Path) -> dict[str, str]:
    """Load an object with bpftool; the tag, a hash over the linked instructions, of each program by name."""
    bpftool = require_tool("bpftool")
    command = [bpftool, "prog", "loadall", str(path), str(pins / "progs"), "pinmaps", str(pins / "maps")]
    pins.mkdir()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        tags = {}
        for pin in (pins / "progs").iterdir():
            shown = subprocess.run([bpftool, "-j", "prog", "show", "pinned", str(pin)], capture_output=True, check=True)
            tags[pin.name] = json.loads(shown.stdout)["tag"]
        return tags
    finally:
        for entry in sorted(pins.rglob("*"), reverse=True):
            entry.rmdir() if entry.is_dir() else entry.unlink()
        if pins.exists():
            pins.rmdir()


def our_tags(obj: ObjectFile, pins: Path) -> dict[str, str]:
    pins.mkdir()
    try:
        with Collection.load(obj, pin_root=pins) as collection:
            return {name: program.info.tag for name, program in collection.programs.items()}
    finally:
        for entry in pins.iterdir():
            entry.unlink()
        pins.rmdir()


@pytest.mark.parametrize("name", ["maps", "globals", "calls", "nested"])
def test_tags(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.o"
    path.write_bytes(compile_c(name))
    pins = Path(f"/sys/fs/bpf/elf_{os.getpid()}_{tmp_path.name}")
    theirs = libbpf_tags(path, pins)
    assert our_tags(open_object(path), pins) == theirs
    assert theirs


def test_statically_linked_objects(tmp_path: Path) -> None:
    """Several objects joined by bpftool: symbols moved, .BTF deduplicated, relocations rewritten."""
    paths = []
    for name in ("globals", "calls", "nested"):
        paths.append(tmp_path / f"{name}.o")
        paths[-1].write_bytes(compile_c(name))
    joined = tmp_path / "joined.o"
    subprocess.run([require_tool("bpftool"), "gen", "object", str(joined), *map(str, paths)], check=True)
    obj = open_object(joined)
    assert not obj.problems
    assert set(obj.programs) == {name for path in paths for name in open_object(path).programs}
    pins = Path(f"/sys/fs/bpf/elf_{os.getpid()}_{tmp_path.name}")
    assert our_tags(obj, pins) == libbpf_tags(joined, pins)


def test_kernel_functions_are_called(tmp_path: Path) -> None:
    """A kfunc declared with __ksym links to a reference that the loader resolves, and its types are accepted."""
    obj = open_object(compile_c("kfunc"), target_btf=read_btf_file())
    pins = Path(f"/sys/fs/bpf/elf_{os.getpid()}_{tmp_path.name}")
    assert set(our_tags(obj, pins)) == {"guarded"}


DEBIAN = sorted(glob.glob("/usr/lib/*/bpf/*.o"))


SCRIPT = """
mount -t bpf bpf /sys/fs/bpf && "$0" prog loadall "$1" /sys/fs/bpf/programs || exit 1
for pin in /sys/fs/bpf/programs/*; do "$0" -j prog show pinned "$pin"; echo; done
echo maps
"$0" -j map show; echo
echo types
"$0" -j btf dump id $("$0" -j prog show pinned $pin | sed 's/.*"btf_id":\\([0-9]*\\).*/\\1/'); echo
"""
# Programs that trace others, which these must be loaded for: tests/loader/test_targets.py.
TRACERS = {"xdpdump_bpf.o"}


def libbpf_view(path: str) -> tuple[dict[str, str], dict[str, tuple[str, int, int, int]], list[Any]]:
    """Tags of the programs, shapes of the maps and types of an object loaded by bpftool, in a bpffs of its own."""
    command = ["unshare", "-m", "sh", "-c", SCRIPT, require_tool("bpftool"), path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    programs, _, rest = done.stdout.partition("maps\n")
    maps, _, types = rest.partition("types\n")
    rows = [json.loads(line) for line in programs.splitlines() if line.startswith("{")]
    wanted = {number for row in rows for number in row.get("map_ids", [])}
    shapes = {
        row["name"]: (row["type"], row["bytes_key"], row["bytes_value"], row["max_entries"])
        for row in json.loads(maps)
        if row["id"] in wanted
    }
    return {row["name"]: row["tag"] for row in rows}, shapes, json.loads(types)["types"]


@pytest.mark.parametrize("path", DEBIAN, ids=[path.rsplit("/", 1)[1] for path in DEBIAN])
def test_packaged_objects(path: str, tmp_path: Path) -> None:
    """Objects that no one here wrote: the programs, maps and types that libbpf makes of them are ours."""
    obj = open_object(path, target_btf=read_btf_file())
    assert not obj.problems
    if path.rsplit("/", 1)[1] in TRACERS:
        return
    tags, maps, types = libbpf_view(path)
    pins = Path(f"/sys/fs/bpf/elf_{os.getpid()}_packaged")
    pins.mkdir()
    try:
        with Collection.load(obj, pin_root=pins) as collection:
            assert {program.info.name: program.info.tag for program in collection.programs.values()} == tags
            infos = [live.info for live in collection.maps.values()]
            ours = {i.name.split(".")[-1]: (i.type, i.key_size, i.value_size, i.max_entries) for i in infos}
            for name, shape in maps.items():
                assert ours[name.split(".")[-1]] == shape, name
            assert tags
            number = next(iter(collection.programs.values())).info.btf_id
            command = [require_tool("bpftool"), "-j", "btf", "dump", "id", str(number)]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert json.loads(shown)["types"] == types
    finally:
        for entry in pins.iterdir():
            entry.unlink()
        pins.rmdir()


def test_constants_that_the_compiler_moved_elsewhere() -> None:
    """clang 14 puts a table of constants into a section of its own, and leaves it in BTF where it was."""
    obj = open_c("byte_orders")
    assert obj.btf is not None
    section = obj.btf.find(".rodata", Datasec)
    assert section is not None
    assert len({row.offset for row in section.vars}) == len(section.vars)
    with Collection.load(obj, programs=["orders"]) as collection:
        assert collection.programs["orders"].info.btf_id
