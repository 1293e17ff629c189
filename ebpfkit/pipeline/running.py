"""One function or file on packets: plain Python, the virtual machine, its JIT, the kernel."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO
from weakref import WeakKeyDictionary

from ebpfkit.dsl.maps_of_maps import MapOfMaps
from ebpfkit.dsl.prog_arrays import ProgArray
from ebpfkit.elf.model import ObjectFile, ProgramSpec
from ebpfkit.errors import MapError, NotSupported, UsageError
from ebpfkit.pipeline.contents import read_entries
from ebpfkit.pipeline.judging import verify
from ebpfkit.pipeline.sources import Source, build, with_contents
from ebpfkit.pipeline.variables import decoded, first_values, in_machine, variables_of

if TYPE_CHECKING:
    from ebpfkit.compiler.native import NativeRun
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program
    from ebpfkit.maps.store import MapStore
    from ebpfkit.verifier.report import Report
    from ebpfkit.vm.jit_loop import CaptureTotals
    from ebpfkit.vm.machine import Machine
    from ebpfkit.vm.machine import Result as MachineResult
    from ebpfkit.vm.pcap import Packet
    from ebpfkit.vm.surroundings import Around

__all__ = [
    "EXECUTORS", "MachineRun", "Result", "Surrounding", "entries_inside", "entries_of", "require_verified", "run",
    "snapshot",
]  # fmt: skip


EXECUTORS = ("python", "interpreter", "jit", "kernel", "native")


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a program did.

    `action` is what it returned (an `XdpAction` for XDP programs), `data` the packet afterwards, `maps` the contents of
    every map it uses, by name (key to value, in the types of the map), `variables` the values of the global variables,
    `insns` the instructions executed, or None where nothing counts them, `traced` the lines of `trace` (empty for the
    kernel, whose lines are in /sys/kernel/tracing/trace_pipe).
    """

    action: int
    data: bytes
    maps: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    insns: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    traced: tuple[str, ...] = ()


def run(program: Program, frame: bytes, on: str = "interpreter", **options: Any) -> Result:
    """Run a decorated function on one packet.

    `on` is "python" (the function itself), "interpreter" (the virtual machine), "jit" (the virtual machine's native
    code; with `trusted=True` without checks, for what our verifier accepts), "kernel" (BPF_PROG_TEST_RUN) or "native"
    (as over AF_XDP: machine code of its own, not by way of BPF; for what our verifier accepts). The maps of the module
    keep what the run did to them, except that a run in the kernel starts from a copy of their contents, and
    `Result.maps` tells what became of it.
    """
    if on not in EXECUTORS:
        raise UsageError(f"no executor {on!r}; there are {', '.join(EXECUTORS)}")
    runners: dict[str, Callable[..., Result]] = {
        "python": _run_python, "interpreter": _run_interpreter, "jit": _run_jit, "kernel": _run_kernel,
        "native": _run_native,
    }  # fmt: skip
    return runners[on](program, bytes(frame), **options)


LOOPBACK = 1  # the interface that BPF_PROG_TEST_RUN shows to a program: every executor shows the same


def _run_python(program: Program, frame: bytes, **options: Any) -> Result:
    from ebpfkit.dsl.execute import run_python

    done = run_python(program, frame, **{"ingress_ifindex": LOOPBACK, **options})
    return Result(done.action, done.data, _contents_of(program), None, _values_of(program), done.traced)


def _run_interpreter(program: Program, frame: bytes, **options: Any) -> Result:
    from ebpfkit.vm import Machine

    obj = _built_for_run(program)
    machine = Machine(obj, maps=[_memory_of(facade) for facade in program.maps], program=program.name)
    return machine_result(program, obj, machine, frame, options)


def machine_result(
    program: Program, obj: ObjectFile, machine: Machine, frame: bytes, options: Mapping[str, Any]
) -> Result:
    """Run a machine on a packet, or a context, with the variables of the program; what came of it."""
    with in_machine(machine, obj, variables_of([program], obj).values()):
        done = machine.run(frame, **{"ifindex": LOOPBACK, **options})
    action = _action(program, done.r0)
    return Result(action, done.data, _contents_of(program), done.insns, _values_of(program), done.printed)


_JITTED: WeakKeyDictionary[Program, tuple[tuple[object, ...], Machine]] = WeakKeyDictionary()


def _run_jit(program: Program, frame: bytes, *, trusted: bool = False, **options: Any) -> Result:
    return machine_result(program, _built_for_run(program), _jit_machine(program, trusted), frame, options)


def _jit_machine(program: Program, trusted: bool) -> Machine:
    """A machine with native code, kept as long as the program and the stores of its maps stay the same."""
    from ebpfkit.vm import Machine

    obj = _built_for_run(program)
    stores = _native_stores(program.maps)
    key = (obj, trusted, *stores)
    known = _JITTED.get(program)
    if known is None or len(known[0]) != len(key) or any(a is not b for a, b in zip(known[0], key)):
        report = require_verified(obj) if trusted else None
        mode = "trusted" if trusted else "safe"
        machine = Machine(obj, maps=stores, program=program.name, jit=mode, report=report)
        known = _JITTED[program] = (key, machine)
    return known[1]


def _native_stores(facades: Iterable[MapFacade]) -> list[MapStore]:
    """The in-memory stores of maps, made such that native code works on them."""
    stores = []
    for facade in facades:
        if _memory_of(facade) is facade.memory_store:
            facade.make_native()
        stores.append(_memory_of(facade))
    return stores


def require_verified(obj: ObjectFile) -> Report:
    """The verifier's report on every program of the object. Raises VerifierError, or NotSupported for no verdict."""
    report = verify(obj)
    for error in report.errors:
        raise error
    for one in report:
        if not one.ok:
            raise NotSupported(f"trusted native code for '{one.name}'", why=f"it could not be verified: {one.message}")
    return report


def _run_kernel(program: Program, frame: bytes, *, context: Mapping[str, int] | None = None) -> Result:
    if not context:
        return kernel_run(program, frame)
    from ebpfkit.abi.contexts import CONTEXTS

    layout = CONTEXTS[program.kind.layout]
    ctx = bytearray(layout.size)
    for field_ in layout.fields:
        if field_.name in context:
            ctx[field_.offset : field_.offset + field_.size] = context[field_.name].to_bytes(field_.size, "little")
    return kernel_run(program, frame, ctx=bytes(ctx))


def kernel_run(program: Program, frame: bytes, **options: Any) -> Result:
    """Load the program with copies of its maps and run it once (BPF_PROG_TEST_RUN)."""
    from ebpfkit.loader import Collection

    built = _built_for_run(program)
    facades = {facade.name: facade for facade in program.maps if facade.name in built.maps}
    variables = variables_of([program], built).values()
    obj = with_contents(built, facades)
    with Collection.load(obj, variables=first_values(variables)) as collection:
        for name, facade in facades.items():
            facade.fill(collection.maps[name])
        done = collection.programs[program.name].test_run(frame, **options)
        contents = {name: snapshot(facade, collection.maps[name]) for name, facade in facades.items()}
        values = decoded(collection, variables)
    return Result(_action(program, done.retval), done.data, contents, None, values)


_NATIVE: WeakKeyDictionary[Program, tuple[tuple[object, ...], NativeRun]] = WeakKeyDictionary()


def _run_native(
    program: Program, frame: bytes, *, ingress_ifindex: int = LOOPBACK, rx_queue: int = 0, cpu: int = 0
) -> Result:
    from ebpfkit.compiler.native import NativeRun

    obj = _built_for_run(program)
    stores = _native_stores(program.maps)
    known = _NATIVE.get(program)
    if (
        known is None
        or known[0][1:2] != (obj,)
        or any(a is not b for a, b in zip(known[0][2:], stores))
        or (
            known[0][0] <= cpu  # type: ignore[operator]  # how many workers the per-CPU maps have room for
        )
    ):
        require_verified(obj)
        run = NativeRun(program, cpus=cpu + 1)
        known = _NATIVE[program] = ((cpu + 1, obj, *_native_stores(program.maps)), run)
    known[1].fill_targets()
    verdict, data = known[1].run(frame, ifindex=ingress_ifindex, queue=rx_queue, cpu=cpu)
    return Result(_action(program, verdict), data, _contents_of(program), None, _values_of(program))


def _action(program: Program, number: int) -> int:
    """What a program returned, as a verdict of its type; a number that is none stays a number."""
    kind = program.kind
    number &= 0xFFFF_FFFF
    if kind.number.signed and number >> 31:
        number -= 1 << 32
    try:
        return kind.verdict(number) if kind.verdict is not None else number
    except ValueError:
        return number


_BUILT: WeakKeyDictionary[Program, tuple[object, ObjectFile]] = WeakKeyDictionary()


def _built_for_run(program: Program) -> ObjectFile:
    """The compiled program, made once for as long as the constants of its module keep their values."""
    constants = tuple(
        (name, value)
        for name, value in program.function.__globals__.items()
        if isinstance(value, (int, str, bytes)) and not name.startswith("__")
    )
    tables = tuple((f.name, *f.programs.items()) for f in program.maps if isinstance(f, ProgArray))
    key = (*constants, *tables)
    known = _BUILT.get(program)
    if known is None or known[0] != key:
        known = _BUILT[program] = (key, build(program))
    return known[1]


def _memory_of(facade: MapFacade) -> MapStore:
    """The in-memory store of a map. Raises UsageError while the map is bound to one in the kernel."""
    store = facade.store
    if not hasattr(store, "lookup"):
        raise UsageError(
            f"{facade.name!r} is bound to a map in the kernel, out of the virtual machine's reach: close the load first"
        )
    return store


def _contents_of(program: Program) -> dict[str, dict[Any, Any]]:
    return {facade.name: snapshot(facade, facade.store) for facade in program.maps}


def _values_of(program: Program) -> dict[str, Any]:
    return {variable.name: variable.value for variable in program.variables}


def snapshot(facade: MapFacade, store: MapStore) -> dict[Any, Any]:
    """The entries of a map in its own types; of arrays those that are not zero; per-CPU values as lists.

    None of program arrays: each executor has numbers of its own for programs. Maps in a map are dictionaries too.
    """
    if facade.map_type == "prog_array":
        return {}
    if isinstance(facade, MapOfMaps):
        return {facade.decode_key(key): _snapshot_inside(facade, store, key, value) for key, value in entries_of(store)}
    view = facade.view(store)
    return {view.decode_key(key): view.decode_value(value) for key, value in entries_of(store)}


def _snapshot_inside(facade: MapOfMaps[Any, Any], store: MapStore, key: bytes, value: bytes) -> dict[Any, Any]:
    view = facade.inner.view(store, name=f"{facade.name}[...]")
    inside = entries_inside(store, key, value)
    return {view.decode_key(inner): view.decode_value(data) for inner, data in inside}


def entries_inside(outer: Any, key: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    """The entries of the map that is in a map of maps under `key`, where `value` stands for it."""
    if hasattr(outer, "inner"):
        return entries_of(outer.inner(key))
    from ebpfkit.loader import Map

    with Map.open_id(int.from_bytes(value, sys.byteorder)) as live:
        return entries_of(live)


def entries_of(store: MapStore) -> list[tuple[bytes, bytes]]:
    """The entries of a store; of arrays, whose every slot exists, those that are not zero.

    None for maps that user space cannot read, as the kernel has it (sockets by index, program arrays, ring buffers).
    """
    if store.spec.key_size == 0:
        return []
    try:
        return [(key, value) for key, value in store.items() if "array" not in store.spec.type or any(value)]
    except MapError as error:
        if error.errno in UNREADABLE:
            return []
        raise


UNREADABLE = (errno.EOPNOTSUPP, 524)  # ENOTSUPP is the kernel's own number, which errno.h does not have


def _nothing_around() -> Around:
    return {}


@dataclass(frozen=True, slots=True)
class Surrounding:
    """What a run of a FILE finds: entries of maps as text, fields of the context, the time, chance, and tables.

    `time_ns` None means each packet's own time stamp, so that a capture gives the same each time. `entries` are in the
    form of `contents`.
    """

    entries: tuple[str, ...] = ()
    context: Mapping[str, int] = field(default_factory=dict)
    time_ns: int | None = None
    seed: int = 0
    around: Around = field(default_factory=_nothing_around)


class MachineRun:
    """A program of a FILE in the virtual machine, packet after packet, with the contents of its maps at the end."""

    def __init__(
        self,
        source: Source,
        spec: ProgramSpec,
        *,
        jit: str | None = None,
        surrounding: Surrounding | None = None,
        apart: bool = False,
    ) -> None:
        """`apart`: maps of a Python file get stores of their own, with what is in the module's now."""
        from ebpfkit.vm import Machine

        self.source = source
        self.spec = spec
        self.surrounding = given = surrounding or Surrounding()
        facades = [facade for name, facade in source.facades.items() if name in source.object.maps]
        obj = with_contents(source.object, source.facades) if apart else source.object
        facades = [] if apart else facades
        stores = [_memory_of(facade) for facade in facades] if jit is None else _native_stores(facades)
        report = require_verified(source.object) if jit == "trusted" else None
        self.machine = Machine(
            obj, maps=stores, program=spec.name, jit=jit, report=report, seed=given.seed, **given.around
        )
        if self.machine.context is not None:
            self.machine.context.start(given.context)  # refuses fields that are not there before any packet runs
        elif given.context:
            raise UsageError(f"a program of type {spec.prog_type!r} has no fields of a context to set")
        self._fill()

    def _fill(self) -> None:
        programs = {name: self.machine.program_id(name) for name in self.source.object.programs}
        for name, entries in read_entries(self.source, self.surrounding.entries, programs).items():
            store = self.machine.maps.get(name)
            if store is None:
                raise NotSupported(f"entries of map '{name}'", why="the virtual machine has no maps of its type")
            for key, value in entries:
                store.set(key, value.ljust(store.value_bytes, b"\0") if store.per_cpu else value)

    @property
    def walks_captures(self) -> bool:
        """Whether `run_capture` works: native code, for XDP, with a context that is as it is by itself."""
        return self.machine.jit is not None and self.machine.is_xdp and not self.surrounding.context

    def run_capture(self, path: str | os.PathLike[str], out: BinaryIO | None = None) -> CaptureTotals:
        """A whole capture in native code; `out` gets the packets as a pcap. What broke it off is in the totals."""
        from ebpfkit.vm.jit_loop import run_capture

        fixed = self.surrounding.time_ns
        if fixed is not None:
            self.machine.clock = lambda: fixed
        return run_capture(self.machine, path, out=out, by_stamps=fixed is None, until_error=True)

    def options(self, packet: Packet) -> dict[str, Any]:
        """What `Machine.run` is given beside the bytes of a packet."""
        given = self.surrounding
        ifindex = given.context.get("ingress_ifindex", given.context.get("ifindex", LOOPBACK))
        time_ns = packet.time_ns if given.time_ns is None else given.time_ns
        return {"context": given.context, "ifindex": ifindex, "time_ns": time_ns}

    def run(self, packet: Packet) -> MachineResult:
        """One packet."""
        return self.machine.run(packet.data, **self.options(packet))

    def action_name(self, r0: int) -> str:
        """The verdict's name in the kernel's words, or the number where the program type has no such verdict."""
        from ebpfkit.abi.prog_types import PROG_TYPES

        number = r0 & 0xFFFF_FFFF
        row = PROG_TYPES.get(self.spec.prog_type)
        return next((name for name, value in (row.verdicts if row else {}).items() if value == number), str(number))
