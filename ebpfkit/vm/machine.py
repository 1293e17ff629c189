"""The machine: programs, maps and one packet at a time, put together.

It takes what a user has (an object, a linked program, instructions, raw bytes), gives maps their in-memory stores, and
runs. It is the environment of the interpreter and the place where helpers find clock, chance, packet and maps. The
instructions themselves are executed in `interpreter`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Unpack

from ebpfkit.abi.helpers import HELPERS
from ebpfkit.asm.codec import decode
from ebpfkit.asm.insn import Instruction, MapRef, MapValueRef
from ebpfkit.btf.types import Btf
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.elf.raw import program_from_code
from ebpfkit.errors import NotSupported, UsageError
from ebpfkit.maps.base import ORDER, ByteOrder, Cell
from ebpfkit.maps.locks import lock_offset
from ebpfkit.maps.memory import (
    MemoryStore,
    ProgArrayStore,
    Record,
    RingBufferStore,
    create_store,
)
from ebpfkit.maps.store import MapStore
from ebpfkit.vm.arena import ArenaWindow
from ebpfkit.vm.contexts import MEMORY_TYPES, Context, context_for
from ebpfkit.vm.frame import Frame
from ebpfkit.vm.helpers import IMPLEMENTED, arity, unsupported_reason
from ebpfkit.vm.interpreter import Interpreter
from ebpfkit.vm.kfuncs import Kfunc
from ebpfkit.vm.memory import AddressSpace, MemoryFault, Region
from ebpfkit.vm.network import Socket
from ebpfkit.vm.objects import Buffer, Objects
from ebpfkit.vm.results import Result, Step
from ebpfkit.vm.surroundings import Around, Surroundings
from ebpfkit.vm.symbols import Symbols, direct_address
from ebpfkit.vm.trust import Verdict, check_trust

__all__ = ["DEFAULT_BUDGET", "MAX_TAIL_CALLS", "Machine", "Result", "Step"]

DEFAULT_BUDGET: Final = 10_000_000
"""Instructions that one run may execute unless told otherwise."""
MAX_TAIL_CALLS: Final = 33

_ETHERNET_TYPE = slice(12, 14)
_LINK_LAYER, _NETWORK_LAYER = -0x200000, -0x100000  # bases of LD_ABS offsets below zero
_ETHERNET_HEADER = 14
_NETWORK_TYPES: Final = frozenset(
    {"cgroup_skb", "lwt_in", "lwt_out", "lwt_xmit", "lwt_seg6local", "socket_filter", "sk_skb"}
)  # given an Ethernet frame, as to BPF_PROG_TEST_RUN, they see it from its network header on
_FLOW_KEYS = 56  # bytes of struct bpf_flow_keys
_MAX_FIRED = 100_000  # timers that one call fires: a timer may start itself again

Runnable = ObjectFile | ProgramSpec | Sequence[Instruction] | bytes | bytearray | memoryview


class Machine:
    """A program with its maps, ready to run on packets.

    `x` is an ObjectFile (`program` chooses when it holds several), a ProgramSpec, instructions, or raw bytes, whose
    wide map loads name `maps` by index. `maps` are MapSpecs or in-memory stores; those of an object or spec are made by
    themselves, and one given here under the same name takes their place. `prog_type` counts for instructions and
    bytes; with None, r1 is the address of the memory given to `run` and r2 its length. Code that is no object has this
    machine's byte order unless `big_endian` says so; everything it sees is in that order then. `clock` gives
    nanoseconds, `seed` starts the random numbers, so that runs repeat. `jit` is "safe" or "trusted" for native code
    instead of the interpreter: safe code checks everything as the interpreter does, trusted code checks nothing, counts
    nothing, and needs the verifier's `report` that accepted the programs.

    What programs find around them comes from the caller (`Around` names it all): `fib` and `devices` for routes and
    MTUs, `sockets` for socket look-ups, `task` for the current task, `hz`, `xfrm`, `user_memory`, `cookie_secret`. A
    helper that asks for what was not given raises NotSupported.

    >>> from ebpfkit.asm.parser import parse
    >>> machine = Machine(parse("r0 = *(u8 *)(r1 +1); exit".replace("; ", chr(10))), prog_type=None)
    >>> machine.run(b"abc")
    Result(r0=98, data=b'abc', insns=2, redirect=None, printed=(), meta=b'', effects=())

    Raises AsmError for bytes that are no instructions, NotSupported for what the machine does not model, UsageError.
    """

    def __init__(
        self,
        x: Runnable,
        prog_type: str | None = "xdp",
        maps: Iterable[MapSpec | MapStore] = (),
        *,
        program: str | None = None,
        big_endian: bool | None = None,
        cpus: int = 1,
        clock: Callable[[], int] | None = None,
        seed: int = 0,
        budget: int = DEFAULT_BUDGET,
        jit: str | None = None,
        report: Verdict | None = None,
        **around: Unpack[Around],
    ) -> None:
        self.cpus = cpus
        self.cpu = 0
        self.order = _order_of(x, big_endian)
        self.clock: Callable[[], int] = clock or time.monotonic_ns
        self.random = random.Random(seed)
        self.budget = budget
        self.jit = jit
        self.memory, self.interpreter = self._executor(jit)
        self.memory.order = self.order
        self.frame = Frame(self.memory)
        self.around = Surroundings.of(around)
        self.symbols = Symbols(self)
        self.objects = Objects(self.memory)
        self.skb = Buffer()
        self.socket: Socket | None = None
        self.assigned: Socket | None = None
        self.ifindex = 1
        self.printed: list[str] = []
        self.redirected: tuple[str, int, int] | None = None
        self.maps: dict[str, MemoryStore] = {}
        self._refused: dict[str, NotSupported] = {}
        self._map_regions: dict[int, Region] = {}
        self._records: dict[int, tuple[Region, RingBufferStore, Record]] = {}
        self._starts: dict[int, int] = {}
        self._ids: dict[str, int] = {}
        self._waiting: dict[int, ProgramSpec] = {}
        self._tail_calls = 0
        self._stores = [self._store(entry) for entry in maps]
        for store in self._stores:
            self._register(store)
        self.spec = self._open(x, prog_type, program)
        self._context: Context | None = None
        self._memory_region: Region | None = None
        if self.spec.prog_type:
            self._context = context_for(self.spec.prog_type, self.frame, self.memory)
        self.prog_type = self.spec.prog_type
        self.is_xdp = self.prog_type == "xdp"
        self._starts_at_network = self.prog_type in _NETWORK_TYPES
        self._keys_region: Region | None = None
        if jit == "trusted":
            check_trust(report, self._waiting.values(), self.maps)
        self._entry = self._link(self._ids[self.spec.name])

    # Putting together.

    def _executor(self, jit: str | None) -> tuple[AddressSpace, Interpreter]:
        """Memory, and what executes in it."""
        if jit is None:
            self.memory = AddressSpace()
            return self.memory, Interpreter(self)
        from ebpfkit.vm.jit import MODES, Jit, native_space

        if jit not in MODES:
            raise UsageError(f"no JIT mode {jit!r}; there are {', '.join(MODES)}, or None for the interpreter")
        self.memory = space = native_space(jit)
        return space, Jit(self, space)

    @property
    def context(self) -> Context | None:
        """The context of the program's type, None without a program type."""
        return self._context

    def _create_store(self, spec: MapSpec) -> MemoryStore:
        if self.jit is None:
            return create_store(spec, cpus=self.cpus, order=self.order)
        from ebpfkit.maps.native import create_native_store

        return create_native_store(spec, cpus=self.cpus, order=self.order)

    def _store(self, entry: MapSpec | MapStore) -> MemoryStore:
        if isinstance(entry, MapSpec):
            return self._create_store(entry)
        if isinstance(entry, MemoryStore):
            if entry.per_cpu and entry.cpus < self.cpus:
                raise UsageError(
                    f"map '{entry.spec.name}' has values for {entry.cpus} CPUs, the machine has {self.cpus}"
                )
            if entry.order != self.order:
                why = f"give create_store its order={self.order!r}"
                raise UsageError(f"map '{entry.spec.name}' is {entry.order}-endian, the program is not: {why}")
            return entry
        raise UsageError(f"{entry!r} cannot be used by the virtual machine: give a MapSpec or an in-memory store")

    def _register(self, store: MemoryStore) -> None:
        if store.spec.name in self.maps:
            raise UsageError(f"two maps are named '{store.spec.name}'; names must differ")
        self.maps[store.spec.name] = store

    def _open(self, x: Runnable, prog_type: str | None, program: str | None) -> ProgramSpec:
        """The program to start; everything it may need is registered."""
        if isinstance(x, ObjectFile):
            chosen = self._choose(x, program)
            self._create_maps(x.maps, x.btf)
            for other in x.programs.values():
                self._announce(other)
            self._fill_slots(x.maps)
            return chosen
        if isinstance(x, ProgramSpec):
            spec = x
            self._create_maps(spec.maps, spec.btf)
        else:
            if isinstance(x, (bytes, bytearray, memoryview)):
                decode(x, big_endian=self.order == "big")  # strict: bytes that are no instruction are refused here
            elif not isinstance(x, Sequence):
                raise UsageError(f"{x!r} is no object, program, instructions or bytes (a decorated function has run)")
            specs = [store.spec for store in self._stores]
            spec = program_from_code(x, prog_type=prog_type, maps=specs, big_endian=self.order == "big")
        self._announce(spec)
        self._fill_slots(spec.maps)
        return spec

    @staticmethod
    def _choose(x: ObjectFile, program: str | None) -> ProgramSpec:
        names = ", ".join(x.programs)
        if program is None:
            if len(x.programs) != 1:
                raise UsageError(f"the object holds {names or 'no program'}: choose one with program=")
            return next(iter(x.programs.values()))
        if program not in x.programs:
            why = x.problems.get(program)
            raise UsageError(f"program '{program}' {'cannot be used: ' + why if why else 'is not among ' + names}")
        return x.programs[program]

    def _create_maps(self, specs: Mapping[str, MapSpec], btf: Btf | None) -> None:
        for name, spec in specs.items():
            try:
                if name not in self.maps:
                    self.maps[name] = self._create_store(spec)
            except NotSupported as refusal:  # an error only for a program that uses the map
                self._refused[name] = refusal
                continue
            lock = lock_offset(spec, btf)
            if lock is not None:
                self.maps[name].lock_at = lock

    def _announce(self, spec: ProgramSpec) -> int:
        """Give a program its id; it is linked when it is first needed."""
        number = len(self._ids) + 1
        if spec.name in self._ids:
            raise UsageError(f"two programs are named '{spec.name}'")
        self._ids[spec.name] = number
        self._waiting[number] = spec
        return number

    def _link(self, number: int) -> int:
        start = self._starts.get(number)
        if start is None:
            start = self._starts[number] = self.interpreter.link(self._waiting.pop(number).instructions)
        return start

    def _fill_slots(self, specs: Mapping[str, MapSpec]) -> None:
        """Initial programs and inner maps that an object names."""
        for name, spec in specs.items():
            store = self.maps.get(name)
            for index, target in enumerate(spec.value_slots):
                if target is None or store is None:
                    continue
                number = self.maps[target].id if target in self.maps else self._ids.get(target)
                if number is None:
                    raise UsageError(f"map '{name}' refers to '{target}', which is not there")
                store.set(index.to_bytes(4, self.order), number.to_bytes(4, self.order))

    def add_program(self, spec: ProgramSpec) -> int:
        """Another program, as a target of tail calls: its id, to be stored in a program array."""
        if self.jit == "trusted":
            raise UsageError("trusted native code runs the programs of one verified object: give them all at once")
        self._create_maps(spec.maps, spec.btf)
        return self._announce(spec)

    def program_id(self, name: str) -> int:
        """The id of a program by name, the value that stands for it in a program array."""
        if name not in self._ids:
            raise UsageError(f"there is no program '{name}'; there are {', '.join(self._ids)}")
        return self._ids[name]

    # Running.

    def run(
        self,
        packet: bytes | bytearray | memoryview = b"",
        *,
        rx_queue: int = 0,
        ifindex: int = 1,
        egress_ifindex: int = 0,
        cpu: int = 0,
        meta: bytes = b"",
        context: Mapping[str, int] | None = None,
        socket: Socket | None = None,
        time_ns: int | None = None,
        budget: int | None = None,
        trace: Callable[[Step], None] | None = None,
    ) -> Result:
        """Run the program once on `packet` (without a program type: on that memory).

        `context` gives further fields of the context by name; `meta` is the metadata before the packet; `socket` is
        what the context's `sk` leads to; `time_ns` stops the clock for this run; `trace` is called before every
        instruction. Raises MachineFault, and NotSupported when the program comes to an instruction or helper that is
        not modelled.
        """
        if not 0 <= cpu < self.cpus:
            raise UsageError(f"there is no CPU {cpu}; the machine has {self.cpus}")
        self.cpu = cpu
        self.start_run()
        self.socket, self.assigned, self.ifindex = socket, None, ifindex
        data = bytes(packet)
        arguments = self._prepare(data, meta, rx_queue, ifindex, egress_ifindex, context or {})
        self.interpreter.trace = partial(_trace_step, trace) if trace is not None else None
        clock = self.clock
        if time_ns is not None:
            self.clock = lambda: time_ns
        try:
            r0, executed = self.interpreter.run(self._entry, arguments, self.budget if budget is None else budget)
        finally:
            self.clock = clock
        insns = None if self.jit == "trusted" else executed
        if self._memory_region is not None:
            return Result(r0, bytes(self._memory_region.data), insns, self.redirected, tuple(self.printed))
        data = self.frame.packet if self._keys_region is None else bytes(self._keys_region.data)
        if self._starts_at_network:
            data = bytes(_ETHERNET_HEADER) + data  # the kernel's runs give the link header back as zeros
        effects = tuple(self.objects.effects)
        return Result(r0, data, insns, self.redirected, tuple(self.printed), self.frame.meta, effects)

    def start_run(self) -> None:
        """Forget what belonged to the run before."""
        self.printed = []
        self.redirected = None
        self._tail_calls = 0
        self._drop_records()
        self.memory.forget_cells()
        self.objects.reset()

    @property
    def entry(self) -> int:
        """The slot where the program starts."""
        return self._entry

    def prepare_packet(self, data: bytes) -> tuple[int, ...]:
        """Set up packet and context as `run` does without options; the arguments of the program."""
        return self._prepare(data, b"", 0, 1, 0, {})

    def _prepare(
        self, data: bytes, meta: bytes, rx_queue: int, ifindex: int, egress_ifindex: int, given: Mapping[str, int]
    ) -> tuple[int, ...]:
        """Set up memory or packet and context; the arguments of the program."""
        if self._context is None:
            if self._memory_region is None:
                self._memory_region = self.memory.add("memory", bytearray())
            self._memory_region.data = bytearray(data)
            self._memory_region.set_window(0, len(data))
            if not MEMORY_TYPES.get(self.prog_type, True):
                self._memory_region.write_high = 0
            return self._memory_region.base, len(data)
        self.frame.fill(data, meta)
        if self.is_xdp:
            values = {"ingress_ifindex": ifindex, "rx_queue_index": rx_queue, "egress_ifindex": egress_ifindex}
        else:
            values = self._start_buffer(data, rx_queue, ifindex)
        self._context.start({**values, **given} if given else values)
        if not self.is_xdp:
            self._start_pointers(data)
        return (self._context.region.base,)

    def _start_buffer(self, data: bytes, rx_queue: int, ifindex: int) -> dict[str, int]:
        """What the fields of a context that is not XDP's hold, as far as it has them."""
        assert self._context is not None
        self.skb = Buffer()
        if self._starts_at_network:
            self.frame.pull(_ETHERNET_HEADER)
            self.skb.network_offset = 0
        protocol = int.from_bytes(data[_ETHERNET_TYPE], self.order)
        values = {"ifindex": ifindex, "ingress_ifindex": ifindex, "queue_mapping": rx_queue, "protocol": protocol}
        if not self._context.spec.name.startswith("__sk_buff"):
            values = {"ingress_ifindex": ifindex}
        return {name: value for name, value in values.items() if name in self._context.settable}

    def _start_pointers(self, data: bytes) -> None:
        """Sockets and flow keys that fields of the context lead to."""
        assert self._context is not None
        if self.socket is not None:
            self._context.pointers["sk"] = self.objects.acquire(self.socket)
        if self.prog_type == "flow_dissector":
            if self._keys_region is None:
                self._keys_region = self.memory.add("flow keys", bytearray(_FLOW_KEYS))
            start = min(_ETHERNET_HEADER, len(data)).to_bytes(2, self.order)
            keys = (start * 2).ljust(10, b"\0") + data[_ETHERNET_TYPE].ljust(2, b"\0")
            self._keys_region.data[:] = keys.ljust(_FLOW_KEYS, b"\0")
            self._context.pointers["flow_keys"] = self._keys_region.base

    def fire_timers(self, now_ns: int | None = None, *, budget: int | None = None) -> int:
        """Run the callbacks of all timers whose time has come, in the order of their times; how many ran.

        `now_ns` is the time on the machine's clock (None: what the clock says).
        """
        now = self.clock() if now_ns is None else now_ns
        clock, self.clock = self.clock, lambda: now
        fired = 0
        try:
            while fired < _MAX_FIRED and (timer := self.objects.due(now)) is not None:
                assert timer.callback is not None
                key = self.memory.add(f"key of map '{timer.store.spec.name}'", bytearray(timer.key), writable=False)
                with self.objects.firing(timer):
                    value = self.address_of_value(timer.store, timer.cell)
                    arguments = (self.address_of_store(timer.store), key.base, value)
                    self.interpreter.run(timer.callback, arguments, self.budget if budget is None else budget)
                self.memory.remove(key)
                fired += 1
        finally:
            self.clock = clock
        return fired

    # What the interpreter asks when it links (the Environment protocol).

    def map_address(self, insn: Instruction) -> int:
        """The map pointer that a wide load gives."""
        return self.address_of_store(self._map_of(insn))

    def map_value_address(self, insn: Instruction) -> int:
        """The address in the first value of a map that a wide load gives."""
        store = self._map_of(insn)
        offset = insn.ref.offset if isinstance(insn.ref, MapValueRef) else insn.imm >> 32
        address = direct_address(self.symbols, store)
        if address is not None:
            return address + offset
        cell = store.lookup(bytes(4)) if store.spec.key_size == 4 else None
        if cell is None:
            raise MemoryFault(f"map '{store.spec.name}' ({store.spec.type}) has no value with a fixed address")
        return (
            self.memory.address_of_cell(cell, f"map '{store.spec.name}'", store.is_program_writable, keep=True) + offset
        )

    def _map_of(self, insn: Instruction) -> MemoryStore:
        if isinstance(insn.ref, (MapRef, MapValueRef)):
            store = self.maps.get(insn.ref.name)
            if insn.ref.name in self._refused:
                raise self._refused[insn.ref.name]
            if store is None:
                raise UsageError(f"the program uses map '{insn.ref.name}', which was not given")
            return store
        index = insn.imm & 0xFFFF_FFFF
        if index >= len(self._stores):
            raise MemoryFault(f"there is no map {index}: {len(self._stores)} were given", "program")
        return self._stores[index]

    def helper(self, number: int) -> tuple[Callable[..., int], int] | None:
        """The function of a helper and how many registers it reads; None for a number that no helper has."""
        row = HELPERS.get(number)
        if row is None:
            return None
        function = IMPLEMENTED.get(row.name)
        if function is None:
            return partial(_refuse, row.name), 0
        return partial(function, self), arity(function)

    @property
    def arena(self) -> ArenaWindow | None:
        """The arena of the programs."""
        return self.symbols.arena

    def variable_address(self, insn: Instruction) -> int:
        """What the wide load of a kernel variable gives."""
        return self.symbols.variable(insn)

    def kfunc(self, insn: Instruction) -> Kfunc:
        """The kernel function that a call names."""
        return self.symbols.kfunc(insn)

    def tail_call(self, context: int, array: int, index: int) -> int | None:
        """The slot where a tail call goes on, or None when it falls through."""
        store = self.memory.store_at(array)
        if not isinstance(store, ProgArrayStore):
            raise MemoryFault(f"map '{store.spec.name}' is no program array", f"map '{store.spec.name}'")
        number = store.target(index)
        if number is None or self._tail_calls >= MAX_TAIL_CALLS:
            return None
        if number not in self._starts and number not in self._waiting:
            raise MemoryFault(f"entry {index} of map '{store.spec.name}' is {number}, which is no program here")
        self._tail_calls += 1
        return self._link(number)

    def packet_word(self, context: int, offset: int, size: int) -> int | None:
        """`size` bytes of the packet as a number in network order, or None outside it (LD_ABS and LD_IND).

        Without a program type the packet is the memory, and r6 its address.
        """
        region = self._memory_region
        if self._context is None and region is not None and context == region.base:
            return (
                int.from_bytes(region.data[offset : offset + size], "big")
                if 0 <= offset <= region.high - size
                else None
            )
        if self._context is None or not self._context.spec.name.startswith("__sk_buff"):
            raise MemoryFault("legacy packet loads work on __sk_buff contexts in r6 only", "program")
        self.frame_of(context)
        if _LINK_LAYER <= offset < _NETWORK_LAYER:
            lowest = self.skb.network_offset - _ETHERNET_HEADER
            offset += lowest - _LINK_LAYER
        elif _NETWORK_LAYER <= offset < 0:
            lowest = self.skb.network_offset
            offset += lowest - _NETWORK_LAYER
        else:
            lowest = 0
        if not lowest <= offset <= len(self.frame) - size:
            return None
        start = self.frame.data + offset
        return int.from_bytes(self.frame.buffer[start : start + size], "big")

    # What helpers ask.

    def frame_of(self, context: int) -> Frame:
        """The packet of a context pointer. Raises MemoryFault when it is none."""
        if self._context is None or context != self._context.region.base:
            raise MemoryFault(f"{context:#x} is no context pointer")
        return self.frame

    @property
    def context_values(self) -> dict[str, int]:
        """The fields of the context that are numbers."""
        return self._context.values if self._context is not None else {}

    def address_of_store(self, store: MemoryStore) -> int:
        """The map pointer that stands for a store."""
        region = self._map_regions.get(store.id)
        if region is None:
            region = self.memory.add(f"map '{store.spec.name}'", bytearray(), store=store)
            self._map_regions[store.id] = region
        return region.base

    def address_of_value(self, store: MemoryStore, cell: Cell) -> int:
        """The address of a live value."""
        address = self.memory.known_address(cell)
        if address is not None:
            return address
        return self.memory.address_of_cell(cell, f"value of map '{store.spec.name}'", store.is_program_writable)

    def add_record(self, store: RingBufferStore, record: Record) -> int:
        """The address of a reserved record."""
        region = self.memory.add(f"record of ring buffer '{store.spec.name}'", record.data)
        self._records[region.base] = (region, store, record)
        return region.base

    def finish_record(self, address: int, *, discard: bool) -> None:
        """Submit or throw away a record; its memory goes. Raises MemoryFault for what is no reserved record."""
        found = self._records.pop(address, None)
        if found is None:
            raise MemoryFault(f"{address:#x} is no reserved ring buffer record")
        region, store, record = found
        self.memory.remove(region)
        store.finish(record, discard=discard)

    def _drop_records(self) -> None:
        """Records that the last run never finished stay reserved for ever, as in the kernel; their memory goes."""
        if not self._records:
            return
        for region, _, _ in self._records.values():
            self.memory.remove(region)
        self._records.clear()


def _order_of(x: Runnable, big_endian: bool | None) -> ByteOrder:
    """The byte order of a program: one from an object knows its own, for anything else the caller says it."""
    if isinstance(x, ObjectFile):
        if big_endian not in (None, x.big_endian):
            raise UsageError(f"the object is {'big' if x.big_endian else 'little'}-endian: leave big_endian= away")
        big_endian = x.big_endian
    elif isinstance(x, ProgramSpec) and x.big_endian:
        big_endian = True
    return ORDER if big_endian is None else "big" if big_endian else "little"


def _refuse(name: str, *arguments: int) -> int:
    raise NotSupported(f"helper bpf_{name} in the virtual machine", why=unsupported_reason(name))


def _trace_step(report: Callable[[Step], None], slot: int, insn: Instruction, registers: list[int]) -> None:
    report(Step(slot, insn, tuple(registers[:11])))
