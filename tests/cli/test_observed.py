"""`run --trace`, `run --coverage` and `diff-run`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebpfkit.vm.pcap import PcapWriter

from .conftest import Command

ROOT = Path(__file__).parent.parent.parent
FIREWALL = ROOT / "programs" / "firewall.py"
PACKET = "ff" * 6 + "00" * 6 + "0800" + "4500001400000000401100000102" + "0304c0000201" + "00" * 30


def test_a_trace_shows_registers_and_memory(ebpfkit: Command) -> None:
    done = ebpfkit("run", FIREWALL, "--packet", PACKET, "--trace")
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0] == "packet 1, 64 bytes"
    assert any("value of map 'seen'+0=0x1" in line for line in lines)
    assert lines[-1].startswith("packet 1: XDP_PASS, ") and int(lines[-1].split()[3]) == len(lines) - 2


def test_coverage_marks_what_never_ran(ebpfkit: Command, tmp_path: Path) -> None:
    done = ebpfkit("run", FIREWALL, "--packet", PACKET, "--coverage", "--repeat", 3)
    assert done.status == 0 and "6 of 9 lines ran (67%)" in done.out
    assert any("-----" in line and "atomic_add" in line for line in done.out.splitlines())
    assert any(line.split()[:2] == ["3", "26"] for line in done.out.splitlines())


def test_trace_and_coverage_as_json(ebpfkit: Command) -> None:
    document = ebpfkit("run", FIREWALL, "--packet", PACKET, "--trace", "--coverage", "--json").json
    (packet,) = document["packets"]
    assert packet["action"] == "XDP_PASS" and len(packet["trace"]) == packet["insns"]
    assert {"place": "value of map 'seen'+0", "size": 8, "value": 1} in [step["write"] for step in packet["trace"]]
    assert document["coverage"]["percent"] == 66.67 and document["maps"]["seen"]


def test_watching_is_for_the_interpreter(ebpfkit: Command) -> None:
    done = ebpfkit("run", FIREWALL, "--packet", PACKET, "--trace", "--jit")
    assert done.status == 2 and "go without --jit" in done.err


def test_executors_agree_on_a_capture(ebpfkit: Command, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    with PcapWriter(path) as writer:
        for data in (bytes.fromhex(PACKET), b"short", bytes(60)):
            writer.write(data)
    done = ebpfkit("diff-run", FIREWALL, "--pcap", path)
    assert done.status == 0
    assert done.out.startswith("firewall: python, interpreter, jit agree on 3 packets\n2 XDP_PASS, 1 XDP_DROP\n")
    document = ebpfkit("diff-run", FIREWALL, "--pcap", path, "--on", "interpreter,jit", "--json").json
    assert document["agree"] and document["executors"] == ["interpreter", "jit"]
    assert document["insns"]["interpreter"] == document["insns"]["jit"] > 0


@pytest.mark.kernel
def test_the_kernel_agrees(ebpfkit: Command) -> None:
    done = ebpfkit("diff-run", FIREWALL, "--packet", PACKET, "--on", "python,kernel", "--maps-after-each")
    assert done.status == 0 and "python, kernel agree on 1 packet" in done.out
    few = ebpfkit("diff-run", FIREWALL, "--packet", "00", "--on", "python,kernel")
    assert few.status == 0 and "agree on 0 packets (1 more that kernel cannot be given)" in few.out


CLOCK = """
import ebpfkit as bpf
from ebpfkit import Packet, helpers

LICENSE = "GPL"


@bpf.xdp
def clock(pkt: Packet) -> bpf.XdpAction:
    return bpf.XDP_DROP if helpers.ktime_get_ns() > 1000 else bpf.XDP_PASS
"""


@pytest.fixture
def clocked(tmp_path: Path) -> tuple[Path, Path]:
    """A program that asks for the time, and a capture of a packet from long ago."""
    text, raw = tmp_path / "clock.py", tmp_path / "in.pcap"
    text.write_text(CLOCK)
    with PcapWriter(raw) as writer:
        writer.write(bytes(60), time_ns=5)
    return text, raw


def test_the_time_is_that_of_the_packet(ebpfkit: Command, clocked: tuple[Path, Path]) -> None:
    done = ebpfkit("diff-run", clocked[0], "--pcap", clocked[1])
    assert done.status == 0 and "1 XDP_PASS" in done.out


@pytest.mark.kernel
def test_a_difference_is_status_1(ebpfkit: Command, clocked: tuple[Path, Path]) -> None:
    """The kernel has a clock of its own."""
    done = ebpfkit("diff-run", clocked[0], "--pcap", clocked[1], "--on", "interpreter,kernel")
    assert done.status == 1
    assert "packet 1: kernel and interpreter differ in the verdict: XDP_DROP, not XDP_PASS" in done.out


def test_wrong_arguments(ebpfkit: Command) -> None:
    assert "needs two executors" in ebpfkit("diff-run", FIREWALL, "--packet", PACKET, "--on", "python").err
    assert "no executor 'moon'" in ebpfkit("diff-run", FIREWALL, "--packet", PACKET, "--on", "python,moon").err
    assert ebpfkit("diff-run", FIREWALL).status == 2
    assert ebpfkit("diff-run", FIREWALL, "--packet", "zz").status == 2
