"""Giving an open AF_XDP socket to another process, which needs no privileges: its descriptor and its memory travel over
a unix socket.

The privileged process opens the socket with `shareable=True`, puts it into the XSK map, and calls `hand_over`; the
other calls `take_over` and receives and sends. Frames keep their owners in the shared memory, so that a `Handle` kept
by the first process brings the socket back to life in a third one when the second was killed: no frame is lost, and a
packet that was being worked on comes again.
"""

from __future__ import annotations

import array
import json
import socket
import struct
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ebpfkit.errors import KernelError, UsageError, XskError
from ebpfkit.kernel import xdp_socket
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.netlink import Device
from ebpfkit.xsk.ring import ProducerRing
from ebpfkit.xsk.setup import BusyPoll, Options, Sizes, map_rings
from ebpfkit.xsk.stats import XskStatistics
from ebpfkit.xsk.umem import FrameOwner, Umem

if TYPE_CHECKING:
    from ebpfkit.xsk.socket import XskSocket

__all__ = ["Handle", "hand_over", "take_over"]

_LENGTH = struct.Struct("!I")
_LONGEST = 1 << 16
_FREE, _FILL, _USER, _TX = (int(owner) for owner in (FrameOwner.FREE, FrameOwner.FILL, FrameOwner.USER, FrameOwner.TX))


class Handle:
    """Descriptors of a socket and its memory, enough to open it again in another process. Close it when done.

    While it is open the socket lives, and packets go on arriving in its RX ring.
    """

    def __init__(self, description: dict[str, Any], sock: Fd, memory: Fd) -> None:
        self.description, self._sock, self._memory = description, sock, memory

    @classmethod
    def of(cls, sock: XskSocket) -> Handle:
        """A handle of an open socket, which stays usable here; one process at a time may use it."""
        umem = sock.umem
        if umem.shared_memory is None:
            raise UsageError("this socket's memory cannot be shared; make it with shareable=True")
        if len(umem.pools) != 1 or sock._pool.users != 1:
            raise UsageError("a socket that shares its UMEM with others cannot be handed over; give it its own")
        description = {
            "device": [sock.device.index, sock.device.name, sock.device.mtu],
            "queue": sock.queue,
            "sizes": asdict(sock.sizes),
            "options": asdict(sock.options),
            "tx_budget": sock.tx_budget,
            "fill_target": sock.fill_target,
            "umem": [umem.frame_count, umem.frame_size, umem.headroom, umem.unaligned, umem.tx_metadata_size > 0],
        }
        opened = sock._check_open()
        return cls(description, opened.fd.duplicate(), umem.shared_memory.duplicate())

    def send(self, channel: socket.socket) -> None:
        """Send it to the process at the other end of a unix stream socket, which calls `take_over`."""
        text = json.dumps(self.description).encode()
        numbers = array.array("i", [self._sock.fileno(), self._memory.fileno()])
        try:
            channel.sendmsg([_LENGTH.pack(len(text))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
            channel.sendall(text)
        except OSError as error:
            raise KernelError(f"cannot hand the socket over: {error.strerror}", errno=error.errno or 0) from error

    def statistics(self) -> XskStatistics:
        """The kernel's counts (XDP_STATISTICS), whichever process has the socket."""
        return XskStatistics.from_bytes(xdp_socket.get_statistics(self._sock))

    def close(self) -> None:
        self._sock.close()
        self._memory.close()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hand_over(sock: XskSocket, channel: socket.socket) -> None:
    """Give the socket away: it is closed here, and lives on in the process that calls `take_over`.

    Its place in the XSK map stays. What was sent must have left, and no frame be held. Raises XskError, UsageError.
    """
    if not sock.drain(1.0):
        raise XskError("the socket has packets that have not left; bring the device up, then hand it over")
    sock.umem.check_leaks()
    with Handle.of(sock) as handle:
        handle.send(channel)
    sock._leave()


def take_over(channel: socket.socket) -> XskSocket:
    """The socket that the process at the other end hands over, ready to receive and send here; no privileges needed.

    Frames that a killed predecessor had in its hands are free again. Raises XskError, KernelError.
    """
    from ebpfkit.xsk.socket import XskSocket

    description, sock_fd, memory = _receive(channel)
    with ExitStack() as undo:
        undo.callback(memory.close)
        undo.callback(sock_fd.close)
        try:
            count, size, headroom, unaligned, tx_metadata = description["umem"]
            index, name, mtu = description["device"]
            sizes = Sizes(**description["sizes"])
            busy = description["options"].pop("busy_poll")
            options = Options(**description["options"], busy_poll=BusyPoll(**busy) if busy else None)
            device = Device(index, name, mtu)
            queue, budget, target = (int(description[key]) for key in ("queue", "tx_budget", "fill_target"))
        except (KeyError, TypeError, ValueError) as error:
            raise XskError(f"what came over the channel describes no socket: {error!r}") from error
        umem = Umem(count, size, headroom=headroom, unaligned=unaligned, tx_metadata=tx_metadata, shared_memory=memory)
        opened = map_rings(undo, sock_fd, umem, (0, index, queue), None, sizes, options, budget)
        umem.pools[opened.pool.key] = opened.pool
        undo.pop_all()
    taken = XskSocket.__new__(XskSocket)
    taken._start(device, queue, umem, sizes, options, opened, target)
    _recover(taken)
    taken.refill()
    return taken


def _receive(channel: socket.socket) -> tuple[dict[str, Any], Fd, Fd]:
    try:
        head, numbers, _, _ = socket.recv_fds(channel, _LENGTH.size, 2)
        owned = [Fd(number, "descriptor handed over") for number in numbers]
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _LONGEST + 1
        text = b""
        while len(owned) == 2 and length <= _LONGEST and len(text) < length:
            piece = channel.recv(length - len(text))
            if not piece:
                break
            text += piece
        description = json.loads(text) if text else None
    except OSError as error:
        raise KernelError(f"cannot take the socket over: {error.strerror}", errno=error.errno or 0) from error
    except ValueError:
        description = None
    if len(owned) != 2 or not isinstance(description, dict) or len(text) != length:
        for fd in owned:
            fd.close()
        raise XskError("no socket came over the channel; the other end calls hand_over, once for each take_over")
    return description, owned[0], owned[1]


def produce(umem: Umem, ring: ProducerRing, values: NDArray[Any], frames: NDArray[np.intp], owner: int) -> None:
    """Put entries into a ring and note the frames' new owner, so that a kill at any point can be told afterwards.

    The journal has, for the fill and for the TX ring, the index that the ring's producer will have, and whether owners
    are being changed. Raises XskError when there is no room in the ring.
    """
    assert umem.journal is not None
    index = ring.reserve(len(values))
    if index is None:
        raise XskError(f"the {ring.name} has no room for {len(values)} entries")
    place = _PLACES[owner]
    umem.journal[place + 1] = 0
    umem.journal[place] = (index + len(values)) & 0xFFFF_FFFF
    ring.write(index, values)
    umem.journal[place + 1] = 1
    umem.owners[frames] = owner
    ring.submit(len(values))


_PLACES = {_FILL: 0, _TX: 2}


def _undo_half_done(umem: Umem, ring: ProducerRing, place: int) -> None:
    """Frames whose owner was changed for a ring that never got them are free."""
    assert umem.journal is not None
    target, changing = int(umem.journal[place]), int(umem.journal[place + 1])
    missing = (target - ring.producer_index.load()) & 0xFFFF_FFFF
    if changing and 0 < missing <= ring.size:
        umem.owners[umem.frames_of(ring.upcoming(missing))] = _FREE
    umem.journal[place + 1] = 0


def _recover(sock: XskSocket) -> None:
    """Set the owners right after a predecessor that may have been killed between any two instructions.

    What lies in a ring is what that ring says; what the predecessor had in its hands is free.
    """
    umem = sock.umem
    umem.owners[umem.owners == _USER] = _FREE
    _undo_half_done(umem, sock.fill, _PLACES[_FILL])
    if sock._tx is not None:
        _undo_half_done(umem, sock._tx, _PLACES[_TX])
    umem.owners[umem.frames_of(sock.fill.unconsumed())] = _FILL
    umem.owners[umem.frames_of(sock.completion.unread())] = _TX
    if sock._rx is not None:
        umem.owners[umem.frames_of(umem.to_plain(sock._rx.unread()["addr"]))] = _FILL
    if sock._tx is not None:
        umem.owners[umem.frames_of(sock._tx.unconsumed()["addr"])] = _TX
        sock._unsent = len(sock._tx) > 0
    umem.rebuild()
    sock._pool.sent = int(np.count_nonzero(umem.owners == _TX))
