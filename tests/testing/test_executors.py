"""Programs in every executor: the same verdicts, bytes and maps; assertions that say what they found."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

import ebpfkit.testing.diff as diff
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import NotSupported, UsageError
from ebpfkit.testing import (
    Bench,
    Executor,
    FakeClock,
    FakeRandom,
    Subject,
    diff_run,
    open_executor,
    packets_of,
    subject_of,
)
from ebpfkit.testing.strategies import packets
from ebpfkit.vm.pcap import Packet, PcapWriter

PROGRAMS = Path(__file__).parent.parent.parent / "programs"
FIREWALL = PROGRAMS / "firewall.py"
TCP_PACKET = Ether(dst="02:00:00:00:00:01") / IP(src="192.0.2.9", dst="10.0.0.1") / TCP(dport=80) / b"hello, world"
UDP_PACKET = Ether() / IP(src="198.51.100.1", dst="10.0.0.1") / UDP(dport=53) / b"a question of some length"
EVERYWHERE = ["python", "interpreter", "jit", pytest.param("kernel", marks=pytest.mark.kernel)]
DROP, PASS, ABORTED = 1, 2, 0


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


@pytest.mark.parametrize("on", EVERYWHERE)
def test_a_file_in_every_executor(bench: Bench, on: str) -> None:
    first = bench.run(FIREWALL, TCP_PACKET, on)
    first.expect(action=PASS, data=bytes(TCP_PACKET))
    assert sum(first.maps["seen"][6]) == 1
    second = bench.run(FIREWALL, UDP_PACKET, on).expect(action=PASS)
    assert sum(second.maps["seen"][17]) == 1 and sum(second.maps["seen"][6]) == 1  # maps stay from packet to packet
    if on == "kernel":
        with pytest.raises(UsageError, match="from 14 bytes on"):
            bench.run(FIREWALL, b"short", on)
    else:
        bench.run(FIREWALL, b"short", on).expect(action=DROP)


def test_what_user_space_put_into_maps_is_there_and_stays_as_it_was(bench: Bench) -> None:
    from programs.firewall import Hits, blocked, firewall

    blocked["192.0.2.0/24"] = Hits.zero()
    try:
        for on in ("python", "interpreter", "jit"):
            outcome = bench.run(firewall, TCP_PACKET, on).expect(action=DROP)
            ((key, value),) = outcome.maps["blocked"].items()
            assert str(key) == "192.0.2.0/24" and value.packets == 1
        assert blocked["192.0.2.0/24"].packets == 0
        assert bench.diff_run(firewall, [TCP_PACKET, UDP_PACKET, b"x"]).packets == 3
    finally:
        del blocked["192.0.2.0/24"]


ASSERTIONS = [
    ({"action": DROP}, "the verdict is XDP_PASS, not XDP_DROP"),
    ({"data": b"x"}, "the packet has 66 bytes, not 1"),
    ({"data": bytes(66)}, "byte 0 of the packet is 0x02, not 0x00"),
    ({"max_insns": 3}, "3 are allowed"),
    ({"maps": {"nothing": {}}}, "there is no map 'nothing'; there are"),
    ({"maps": {"seen": {6: [9]}}}, r"seen\[6\] is .*1.*, not \[9\]"),
]


@pytest.mark.parametrize(("expected", "message"), ASSERTIONS)
def test_assertions_say_what_they_found(bench: Bench, expected: dict[str, object], message: str) -> None:
    outcome = bench.run(FIREWALL, TCP_PACKET)
    with pytest.raises(AssertionError, match=message):
        outcome.expect(**expected)  # type: ignore[arg-type]


def test_a_budget_of_instructions(bench: Bench) -> None:
    outcome = bench.run(FIREWALL, TCP_PACKET)
    assert outcome.insns is not None
    outcome.expect(max_insns=outcome.insns)
    report = bench.verify(FIREWALL, max_insns=1000)
    with pytest.raises(AssertionError, match="are allowed"):
        bench.verify(FIREWALL, max_insns=report.insns_processed - 1)
    with pytest.raises(AssertionError, match="does not count"):
        bench.run(FIREWALL, TCP_PACKET, "python").expect(max_insns=1)


def test_a_rejection_is_an_assertion(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="reject on 6"):
        bench.verify(parse("r0 = *(u64 *)(r1 +4096)\nexit"))


CLOCKED = "call bpf_ktime_get_ns\nr0 &= 0xffff\nexit"
RANDOM = "call bpf_get_prandom_u32\nexit"


def test_clock_and_random_numbers_are_the_callers(bench: Bench) -> None:
    program, chance = parse(CLOCKED), parse(RANDOM)
    assert bench.run(program, bytes(14)).action == 0
    bench.clock.advance(ns=77)
    assert bench.run(program, bytes(14)).action == 77
    bench.numbers.numbers = (5, 6)
    assert [bench.run(chance, bytes(14)).action for _ in range(2)] == [5, 6]
    assert diff_run(program, [Packet(bytes(14), 123)], ["interpreter", "jit"]).ok
    with open_executor(subject_of(program), "interpreter") as executor:
        assert executor.run(bytes(14), 123).action == 123
    same = [FakeRandom(seed=3).getrandbits(32) for _ in range(2)]
    assert same[0] == same[1] and FakeRandom([1], 9).fork().numbers == (1,)
    clock = FakeClock()
    clock.advance(seconds=1.5)
    assert clock() == 1_500_000_000


def test_coverage_of_what_ran(bench: Bench) -> None:
    bench.run(FIREWALL, b"short")
    before = len(bench.coverage(FIREWALL).missed)
    bench.run(FIREWALL, TCP_PACKET)
    missed = bench.coverage(FIREWALL).missed
    assert 0 < len(missed) < before
    assert any("atomic_add" in line.text for line in missed)


def test_a_fault_is_an_outcome(bench: Bench) -> None:
    program = parse("r0 = *(u64 *)(r10 -8)\nr1 = 0\nr0 = *(u64 *)(r1 +0)\nexit")
    outcome = bench.run(program, b"x")
    assert "null" in outcome.fault
    with pytest.raises(AssertionError, match="null"):
        outcome.expect(action=0)
    assert diff_run(program, b"x", ["interpreter", "jit"]).ok


def test_a_capture_is_run_packet_by_packet(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    with PcapWriter(path) as writer:
        for packet in (TCP_PACKET, UDP_PACKET, b"short"):
            writer.write(bytes(packet), seconds=1)
    assert [outcome.action for outcome in bench.run_all(FIREWALL, path)] == [PASS, PASS, DROP]
    assert [packet.data for packet in packets_of([path, b"x", TCP_PACKET])][3:] == [b"x", bytes(TCP_PACKET)]
    assert diff_run(FIREWALL, path).packets == 3
    with pytest.raises(UsageError, match="takes one packet, not 3"):
        bench.run(FIREWALL, path)
    with pytest.raises(UsageError, match="is no packet"):
        bench.run(FIREWALL, 5)  # type: ignore[arg-type]


WRONG = [
    ({"action": 1}, "the verdict", "XDP_DROP, not XDP_PASS"),
    ({"data": bytes(19)}, "the bytes", "the packet has 19 bytes, not 20"),
    (
        {"data": bytes(7) + b"x" + bytes(12)},
        "the bytes",
        "byte 7 of the packet is 0x78, not 0x00 (...00 00 00 00 78 00 00 00 00 00 00 00...)",
    ),
    ({"fault": "stopped"}, "a fault", "stopped"),
]


@pytest.mark.parametrize(("change", "what", "message"), WRONG)
def test_a_difference_is_found_and_named(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], what: str, message: str
) -> None:
    """One executor is made to say something else on the second packet."""

    def open_wrong(subject: Subject, on: str, **options: Any) -> Executor:
        executor = open_executor(subject, on, **options)
        if on == "jit":
            right, count = executor.run, itertools.count(1)
            wrong = lambda *given: replace(right(*given), **(change if next(count) == 2 else {}))  # noqa: E731
            monkeypatch.setattr(executor, "run", wrong)
        return executor

    monkeypatch.setattr(diff, "open_executor", open_wrong)
    found = diff_run(parse("r0 = 2\nexit"), [bytes(20)] * 3, ["interpreter", "jit"])
    assert [(one.packet, one.executor, one.what, one.message) for one in found.differences] == [
        (2, "jit", what, message)
    ]
    with pytest.raises(AssertionError, match=f"packet 2: jit and interpreter differ in {what}"):
        found.check()


def test_a_difference_of_maps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = MapSpec("hits", "array", 4, 8, 2)
    text = "*(u32 *)(r10 -4) = 1\nr1 = map[hits] ll\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem\n"
    text += "if r0 == 0 goto out\ncall bpf_get_prandom_u32\nr6 = r0\nr1 = map[hits] ll\nr2 = r10\nr2 += -4\n"
    text += "call bpf_map_lookup_elem\nif r0 == 0 goto out\n*(u64 *)(r0 +0) = r6\nout: r0 = 2\nexit"
    chances = iter((FakeRandom([5]), FakeRandom([6])))

    def open_wrong(subject: Subject, on: str, **options: Any) -> Executor:
        return open_executor(subject, on, **{**options, "numbers": next(chances)})

    monkeypatch.setattr(diff, "open_executor", open_wrong)
    subject = subject_of(parse(text), maps=[hits])
    (found,) = diff_run(subject, bytes(20), ["interpreter", "jit"]).differences
    assert str(found) == (
        "at the end: jit and interpreter differ in map 'hits': "
        "key 01 00 00 00 is 06 00 00 00 00 00 00 00, not 05 00 00 00 00 00 00 00"
    )
    chances = iter((FakeRandom([5]), FakeRandom([6])))
    (found,) = diff_run(subject, bytes(20), ["interpreter", "jit"], maps_after_each=True).differences
    assert found.packet == 1


def test_wrong_arguments_say_so() -> None:
    with pytest.raises(UsageError, match="no executor 'moon'"):
        open_executor(subject_of(parse("exit")), "moon")
    with pytest.raises(UsageError, match="needs two executors"):
        diff_run(parse("exit"), b"", ["python"])
    with pytest.raises(NotSupported, match="no Python function"):
        diff_run(parse("exit"), b"", ["python", "interpreter"])
    with pytest.raises(UsageError, match="cannot be tested"):
        subject_of(5)
    with pytest.raises(UsageError, match="has no 'nothing', but steer"):
        subject_of(PROGRAMS / "xsk_echo.py", "nothing")


@pytest.mark.parametrize("name", ["firewall", "vlan", "counters"])
def test_executors_agree_on_any_packet(name: str) -> None:
    subject = subject_of(PROGRAMS / f"{name}.py")
    executors = [open_executor(subject, on) for on in ("python", "interpreter", "jit")]

    @settings(max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(packets())
    def law(packet: bytes) -> None:
        first, *others = [executor.run(packet) for executor in executors]
        for other in others:
            assert (other.action, other.data) == (first.action, first.data)

    law()
    first, *others = executors
    assert all(other.raw_maps == first.raw_maps for other in others)


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["firewall", "vlan", "counters", "swap_macs"])
def test_the_kernel_agrees_on_any_packet(name: str) -> None:
    found: list[bytes] = []

    @settings(max_examples=40, derandomize=True, deadline=None, database=None)
    @given(packets(min_size=14))
    def collect(packet: bytes) -> None:
        found.append(packet)

    collect()
    report = diff_run(PROGRAMS / f"{name}.py", found, ["python", "interpreter", "jit", "kernel"], maps_after_each=True)
    assert report.check().packets == len(found) >= 40


# --- what a test prepares ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "on", ["python", "interpreter", "jit", "trusted", pytest.param("kernel", marks=pytest.mark.kernel)]
)
def test_entries_are_put_into_maps_before_and_between_packets(bench: Bench, on: str) -> None:
    from programs.firewall import Hits, blocked, firewall

    bench.fill(firewall, {"seen": {6: 41}})
    bench.run(firewall, TCP_PACKET, on).expect(action=PASS)
    assert sum(bench.executor(firewall, on).maps["seen"][6]) == 42
    bench.fill(firewall, {"blocked": {"192.0.2.0/24": Hits(packets=5, bytes=0)}})
    bench.run(firewall, TCP_PACKET, on).expect(action=DROP)
    ((key, value),) = bench.executor(firewall, on).maps["blocked"].items()
    assert str(key) == "192.0.2.0/24" and value.packets == 6
    assert len(blocked) == 0  # the module's own
    with pytest.raises(UsageError, match="there is no map 'other'; there are seen, blocked"):
        bench.fill(firewall, {"other": {}})


def test_entries_are_compared_too(bench: Bench) -> None:
    from programs.firewall import Hits, firewall

    bench.fill(firewall, {"blocked": {"192.0.2.0/24": Hits.zero()}})
    report = bench.diff_run(firewall, TCP_PACKET, ["python", "interpreter", "jit", "trusted"])
    assert report.actions == {"XDP_DROP": 1}


def test_entries_of_an_object_are_bytes(bench: Bench) -> None:
    spec = MapSpec("m", "hash", 4, 8, 4)
    subject = subject_of(
        parse("r1 = map[m] ll\nr2 = r10\nr2 += -4\n*(u32 *)(r10 -4) = 7\ncall bpf_map_lookup_elem#1\n"
              "if r0 == 0 goto out\nr0 = *(u64 *)(r0 +0)\nout:\nexit"),
        maps=[spec],
    )  # fmt: skip
    bench.fill(subject, {"m": {(7).to_bytes(4, "little"): (9).to_bytes(8, "little")}})
    assert bench.run(subject, b"", "interpreter").action == 9


def test_fields_of_the_context_are_set(bench: Bench) -> None:
    reads = parse("r0 = *(u32 *)(r1 +16)\nexit")
    bench.context["rx_queue_index"] = 3
    for on in ("interpreter", "jit"):
        assert bench.run(reads, b"", on).action == 3


@pytest.mark.kernel
def test_the_kernels_context_cannot_be_set(bench: Bench) -> None:
    bench.context["rx_queue_index"] = 3
    with pytest.raises(NotSupported, match="BPF_PROG_TEST_RUN shows the loopback device"):
        bench.run(parse("r0 = 2\nexit"), bytes(14), "kernel")


def test_where_packets_are_sent(bench: Bench) -> None:
    sends = parse("r1 = 7\nr2 = 0\ncall bpf_redirect#23\nexit")
    for on in ("interpreter", "jit", "trusted"):
        bench.run(sends, bytes(14), on).expect(action=4, redirect=("", 7))
    with pytest.raises(AssertionError, match=r"redirected to \('', 7\), not \('', 8\)"):
        bench.run(sends, bytes(14)).expect(redirect=("", 8))
    assert bench.diff_run(sends, bytes(14), ["interpreter", "jit"]).ok


def test_trusted_code_is_for_what_the_verifier_accepts(bench: Bench) -> None:
    from ebpfkit.errors import VerifierError

    with pytest.raises(VerifierError, match="R0"):
        bench.run(parse("exit"), bytes(14), "trusted")
