"""Two namespaces and a raw socket at the far end, for tests that move packets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ebpfkit.testing import VethLab

ETHERTYPE = 0x88B5  # for local experiments (IEEE 802)
HEADER = b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + ETHERTYPE.to_bytes(2, "big")


class Far:
    """The far end of the wire: sends and receives whole frames of our own EtherType."""

    def __init__(self, lab: VethLab) -> None:
        self.lab = lab
        with lab.far.enter():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
            self.socket.bind((lab.far_dev, ETHERTYPE))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.settimeout(5)

    def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.socket.send(HEADER + payload)

    def receive(self) -> bytes:
        data = self.socket.recv(65536)
        assert data.startswith(HEADER)
        return data[len(HEADER) :]

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def lab() -> Iterator[VethLab]:
    with VethLab() as made:
        yield made


@pytest.fixture
def far(lab: VethLab) -> Iterator[Far]:
    end = Far(lab)
    yield end
    end.close()
