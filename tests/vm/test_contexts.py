"""Contexts: fields, widths and packet pointers as the program sees them, and legacy packet loads."""

from __future__ import annotations

import struct

import pytest

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.parser import parse
from ebpfkit.errors import MachineFault, NotSupported, UsageError
from ebpfkit.vm.contexts import CONTEXT_TYPES, REFUSED_TYPES
from ebpfkit.vm.machine import Machine

from .both import in_kernel, in_machine, object_of

PACKET = bytes.fromhex("020000000001 020000000002 0800".replace(" ", "")) + bytes(range(50))


def xdp(asm: str, **options: object) -> int:
    return Machine(parse(asm + "\nexit")).run(PACKET, **options).r0  # type: ignore[arg-type]


def test_fields_of_xdp_md() -> None:
    assert xdp("r0 = *(u32 *)(r1 +12)", ifindex=7) == 7
    assert xdp("r0 = *(u32 *)(r1 +16)", rx_queue=3) == 3
    assert xdp("r0 = *(u32 *)(r1 +20)", egress_ifindex=9) == 9
    assert xdp("r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr0 = r3\nr0 -= r2") == len(PACKET)
    assert xdp("r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +0)") == 2
    assert xdp("r2 = *(u32 *)(r1 +8)\nr0 = *(u32 *)(r2 +0)", meta=b"\x07\0\0\0") == 7
    assert xdp("r2 = *(u32 *)(r1 +0)\nr0 = *(u32 *)(r2 -4)", meta=b"\x07\0\0\0") == 7


def test_narrow_loads() -> None:
    assert skb("r0 = *(u8 *)(r1 +8)", context={"mark": 0x1234}) == 0x34
    assert skb("r0 = *(u8 *)(r1 +9)", context={"mark": 0x1234}) == 0x12
    assert skb("r0 = *(u16 *)(r1 +8)", context={"mark": 0x51234}) == 0x1234
    with pytest.raises(MachineFault):
        xdp("r0 = *(u8 *)(r1 +16)")  # xdp_md has none


@pytest.mark.parametrize(
    ("asm", "message"),
    [
        ("r0 = *(u64 *)(r1 +0)", "no such field"),
        ("r0 = *(u32 *)(r1 +2)", "no such field"),
        ("r0 = *(u32 *)(r1 +24)", "no such field"),
        ("r0 = *(u32 *)(r1 -4)", "no such field"),
        ("r0 = *(u16 *)(r1 +0)", "no such field"),
        ("*(u32 *)(r1 +16) = 1", "rx_queue_index"),
        ("r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +64)", "offset 64 of the packet, which has 64 bytes"),
        ("r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 -1)", "offset -1 of the packet"),
        ("r2 = *(u32 *)(r1 +4)\n*(u8 *)(r2 +0) = 1", "offset 64 of the packet"),
    ],
)
def test_wrong_accesses_fault(asm: str, message: str) -> None:
    with pytest.raises(MachineFault) as caught:
        xdp(asm)
    assert message in caught.value.message


def test_a_pointer_from_before_an_adjustment_sees_the_new_bounds() -> None:
    asm = "r6 = r1\nr7 = *(u32 *)(r1 +0)\nr2 = 8\ncall bpf_xdp_adjust_head#44\nr0 = *(u8 *)(r7 +0)"
    with pytest.raises(MachineFault, match="offset -8 of the packet"):
        xdp(asm)


def test_context_values_by_name() -> None:
    assert xdp("r0 = *(u32 *)(r1 +16)", context={"rx_queue_index": 5}) == 5
    with pytest.raises(UsageError, match="no field 'queue'"):
        xdp("r0 = 0", context={"queue": 5})
    with pytest.raises(UsageError, match="no field 'data'"):
        xdp("r0 = 0", context={"data": 5})


@pytest.mark.parametrize("prog_type", sorted(PROG_TYPES))
def test_every_program_type_runs_or_is_refused_by_name(prog_type: str) -> None:
    if prog_type not in REFUSED_TYPES:
        assert Machine(parse("r0 = 1\nexit"), prog_type=prog_type).run(PACKET).r0 == 1
    else:
        with pytest.raises(NotSupported, match=prog_type):
            Machine(parse("r0 = 1\nexit"), prog_type=prog_type)


def test_the_contexts_are_rows_of_the_abi() -> None:
    assert set(CONTEXT_TYPES) <= set(CONTEXTS)


def skb(asm: str, **options: object) -> int:
    return Machine(parse(asm + "\nexit"), prog_type="sched_cls").run(PACKET, **options).r0  # type: ignore[arg-type]


def test_fields_of_sk_buff() -> None:
    mark, protocol, cb = 8, 16, 48
    assert skb("r0 = *(u32 *)(r1 +0)") == len(PACKET)
    assert skb(f"r0 = *(u32 *)(r1 +{protocol})") == 8  # ETH_P_IP in network order
    assert skb(f"r0 = *(u32 *)(r1 +{mark})", context={"mark": 7}) == 7
    assert skb(f"*(u32 *)(r1 +{mark}) = 9\nr0 = *(u32 *)(r1 +{mark})") == 9
    assert skb(f"*(u32 *)(r1 +{cb + 8}) = 9\nr0 = *(u32 *)(r1 +{cb + 8})\nr2 = *(u32 *)(r1 +{cb})\nr0 += r2") == 9
    assert skb(f"*(u32 *)(r1 +{cb + 4}) = 9\nr0 = *(u64 *)(r1 +{cb})\nr0 >>= 32") == 9
    assert skb("r2 = *(u32 *)(r1 +76)\nr0 = *(u8 *)(r2 +0)") == 2


LEGACY = {
    "r0 = *(u8 *)skb[12]": 8,
    "r0 = *(u16 *)skb[12]": 0x0800,
    "r0 = *(u32 *)skb[14]": 0x00010203,
    "r2 = 10\nr0 = *(u8 *)skb[r2 + 4]": 0,
    "r2 = 10\nr0 = *(u16 *)skb[r2 + 5]": 0x0102,
    "r2 = 16\nr0 = *(u32 *)skb[r2 + -2]": 0x00010203,
    "r0 = *(u8 *)skb[-2097148]": 0,  # SKF_LL_OFF + 4
    "r0 = *(u16 *)skb[63]\nr0 = 5": 0,  # outside: the program ends with 0
    "r0 = *(u32 *)skb[100000]\nr0 = 5": 0,
    "r0 = *(u8 *)skb[-5]\nr0 = 5": 0,
}


@pytest.mark.parametrize("asm", LEGACY)
def test_legacy_loads(asm: str) -> None:
    assert skb(f"r6 = r1\n{asm}") == LEGACY[asm]


@pytest.mark.kernel
@pytest.mark.parametrize("asm", LEGACY)
def test_legacy_loads_in_the_kernel(asm: str) -> None:
    obj = object_of(f"r6 = r1\n{asm}\nexit", prog_type="sched_cls")
    assert in_kernel(obj, [PACKET]) == in_machine(obj, [PACKET])


def test_legacy_loads_of_plain_memory() -> None:
    machine = Machine(parse("r6 = r1\nr0 = *(u16 *)skb[1]\nexit"), prog_type=None)
    assert machine.run(b"abc").r0 == 0x6263
    assert machine.run(b"ab").r0 == 0


def test_legacy_loads_need_an_skb() -> None:
    with pytest.raises(MachineFault, match="__sk_buff"):
        xdp("r6 = r1\nr0 = *(u8 *)skb[0]")
    with pytest.raises(MachineFault, match="no context pointer"):
        skb("r6 = 0\nr0 = *(u8 *)skb[0]")


@pytest.mark.kernel
def test_fields_that_the_kernel_fills_from_its_argument() -> None:
    """rx_queue_index and ingress_ifindex of TEST_RUN's context argument reach both programs the same."""
    from ebpfkit.loader.collection import Collection

    obj = object_of("r0 = *(u32 *)(r1 +12)\nr0 <<= 8\nr2 = *(u32 *)(r1 +16)\nr0 += r2\nexit")
    with Collection.load(obj) as collection:
        context = struct.pack("=6I", 0, len(PACKET), 0, 1, 0, 0)
        theirs = collection.programs["prog"].test_run(PACKET, ctx=context)
    assert theirs.retval == Machine(obj).run(PACKET, ifindex=1, rx_queue=0).r0
