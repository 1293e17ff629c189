"""One program of each type beside XDP, for the tests of `test_program_types`: a module as a user writes it."""

from __future__ import annotations

from typing import Literal

import ebpfkit as bpf
from ebpfkit import IPv4Addr, SkBuff, array, helpers, s32, s64, u8, u16, u32, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4

LICENSE = "GPL"

seen = bpf.Hash[u32, u64](max_entries=1024)
"""What each program saw, by a number of its own."""


class Unlink(bpf.TraceEvent):
    """syscalls:sys_enter_unlinkat"""

    number: u64
    dfd: s64
    pathname: u64
    flag: s64


class Switch(bpf.TraceEvent):
    """sched:sched_switch"""

    prev_comm: array[u8, Literal[16]]
    prev_pid: s32
    prev_prio: s32
    prev_state: s64
    next_comm: array[u8, Literal[16]]
    next_pid: s32
    next_prio: s32


class Name(bpf.Struct):
    text: array[u8, Literal[16]]


def note(number: u32, value: u64) -> None:
    hit = seen.get(number)
    if hit is None:
        seen[number] = value
    else:
        hit.atomic_add(1)


@bpf.tc(short=bpf.TC_ACT_OK)
def mark(skb: SkBuff) -> bpf.TcAction:
    """Reads and writes the packet in place, and fields of the context."""
    eth = skb.read(Ethernet)
    if skb.protocol != ETH_P_IP or eth.type != ETH_P_IP:
        return bpf.TC_ACT_UNSPEC
    ip = skb.read(IPv4)
    skb.mark = skb.mark + 7
    skb.cb[2] = len(skb)
    skb.priority = skb.cb[2] & 0xFF
    ip.ttl -= 1
    if ip.protocol == IPPROTO_UDP:
        skb.pull(34)
        again = skb.read(Ethernet)
        again.src, again.dst = again.dst, again.src
        note(1, u64(skb.priority))
        return bpf.TC_ACT_SHOT
    return bpf.TC_ACT_OK


@bpf.tc
def rewrite(skb: SkBuff) -> int:
    """The helpers that change bytes and checksums: the packet moves, so the header is read again."""
    eth = skb.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.TC_ACT_OK
    ip = skb.read(IPv4)
    before = ip.dst
    after = IPv4Addr("192.0.2.9")
    helpers.l3_csum_replace(skb, 24, u32(before.to_host()), u32(after.to_host()), 4)
    word = array[u8, Literal[4]]((192, 0, 2, 9))
    if helpers.skb_store_bytes(skb, 30, word, 4, 0) != 0:
        return bpf.TC_ACT_SHOT
    skb.skip(bpf.sizeof(Ethernet))
    return bpf.TC_ACT_OK if skb.read(IPv4).dst == after else bpf.TC_ACT_SHOT


@bpf.socket_filter(short=3)
def dns_only(skb: SkBuff) -> int:
    """Reads by copies: the bytes of a packet to port 53, none of others."""
    ip = skb.read(IPv4)
    if ip.protocol != IPPROTO_UDP:
        return 0
    udp = skb.peek(UDP)
    if udp is None or udp.dest != 53:
        return 1 if udp is None else 2
    skb.skip(8)
    first = skb.peek(u16)
    note(2, u64(first) if first is not None else u64(0xFFFF_FFFF))
    return len(skb)


@bpf.socket_filter
def every(skb: SkBuff) -> int:
    note(3, u64(len(skb)))
    return len(skb)


@bpf.cgroup_skb("egress")
def no_udp(skb: SkBuff) -> bpf.SkAction:
    """The packet begins at its network header."""
    ip = skb.read(IPv4)
    if ip.version == 4 and ip.protocol == IPPROTO_UDP:
        note(4, u64(len(skb)))
        return bpf.SK_DROP
    return bpf.SK_PASS


@bpf.cgroup_skb("ingress", short=bpf.SK_PASS)
def count_in(skb: SkBuff) -> int:
    note(5, u64(skb.ifindex))
    return 1 if skb.read(IPv4).ttl > 0 else 0


@bpf.kprobe("do_unlinkat")
def on_unlink(ctx: bpf.Context, dfd: s32, name: u64) -> None:
    if name != 0 and ctx.ip != 0:
        note(6, u64(u32(dfd)))


@bpf.kretprobe("do_unlinkat")
def after_unlink(result: s32) -> int:
    note(7, u64(u32(result)))
    return 0


@bpf.tracepoint("sched:sched_switch")
def on_switch(event: Switch) -> None:
    own = Name(text=event.prev_comm)
    if own.text[0] != 0 and event.prev_pid != event.next_pid:
        note(8, u64(u32(event.next_prio)))


@bpf.tracepoint("syscalls:sys_enter_unlinkat")
def on_unlinkat(event: Unlink) -> None:
    note(9, event.number)


@bpf.raw_tracepoint("sched_switch")
def raw_switch(preempt: u8, previous: u64, following: u64) -> int:
    if previous == following:
        return 5
    note(10, u64(preempt))
    return 6


@bpf.tp_btf("sched_switch")
def typed_switch(preempt: u8, previous: u64, following: u64) -> None:
    if previous != 0 and following != 0:
        note(11, helpers.get_current_pid_tgid() >> 63)


@bpf.fentry("do_unlinkat")
def enter_unlink(dfd: s32) -> None:
    note(12, u64(u32(dfd)))


@bpf.fexit("do_unlinkat")
def leave_unlink(dfd: s32, name: u64, result: s32) -> int:
    note(13, u64(u32(result)))
    return 0


@bpf.perf_event
def tick(ctx: bpf.Context) -> None:
    note(14, ctx.sample_period)
