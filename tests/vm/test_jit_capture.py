"""Whole captures in native code give what the interpreter gives packet by packet."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from ebpfkit.asm.insn import Instruction, KfuncRef
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MachineFault, PcapError, UsageError
from ebpfkit.verifier import Report, verify_program
from ebpfkit.vm.jit_loop import CaptureTotals, repeat, run_capture
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.pcap import Packet, open_pcap

from .both import object_of

COUNTS = MapSpec("counts", "hash", 4, 8, 64)
COUNT_BY_LENGTH = """
    r7 = r1
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r8 = r3
    r8 -= r2
    *(u32 *)(r10 -4) = r8
    r1 = map[counts] ll
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    if r0 == 0 goto fresh
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    goto out
    fresh:
    *(u64 *)(r10 -16) = 1
    r1 = map[counts] ll
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    call bpf_map_update_elem#2
    out:
    r0 = r8
    r0 &= 3
    exit
"""
GROW = "r6 = r1\nr2 = -8\ncall bpf_xdp_adjust_head#44\nr1 = r6\nr2 = 4\ncall bpf_xdp_adjust_tail#65\nr0 = 2\nexit"
PACKETS = [Packet(bytes([n]) * (60 + n % 9), 1_700_000_000_000_000_000 + n * 1001, 60 + n % 9) for n in range(200)]


def capture(path: Path, packets: list[Packet], order: str = "<", nanoseconds: bool = True) -> Path:
    magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    with path.open("wb") as out:
        out.write(struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 1 << 18, 1))
        for packet in packets:
            seconds, rest = divmod(packet.time_ns, 1_000_000_000)
            out.write(struct.pack(f"{order}IIII", seconds, rest // unit, len(packet.data), packet.wire_length))
            out.write(packet.data)
    return path


def expected(asm: str, packets: list[Packet]) -> tuple[dict[int, int], int, list[bytes], object]:
    machine = Machine(object_of(asm, [COUNTS]))
    verdicts: dict[int, int] = {}
    insns, data = 0, []
    for packet in packets:
        result = machine.run(packet.data)
        verdicts[result.r0 & 0xFFFFFFFF] = verdicts.get(result.r0 & 0xFFFFFFFF, 0) + 1
        insns += result.insns or 0
        data.append(result.data)
    return verdicts, insns, data, sorted(machine.maps["counts"].items())


@pytest.mark.parametrize("asm", [COUNT_BY_LENGTH, GROW], ids=["counts", "grows"])
@pytest.mark.parametrize(("order", "nanoseconds"), [("<", True), (">", True), ("<", False), (">", False)])
def test_as_packet_by_packet(tmp_path: Path, asm: str, order: str, nanoseconds: bool) -> None:
    path = capture(tmp_path / "in.pcap", PACKETS, order, nanoseconds)
    machine = Machine(object_of(asm, [COUNTS]), jit="safe")
    out = io.BytesIO()
    totals = run_capture(machine, path, out=out)
    verdicts, insns, data, held = expected(asm, PACKETS)
    size = sum(len(packet.data) for packet in PACKETS)
    assert totals == CaptureTotals(len(PACKETS), size, insns, verdicts)
    assert sorted(machine.maps["counts"].items()) == held
    written = list(open_pcap(out.getvalue()))
    assert [packet.data for packet in written] == data
    unit = 1 if nanoseconds else 1000
    assert [packet.time_ns for packet in written] == [packet.time_ns // unit * unit for packet in PACKETS]


def test_trusted(tmp_path: Path) -> None:
    obj = object_of(COUNT_BY_LENGTH, [COUNTS])
    report = Report(tuple(verify_program(spec) for spec in obj.programs.values()))
    machine = Machine(obj, jit="trusted", report=report)
    totals = run_capture(machine, capture(tmp_path / "in.pcap", PACKETS))
    verdicts, _, _, held = expected(COUNT_BY_LENGTH, PACKETS)
    assert (totals.verdicts, totals.insns) == (verdicts, None)
    assert sorted(machine.maps["counts"].items()) == held


def test_packets_larger_than_a_page(tmp_path: Path) -> None:
    packets = [PACKETS[0], Packet(bytes(9000), 5, 9000), PACKETS[1], Packet(bytes(20_000), 6, 20_000), PACKETS[2]]
    out = io.BytesIO()
    machine = Machine(object_of(COUNT_BY_LENGTH, [COUNTS]), jit="safe")
    totals = run_capture(machine, capture(tmp_path / "in.pcap", packets), out=out)
    verdicts, insns, data, held = expected(COUNT_BY_LENGTH, packets)
    assert (totals.verdicts, totals.insns, totals.packets) == (verdicts, insns, 5)
    assert [packet.data for packet in open_pcap(out.getvalue())] == data
    assert sorted(machine.maps["counts"].items()) == held


def test_pcapng(tmp_path: Path) -> None:
    def block(kind: int, body: bytes) -> bytes:
        size = len(body) + 12
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    data = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("<HHI", 1, 0, 0))
    for packet in PACKETS:
        padded = packet.data + bytes(-len(packet.data) % 4)
        data += block(6, struct.pack("<IIIII", 0, 0, 7, len(packet.data), len(packet.data)) + padded)
    path = tmp_path / "in.pcapng"
    path.write_bytes(data)
    totals = run_capture(Machine(object_of(COUNT_BY_LENGTH, [COUNTS]), jit="safe"), path)
    assert (totals.packets, totals.verdicts) == (200, expected(COUNT_BY_LENGTH, PACKETS)[0])


def test_a_fault_in_the_middle_stops(tmp_path: Path) -> None:
    asm = "r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +64)\nr0 = 2\nexit"
    with pytest.raises(MachineFault, match="offset 64 of the packet, which has 60 bytes"):
        run_capture(Machine(object_of(asm), jit="safe"), capture(tmp_path / "in.pcap", PACKETS[5:]))


@pytest.mark.parametrize(
    ("tail", "where"), [(b"\0" * 7, "offset 100"), (struct.pack("<IIII", 0, 0, 70, 70), "offset 100")]
)
def test_a_capture_that_is_cut_off(tmp_path: Path, tail: bytes, where: str) -> None:
    path = capture(tmp_path / "in.pcap", PACKETS[:1])
    path.write_bytes(path.read_bytes() + tail)
    with pytest.raises(PcapError, match=where):
        run_capture(Machine(object_of("r0 = 2\nexit"), jit="safe"), path)


def test_what_it_is_not_for(tmp_path: Path) -> None:
    path = capture(tmp_path / "in.pcap", PACKETS[:1])
    with pytest.raises(UsageError, match="no JIT"):
        run_capture(Machine(object_of("r0 = 2\nexit")), path)
    with pytest.raises(UsageError, match="XDP"):
        run_capture(Machine(parse("r0 = 0\nexit"), "sched_cls", jit="safe"), path)
    with pytest.raises(PcapError, match="No such file"):
        run_capture(Machine(object_of("r0 = 2\nexit"), jit="safe"), tmp_path / "missing.pcap")
    (tmp_path / "short.pcap").write_bytes(b"\xd4\xc3\xb2\xa1")
    with pytest.raises(PcapError, match="cut off"):
        run_capture(Machine(object_of("r0 = 2\nexit"), jit="safe"), tmp_path / "short.pcap")


def test_repeat_runs_as_often_as_it_is_told() -> None:
    machine = Machine(object_of(COUNT_BY_LENGTH, [COUNTS]), jit="safe")
    assert repeat(machine, bytes(64), 1000) == 0
    assert machine.maps["counts"].get((64).to_bytes(4, "little")) == (1001).to_bytes(8, "little")


def test_records_across_the_edges_of_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets are told apart wherever they lie: what one run printed and held is forgotten by the next."""
    path = capture(tmp_path / "in.pcap", [*PACKETS, Packet(bytes(5000), PACKETS[-1].time_ns, 5000), *PACKETS[:3]])
    obj = object_of(COUNT_BY_LENGTH.replace("r0 &= 3", "r0 &= 7"), [COUNTS])
    whole = run_capture(Machine(obj, jit="safe"), path)
    for size in (16, 90, 100, 4096):
        monkeypatch.setattr("ebpfkit.vm.jit_loop._CHUNK", size)
        assert run_capture(Machine(obj, jit="safe"), path) == whole
    assert whole.packets == 204


def test_a_capture_that_is_cut_while_it_is_walked_ends_early(tmp_path: Path) -> None:
    path = capture(tmp_path / "in.pcap", PACKETS * 200)
    size = path.stat().st_size

    def cut() -> int:
        with path.open("r+b") as stream:
            stream.truncate(size - 1_000_000)
        return 5

    machine = Machine(object_of("call bpf_ktime_get_ns#5\nr0 = 2\nexit"), jit="safe", clock=cut)
    try:
        packets = run_capture(machine, path).packets
    except PcapError as error:
        assert "cut off" in error.message
    else:
        assert 0 < packets < 40_000


def test_runs_at_the_same_place_of_a_chunk_are_different_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynptrs end with their run, also when the next packet lies where the last one lay."""
    monkeypatch.setattr("ebpfkit.vm.jit_loop._CHUNK", 16 + len(PACKETS[0].data))
    asm = "r1 = r10\nr1 += -8\nr2 = 8\nr3 = 0\nr4 = r10\nr4 += -32\ncall bpf_dynptr_from_mem#197\nr0 = 2\nexit"
    machine = Machine(parse(asm), jit="safe")
    seen = []
    machine.objects.reset = lambda: seen.append(len(machine.objects.dynptrs))  # type: ignore[method-assign]
    run_capture(machine, capture(tmp_path / "in.pcap", [PACKETS[0]] * 5))
    assert len(seen) >= 5


def test_programs_that_throw_are_counted_by_what_they_throw(tmp_path: Path) -> None:
    throw = Instruction(OPCODES["CALL_KFUNC"], ref=KfuncRef("bpf_throw"))
    program = [
        *parse("r2 = *(u32 *)(r1 +0)\nr3 = *(u8 *)(r2 +0)\nr0 = 1\nif r3 > 99 goto +2\nr1 = 2"),
        throw,
        *parse("exit"),
    ]
    path = capture(tmp_path / "in.pcap", [*PACKETS, Packet(bytes(5000), PACKETS[-1].time_ns, 5000)])
    totals = run_capture(Machine(program, jit="safe"), path)
    machine = Machine(program)
    with open_pcap(path) as packets:
        runs = [machine.run(packet.data) for packet in packets]
    assert totals.verdicts == {1: 100, 2: 101}
    assert totals.insns == sum(run.insns or 0 for run in runs)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_output_has_the_link_type_of_the_capture(tmp_path: Path, order: str) -> None:
    raw = 101
    head = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, raw)
    path, out = tmp_path / "in.pcap", io.BytesIO()
    path.write_bytes(head + struct.pack(f"{order}IIII", 1, 2, 20, 20) + bytes(20))
    machine = Machine(parse("r0 = 2\nexit"), jit="safe")
    run_capture(machine, path, out=out)
    (packet,) = open_pcap(out.getvalue())
    assert (packet.link_type, packet.time_ns, packet.data) == (raw, 1_000_002_000, bytes(20))
