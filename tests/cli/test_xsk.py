"""`ebpfkit xsk`: rates and totals on a veth pair, captures that other tools read, and who has sockets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ebpfkit.testing import VethLab
from ebpfkit.vm.pcap import PcapReader
from ebpfkit.xsk import XskGroup
from ebpfkit.xsk.capture import describe_packet
from tests.cli.conftest import Command
from tests.xsk.conftest import HEADER, Far


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ebpfkit", "xsk", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.kernel
def test_rxdrop_counts_what_txonly_sends() -> None:
    with VethLab(queues=2) as lab:
        with lab.near.enter():
            receiver = start("rxdrop", lab.near_dev, "--interval", 0.5)
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "rxdrop on queues 0, 1, copy mode; Ctrl-C ends\n", receiver.communicate()
        with lab.far.enter():
            sender = start("txonly", lab.far_dev, "--count", 1000, "--rate", 5000, "--json", "--queues", "0,1")
            output, errors = sender.communicate(timeout=20)
        assert sender.returncode == 0, errors
        found = json.loads(output)
        assert (found["sent"], found["queues"]) == (2000, [0, 1])
        assert {"received", "sent", "seconds", "lost"} == set(found["samples"][0])
        time.sleep(0.3)
        receiver.send_signal(signal.SIGINT)
        output, errors = receiver.communicate(timeout=20)
        assert receiver.returncode == 0, errors
        assert "2,000 received, 0 sent, 0 lost" in output
        assert output.startswith("rx ")


@pytest.mark.kernel
def test_l2fwd_sends_back_for_its_time() -> None:
    with VethLab() as lab:
        with lab.near.enter():
            process = start("l2fwd", lab.near_dev, "--seconds", 3, "--json", "--attach", "skb")
        with lab.far.enter(), XskGroup(lab.far_dev) as group:
            deadline, back = time.monotonic() + 10, 0
            while back < 20 and time.monotonic() < deadline:
                group[0].send(HEADER + b"forth")
                for frame in group[0].receive(0.2):
                    assert bytes(frame) == HEADER[6:12] + HEADER[:6] + HEADER[12:] + b"forth"
                    back += 1
            assert back == 20
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
        found = json.loads(output)
        assert found["received"] == found["sent"] >= 20 and 2.9 < found["seconds"] < 8


@pytest.mark.kernel
def test_dump_prints_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "dump.pcapng"
    with VethLab() as lab:
        far = Far(lab)
        for arguments in ((), ("-w", path)):
            with lab.near.enter():
                process = start("dump", lab.near_dev, "-c", 3, "--seconds", 20, *arguments)
                while not far_is_read(lab):
                    time.sleep(0.01)
            far.send(b"one", b"two", b"three")
            output, errors = process.communicate(timeout=30)
            assert process.returncode == 0 and errors == "3 packets\n"
            lines = output.splitlines()
            line = "queue 0  02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff  0x88b5  17 bytes"
            assert lines == [] if arguments else lines[0] == line
        far.close()
    with VethLab() as lab:
        far = Far(lab)
        with lab.near.enter():
            process = start("dump", lab.near_dev, "-c", 1, "--seconds", 20, "--json")
            while not far_is_read(lab):
                time.sleep(0.01)
        far.send(b"!")
        (packet,) = json.loads(process.communicate(timeout=30)[0])["packets"]
        assert packet == {"queue": 0, "length": 15, "data": (HEADER + b"!").hex()}
        far.close()
    with open(path, "rb") as file:
        assert [packet.data for packet in PcapReader(file)] == [HEADER + text for text in (b"one", b"two", b"three")]


def far_is_read(lab: VethLab) -> bool:
    from ebpfkit.kernel import netlink

    return bool(netlink.find_device(lab.near_dev).xdp.program_id)


@pytest.mark.kernel
def test_stats_finds_the_sockets_of_all_processes(ebpfkit: Command) -> None:
    with VethLab() as lab:
        far = Far(lab)
        with lab.near.enter(), XskGroup(lab.near_dev, rx_size=2, frame_size=2048) as group:
            far.send(*[b"x"] * 5)
            time.sleep(0.05)
            done = ebpfkit("xsk", "stats", "--json")
            assert done.status == 0, done.err
            import os

            (mine,) = [row for row in done.json if row["pid"] == os.getpid()]
            assert mine["descriptor"] == group[0].fileno() and mine["zero_copy"] is False
            assert mine["statistics"]["rx_ring_full"] == group.statistics().rx_ring_full == 3
            text = ebpfkit("xsk", "stats").out
            assert f"process {os.getpid()} (" in text and "! 3 packets dropped with the RX ring full" in text
        far.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("txonly", "lo", "--packet", "zz"), "hexadecimal digits"),
        (("txonly", "lo", "--packet", "aabb"), "14 bytes at least"),
        (("rxdrop", "lo", "--queues", "a"), "numbers with commas"),
    ],
)
def test_what_cannot_be_asked(ebpfkit: Command, arguments: tuple[str, ...], words: str) -> None:
    done = ebpfkit("xsk", *arguments)
    assert done.status == 2 and words in done.err


@pytest.mark.kernel
def test_a_device_that_is_not_there(ebpfkit: Command) -> None:
    assert ebpfkit("xsk", "rxdrop", "nosuch0").status == 3


def test_short_packets_are_described() -> None:
    assert describe_packet(b"abc") == "3 bytes, too short for Ethernet"
