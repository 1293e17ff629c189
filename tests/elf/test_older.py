"""What objects of older tools carry, read on request: section names, map definitions, tail calls by section."""

from __future__ import annotations

import struct

import pytest

from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.elf.reader import read_elf
from ebpfkit.elf.sections import parse_section_name, parse_tail_call
from ebpfkit.elf.static import link_objects
from ebpfkit.errors import ObjectError, UsageError
from tests.elf.objects import compile_c

SPELLINGS = [
    ("xdp_filter", "xdp"), ("xdp/drop", "xdp"), ("classifier/x", "sched_cls"), ("action/1", "sched_act"),
    ("socket1", "socket_filter"), ("sockops/x", "sock_ops"), ("xdp.frags_x", "xdp"),
    ("cgroup/connect4_x", "cgroup_sock_addr"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "prog_type"), SPELLINGS, ids=[row[0] for row in SPELLINGS])
def test_text_behind_a_legal_name(text: str, prog_type: str) -> None:
    assert parse_section_name(text, legacy=True).spec.prog_type == prog_type
    with pytest.raises(ObjectError, match="no section name"):
        parse_section_name(text)


@pytest.mark.parametrize(
    ("text", "place"), [("1/2", (1, 2)), ("0x10/0x2", (16, 2)), ("xdp/2", None), ("1/2/3", None), ("1/", None)]
)
def test_tail_call_sections(text: str, place: tuple[int, int] | None) -> None:
    assert parse_tail_call(text) == place


def test_iproute2() -> None:
    data = compile_c("older")
    with pytest.raises(ObjectError, match="legacy_sections=True"):
        open_object(data)
    obj = open_object(data, legacy_sections=True, prog_type="xdp")
    assert obj.maps["jumps"].value_slots == (None, None, "second", "third")
    inner = obj.maps["outer"].inner
    assert inner is not None and (inner.type, inner.value_size) == ("array", 8)
    assert obj.maps["outer"].value_slots == (None, "template")
    assert {name: spec.prog_type for name, spec in obj.programs.items()} == {
        "start": "xdp", "second": "xdp", "third": "xdp", "classify": "sched_cls", "plain": "xdp",
    }  # fmt: skip
    assert obj.problems == {"lost": "no map has the id 9 of section '9/0'"}
    without_type = open_object(data, legacy_sections=True)
    assert set(without_type.programs) == {"start", "classify"}
    assert "give prog_type" in without_type.problems["second"]


def test_a_type_given_by_the_caller() -> None:
    data = compile_c("problems")
    assert "odd_section" in open_object(data, prog_type="xdp").programs
    with pytest.raises(UsageError, match="no program type 'xpd'"):
        open_object(data, prog_type="xpd")


def test_maps_in_sections_of_their_own() -> None:
    obj = open_object(compile_c("older_sections"))
    assert {name: (m.type, m.key_size, m.value_size, m.max_entries) for name, m in obj.maps.items()} == {
        "one": ("hash", 4, 8, 10), "two": ("array", 4, 4, 3),
    }  # fmt: skip
    assert set(obj.programs["reader"].maps) == {"one", "two"}


@pytest.mark.kernel
def test_tail_calls_by_section_run() -> None:
    from ebpfkit.loader import Collection

    obj = open_object(compile_c("older"), legacy_sections=True, prog_type="xdp")
    with Collection.load(obj, programs=["start"]) as collection:
        assert set(collection.programs) == {"start", "second", "third"}
        assert collection.programs["start"].test_run(bytes(64)).retval == 1


def with_old_types(data: bytes) -> bytes:
    """The object as clang before 13 writes it: data has the relocation types of code, .BTF and .BTF.ext have none."""
    elf = read_elf(data)
    changed = bytearray(data)
    count = struct.unpack_from("<H", data, 60)[0]
    for number in range(1, count):
        at = struct.unpack_from("<Q", data, 40)[0] + number * 64
        kind, _, _, offset, size, _, target = struct.unpack_from("<IQQQQII", data, at + 4)
        if kind != 9 or elf.sections[target].is_code:
            continue
        in_btf = elf.sections[target].name.startswith(".BTF")
        for place in range(offset, offset + size, 16):
            (old,) = struct.unpack_from("<I", data, place + 8)
            struct.pack_into("<I", changed, place + 8, {2: 1}.get(old, 0 if in_btf else 10))
    return bytes(changed)


@pytest.mark.parametrize("name", ["maps", "globals", "nested", "struct_ops", "externs", "text_lines"])
def test_relocations_of_older_clangs(name: str) -> None:
    """What clang 10 to 12 call the relocations of data means the same, in lines of DWARF too."""
    data = compile_c(name)
    old = with_old_types(data)
    assert old != data

    def opened(data: bytes) -> ObjectFile:
        return open_object(data).replace(raw=b"")

    for hidden in (b".BTF.ext", b".no.such"):
        first, second = opened(data.replace(hidden, b".XTF.ext")), opened(old.replace(hidden, b".XTF.ext"))
        assert first == second
        spans = [[i.span for s in obj.programs.values() for i in s.instructions] for obj in (first, second)]
        assert spans[0] == spans[1] and None not in spans[0]
    assert opened(link_objects([("old", old)])) == opened(link_objects([("new", data)]))
