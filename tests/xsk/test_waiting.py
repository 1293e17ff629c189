"""Waiting in other people's loops: asyncio, selectors; and busy polling."""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import socket
import struct
import time

import pytest

from ebpfkit.errors import XskError
from ebpfkit.kernel import netdev, netlink, xdp_socket
from ebpfkit.testing import VethLab
from ebpfkit.xsk import BusyPoll, XskGroup, XskSocket

from .conftest import HEADER, Far

pytestmark = pytest.mark.kernel
SMALL = {"rx_size": 64, "tx_size": 64, "fill_size": 64, "completion_size": 64, "frame_count": 256, "frame_size": 2048}


def test_async_for_gives_batches(lab: VethLab, far: Far) -> None:
    async def answer(sock: XskSocket, wanted: int) -> int:
        count = 0
        async for batch in sock:
            count += len(batch)
            sock.send_batch(batch)
            if count >= wanted:
                break
        return count

    async def feed() -> int:
        loop = asyncio.get_running_loop()
        back = 0
        for number in range(30):
            far.send(bytes([number]))
            await asyncio.sleep(0.001)  # others run while the socket waits
            back += len(await loop.run_in_executor(None, far.receive))
        return back

    async def both(sock: XskSocket) -> tuple[int, int]:
        answered, back = await asyncio.wait_for(asyncio.gather(answer(sock, 30), feed()), 20)
        return answered, back

    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        assert asyncio.run(both(group[0])) == (30, 30)
        assert group[0].drain(5)


def test_an_asyncio_wait_can_be_cancelled_and_ends_with_the_device(lab: VethLab) -> None:
    from pyroute2 import IPRoute

    async def first(sock: XskSocket) -> int:
        async for batch in sock:
            return len(batch)
        return 0

    async def cancelled(sock: XskSocket) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first(sock), 0.05)

    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        asyncio.run(cancelled(group[0]))
        with IPRoute() as route:
            route.link("del", index=group.device.index)
        with pytest.raises(XskError, match="the device has gone"):
            asyncio.run(first(group[0]))


def test_selectors_see_packets_and_room(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group, selectors.DefaultSelector() as selector:
        sock = group[0]
        selector.register(sock, selectors.EVENT_READ)
        assert selector.select(0) == []
        far.send(b"x")
        ((key, _),) = selector.select(5)
        assert key.fileobj is sock
        assert len(selector.select(0)) == 1  # as long as the ring is not empty
        assert [bytes(frame) for frame in sock.receive(0)] == [HEADER + b"x"]
        assert selector.select(0) == []
        selector.modify(sock, selectors.EVENT_WRITE)
        assert selector.select(5)[0][1] == selectors.EVENT_WRITE


def test_busy_polling_is_set_and_works(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, busy_poll=BusyPoll(50, 32), **SMALL) as group:
        sock = group[0]
        # Told the family, Python's socket does not ask the kernel for the address, which AF_XDP sockets have not.
        with socket.socket(xdp_socket.AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(sock.fileno())) as view:
            assert view.getsockopt(socket.SOL_SOCKET, 46) == 50
            assert view.getsockopt(socket.SOL_SOCKET, 69) == 1
        for number in range(20):
            far.send(bytes([number]))
            for frame in sock.receive(5):
                frame.send()
            assert far.receive() == bytes([number])


def test_napi_settings_through_netdev(lab: VethLab) -> None:
    """veth has a NAPI for a queue only with an XDP program; its settings are read, changed and read back."""
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL):
        index = netlink.find_device(lab.near_dev).index
        napis = netdev.query_napis(index)
        assert napis is not None
        assert len(napis) == 1
        for napi in napis:
            netdev.set_napi(napi.id, defer_hard_irqs=7, gro_flush_timeout=123_000, irq_suspend_timeout=456_000)
        changed = netdev.query_napis(index)
        assert changed is not None and len(changed) == len(napis)
        for napi in changed:
            assert (napi.defer_hard_irqs, napi.gro_flush_timeout, napi.irq_suspend_timeout) == (7, 123_000, 456_000)
    with pytest.raises(netlink.NetlinkError) as refused:
        netdev.set_napi(0xFFFF_FF00, defer_hard_irqs=1)
    assert refused.value.errno in (errno.ENOENT, errno.EINVAL)


def test_the_bytes_of_a_napi_request(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(netdev, "_family", lambda: 33)
    monkeypatch.setattr(netdev, "request", lambda _protocol, _family, body, **_: sent.append(body) or [])
    netdev.set_napi(513, defer_hard_irqs=2, gro_flush_timeout=20_000)
    attributes = [struct.pack("=HHI", 8, kind, value) for kind, value in ((2, 513), (5, 2))]
    number = struct.pack("=HHI", 8, 6, 20_000)
    assert sent == [struct.pack("=BBH", 14, 1, 0) + b"".join(attributes) + number]


def test_waiting_blocks_for_its_time_and_no_longer(lab: VethLab) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        start = time.monotonic()
        assert list(group[0].receive(0.2)) == []
        assert 0.19 < time.monotonic() - start < 2
