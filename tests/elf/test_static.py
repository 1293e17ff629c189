"""The static linker: what it joins links, loads and behaves as what bpftool joins."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from ebpfkit.btf.types import Datasec, Func, Linkage, Struct, Var
from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.elf.reader import read_elf
from ebpfkit.elf.static import link_objects
from ebpfkit.elf.writer import ObjectBuilder
from ebpfkit.errors import ObjectError, UsageError
from tests.conftest import require_tool
from tests.elf.objects import compile_c
from tests.elf.test_kernel import libbpf_tags, our_tags

PAIR = ("link_a", "link_b")
SETS = [PAIR, ("link_b", "link_a"), ("globals", "calls", "nested"), ("maps",), ("core",)]
KFUNCS = ("kfunc", "link_a", "link_b")  # not with bpftool 7.1, which fails on a kernel function in two objects


def join(names: tuple[str, ...], *flags: str) -> bytes:
    return link_objects([(f"{name}.o", compile_c(name, *flags)) for name in names])


def test_the_pair() -> None:
    obj = open_object(join(PAIR))
    assert not obj.problems and set(obj.programs) == {"in_first", "locked", "in_second"}
    assert set(obj.maps) == {"counts", "only_a", ".data", ".bss", ".rodata"}
    functions = [info.name for info in obj.programs["in_first"].func_infos]
    assert sorted(functions) == [
        "first_of_two",
        "in_first",
        "local_helper",
        "local_helper",
        "overridden",
        "shared_verdict",
    ]
    assert obj.license == "GPL"


def test_types_once() -> None:
    btf = open_object(join(PAIR)).btf
    assert btf is not None
    names = Counter((type_.name, type_.kind) for type_ in btf.types if isinstance(type_, Struct | Var | Func))
    repeated = {name for (name, _), count in names.items() if count > 1 and name}
    # A static function and variable of each object, which are things of their own.
    assert repeated == {"hidden_number"} | ({"local_helper"} & repeated)
    assert all(type_.linkage != Linkage.EXTERN or type_.name.startswith("bpf_") for _, type_ in btf.iter_kind(Func))
    for _, section in btf.iter_kind(Datasec):
        places = [(row.offset, row.offset + row.size) for row in section.vars]
        assert all(end <= start for (_, end), (start, _) in pairwise(places)) or section.name == ".ksyms"


def test_once_more_changes_nothing() -> None:
    once = join(PAIR)
    twice = link_objects([("once.o", once)])
    first, second = open_object(once), open_object(twice)
    assert first.programs.keys() == second.programs.keys() and first.maps == second.maps
    for name, spec in first.programs.items():
        assert spec.instructions == second.programs[name].instructions
    assert link_objects([("twice.o", twice)]) == twice


@pytest.mark.parametrize("names", SETS, ids=["+".join(names) for names in SETS])
def test_lines_stay(names: tuple[str, ...]) -> None:
    """Every instruction keeps its source line."""
    obj = open_object(join(names))
    for spec in obj.programs.values():
        assert all(insn.span is not None and insn.span.text for insn in spec.instructions)
    single = {}
    for name in names:
        single.update(open_object(compile_c(name)).programs)
    for name, spec in obj.programs.items():
        if name in single:
            ours = [(i.span.file, i.span.line, i.span.column) for i in spec.instructions[:4] if i.span]
            theirs = [(i.span.file, i.span.line, i.span.column) for i in single[name].instructions[:4] if i.span]
            assert ours == theirs


def test_big_endian() -> None:
    obj = open_object(join(PAIR, "--target=bpfeb"))
    assert obj.big_endian and not obj.problems
    little = open_object(join(PAIR))
    assert {n: len(s.instructions) for n, s in obj.programs.items()} == {
        n: len(s.instructions) for n, s in little.programs.items()
    }


def write_and_link(names: tuple[str, ...], folder: Path) -> tuple[Path, Path]:
    paths = []
    for name in names:
        paths.append(folder / f"{name}.o")
        paths[-1].write_bytes(compile_c(name))
    ours, theirs = folder / "ours.o", folder / "theirs.o"
    ours.write_bytes(join(names))
    subprocess.run([require_tool("bpftool"), "gen", "object", str(theirs), *map(str, paths)], check=True)
    return ours, theirs


@pytest.mark.kernel
@pytest.mark.parametrize("names", SETS[:4], ids=["+".join(names) for names in SETS[:4]])
def test_like_bpftool(names: tuple[str, ...], tmp_path: Path) -> None:
    """Loaded by libbpf and by us, joined by bpftool and by us: always the same programs."""
    ours, theirs = write_and_link(names, tmp_path)
    pins = Path(f"/sys/fs/bpf/static_{os.getpid()}_{tmp_path.name}")
    expected = libbpf_tags(theirs, pins)
    assert libbpf_tags(ours, pins) == expected
    assert our_tags(open_object(ours), pins) == expected


def shapes(obj: ObjectFile) -> dict[str, tuple[object, ...]]:
    return {
        name: (m.type, m.key_size, m.value_size, m.max_entries, m.data and len(m.data)) for name, m in obj.maps.items()
    }


@pytest.mark.parametrize("names", SETS, ids=["+".join(names) for names in SETS])
def test_same_maps_and_values_as_bpftool(names: tuple[str, ...], tmp_path: Path) -> None:
    ours, theirs = (open_object(path) for path in write_and_link(names, tmp_path))
    assert shapes(ours) == shapes(theirs)
    assert ours.problems.keys() == theirs.problems.keys()
    variables = ours.variables.keys() & theirs.variables.keys()
    assert variables == ours.variables.keys()
    if names == PAIR:
        assert {v.name: (v.map_name, v.size) for v in ours.variables.values()} == {
            v.name: (v.map_name, v.size) for v in theirs.variables.values()
        }


@pytest.mark.kernel
def test_kernel_functions_in_two_objects(tmp_path: Path) -> None:
    pins = Path(f"/sys/fs/bpf/static_{os.getpid()}_{tmp_path.name}")
    obj = open_object(join(KFUNCS))
    assert set(our_tags(obj, pins)) == {"guarded", "locked", "in_first", "in_second"} == set(obj.programs)
    path = tmp_path / "ours.o"
    path.write_bytes(join(KFUNCS))
    assert libbpf_tags(path, pins).keys() == obj.programs.keys()


@pytest.mark.kernel
def test_behaviour() -> None:
    from ebpfkit.loader import Collection

    with Collection.load(open_object(join(PAIR))) as collection:
        assert collection.programs["in_second"].test_run(bytes(64)).retval == 2  # overridden() of the second object
        assert collection.programs["locked"].test_run(bytes(64)).retval == 2
        found = collection.maps["counts"].get((1).to_bytes(4, "little"))
        assert found is not None and found[:16] == (1).to_bytes(8, "little") + (2).to_bytes(8, "little")
        assert collection.programs["in_first"].test_run(bytes(64)).retval == 3


CONFLICTS = [
    ("int twice(int x) { return x; }", "int twice(int x) { return x + 1; }", "'twice' is defined here and in a.o"),
    ("int f(int x) { return x; }", "extern int f(int x, int y); SEC(\"xdp\") int p(void *c) { return f(1, 2); }",
     "'f' has another type here than where it is defined"),
    ('char _license[] SEC("license") = "GPL";', 'char _license[] SEC("license") = "MIT";',
     "license 'MIT' differs from 'GPL'"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "message"), CONFLICTS, ids=["defined twice", "another type", "licences"])
def test_conflicts(first: str, second: str, message: str, tmp_path: Path) -> None:
    clang = require_tool("clang")
    objects = []
    for name, text in (("a", first), ("b", second)):
        source = tmp_path / f"{name}.c"
        source.write_text(f'#include "{Path(__file__).parent}/c/bpf.h"\n{text}\n')
        out = tmp_path / f"{name}.o"
        subprocess.run([clang, "--target=bpf", "-O2", "-g", "-c", str(source), "-o", str(out)], check=True)
        objects.append((f"{name}.o", out.read_bytes()))
    with pytest.raises(ObjectError, match=message):
        link_objects(objects)


def test_byte_orders_and_nothing() -> None:
    with pytest.raises(ObjectError, match="both byte orders"):
        link_objects([("a.o", compile_c("maps")), ("b.o", compile_c("calls", "--target=bpfeb"))])
    with pytest.raises(UsageError, match="nothing to link"):
        link_objects([])
    with pytest.raises(ObjectError, match=r"^x\.o: ELF header"):
        link_objects([("x.o", b"")])


def test_an_empty_object_is_an_object() -> None:
    elf = read_elf(ObjectBuilder().to_bytes())
    assert [section.name for section in elf.sections] == ["", ".symtab", ".strtab"]


def test_command(tmp_path: Path) -> None:
    from ebpfkit.cli.main import cli

    paths = []
    for name in PAIR:
        paths.append(str(tmp_path / f"{name}.o"))
        Path(paths[-1]).write_bytes(compile_c(name))
    out = tmp_path / "c.o"
    done = CliRunner().invoke(cli, ["link", *paths, "-o", str(out), "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    shown = json.loads(done.output)
    assert shown["programs"] == ["in_first", "locked", "in_second"] and shown["bytes"] == out.stat().st_size
