"""A program of rustc with maps and sections as aya has them, where a nightly rustc is at hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.btf.types import VOID, Func, FuncProto, Int, Param, Struct, Typedef
from ebpfkit.elf import open_object
from ebpfkit.loader import Collection
from ebpfkit.loader.btf import plain_types


def test_names_of_other_languages() -> None:
    """The kernel takes identifiers: others become some, the rest stays as it is."""
    builder = BtfBuilder()
    integer = builder.integer("unsigned int", 4)
    builder.struct("Option<u32>", 4, [("0", integer, 0), ("plain", integer, 0)])
    builder.typedef("core::num::NonZero", integer)
    builder.typedef("x" * 200, integer)
    btf = builder.build()
    plain = plain_types(btf)
    struct_ = plain.types[2]
    assert isinstance(struct_, Struct) and struct_.name == "Option_u32_"
    assert [member.name for member in struct_.members] == ["_0", "plain"]
    assert plain.types[3] == Typedef("core__num__NonZero", integer)
    assert len(plain.types[4].name) == 127 and plain.types[1].name == "unsigned int"
    assert plain_types(plain) is plain
    named = btf.with_types({1: FuncProto("", 0, (Param("<closure>", 2),)), 2: Func("a::b", 1)})
    assert [type_.name for type_ in plain_types(named).types[1:3]] == ["", "a__b"]


def test_types_of_gcc() -> None:
    """It says of `char` that it is signed and a character, and has functions without a name."""
    types = [VOID, Int("char", 1, Int.SIGNED | Int.CHAR, 8), FuncProto("", 1), Func("", 2), Int("bool", 1, Int.BOOL, 8)]
    plain = plain_types(Btf(types))
    assert plain.types == [VOID, Int("char", 1, Int.SIGNED, 8), FuncProto("", 1), Func("anonymous", 2), types[4]]


@pytest.mark.kernel
def test_a_program_by_rustc() -> None:
    if shutil.which("rustc") is None:
        pytest.skip("no rustc")
    listed = subprocess.run(["rustc", "+nightly", "--version"], capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no nightly rustc")
    path = Path(__file__).parents[2] / "tools/check_compilers.py"
    spec = spec_from_file_location("check_compilers", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["check_compilers"] = module
    spec.loader.exec_module(module)
    data = module.rust_object()
    if data is None:
        pytest.skip("this nightly does not take the program")
    obj = open_object(data)
    assert set(obj.programs) == {"count"} and not obj.problems
    assert (obj.maps["SEEN"].type, obj.maps["SEEN"].max_entries, obj.variables["LIMIT"].size) == ("array", 16, 8)
    assert len(obj.programs["count"].func_infos) == 2
    with Collection.load(obj) as collection:
        assert collection.programs["count"].test_run(bytes(64)).retval == 2
        assert collection.maps["SEEN"].get(bytes(4)) == (7 + 1 + 2).to_bytes(8, "little")
