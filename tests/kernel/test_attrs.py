"""The attr and info layouts against the running kernel's own BTF."""

from __future__ import annotations

import ctypes

import pytest

from ebpfkit.btf.types import Btf, Struct, Union
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.kernel import attrs
from ebpfkit.kernel.version import kernel_version

WRITTEN_FOR = (6, 18)

# our structure -> the member of union bpf_attr that it is ("" and a field: the anonymous one that has the field)
COMMANDS = {
    attrs.MapCreate: ("", "map_type"),
    attrs.Elem: ("", "next_key"),
    attrs.MapBatch: ("batch", ""),
    attrs.ProgLoad: ("", "insn_cnt"),
    attrs.ObjPath: ("", "pathname"),
    attrs.ProgAttach: ("", "attach_bpf_fd"),
    attrs.TestRun: ("test", ""),
    attrs.GetId: ("", "next_id"),
    attrs.GetInfo: ("info", ""),
    attrs.ProgQuery: ("query", ""),
    attrs.BtfLoad: ("", "btf_log_buf"),
    attrs.LinkCreate: ("link_create", ""),
    attrs.LinkUpdate: ("link_update", ""),
    attrs.LinkDetach: ("link_detach", ""),
}
INFOS = {
    attrs.ProgInfo: "bpf_prog_info",
    attrs.MapInfo: "bpf_map_info",
    attrs.LinkInfo: "bpf_link_info",
    attrs.BtfInfo: "bpf_btf_info",
}
# Ours name one word for what the kernel has a union of, or reach into a member of a nested structure.
OTHER_NAMES = {"GetId.id": "start_id", "LinkInfo.ifindex": "tcx.ifindex", "LinkInfo.attach_type": "tcx.attach_type"}


@pytest.fixture(scope="module")
def kernel_btf() -> Btf:
    return read_btf_file()


def flatten(btf: Btf, struct: Struct, base: int = 0, prefix: str = "") -> dict[str, tuple[int, int]]:
    """name -> (byte offset, size); members of anonymous structures count as the outer one's."""
    found: dict[str, tuple[int, int]] = {}
    for member in struct.members:
        inner = btf.resolve(member.type)
        at = base + member.offset
        if isinstance(inner, Struct):
            found.update(flatten(btf, inner, at, prefix if not member.name else f"{prefix}{member.name}."))
        if member.name:
            found[prefix + member.name] = (at, btf.size_of(member.type))
    return found


def command_fields(btf: Btf, name: str, field: str) -> dict[str, tuple[int, int]]:
    union = btf.find("bpf_attr", Union)
    assert union is not None
    for member in union.members:
        inner = btf.resolve(member.type)
        assert isinstance(inner, Struct)
        fields = flatten(btf, inner)
        if (name and member.name == name) or (field and not member.name and field in fields):
            return fields
    raise AssertionError(f"no member {name or field} in union bpf_attr")


def check(ours: type[ctypes.Structure], theirs: dict[str, tuple[int, int]]) -> None:
    checked = 0
    for declared in ours._fields_:
        name = declared[0]
        if name.startswith("_"):
            continue
        descriptor = getattr(ours, name)
        if name == "u":  # the union of value and next_key
            name = "value"
        expected = theirs.get(OTHER_NAMES.get(f"{ours.__name__}.{name}", name))
        if expected is None and kernel_version() < WRITTEN_FOR:
            continue  # a tail that an older kernel accepts as zeros
        assert expected is not None, f"{ours.__name__}.{name} is not in this kernel's structure"
        size = descriptor.size if len(declared) == 2 else 4  # a bit field's size says bits and position
        assert (descriptor.offset, size) == expected, f"{ours.__name__}.{name}"
        checked += 1
    assert checked


@pytest.mark.kernel
@pytest.mark.parametrize("ours", COMMANDS, ids=lambda ours: ours.__name__)
def test_command_layout(ours: type[ctypes.Structure], kernel_btf: Btf) -> None:
    check(ours, command_fields(kernel_btf, *COMMANDS[ours]))


@pytest.mark.kernel
@pytest.mark.parametrize("ours", INFOS, ids=lambda ours: ours.__name__)
def test_info_layout(ours: type[ctypes.Structure], kernel_btf: Btf) -> None:
    struct = kernel_btf.find(INFOS[ours], Struct)
    assert struct is not None
    check(ours, flatten(kernel_btf, struct))


def test_address_of_is_where_the_bytes_are() -> None:
    data = b"\x01\x02\x03 and a zero \x00 inside"
    assert ctypes.string_at(attrs.address_of(data), len(data)) == data
