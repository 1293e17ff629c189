"""Two network namespaces joined by a veth pair, and bounded traffic between them. Needs root; leaves nothing behind."""

from __future__ import annotations

import os
import socket
import struct
import time
from types import TracebackType

from ebpfkit.kernel.netns import Namespace, add_address, create_veth_pair

__all__ = ["VethLab", "ping", "udp_exchange"]


class VethLab:
    """Two namespaces, `near` and `far`, joined by a veth pair whose ends are `near_dev` and `far_dev`.

    Enter one for the length of a block with `lab.near.enter()`: sockets and links made there belong to it. The
    namespaces have no names; they and their devices are gone when the lab is closed or the process dies.
    """

    def __init__(
        self,
        *,
        near_address: str = "10.77.0.1/24",
        far_address: str = "10.77.0.2/24",
        queues: int = 1,
        mtu: int = 1500,
    ) -> None:
        self.near_dev, self.far_dev = "near0", "far0"
        self.near_address, self.far_address = near_address.partition("/")[0], far_address.partition("/")[0]
        self.near = Namespace()
        try:
            self.far = Namespace()
            create_veth_pair(
                self.near, self.near_dev, self.far, self.far_dev,
                near_address=near_address, far_address=far_address, queues=queues, mtu=mtu,
            )  # fmt: skip
        except BaseException:
            self.close()
            raise

    def add_near_address(self, address: str) -> None:
        """Another address ("192.0.2.9/32") for the near end, to send from."""
        add_address(self.near, self.near_dev, address)

    def close(self) -> None:
        for namespace in (self.near, getattr(self, "far", None)):
            if namespace is not None:
                namespace.close()

    def __enter__(self) -> VethLab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ping(address: str, *, count: int = 3, timeout: float = 1.0, source: str = "") -> int:
    """Send ICMP echo requests from the current namespace; how many were answered within `timeout` seconds each."""
    identifier = os.getpid() & 0xFFFF
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        if source:
            sock.bind((source, 0))
        for sequence in range(count):
            sock.sendto(_echo_request(identifier, sequence), (address, 0))
            answered += _await_echo_reply(sock, identifier, sequence, time.monotonic() + timeout)
    return answered


def _echo_request(identifier: int, sequence: int) -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, identifier, sequence) + b"ebpfkit ping"
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total & 0xFFFF) + (total >> 16)
    return body[:2] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + body[4:]


def _await_echo_reply(sock: socket.socket, identifier: int, sequence: int, deadline: float) -> bool:
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            packet = sock.recv(2048)
        except TimeoutError:
            return False
        header = (packet[0] & 15) * 4
        if packet[header : header + 1] == b"\0" and struct.unpack_from("!HH", packet, header + 4) == (
            identifier,
            sequence,
        ):
            return True
    return False


def udp_exchange(
    address: str, port: int, payloads: list[bytes], *, timeout: float = 1.0, source: str = ""
) -> list[bytes]:
    """Send each payload from the current namespace and wait for an answer to each; the answers that came in time."""
    answers = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if source:
            sock.bind((source, 0))
        sock.settimeout(timeout)
        for payload in payloads:
            sock.sendto(payload, (address, port))
            try:
                answers.append(sock.recv(65536))
            except (TimeoutError, ConnectionRefusedError):
                continue
    return answers
