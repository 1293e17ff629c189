"""Map definitions and global data."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from ebpfkit.btf.types import Struct
from ebpfkit.elf import MapSpec, get_variable, open_object, set_variable
from ebpfkit.elf.writer import replace_section, to_bytes
from ebpfkit.errors import ObjectError, UsageError
from tests.conftest import require_tool
from tests.elf.objects import compile_c, open_c

MAPS = [
    # object, map, type, key size, value size, entries, flags
    ("maps", "seen", "hash", 4, 16, 100, 0),
    ("maps", "blocked", "lpm_trie", 8, 16, 10000, 1),
    ("maps", "per_cpu", "percpu_array", 4, 8, 256, 0),
    ("maps", "xsks", "xskmap", 4, 4, 64, 0),
    ("maps", "events", "ringbuf", 0, 0, 4096, 0),
    ("maps", "bloom", "bloom_filter", 0, 4, 16, 0),
    ("nested", "inner_a", "array", 4, 8, 1, 0),
    ("nested", "outer", "array_of_maps", 4, 4, 4, 0),
    ("nested", "jumps", "prog_array", 4, 4, 8, 0),
    ("legacy", "first_map", "array", 4, 8, 16, 0),
    ("legacy", "second_map", "lpm_trie", 8, 4, 32, 1),
    ("globals", ".data", "array", 4, 8, 1, 0),
    ("globals", ".rodata", "array", 4, 12, 1, 1 << 7),
    ("globals", ".rodata.table", "array", 4, 16, 1, 1 << 7),
    ("globals", ".bss", "array", 4, 16, 1, 0),
]


@pytest.mark.parametrize(
    ("name", "map_name", "kind", "key", "value", "entries", "flags"), MAPS, ids=[r[1] for r in MAPS]
)
def test_map(name: str, map_name: str, kind: str, key: int, value: int, entries: int, flags: int) -> None:
    spec = open_c(name).maps[map_name]
    assert (spec.type, spec.key_size, spec.value_size) == (kind, key, value)
    assert (spec.max_entries, spec.flags) == (entries, flags)


def test_details_of_definitions() -> None:
    obj = open_c("maps", "-DPIN")
    assert set(obj.maps) == {"seen", "blocked", "per_cpu", "xsks", "events", "bloom"}
    assert not any(spec.pin_by_name for spec in open_c("maps").maps.values())
    assert [name for name, spec in obj.maps.items() if spec.pin_by_name] == ["seen"]
    assert obj.maps["bloom"].map_extra == 3
    assert obj.maps["events"].numa_node == 0
    assert obj.btf is not None
    value = obj.btf.resolve(obj.maps["seen"].btf_value_type)
    assert isinstance(value, Struct) and value.name == "hits"


def test_initial_values_of_maps_of_maps_and_programs() -> None:
    maps = open_c("nested").maps
    outer, jumps = maps["outer"], maps["jumps"]
    assert outer.value_slots == ("inner_a", None, "inner_b")
    assert outer.inner is not None
    assert (outer.inner.type, outer.inner.key_size, outer.inner.value_size, outer.inner.max_entries) == (
        "array",
        4,
        8,
        1,
    )
    assert jumps.value_slots == (None, "drop", None, "bounce")
    assert jumps.inner is None
    # A program that uses the outer map needs those inside it.
    assert set(open_c("nested").programs["entry"].maps) == {"outer", "inner_a", "inner_b", "jumps"}


def test_data_sections() -> None:
    obj = open_c("globals")
    assert {name for name, spec in obj.maps.items() if spec.frozen} == {".rodata", ".rodata.table"}
    assert obj.maps[".bss"].data == bytes(16)
    assert obj.maps[".rodata.table"].data == b"".join(n.to_bytes(4, "little") for n in (1, 2, 3, 4))
    assert {name for name, var in obj.variables.items() if var.constant} == {"threshold", "enabled", "limits", "table"}
    assert get_variable(obj, "port") == (80).to_bytes(4, "little")
    assert get_variable(obj, "signed_value") == b"\xff" * 4


def test_variables_are_set_in_a_copy() -> None:
    obj = open_c("globals")
    changed = set_variable(set_variable(obj, "port", 443), "threshold", 9)
    assert get_variable(obj, "port") == (80).to_bytes(4, "little")
    assert get_variable(changed, "port") == (443).to_bytes(4, "little")
    assert changed.programs["count"].maps[".data"] == changed.maps[".data"]
    assert changed.programs["count"].maps[".rodata"].data == changed.maps[".rodata"].data
    assert get_variable(set_variable(obj, "limits", bytes(range(8))), "limits") == bytes(range(8))
    assert get_variable(set_variable(obj, "signed_value", -5), "signed_value") == (-5).to_bytes(
        4, "little", signed=True
    )
    big = open_object(compile_c("globals", "--target=bpfeb"))
    assert get_variable(set_variable(big, "port", 443), "port") == (443).to_bytes(4, "big")


WRONG_VALUES = [
    ("prot", 1, "did you mean 'port'"),
    ("port", 1 << 32, "not within 0..4294967295"),
    ("port", -1, "not within 0..4294967295"),
    ("signed_value", 1 << 31, "not within -2147483648..2147483647"),
    ("enabled", 2, "not within 0..1"),
    ("port", b"abc", "has 4 bytes, and 3 were given"),
    ("limits", 5, "struct of 8 bytes"),
    ("table", 5, "array of 16 bytes"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_VALUES)
def test_wrong_values_are_refused(name: str, value: int | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        set_variable(open_c("globals"), name, value)


def test_changed_variables_are_written() -> None:
    obj = open_c("globals")
    again = open_object(to_bytes(set_variable(set_variable(obj, "port", 443), "table", bytes(16))))
    assert get_variable(again, "port") == (443).to_bytes(4, "little")
    assert get_variable(again, "table") == bytes(16)
    assert again.programs == {
        name: spec.replace(maps={key: again.maps[key] for key in spec.maps}, origin="")
        for name, spec in obj.programs.items()
    }
    with pytest.raises(ObjectError, match="zeroed variables"):
        to_bytes(set_variable(obj, "total", 1))


def test_a_section_can_grow() -> None:
    data = replace_section(compile_c("globals"), "license", b"Dual MIT/GPL\0")
    assert open_object(data).license == "Dual MIT/GPL"


DEFINITIONS = [
    ('struct { __uint(type, 1); int (*weight)[3]; } m SEC(".maps");', "no field of a map is called 'weight'"),
    ('struct { __uint(max_entries, 3); } m SEC(".maps");', "has no type"),
    ('struct { __uint(type, 999); } m SEC(".maps");', "type 999 of map 'm' is not known"),
    (
        'struct { __uint(type, 1); __uint(key_size, 8); __type(key, __u32); } m SEC(".maps");',
        "key_size of map 'm' is 8",
    ),
    ('struct { __uint(type, 1); __uint(pinning, 7); } m SEC(".maps");', "pinning 7"),
    ('struct { int type; } m SEC(".maps");', "write __uint(name, N)"),
    ('struct { __uint(type, 1); int key; } m SEC(".maps");', "write __type(name, T)"),
    ('struct { __uint(type, 1); int key; } m[2] SEC(".maps");', "is no structure"),
    ('__u32 m SEC("maps") = 1;', "too short"),
    ('__u32 m[9] SEC("maps") = { 1, 4, 4, 1, 0, 1 };', "fields beyond type"),
]


@pytest.mark.parametrize(("definition", "message"), DEFINITIONS)
def test_wrong_definitions_are_refused(tmp_path: Path, definition: str, message: str) -> None:
    source = tmp_path / "m.c"
    uses = f'#include "{Path(__file__).parent}/c/bpf.h"\n{definition}\nchar _license[] SEC("license") = "GPL";\n'
    source.write_text(uses)
    out = tmp_path / "m.o"
    subprocess.run([require_tool("clang"), "--target=bpf", "-O2", "-g", "-c", str(source), "-o", str(out)], check=True)
    with pytest.raises(ObjectError, match=re.escape(message)):
        open_object(out)


def kernel_map(spec: MapSpec) -> tuple[str, int, int, int]:
    return spec.type, spec.key_size, spec.value_size, spec.max_entries


@pytest.mark.kernel
def test_bpftool_makes_the_same_maps(tmp_path: Path) -> None:
    """libbpf, through bpftool, creates maps with the sizes that we read."""
    bpftool = require_tool("bpftool")
    obj = open_c("nested")
    path = tmp_path / "nested.o"
    path.write_bytes(compile_c("nested"))
    pins = Path(f"/sys/fs/bpf/elf_test_{tmp_path.name}")
    try:
        command = [bpftool, "prog", "loadall", str(path), str(pins / "progs"), "pinmaps", str(pins / "maps")]
        pins.mkdir()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for name, spec in obj.maps.items():
            shown = subprocess.run(
                [bpftool, "-j", "map", "show", "pinned", str(pins / "maps" / name)], capture_output=True, check=True
            )
            row = json.loads(shown.stdout)
            assert (row["type"], row["bytes_key"], row["bytes_value"], row["max_entries"]) == kernel_map(spec)
    finally:
        for entry in sorted(pins.rglob("*"), reverse=True):
            entry.rmdir() if entry.is_dir() else entry.unlink()
        if pins.exists():
            pins.rmdir()


def test_definitions_of_aya() -> None:
    """Seven numbers: pinning by name is the last, and has its meaning on request, as iproute2's has."""
    obj = open_object(compile_c("aya_maps"), legacy_sections=True)
    assert {name: spec.pin_by_name for name, spec in obj.maps.items()} == {"COUNTS": False, "SHARED": True}
    with pytest.raises(ObjectError, match="'SHARED' uses fields beyond"):
        open_object(compile_c("aya_maps"))
