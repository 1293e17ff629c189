"""Map facades: in a run they mean what the helpers mean, in user space what bpf(2) means."""

from __future__ import annotations

import ipaddress

import pytest

from ebpfkit.dsl.addresses import MAC, IPv4Addr, IPv6Addr
from ebpfkit.dsl.decorators import xdp
from ebpfkit.dsl.execute import run_python
from ebpfkit.dsl.maps import Array, Hash, LruHash, MapFacade
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.percpu_maps import LruPerCpuHash, PerCpuArray, PerCpuHash
from ebpfkit.dsl.special_maps import RingBuf, XskMap
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.tries import LpmTrie
from ebpfkit.dsl.types import be16, s64, u8, u16, u32, u64
from ebpfkit.dsl.verdicts import XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, XdpAction
from ebpfkit.errors import CompileError, MapError, MapKeyError, NotSupported, UsageError
from ebpfkit.maps.memory import create_store


class Hits(Struct):
    packets: u64
    bytes: u64


class Flow(Struct, padding=True):
    src: IPv4Addr
    port: be16


class Event(Struct):
    kind: u8
    number: u32


counts = Hash[u32, u64](max_entries=4)
flows = LruHash[Flow, Hits](max_entries=16)
table = Array[Hits](max_entries=4)
seen = PerCpuArray[u64](max_entries=8)
per_host = PerCpuHash[IPv4Addr, Hits](max_entries=8)
blocked = LpmTrie[IPv4Addr, Hits](max_entries=16)
six = LpmTrie[IPv6Addr, u32](max_entries=16)
sockets = XskMap(max_entries=4)
events = RingBuf[Event](max_entries=4096)
numbers = RingBuf[u32](max_entries=4096, name="nums")


@pytest.fixture(autouse=True)
def _fresh():
    yield
    for value in list(globals().values()):
        if isinstance(value, MapFacade):
            value.close()


def run(body, **options):
    """Run a function of the packet as a program that passes."""

    def program(pkt: Packet) -> XdpAction:
        result = body(pkt)
        return XDP_PASS if result is None else result

    return run_python(xdp(short=XDP_DROP)(program), bytes(64), **options)


def test_names_and_specs():
    assert (counts.name, numbers.name, repr(seen)) == ("counts", "nums", "<PerCpuArray seen>")
    spec = blocked.spec
    assert (spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags) == ("lpm_trie", 8, 16, 16, 1)
    assert (six.spec.key_size, six.spec.value_size) == (20, 4)
    assert (events.spec.key_size, events.spec.value_size, events.spec.max_entries) == (0, 0, 4096)
    assert (sockets.spec.type, sockets.spec.key_size, sockets.spec.value_size) == ("xskmap", 4, 4)
    assert (seen.key_type, seen.value_type, flows.key_type, events.value_type) == (u32, u64, Flow, Event)
    assert spec.span is not None
    assert spec.span.file == __file__
    assert "blocked = LpmTrie" in (spec.span.text or "")
    assert isinstance(flows, LruHash)


def test_scalar_values_are_copies_and_atomic_add_reaches_the_map():
    def body(pkt):
        counts[1] = 5
        before = counts[1]
        counts[1] += 1
        assert (before, counts[1]) == (5, 6)
        assert counts[1].atomic_add(10) == 6
        found = counts.get(1)
        assert found is not None
        assert found == 16
        assert counts.get(2) is None
        assert 1 in counts
        assert 2 not in counts
        del counts[1]
        assert 1 not in counts
        del counts[1]
        counts[u16(7)] = u8(3)

    run(body)
    assert list(counts.items()) == [(7, 3)]


def test_struct_values_are_views_in_a_run_and_copies_outside():
    def body(pkt):
        table[2] = Hits(packets=1, bytes=2)
        view = table[2]
        view.packets += 1
        view.bytes.atomic_add(len(pkt))
        table[2].packets += 5

    run(body)
    assert table[2] == Hits(packets=7, bytes=66)
    copied = table[2]
    with pytest.raises(CompileError, match=r"this is a copy of a value of the map 'table'.*table\[key\] = value"):
        copied.packets = 1
    with pytest.raises(CompileError, match="this is a copy"):
        copied.packets.atomic_add(1)
    own = copied.copy()
    own.packets = 1
    table[2] = own
    assert table[2].packets == 1
    assert len(table) == 4
    assert [int(v.packets) for v in table] == [0, 0, 1, 0]


def test_a_missing_key_takes_the_short_exit_in_a_run_and_raises_outside():
    def body(pkt):
        counts[99] += 1

    result = run(body)
    assert result.action is XDP_DROP
    assert result.short == "'counts' has no key 99"
    with pytest.raises(MapKeyError, match="'counts' has no key 99"):
        counts[99]
    with pytest.raises(KeyError):
        counts[99]
    assert counts.get(99) is None

    def past_the_end(pkt):
        table[4].packets = 1

    assert run(past_the_end).action is XDP_DROP


def test_a_full_map_is_silent_in_a_run_as_the_helper_is_and_an_error_outside():
    def body(pkt):
        for key in range(6):
            counts[key] = key

    run(body)
    assert len(counts) == 4
    with pytest.raises(MapError, match="E2BIG"):
        counts[9] = 1
    assert counts.update({0: u64(9), 1: u64(8)}) == 2
    assert sorted(int(v) for v in counts.values()) == [2, 3, 8, 9]


def test_struct_keys_have_clean_padding():
    def body(pkt):
        key = Flow(src=IPv4Addr("10.0.0.1"), port=80)
        flows[key] = Hits(packets=1, bytes=1)
        noisy = Flow.zero()
        noisy._region.data[:] = b"\xff" * 8
        noisy.src = IPv4Addr("10.0.0.1")
        noisy.port = 80
        assert noisy in flows

    run(body)
    [(key, value)] = flows.items()
    assert (str(key.src), key.port, value.packets) == ("10.0.0.1", 80, 1)


def test_per_cpu_maps():
    def body(pkt):
        seen[3] += 1
        per_host[IPv4Addr("10.0.0.1")] = Hits(packets=2, bytes=3)

    run(body)
    run(body)
    assert seen.per_cpu(3) == [2]
    assert seen.sum(3) == 2
    assert type(seen.sum(3)) is u64
    assert per_host.sum(IPv4Addr("10.0.0.1")) == Hits(packets=2, bytes=3)
    for action in (lambda: seen[3], lambda: seen.get(3), lambda: seen.__setitem__(3, 1), lambda: list(seen.items())):
        with pytest.raises(UsageError, match=r"write seen.sum\(key\) or seen.per_cpu\(key\)"):
            action()
    with pytest.raises(MapKeyError):
        per_host.per_cpu(IPv4Addr(1))

    store = create_store(seen.spec, cpus=3)
    for cpu in range(3):
        run(lambda pkt: XDP_PASS if seen[3].atomic_add(cpu + 1) == 0 else XDP_TX, cpu=cpu, maps={seen: store})  # noqa: B023
    other = seen.view(store)
    assert other.per_cpu(3) == [1, 2, 3]
    assert other.sum(3) == 6
    other.set_per_cpu(3, [7, 8, 9])
    assert other.sum(3) == 24
    assert seen.sum(3) == 2
    with pytest.raises(UsageError, match="'seen' has 1 CPU in memory and the run is on CPU 2"):
        run(body, cpu=2)


def test_prefixes():
    blocked["192.0.2.0/24"] = Hits(packets=1, bytes=0)
    blocked[ipaddress.ip_network("192.0.0.0/16")] = Hits(packets=2, bytes=0)
    blocked[IPv4Addr("192.0.2.9")] = Hits(packets=3, bytes=0)
    six["2001:db8::/32"] = 5

    def body(pkt):
        for text, expected in (("192.0.2.9", 3), ("192.0.2.1", 1), ("192.0.3.1", 2)):
            hit = blocked.get(IPv4Addr(text))
            assert hit is not None
            assert hit.packets == expected
            hit.bytes.atomic_add(1)
        assert blocked.get(IPv4Addr("10.0.0.1")) is None
        assert six[IPv6Addr("2001:db8::1")] == 5
        return XDP_TX

    assert run(body).action is XDP_TX
    assert blocked["192.0.2.0/24"].bytes == 1
    assert "192.0.2.77" in blocked
    assert {str(prefix): int(v.packets) for prefix, v in blocked.items()} == {
        "192.0.0.0/16": 2, "192.0.2.0/24": 1, "192.0.2.9/32": 3}  # fmt: skip
    del blocked["192.0.2.0/24"]
    found = blocked.get("192.0.2.1")
    assert found is not None
    assert found.packets == 2
    assert len(blocked.initial_contents()) == 2
    for wrong, text in (("192.0.2.1/24", "has host bits set"), ("::/0", "not a prefix of IPv4Addr"), (5, "a int is")):
        with pytest.raises(CompileError, match=text):
            blocked[wrong]
    with pytest.raises(CompileError, match="a str is not an IPv4Addr"):
        run(lambda pkt: blocked.get("10.0.0.1"))


class FakeSocket:
    def fileno(self):
        return 7


def test_redirect_to_sockets():
    sockets[1] = FakeSocket()
    result = run(lambda pkt: sockets.redirect(1, otherwise=XDP_PASS))
    assert (result.action, result.redirect) == (XDP_REDIRECT, ("sockets", 1))
    result = run(lambda pkt: sockets.redirect(2, otherwise=XDP_TX))
    assert (result.action, result.redirect) == (XDP_TX, None)
    assert run(lambda pkt: sockets.redirect(pkt.rx_queue_index), rx_queue=1).action is XDP_REDIRECT
    assert run(lambda pkt: sockets.redirect(9)).action is XDP_ABORTED
    assert sockets.initial_contents() == ((b"\1\0\0\0", b"\7\0\0\0"),)
    del sockets[1]
    assert run(lambda pkt: sockets.redirect(1)).action is XDP_ABORTED
    with pytest.raises(CompileError, match="otherwise= is one of"):
        run(lambda pkt: sockets.redirect(1, otherwise=XDP_REDIRECT))
    with pytest.raises(CompileError, match="only in a running program"):
        sockets.redirect(1)


def test_ring_buffer():
    def body(pkt):
        assert events.output(Event(kind=1, number=2)) == 0
        record = events.reserve()
        assert record is not None
        record.kind = 3
        record.number = u32(len(pkt))
        record.submit()
        dropped = events.reserve()
        assert dropped is not None
        dropped.discard()
        assert numbers.output(u32(5)) == 0

    run(body)
    assert list(events) == [Event(kind=1, number=2), Event(kind=3, number=64)]
    assert list(events) == []
    assert numbers.poll(0) == [5]

    def fill(pkt):
        failures = u32(0)
        for _ in range(300):
            if events.output(Event(kind=1, number=2)) != 0:
                failures += 1
        assert failures > 0
        assert events.output(Event(kind=1, number=2)) == s64(-11)
        assert events.reserve() is None

    run(fill)


def test_ring_buffer_records_must_be_finished_once():
    def leak(pkt):
        events.reserve()

    with pytest.raises(CompileError, match="a record of 'events' that was neither submitted nor discarded"):
        run(leak)

    def twice(pkt):
        record = events.reserve()
        assert record is not None
        record.submit()
        record.submit()

    with pytest.raises(CompileError, match="this record is gone: its record was given to submit"):
        run(twice)

    def after(pkt):
        record = events.reserve()
        assert record is not None
        record.discard()
        record.kind = 1

    with pytest.raises(CompileError, match="this view died: its record was given to discard"):
        run(after)
    with pytest.raises(CompileError, match=r"wants a structure; write output\(value\)"):
        run(lambda pkt: numbers.reserve())


def test_stores_come_and_go():
    counts[1] = 1
    assert counts.initial_contents() == ((b"\1\0\0\0", b"\1" + bytes(7)),)
    assert table.initial_contents() == ()
    table[1] = Hits(packets=1, bytes=0)
    assert [key for key, _ in table.initial_contents()] == [b"\1\0\0\0"]
    one, two = create_store(counts.spec), create_store(counts.spec)
    counts.bind(one)
    counts.bind(one)
    assert counts.is_bound
    assert 1 not in counts
    counts[2] = 2
    run(lambda pkt: counts.__setitem__(3, 3))
    assert sorted(int(k) for k in counts) == [2, 3]
    counts.bind(two)
    with pytest.raises(UsageError, match=r"'counts' belongs to 2 live loads.*collection\[counts\]"):
        counts[2]
    assert counts.view(one)[2] == 2
    counts.unbind(one)
    assert counts.get(2) is None
    counts.close()
    assert counts.get(1) is None


class KernelStore:
    """A store without live cells, as a map in the kernel is."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        if name == "lookup":
            raise AttributeError(name)
        return getattr(self.store, name)


def test_plain_python_does_not_run_on_a_kernel_map():
    counts.bind(KernelStore(create_store(counts.spec)))  # type: ignore[arg-type]
    counts[1] = 1
    assert counts[1] == 1
    with pytest.raises(UsageError, match="bound to a map in the kernel"):
        run(lambda pkt: counts.get(1) and None)


@pytest.mark.parametrize(
    ("action", "error", "text"),
    [
        (lambda: Hash[u32, u64](max_entries=1, name="a_name_too_long_"), UsageError, "has 16 characters"),
        (lambda: Hash[u32, u64](max_entries=1, name="a b"), UsageError, "letters, digits"),
        (lambda: Hash[u32, u64](max_entries=1).name, UsageError, 'give it name="..."'),
        (lambda: Hash[u32, u64](max_entries=0), UsageError, "max_entries is a positive number"),
        (lambda: Hash[u32](max_entries=1), CompileError, "takes key, value, not 1 types"),
        (lambda: Hash[u32, int](max_entries=1), CompileError, "int is not a type of the language"),
        (lambda: Hash(max_entries=1), CompileError, "write Hash[Key, Value](...)"),
        (lambda: LpmTrie[MAC, u32](max_entries=1), NotSupported, "keys are IPv4Addr or IPv6Addr"),
        (lambda: counts.__setitem__(-1, 1), CompileError, "-1 does not fit u32"),
        (lambda: counts.__setitem__(u64(1), 1), CompileError, "u32 is narrower than u64"),
        (lambda: counts.__setitem__(1, be16(1)), CompileError, ".to_host()"),
        (lambda: flows.get(5), CompileError, "a int is not a Flow"),
        (lambda: table.__setitem__(0, 5), CompileError, "a int is not a Hits"),
        (lambda: run(lambda pkt: len(counts)), CompileError, "a program cannot call len() of the map 'counts'"),
        (lambda: run(lambda pkt: list(counts.items())), CompileError, "a program cannot call items()"),
        (lambda: run(lambda pkt: list(events)), CompileError, "a program cannot read the ring buffer"),
        (lambda: run(lambda pkt: sockets.__delitem__(0)), CompileError, "a program cannot"),
    ],
)
def test_what_is_refused(action, error, text):
    with pytest.raises(error) as caught:
        action()
    assert text in caught.value.message


def test_every_facade_has_a_store():
    for kind in (Hash, LruHash, PerCpuHash, LruPerCpuHash):
        assert create_store(kind[u32, u64](max_entries=2, name="m").spec).spec.type == kind.map_type
