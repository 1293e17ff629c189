"""A compiled ring loop over some sockets in one thread: the words that it works on, and its start and end.

The handler's IR becomes native code with the loop around it (`loop_text`); while it runs, rings, frames and the
allocator are the loop's, and Python reads counters, maps, and what the handler hands up. Threads and what users see is
`running`'s.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ebpfkit._bits import round_up
from ebpfkit.abi.uapi import XDP_TX
from ebpfkit.compiler.native import Handler, lower_handler
from ebpfkit.errors import NotSupported, UsageError, XskError
from ebpfkit.llvm.native import NativeModule, compile_native
from ebpfkit.xsk.loop_rings import COUNTERS, RUN, SOCKET, RingText
from ebpfkit.xsk.loop_text import LoopText
from ebpfkit.xsk.ring import DESCRIPTOR, ConsumerRing, ProducerRing, Ring
from ebpfkit.xsk.umem import FrameOwner

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Program
    from ebpfkit.xsk.socket import XskSocket

__all__ = ["Loop", "prepare_handler"]

SPIN = 200
"""Turns without a packet before the loop sleeps in poll(2)."""
PATIENCE = 1000  # milliseconds of one sleep
_COUNTED = slice(SOCKET[COUNTERS[0]], SOCKET[COUNTERS[-1]] + 1)
_DONE, _LIMIT = RUN["done"], RUN["limit"]
_FILL = int(FrameOwner.FILL)
_NO_FLAGS = (ctypes.c_uint32 * 2)()  # of rings that have none: the kernel never asks


def prepare_handler(program: Program, *, cpus: int) -> Handler:
    """The handler for native code. Raises VerifierError, CompileError: native code has no checks of its own."""
    if getattr(program, "prog_type", "") != "xdp" or not hasattr(program, "verify"):
        raise UsageError(f"{program!r} is no handler: give a function that @xdp decorates")
    report = program.verify()
    for error in report.errors:
        raise error
    for one in report:
        if not one.ok:
            raise NotSupported(f"'{one.name}' in native code", why=f"it could not be verified: {one.message}")
    return lower_handler(program, cpus=cpus)


@lru_cache(maxsize=32)
def _compiled(text: str) -> NativeModule:
    return compile_native(text)


def _words(count: int) -> NDArray[np.uint64]:
    """Zeros that begin with a line of the cache."""
    words = np.zeros(count + 8, np.uint64)
    start = -words.ctypes.data % 64 // 8
    return words[start : start + count]


class PrivateRing:
    """A ring between native code and Python in memory of our own: entries as in the RX ring."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(128 + size * DESCRIPTOR.itemsize)
        self.size = size

    def producer(self) -> ProducerRing:
        return ProducerRing(memoryview(self.memory), DESCRIPTOR, self.size, producer=0, consumer=64, entries=128)

    def consumer(self) -> ConsumerRing:
        return ConsumerRing(memoryview(self.memory), DESCRIPTOR, self.size, producer=0, consumer=64, entries=128)


class Loop:
    """Sockets that one thread serves with one handler (None: only `generate`). `number` counts the loops of a run.

    `attach` takes the sockets over, `turn` runs native code in the calling thread, `detach` gives them back.
    """

    def __init__(
        self,
        sockets: Sequence[XskSocket],
        handler: Handler | None,
        *,
        number: int = 0,
        up_size: int = 1024,
        up_fd: int = -1,
    ) -> None:
        self.sockets = tuple(sockets)
        _check_sockets(self.sockets, handler)
        self.handler = handler
        self._compile()
        self._lay_out()
        self._tallied = {sock: _words(len(COUNTERS)) for sock in self.sockets}
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._up_memory, self._back_memory = PrivateRing(up_size), PrivateRing(4 * up_size)
        self.up, self.back = self._up_memory.consumer(), self._back_memory.producer()
        self._prepare_run(number, up_fd)
        self.attached = False
        self._lock = threading.Lock()
        self.end = self.detach  # how to end it: whose thread runs it knows better

    def _compile(self) -> None:
        umem, handler = self.sockets[0].umem, self.handler
        spread = any(sock.umem.is_spread for sock in self.sockets)
        if handler is not None:
            text = LoopText(umem.frame_size, unaligned=umem.unaligned, spread=spread)
            self._module = _compiled(text.text(handler.text, handler.verdicts))
        else:
            rings = RingText(umem.frame_size, unaligned=umem.unaligned, spread=spread)
            self._module = _compiled(rings.generator())
        names = ("drain", "generate" if handler is None else "run")
        self.entries = {name: self._module.address(name) for name in names}
        place, word = ctypes.c_void_p, ctypes.c_uint64
        self._run = ctypes.CFUNCTYPE(ctypes.c_int64, place)(self.entries.get("run", 0))
        self._drain = ctypes.CFUNCTYPE(ctypes.c_int64, place, place)(self.entries["drain"])
        self._generate = ctypes.CFUNCTYPE(ctypes.c_int64, place, place, word, word)(self.entries.get("generate", 0))

    def _lay_out(self) -> None:
        """All words in one block: few pages, each socket at a line of the cache."""
        umems = list({id(sock.umem): sock.umem for sock in self.sockets}.values())
        each, count = round_up(len(SOCKET), 8), len(self.sockets)
        start = round_up(len(RUN) + count + len(umems), 8)
        block = _words(start + each * count)
        self.run_words, self._table = block[: len(RUN)], block[len(RUN) : len(RUN) + count]
        self._tops = {umem: block[len(RUN) + count + at :][:1] for at, umem in enumerate(umems)}
        self.words = {sock: block[start + each * at :][: len(SOCKET)] for at, sock in enumerate(self.sockets)}
        self.places = [words.ctypes.data for words in self.words.values()]
        self._table[:] = self.places
        self.run_address = self.run_words.ctypes.data
        # The same words once more, for calls that must not take long.
        self._run_cells = (ctypes.c_uint64 * len(RUN)).from_address(self.run_address)

    def _prepare_run(self, number: int, up_fd: int) -> None:
        polled = [(sock.fileno(), select.POLLIN) for sock in self.sockets if sock.sizes.rx]
        polled.append((self.wake_fd, select.POLLIN))
        self._polls = ctypes.create_string_buffer(b"".join(struct.pack("=ihh", fd, what, 0) for fd, what in polled))
        values = {
            "sockets": self._table.ctypes.data, "count": len(self.sockets), "polls": ctypes.addressof(self._polls),
            "poll_count": len(polled), "spin": SPIN, "patience": PATIENCE, "wake_fd": self.wake_fd,
            "up_fd": up_fd & 0xFFFF_FFFF, "seed": int.from_bytes(os.urandom(8), "little") | 1,
        }  # fmt: skip
        for name, ring in (("up", self.up), ("back", self.back)):
            values |= _ring_words(name, ring)
        for name, value in values.items():
            if name in RUN:
                self.run_words[RUN[name]] = value
        for place, words in enumerate(self.words.values()):
            words[SOCKET["number"]], words[SOCKET["cpu"]] = place, number

    # --- taking sockets over and giving them back

    def attach(self) -> None:
        """The sockets, their rings and frames are the loop's from now on."""
        self._fill_targets()
        for sock in self.sockets:
            sock.flush()
            sock.refill()
        for umem, top in self._tops.items():
            top[0] = len(umem)
            umem.resume(0)  # while the loop runs, no frame is free to others
        for sock, words in self.words.items():
            for name, value in self._describe(sock).items():
                if name in SOCKET:
                    words[SOCKET[name]] = value
        for sock in self.sockets:
            sock.loop = self
        self.attached = True

    def _describe(self, sock: XskSocket) -> dict[str, int]:
        umem, opened = sock.umem, sock._check_open()
        values = {
            "fd": opened.fd.fileno(), "umem": umem.address, "owners": umem.owners.ctypes.data,
            "holders": umem.holders.ctypes.data, "pool": opened.pool.number, "stack": umem.free_stack.ctypes.data,
            "top": self._tops[umem].ctypes.data, "frames": umem.frame_count, "always_kick": not sock.zero_copy,
            "ifindex": sock.device.index, "queue": sock.queue, "data_offset": umem.data_offset,
            "pending": opened.pool.sent - opened.pool.completed, "down": 0,
        }  # fmt: skip
        values |= _ring_words("fill", opened.pool.fill) | _ring_words("completion", opened.pool.completion)
        values["fill_seen"] = opened.pool.fill.consumer_index.load()
        if opened.rx is not None:
            values |= _ring_words("rx", opened.rx)
            filled = umem.owners == _FILL
            if umem.is_spread:
                filled &= umem.holders == opened.pool.number
            values["deficit"] = (sock.fill_target - int(np.count_nonzero(filled))) & 0xFFFF_FFFF_FFFF_FFFF
        if opened.tx is not None:
            values |= _ring_words("tx", opened.tx)
            values["tx_next"] = opened.tx.producer_index.load()
            values["tx_seen"] = opened.tx.consumer_index.load()
        return values

    def _fill_targets(self) -> None:
        """The socket maps' tables: which socket's words are meant by an index."""
        if self.handler is None:
            return
        by_number = {sock.fileno(): words.ctypes.data for sock, words in self.words.items()}
        for name, table in self.handler.targets.items():
            store = self.handler.maps[name].memory_store
            for index in range(len(table)):
                number = store.target(index)
                if number is not None and number not in by_number:
                    raise UsageError(
                        f"'{name}' has a socket at {index} that this loop does not serve; one thread serves all that "
                        "packets go between: run([one, other], handler)"
                    )
                table[index] = 0 if number is None else by_number[number]

    def detach(self) -> None:
        """The sockets are Python's again, as the loop left them."""
        with self._lock:
            if not self.attached:
                return
            self.attached = False
        for umem, top in self._tops.items():
            umem.resume(int(top[0]))
        for sock, words in self.words.items():
            sock.loop = None
            if sock.closed:
                continue
            opened = sock._check_open()
            for ring in (opened.rx, opened.tx, opened.pool.fill, opened.pool.completion):
                if ring is not None:
                    ring.resume()
            opened.pool.sent = opened.pool.completed + int(words[SOCKET["pending"]])
            self.tally(sock)
            sock.resume()
        for address, length, number in self._back_memory.consumer().consume(self.back.size).tolist():
            self._settle(address, length, number)

    def give_back(self, address: int, length: int, number: int) -> bool:
        """A frame that was handed up, of socket `number`: free again, or to be sent with `length` bytes.

        False when the loop has to take others first.
        """
        with self._lock:
            if self.attached:
                if not self.back.produce(np.array([(address, length, number)], DESCRIPTOR)):
                    return False
                if length:
                    self.wake()
                return True
        self._settle(address, length, number)
        return True

    def _settle(self, address: int, length: int, number: int) -> None:
        """As `give_back`, without the loop."""
        sock = self.sockets[number]
        if length and not sock.closed:
            sock.send_batch(np.array([(address, length, 0)], DESCRIPTOR))
        else:
            sock.umem.free_one(address)

    def tally(self, sock: XskSocket) -> None:
        """Bring the socket's own counters up to date."""
        with self._lock:
            self._tally(sock)

    def _tally(self, sock: XskSocket) -> None:
        now, before = self.words[sock][_COUNTED].copy(), self._tallied[sock]
        for name in ("received", "sent", "completed", "wakeups"):
            at = COUNTERS.index(name)
            setattr(sock.tallies, name, getattr(sock.tallies, name) + int(now[at]) - int(before[at]))
        self._tallied[sock] = now

    # --- running

    def turn(self, limit: int = 0) -> int:
        """Serve until stopped, until `limit` packets were received (0: no limit), or nothing came for a second.

        Native code, without Python's lock. The status: `STOPPED`, `DONE`, `IDLE`.
        """
        self.limit(limit)
        return int(self._run(self.run_address))

    def limit(self, packets: int) -> None:
        """How many packets the next turn ends after."""
        self._run_cells[_DONE], self._run_cells[_LIMIT] = 0, packets

    def generate(self, count: int, length: int) -> int:
        """Send `count` free frames as they are, `length` bytes each; how many: fewer when stopped or down."""
        (place,) = self.places
        return int(self._generate(place, self.run_address, count, length))

    def drain(self) -> int:
        """Wait until what was sent is back; how many are not, as the device is down or the loop was stopped."""
        return sum(int(self._drain(place, self.run_address)) for place in self.places)

    def stop(self) -> None:
        """Have native code return at its next turn."""
        self.run_words[RUN["stop"]] = 1
        self.wake()

    def wake(self) -> None:
        """End the loop's sleep."""
        if self.wake_fd >= 0:
            os.eventfd_write(self.wake_fd, 1)

    def counters(self) -> Mapping[str, int]:
        """All counts by name, summed over the sockets."""
        total = sum((words[_COUNTED] for words in self.words.values()), _words(len(COUNTERS)))
        return dict(zip(COUNTERS, total.tolist(), strict=True))

    def close(self) -> None:
        """Let go of the descriptor."""
        if self.wake_fd >= 0:
            os.close(self.wake_fd)
            self.wake_fd = -1


def _ring_words(name: str, ring: Ring) -> dict[str, int]:
    places = ring.places
    return {
        f"{name}_producer": places.producer, f"{name}_consumer": places.consumer, f"{name}_entries": places.entries,
        f"{name}_mask": ring.size - 1, f"{name}_flags": places.flags or ctypes.addressof(_NO_FLAGS),
    }  # fmt: skip


def _check_sockets(sockets: Sequence[XskSocket], handler: Handler | None) -> None:
    if not sockets or len(set(map(id, sockets))) != len(sockets):
        raise UsageError("a loop wants sockets, each of them once")
    first = sockets[0].umem
    for sock in sockets:
        umem = sock.umem
        if sock.loop is not None:
            raise XskError(f"{sock!r} runs a compiled loop already; stop that one first")
        if sock.multi_buffer:
            raise UsageError("compiled loops take packets of one frame: make the socket without multi_buffer=True")
        if umem.journal is not None:
            raise UsageError("compiled loops do not keep the journal of shareable=True; leave it out, and use threads")
        if (umem.frame_size, umem.unaligned) != (first.frame_size, first.unaligned):
            raise UsageError("the sockets of one loop have frames of one size")
        users = [pool.users for pool in umem.pools.values()]
        if max(users) > 1:
            raise UsageError("two sockets on one queue share its rings; a compiled loop wants a queue for each")
        if sum(users) != sum(other.umem is umem for other in sockets):
            raise UsageError("sockets that share a UMEM are served by one thread: name all of them")
        if handler is not None and not sock.sizes.tx and XDP_TX in (handler.verdicts or ()):
            raise UsageError(f"the handler returns XDP_TX, and {sock!r} has no TX ring (tx_size=0)")
