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

    @property
    def place(self) -> str:
        """In words, for messages."""
        return _PLACES[self]


_PLACES = (
    "free",
    "in the fill ring",
    "in the RX ring",
    "the application's",
    "in the TX ring",
    "in the completion ring",
)


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
        self._free: NDArray[np.uint64] = np.arange(frame_count, dtype=np.uint64)[::-1] << np.uint64(self._shift)
        self._top = frame_count
        self.in_use = False  # a socket has it
        self._marks: NDArray[np.uint32] = np.zeros(frame_count, np.uint32)

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
        taken = self.take_free(count)
        self.owners[taken >> np.uint64(self._shift)] = FrameOwner.USER
        return taken

    def allocate_one(self) -> int:
        """The address of one free frame, the application's from now on; -1 when none is free."""
        if not self._top:
            return -1
        self._top -= 1
        address = int(self._free[self._top])
        self._owner_of[address >> self._shift] = FrameOwner.USER
        return address

    def take_free(self, count: int, owner: FrameOwner = FrameOwner.USER) -> NDArray[np.uint64]:
        """Up to `count` free frames, for `owner`."""
        count = min(count, self._top)
        self._top -= count
        taken = self._free[self._top : self._top + count].copy()
        self.owners[taken >> np.uint64(self._shift)] = owner
        return taken

    def release(self, addresses: NDArray[np.uint64]) -> None:
        """Give the application's frames back to the allocator. Raises XskError naming a frame that is not its own."""
        self.free_from(addresses, FrameOwner.USER)

    def free_from(self, addresses: NDArray[np.uint64], source: FrameOwner) -> None:
        """Frames of `source` become free; any address within a frame names it."""
        frames = self.move(addresses, source, FrameOwner.FREE)
        self._free[self._top : self._top + len(frames)] = frames << np.uint64(self._shift)
        self._top += len(frames)

    def move(self, addresses: NDArray[np.uint64], source: FrameOwner, target: FrameOwner) -> NDArray[np.uint64]:
        """Frames change hands; returns their numbers.

        Raises XskError naming the first frame that is not `source`'s or is named twice; then nothing has changed.
        """
        frames = addresses >> np.uint64(self._shift)
        if not len(frames):
            return frames
        if int(frames.max()) >= self.frame_count:
            self.index_of(int(addresses[int(frames.argmax())]))
        wrong = self.owners[frames] != source
        if wrong.any():
            self._refuse(int(frames[int(wrong.argmax())]), source, target)
        if len(frames) > 1:
            order = np.arange(len(frames), dtype=np.uint32)
            self._marks[frames] = order
            doubled = self._marks[frames] != order
            if doubled.any():
                frame = int(frames[int(doubled.argmax())])
                raise XskError(f"frame {frame} (address {frame << self._shift:#x}) is named twice in one batch")
        self.owners[frames] = target
        return frames

    def move_one(self, address: int, source: FrameOwner, target: FrameOwner) -> None:
        """One frame changes hands. Raises XskError when it is not `source`'s."""
        frame = self.index_of(address)
        if self._owner_of[frame] != source:
            self._refuse(frame, source, target)
        self._owner_of[frame] = target

    def free_one(self, address: int, source: FrameOwner = FrameOwner.USER) -> None:
        """One frame becomes free. Raises XskError when it is not `source`'s."""
        self.move_one(address, source, FrameOwner.FREE)
        self._free[self._top] = address >> self._shift << self._shift
        self._top += 1

    def _refuse(self, frame: int, source: FrameOwner, target: FrameOwner) -> None:
        owner = FrameOwner(int(self.owners[frame]))
        verb = {FrameOwner.FREE: "released", FrameOwner.FILL: "put into the fill ring", FrameOwner.TX: "sent"}
        why = ""
        if source is FrameOwner.USER and owner is not FrameOwner.USER:
            why = "; it was released or sent before, so it is the kernel's or the allocator's now"
        raise XskError(
            f"frame {frame} (address {frame << self._shift:#x}) cannot be {verb.get(target, 'taken')}: "
            f"it is {owner.place}, not {source.place}{why}"
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
        """Every frame is free again: after the socket that used them is gone."""
        held = self.owners == FrameOwner.USER
        free = np.flatnonzero(~held).astype(np.uint64)[::-1]
        self.owners[~held] = FrameOwner.FREE
        self._free[: len(free)] = free << np.uint64(self._shift)
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
