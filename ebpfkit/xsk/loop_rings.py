"""The LLVM IR of what every ring loop does with a socket's rings: wake the kernel, take sent frames back, refill, send.

Belongs here: the words that native code shares with Python, the small language of this text, and the functions that
need no handler. Indices that the kernel writes too are read with acquire and published with release; everything else
belongs to the thread that runs the loop. The loop around a handler is `loop_text`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from ebpfkit.llvm.text import IrText
from ebpfkit.xsk.umem import FrameOwner

__all__ = ["BATCH", "COUNTERS", "RUN", "SOCKET", "RingText", "module_text"]

BATCH: Final = 64
"""Packets of one socket before the next one has its turn."""

COUNTERS: Final = (
    "received", "bytes", "dropped", "sent", "completed", "wakeups", "aborted", "passed", "forwarded", "no_room",
    "not_taken", "last_error",
)  # fmt: skip
SOCKET: Final = MappingProxyType(
    {
        name: place
        for place, name in enumerate(
            (  # what every turn needs lies together: a line of the cache has 8 words
                "rx_producer", "rx_consumer", "rx_entries", "rx_mask",
                "fill_producer", "fill_consumer", "fill_entries", "fill_mask",
                "fill_flags", "fill_seen", "deficit", "umem", "owners", "ifindex", "queue", "cpu",
                *COUNTERS,
                "tx_next", "tx_seen", "pending", "down",
                "tx_producer", "tx_consumer", "tx_entries", "tx_mask", "tx_flags",
                "completion_producer", "completion_consumer", "completion_entries", "completion_mask",
                "stack", "top", "frames", "always_kick", "fd", "holders", "pool", "number", "data_offset",
            )
        )
    }
)  # fmt: skip
"""Words of a socket, 8 bytes each, by name; rings by the addresses of their parts (0: no such ring);
`*_seen` is the other side's index as last read, `tx_next` the first entry not yet written."""
RUN: Final = MappingProxyType(
    {
        name: place
        for place, name in enumerate(
            (
                "stop", "done", "limit", "sockets", "count", "polls", "poll_count", "spin", "patience", "wake_fd",
                "up_fd", "seed",
                "up_producer", "up_consumer", "up_entries", "up_mask", "up_next",
                "back_producer", "back_consumer", "back_entries", "back_mask",
            )
        )
    }
)  # fmt: skip
"""Words of a run: the flag that ends it, packets done and after how many to end (0: never), the table of sockets, what
poll(2) waits for, and the two rings between the loop and Python: packets handed up, and frames given back."""

_FREE, _FILL, _USER, _TX = (int(owner) for owner in (FrameOwner.FREE, FrameOwner.FILL, FrameOwner.USER, FrameOwner.TX))
_TRIES = 1000  # wake-ups for room in a TX ring before its packets are dropped
_LATER = (4, 11, 16, 105)  # EINTR, EAGAIN, EBUSY, ENOBUFS: the kernel wants to be asked again
_MSG_DONTWAIT = 0x40


class RingText(IrText):
    """The text for frames of `frame_size` bytes. `spread`: the UMEM is used on several queues.

    `only_receives` says that nothing is ever sent: less code for caches that a handler's own data fills.
    """

    only_receives = False

    def __init__(self, frame_size: int, *, unaligned: bool = False, spread: bool = False) -> None:
        super().__init__()
        self.frame_size, self.unaligned, self.spread = frame_size, unaligned, spread

    def common(self) -> None:
        """The functions that every loop needs."""
        with self.function("internal void @put_free(ptr %s, i64 %frame) noinline cold nounwind"):
            self.push_free("%frame")
            self.line("ret void")
        self._kick()
        self._recycle()
        self._reap()
        self._refill()
        self._make_room()
        self._finish()
        self._drain()

    def generator(self) -> str:
        """A whole module: generate(socket, run, count, length)."""
        self.common()
        self._generate()
        return module_text(self.lines)

    # Pieces.

    @contextmanager
    def function(self, head: str) -> Iterator[None]:
        self.lines.append(f"define {head} {{")
        self.label("begin")
        yield
        self.lines.append("}\n")

    def word(self, name: str, of: str = "%s") -> str:
        place = (RUN if of == "%r" else SOCKET)[name]
        return self.op(f"getelementptr i64, ptr {of}, i64 {place}")

    def get(self, name: str, of: str = "%s") -> str:
        return self.op(f"load i64, ptr {self.word(name, of)}, align 8")

    def place(self, name: str, of: str = "%s") -> str:
        """A word that is an address."""
        return self.op(f"load ptr, ptr {self.word(name, of)}, align 8")

    def set(self, name: str, value: str | int, of: str = "%s") -> None:
        self.line(f"store i64 {value}, ptr {self.word(name, of)}, align 8")

    def bump(self, name: str, by: str | int, of: str = "%s") -> None:
        self.set(name, self.op(f"add i64 {self.get(name, of)}, {by}"), of)

    def count(self, name: str, by: str | int, of: str = "%s") -> None:
        """As `bump`, for a counter that Python reads meanwhile."""
        value = self.op(f"add i64 {self.get(name, of)}, {by}")
        self.line(f"store atomic i64 {value}, ptr {self.word(name, of)} monotonic, align 8")

    def branch(self, condition: str, then: str, other: str, *, weights: bool | None = None) -> None:
        """`weights`: whether the condition nearly always holds, or nearly never."""
        known = "" if weights is None else f", !prof !{_LIKELY if weights else _UNLIKELY}"
        self.line(f"br i1 {condition}, label %{then}, label %{other}{known}")

    def when(self, condition: str) -> str:
        """Go on where the condition holds; the label of what follows, for `rest`."""
        yes, rest = self.name("yes"), self.name("rest")
        self.branch(condition, yes, rest)
        self.label(yes)
        return rest

    def rest(self, label: str) -> None:
        self.go(label)
        self.label(label)

    def compare(self, how: str, one: str, other: str | int, type: str = "i64") -> str:
        return self.op(f"icmp {how} {type} {one}, {other}")

    def acquire(self, place: str) -> str:
        """An index that the other side publishes."""
        return self.op(f"load atomic i32, ptr {place} acquire, align 4")

    def release(self, place: str, index: str) -> None:
        self.line(f"store atomic i32 {index}, ptr {place} release, align 4")

    def own(self, place: str) -> str:
        """An index that only we write."""
        return self.op(f"load i32, ptr {place}, align 4")

    def wide(self, value: str) -> str:
        return self.op(f"zext i32 {value} to i64")

    def narrow(self, value: str) -> str:
        return self.op(f"trunc i64 {value} to i32")

    def local(self, name: str, value: str | int = 0, type: str = "i64") -> str:
        """A variable of the function, which becomes a register."""
        self.line(f"%{name} = alloca {type}, align 8")
        self.line(f"store {type} {value}, ptr %{name}, align 8")
        return f"%{name}"

    def read(self, local: str, type: str = "i64") -> str:
        return self.op(f"load {type}, ptr {local}, align 8")

    def write(self, local: str, value: str | int, type: str = "i64") -> None:
        self.line(f"store {type} {value}, ptr {local}, align 8")

    def step(self, local: str, by: str | int = 1) -> None:
        self.write(local, self.op(f"add i64 {self.read(local)}, {by}"))

    def entry(self, entries: str, mask: str, index: str, size: int) -> str:
        """The address of a ring's entry; `index` and `mask` are i64."""
        slot = self.op(f"and i64 {index}, {mask}")
        return self.op(f"getelementptr [{size} x i8], ptr {entries}, i64 {slot}")

    def frame_of(self, address: str) -> str:
        """The number of the frame that an address lies in."""
        if self.frame_size & (self.frame_size - 1):
            return self.op(f"udiv i64 {address}, {self.frame_size}")
        return self.op(f"lshr i64 {address}, {self.frame_size.bit_length() - 1}")

    def start_of(self, frame: str) -> str:
        return self.op(f"mul i64 {frame}, {self.frame_size}")

    def give(self, frame: str, owner: int, of: str = "%s", owners: str = "") -> None:
        """A frame changes hands."""
        owners = owners or self.place("owners", of)
        self.line(f"store i8 {owner}, ptr {self.op(f'getelementptr i8, ptr {owners}, i64 {frame}')}, align 1")
        if self.spread and owner in (_FILL, _TX):
            holder = self.op(f"trunc i64 {self.get('pool', of)} to i16")
            at = self.op(f"getelementptr i16, ptr {self.place('holders', of)}, i64 {frame}")
            self.line(f"store i16 {holder}, ptr {at}, align 2")

    def push_free(self, frame: str, of: str = "%s") -> None:
        """Onto the stack of free frames."""
        place = self.place("top", of)
        top = self.op(f"load i64, ptr {place}, align 8")
        at = self.op(f"getelementptr i64, ptr {self.place('stack', of)}, i64 {top}")
        self.line(f"store i64 {frame}, ptr {at}, align 8")
        self.line(f"store i64 {self.op(f'add i64 {top}, 1')}, ptr {place}, align 8")
        self.give(frame, _FREE, of)

    def put_tx(self, of: str, address: str, length: str) -> None:
        """An entry of the TX ring, for which there is room."""
        following = self.get("tx_next", of)
        at = self.entry(self.place("tx_entries", of), self.get("tx_mask", of), following, 16)
        self.line(f"store i64 {address}, ptr {at}, align 8")
        self.line(f"store i64 {length}, ptr {self.op(f'getelementptr i64, ptr {at}, i64 1')}, align 8")
        self.set("tx_next", self.op(f"and i64 {self.op(f'add i64 {following}, 1')}, 4294967295"), of)

    def tx_room(self, of: str) -> str:
        """Entries of the TX ring that can be written, as far as known."""
        used = self.op(f"sub i64 {self.get('tx_next', of)}, {self.get('tx_seen', of)}")
        used = self.op(f"and i64 {used}, 4294967295")
        size = self.op(f"add i64 {self.get('tx_mask', of)}, 1")
        return self.op(f"sub i64 {size}, {used}")

    # What every loop does with a socket's rings.

    def _kick(self) -> None:
        """kick(socket): publish what is in the TX ring, and have the kernel look at it where it wants to be asked."""
        with self.function("internal void @kick(ptr %s) nounwind"):
            producer = self.place("tx_producer")
            following = self.narrow(self.get("tx_next"))
            published = self.own(producer)
            rest = self.when(self.compare("ne", following, published, "i32"))
            self.release(producer, following)
            self.rest(rest)
            seen = self.acquire(self.place("tx_consumer"))
            self.set("tx_seen", self.wide(seen))
            rest = self.when(self.compare("ne", following, seen, "i32"))
            flags = self.own(self.place("tx_flags"))
            wants = self.op(f"or i64 {self.wide(self.op(f'and i32 {flags}, 1'))}, {self.get('always_kick')}")
            asked = self.when(self.compare("ne", wants, 0))
            fd = self.narrow(self.get("fd"))
            self.count("wakeups", 1)
            sent = self.op(f"call i64 @sendto(i32 {fd}, ptr null, i64 0, i32 {_MSG_DONTWAIT}, ptr null, i32 0)")
            self.set("down", 0)
            failed = self.when(self.compare("slt", sent, 0))
            number = self.own(self.op("call ptr @__errno_location()"))
            self.line(f"switch i32 {number}, label %refused [ " + " ".join(
                f"i32 {later}, label %{failed}" for later in _LATER) + " ]")  # fmt: skip
            self.label("refused")
            self.set("down", 1)  # by itself it will not go on: the device is down or gone
            self.set("last_error", self.wide(number))
            self.rest(failed)
            self.set("tx_seen", self.wide(self.acquire(self.place("tx_consumer"))))
            self.rest(asked)
            self.rest(rest)
            self.line("ret void")

    def _recycle(self) -> None:
        """recycle(socket): sent frames straight into the fill ring, up to as many as have gone elsewhere."""
        with self.function("internal void @recycle(ptr %s) nounwind"):
            self.local("i")
            consumer, producer = self.place("completion_consumer"), self.place("fill_producer")
            first, into = self.own(consumer), self.own(producer)
            there = self.wide(self.op(f"sub i32 {self.acquire(self.place('completion_producer'))}, {first}"))
            seen = self.wide(self.acquire(self.place("fill_consumer")))
            self.set("fill_seen", seen)
            size = self.op(f"add i64 {self.get('fill_mask')}, 1")
            used = self.wide(self.op(f"sub i32 {into}, {self.narrow(seen)}"))
            count = self._least(there, self.get("deficit"), self.op(f"sub i64 {size}, {used}"))
            count, source = self._segment(count, "completion", self.wide(first))
            count, target = self._segment(count, "fill", self.wide(into))
            owners, frames = self.place("owners"), self.get("frames")
            self.branch(self.compare("sgt", count, 0), "loop", "none", weights=True)
            self.label("loop")
            i = self.read("%i")
            frame = self.frame_of(
                self.op(f"load i64, ptr {self.op(f'getelementptr i64, ptr {source}, i64 {i}')}, align 8")
            )
            self.branch(self.compare("ult", frame, frames), "inside", "stop", weights=True)
            self.label("inside")
            at = self.op(f"getelementptr i64, ptr {target}, i64 {i}")
            self.line(f"store i64 {self.start_of(frame)}, ptr {at}, align 8")
            self.give(frame, _FILL, owners=owners)
            self.step("%i")
            self.branch(self.compare("ult", self.read("%i"), count), "loop", "stop", weights=True)
            self.label("stop")  # in the middle: the entry is none of ours, and `reap` skips it
            done = self.read("%i")
            self.release(producer, self.op(f"add i32 {into}, {self.narrow(done)}"))
            self.release(consumer, self.op(f"add i32 {first}, {self.narrow(done)}"))
            self.set("deficit", self.op(f"sub i64 {self.get('deficit')}, {done}"))
            self.set("pending", self.op(f"sub i64 {self.get('pending')}, {done}"))
            self.count("completed", done)
            self.go("none")
            self.label("none")
            self.line("ret void")

    def _least(self, *values: str) -> str:
        """The least of signed numbers."""
        least = values[0]
        for value in values[1:]:
            least = self.op(f"call i64 @llvm.smin.i64(i64 {least}, i64 {value})")
        return least

    def _segment(self, count: str, ring: str, index: str) -> tuple[str, str]:
        """So many entries from an index on, cut at the ring's end; the address of the first."""
        mask = self.get(f"{ring}_mask")
        slot = self.op(f"and i64 {index}, {mask}")
        left = self.op(f"sub i64 {self.op(f'add i64 {mask}, 1')}, {slot}")
        entries = self.place(f"{ring}_entries")
        return self._least(count, left), self.op(f"getelementptr i64, ptr {entries}, i64 {slot}")

    def _reap(self) -> None:
        """reap(socket): frames whose packets have left are free again."""
        with self.function("internal void @reap(ptr %s) nounwind"):
            i, free = self.local("i"), self.local("free")
            consumer = self.place("completion_consumer")
            first, last = self.own(consumer), self.acquire(self.place("completion_producer"))
            count = self.wide(self.op(f"sub i32 {last}, {first}"))
            rest = self.when(self.compare("ne", count, 0))
            entries, mask, owners = self.place("completion_entries"), self.get("completion_mask"), self.place("owners")
            stack, top, start, frames = self.place("stack"), self.place("top"), self.wide(first), self.get("frames")
            self.write(free, self.op(f"load i64, ptr {top}, align 8"))
            self.go("loop")
            self.label("loop")
            at = self.entry(entries, mask, self.op(f"add i64 {start}, {self.read(i)}"), 8)
            frame = self.frame_of(self.op(f"load i64, ptr {at}, align 8"))
            outside = self.when(self.compare("ult", frame, frames))
            slot = self.op(f"getelementptr i64, ptr {stack}, i64 {self.read(free)}")
            self.line(f"store i64 {frame}, ptr {slot}, align 8")
            self.give(frame, _FREE, owners=owners)
            self.step(free)
            self.rest(outside)
            self.step(i)
            self.branch(self.compare("ult", self.read(i), count), "loop", "out")
            self.label("out")
            self.line(f"store i64 {self.read(free)}, ptr {top}, align 8")
            self.release(consumer, last)
            self.set("pending", self.op(f"sub i64 {self.get('pending')}, {count}"))
            self.count("completed", count)
            self.rest(rest)
            self.line("ret void")

    def _refill(self) -> None:
        """refill(socket): free frames into the fill ring, as many as have gone elsewhere."""
        with self.function("internal void @refill(ptr %s) nounwind"):
            place, deficit = self.place("top"), self.get("deficit")
            top = self.op(f"load i64, ptr {place}, align 8")
            producer = self.place("fill_producer")
            first, mask = self.wide(self.own(producer)), self.get("fill_mask")
            seen = self.wide(self.acquire(self.place("fill_consumer")))
            self.set("fill_seen", seen)
            used = self.op(f"and i64 {self.op(f'sub i64 {first}, {seen}')}, 4294967295")
            room = self.op(f"sub i64 {self.op(f'add i64 {mask}, 1')}, {used}")
            count = self.op(f"call i64 @llvm.smin.i64(i64 {deficit}, i64 {top})")
            count = self.op(f"call i64 @llvm.smin.i64(i64 {count}, i64 {room})")
            self.branch(self.compare("sgt", count, 0), "enter", "none")
            self.label("enter")
            entries, stack, owners = self.place("fill_entries"), self.place("stack"), self.place("owners")
            self.go("loop")
            self.label("loop")
            self.line("%i = phi i64 [ 0, %enter ], [ %next, %loop ]")
            self.line("%next = add i64 %i, 1")
            slot = self.op(f"getelementptr i64, ptr {stack}, i64 {self.op(f'sub i64 {top}, %next')}")
            frame = self.op(f"load i64, ptr {slot}, align 8")
            at = self.entry(entries, mask, self.op(f"add i64 {first}, %i"), 8)
            self.line(f"store i64 {self.start_of(frame)}, ptr {at}, align 8")
            self.give(frame, _FILL, owners=owners)
            self.branch(self.compare("ult", "%next", count), "loop", "out")
            self.label("out")
            self.line(f"store i64 {self.op(f'sub i64 {top}, {count}')}, ptr {place}, align 8")
            self.set("deficit", self.op(f"sub i64 {deficit}, {count}"))
            self.release(producer, self.narrow(self.op(f"add i64 {first}, {count}")))
            self.go("none")
            self.label("none")
            self.line("ret void")

    def _make_room(self) -> None:
        """make_room(socket, entries): have the kernel take packets from the TX ring until there is room for so many.

        It gives up when the device is down, and after some tries.
        """
        with self.function("internal void @make_room(ptr %s, i64 %wanted) noinline nounwind"):
            self.go("loop")
            self.label("loop")
            self.line("%i = phi i64 [ 0, %begin ], [ %next, %again ]")
            self.line("%next = add i64 %i, 1")
            self.line("call void @kick(ptr %s)")
            self.line("call void @reap(ptr %s)")
            enough = self.compare("uge", self.tx_room("%s"), "%wanted")
            down = self.compare("ne", self.get("down"), 0)
            tired = self.compare("uge", "%next", _TRIES)
            over = self.op(f"or i1 {enough}, {self.op(f'or i1 {down}, {tired}')}")
            self.branch(over, "out", "again")
            self.label("again")
            self.go("loop")
            self.label("out")
            self.line("ret void")

    def _finish(self) -> None:
        """finish(socket): what is to be done after a turn; 1 while packets wait in the TX ring."""
        with self.function("internal i64 @finish(ptr %s) nounwind"):
            waiting = self.local("waiting")
            if not self.only_receives:
                self._finish_sending(waiting)
            rx = self.when(self.compare("ne", self.get("rx_producer"), 0))
            short = self.when(self.compare("sgt", self.get("deficit"), 0))
            self.line("call void @refill(ptr %s)")
            self.rest(short)
            flags = self.own(self.place("fill_flags"))
            asked = self.when(self.compare("ne", self.op(f"and i32 {flags}, 1"), 0, "i32"))
            fd = self.narrow(self.get("fd"))
            self.count("wakeups", 1)
            self.op(f"call i64 @recvfrom(i32 {fd}, ptr null, i64 0, i32 {_MSG_DONTWAIT}, ptr null, ptr null)")
            self.rest(asked)
            self.rest(rx)
            self.line(f"ret i64 {self.read(waiting)}")

    def _finish_sending(self, waiting: str) -> None:
        """What is in the TX ring goes, what is in the completion ring comes back."""
        tx = self.when(self.compare("ne", self.get("tx_producer"), 0))
        unsent = self.op(f"sub i64 {self.get('tx_next')}, {self.get('tx_seen')}")
        some = self.when(self.compare("ne", self.op(f"and i64 {unsent}, 4294967295"), 0))
        self.line("call void @kick(ptr %s)")
        left = self.compare("ne", self.get("tx_next"), self.get("tx_seen"))
        self.write(waiting, self.op(f"zext i1 {left} to i64"))
        self.rest(some)
        pending = self.when(self.compare("ne", self.get("pending"), 0))
        short = self.when(self.compare("sgt", self.get("deficit"), 0))
        self.line("call void @recycle(ptr %s)")
        self.rest(short)
        self.line("call void @reap(ptr %s)")
        self.rest(pending)
        self.rest(tx)

    def _drain(self) -> None:
        """drain(socket, run): until everything sent is back, the run is stopped, or the device is down; what is not."""
        with self.function("i64 @drain(ptr %s, ptr %r) nounwind"):
            self.go("turn")
            self.label("turn")
            self.op("call i64 @finish(ptr %s)")
            left = self.get("pending")
            stop = self.op(f"load atomic i64, ptr {self.word('stop', '%r')} acquire, align 8")
            over = self.compare("ne", self.op(f"or i64 {stop}, {self.get('down')}"), 0)
            done = self.op(f"or i1 {over}, {self.compare('eq', left, 0)}")
            self.branch(done, "out", "turn")
            self.label("out")
            self.line(f"ret i64 {left}")

    def _generate(self) -> None:
        """generate(socket, run, count, length): send free frames as they are, that many; how many went before a stop.

        It returns early when the device is down.
        """
        with self.function("i64 @generate(ptr %s, ptr %r, i64 %count, i64 %length) nounwind"):
            i, sent = self.local("i"), self.local("sent")
            place, stack, owners = self.place("top"), self.place("stack"), self.place("owners")
            entries, mask, offset = self.place("tx_entries"), self.get("tx_mask"), self.get("data_offset")
            self.go("turn")
            self.label("turn")
            stop = self.op(f"load atomic i64, ptr {self.word('stop', '%r')} acquire, align 8")
            down = self.get("down")
            over = self.compare("ne", self.op(f"or i64 {stop}, {down}"), 0)
            self.branch(over, "out", "working")
            self.label("working")
            left = self.op(f"sub i64 %count, {self.read(sent)}")
            self.branch(self.compare("eq", left, 0), "out", "some")
            self.label("some")
            top = self.op(f"load i64, ptr {place}, align 8")
            batch = self.op(f"call i64 @llvm.umin.i64(i64 {left}, i64 {BATCH})")
            batch = self.op(f"call i64 @llvm.umin.i64(i64 {batch}, i64 {top})")
            batch = self.op(f"call i64 @llvm.umin.i64(i64 {batch}, i64 {self.tx_room('%s')})")
            self.branch(self.compare("eq", batch, 0), "push", "fill")
            self.label("fill")
            following = self.get("tx_next")
            self.write(i, 0)
            self.go("loop")
            self.label("loop")
            n = self.read(i)
            last = self.op(f"sub i64 {top}, {self.op(f'add i64 {n}, 1')}")
            slot = self.op(f"getelementptr i64, ptr {stack}, i64 {last}")
            frame = self.op(f"load i64, ptr {slot}, align 8")
            at = self.entry(entries, mask, self.op(f"add i64 {following}, {n}"), 16)
            self.line(f"store i64 {self.op(f'add i64 {self.start_of(frame)}, {offset}')}, ptr {at}, align 8")
            self.line(f"store i64 %length, ptr {self.op(f'getelementptr i64, ptr {at}, i64 1')}, align 8")
            self.give(frame, _TX, owners=owners)
            self.step(i)
            self.branch(self.compare("ult", self.read(i), batch), "loop", "filled")
            self.label("filled")
            self.line(f"store i64 {self.op(f'sub i64 {top}, {batch}')}, ptr {place}, align 8")
            self.set("tx_next", self.op(f"and i64 {self.op(f'add i64 {following}, {batch}')}, 4294967295"))
            self.bump("pending", batch)
            self.count("sent", batch)
            self.step(sent, batch)
            self.go("push")
            self.label("push")
            self.line("call void @kick(ptr %s)")
            self.line("call void @reap(ptr %s)")
            self.go("turn")
            self.label("out")
            self.line(f"ret i64 {self.read(sent)}")


def module_text(lines: list[str]) -> str:
    """Functions, with what they need declared."""
    return "\n".join(lines) + _LIBC


_LIKELY, _UNLIKELY = 100, 101
_LIBC: Final = """
declare i64 @sendto(i32, ptr, i64, i32, ptr, i32)
declare i64 @recvfrom(i32, ptr, i64, i32, ptr, ptr)
declare i64 @read(i32, ptr, i64)
declare i64 @write(i32, ptr, i64)
declare i32 @poll(ptr, i64, i32)
declare ptr @__errno_location()
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
!100 = !{!"branch_weights", i32 2000, i32 1}
!101 = !{!"branch_weights", i32 1, i32 2000}
"""
