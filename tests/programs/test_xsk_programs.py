"""The AF_XDP examples as a user runs them: processes of their own on veth pairs, and Ctrl-C."""

from __future__ import annotations

import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRROPT
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from ebpfkit.testing import VethLab, ping, udp_exchange
from ebpfkit.vm.pcap import PcapReader
from ebpfkit.xsk import XskGroup
from tests.xsk.conftest import HEADER, Far

pytestmark = pytest.mark.kernel
PROGRAMS = Path(__file__).parents[2] / "programs"


@contextmanager
def running(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAMS / name), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        started = process.stdout.readline()
        assert started.endswith("Ctrl-C ends\n"), process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert (errors, process.returncode) == ("", 0)
    return output


@pytest.fixture
def pair() -> Iterator[tuple[VethLab, Far]]:
    with VethLab() as lab:
        far = Far(lab)
        yield lab, far
        far.close()


def test_rxdrop(pair: tuple[VethLab, Far]) -> None:
    lab, far = pair
    with lab.near.enter(), running("xsk_rxdrop.py", lab.near_dev) as process:
        far.send(*[b"x"] * 200)
        time.sleep(0.3)
        assert end(process) == "200 received, 0 lost\n"


def test_l2fwd(pair: tuple[VethLab, Far]) -> None:
    lab, far = pair
    with lab.far.enter():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        raw.bind((lab.far_dev, 0x88B5))
        raw.settimeout(5)
    with lab.near.enter(), running("xsk_l2fwd.py", lab.near_dev) as process, raw:
        for number in range(50):
            far.send(bytes([number]))
            assert raw.recv(100) == HEADER[6:12] + HEADER[:6] + HEADER[12:] + bytes([number])
        assert end(process) == "50 sent back, 0 lost\n"


def test_txonly(pair: tuple[VethLab, Far]) -> None:
    lab, _ = pair
    with lab.far.enter(), XskGroup(lab.far_dev) as group, lab.near.enter():
        command = [sys.executable, str(PROGRAMS / "xsk_txonly.py"), lab.near_dev, "1000"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        came = 0
        while len(batch := group[0].receive_batch(timeout=3)):
            came += len(batch)
            group[0].release_batch(batch)
        output, _ = process.communicate(timeout=10)
        assert re.fullmatch(r"1000 sent, [\d,]+ a second\n", output)
        assert came + group.statistics().lost == 1000


def test_a_host_that_is_not_there_answers(pair: tuple[VethLab, Far]) -> None:
    lab, _ = pair
    with lab.near.enter(), running("xsk_responder.py", lab.near_dev, "10.77.0.99") as process:
        with lab.far.enter():
            assert ping("10.77.0.99", count=3) == 3
            neighbours = subprocess.run(["ip", "neigh"], capture_output=True, text=True, check=True).stdout
            assert "10.77.0.99 dev far0 lladdr 02:00:00:00:00:63" in neighbours
            assert ping("10.77.0.98", count=1, timeout=0.2) == 0
        assert end(process) == "4 answered\n"  # one for ARP


def test_capture(tmp_path: Path) -> None:
    path = tmp_path / "taken.pcapng"
    with VethLab(mtu=9000) as lab:
        far = Far(lab)
        payloads = [bytes([number]) * size for number, size in enumerate((10, 60, 1000, 5000, 8900))]
        with lab.near.enter(), running("xsk_capture.py", lab.near_dev, path, 5) as process:
            before = time.time_ns()
            far.send(*payloads)
            output, errors = process.communicate(timeout=20)
            assert (output, errors) == ("5 packets, 0 lost\n", "")
        far.close()
    with open(path, "rb") as file:
        packets = list(PcapReader(file))
    assert [packet.data for packet in packets] == [HEADER + payload for payload in payloads]
    assert all(before - 10**9 < packet.time_ns < time.time_ns() for packet in packets)


def test_the_generator_keeps_its_rate(pair: tuple[VethLab, Far]) -> None:
    lab, _ = pair
    with lab.far.enter():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("10.77.0.2", 9))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.settimeout(5)
        with open("/proc/sys/net/ipv4/conf/far0/rp_filter", "w") as setting:
            setting.write("0")
        with open("/sys/class/net/lo/address"):
            mac = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        mac.bind((lab.far_dev, 0))
        address = mac.getsockname()[4].hex(":")
        mac.close()
        subprocess.run(["ip", "route", "add", "192.0.2.0/24", "dev", "far0"], check=True)
    with receiver, lab.near.enter():
        command = [
            sys.executable,
            str(PROGRAMS / "xsk_generator.py"),
            lab.near_dev,
            address,
            "10.77.0.2",
            "2000",
            "1000",
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        numbers, times = [], []
        for _ in range(1000):
            number, sent = struct.unpack("!QQ2x", receiver.recv(100))
            numbers.append(number)
            times.append(sent)
        output, _ = process.communicate(timeout=10)
    assert numbers == list(range(1000))
    assert 0.45 < (times[-1] - times[0]) / 1e9 < 1.0  # 1000 packets at 2000 a second, on a machine with other work
    assert output.startswith("1000 sent in 0.")


def test_the_bridge_joins_two_wires() -> None:
    with VethLab() as one, VethLab(near_address="", far_address="10.77.0.3/24") as other:
        subprocess.run(
            ["nsenter", f"--net={other.near.path}", "ip", "link", "set", other.near_dev, "name", "near1", "netns",
             f"/proc/self/fd/{one.near.fileno()}"],
            check=True, pass_fds=[one.near.fileno()],
        )  # fmt: skip
        with one.near.enter():
            subprocess.run(["ip", "link", "set", "near1", "up"], check=True)
            with running("xsk_bridge.py", one.near_dev, "near1") as process:
                with one.far.enter():
                    assert ping("10.77.0.3", count=5) == 5
                output = end(process)
    right, left = map(int, re.findall(r"\d+", output))
    assert right >= 6 and left >= 6  # the echoes and their ARP


def test_the_dns_responder_answers_known_names_and_refuses_others() -> None:
    with VethLab() as lab:
        with lab.near.enter(), running("xsk_dns.py", lab.near_dev, "www.example.org=192.0.2.7", "a.b=192.0.2.8") as it:
            with lab.far.enter():
                for round in range(3):
                    for name, rcode, address in (
                        ("WWW.example.org.", 0, "192.0.2.7"),
                        ("a.b.", 0, "192.0.2.8"),
                        ("nobody.example.org.", 3, None),
                    ):
                        question = DNS(id=round + 7, rd=1, qd=DNSQR(qname=name), ar=[DNSRROPT()] if round else [])
                        (reply,) = udp_exchange(lab.near_address, 53, [bytes(question)])
                        found = DNS(reply)
                        assert (found.id, found.qr, found.rd, found.rcode) == (round + 7, 1, 1, rcode)
                        assert found.qd[0].qname.decode() == name
                        assert (found.an[0].rdata if address else None) == address
            assert end(it) == "6 answered, 3 refused\n"


def test_the_balancer_keeps_flows_at_their_server() -> None:
    macs = [f"02:00:00:00:01:0{number}" for number in range(3)]
    with VethLab() as lab:
        with lab.far.enter():
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
            wire.bind((lab.far_dev, 0x0800))
            wire.settimeout(5)
        with wire, lab.near.enter(), running("xsk_balancer.py", lab.near_dev, "10.77.0.100", *macs) as process:
            servers: dict[int, set[str]] = {}
            for number in range(600):
                port = 2000 + number % 60
                layers = TCP(sport=port, dport=80) if port % 2 else UDP(sport=port, dport=53)
                sent = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(dst="10.77.0.100") / layers
                wire.send(bytes(sent))
                came = wire.recv(100)
                assert came[6:] == bytes(sent)[0:6] + bytes(sent)[12:]
                servers.setdefault(port, set()).add(came[:6].hex(":"))
            assert all(len(chosen) == 1 for chosen in servers.values())
            assert set().union(*servers.values()) == set(macs)
            output = end(process)
        counts = [int(number) for number in re.findall(r"(\d+) packets", output)]
        assert sum(counts) == 600 and min(counts) > 0 and output.endswith("0 dropped, 60 flows\n")


def test_they_are_listed_nowhere_else() -> None:
    """Each AF_XDP example has a test in this file or in test_xsk_echo."""
    text = Path(__file__).read_text() + (Path(__file__).parent / "test_xsk_echo.py").read_text()
    assert [path.name for path in PROGRAMS.glob("xsk_*.py") if f'"{path.name}"' not in text] == []
    assert threading.active_count() >= 1
