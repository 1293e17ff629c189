"""Native code around a program: the same packet many times, and a stretch of a capture packet by packet.

Belongs here: the loops, which set the state up for each run as `Jit.run` does, and what they count. A run that needs
Python to go on (a tail call, the end of a budget) leaves the loop in the middle; `Captures` finishes it and comes back.
Reading files is `pcap`'s, except that records of the classic format are walked as they are here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

from ebpfkit.errors import EbpfError, PcapError, UsageError
from ebpfkit.llvm.text import IrText
from ebpfkit.vm.frame import HEADROOM
from ebpfkit.vm.interpreter import FRAME_BYTES, MAX_LOOPS
from ebpfkit.vm.jit_text import FINISHED, State
from ebpfkit.vm.native_memory import ENTRY_BYTES, TABLE_ENTRIES, SafeSpace
from ebpfkit.vm.pcap import LINKTYPE_ETHERNET, MAX_RECORD, Packet, PcapWriter, open_pcap

if TYPE_CHECKING:
    from ebpfkit.llvm.native import NativeModule
    from ebpfkit.vm.jit import Jit
    from ebpfkit.vm.machine import Machine

__all__ = ["CaptureTotals", "repeat", "run_capture"]

_WORDS: Final = (
    "program", "entry", "position", "end", "swapped", "frame", "room", "base", "row", "budget", "context", "packets",
    "insns", "bytes", "verdicts", "out", "out_end", "unit", "stack", "current", "zero_stack",
)  # fmt: skip
_AT: Final = {name: place for place, name in enumerate(_WORDS)}
_VERDICTS = 16
_DONE, _CUT, _TOO_LARGE, _OUT_FULL = 16, 17, 18, 19  # beside the statuses of programs
_RECORD = 16
_HEADER = 24
_OUT_BYTES = 1 << 20
_CHUNK = 1 << 20
_BATCH = 1 << 18
_PCAP_MAGIC: Final = {
    b"\xd4\xc3\xb2\xa1": (0, 1000), b"\x4d\x3c\xb2\xa1": (0, 1), b"\xa1\xb2\xc3\xd4": (1, 1000),
    b"\xa1\xb2\x3c\x4d": (1, 1),
}  # fmt: skip


@dataclass
class CaptureTotals:
    """What a program did to a capture. `verdicts` counts runs by return value, those from 15 on together as -1; `insns`
    is None in trusted code.

    `error` is what broke the walk off, where the caller asked for the totals up to there.
    """

    packets: int = 0
    bytes: int = 0
    insns: int | None = 0
    verdicts: dict[int, int] = field(default_factory=dict)
    error: EbpfError | None = None


class _LoopText(IrText):
    """The text of both loops: `repeat` and `capture`, over a block of words that Python shares."""

    def _at(self, name: str) -> str:
        return self.op(f"getelementptr i64, ptr %p, i64 {_AT[name]}")

    def get(self, name: str) -> str:
        return self.op(f"load i64, ptr {self._at(name)}")

    def set(self, name: str, value: str | int) -> None:
        self.line(f"store i64 {value}, ptr {self._at(name)}")

    def bump(self, name: str, by: str | int) -> None:
        self.set(name, self.op(f"add i64 {self.get(name)}, {by}"))

    def state(self, word: int, value: str | int) -> None:
        self.line(f"store i64 {value}, ptr {self.op(f'getelementptr i64, ptr %st, i64 {word}')}")

    def branch(self, condition: str, then: str, other: str) -> None:
        self.line(f"br i1 {condition}, label %{then}, label %{other}")

    def number(self, pointer: str, offset: int, swapped: str) -> str:
        """A u32 of a record's header."""
        raw = self.op(f"load i32, ptr {self.op(f'getelementptr i8, ptr {pointer}, i64 {offset}')}, align 1")
        turned = self.op(f"call i32 @llvm.bswap.i32(i32 {raw})")
        chosen = self.op(f"select i1 {self.op(f'icmp ne i64 {swapped}, 0')}, i32 {turned}, i32 {raw}")
        return self.op(f"zext i32 {chosen} to i64")

    def start_run(self) -> None:
        """Registers, frame and budget as at the start of a run."""
        self.line("call void @llvm.memset.p0.i64(ptr %st, i8 0, i64 88, i1 false)")
        self.state(1, self.get("context"))
        self.state(State.LEFT, self.get("budget"))
        self.state(State.DEPTH, 1)
        self.state(State.FRAMES, 0)
        self.state(State.FRAMES + 5, MAX_LOOPS)
        clear, ready = self.name("clear"), self.name("ready")
        self.branch(self.op(f"icmp ne i64 {self.get('zero_stack')}, 0"), clear, ready)
        self.label(clear)
        stack = self.pointer(self.get("stack"))
        self.line(f"call void @llvm.memset.p0.i64(ptr align 8 {stack}, i8 0, i64 {FRAME_BYTES}, i1 false)")
        self.line(f"br label %{ready}")
        self.label(ready)

    def call_program(self) -> str:
        program = self.pointer(self.get("program"))
        return self.op(f"call i64 {program}(ptr %st, i64 {self.get('entry')})")

    def text(self) -> str:
        self._repeat()
        self._capture()
        return "\n".join(
            [
                *self.lines,
                "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
                "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
                "declare i32 @llvm.bswap.i32(i32)",
            ]
        )

    def _repeat(self) -> None:
        """repeat(state, words, count): runs until the count or a run that does not finish; the last status."""
        self.lines.append("define i64 @repeat(ptr %st, ptr %p, i64 %count) nounwind {")
        self.label("begin")
        self.go("loop")
        self.label("loop")
        self.line("%i = phi i64 [ 0, %begin ], [ %next, %again ]")
        self.start_run()
        status = self.call_program()
        self.branch(self.op(f"icmp eq i64 {status}, {FINISHED}"), "again", "out")
        self.label("again")
        self.line("%next = add i64 %i, 1")
        self.branch(self.op("icmp eq i64 %next, %count"), "out", "loop")
        self.label("out")
        self.line(f"ret i64 {status}")
        self.lines.append("}")

    def _capture(self) -> None:
        """capture(state, words): the records from `position` to `end`; why it stopped."""
        self.lines.append("define i64 @capture(ptr %st, ptr %p) nounwind {")
        self.label("begin")
        self.go("loop")
        self.label("loop")
        position, end, swapped = self.get("position"), self.get("end"), self.get("swapped")
        rest = self.op(f"sub i64 {end}, {position}")
        self.branch(self.op(f"icmp eq i64 {rest}, 0"), "done", "header")
        self.label("header")
        self.branch(self.op(f"icmp ult i64 {rest}, {_RECORD}"), "cut", "sized")
        self.label("sized")
        record = self.pointer(position)
        size = self.number(record, 8, swapped)
        whole = self.op(f"add i64 {size}, {_RECORD}")
        self.branch(self.op(f"icmp ugt i64 {whole}, {rest}"), "cut", "bounded")
        self.label("bounded")
        self.branch(self.op(f"icmp ugt i64 {size}, {self.get('room')}"), "large", "output")
        self.label("output")
        self._room_for_output(size)
        self.label("fill")
        self._fill(record, size)
        self.start_run()
        self.set("current", position)
        self.bump("bytes", size)
        self.set("position", self.op(f"add i64 {position}, {whole}"))
        status = self.call_program()
        self.branch(self.op(f"icmp eq i64 {status}, {FINISHED}"), "finished", "stopped")
        self.label("finished")
        self._count(record, swapped)
        self.go("loop")
        for label, code in (("done", _DONE), ("cut", _CUT), ("large", _TOO_LARGE), ("full", _OUT_FULL)):
            self.label(label)
            self.line(f"ret i64 {code}")
        self.label("stopped")
        self.line(f"ret i64 {status}")
        self.lines.append("}")

    def _room_for_output(self, size: str) -> None:
        """Packets may grow by what is free in the frame: leave room for that before the run."""
        out = self.get("out")
        check = self.name("check")
        self.branch(self.op(f"icmp eq i64 {out}, 0"), "fill", check)
        self.label(check)
        free = self.op(f"sub i64 {self.get('out_end')}, {out}")
        needed = self.op(f"add i64 {self.get('room')}, {_RECORD + HEADROOM}")
        self.branch(self.op(f"icmp ult i64 {free}, {needed}"), "full", "fill")

    def _fill(self, record: str, size: str) -> None:
        frame = self.pointer(self.get("frame"))
        data = self.op(f"getelementptr i8, ptr {record}, i64 {_RECORD}")
        self.line(f"call void @llvm.memset.p0.i64(ptr align 8 {frame}, i8 0, i64 {HEADROOM}, i1 false)")
        start = self.op(f"getelementptr i8, ptr {frame}, i64 {HEADROOM}")
        self.line(f"call void @llvm.memcpy.p0.p0.i64(ptr align 8 {start}, ptr {data}, i64 {size}, i1 false)")
        low = self.op(f"add i64 {self.get('base')}, {HEADROOM}")
        high = self.op(f"add i64 {low}, {size}")
        for word, value in ((State.DATA, low), (State.DATA_END, high), (State.DATA_META, low)):
            self.state(word, value)
        row = self.get("row")
        publish, ready = self.name("publish"), self.name("published")
        self.branch(self.op(f"icmp ne i64 {row}, 0"), publish, ready)
        self.label(publish)
        entry = self.pointer(row)
        place = self.op(f"ptrtoint ptr {start} to i64")
        limits = []
        for width in (1, 2, 4, 8):
            limit = self.op(f"call i64 @llvm.usub.sat.i64(i64 {size}, i64 {width - 1})")
            limits.append(limit)
        for number, value in enumerate([low, place, *limits, *limits]):
            self.line(f"store i64 {value}, ptr {self.op(f'getelementptr i64, ptr {entry}, i64 {number}')}")
        self.go(ready)
        self.label(ready)

    def _count(self, record: str, swapped: str) -> None:
        r0 = self.op("load i64, ptr %st")
        action = self.op(f"and i64 {r0}, {0xFFFF_FFFF}")
        known = self.op(f"icmp ult i64 {action}, {_VERDICTS - 1}")
        slot = self.op(f"select i1 {known}, i64 {action}, i64 {_VERDICTS - 1}")
        at = self.op(f"add i64 {self.op(f'shl i64 {slot}, 3')}, {self.get('verdicts')}")
        counter = self.pointer(at)
        seen = self.op(f"load i64, ptr {counter}")
        self.line(f"store i64 {self.op(f'add i64 {seen}, 1')}, ptr {counter}")
        left = self.op(f"load i64, ptr {self.op(f'getelementptr i64, ptr %st, i64 {State.LEFT}')}")
        self.bump("insns", self.op(f"sub i64 {self.get('budget')}, {left}"))
        self.bump("packets", 1)
        out = self.get("out")
        write, skip = self.name("write"), self.name("written")
        self.branch(self.op(f"icmp ne i64 {out}, 0"), write, skip)
        self.label(write)
        self._write_record(record, swapped, out)
        self.go(skip)
        self.label(skip)

    def _write_record(self, record: str, swapped: str, out: str) -> None:
        """The packet as it is now, with its time in nanoseconds."""
        words = [self.op(f"getelementptr i64, ptr %st, i64 {word}") for word in (State.DATA, State.DATA_END)]
        data, end = (self.op(f"load i64, ptr {word}") for word in words)
        size = self.op(f"sub i64 {end}, {data}")
        fraction = self.op(f"mul i64 {self.number(record, 4, swapped)}, {self.get('unit')}")
        head = self.pointer(out)
        for place, value in enumerate((self.number(record, 0, swapped), fraction, size, size)):
            at = self.op(f"getelementptr i32, ptr {head}, i64 {place}")
            self.line(f"store i32 {self.op(f'trunc i64 {value} to i32')}, ptr {at}, align 1")
        offset = self.op(f"sub i64 {data}, {self.get('base')}")
        source = self.pointer(self.op(f"add i64 {self.get('frame')}, {offset}"))
        target = self.op(f"getelementptr i8, ptr {head}, i64 {_RECORD}")
        self.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")
        self.set("out", self.op(f"add i64 {out}, {self.op(f'add i64 {size}, {_RECORD}')}"))


@cache
def _loops() -> tuple[NativeModule, Any, Any]:
    from ebpfkit.llvm.native import compile_native

    text = _LoopText().text() + "\ndeclare i64 @llvm.usub.sat.i64(i64, i64)\n"
    module = compile_native(text)
    pointer, number = ctypes.c_void_p, ctypes.c_uint64
    repeated = ctypes.CFUNCTYPE(number, pointer, pointer, number)(module.address("repeat"))
    capture = ctypes.CFUNCTYPE(number, pointer, pointer)(module.address("capture"))
    return module, repeated, capture


def _words_for(machine: Machine, jit: Jit) -> Any:
    """The words of a loop over this machine's program and frame."""
    unit = jit.unit_of(machine.entry)
    jit.prepare(unit)
    words: Any = (ctypes.c_uint64 * len(_WORDS))()
    words[_AT["program"]] = unit.address
    words[_AT["entry"]] = machine.entry
    words[_AT["budget"]] = jit.budget_of(machine.budget)
    words[_AT["stack"]] = jit.stack_place
    words[_AT["zero_stack"]] = not jit.trusted
    _place_frame(words, machine, jit)
    return words


def _place_frame(words: Any, machine: Machine, jit: Jit) -> None:
    region: Any = machine.frame.region
    context = machine.context
    words[_AT["frame"]] = region.place
    words[_AT["room"]] = machine.frame.hard_end - HEADROOM
    words[_AT["base"]] = region.base
    words[_AT["context"]] = context.region.base if context is not None else 0
    space = jit.space
    if isinstance(space, SafeSpace):
        row = (region.base >> 32) % TABLE_ENTRIES
        words[_AT["row"]] = space.table_address + row * ENTRY_BYTES if space.owns(region) else 0


def repeat(machine: Machine, packet: bytes, count: int) -> int:
    """Run a program `count` times on one packet, which is not renewed in between, as BPF_PROG_TEST_RUN does; the last
    r0. Raises what `run` raises. For measuring."""
    jit = _jit_of(machine)
    machine.run(packet)
    machine.frame.fill(packet)
    jit.publish_context()
    words = _words_for(machine, jit)
    _, repeated, _ = _loops()
    status = repeated(jit.state, ctypes.addressof(words), count)
    if status != FINISHED:
        jit.finish(status)
    return jit.result()


def _jit_of(machine: Machine) -> Jit:
    from ebpfkit.vm.jit import Jit

    if not isinstance(machine.interpreter, Jit):
        raise UsageError('the machine has no JIT: make it with jit="safe" or jit="trusted"')
    return machine.interpreter


def run_capture(
    machine: Machine,
    path: str | os.PathLike[str],
    *,
    out: BinaryIO | None = None,
    by_stamps: bool = False,
    until_error: bool = False,
) -> CaptureTotals:
    """Run an XDP program on every packet of a capture in native code; `out` gets the packets as a pcap.

    A pcap is read in chunks and walked there; a pcapng is read by `pcap` and walked in batches. Memory does not grow
    with the capture. `by_stamps`: programs that ask for the time get each packet's time stamp, not the machine's clock.
    Raises PcapError, and MachineFault of the first run that faults; with `until_error` that is in the totals instead.
    """
    jit = _jit_of(machine)
    if not machine.is_xdp:
        raise UsageError("whole captures run natively for XDP programs only: run the packets one by one")
    walk = _Walk(machine, jit, out)
    clock = machine.clock
    if by_stamps:
        machine.clock = walk.stamp
    error: EbpfError | None = None
    try:
        with open(path, "rb") as stream:
            magic = stream.read(4)
            if magic in _PCAP_MAGIC:
                walk.chunks(stream, os.fspath(path), *_PCAP_MAGIC[magic])
            else:
                with open_pcap(path) as packets:
                    walk.batches(packets)
    except OSError as problem:
        why = problem.strerror or errno.errorcode.get(problem.errno or 0)
        raise PcapError(f"{os.fspath(path)}: {why}") from problem
    except EbpfError as problem:
        if not until_error:
            raise
        error = problem
    finally:
        machine.clock = clock
    totals = walk.totals()
    totals.error = error
    return totals


class _Walk:
    """One walk over a capture."""

    def __init__(self, machine: Machine, jit: Jit, out: BinaryIO | None) -> None:
        self.machine = machine
        self.jit = jit
        self.writer: PcapWriter | None = None
        self.stream = out
        self.start = 0  # where the records that are walked are in the process, and in the capture
        self.offset = 1
        machine.start_run()
        machine.prepare_packet(b"")
        jit.publish_context()
        self.words = _words_for(machine, jit)
        self.counters: Any = (ctypes.c_uint64 * _VERDICTS)()
        self.others: dict[int, int] = {}
        self.words[_AT["verdicts"]] = ctypes.addressof(self.counters)
        self.buffer: Any = (ctypes.c_char * _OUT_BYTES)() if out is not None else None
        if self.buffer is not None:
            self.words[_AT["out"]] = ctypes.addressof(self.buffer)
            self.words[_AT["out_end"]] = ctypes.addressof(self.buffer) + _OUT_BYTES

    def _begin_output(self, link_type: int) -> None:
        """The header of the output: the link type of the capture, or of its first packet."""
        if self.stream is not None and self.writer is None:
            self.writer = PcapWriter(self.stream, link_type=link_type)

    def _get(self, name: str) -> int:
        return int(self.words[_AT[name]])

    def chunks(self, stream: BinaryIO, name: str, swapped: int, unit: int) -> None:
        """A pcap behind its magic number, read piece by piece: a file that is cut meanwhile ends early, no more."""
        header = stream.read(_HEADER - 4)
        if len(header) < _HEADER - 4:
            raise PcapError(f"{name}: offset 4: the file header is cut off")
        self._begin_output(int.from_bytes(header[-4:], "big" if swapped else "little") & 0xFFFF)
        self.words[_AT["swapped"]], self.words[_AT["unit"]] = swapped, unit
        self.offset = _HEADER
        chunk, kept = bytearray(_CHUNK), 0
        while read := stream.readinto(memoryview(chunk)[kept:]):  # type: ignore[attr-defined]
            chunk, kept = self._chunk(chunk, kept + read, name)
        if kept:
            raise PcapError(f"{name}: offset {self.offset}: the packet is cut off, or its length is wrong")

    def _chunk(self, chunk: bytearray, filled: int, name: str) -> tuple[bytearray, int]:
        """Walk the whole records of a chunk; what to read on into, with what is left of the chunk at its start."""
        held = (ctypes.c_char * len(chunk)).from_buffer(chunk)
        start = ctypes.addressof(held)
        walked = self._walk(start, start + filled, name) - start
        rest = chunk[walked:filled]
        self.offset += walked
        if len(rest) >= _RECORD:
            _, _, size = self._header(start + walked)
            if size > MAX_RECORD:
                self._refuse_size(name, size)
            if size + _RECORD > len(chunk):
                chunk = bytearray(size + _RECORD + _CHUNK)
        chunk[: len(rest)] = rest
        return chunk, len(rest)

    def batches(self, packets: Iterable[Packet]) -> None:
        """Packets from a reader, in batches of records."""
        self.words[_AT["swapped"]], self.words[_AT["unit"]] = 0, 1
        batch = bytearray()
        problem: EbpfError | None = None
        try:
            for packet in packets:
                self._begin_output(packet.link_type)
                seconds, rest = divmod(packet.time_ns, 1_000_000_000)
                size = len(packet.data)
                batch += struct.pack("<IIII", seconds & 0xFFFF_FFFF, rest, size, size) + packet.data
                if len(batch) >= _BATCH:
                    full, batch = batch, bytearray()
                    self._batch(full)
        except PcapError as error:
            problem = error
        self._begin_output(LINKTYPE_ETHERNET)  # of a capture without packets
        if batch:
            self._batch(batch)  # what came before the place that cannot be read
        if problem is not None:
            raise problem

    def _batch(self, batch: bytearray) -> None:
        held = (ctypes.c_char * len(batch)).from_buffer(batch)
        start = ctypes.addressof(held)
        self._walk(start, start + len(batch), "capture")
        self.offset += len(batch)

    def _walk(self, start: int, end: int, name: str) -> int:
        """The records from `start` on; where the first one begins that does not end before `end`."""
        self.start = start
        self.words[_AT["position"]], self.words[_AT["end"]] = start, end
        _, _, capture = _loops()
        place = ctypes.addressof(self.words)
        self.jit.walking = self._get_number
        try:
            while (status := capture(self.jit.state, place)) not in (_DONE, _CUT):
                if status == _OUT_FULL:
                    self._flush()
                elif status == _TOO_LARGE:
                    self._large(name)
                else:
                    self.jit.finish(status)
                    self._account(self._get("current"))
        finally:
            self.jit.walking = None
            self._flush()
        return self._get("position")

    def stamp(self) -> int:
        """The time of the packet that runs, in nanoseconds since 1970."""
        seconds, nanoseconds, _ = self._header(self._get("current"))
        return seconds * 1_000_000_000 + nanoseconds

    def _get_number(self) -> int:
        """What tells one packet from the next, for what Python keeps for each run."""
        return self.offset + self._get("current") - self.start

    def _header(self, record: int) -> tuple[int, int, int]:
        """Seconds, nanoseconds and captured length of a record."""
        order = ">" if self._get("swapped") else "<"
        seconds, fraction, size, _ = struct.unpack(f"{order}IIII", ctypes.string_at(record, _RECORD))
        return seconds, fraction * self._get("unit"), size

    def _refuse_size(self, name: str, size: int) -> NoReturn:
        raise PcapError(f"{name}: offset {self.offset}: a packet of {size} bytes, more than {MAX_RECORD}")

    def _large(self, name: str) -> None:
        """A packet that the frame has no room for: a larger frame, and the interpreter's way in."""
        record = self._get("position")
        _, _, size = self._header(record)
        if size > MAX_RECORD:
            self.offset += record - self.start
            self._refuse_size(name, size)
        self.machine.start_run()
        self.machine.prepare_packet(ctypes.string_at(record + _RECORD, size))
        self.words[_AT["current"]] = record
        self.words[_AT["position"]] = record + _RECORD + size
        self.words[_AT["bytes"]] += size
        self.jit.run(self.machine.entry, (self._get("context"),), self.machine.budget)
        _place_frame(self.words, self.machine, self.jit)
        self._account(record)

    def _account(self, record: int) -> None:
        """Count a run that Python finished."""
        action = self.jit.result() & 0xFFFF_FFFF
        if action < _VERDICTS - 1:
            self.counters[action] += 1
        else:
            self.others[action] = self.others.get(action, 0) + 1
        self.words[_AT["packets"]] += 1
        self.words[_AT["insns"]] += self._get("budget") - self.jit.left()
        if self.writer is not None:
            self._flush()
            seconds, nanoseconds, _ = self._header(record)
            self.writer.write(self.jit.packet(), time_ns=seconds * 1_000_000_000 + nanoseconds)
        _place_frame(self.words, self.machine, self.jit)

    def _flush(self) -> None:
        if self.buffer is None or self.stream is None:
            return
        start = ctypes.addressof(self.buffer)
        self.stream.write(memoryview(self.buffer).cast("B")[: self._get("out") - start])
        self.words[_AT["out"]] = start

    def totals(self) -> CaptureTotals:
        verdicts = {action: int(count) for action, count in enumerate(self.counters) if count}
        rest = verdicts.pop(_VERDICTS - 1, 0)
        if rest:
            verdicts[-1] = rest
        verdicts.update(self.others)
        insns = None if self.jit.trusted else self._get("insns")
        return CaptureTotals(self._get("packets"), self._get("bytes"), insns, verdicts)
