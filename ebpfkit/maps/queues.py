"""Maps without keys: `queue`, `stack`, `bloom_filter`, and the ring buffers, to and from user space."""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass

from ebpfkit._bits import round_up
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapError
from ebpfkit.maps.base import ENOTSUPP, MAX_STORE_BYTES, MemoryStore
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST, BPF_NOEXIST

__all__ = ["BloomFilterStore", "QueueStore", "Record", "RingBufferStore", "StackStore", "UserRingBufferStore"]

PAGE = 4096
_HEADER = 8  # bytes before each record in the ring


class QueueStore(MemoryStore):
    """First in, first out. `set(b"", value)` pushes, `get(b"")` peeks, `pop()` takes, as bpf(2) does."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._values: deque[bytes] = deque()

    def _validate(self, spec: MapSpec) -> None:
        if spec.key_size or not spec.value_size or not spec.max_entries:
            self._refuse("key_size must be zero, value_size and max_entries must not")
        if spec.value_size * spec.max_entries > MAX_STORE_BYTES:
            raise MapError(f"map '{spec.name}': {spec.max_entries} values take too much memory", errno=errno.ENOMEM)

    def push(self, value: bytes, flags: int = BPF_ANY) -> int:
        if flags == BPF_NOEXIST or flags > BPF_EXIST:
            return -errno.EINVAL
        if len(self._values) >= self._spec.max_entries:
            if flags != BPF_EXIST:
                return -errno.E2BIG
            self._values.popleft()  # BPF_EXIST: the oldest makes room
        self._values.append(bytes(value))
        return 0

    def take(self, *, remove: bool) -> bytes | int:
        if not self._values:
            return -errno.ENOENT
        return self._values.popleft() if remove else self._values[0]

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return -errno.EINVAL

    def remove(self, key: bytes) -> int:
        return -errno.EINVAL

    def _read(self, key: bytes) -> bytes | int:
        return self.take(remove=False)

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        return self.push(value, flags)

    def _pop(self, key: bytes) -> bytes | int:
        return self.take(remove=True)

    def values(self) -> list[bytes]:
        """A copy of what waits, next first."""
        return list(self._values)

    def __len__(self) -> int:
        return len(self._values)


class StackStore(QueueStore):
    """Last in, first out."""

    def take(self, *, remove: bool) -> bytes | int:
        if not self._values:
            return -errno.ENOENT
        return self._values.pop() if remove else self._values[-1]

    def values(self) -> list[bytes]:
        return list(reversed(self._values))


class BloomFilterStore(MemoryStore):
    """A set that may say yes wrongly, never no. `set(b"", value)` adds; `contains` asks."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._hashes = spec.map_extra & 0xF or 5
        wanted = spec.max_entries * self._hashes * 7 // 5  # n * k / ln 2, as the kernel sizes it
        self._mask = min((1 << max(wanted - 1, 63).bit_length()), MAX_STORE_BYTES * 8) - 1
        self._map = bytearray((self._mask + 1) // 8)

    def _validate(self, spec: MapSpec) -> None:
        if spec.key_size or not spec.value_size or not spec.max_entries:
            self._refuse("key_size must be zero, value_size and max_entries must not")
        if spec.map_extra & ~0xF:
            self._refuse("map_extra is the number of hash functions, 0 to 15")

    def _positions(self, value: bytes) -> list[int]:
        import hashlib  # loads a cryptographic library, which few programs need

        digest = hashlib.blake2b(value, digest_size=64).digest()
        first, second = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little") | 1
        return [(first + i * second) & self._mask for i in range(self._hashes)]

    def push(self, value: bytes, flags: int = BPF_ANY) -> int:
        if flags != BPF_ANY:
            return -errno.EINVAL
        for position in self._positions(bytes(value)):
            self._map[position >> 3] |= 1 << (position & 7)
        return 0

    def contains(self, value: bytes) -> bool:
        """Whether `value` may have been added (bpf_map_peek_elem)."""
        return all(self._map[position >> 3] >> (position & 7) & 1 for position in self._positions(bytes(value)))

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return -errno.EINVAL

    def _read(self, key: bytes) -> bytes | int:
        return -errno.ENOENT

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        return self.push(value, flags)

    def _pop(self, key: bytes) -> bytes | int:
        return -errno.EOPNOTSUPP


@dataclass(slots=True)
class Record:
    """One record of a ring buffer: its live bytes, and whether it was submitted or thrown away."""

    data: bytearray
    position: int
    state: str = "reserved"  # "reserved", "submitted", "discarded"


class _Ring(MemoryStore):
    """A byte ring with a producer and a consumer position, in which a record takes 8 bytes more than its data."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self.producer_position = 0
        self.consumer_position = 0

    def _validate(self, spec: MapSpec) -> None:
        size = spec.max_entries
        if spec.key_size or spec.value_size:
            self._refuse("key_size and value_size of a ring buffer must be zero")
        if not size or size & (size - 1) or size % PAGE:
            self._refuse(
                f"max_entries is the size in bytes: a power of two and a multiple of the page size, not {size}"
            )
        if size > MAX_STORE_BYTES:
            raise MapError(f"map '{spec.name}': a ring of {size} bytes takes too much memory", errno=errno.ENOMEM)

    @property
    def available(self) -> int:
        """Bytes that wait for the reader, headers included (BPF_RB_AVAIL_DATA)."""
        return self.producer_position - self.consumer_position

    def _read(self, key: bytes) -> bytes | int:
        return -ENOTSUPP

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return -ENOTSUPP

    def remove(self, key: bytes) -> int:
        return -ENOTSUPP


class RingBufferStore(_Ring):
    """From programs to user space: a record is read only after every earlier one was submitted or discarded."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._records: deque[Record] = deque()

    def reserve(self, size: int) -> Record | None:
        """Room for `size` bytes, or None when the ring is full or the record larger than it."""
        total = round_up(size + _HEADER, 8)
        if total > self._spec.max_entries or size >= 1 << 30:
            return None
        if self.available + total > self._spec.max_entries - 1:
            return None
        record = Record(bytearray(size), self.producer_position)
        self.producer_position += total
        self._records.append(record)
        return record

    def finish(self, record: Record, *, discard: bool = False) -> None:
        """Submit or throw away a reserved record."""
        record.state = "discarded" if discard else "submitted"

    def output(self, data: bytes) -> int:
        """Copy a record in: 0 or -EAGAIN when there is no room."""
        record = self.reserve(len(data))
        if record is None:
            return -errno.EAGAIN
        record.data[:] = data
        self.finish(record)
        return 0

    def read(self) -> list[bytes]:
        """Take every record that is ready."""
        ready = []
        while self._records and self._records[0].state != "reserved":
            record = self._records.popleft()
            self.consumer_position += round_up(len(record.data) + _HEADER, 8)
            if record.state == "submitted":
                ready.append(bytes(record.data))
        return ready

    def __len__(self) -> int:
        return len(self._records)


class UserRingBufferStore(_Ring):
    """From user space to programs: `write` puts a sample in, bpf_user_ringbuf_drain takes it out."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._samples: deque[bytes] = deque()

    def write(self, sample: bytes) -> None:
        """Put a sample in. Raises MapError with E2BIG (larger than the ring) or ENOSPC (programs have not read it)."""
        total = round_up(len(sample) + _HEADER, 8)
        if total > self._spec.max_entries:
            self._fail(errno.E2BIG, f"write {len(sample)} bytes")
        if self.available + total > self._spec.max_entries:
            self._fail(errno.ENOSPC, f"write {len(sample)} bytes")
        self.producer_position += total
        self._samples.append(bytes(sample))

    def next_sample(self) -> bytes | None:
        """Take the oldest sample out; None when the ring is empty."""
        if not self._samples:
            return None
        sample = self._samples.popleft()
        self.consumer_position += round_up(len(sample) + _HEADER, 8)
        return sample

    def __len__(self) -> int:
        return len(self._samples)
