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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ebpfkit._bits import round_up
from ebpfkit.abi import uapi
from ebpfkit.errors import KernelError, UsageError, XskError
from ebpfkit.kernel import xdp_socket
from ebpfkit.kernel.fd import Fd

if TYPE_CHECKING:
    from ebpfkit.xsk.setup import Pool

__all__ = ["FrameOwner", "Umem"]

PACKET_HEADROOM = 256
"""Bytes in front of every received packet, which the kernel keeps for XDP programs (XDP_PACKET_HEADROOM)."""
_NAMED = 8
_JOURNAL_ROOM = 24


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
    as any view of it. Aligned frames have 2048 or 4096 bytes; `unaligned` ones any size from 2048 to a page.
    `tx_metadata` keeps room in front of each sent packet for requests to the driver (`Frame.request`);
    `software_checksum` lets the kernel compute requested checksums itself (copy mode). `shareable` memory can be handed
    to another process with its sockets. Raises UsageError for sizes the kernel does not take, KernelError (ENOMEM) when
    there is no memory.
    """

    def __init__(
        self,
        frame_count: int = 4096,
        frame_size: int = 4096,
        *,
        headroom: int = 0,
        huge_pages: bool = False,
        unaligned: bool = False,
        tx_metadata: bool = False,
        software_checksum: bool = False,
        shareable: bool = False,
        shared_memory: Fd | None = None,
    ) -> None:
        _check_sizes(frame_count, frame_size, headroom, unaligned)
        if software_checksum and not tx_metadata:
            raise UsageError("software_checksum serves requests in TX metadata; set tx_metadata=True as well")
        if huge_pages and (shareable or shared_memory is not None):
            raise UsageError("memory that is shared with another process cannot be of huge pages")
        self.frame_count, self.frame_size, self.headroom = frame_count, frame_size, headroom
        self.unaligned = unaligned
        self.tx_metadata_size = xdp_socket.TX_METADATA_SIZE if tx_metadata else 0
        self.flags = (
            (uapi.XDP_UMEM_UNALIGNED_CHUNK_FLAG if unaligned else 0)
            | (uapi.XDP_UMEM_TX_METADATA_LEN if tx_metadata else 0)
            | (uapi.XDP_UMEM_TX_SW_CSUM if software_checksum else 0)
        )
        self.length = frame_count * frame_size
        # Frames whose size is a power of 2 are found by a shift, the others by a division.
        self._shift = frame_size.bit_length() - 1 if not frame_size & (frame_size - 1) else 0
        owners_at = round_up(self.length, mmap.PAGESIZE)
        self.shared_memory = shared_memory
        if shareable and shared_memory is None:
            shared_size = owners_at + round_up(frame_count + _JOURNAL_ROOM, mmap.PAGESIZE)
            self.shared_memory = xdp_socket.create_memory("ebpfkit-umem", shared_size)
        if self.shared_memory is not None:
            mapped = owners_at + round_up(frame_count + _JOURNAL_ROOM, mmap.PAGESIZE)
            self.address = xdp_socket.map_shared(self.shared_memory, mapped)
            xdp_socket.exclude_from_fork(self.address, mapped)
        else:
            mapped = round_up(self.length, xdp_socket.HUGE_PAGE_SIZE if huge_pages else mmap.PAGESIZE)
            self.address = _map(mapped, huge_pages)
        array = (ctypes.c_ubyte * mapped).from_address(self.address)
        # Views that outlive the socket stay valid: the memory goes with the last of them.
        weakref.finalize(array, _unmap, self.address, mapped, os.getpid()).atexit = False
        whole = memoryview(array).cast("B")
        self.memory = whole[: self.length]
        self.frames: NDArray[np.uint8] = np.frombuffer(self.memory, np.uint8).reshape(frame_count, frame_size)
        self._flat = self.frames.reshape(-1)
        # The same bytes twice: single frames are faster through the bytearray, batches through the array. Shared with
        # another process they lie behind the frames, so that the owners outlive a process that is killed.
        self._owner_of: bytearray | memoryview = bytearray(frame_count)
        self.journal: NDArray[np.uint32] | None = None  # of shared memory: see `handover.produce`
        if self.shared_memory is not None:
            self._owner_of = whole[owners_at : owners_at + frame_count]
            journal_at = owners_at + round_up(frame_count, 8)
            self.journal = np.frombuffer(whole, np.uint32, 4, journal_at)
        self.owners: NDArray[np.uint8] = np.frombuffer(self._owner_of, np.uint8)
        self.holders: NDArray[np.uint16] = np.zeros(frame_count, np.uint16)  # which queue has a frame of the kernel's
        self.is_spread = False  # over several queues, so that `holders` counts
        self._free: NDArray[np.intp] = np.arange(frame_count, dtype=np.intp)[::-1].copy()  # frame numbers, a stack
        self._top = frame_count
        self.pools: dict[tuple[int, int, int], Pool] = {}  # the queues it is bound to, kept by `setup`
        self._marks: NDArray[np.intp] = np.zeros(frame_count, np.intp)
        self._order: NDArray[np.intp] = np.arange(frame_count, dtype=np.intp)

    def __len__(self) -> int:
        """How many frames are free."""
        return self._top

    def index_of(self, address: int) -> int:
        """The number of the frame that an address lies in. Raises XskError outside the UMEM."""
        if not 0 <= address < self.length:
            raise XskError(f"address {address:#x} is outside the UMEM of {self.length:#x} bytes")
        return address >> self._shift if self._shift else address // self.frame_size

    @property
    def data_offset(self) -> int:
        """Where in a fresh frame a packet to be sent starts."""
        return self.headroom + self.tx_metadata_size

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
        return frame * self.frame_size

    def take_free(self, count: int, owner: int) -> NDArray[np.uint64]:
        """Up to `count` free frames, for `owner`."""
        count = min(count, self._top)
        self._top -= count
        taken = self._free[self._top : self._top + count]
        self.owners[taken] = owner
        addresses: NDArray[np.uint64] = (taken * self.frame_size).view(np.uint64)
        return addresses

    def frames_of(self, addresses: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The numbers of the frames that addresses lie in; those outside the UMEM are past its end."""
        if self._shift:
            # Shifted, no address is negative as a signed number.
            return (addresses >> np.uint64(self._shift)).view(np.intp)
        return (addresses // np.uint64(self.frame_size)).view(np.intp)

    def release(self, addresses: NDArray[np.uint64]) -> None:
        """Give the application's frames back to the allocator. Raises XskError naming a frame that is not its own."""
        self.free_from(addresses, _USER)

    def free_from(self, addresses: NDArray[np.uint64], source: int) -> None:
        """Frames of `source` become free; any address within a frame names it."""
        frames = self.move(addresses, source, _FREE)
        self._free[self._top : self._top + len(frames)] = frames
        self._top += len(frames)

    def to_plain(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Addresses as the kernel puts them into the RX ring, made plain: unaligned, the top 16 bits are an offset."""
        if not self.unaligned:
            return addresses
        base = addresses & np.uint64(uapi.XSK_UNALIGNED_BUF_ADDR_MASK)
        return base + (addresses >> np.uint64(uapi.XSK_UNALIGNED_BUF_OFFSET_SHIFT))

    def move(self, addresses: NDArray[np.uint64], source: int, target: int) -> NDArray[np.intp]:
        """Frames change hands from one `FrameOwner` to another; returns their numbers.

        Raises XskError naming the first frame that is not `source`'s or is named twice; then nothing has changed.
        """
        frames = self.frames_of(addresses)
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
                raise XskError(f"frame {frame} (address {frame * self.frame_size:#x}) is named twice in one batch")
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
        self._free[self._top] = self.index_of(address)
        self._top += 1

    def _refusal(self, frame: int, source: int, target: int) -> XskError:
        owner = self._owner_of[frame]
        verb = {_FREE: "released", _FILL: "put into the fill ring", _TX: "sent"}.get(target, "taken")
        why = ""
        if source == _USER:
            why = "; it was released or sent before, so it is the kernel's or the allocator's now"
        return XskError(
            f"frame {frame} (address {frame * self.frame_size:#x}) cannot be {verb}: "
            f"it is {_PLACES[owner]}, not {_PLACES[source]}{why}"
        )

    def owned_by(self, owner: FrameOwner) -> list[int]:
        """The numbers of the frames of an owner."""
        return [int(frame) for frame in np.flatnonzero(self.owners == owner)]

    def count(self, owner: FrameOwner) -> int:
        """How many frames an owner has."""
        return int(np.count_nonzero(self.owners == owner))

    def gather(self, addresses: NDArray[np.uint64], start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes `start` to `stop` of the packets at these addresses, as a copy: one row a packet.

        Raises XskError when a row leaves the UMEM.
        """
        return self._flat[self._places(addresses, start, stop)]

    def scatter(self, addresses: NDArray[np.uint64], start: int, values: NDArray[np.uint8]) -> None:
        """Write a row of bytes into each packet, from byte `start` on; one row for all will do as well."""
        self._flat[self._places(addresses, start, start + values.shape[-1])] = values

    def _places(self, addresses: NDArray[np.uint64], start: int, stop: int) -> NDArray[np.intp]:
        places = (
            addresses.view(np.intp)[:, None] + np.arange(start, stop)
            if addresses.flags.c_contiguous
            else (addresses.astype(np.intp)[:, None] + np.arange(start, stop))
        )
        if places.size and (places.min() < 0 or places.max() >= self.length):
            raise XskError(f"bytes {start} to {stop} of a packet lie outside the UMEM of {self.length:#x} bytes")
        return places

    def check_leaks(self) -> None:
        """Raises XskError naming the frames that the application took and neither sent nor released."""
        held = self.owned_by(FrameOwner.USER)
        if held:
            names = ", ".join(map(str, held[:_NAMED])) + (", ..." if len(held) > _NAMED else "")
            raise XskError(
                f"{len(held)} of {self.frame_count} frames leaked: frame {names} was taken by the application and "
                "neither sent nor released; release it, or do not keep it"
            )

    def reclaim(self, holder: int | None = None) -> None:
        """What the kernel had is free again, after its socket is gone: all of it, or that of one queue's `holder`."""
        gone = (self.owners != _USER) & (self.owners != _FREE)
        if holder is not None and self.is_spread:
            gone &= self.holders == holder
        self.owners[gone] = _FREE
        self.rebuild()

    @property
    def free_stack(self) -> NDArray[np.intp]:
        """The numbers of the free frames, the next one last: for native code, which gives its height to `resume`."""
        return self._free

    def resume(self, top: int) -> None:
        """Go on with the stack of free frames as native code left it."""
        self._top = top

    def close_memory(self) -> None:
        """The descriptor of shared memory is needed only to give it away; the mapping stays as long as views do."""
        if self.shared_memory is not None:
            self.shared_memory.close()

    def rebuild(self) -> None:
        """Make the stack of free frames anew, from the owners."""
        free = np.flatnonzero(self.owners == _FREE)[::-1]
        self._free[: len(free)] = free
        self._top = len(free)


def _check_sizes(frame_count: int, frame_size: int, headroom: int, unaligned: bool) -> None:
    if frame_count <= 0:
        raise UsageError(f"a UMEM needs frames; frame_count is {frame_count}")
    if frame_size & (frame_size - 1) and not unaligned:
        raise UsageError(
            f"aligned frames have a power of 2 of bytes, 2048 or 4096, not {frame_size}; for any other size set "
            "unaligned=True"
        )
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
