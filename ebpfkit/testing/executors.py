"""One program in one executor: plain Python, the interpreter, the JIT, or the kernel, packet after packet.

Each executor has maps of its own, which start with what the subject's maps hold and keep what the packets do to them.
Clock and random numbers come from the caller, so that runs repeat (not in the kernel, which has its own). Comparing
executors is `diff`'s.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ebpfkit.errors import KernelError, MachineFault, NotSupported, UsageError
from ebpfkit.testing.subjects import Subject

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.maps.store import MapStore
    from ebpfkit.vm.machine import Step
    from ebpfkit.vm.objects import Effect

__all__ = [
    "EXECUTORS",
    "Executor",
    "FakeClock",
    "FakeRandom",
    "Outcome",
    "can_use_kernel",
    "open_executor",
    "verdict_name",
]

EXECUTORS = ("python", "interpreter", "jit", "trusted", "kernel")
"""Where a program can be run and compared: "jit" is native code with every check, "trusted" without, for programs that
the verifier accepts."""
LOOPBACK = 1  # the interface of BPF_PROG_TEST_RUN
_PYTHON_FIELDS = {"ingress_ifindex": "ingress_ifindex", "rx_queue_index": "rx_queue"}  # context to run_python
_KERNEL_MINIMUM = 14  # bytes of a packet that BPF_PROG_TEST_RUN takes
_CAP_NET_ADMIN, _CAP_BPF, _CAP_SYS_ADMIN = 12, 39, 21


class FakeClock:
    """A clock that moves when it is told to: nanoseconds. Calling it reads it.

    >>> clock = FakeClock(1_000)
    >>> clock.advance(seconds=2)
    >>> clock()
    2000001000
    """

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, *, seconds: float = 0, ns: int = 0) -> None:
        """Move on."""
        self.now_ns += round(seconds * 1_000_000_000) + ns


class FakeRandom(random.Random):
    """Random numbers that repeat: first `numbers` in their order, then those that `seed` gives.

    >>> FakeRandom([7, 8]).getrandbits(32)
    7
    """

    def __init__(self, numbers: Iterable[int] = (), seed: int = 0) -> None:
        super().__init__(seed)
        self.numbers = tuple(numbers)
        self.first_seed = seed
        self._next = 0

    def getrandbits(self, k: int, /) -> int:
        if self._next < len(self.numbers):
            self._next += 1
            return self.numbers[self._next - 1] & ((1 << k) - 1)
        return super().getrandbits(k)

    def fork(self) -> FakeRandom:
        """The same numbers again, from the first on."""
        return FakeRandom(self.numbers, self.first_seed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one packet came to in one executor.

    `action` is what the program returned (32 bits), `data` the packet afterwards, `insns` the instructions executed
    (None where nothing counts them), `fault` why the virtual machine stopped it. `redirect` is the last redirection:
    (map, key), or ("", interface); None in the kernel, which does not tell. `printed` and `effects` are lines of
    trace_printk and what helpers would have done to the world, in the virtual machine.
    """

    executor: str
    action: int = 0
    data: bytes = b""
    insns: int | None = None
    fault: str = ""
    redirect: tuple[str, int] | None = None
    printed: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    _maps: Callable[[], Mapping[str, Mapping[Any, Any]]] = field(default=dict, repr=False, compare=False)

    @property
    def maps(self) -> Mapping[str, Mapping[Any, Any]]:
        """The maps of the executor, in their types where those are known: as they are now, not as they were then."""
        return self._maps()

    def expect(
        self,
        *,
        action: int | None = None,
        data: bytes | None = None,
        maps: Mapping[str, Mapping[Any, Any]] | None = None,
        max_insns: int | None = None,
        redirect: tuple[str, int] | None = None,
    ) -> Outcome:
        """Assert what is given: verdict, bytes, entries of maps, an upper bound of instructions, redirection; itself.

        Of `maps` only the given entries are looked at; an entry that is expected to be None must be missing. Raises
        AssertionError that says what was found.
        """
        __tracebackhide__ = True
        if self.fault:
            raise AssertionError(f"{self.executor}: {self.fault}")
        if action is not None and self.action != action:
            raise AssertionError(
                f"{self.executor}: the verdict is {verdict_name(self.action)}, not {verdict_name(action)}"
            )
        if data is not None and self.data != data:
            raise AssertionError(f"{self.executor}: {describe_bytes(data, self.data)}")
        if max_insns is not None:
            if self.insns is None:
                raise AssertionError(f"{self.executor} does not count instructions: run on the interpreter")
            if self.insns > max_insns:
                raise AssertionError(f"{self.executor}: {self.insns} instructions, {max_insns} are allowed")
        if redirect is not None and self.redirect != redirect:
            raise AssertionError(f"{self.executor}: redirected to {self.redirect}, not {redirect}")
        for name, entries in (maps or {}).items():
            self._expect_entries(name, entries)
        return self

    def _expect_entries(self, name: str, entries: Mapping[Any, Any]) -> None:
        __tracebackhide__ = True
        there = self.maps
        if name not in there:
            raise AssertionError(f"{self.executor}: there is no map {name!r}; there are {', '.join(there) or 'none'}")
        for key, value in entries.items():
            found = _look_up(there[name], key)
            if found != value:
                raise AssertionError(f"{self.executor}: {name}[{key!r}] is {found!r}, not {value!r}")


def _look_up(entries: Mapping[Any, Any], key: Any) -> Any:
    """An entry by key, or by the key as text (addresses)."""
    if key in entries:
        return entries[key]
    return next((value for known, value in entries.items() if known == key or str(known) == key), None)


def verdict_name(number: int) -> str:
    """A verdict of XDP by name, another number as it is."""
    from ebpfkit.dsl.verdicts import XdpAction

    try:
        return f"{XdpAction(number).name}"
    except ValueError:
        return str(number)


def describe_bytes(expected: bytes, found: bytes) -> str:
    """Where two packets differ first."""
    if len(expected) != len(found):
        return f"the packet has {len(found)} bytes, not {len(expected)}"
    at = next(at for at, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other)
    window = slice(max(0, at - 4), at + 8)
    return f"byte {at} of the packet is {found[at]:#04x}, not {expected[at]:#04x} (...{found[window].hex(' ')}...)"


class Executor:
    """A program that takes packets. A context manager; `maps` and `raw_maps` are read when they are asked for."""

    on = ""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def refuses(self, frame: bytes) -> str:
        """Why this packet cannot be given to the executor at all, or an empty string."""
        return ""

    def run(self, frame: bytes, time_ns: int = 0) -> Outcome:
        """One packet; programs that ask for the time get `time_ns` (not in the kernel)."""
        raise NotImplementedError

    def stores(self) -> Mapping[str, MapStore]:
        """The maps by name."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what the executor holds."""

    def put_in_maps(self, stores: Mapping[str, Any]) -> None:
        """Put copies of the maps in maps of maps into this executor's."""
        for facade in self.subject.program.maps if self.subject.program is not None else ():
            if facade.name in stores:
                facade.fill(stores[facade.name])

    @property
    def maps(self) -> dict[str, dict[Any, Any]]:
        """The entries of every map: of arrays those that are not zero, of per-CPU maps a list for each CPU."""
        from ebpfkit.pipeline import entries_of, snapshot

        contents: dict[str, dict[Any, Any]] = {}
        for name, store in self.stores().items():
            facade = self.subject.facades.get(name)
            contents[name] = dict(entries_of(store)) if facade is None else snapshot(facade, store)
        return contents

    @property
    def raw_maps(self) -> dict[str, dict[bytes, tuple[bytes, ...]]]:
        """The entries of every map as bytes that can be compared between executors: per-CPU values without zeros."""
        from ebpfkit.pipeline import entries_inside, entries_of

        return {
            name: {
                key: cells
                for key, value in entries_of(store)
                if (
                    cells := _cells(store, value)
                    if store.spec.inner is None
                    else _flat(entries_inside(store, key, value))
                )
            }
            for name, store in self.stores().items()
        }

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _flat(entries: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """The entries of a map in a map, in the order of their keys."""
    return tuple(part for entry in sorted(entries) for part in entry)


def _cells(store: MapStore, value: bytes) -> tuple[bytes, ...]:
    """A value, or those of its CPUs that are not zero."""
    if "percpu" not in store.spec.type:
        return (value,)
    size = store.spec.value_size
    stride = -(-size // 8) * 8
    parts = [value[at : at + size] for at in range(0, len(value), stride)]
    return tuple(part for part in parts if any(part))


class PythonExecutor(Executor):
    """The function itself."""

    on = "python"

    def __init__(
        self, subject: Subject, clock: FakeClock | None, numbers: FakeRandom, context: Mapping[str, int]
    ) -> None:
        from ebpfkit.maps.memory import create_store

        super().__init__(subject)
        if subject.program is None:
            raise NotSupported(
                f"{subject.name} in plain Python", why="it is no Python function; compare interpreter, jit and kernel"
            )
        unknown = set(context) - _PYTHON_FIELDS.keys()
        if unknown:
            why = f"it has {', '.join(_PYTHON_FIELDS)}"
            raise NotSupported(f"the field '{min(unknown)}' of the context in plain Python", why=why)
        self._fields: dict[str, Any] = {_PYTHON_FIELDS[name]: number for name, number in context.items()}
        self._program = subject.program
        self._clock = clock
        self._numbers = numbers
        self._stores: dict[MapFacade, Any] = {
            facade: create_store(subject.object.maps[facade.name]) for facade in subject.program.maps
        }
        self.put_in_maps(self.stores())

    def run(self, frame: bytes, time_ns: int = 0) -> Outcome:
        from ebpfkit.dsl.execute import run_python

        done = run_python(
            self._program,
            frame,
            clock=self._clock or (lambda: time_ns),
            random=lambda: self._numbers.getrandbits(32),
            maps=self._stores,
            **{"ingress_ifindex": LOOPBACK, **self._fields},
        )
        return Outcome(self.on, int(done.action), done.data, redirect=done.redirect, _maps=lambda: self.maps)

    def stores(self) -> Mapping[str, MapStore]:
        return {facade.name: store for facade, store in self._stores.items()}


class MachineExecutor(Executor):
    """The virtual machine: its interpreter, or native code, with every check or (once verified) without."""

    def __init__(
        self,
        subject: Subject,
        on: str,
        clock: FakeClock | None,
        numbers: FakeRandom,
        context: Mapping[str, int],
        options: Mapping[str, Any],
    ) -> None:
        from ebpfkit.vm.machine import Machine

        super().__init__(subject)
        self.on = on
        self._clock = clock
        self.trace: Callable[[Step], None] | None = None
        """Called before every instruction (interpreter)."""
        self._context = context
        self._ifindex = context.get("ingress_ifindex", context.get("ifindex", LOOPBACK))
        mode: dict[str, Any] = {}
        if on == "jit":
            mode = {"jit": "safe"}
        elif on == "trusted":
            from ebpfkit.pipeline import require_verified

            mode = {"jit": "trusted", "report": require_verified(subject.object)}
        self.machine = Machine(subject.object, program=subject.name, **{**mode, **options})
        self.machine.random = numbers
        self.put_in_maps(self.machine.maps)

    def run(self, frame: bytes, time_ns: int = 0) -> Outcome:
        now = time_ns if self._clock is None else self._clock()
        try:
            done = self.machine.run(frame, ifindex=self._ifindex, context=self._context, time_ns=now, trace=self.trace)
        except MachineFault as fault:
            return Outcome(self.on, fault=str(fault), _maps=lambda: self.maps)
        action = done.r0 & 0xFFFF_FFFF
        redirect = None if done.redirect is None else done.redirect[:2]
        return Outcome(
            self.on, action, done.data, done.insns,
            redirect=redirect, printed=done.printed, effects=done.effects, _maps=lambda: self.maps,
        )  # fmt: skip

    def stores(self) -> Mapping[str, MapStore]:
        return self.machine.maps


class KernelExecutor(Executor):
    """The running kernel, through BPF_PROG_TEST_RUN. The process stays on one CPU while it is open."""

    on = "kernel"

    def __init__(self, subject: Subject, context: Mapping[str, int]) -> None:
        from ebpfkit.loader import Collection

        super().__init__(subject)
        if context:
            why = "BPF_PROG_TEST_RUN shows the loopback device; compare python, interpreter and jit"
            raise NotSupported(f"the field '{next(iter(context))}' of the context in the kernel", why=why)
        self._cpus = os.sched_getaffinity(0)
        self._collection = Collection.load(subject.object, programs=[subject.name])
        self.put_in_maps(self._collection.maps)
        os.sched_setaffinity(0, {min(self._cpus)})

    def refuses(self, frame: bytes) -> str:
        few = len(frame) < _KERNEL_MINIMUM
        return f"BPF_PROG_TEST_RUN takes packets from {_KERNEL_MINIMUM} bytes on" if few else ""

    def run(self, frame: bytes, time_ns: int = 0) -> Outcome:
        done = self._collection.programs[self.subject.name].test_run(frame)
        return Outcome(self.on, done.retval, done.data, _maps=lambda: self.maps)

    def stores(self) -> Mapping[str, MapStore]:
        return self._collection.maps

    def close(self) -> None:
        self._collection.close()
        os.sched_setaffinity(0, self._cpus)


def open_executor(
    subject: Subject,
    on: str,
    *,
    clock: FakeClock | None = None,
    numbers: FakeRandom | None = None,
    context: Mapping[str, int] | None = None,
    **machine: Any,
) -> Executor:
    """A subject in an executor of EXECUTORS.

    `clock` is read by programs that ask for the time; without one they get the time of each packet. `numbers` are the
    random numbers, `context` fields of the context; `machine` are further options of the virtual machine (`fib`,
    `sockets`, `task`). Raises NotSupported where this executor cannot run it, UsageError for an unknown one,
    KernelError and VerifierError from the kernel.
    """
    if on not in EXECUTORS:
        raise UsageError(f"no executor {on!r}; there are {', '.join(EXECUTORS)}")
    stream = (numbers or FakeRandom()).fork()
    if on == "python":
        return PythonExecutor(subject, clock, stream, context or {})
    if on == "kernel":
        if not can_use_kernel():
            raise KernelError("running in the kernel needs CAP_BPF and CAP_NET_ADMIN (or root) on Linux", errno=1)
        return KernelExecutor(subject, context or {})
    return MachineExecutor(subject, on, clock, stream, context or {}, machine)


def can_use_kernel() -> bool:
    """Whether this process may load programs into a kernel."""
    try:
        with open("/proc/self/status") as status:
            line = next((line for line in status if line.startswith("CapEff")), "CapEff: 0")
    except OSError:
        return False
    effective = int(line.split()[1], 16)
    return bool(effective >> _CAP_SYS_ADMIN & 1 or (effective >> _CAP_NET_ADMIN & 1 and effective >> _CAP_BPF & 1))
