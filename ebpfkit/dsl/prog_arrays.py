"""Tables of programs that others jump to (tail calls), and what the jump is in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ebpfkit.abi.limits import MAX_TAIL_CALLS
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.types import encode, u32
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Program
    from ebpfkit.maps.store import MapStore

__all__ = ["ProgArray", "TailCall"]


class HasFileno(Protocol):
    """A program in the kernel."""

    def fileno(self) -> int: ...


class TailCall(Exception):
    """A running program jumps to another one and does not come back."""

    def __init__(self, program: Program[Any]) -> None:
        super().__init__(program.name)
        self.program = program


class ProgArray(MapFacade):
    """Programs by number, for tail calls (BPF_MAP_TYPE_PROG_ARRAY).

        table = bpf.ProgArray(max_entries=8)
        table[0] = parse_tcp                     # a decorated function: compiled and loaded along

    In a program `table.tail_call(pkt, index)` goes on in the program at `index` and does not come back; where there is
    none, it does nothing. All programs of a table are of one type.
    """

    map_type = "prog_array"
    parameters: ClassVar[tuple[str, ...]] = ()
    in_program = "tail_call"
    key_type = u32
    value_type = u32

    def __init__(self, *, max_entries: int, name: str = "", flags: int = 0) -> None:
        super().__init__(max_entries=max_entries, name=name, flags=flags)
        self._programs: dict[int, Program[Any]] = {}
        self._descriptors: list[tuple[MapStore, Callable[[Program[Any]], int]]] = []

    @property
    def programs(self) -> Mapping[int, Program[Any]]:
        """The decorated functions in the table, by number."""
        return self._programs

    def tail_call(self, pkt: object, index: int, /) -> None:
        """Go on in the program at `index`, on the same packet, and never come back (bpf_tail_call).

        Without a program there, or after 33 jumps, the program goes on behind the call.
        """
        run = current_run()
        if run is None:
            refuse("program-only", f"{self.name}.tail_call() has a meaning only in a running program")
        if pkt is not run.packet:
            refuse("bad-type", "tail_call() takes the program's own context first", "write tail_call(pkt, index)")
        if run.locked:
            refuse("in-lock", "a tail call while a spin lock is held", "do it before or after the with")
        if run.reserved:
            message = f"a tail call while a record of '{run.reserved[0].name}' is neither submitted nor discarded"
            refuse("record-leak", message, "call .submit() or .discard() before")
        target = self._programs.get(u32.accept(index))
        if target is not None and run.tail_calls < MAX_TAIL_CALLS:
            run.tail_calls += 1
            raise TailCall(target)

    def __setitem__(self, index: int, program: Program[Any] | HasFileno, /) -> None:
        self._outside("change")
        number = self._number(index)
        from ebpfkit.dsl.program import Program

        if isinstance(program, Program):
            self._check_kind(program)
            if self._descriptors:
                store, descriptor_of = self._descriptors[-1]
                store.set(encode(u32, number), encode(u32, descriptor_of(program)))
            self._programs[number] = program
            self._memory = None  # what the virtual machine put there
        elif self.is_bound and hasattr(program, "fileno"):
            self.store.set(encode(u32, number), encode(u32, program.fileno()))
        else:
            what = type(program).__name__
            raise UsageError(f"'{self.name}' holds programs, decorated functions or loaded ones, not a {what}")

    def __delitem__(self, index: int, /) -> None:
        self._outside("change")
        number = self._number(index)
        if self._descriptors:
            self._descriptors[-1][0].delete(encode(u32, number))
        self._programs.pop(number, None)
        self._memory = None

    def __getitem__(self, index: int, /) -> Program[Any] | None:
        """The decorated function at `index`, or None."""
        self._outside("read")
        return self._programs.get(self._number(index))

    def bind_programs(self, store: MapStore, descriptor_of: Callable[[Program[Any]], int]) -> None:
        """Where the live programs of this table come from (a load does this); `descriptor_of` raises UsageError."""
        self._descriptors.append((store, descriptor_of))

    def unbind(self, store: MapStore | None = None) -> None:
        """Let go of one store, or of all."""
        super().unbind(store)
        self._descriptors = [kept for kept in self._descriptors if store is not None and kept[0] is not store]

    def close(self) -> None:
        """Let go of every store; which programs are in the table stays, as the module says."""
        super().close()

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """Nothing: the object itself names the programs."""
        return ()

    def _number(self, index: int) -> int:
        number = int(u32.accept(index))
        if number >= self.max_entries:
            raise UsageError(f"'{self.name}' has room for {self.max_entries} programs, 0 to {self.max_entries - 1}")
        return number

    def _check_kind(self, program: Program[Any]) -> None:
        """The kernel wants one type in a table, and all or none with packets of several buffers."""
        for other in self._programs.values():
            if (other.prog_type, other.frags) != (program.prog_type, program.frags):
                mine, its = _kind_of(program), _kind_of(other)
                raise UsageError(f"{program.name} is {mine}, and '{self.name}' has {other.name}, which is {its}")

    def _outside(self, what: str) -> None:
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot {what} the map '{self.name}'")


def _kind_of(program: Program[Any]) -> str:
    return f"{program.prog_type} with frags" if program.frags else program.prog_type
