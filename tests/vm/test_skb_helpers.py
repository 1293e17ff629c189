"""Helpers of socket buffers: the machine gives the kernel's return value, packet and context fields (TEST_RUN)."""

from __future__ import annotations

import pytest

from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.loader.collection import Collection
from ebpfkit.vm.machine import Machine, Result

from .both import object_of

ADDRESSES = bytes.fromhex("020000000001020000000002")
IPV4 = bytes.fromhex("4500003c12340000401100 00c0000201c0000202".replace(" ", ""))
UDP = bytes.fromhex("003512340028beef") + bytes(range(32))
IPV6 = bytes.fromhex("600000000014114020010db8000000000000000000000001" + "20010db8000000000000000000000002")
PACKETS = {
    "ipv4": ADDRESSES + b"\x08\x00" + IPV4 + UDP,
    "ipv6": ADDRESSES + b"\x86\xdd" + IPV6 + UDP,
    "vlan": ADDRESSES + bytes.fromhex("810000640800") + IPV4 + UDP,
    "qinq": ADDRESSES + bytes.fromhex("88a800c8810000640800") + IPV4 + UDP,
    "arp": b"\xff" * 6 + ADDRESSES[6:] + b"\x08\x06" + bytes(46),
    "congested": ADDRESSES + b"\x08\x00" + b"\x45\x03" + IPV4[2:] + UDP,
    "capable": ADDRESSES + b"\x08\x00" + b"\x45\x02" + IPV4[2:] + UDP,
}
LEN, PROTOCOL, VLAN_PRESENT, VLAN_TCI, VLAN_PROTO, HASH, TSTAMP_LOW, TSTAMP_TYPE = 0, 16, 20, 24, 28, 68, 152, 180
FIELDS = (LEN, PROTOCOL, VLAN_PRESENT, VLAN_TCI, VLAN_PROTO)
# The fields as one 16-bit number next to the low 16 bits of the result.
MIX = "r8 = 0\n" + "".join(f"r2 = *(u32 *)(r6 +{at})\nr8 *= 31\nr8 += r2\n" for at in FIELDS)
MIX += "r2 = r8\nr2 >>= 16\nr8 ^= r2\nr8 &= 0xffff\nr0 <<= 16\nr0 |= r8\nexit"


def call(helper: str, *arguments: int) -> str:
    numbers = "".join(f"r{i} = {value:#x} ll\n" for i, value in enumerate(arguments, 2))
    return f"r1 = r6\n{numbers}call bpf_{helper}#{HELPERS_BY_NAME[helper].id}\n"


def net(number: int) -> int:
    """A 16-bit number as it is in network order."""
    return int.from_bytes(number.to_bytes(2, "big"), "little")


def minus(number: int) -> int:
    return -number & 0xFFFF_FFFF


def load_relative(at: int, header: int) -> str:
    """Load two bytes; r0 is the result and what was loaded."""
    return (
        f"*(u64 *)(r10 -8) = -1\nr1 = r6\nr2 = {at:#x} ll\nr3 = r10\nr3 += -8\nr4 = 2\nr5 = {header}\n"
        "call bpf_skb_load_bytes_relative#68\nr0 <<= 16\nr2 = *(u16 *)(r10 -8)\nr0 += r2\nr2 = r0\nr2 >>= 16\n"
        "r0 ^= r2\n"
    )


Q, AD = net(0x8100), net(0x88A8)
CALLS: dict[str, list[str]] = {
    "push a tag": [call("skb_vlan_push", Q, 100)],
    "push a service tag": [call("skb_vlan_push", AD, 0x3064)],
    "push a tag of no protocol": [call("skb_vlan_push", net(0x1234), 100)],
    "push three": [call("skb_vlan_push", p, t) for p, t in ((Q, 100), (AD, 200), (Q, 0xFFFF))],
    "pop a tag": [call("skb_vlan_pop")],
    "pop two": [call("skb_vlan_pop")] * 2,
    "push and pop": [call("skb_vlan_push", Q, 100), call("skb_vlan_pop")],
    "push two and pop": [call("skb_vlan_push", Q, 100), call("skb_vlan_push", Q, 300), call("skb_vlan_pop")],
    **{
        f"change the tail to {n}": [call("skb_change_tail", n, 0)]
        for n in (0, 13, 14, 20, 34, 74, 75, 5000, 16064, 16065)
    },
    "change the tail with flags": [call("skb_change_tail", 60, 1)],
    **{f"change the head by {n}": [call("skb_change_head", n, 0)] for n in (0, 14, 5000, 15990, 16064)},
    "change the head with flags": [call("skb_change_head", 10, 1)],
    "change head and tail": [call("skb_change_head", 14, 0), call("skb_change_tail", 20, 0)],
    **{f"pull {n}": [call("skb_pull_data", n)] for n in (0, 14, 74, 1000)},
    **{f"to protocol {n:#x}": [call("skb_change_proto", net(n), 0)] for n in (0x0800, 0x86DD, 0x0806)},
    "to a protocol with flags": [call("skb_change_proto", net(0x86DD), 1)],
    "to IPv6 and back": [call("skb_change_proto", net(0x86DD), 0), call("skb_change_proto", net(0x0800), 0)],
    **{f"become type {n}": [call("skb_change_type", n) + "r2 = *(u32 *)(r6 +4)\nr0 += r2\n"] for n in (0, 1, 3, 4)},
    **{
        f"room {delta & 0xFFFF:#x} in mode {mode} with {flags:#x}": [call("skb_adjust_room", delta, mode, flags)]
        for delta, mode, flags in [
            *((delta, mode, 0) for delta in (20, minus(20), minus(40), minus(60), 0xFFF, 0x1000) for mode in (0, 1)),
            (4, 2, 0),
            (20, 1, 2),
            (28, 1, 2 | 16),
            (24, 1, 2 | 8),
            (40, 1, 4),
            (20, 1, 6),
            (20, 1, 2 | 24),
            (20, 1, 8),
            (20, 0, 2),
            (42, 1, 2 | 16 | 14 << 56),
            (42, 1, 2 | 16 | 64 | 14 << 56),
            (42, 1, 2 | 16 | 64 | 10 << 56),
            (minus(20), 1, 128),
            (minus(20), 1, 256),
            (minus(20), 1, 2),
            (minus(34), 1, 128),
            (minus(40), 1, 384),
            (20, 1, 128),
            (20, 1, 1),
            (20, 1, 512),
        ]
    },
    "encapsulate twice": [call("skb_adjust_room", 20, 1, 2)] * 2,
    "encapsulate and change the tail": [call("skb_adjust_room", 20, 1, 2), call("skb_change_tail", 60, 0)],
    **{
        f"l3 checksum at {at} from {old:#x} to {new:#x} with {flags}": [call("l3_csum_replace", at, old, new, flags)]
        for at, old, new, flags in [
            (24, 1, 2, 2),
            (24, 0x1234, 0x4321, 2),
            (24, 0x12345678, 0x87654321, 4),
            (24, 0, 0x12345, 0),
            (24, 0, 0xFFFF_FFFF, 0),
            (24, 1, 5, 0),
            (24, 7, 9, 3),
            (24, 7, 9, 0x12),
            (25, 1, 2, 2),
            (58, 0xFFFF, 0, 2),
            (100, 1, 2, 2),
            (0x10000, 1, 2, 2),
        ]
    },
    **{
        f"l4 checksum at {at} from {old:#x} to {new:#x} with {flags:#x}": [call("l4_csum_replace", at, old, new, flags)]
        for at, old, new, flags in [
            (40, 1, 2, 2),
            (40, 0x12345678, 0x87654321, 0x14),
            (40, 0, 0x12345, 0x10),
            (40, 0xBEEF, 0, 0x22),
            (24, 1, 2, 0x22),
            (24, 1, 2, 0x62),
            (24, 0xFFFF, 0, 0x62),
            (40, 1, 5, 0),
            (40, 1, 2, 0x102),
            (40, 1, 2, 0x82),
            (73, 1, 2, 2),
        ]
    },
    "update a checksum that nobody has": [call("csum_update", 5)],
    **{
        f"checksum levels {levels}": [call("csum_level", level) for level in levels]
        for levels in [(0,), (1, 0), (1, 1, 1, 1, 1, 0), (1, 2, 0), (1, 1, 2, 0), (2, 0), (1, 3, 0), (4,)]
    },
    "set the hash": [call("set_hash", 77), call("get_hash_recalc")],
    "forget the hash": [call("set_hash", 77), call("set_hash_invalid") + f"r0 = *(u32 *)(r6 +{HASH})\n"],
    "set congestion": [call("skb_ecn_set_ce")],
    **{
        f"stamp {stamp} of clock {clock}": [
            call("skb_set_tstamp", stamp, clock)
            + f"r0 <<= 8\nr2 = *(u64 *)(r6 +{TSTAMP_LOW})\nr0 += r2\n"
            + f"r2 = *(u8 *)(r6 +{TSTAMP_TYPE})\nr0 <<= 4\nr0 += r2\n"
        ]
        for stamp, clock in [(0, 0), (5, 0), (5, 1), (0, 1), (5, 2), (0, 2), (5, 3)]
    },
    **{
        f"load 2 bytes at {at:#x} behind header {header}": [
            load_relative(at, header)
        ]
        for at in (0, 2, 58, 59, 72, 0x10000, minus(14))
        for header in (0, 1, 2)
    },
    "no realm": [call("get_route_realm")],
    "redirect to a neighbour": ["r1 = 1\nr2 = 0\nr3 = 0\nr4 = 0\ncall bpf_redirect_neigh#152\n"],
    "redirect to a neighbour with flags": ["r1 = 1\nr2 = 0\nr3 = 0\nr4 = 1\ncall bpf_redirect_neigh#152\n"],
    "redirect to a peer": ["r1 = 1\nr2 = 0\ncall bpf_redirect_peer#155\n"],
    "redirect to a peer with flags": ["r1 = 1\nr2 = 1\ncall bpf_redirect_peer#155\n"],
    "clone with flags": [call("clone_redirect", 1, 2)],
}  # fmt: skip


def program(calls: list[str]) -> str:
    return "r6 = r1\n" + "".join(calls) + MIX


def run(name: str, packet: str) -> Result:
    data = PACKETS[packet]
    kind = 2 if data[0] & 1 else 3  # what the loopback device makes of them
    return Machine(object_of(program(CALLS[name]), prog_type="sched_cls")).run(data, context={"pkt_type": kind})


@pytest.mark.kernel
@pytest.mark.parametrize("name", CALLS)
def test_the_kernel_agrees(name: str) -> None:
    obj = object_of(program(CALLS[name]), prog_type="sched_cls")
    with Collection.load(obj, programs=["prog"]) as collection:
        theirs = {packet: collection.programs["prog"].test_run(data) for packet, data in PACKETS.items()}
    for packet, result in theirs.items():
        ours = run(name, packet)
        assert (packet, hex(ours.r0 & 0xFFFF_FFFF), ours.data) == (packet, hex(result.retval), result.data)


@pytest.mark.parametrize("name", list(CALLS)[::6])
def test_native_code_says_the_same(name: str) -> None:
    obj = object_of(program(CALLS[name]), prog_type="sched_cls")
    native = Machine(obj, jit="safe")
    for packet, data in PACKETS.items():
        kind = 2 if data[0] & 1 else 3
        result = native.run(data, context={"pkt_type": kind})
        plain = run(name, packet)
        assert (packet, hex(result.r0), result.data, result.insns) == (packet, hex(plain.r0), plain.data, plain.insns)


def test_the_table_has_every_helper_of_its_kind() -> None:
    from ebpfkit.vm import helpers_skb

    named = " ".join(text for calls in CALLS.values() for text in calls) + load_relative(0, 0)
    here = {name for name in vars(helpers_skb) if name in HELPERS_BY_NAME}
    elsewhere = {"skb_set_tunnel_key", "skb_get_tunnel_key", "skb_set_tunnel_opt", "skb_get_tunnel_opt"}
    elsewhere |= {"get_cgroup_classid", "skb_get_xfrm_state"}
    assert not {name for name in here if f"bpf_{name}#" not in named} - elsewhere


def machine(*calls: str, then: str = "exit") -> Machine:
    return Machine(object_of("r6 = r1\n" + "".join(calls) + then, prog_type="sched_cls"))


def test_tags_by_hand() -> None:
    packet = PACKETS["ipv4"]
    pushed = machine(call("skb_vlan_push", Q, 100), call("skb_vlan_push", AD, 200)).run(packet)
    assert pushed.data == packet[:12] + bytes.fromhex("81000064") + packet[12:]
    popped = machine(call("skb_vlan_pop")).run(PACKETS["vlan"])
    assert popped.data == packet


def test_room_by_hand() -> None:
    packet = PACKETS["ipv4"]
    assert machine(call("skb_adjust_room", 8, 1, 0)).run(packet).data == packet[:14] + bytes(8) + packet[14:]
    assert machine(call("skb_adjust_room", 8, 0, 0)).run(packet).data == packet[:34] + bytes(8) + packet[34:]


def test_a_large_packet_keeps_its_address() -> None:
    """A pointer from before sees the packet as it became, wherever its bytes went."""
    asm = "r7 = *(u32 *)(r1 +76)\nr6 = r1\n" + call("skb_change_tail", 9000, 0) + "r0 = *(u8 *)(r7 +0)\nexit"
    result = Machine(object_of(asm, prog_type="sched_cls")).run(PACKETS["ipv4"])
    assert (result.r0, len(result.data)) == (2, 9000)


def test_clones_are_recorded() -> None:
    result = machine(call("clone_redirect", 7, 1)).run(PACKETS["arp"])
    assert result.r0 == 0
    (effect,) = result.effects
    assert (effect.name, effect.values["ifindex"], effect.values["packet"]) == ("clone_redirect", 7, PACKETS["arp"])
    assert machine().run(PACKETS["arp"]).effects == ()


def test_the_hash_is_of_the_flow_and_repeats() -> None:
    asm = machine(call("get_hash_recalc"))
    first, again = asm.run(PACKETS["ipv4"]).r0, asm.run(PACKETS["ipv4"]).r0
    assert first == again != 0
    assert asm.run(PACKETS["ipv6"]).r0 != first
    assert asm.run(PACKETS["ipv4"], context={"hash": 5}).r0 == 5


# --- tunnel keys: what is set is read as the receiver would -----------------------------------------------------------

_SET = """
    *(u64 *)(r10 -48) = 0
    *(u64 *)(r10 -40) = 0
    *(u64 *)(r10 -32) = 0
    *(u64 *)(r10 -24) = 0
    *(u64 *)(r10 -16) = 0
    *(u64 *)(r10 -8) = 0
    *(u32 *)(r10 -48) = 4711
    *(u32 *)(r10 -44) = 0x020200c0
    *(u8 *)(r10 -28) = 4
    *(u8 *)(r10 -27) = 64
"""


def tunnel(set_size: int, set_flags: int, get_size: int, get_flags: int, *, label: int = 0, local: int = 0) -> str:
    words = "".join(f"r2 = *(u32 *)(r10 {-48 + 4 * i})\nr8 *= 31\nr8 += r2\n" for i in range(11))
    return (
        "r6 = r1\n"
        + _SET
        + f"*(u32 *)(r10 -24) = {label}\n*(u32 *)(r10 -20) = {local}\n"
        + f"r1 = r6\nr2 = r10\nr2 += -48\nr3 = {set_size}\nr4 = {set_flags}\ncall bpf_skb_set_tunnel_key#21\nr7 = r0\n"
        + f"r1 = r6\nr2 = r10\nr2 += -48\nr3 = {get_size}\nr4 = {get_flags}\ncall bpf_skb_get_tunnel_key#20\n"
        + f"r0 <<= 8\nr0 += r7\nr8 = 0\n{words}r2 = r8\nr2 >>= 16\nr8 ^= r2\nr8 &= 0xffff\nr0 <<= 16\nr0 |= r8\nexit"
    )


TUNNELS = {
    "ipv4": tunnel(44, 0, 44, 0),
    "ipv4 with a source": tunnel(44, 0, 44, 0, local=0x010200C0),
    "short": tunnel(28, 0, 28, 0),
    "shorter": tunnel(24, 0, 22, 0),
    "odd size": tunnel(20, 0, 44, 0),
    "odd size asked for": tunnel(44, 0, 30, 0),
    "ipv6": tunnel(44, 1, 44, 1),
    "ipv6 with a label": tunnel(44, 1, 44, 1, label=77),
    "a label in ipv4": tunnel(44, 0, 44, 0, label=77),
    "a long label": tunnel(44, 1, 44, 1, label=1 << 20),
    "other family asked for": tunnel(44, 0, 44, 1),
    "wrong flags": tunnel(44, 64, 44, 0),
    "wrong flags asked for": tunnel(44, 0, 44, 64),
    "no checksum": tunnel(44, 2, 44, 0),
}  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("name", TUNNELS)
def test_tunnel_keys_in_the_kernel(name: str) -> None:
    obj = object_of(TUNNELS[name], prog_type="sched_cls")
    with Collection.load(obj, programs=["prog"]) as collection:
        theirs = collection.programs["prog"].test_run(PACKETS["ipv4"]).retval
    assert hex(Machine(obj).run(PACKETS["ipv4"]).r0 & 0xFFFF_FFFF) == hex(theirs)


def test_tunnel_keys_are_recorded() -> None:
    (effect,) = Machine(object_of(TUNNELS["ipv4"], prog_type="sched_cls")).run(PACKETS["ipv4"]).effects
    key = effect.values["key"]
    assert effect.name == "skb_set_tunnel_key" and isinstance(key, bytes)
    assert int.from_bytes(key[:4], "little") == 4711 and key[4:8] == bytes([192, 0, 2, 2])
