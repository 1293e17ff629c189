"""Structures of kernel operations fitted to a kernel's types, and their members set, without a kernel."""

from __future__ import annotations

import struct

import pytest

from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.elf import ObjectFile, set_operation
from ebpfkit.elf.structops import FittedOperations, fit_operations
from ebpfkit.errors import EbpfError, NotSupported, UsageError
from tests.elf.objects import open_c


def kernel(**changes: object) -> Btf:
    """A kernel whose tcp_congestion_ops has its members in another order, and one more."""
    builder = BtfBuilder()
    u32, char = builder.integer("u32", 4), builder.integer("char", 1)
    function = builder.pointer(builder.func_proto(u32))
    name = builder.array(char, 16)
    rows = {
        "name": (name, 0), "undo_cwnd": (function, 16), "flags": (u32, 24), "ssthresh": (function, 32),
        "cong_avoid": (function, 40), "set_state": (function, 48),
    }  # fmt: skip
    kinds = {"u32": u32, "pointer": builder.pointer(u32), "gone": None}
    for member, kind in changes.items():
        rows[member] = (kinds[str(kind)] or 0, rows[member][1])
    members = [(member, type_id, offset) for member, (type_id, offset) in rows.items() if type_id]
    ops = builder.struct("tcp_congestion_ops", 56, members)
    common = builder.struct("bpf_struct_ops_common_value", 8, [("refcnt", u32, 0), ("state", u32, 4)])
    builder.struct("bpf_struct_ops_tcp_congestion_ops", 128, [("common", common, 0), ("data", ops, 64)])
    return builder.build()


@pytest.fixture
def obj() -> ObjectFile:
    return open_c("congestion")


def fitted(obj: ObjectFile, name: str, target: Btf) -> FittedOperations:
    assert obj.btf is not None
    found = fit_operations(obj.struct_ops[name], obj.btf, target)
    assert found is not None
    return found


def test_members_go_where_the_kernel_has_them(obj: ObjectFile) -> None:
    found = fitted(obj, "fixed", kernel())
    assert found.value[64:80].rstrip(b"\0") == b"bpf_fixed" and len(found.value) == 128
    assert found.slots == {96: "threshold", 104: "avoid", 80: "undo"}
    assert found.indices == {"threshold": 3, "avoid": 4, "undo": 1}
    assert kernel().types[found.type_id].name == "tcp_congestion_ops"


def test_values_are_set(obj: ObjectFile) -> None:
    changed = set_operation(obj, "fixed", "flags", 0x102)
    changed = set_operation(changed, "fixed", "name", b"other" + bytes(11))
    changed = set_operation(changed, "fixed", "cong_avoid", None)
    found = fitted(changed, "fixed", kernel())
    assert struct.unpack_from("<16s8xI", found.value, 64) == (b"other" + bytes(11), 0x102)
    assert set(found.slots.values()) == {"threshold", "undo"}
    assert obj.struct_ops["fixed"].members["cong_avoid"] == "avoid"


CHANGES: list[tuple[dict[str, object], str]] = [
    ({"ssthresh": "gone"}, "operation fixed.ssthresh is not supported: this kernel's tcp_congestion_ops has no such"),
    ({"ssthresh": "u32"}, "operation fixed.ssthresh is not supported: it is no function in this kernel"),
    ({"cong_avoid": "pointer"}, "operation fixed.cong_avoid is not supported: it is no function in this kernel"),
    ({"name": "u32"}, "operation fixed.name is not supported: this kernel's member has another type or size"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES, ids=[str(row[0]) for row in CHANGES])
def test_kernels_that_do_not_fit(obj: ObjectFile, changes: dict[str, object], message: str) -> None:
    with pytest.raises(NotSupported, match=message):
        fitted(obj, "fixed", kernel(**changes))


def test_empty_members_may_be_missing(obj: ObjectFile) -> None:
    """`set_state` and `flags` are not used, so a kernel without them will do; one without the structure will not."""
    assert fitted(obj, "fixed", kernel(set_state="gone", flags="gone")).indices["undo"] == 1
    assert obj.btf is not None
    assert fit_operations(obj.struct_ops["fixed"], obj.btf, BtfBuilder().build()) is None


REFUSALS: list[tuple[str, str, int | str | bytes | None, str]] = [
    ("nothing", "name", 1, "the object has no operations 'nothing'; it has: fixed, stays, lame"),
    ("fixed", "nothing", 1, "tcp_congestion_ops of 'fixed' has no member 'nothing'; it has: ssthresh"),
    ("fixed", "ssthresh", "nowhere", "fixed.ssthresh is a function: it takes the name of a program, or None"),
    ("fixed", "ssthresh", 5, "fixed.ssthresh is a function"),
    ("fixed", "flags", 1 << 32, "does not fit the 4 bytes of fixed.flags"),
    ("fixed", "name", "x" * 17, "fixed.name has 16 bytes, and 17 were given"),
    ("fixed", "flags", None, "fixed.flags has 4 bytes, and 0 were given"),
]


@pytest.mark.parametrize(("name", "member", "value", "message"), REFUSALS, ids=[row[3][:30] for row in REFUSALS])
def test_members_that_cannot_be_set(
    obj: ObjectFile, name: str, member: str, value: int | str | bytes | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        set_operation(obj, name, member, value)
    assert isinstance(caught.value, EbpfError)
