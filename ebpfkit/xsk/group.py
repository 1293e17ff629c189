"""Several queues of a device at once: a socket for each, the XSK map filled, the redirect program attached.

One queue's rings and frames are `socket`'s; programs and maps are loaded and attached by `loader/`.
"""

from __future__ import annotations

import select
import struct
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from ebpfkit.abi import uapi
from ebpfkit.elf.model import ObjectFile, ProgramSpec
from ebpfkit.errors import KernelError, NotSupported, UsageError
from ebpfkit.host.causes import no_frags
from ebpfkit.kernel import ethtool, netdev
from ebpfkit.kernel.netlink import Device
from ebpfkit.loader.collection import Collection
from ebpfkit.loader.dispatcher import Joined, add
from ebpfkit.loader.links.base import Link
from ebpfkit.loader.links.xdp import find_device
from ebpfkit.loader.maps import Map
from ebpfkit.loader.program import Program
from ebpfkit.xsk.redirect import DEFAULT_SLOTS, MAP_NAME, redirect_object
from ebpfkit.xsk.socket import LONGEST_WAIT, XskSocket
from ebpfkit.xsk.stats import XskStatistics

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Program as DslProgram
    from ebpfkit.xsk.running import Running
    from ebpfkit.xsk.workers import Processes, Stop, Threads

__all__ = ["XskGroup"]

_FRAGS_MTU = 3498  # above it native mode needs a program that takes packets of several buffers


class _Loaded(Protocol):
    """Programs and maps in the kernel: a `Collection`, or what loading a decorated function gives."""

    @property
    def programs(self) -> Mapping[str, Program]: ...
    @property
    def maps(self) -> Mapping[str, Map]: ...
    def close(self) -> None: ...


@runtime_checkable
class _Loadable(Protocol):
    """A decorated XDP function: it compiles and loads itself."""

    name: str

    def load(self) -> Any: ...


class XskGroup:
    """Sockets on the queues of a device, fed by an XDP program; one call opens all, leaving the block closes all.

    `queues` are the queues' numbers (None: all the device receives on, by its channels). `umem` is one UMEM for all
    (then one thread uses the whole group); without it each socket has its own. `multi_buffer=True` sets all that
    packets of several frames need, or says what is missing. `program` is None for the default that redirects
    everything, a decorated XDP function, an `ObjectFile`, or a `Collection` (stays the caller's); its XSK map is found
    by type, or is `map_name`. `attach_mode` is "native", "skb" or None (the kernel's choice). `dispatcher=True` puts
    the program beside others of the device, the default one with libxdp's priority for it, 20. Other options go to
    `XskSocket`. Raises XskError, AttachError, LoadError, VerifierError, UsageError; then nothing is left behind.
    """

    def __init__(
        self,
        dev: str | int,
        queues: Iterable[int] | None = None,
        program: _Loadable | ObjectFile | Collection | None = None,
        *,
        program_name: str | None = None,
        map_name: str | None = None,
        attach_mode: str | None = None,
        dispatcher: bool = False,
        **options: Any,
    ) -> None:
        self._closing: ExitStack | None = None
        self.device = find_device(dev)
        self.queues = tuple(queues) if queues is not None else tuple(range(_queue_count(self.device)))
        if not self.queues or len(set(self.queues)) != len(self.queues):
            raise UsageError(f"the queues {self.queues} are none, or one is named twice")
        self.sockets: dict[int, XskSocket] = {}
        self.loaded: _Loaded
        self.link: Link
        with ExitStack() as undo:
            multi_buffer = bool(options.get("multi_buffer"))
            if multi_buffer:
                _check_frags_device(self.device, attach_mode)
            if dispatcher:
                self.loaded = self._join(undo, program, program_name, attach_mode, multi_buffer)
            else:
                self.loaded = self._load(undo, program, multi_buffer)
            self.program = _choose(self.loaded.programs, program_name or getattr(program, "name", None))
            if multi_buffer and not dispatcher:
                _check_frags(self.program.spec)
            self.map = _choose_map(self.loaded.maps, map_name)
            for queue in self.queues:
                self.sockets[queue] = undo.enter_context(XskSocket(self.device.index, queue, **options))
            for queue, sock in self.sockets.items():
                self._enter(queue, sock)
            undo.callback(self._empty_map)
            if not dispatcher:
                self.link = undo.enter_context(self.program.attach_xdp(self.device.index, attach_mode))
            self._poller = select.poll()
            for sock in self.sockets.values():
                self._poller.register(sock.fileno(), select.POLLIN)
            # Closing goes backwards: program off the device, sockets out of the map, rings unmapped, sockets closed.
            self._closing = undo.pop_all()

    def _load(
        self, undo: ExitStack, program: _Loadable | ObjectFile | Collection | None, multi_buffer: bool
    ) -> _Loaded:
        if isinstance(program, Collection):
            return program
        if program is None:
            program = self._default(multi_buffer)
        if isinstance(program, ObjectFile):
            # Functions that read what the NIC knows of a packet want the program bound to its device.
            bound = any(spec.flags & uapi.BPF_F_XDP_DEV_BOUND_ONLY for spec in program.programs.values())
            loaded: _Loaded = Collection.load(program, ifindex=self.device.index if bound else 0)
        elif isinstance(program, _Loadable):
            loaded = program.load()
        else:
            raise UsageError(f"{program!r} is no XDP program; give a decorated function, an ObjectFile or a Collection")
        undo.callback(loaded.close)
        return loaded

    def _default(self, multi_buffer: bool) -> ObjectFile:
        slots = max(DEFAULT_SLOTS, max(self.queues) + 1)
        return redirect_object(slots, frags=self.device.mtu > _FRAGS_MTU or multi_buffer)

    def _join(
        self,
        undo: ExitStack,
        program: _Loadable | ObjectFile | Collection | None,
        name: str | None,
        mode: str | None,
        multi_buffer: bool,
    ) -> Collection:
        if program is None:
            obj = self._default(multi_buffer)
        elif isinstance(program, ObjectFile):
            obj = program
        else:
            raise UsageError("dispatcher=True loads the program for its place: give the ObjectFile that it is in")
        if name is None and len(obj.programs) != 1:
            raise UsageError(f"say with program_name which of {', '.join(obj.programs) or 'no programs'} is meant")
        name = name or next(iter(obj.programs))
        if multi_buffer:
            _check_frags(obj.programs.get(name))
        loaded = add(self.device.index, obj, name, mode=mode)
        undo.callback(loaded.close)
        self.link = undo.enter_context(Joined(self.device.index, loaded.programs[name]))
        return loaded

    def _enter(self, queue: int, sock: XskSocket) -> None:
        if queue >= self.map.spec.max_entries:
            raise UsageError(
                f"queue {queue} has no slot in map {self.map.spec.name!r} of {self.map.spec.max_entries} entries; "
                "make it larger"
            )
        self.map.set(_key(queue), struct.pack("=I", sock.fileno()))

    def _empty_map(self) -> None:
        for queue in self.sockets:
            try:
                self.map.delete(_key(queue))
            except KernelError:
                continue  # the kernel has taken the socket out itself

    def wait(self, timeout: float | None = None) -> list[XskSocket]:
        """The sockets with packets; waits up to `timeout` seconds (None: for ever) until there is one.

        Raises XskError (ENETDOWN) when the device has gone.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            ready = [sock for sock in self.sockets.values() if sock.wait(0)]
            left = LONGEST_WAIT if deadline is None else deadline - time.monotonic()
            if ready or left <= 0:
                return ready
            if not self._poller.poll(min(left, LONGEST_WAIT) * 1000):
                for sock in self.sockets.values():
                    sock.check_device()

    def run(self, handler: DslProgram, **options: Any) -> Running:
        """Serve all sockets with a handler compiled to native code, a thread for each UMEM, until the block is left.

        The handler is a function that `@xdp` decorates, as for `attach`; options are those of
        `ebpfkit.xsk.running.Running`. With a UMEM for each socket there is a thread for each queue.
        """
        from ebpfkit.xsk.running import Running

        by_umem: dict[int, list[XskSocket]] = {}
        for sock in self:
            by_umem.setdefault(id(sock.umem), []).append(sock)
        return Running(list(by_umem.values()), handler, **options)

    def threads(self, work: Callable[[XskSocket, Stop], object], cpus: Iterable[int] | None = None) -> Threads:
        """A thread for each socket, pinned to a CPU, running `work(sock, stop)`; leaving the block ends them."""
        from ebpfkit.xsk.workers import Threads

        if len({id(sock.umem) for sock in self}) < len(self):
            raise UsageError("sockets that share a UMEM belong to one thread; leave `umem` out to give each its own")
        return Threads(self.sockets, work, cpus)

    def processes(self, work: Callable[..., object], *arguments: Any, cpus: Iterable[int] | None = None) -> Processes:
        """A process for each socket, pinned to a CPU, running `work(sock, stop, *arguments)`, a function of a module.

        Wants `shareable=True`; the sockets are closed here. Leaving the block ends the processes.
        """
        from ebpfkit.xsk.workers import Processes

        return Processes(self, work, arguments, cpus)

    def statistics(self) -> XskStatistics:
        """The kernel's counts, summed over the queues."""
        first, *others = (sock.statistics() for sock in self.sockets.values())
        for other in others:
            first += other
        return first

    def __getitem__(self, queue: int) -> XskSocket:
        """The socket of a queue."""
        if queue not in self.sockets:
            raise UsageError(f"queue {queue} is not in this group; it has {', '.join(map(str, self.sockets))}")
        return self.sockets[queue]

    def __iter__(self) -> Iterator[XskSocket]:
        return iter(self.sockets.values())

    def __len__(self) -> int:
        return len(self.sockets)

    @property
    def closed(self) -> bool:
        return self._closing is None

    def close(self) -> None:
        """Detach the program, empty the map, close the sockets, unload. Raises XskError when frames have leaked."""
        self._close(None, None, None)

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.__exit__(kind, error, trace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(kind, error, trace)

    def __del__(self) -> None:
        if getattr(self, "_closing", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._close(ResourceWarning, ResourceWarning("unclosed"), None)

    def __repr__(self) -> str:
        return f"<XskGroup on {self.device.name}, queues {', '.join(map(str, self.queues))}>"


def _queue_count(device: Device) -> int:
    """How many queues receive: the channels set up, where the driver tells, else those the device was made with."""
    channels = ethtool.get_channels(device.name)
    return (channels.receiving if channels else 0) or device.rx_queues


def _check_frags_device(device: Device, attach_mode: str | None) -> None:
    if attach_mode == "skb":
        return
    features = netdev.query_features(device.index)
    if features is not None and "basic" in features.xdp and "rx-sg" not in features.xdp:
        raise NotSupported(
            f"multi_buffer=True on {device.name}",
            why=str(no_frags(device.name)),
        )


def _check_frags(spec: ProgramSpec | None) -> None:
    if spec is not None and not spec.flags & uapi.BPF_F_XDP_HAS_FRAGS:
        raise UsageError(
            f"multi_buffer=True needs a program that takes packets of several buffers, and {spec.name!r} does not: "
            "@xdp(frags=True), or SEC xdp.frags"
        )


def _key(queue: int) -> bytes:
    return struct.pack("=I", queue)


def _choose(programs: Mapping[str, Program], name: str | None) -> Program:
    if name is not None and name in programs:
        return programs[name]
    if name is None and len(programs) == 1:
        return next(iter(programs.values()))
    what = f"no program {name!r}" if name is not None else "several programs"
    raise UsageError(f"there is {what} among {', '.join(programs) or 'none'}; say which with program_name")


def _choose_map(maps: Mapping[str, Map], name: str | None) -> Map:
    found = {key: value for key, value in maps.items() if value.spec.type == "xskmap"}
    if name is None and MAP_NAME in found:
        name = MAP_NAME
    if name is not None and name in found:
        return found[name]
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    what = f"no XSK map {name!r}" if name is not None else ("several XSK maps" if found else "no XSK map")
    raise UsageError(
        f"the program has {what} (of {', '.join(maps) or 'no maps'}); it redirects through one: `xsks_map`"
    )
