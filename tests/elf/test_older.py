"""What objects of older tools carry, read on request: section names, map definitions, tail calls by section."""

from __future__ import annotations

import pytest

from ebpfkit.elf import open_object
from ebpfkit.elf.sections import parse_section_name, parse_tail_call
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
