"""Programs from text, and one program run in plain Python, in the virtual machine and in the kernel."""

from __future__ import annotations

import contextlib
import itertools
import linecache
import os
import random
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebpfkit.compiler.driver import Compiled, Options, compile_programs
from ebpfkit.dsl.execute import run_python
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.maps_of_maps import MapOfMaps
from ebpfkit.dsl.prog_arrays import ProgArray
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.queues import BloomFilter, Queue
from ebpfkit.dsl.special_maps import RedirectMap, RingBuf
from ebpfkit.elf import open_object
from ebpfkit.elf.model import MapSpec
from ebpfkit.maps.memory import create_store
from ebpfkit.vm.machine import Machine

_NUMBERS = itertools.count()

PRELUDE = """\
import enum
import ipaddress
from typing import Literal
import ebpfkit as bpf
from ebpfkit import (MAC, XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, IPv4Addr, IPv6Addr, Packet, Struct, XdpAction,
                     array, be16, be32, be64, bool_, helpers, s8, s16, s32, s64, u8, u16, u32, u64)
from ebpfkit.dsl.structs import Header, bits, offsetof, sizeof
from ebpfkit.net import *
LICENSE = "GPL"
ZERO, ONE, SEVEN, BIG = 0, 1, 7, 0xFFFF_FFFF
TYPED = u32(5)
DEBUG = False
PORTS = (53, 80, 443)
class Kind(enum.IntEnum):
    LOW = 1
    HIGH = 200
class Pair(Struct):
    a: u32
    b: u32
class Padded(Struct, padding=True):
    small: u8
    large: u64
    half: u16
class Nested(Struct):
    first: Pair
    tail: array[u16, 4]
class Data(Header):
    x8: u8
    y8: u8
    x16: u16
    y16: u16
    x32: u32
    y32: u32
    x64: u64
    y64: u64
    p8: s8
    q8: s8
    p16: s16
    p32: s32
    q32: s32
    p64: s64
    q64: s64
    n16: be16
    m16: be16
    n32: be32
    n64: be64
    ip: IPv4Addr
    mac: MAC
    mac2: MAC
    ip6: IPv6Addr
    hi: u8 = bits(3)
    mid: u8 = bits(1)
    lo: u8 = bits(4)
    wide: u16 = bits(13)
    rest: u16 = bits(3)
    arr: array[u8, 8]
    words: array[u32, 4]
    flag: bool_
    r0: u64
    r1: u64
    r2: u64
    s0: s64
    t32: u32
    t16: u16
    t8: u8
"""


def indent(text: str, by: int = 4) -> str:
    return "".join(" " * by + line if line.strip() else line for line in text.splitlines(keepends=True))


def load_module(text: str, folder: Path) -> types.ModuleType:
    """A module from text in a file of its own."""
    name = f"snippet_{next(_NUMBERS)}"
    path = folder / f"{name}.py"
    path.write_text(text)
    linecache.checkcache(str(path))
    module = types.ModuleType(name)
    module.__file__ = str(path)
    exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    return module


def module_text(body: str, before: str = "", decorator: str = "@bpf.xdp(short=XDP_DROP)") -> str:
    """A module with one program `prog` of this body."""
    return f"{PRELUDE}{before}\n{decorator}\ndef prog(pkt: Packet) -> XdpAction:\n{indent(body)}\n"


def program(body: str, folder: Path, before: str = "", decorator: str = "@bpf.xdp(short=XDP_DROP)") -> Program:
    found = load_module(module_text(body, before, decorator), folder).prog
    assert isinstance(found, Program)
    return found


def packets(count: int = 6, size: int = 200, seed: int = 1) -> list[bytes]:
    """Random frames, large enough for a Data, some with small numbers in them, and some cut short."""
    rng = random.Random(seed)
    out = []
    for number in range(count):
        data = bytearray(rng.randbytes(size))
        if number % 3 == 1:
            data = bytearray(rng.choice((0, 0, 1, 2, 7, 0xFF)) for _ in range(size))
        out.append(bytes(data))
    return [*out, bytes(size), b"\xff" * size, out[0][:150], out[0][:60], out[1][:15], out[2][:14]]


@dataclass
class Outcome:
    """What a series of packets did: verdict and bytes for each, and the maps afterwards."""

    results: list[tuple[int, bytes]] = field(default_factory=list)
    maps: dict[str, Any] = field(default_factory=dict)


def _contents(items: Any, per_cpu: bool, size: int) -> dict[bytes, bytes]:
    out = {}
    for key, value in items:
        value = bytes(value)
        if per_cpu:
            assert not any(value[-(-size // 8) * 8 :])
        value = value[:size]
        if any(value):
            out[bytes(key)] = value
    return out


def _has_entries(facade: MapFacade) -> bool:
    return not isinstance(facade, (RedirectMap, RingBuf, Queue, BloomFilter, ProgArray, MapOfMaps))


def run_in_python(prog: Program, frames: Sequence[bytes]) -> Outcome:
    out = Outcome()
    for frame in frames:
        ran = run_python(prog, frame)
        out.results.append((int(ran.action), ran.data))
    for facade in prog.maps:
        if _has_entries(facade):
            spec = facade.spec
            out.maps[facade.name] = _contents(facade.memory_store.items(), "percpu" in facade.map_type, spec.value_size)
        elif isinstance(facade, MapOfMaps):
            for key, inner in facade.placed.items():
                out.maps[f"{facade.name}[{key.hex()}]"] = _inside(inner.memory_store)
        elif facade.map_type == "ringbuf":
            out.maps[facade.name] = [bytes(r) for r in facade.memory_store.read()]
        elif isinstance(facade, Queue):
            out.maps[facade.name] = _waiting(facade.memory_store)
    return out


def _waiting(store: Any) -> list[bytes]:
    """What waits in a queue or stack, next first; it is taken out."""
    return list(iter(lambda: store.pop(b""), None))


def _inside(store: Any) -> dict[bytes, bytes]:
    return _contents(store.items(), "percpu" in store.spec.type, store.spec.value_size)


def initial(prog: Program) -> dict[str, list[tuple[bytes, Any]]]:
    """What is in the maps now; of a map of maps the spec, with the contents, of each one in it."""
    out: dict[str, list[tuple[bytes, Any]]] = {}
    for facade in prog.maps:
        out[facade.name] = list(facade.initial_contents())
        if isinstance(facade, MapOfMaps):
            inner = facade.placed.items()
            out[facade.name] = [(key, m.spec.replace(contents=m.initial_contents())) for key, m in inner]
    return out


def run_in_vm(
    prog: Program, compiled: Compiled, contents: Any, frames: Sequence[bytes], jit: str | None = None
) -> Outcome:
    machine = Machine(open_object(compiled.elf), program=prog.name, jit=jit)
    for name, entries in contents.items():
        for key, value in entries if name in machine.maps else ():
            if isinstance(value, MapSpec):
                machine.maps[name].set_store(key, create_store(value))  # type: ignore[attr-defined]
            else:
                machine.maps[name].set(key, value)
    out = Outcome()
    for frame in frames:
        ran = machine.run(frame)
        out.results.append((ran.r0, bytes(ran.data)))
    for facade in prog.maps:
        if _has_entries(facade) and facade.name in machine.maps:
            store = machine.maps[facade.name]
            out.maps[facade.name] = _contents(store.items(), "percpu" in facade.map_type, facade.spec.value_size)
        elif isinstance(facade, MapOfMaps) and facade.name in machine.maps:
            for key in facade.placed:
                inner: Any = machine.maps[facade.name].inner(key)  # type: ignore[attr-defined]
                out.maps[f"{facade.name}[{key.hex()}]"] = _inside(inner)
        elif facade.map_type == "ringbuf" and facade.name in machine.maps:
            out.maps[facade.name] = [bytes(r) for r in machine.maps[facade.name].read()]
        elif isinstance(facade, Queue) and facade.name in machine.maps:
            out.maps[facade.name] = _waiting(machine.maps[facade.name])
    return out


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """Stay on one CPU, so that per-CPU values are in one place."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_in_kernel(prog: Program, compiled: Compiled, contents: Any, frames: Sequence[bytes]) -> Outcome:
    from ebpfkit.loader.collection import Collection
    from ebpfkit.loader.maps import Map

    out = Outcome()
    inner: dict[str, Map] = {}
    with on_one_cpu(), Collection.load(open_object(compiled.elf)) as live, contextlib.ExitStack() as held:
        for name, entries in contents.items():
            for key, value in entries if name in live.maps else ():
                if isinstance(value, MapSpec):
                    made = inner[f"{name}[{key.hex()}]"] = held.enter_context(Map.create(value))
                    made.set_many(value.contents)
                    value = made.fileno().to_bytes(4, "little")
                live.maps[name].set(key, value)
        for frame in frames:
            ran = live.programs[prog.name].test_run(frame)
            out.results.append((ran.retval, ran.data))
        for facade in prog.maps:
            if facade.name not in live.maps:
                continue
            if _has_entries(facade):
                items = list(live.maps[facade.name].items())
                out.maps[facade.name] = _contents(items, "percpu" in facade.map_type, facade.spec.value_size)
            elif facade.map_type == "ringbuf":
                out.maps[facade.name] = live.maps[facade.name].poll(0)
            elif isinstance(facade, Queue):
                out.maps[facade.name] = _waiting(live.maps[facade.name])
        out.maps |= {name: _inside(made) for name, made in inner.items()}
    return out


def build(prog: Program, **options: Any) -> Compiled:
    return compile_programs([prog], options=Options(**options))


def check(prog: Program, frames: Sequence[bytes], *, kernel: bool, vm: bool = True, **options: Any) -> Compiled:
    """Compile and run everywhere; every executor must agree with plain Python."""
    compiled = build(prog, **options)
    contents = initial(prog)
    wanted = run_in_python(prog, frames)
    if vm:
        agree(run_in_vm(prog, compiled, contents, frames), wanted, frames, "vm")
    if kernel:
        long_enough = [n for n, frame in enumerate(frames) if len(frame) >= 14]
        assert len(long_enough) == len(frames), "the kernel runs no frames below 14 bytes"
        agree(run_in_kernel(prog, compiled, contents, frames), wanted, frames, "kernel")
    return compiled


def agree(got: Outcome, wanted: Outcome, frames: Sequence[bytes], where: str) -> None:
    for number, (mine, python) in enumerate(zip(got.results, wanted.results, strict=True)):
        assert mine == python, f"{where} differs from Python on frame {number}: {frames[number].hex()}"
    for name, entries in got.maps.items():
        assert entries == wanted.maps[name], f"{where}: the map {name} differs from Python's"
