"""User ring buffers: records from user space to programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import encode, info_of, s64

__all__ = ["UserRingBuf"]

S = TypeVar("S")
T = TypeVar("T", bound=Struct)
_MOST = 128 * 1024  # records of one drain()


class UserRingBuf(MapFacade, Generic[T]):
    """Records of one type from user space to programs, in order (BPF_MAP_TYPE_USER_RINGBUF, kernel 6.1).

    `max_entries` is its size in bytes: a power of two, and a multiple of the page size.
    """

    map_type = "user_ringbuf"
    in_program = "drain"
    parameters: ClassVar[tuple[str, ...]] = ("value_type",)

    def _check_types(self) -> None:
        if not isinstance(self.value_type, type) or not issubclass(self.value_type, Struct):
            refuse("bad-map", "the records of a UserRingBuf are structures", "write a Struct")

    def _key_size(self) -> int:
        return 0

    def _value_size(self) -> int:
        return 0

    def drain(self, visit: Callable[[T, S], bool | None], state: S, /) -> s64:
        """Call `visit(record, state)` for each record that waits, until it returns True: how many were taken out, or a
        negative errno such as -EBUSY while another CPU does the same (bpf_user_ringbuf_drain).

        The record is a copy. `state` is a local structure, or None: what `visit` shares with the program.
        """
        run = current_run()
        if run is None:
            refuse("program-only", f"{self.name}.drain() has a meaning only in a running program")
        store, size, taken = self._run_store(run), info_of(self.value_type).size, 0
        while taken < _MOST and (sample := store.next_sample()) is not None:
            taken += 1
            if len(sample) < size:
                continue
            if visit(self.value_type.__ebpf_load__(Region(bytearray(sample[:size])), 0), state):
                break
        return s64(taken)

    def send(self, record: T, /) -> None:
        """Put a record in; user space only. Raises MapError (ENOSPC) while programs have not made room."""
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot send to the map '{self.name}'")
        store: Any = self.store
        store.write(encode(self.value_type, record))

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """Nothing: records are sent to a live map."""
        return ()
