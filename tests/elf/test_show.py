"""What `show` says of an object: contents, needs and first kernels, and the difference of two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ebpfkit.asm.builder import Builder
from ebpfkit.cli.main import cli
from ebpfkit.elf import ProgramSpec, open_object
from ebpfkit.elf.describe import describe_object, diff_objects
from ebpfkit.elf.needs import first_kernel, instruction_level, needs_of
from ebpfkit.errors import ObjectError
from tests.elf.objects import compile_c, open_c


def show(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["show", *arguments], standalone_mode=False)


NEEDS = [
    # object, program, (kind, name) and first kernel
    ("maps", "firewall", ("map type", "lpm_trie"), "4.11"),
    ("maps", "firewall", ("map type", "xskmap"), "4.18"),
    ("maps", "firewall", ("helper", "bpf_redirect_map"), "4.14"),
    ("calls", "looped", ("helper", "bpf_loop"), "5.17"),
    ("calls", "first", ("feature", "functions verified apart"), "5.6"),
    ("calls", "third", ("feature", "XDP on several buffers"), "5.18"),
    ("globals", "count", ("feature", "global variables"), "5.2"),
    ("kfunc", "guarded", ("kfunc", "bpf_rcu_read_lock"), "6.2"),
    ("maps", "firewall", ("program type", "xdp"), "4.8"),
    ("calls", "looped", ("attach type", "xdp_devmap"), "5.8"),
]


@pytest.mark.parametrize(("name", "program", "need", "since"), NEEDS, ids=[f"{r[2][1]}" for r in NEEDS])
def test_needs(name: str, program: str, need: tuple[str, str], since: str) -> None:
    found = {(n.kind, n.name): n.since for n in needs_of(open_c(name).programs[program])}
    assert found[need] in (since, "?" if need[0] == "kfunc" else since)


def test_first_kernel_and_instruction_level() -> None:
    assert first_kernel(needs_of(open_c("calls").programs["looped"])) == "5.17"
    level = {
        flag: instruction_level(open_object(compile_c("calls", f"-mcpu={flag}")).programs["plain"])
        for flag in ("v1", "v3")
    }
    assert level["v1"] == 1 and level["v3"] in (1, 3)
    spec = ProgramSpec("p", "xdp", "xdp", tuple(Builder().exit().build()))
    assert first_kernel(needs_of(spec)) == "4.8" and instruction_level(spec) == 1


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "externs.o"
    path.write_bytes(compile_c("externs"))
    done = show(str(path), "--json")
    assert done.exception is None, done.exception
    shown = json.loads(done.output)
    assert set(shown["programs"]) == {"kernel_symbols", "kernel_variable", "lost"}
    assert shown["externs"]["CONFIG_HZ"] == {"section": ".kconfig", "kind": "variable", "weak": False}
    assert shown["externs"]["bpf_no_such_function"] == {"section": ".ksyms", "kind": "function", "weak": True}
    assert "give the configuration" in shown["problems"]["config"]
    assert shown["programs"]["kernel_symbols"]["borrows"][0] == "bpf_no_such_function"
    assert shown["relocations"]["xdp"] > 10 and shown["btf"]["kinds"]["DATASEC"] >= 4
    assert shown["variables"]["seen"] == {"map": ".bss", "offset": 0, "size": 64, "constant": False}


@pytest.mark.parametrize("name", ["maps", "calls", "globals", "nested", "struct_ops", "core", "problems"])
def test_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.o"
    path.write_bytes(compile_c(name))
    done = show(str(path))
    assert done.exception is None, done.exception
    obj = open_c(name)
    for kind, names in (("program", obj.programs), ("map", obj.maps), ("problem", obj.problems)):
        for each in names:
            assert f"{kind} {each}" in done.output
    assert "Linux" in done.output or not obj.programs


def test_difference(tmp_path: Path) -> None:
    old, new = tmp_path / "old.o", tmp_path / "new.o"
    old.write_bytes(compile_c("maps"))
    new.write_bytes(compile_c("maps").replace(b"firewall\0", b"waterfal\0"))
    assert show(str(old), "--diff", str(old)).output == "no difference\n"
    done = show(str(old), "--diff", str(new))
    assert done.return_value == 1
    assert "programs.firewall: {" in done.output and "programs.waterfal: nothing -> {" in done.output
    rows = json.loads(show(str(old), "--diff", str(new), "--json").output)
    assert {row["place"] for row in rows} >= {"programs.firewall", "programs.waterfal"}


def test_differences_are_small_where_objects_are_alike() -> None:
    first, second = describe_object(open_c("globals")), describe_object(open_c("globals", "-DEXTRA"))
    assert diff_objects(first, second) == []
    changed = {**first, "license": "MIT"}
    assert diff_objects(first, changed) == [{"place": "license", "old": first["license"], "new": "MIT"}]


def test_older_objects_on_request(tmp_path: Path) -> None:
    """What a stranger's object needs to be read is an option, and the refusal without it says so."""
    path = tmp_path / "aya.o"
    path.write_bytes(compile_c("aya_maps"))
    refused = CliRunner().invoke(cli, ["show", str(path)])
    assert isinstance(refused.exception, ObjectError) and "legacy_sections=True" in str(refused.exception)
    shown = CliRunner().invoke(cli, ["show", str(path), "--legacy", "--json"])
    assert json.loads(shown.output)["maps"]["SHARED"]["pinned_by_name"]
    odd = CliRunner().invoke(cli, ["show", str(path), "--type", "xdp"])
    assert odd.exit_code == 2 and "give --legacy too" in odd.output
    for command in ("verify", "disasm"):
        assert CliRunner().invoke(cli, [command, str(path)]).exit_code != 0
        done = CliRunner().invoke(cli, [command, str(path), "--legacy"])
        assert done.exit_code == 0, done.output


def test_structures_of_operations_need_links_where_they_say_so(tmp_path: Path) -> None:
    path = tmp_path / "congestion.o"
    path.write_bytes(compile_c("congestion"))
    lines = CliRunner().invoke(cli, ["show", str(path)]).output.splitlines()
    assert [line.endswith("by link (6.4)") for line in lines if line.startswith("operations")] == [True, False, True]
    assert {line for line in lines if line.startswith("    instruction level")} == {
        "    instruction level v1, Linux 5.6 or later"
    }


def test_broken_types_are_named_by_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.btf"
    path.write_bytes(b"nothing")
    refused = CliRunner().invoke(cli, ["btf", "dump", str(path)])
    assert str(refused.exception) == f"{path}: .BTF: 7 bytes are too few for a header of 24"
