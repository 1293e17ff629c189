"""Maps without keys: queues, stacks and bloom filters.

In a program an operation is the helper's; in user space it is what bpf(2) does with an empty key.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, cast

from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.types import encode, s64
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST

__all__ = ["BloomFilter", "Queue", "Stack"]

V = TypeVar("V")


class _Keyless(MapFacade):
    """What maps without keys share."""

    parameters: ClassVar[tuple[str, ...]] = ("value_type",)

    def _key_size(self) -> int:
        return 0

    def decode_value(self, data: bytes) -> Any:
        """A stored value in the map's value type, as a copy."""
        return self.value_type.__ebpf_load__(Region(bytearray(data)), 0)


class Queue(_Keyless, Generic[V]):
    """Values, first in, first out (BPF_MAP_TYPE_QUEUE)."""

    map_type = "queue"
    in_program = "push, pop, peek"

    def push(self, value: V | int, /, *, replace: bool = False) -> s64:
        """Put a value in: 0, or a negative errno (-E2BIG) when it is full; `replace` drops the oldest instead.

        In user space a full map raises MapError.
        """
        data, flags = encode(self.value_type, value), BPF_EXIST if replace else BPF_ANY
        run = current_run()
        if run is not None:
            return s64(self._run_store(run).push(data, flags))
        self.store.set(b"", data, flags)
        return s64(0)

    def pop(self) -> V | None:
        """Take the next value out, or None when there is none."""
        return self._take("pop")

    def peek(self) -> V | None:
        """The next value, which stays, or None."""
        return self._take("get")

    def _take(self, how: str) -> V | None:
        run = current_run()
        store: Any = self.store if run is None else self._run_store(run)
        data: bytes | None = getattr(store, how)(b"")
        return None if data is None else cast(V, self.decode_value(data))

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """What user space has put in before the load, in the order of putting in."""
        values = self._memory.values() if self._memory is not None else []
        return tuple((b"", value) for value in values)


class Stack(Queue[V], Generic[V]):
    """Values, last in, first out (BPF_MAP_TYPE_STACK)."""

    map_type = "stack"

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """What user space has put in before the load, in the order of putting in."""
        return super().initial_contents()[::-1]


class BloomFilter(_Keyless, Generic[V]):
    """A set that may say yes wrongly, never no (BPF_MAP_TYPE_BLOOM_FILTER)."""

    map_type = "bloom_filter"
    in_program = "add, in"

    def _check_types(self) -> None:
        self._added: list[bytes] = []

    def add(self, value: V | int, /) -> None:
        """Put a value in."""
        data = encode(self.value_type, value)
        run = current_run()
        if run is not None:
            self._run_store(run).push(data, BPF_ANY)
            return
        self.store.set(b"", data)
        if not self.is_bound:
            self._added.append(data)

    def __contains__(self, value: V | int, /) -> bool:
        run = current_run()
        store: Any = self.store if run is None else self._run_store(run)
        return bool(store.contains(encode(self.value_type, value)))

    def close(self) -> None:
        """Let go of every store, and forget what is in memory."""
        super().close()
        self._added.clear()

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """What user space has put in before the load: a filter cannot be read back."""
        return tuple((b"", value) for value in self._added)
