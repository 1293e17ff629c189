"""The rings between kernel and application: one producer, one consumer, a power of 2 of entries, u32 indices that wrap.

The application produces into the fill and TX rings, and consumes from the RX and completion rings. Works over any
writable memory, so that both sides can be played in a test. Who owns the frames in the entries is `umem`'s matter.
Names are libxdp's: reserve and submit, peek and release (kernel: Documentation/networking/af_xdp.rst, "Rings").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebpfkit.errors import XskError
from ebpfkit.xsk.ordering import SharedIndex, shared_index

__all__ = ["ADDRESS", "DESCRIPTOR", "ConsumerRing", "ProducerRing", "Ring"]

ADDRESS = np.dtype(np.uint64)
"""An entry of the fill and completion rings: the address of a frame within the UMEM."""
DESCRIPTOR = np.dtype([("addr", np.uint64), ("len", np.uint32), ("options", np.uint32)])
"""An entry of the RX and TX rings: address within the UMEM and length in bytes, option bits XDP_PKT_CONTD and such."""

_U32 = 0xFFFF_FFFF
_NEED_WAKEUP = 1  # XDP_RING_NEED_WAKEUP


class Places(NamedTuple):
    """The addresses of a ring's parts, for native code; `flags` is 0 for a ring without."""

    producer: int
    consumer: int
    entries: int
    flags: int


class Ring:
    """What both kinds of ring have: entries, and the two shared indices."""

    def __init__(
        self,
        memory: memoryview,
        entry: np.dtype[Any],
        size: int,
        *,
        producer: int,
        consumer: int,
        entries: int,
        flags: int | None = None,
        name: str = "ring",
    ) -> None:
        """A ring of `size` entries in `memory`; the other numbers are the byte offsets of its parts."""
        if size <= 0 or size & (size - 1):
            raise XskError(f"the {name} has {size} entries, which is no power of 2")
        self.name, self.size = name, size
        self._mask = size - 1
        self._entries: NDArray[Any] = np.frombuffer(memory, dtype=entry, count=size, offset=entries)
        self.producer_index: SharedIndex = shared_index(memory[producer : producer + 4])
        self.consumer_index: SharedIndex = shared_index(memory[consumer : consumer + 4])
        self._flags = None if flags is None else shared_index(memory[flags : flags + 4])
        base: int = np.frombuffer(memory, np.uint8).ctypes.data
        self.places = Places(base + producer, base + consumer, base + entries, 0 if flags is None else base + flags)
        # Our own index runs ahead of the one published; the other side's is read only when it has to be.
        self._producer = self.producer_index.load()
        self._consumer = self.consumer_index.load()

    @property
    def needs_wakeup(self) -> bool:
        """Whether the kernel asks to be woken (XDP_RING_NEED_WAKEUP); rings without flags never ask."""
        return self._flags is not None and bool(self._flags.load() & _NEED_WAKEUP)

    def __len__(self) -> int:
        """How many entries are submitted and not yet released, as the shared indices say."""
        return (self.producer_index.load() - self.consumer_index.load()) & _U32

    def resume(self) -> None:
        """Go on where native code left the ring."""
        self._producer = self.producer_index.load()
        self._consumer = self.consumer_index.load()

    def detach(self) -> None:
        """The memory goes: from now on the ring is empty and private, so that using it late cannot crash."""
        cell = memoryview(bytearray(4))
        self.producer_index = self.consumer_index = shared_index(cell)
        self._flags = None
        self._producer = self._consumer = 0
        self._entries = np.zeros(self.size, self._entries.dtype)

    def __repr__(self) -> str:
        return f"<{self.name} {len(self)}/{self.size} producer={self._producer} consumer={self._consumer}>"


class ProducerRing(Ring):
    """Fill and TX: reserve entries, write them, submit them."""

    def free(self, wanted: int | None = None) -> int:
        """How many entries can be reserved; the kernel's index is read only when fewer than `wanted` are known of."""
        known = self.size - ((self._producer - self._consumer) & _U32)
        if wanted is None or known < wanted:
            self._consumer = self.consumer_index.load()
            known = self.size - ((self._producer - self._consumer) & _U32)
        return known

    def reserve(self, count: int) -> int | None:
        """The index of the first of `count` entries, all reserved; None when there is no room for all."""
        if self.free(count) < count:
            return None
        index = self._producer
        self._producer = (index + count) & _U32
        return index

    def write(self, index: int, values: NDArray[Any]) -> None:
        """Put `values` into the entries from `index` on, around the end where needed."""
        start = index & self._mask
        count = len(values)
        first = min(count, self.size - start)
        self._entries[start : start + first] = values[:first]
        if first < count:
            self._entries[: count - first] = values[first:]

    def submit(self, count: int) -> None:
        """Give the kernel the next `count` reserved entries, which have been written."""
        published = self.producer_index.load()
        if count > (self._producer - published) & _U32:
            raise XskError(f"{count} entries of the {self.name} were submitted, but fewer are reserved")
        self.producer_index.store((published + count) & _U32)

    def cancel(self, count: int) -> None:
        """Give back the last `count` reserved entries, which have not been submitted."""
        if count > (self._producer - self.producer_index.load()) & _U32:
            raise XskError(f"{count} entries of the {self.name} were cancelled, but fewer are reserved")
        self._producer = (self._producer - count) & _U32

    def unconsumed(self) -> NDArray[Any]:
        """A copy of the entries that were submitted and that the kernel has not taken yet."""
        start = self.consumer_index.load() & self._mask
        return np.roll(self._entries, -start)[: len(self)].copy()

    def upcoming(self, count: int) -> NDArray[np.uint64]:
        """The addresses in the `count` entries behind those submitted, whatever is there."""
        start = self.producer_index.load() & self._mask
        entries = np.roll(self._entries, -start)[:count]
        addresses: NDArray[np.uint64] = (entries["addr"] if entries.dtype.names else entries).copy()
        return addresses

    def produce(self, values: NDArray[Any]) -> bool:
        """Reserve, write and submit at once; False when there is no room for all."""
        index = self.reserve(len(values))
        if index is None:
            return False
        self.write(index, values)
        self.submit(len(values))
        return True


class ConsumerRing(Ring):
    """RX and completion: peek at entries, read them, release them."""

    def available(self, wanted: int | None = None) -> int:
        """How many entries can be peeked; the kernel's index is read only when fewer than `wanted` are known of."""
        known = (self._producer - self._consumer) & _U32
        if wanted is None or known < wanted:
            self._producer = self.producer_index.load()
            known = (self._producer - self._consumer) & _U32
        if known > self.size:
            raise XskError(f"the indices of the {self.name} are damaged: {known} entries in a ring of {self.size}")
        return known

    def peek(self, count: int) -> tuple[int, int]:
        """The index of the first entry and how many there are to read, at most `count`; a later peek goes on behind."""
        found = min(count, self.available(count))
        index = self._consumer
        self._consumer = (index + found) & _U32
        return index, found

    def read(self, index: int, count: int) -> NDArray[Any]:
        """A copy of `count` entries from `index` on."""
        start = index & self._mask
        if start + count <= self.size:
            return self._entries[start : start + count].copy()
        return np.concatenate((self._entries[start:], self._entries[: start + count - self.size]))

    def unread(self) -> NDArray[Any]:
        """A copy of the entries that the kernel put in and that were not released yet."""
        start = self.consumer_index.load() & self._mask
        return np.roll(self._entries, -start)[: len(self)].copy()

    def release(self, count: int) -> None:
        """Let the kernel write over the next `count` entries that were peeked at."""
        published = self.consumer_index.load()
        if count > (self._consumer - published) & _U32:
            raise XskError(f"{count} entries of the {self.name} were released, but fewer were peeked at")
        self.consumer_index.store((published + count) & _U32)

    def cancel(self, count: int) -> None:
        """Un-peek the last `count` entries, so that the next peek sees them again."""
        if count > (self._consumer - self.consumer_index.load()) & _U32:
            raise XskError(f"{count} entries of the {self.name} were cancelled, but fewer were peeked at")
        self._consumer = (self._consumer - count) & _U32

    def consume(self, count: int) -> NDArray[Any]:
        """Peek, read and release at once: up to `count` entries."""
        index, found = self.peek(count)
        values = self.read(index, found)
        if found:
            self.release(found)
        return values
