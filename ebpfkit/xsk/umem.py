"""UMEM: the memory that packets live in, cut into frames, and who owns each frame.

A frame is owned by nobody (free), the kernel (in the fill ring, or on its way out) or the application. Every change of
hands is checked, so that a frame given back twice, or used after it was given away, is an error that names it. Rings
and system calls are elsewhere.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ebpfkit._bits import round_up
from ebpfkit.errors import KernelError, NotSupported, UsageError, XskError
from ebpfkit.kernel import xdp_socket

__all__ = ["FrameOwner", "Umem"]

PACKET_HEADROOM = 256
"""Bytes in front of every received packet, which the kernel keeps for XDP programs (XDP_PACKET_HEADROOM)."""
_NAMED = 8


class FrameOwner(IntEnum):
    """Whose a frame is."""

    FREE = 0  # in the allocator
    FILL = 1  # given to the kernel to receive into
    RX = 2  # received, in the RX ring, not yet taken by the application
    USER = 3  # the application's
    TX = 4  # given to the kernel to send from
    COMPLETION = 5  # sent, in the completion ring, not yet taken back


_PLACES = (
    "free",
    "in the fill ring",
    "in the RX ring",
    "the application's",
    "in the TX ring",
    "in the completion ring",
)


# As plain numbers: members of an enum are slow to look up.
_FREE, _FILL, _USER, _TX = (int(owner) for owner in (FrameOwner.FREE, FrameOwner.FILL, FrameOwner.USER, FrameOwner.TX))


class Umem:
    """`frame_count` frames of `frame_size` bytes, the allocator, and the owners.

    Free frames are handed out last in, first out, so that few frames stay hot in the cache. The memory lives as long
    as any view of it. Raises UsageError for sizes the kernel does not take, KernelError (ENOMEM) when there is none.
    """

    def __init__(
        self, frame_count: int = 4096, frame_size: int = 4096, *, headroom: int = 0, huge_pages: bool = False
    ) -> None:
        _check_sizes(frame_count, frame_size, headroom)
        self.frame_count, self.frame_size, self.headroom = frame_count, frame_size, headroom
        self.length = frame_count * frame_size
        self._shift = frame_size.bit_length() - 1
        mapped = round_up(self.length, xdp_socket.HUGE_PAGE_SIZE if huge_pages else mmap.PAGESIZE)
        self.address = _map(mapped, huge_pages)
        array = (ctypes.c_ubyte * self.length).from_address(self.address)
        # Views that outlive the socket stay valid: the memory goes with the last of them.
        weakref.finalize(array, _unmap, self.address, mapped, os.getpid()).atexit = False
        self.memory = memoryview(array).cast("B")
        self.frames: NDArray[np.uint8] = np.frombuffer(self.memory, np.uint8).reshape(frame_count, frame_size)
        # The same bytes twice: single frames are faster through the bytearray, batches through the array.
        self._owner_of = bytearray(frame_count)
        self.owners: NDArray[np.uint8] = np.frombuffer(self._owner_of, np.uint8)
        self._free: NDArray[np.intp] = np.arange(frame_count, dtype=np.intp)[::-1].copy()  # frame numbers, a stack
        self._top = frame_count
        self.in_use = False  # a socket has it
        self._marks: NDArray[np.intp] = np.zeros(frame_count, np.intp)
        self._order: NDArray[np.intp] = np.arange(frame_count, dtype=np.intp)

    def __len__(self) -> int:
        """How many frames are free."""
        return self._top

    def index_of(self, address: int) -> int:
        """The number of the frame that an address lies in. Raises XskError outside the UMEM."""
        if not 0 <= address < self.length:
            raise XskError(f"address {address:#x} is outside the UMEM of {self.length:#x} bytes")
        return address >> self._shift

    def data(self, address: int, length: int) -> memoryview:
        """The bytes of a packet, writable, without a copy; they must lie within one frame."""
        if length < 0 or self.index_of(address) != self.index_of(address + max(length, 1) - 1):
            raise XskError(f"{length} bytes at {address:#x} do not lie within one frame of {self.frame_size} bytes")
        return self.memory[address : address + length]

    def allocate(self, count: int) -> NDArray[np.uint64]:
        """The addresses of up to `count` free frames, the application's from now on."""
        return self.take_free(count, _USER)

    def allocate_one(self) -> int:
        """The address of one free frame, the application's from now on; -1 when none is free."""
        if not self._top:
            return -1
        self._top -= 1
        frame = int(self._free[self._top])
        self._owner_of[frame] = _USER
        return frame << self._shift

    def take_free(self, count: int, owner: int) -> NDArray[np.uint64]:
        """Up to `count` free frames, for `owner`."""
        count = min(count, self._top)
        self._top -= count
        taken = self._free[self._top : self._top + count]
        self.owners[taken] = owner
        addresses: NDArray[np.uint64] = (taken << self._shift).view(np.uint64)
        return addresses

    def release(self, addresses: NDArray[np.uint64]) -> None:
        """Give the application's frames back to the allocator. Raises XskError naming a frame that is not its own."""
        self.free_from(addresses, _USER)

    def free_from(self, addresses: NDArray[np.uint64], source: int) -> None:
        """Frames of `source` become free; any address within a frame names it."""
        frames = self.move(addresses, source, _FREE)
        self._free[self._top : self._top + len(frames)] = frames
        self._top += len(frames)

    def move(self, addresses: NDArray[np.uint64], source: int, target: int) -> NDArray[np.intp]:
        """Frames change hands from one `FrameOwner` to another; returns their numbers.

        Raises XskError naming the first frame that is not `source`'s or is named twice; then nothing has changed.
        """
        # Shifted, no address is negative as a signed number: what is outside the UMEM is past its end.
        frames: NDArray[np.intp] = (addresses >> np.uint64(self._shift)).view(np.intp)
        count = len(frames)
        if not count:
            return frames
        try:
            owners = self.owners.take(frames)
        except IndexError:
            self.index_of(int(addresses[int(frames.argmax())]))
            raise
        if owners.tobytes().count(source) != count:
            raise self._refusal(int(frames[int((owners != source).argmax())]), source, target)
        if source == _USER and count > 1:
            # Only the application can name a frame twice: the last mark written wins, the other reads it.
            order = self._order[:count] if count <= self.frame_count else np.arange(count)
            self._marks[frames] = order
            doubled = self._marks.take(frames) != order
            if doubled.any():
                frame = int(frames[int(doubled.argmax())])
                raise XskError(f"frame {frame} (address {frame << self._shift:#x}) is named twice in one batch")
        self.owners[frames] = target
        return frames

    def move_one(self, address: int, source: int, target: int) -> None:
        """One frame changes hands. Raises XskError when it is not `source`'s."""
        frame = self.index_of(address)
        if self._owner_of[frame] != source:
            raise self._refusal(frame, source, target)
        self._owner_of[frame] = target

    def free_one(self, address: int, source: int = _USER) -> None:
        """One frame becomes free. Raises XskError when it is not `source`'s."""
        self.move_one(address, source, _FREE)
        self._free[self._top] = address >> self._shift
        self._top += 1

    def _refusal(self, frame: int, source: int, target: int) -> XskError:
        owner = self._owner_of[frame]
        verb = {_FREE: "released", _FILL: "put into the fill ring", _TX: "sent"}.get(target, "taken")
        why = ""
        if source == _USER:
            why = "; it was released or sent before, so it is the kernel's or the allocator's now"
        return XskError(
            f"frame {frame} (address {frame << self._shift:#x}) cannot be {verb}: "
            f"it is {_PLACES[owner]}, not {_PLACES[source]}{why}"
        )

    def owned_by(self, owner: FrameOwner) -> list[int]:
        """The numbers of the frames of an owner."""
        return [int(frame) for frame in np.flatnonzero(self.owners == owner)]

    def count(self, owner: FrameOwner) -> int:
        """How many frames an owner has."""
        return int(np.count_nonzero(self.owners == owner))

    def check_leaks(self) -> None:
        """Raises XskError naming the frames that the application took and neither sent nor released."""
        held = self.owned_by(FrameOwner.USER)
        if held:
            names = ", ".join(map(str, held[:_NAMED])) + (", ..." if len(held) > _NAMED else "")
            raise XskError(
                f"{len(held)} of {self.frame_count} frames leaked: frame {names} was taken by the application and "
                "neither sent nor released; release it, or do not keep it"
            )

    def abandon(self) -> None:
        """What the kernel had is free again: after the socket that used it is gone."""
        held = self.owners == _USER
        self.owners[~held] = _FREE
        free = np.flatnonzero(~held)[::-1]
        self._free[: len(free)] = free
        self._top = len(free)


def _check_sizes(frame_count: int, frame_size: int, headroom: int) -> None:
    if frame_count <= 0:
        raise UsageError(f"a UMEM needs frames; frame_count is {frame_count}")
    if frame_size & (frame_size - 1):
        raise NotSupported(f"a frame size of {frame_size}", why="only powers of 2 are aligned; use 2048 or 4096")
    if not 2048 <= frame_size <= mmap.PAGESIZE:
        raise UsageError(f"a frame has 2048 to {mmap.PAGESIZE} bytes (a page) on this machine, not {frame_size}")
    if not 0 <= headroom < frame_size - PACKET_HEADROOM:
        raise UsageError(f"headroom {headroom} leaves no room for packets in frames of {frame_size} bytes")


def _map(length: int, huge_pages: bool) -> int:
    try:
        address = xdp_socket.map_memory(length, huge=huge_pages)
    except KernelError as error:
        mend = (
            f"reserve huge pages: echo {length // xdp_socket.HUGE_PAGE_SIZE} > /proc/sys/vm/nr_hugepages"
            if huge_pages
            else "use fewer frames"
        )
        raise KernelError(
            f"cannot map {length} bytes for a UMEM: {error.message}; {mend}", errno=error.errno or 0
        ) from error
    xdp_socket.exclude_from_fork(address, length)
    return address


def _unmap(address: int, length: int, pid: int) -> None:
    # A child does not have the mapping: what is at this address there is its own.
    if os.getpid() == pid:
        xdp_socket.unmap(address, length)
