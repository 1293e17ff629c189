"""Native code for user space: helpers and fields are those of the virtual machine, the rest is refused at its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ebpfkit as bpf
from ebpfkit import Packet, array, be16, helpers, u8, u16, u32, u64
from ebpfkit.compiler.native import lower_handler
from ebpfkit.errors import CompileError, EbpfError, NotSupported, UsageError, VerifierError
from ebpfkit.net import Ethernet

LICENSE = "Dual MIT/GPL"


class Words(bpf.Struct):
    text: array[u8, Literal[8]]


class Seen(bpf.Struct):
    number: u64


found = bpf.Array[u64](max_entries=4)
per_cpu = bpf.PerCpuArray[u64](max_entries=2)
events = bpf.RingBuf[Seen](max_entries=4096)
waiting = bpf.Queue[u64](max_entries=8)
devices = bpf.DevMap(max_entries=4)
shared = bpf.PerCpuHash[u32, u64](max_entries=4)
sockets = bpf.XskMap(max_entries=4)
scale = bpf.config(u32, 7)
total = bpf.var(u64, 5)
ABI = bytes(range(12)) + b"\x88\xb5"


@bpf.xdp(short=bpf.XDP_DROP)
def fields(pkt: Packet) -> bpf.XdpAction:
    found[0] = u64(pkt.ingress_ifindex)
    found[1] = u64(pkt.rx_queue_index)
    found[2] = u64(len(pkt)) * u64(scale)
    per_cpu[1] += 1
    total.value += 3
    return bpf.XDP_PASS


def test_fields_sizes_constants_and_variables() -> None:
    frame = ABI + bytes(50)
    for cpu in (0, 2):
        done = fields.run(frame, on="native", ingress_ifindex=9, rx_queue=3, cpu=cpu)
        assert (done.action, done.data, done.insns) == (bpf.XDP_PASS, frame, None)
    assert [int(found[n]) for n in range(3)] == [9, 3, 64 * 7]
    assert total.value == 11 and done.variables == {"total": 11}
    assert per_cpu.per_cpu(1) == [1, 0, 1]
    total.value = 0
    assert fields.run(frame, on="native").variables == {"total": 3}


@bpf.xdp(short=bpf.XDP_DROP)
def moving(pkt: Packet) -> bpf.XdpAction:
    what = pkt.read(u8)
    size = pkt.read(u16)
    if what == 0:
        pkt.push_head(size)
    elif what == 1:
        pkt.pop_head(size)
    elif what == 2:
        pkt.trim(size)
    elif what == 3:
        pkt.extend(size)
    else:
        helpers.xdp_store_bytes(pkt, u32(size), Words.zero(), 8)
    pkt.read(u8)
    return bpf.XDP_PASS


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4096), st.integers(3, 300))
def test_the_packet_moves_as_in_the_virtual_machine(what: int, size: int, length: int) -> None:
    frame = (bytes([what]) + size.to_bytes(2, "little") + bytes(range(1, 251)) * 2)[:length]
    native, machine = (moving.run(frame, on=on) for on in ("native", "interpreter"))
    assert native.action == machine.action
    if what != 0:  # bytes pushed in front are whatever was there
        assert native.data == machine.data
    else:
        assert native.data[-length:] == machine.data[-length:] and len(native.data) == len(machine.data)


@bpf.xdp(short=bpf.XDP_DROP)
def sums(pkt: Packet) -> bpf.XdpAction:
    old, new = Words.zero(), Words.zero()
    helpers.xdp_load_bytes(pkt, 0, old, 8)
    helpers.xdp_load_bytes(pkt, 8, new, 8)
    found[3] = u64(helpers.csum_diff(old, 7, new, 6, 77) & 0xFFFF_FFFF)
    return bpf.XDP_PASS


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.binary(min_size=16, max_size=40))
def test_checksums_of_differences(frame: bytes) -> None:
    answers = []
    for on in ("native", "interpreter"):
        assert sums.run(frame, on=on).action == bpf.XDP_PASS
        answers.append(int(found[3]))
    assert answers[0] == answers[1]


@bpf.xdp(short=bpf.XDP_DROP)
def asking(pkt: Packet) -> bpf.XdpAction:
    found[0] = helpers.ktime_get_ns()
    found[1] = u64(helpers.get_prandom_u32())
    found[2] = u64(helpers.get_smp_processor_id())
    return bpf.XDP_PASS


def test_clock_chance_and_the_number_of_the_worker() -> None:
    before, numbers = time.monotonic_ns(), set()
    for cpu in (0, 1):
        asking.run(ABI + bytes(50), on="native", cpu=cpu)
        assert before <= int(found[0]) <= time.monotonic_ns() and found[2] == cpu
        numbers.add(int(found[1]))
    assert len(numbers) == 2 and max(numbers) < 1 << 32


@bpf.xdp
def to_ring(pkt: Packet) -> bpf.XdpAction:
    events.output(Seen(number=u64(1)))
    return bpf.XDP_PASS


@bpf.xdp
def to_queue(pkt: Packet) -> bpf.XdpAction:
    waiting.push(u64(1))
    return bpf.XDP_PASS


@bpf.xdp
def to_device(pkt: Packet) -> bpf.XdpAction:
    return devices.redirect(1)


@bpf.xdp
def to_shared(pkt: Packet) -> bpf.XdpAction:
    shared[1] = u64(1)
    return bpf.XDP_PASS


@bpf.xdp
def out_by_number(pkt: Packet) -> bpf.XdpAction:
    return helpers.redirect(3, 0)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (to_ring, "the RingBuf 'events' cannot be used in native code: hand the packet up with XDP_PASS"),
        (to_queue, "the Queue 'waiting' cannot be used in native code"),
        (to_device, "the DevMap 'devices' cannot be used in native code: redirect to an XskMap of sockets"),
        (to_shared, "the PerCpuHash 'shared' cannot be used in native code: use a PerCpuArray, or a Hash"),
        (out_by_number, "the helper redirect cannot run in native code"),
    ],
)
def test_what_it_does_not_have_is_refused_at_its_place(program: Callable[..., object], message: str) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        program.run(ABI + bytes(50), on="native")  # type: ignore[attr-defined]
    span = caught.value.span
    assert caught.value.code == "not-native" and span is not None and span.file == __file__ and span.text
    assert "hand the packet up with XDP_PASS and do this part in Python" in caught.value.hint


@bpf.xdp(short=bpf.XDP_DROP)
def endless(pkt: Packet) -> bpf.XdpAction:
    number = u64(pkt.read(u8))
    while number < 1000:
        number &= 7
    return bpf.XDP_DROP


def test_what_the_verifier_refuses_does_not_run() -> None:
    with pytest.raises((VerifierError, NotSupported)):
        endless.run(ABI, on="native")


def test_redirects_find_what_is_in_the_map() -> None:
    class Socket:
        def fileno(self) -> int:
            return 5

    sockets[2] = Socket()
    assert to_socket.run(ABI + b"\x02", on="native").action == bpf.XDP_REDIRECT
    assert to_socket.run(ABI + b"\x01", on="native").action == bpf.XDP_TX
    assert to_socket.run(ABI + b"\xff", on="native").action == bpf.XDP_TX
    del sockets[2]
    assert to_socket.run(ABI + b"\x02", on="native").action == bpf.XDP_TX
    sockets.close()


@bpf.xdp(short=bpf.XDP_DROP)
def to_socket(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != be16(0x88B5):
        return bpf.XDP_DROP
    return sockets.redirect(u32(pkt.read(u8)), otherwise=bpf.XDP_TX)


def test_a_packet_too_large_says_so() -> None:
    with pytest.raises(UsageError, match="a packet of 4000 bytes; native code takes up to 3520"):
        fields.run(bytes(4000), on="native")


def test_verdicts_are_known_where_they_are_constants() -> None:
    assert lower_handler(asking).verdicts == {2}
    assert lower_handler(moving).verdicts == {1, 2}  # 1: the short exit
    assert lower_handler(to_socket).verdicts is None


def test_errors_are_ours() -> None:
    assert issubclass(NotSupported, EbpfError)
