"""Contexts: fields, widths and packet pointers as the program sees them, and legacy packet loads."""

from __future__ import annotations

import struct

import pytest

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.parser import parse
from ebpfkit.errors import MachineFault, NotSupported, UsageError
from ebpfkit.vm.contexts import CONTEXT_TYPES, MEMORY_TYPES, REFUSED_TYPES
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


# --- other program types, with the kernel's own runs ------------------------------------------------------------------

UDP_PACKET = PACKET[:14] + bytes.fromhex("4500002c123400004011aabbc0000201c0000202") + bytes(range(24))
TEST_RUN_TYPES = ("socket_filter", "lwt_in", "lwt_out", "lwt_xmit", "sched_cls", "sched_act")
FROM_OUTSIDE = {"ingress_ifindex", "wire_len"}  # 0 in the kernel's runs; a device's and the packet's length on a wire


@pytest.mark.kernel
@pytest.mark.parametrize("prog_type", TEST_RUN_TYPES)
def test_every_field_is_the_kernels(prog_type: str) -> None:
    from ebpfkit.abi.model import FieldResult
    from ebpfkit.loader.collection import Collection

    rows = CONTEXTS[PROG_TYPES[prog_type].context or ""].fields
    for row in rows:
        if row.result is not FieldResult.SCALAR or row.name in FROM_OUTSIDE or not row.readable:
            continue
        asm = f"r0 = *(u{row.size * 8} *)(r1 +{row.offset})\nr2 = r0\nr2 >>= 16\nr0 ^= r2\nr0 &= 0xffff\nexit"
        obj = object_of(asm, prog_type=prog_type)
        ours = Machine(obj).run(UDP_PACKET, context={"pkt_type": 3})
        with Collection.load(obj) as collection:
            theirs = collection.programs["prog"].test_run(UDP_PACKET)
        assert (row.name, ours.r0, ours.data) == (row.name, theirs.retval, theirs.data)


WRITES = [(8, 7), (32, 5), (48, 9), (64, 3), (44, 2), (12, 1), (72, 6)]  # mark, priority, cb, tc_index, ...


@pytest.mark.kernel
@pytest.mark.parametrize(("offset", "value"), WRITES)
def test_what_a_classifier_writes_it_reads(offset: int, value: int) -> None:
    obj = object_of(f"*(u32 *)(r1 +{offset}) = {value}\nr0 = *(u32 *)(r1 +{offset})\nexit", prog_type="sched_cls")
    assert in_kernel(obj, [PACKET]) == in_machine(obj, [PACKET])


@pytest.mark.kernel
@pytest.mark.parametrize("prog_type", ["cgroup_skb", "lwt_xmit", "socket_filter"])
def test_programs_that_begin_at_the_network_header(prog_type: str) -> None:
    asm = "r6 = r1\nr0 = *(u8 *)skb[0]\nr0 &= 1\nexit" if prog_type == "socket_filter" else (
        "r2 = *(u32 *)(r1 +76)\nr3 = *(u32 *)(r1 +80)\nr4 = r2\nr4 += 20\nr0 = 0\nif r4 > r3 goto out\n"
        "r0 = *(u8 *)(r2 +9)\nr0 &= 1\nout:\nexit"
    )  # fmt: skip
    obj = object_of(asm, prog_type=prog_type)
    assert in_kernel(obj, [UDP_PACKET]) == in_machine(obj, [UDP_PACKET])


@pytest.mark.kernel
@pytest.mark.parametrize(
    "asm",
    [
        "r0 = 0\nexit",
        "r2 = *(u64 *)(r1 +144)\n*(u16 *)(r2 +2) = 34\n*(u8 *)(r2 +9) = 17\nr0 = 0\nexit",
        "r2 = *(u64 *)(r1 +144)\nr0 = *(u16 *)(r2 +10)\nexit",
        "r2 = *(u32 *)(r1 +76)\nr3 = *(u32 *)(r1 +80)\nr0 = r3\nr0 -= r2\nexit",
    ],
)
def test_flow_dissectors_fill_their_keys(asm: str) -> None:
    obj = object_of(asm, prog_type="flow_dissector")
    ours, theirs = in_machine(obj, [UDP_PACKET]), in_kernel(obj, [UDP_PACKET])
    assert ours == theirs


@pytest.mark.kernel
def test_socket_look_ups_see_both_ends() -> None:
    from ebpfkit.elf.model import ObjectFile, ProgramSpec
    from ebpfkit.kernel import bpf
    from ebpfkit.loader.collection import Collection

    fields = [(8, 32), (12, 32), (16, 32), (36, 16), (40, 32), (60, 32), (64, 32)]
    mix = "".join(f"r2 = *(u{bits} *)(r1 +{at})\nr0 *= 31\nr0 += r2\n" for at, bits in fields)
    fold = "r2 = r0\nr2 >>= 7\nr0 ^= r2\nr2 = r0\nr2 >>= 3\nr0 ^= r2\nr0 &= 1\nexit"
    values = {"family": 2, "protocol": 6, "remote_ip4": 0x4D0200C0, "local_ip4": 0x010200C0}
    packed = struct.pack("=QIII16sHHI16sII", 0, 2, 6, 0x4D0200C0, bytes(16), 0x3412, 0, 0x010200C0, bytes(16), 80, 0)
    for prefix in (mix, mix + "r0 >>= 1\n", mix + "r0 >>= 2\n", mix + "r0 >>= 5\n"):
        code = tuple(parse("r0 = 0\n" + prefix + fold))
        spec = ProgramSpec("prog", "sk_lookup", "sk_lookup", code, license="GPL", attach_type="sk_lookup")
        obj = ObjectFile({"prog": spec}, {}, license="GPL")
        with Collection.load(obj) as collection:
            theirs = bpf.test_run(collection.programs["prog"].fd, b"", context=packed, room=0).retval
        given = {**values, "remote_port": 0x3412, "local_port": 80}
        assert Machine(obj).run(b"", context=given, ifindex=0).r0 == theirs


def test_a_socket_look_up_assigns_a_socket() -> None:
    from ebpfkit.vm.network import Socket

    asm = "r2 = *(u64 *)(r1 +0)\nr0 = 1\nif r2 == 0 goto out\nr0 = *(u32 *)(r2 +44)\nout:\nexit"
    machine = Machine(parse(asm), prog_type="sk_lookup")
    assert machine.run(b"").r0 == 1
    assert machine.run(b"", socket=Socket("tcp", "192.0.2.1", 8080)).r0 == 8080


def test_the_packets_socket() -> None:
    from ebpfkit.vm.network import Socket

    asm = "r1 = *(u64 *)(r1 +168)\nr0 = 0\nif r1 == 0 goto out\nr0 = *(u32 *)(r1 +44)\nout:\nexit"
    machine = Machine(parse(asm), prog_type="sched_cls")
    assert machine.run(PACKET).r0 == 0
    assert machine.run(PACKET, socket=Socket("udp", "192.0.2.1", 53)).r0 == 53


@pytest.mark.parametrize("prog_type", sorted(MEMORY_TYPES))
def test_contexts_that_are_memory(prog_type: str) -> None:
    machine = Machine(parse("r0 = *(u64 *)(r1 +8)\nexit"), prog_type=prog_type)
    assert machine.run(bytes(8) + b"\x07" + bytes(7)).r0 == 7
    store = Machine(parse("*(u64 *)(r1 +0) = 5\nr0 = 0\nexit"), prog_type=prog_type)
    if MEMORY_TYPES[prog_type]:
        assert store.run(bytes(8)).data == b"\x05" + bytes(7)
    else:
        with pytest.raises(MachineFault, match="read-only"):
            store.run(bytes(8))
