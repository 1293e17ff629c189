"""Helpers of the kernel, done in the machine: one function a helper, registered under the name of its row in `abi`.

A helper gets the machine and its arguments as unsigned 64-bit numbers, and returns r0 (a negative errno stays negative:
the interpreter cuts it). What touches memory goes through the machine's checked address space. Helpers that need a
kernel, or a table that nobody has given yet, are in `UNSUPPORTED` with the reason. `tail_call` is a jump and lives in
`interpreter`; formatting is in `format`, packet edges are in `frame`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ebpfkit._bits import U32_MAX, U64_MAX, to_signed
from ebpfkit.maps.base import ByteOrder
from ebpfkit.maps.memory import (
    ArrayOfMapsStore,
    ArrayStore,
    BloomFilterStore,
    HashOfMapsStore,
    HashStore,
    MemoryStore,
    PerfEventArrayStore,
    RingBufferStore,
    SocketStore,
)
from ebpfkit.vm import (  # noqa: F401 (they register their helpers)
    helpers_network,
    helpers_objects,
    helpers_skb,
    helpers_syncookies,
    helpers_tasks,
)
from ebpfkit.vm.format import format_text
from ebpfkit.vm.helpers_registry import IMPLEMENTED, arity, implements
from ebpfkit.vm.helpers_sockets import lookup_socket, store_socket
from ebpfkit.vm.helpers_unsupported import UNSUPPORTED, unsupported_reason
from ebpfkit.vm.memory import MemoryFault
from ebpfkit.vm.surroundings import missing

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

__all__ = ["IMPLEMENTED", "UNSUPPORTED", "arity", "implements", "unsupported_reason"]

XDP_ABORTED, XDP_REDIRECT = 0, 4
TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7
_ACTION_MASK = 3  # flags of redirect_map: the action when there is no target
_BROADCAST_FLAGS = 0x18
_MAX_LOOPS = 8 * 1024 * 1024
_MAX_OFFSET = 0xFFFF
_CURRENT_CPU = U32_MAX
_SECOND_NS = 1_000_000_000
MAX_LINES: Final = 10_000
"""Lines of trace_printk that one run keeps."""


# --- maps -------------------------------------------------------------------------------------------------------------


def _key(vm: Machine, store: MemoryStore, address: int) -> bytes:
    return vm.memory.read(address, store.spec.key_size)


@implements("map_lookup_elem")
def map_lookup_elem(vm: Machine, array: int, key: int) -> int:
    memory = vm.memory
    store = memory.store_at(array)
    if isinstance(store, (ArrayOfMapsStore, HashOfMapsStore, SocketStore)):
        return _lookup(vm, store, _key(vm, store, key), vm.cpu)
    cell = store.lookup(memory.read(key, store.spec.key_size), vm.cpu)
    if cell is None:
        return 0
    return memory.known_address(cell) or vm.address_of_value(store, cell)


def _lookup(vm: Machine, store: MemoryStore, key: bytes, cpu: int) -> int:
    if isinstance(store, (ArrayOfMapsStore, HashOfMapsStore)):
        inner = store.inner(key)
        return 0 if inner is None else vm.address_of_store(inner)
    if isinstance(store, SocketStore):
        return lookup_socket(vm, store, key)
    cell = store.lookup(key, cpu)
    return 0 if cell is None else vm.address_of_value(store, cell)


@implements("map_lookup_percpu_elem")
def map_lookup_percpu_elem(vm: Machine, array: int, key: int, cpu: int) -> int:
    store = vm.memory.store_at(array)
    data = _key(vm, store, key)
    cpu &= U32_MAX
    return _lookup(vm, store, data, cpu) if cpu < store.cpus else 0


@implements("map_update_elem")
def map_update_elem(vm: Machine, array: int, key: int, value: int, flags: int) -> int:
    store = vm.memory.store_at(array)
    if not store.is_program_writable:
        return -errno.EPERM
    if isinstance(store, SocketStore):
        return store_socket(vm, store, _key(vm, store, key), value, flags)
    return store.update(_key(vm, store, key), vm.memory.read(value, store.spec.value_size), flags, vm.cpu)


@implements("map_delete_elem")
def map_delete_elem(vm: Machine, array: int, key: int) -> int:
    store = vm.memory.store_at(array)
    if not store.is_program_writable:
        return -errno.EPERM
    return store.remove(_key(vm, store, key))


@implements("map_push_elem")
def map_push_elem(vm: Machine, array: int, value: int, flags: int) -> int:
    store = vm.memory.store_at(array)
    return store.push(vm.memory.read(value, store.spec.value_size), flags)


def _take(vm: Machine, array: int, value: int, remove: bool) -> int:
    store = vm.memory.store_at(array)
    taken = store.take(remove=remove)
    if isinstance(taken, int):
        vm.memory.write(value, bytes(store.spec.value_size))  # the kernel clears the buffer when there is nothing
        return taken
    vm.memory.write(value, taken)
    return 0


@implements("map_pop_elem")
def map_pop_elem(vm: Machine, array: int, value: int) -> int:
    return _take(vm, array, value, remove=True)


@implements("map_peek_elem")
def map_peek_elem(vm: Machine, array: int, value: int) -> int:
    store = vm.memory.store_at(array)
    if isinstance(store, BloomFilterStore):
        return 0 if store.contains(vm.memory.read(value, store.spec.value_size)) else -errno.ENOENT
    return _take(vm, array, value, remove=False)


@implements("for_each_map_elem")
def for_each_map_elem(vm: Machine, array: int, callback: int, context: int, flags: int) -> int:
    store = vm.memory.store_at(array)
    function = vm.interpreter.function_at(callback)
    if flags:
        return -errno.EINVAL
    if not isinstance(store, (ArrayStore, HashStore)):
        return -errno.EINVAL
    count = 0
    for key in list(store.keys()):
        cell = store.glance(key, vm.cpu) if isinstance(store, HashStore) else store.lookup(key, vm.cpu)
        if cell is None:
            continue  # an earlier call of the callback deleted it
        region = vm.memory.add(f"key of map '{store.spec.name}'", bytearray(key), writable=False)
        try:
            stop = vm.interpreter.call(function, array, region.base, vm.address_of_value(store, cell), context)
        finally:
            vm.memory.remove(region)
        count += 1
        if stop:
            break
    return count


@implements("loop")
def loop(vm: Machine, count: int, callback: int, context: int, flags: int) -> int:
    function = vm.interpreter.function_at(callback)
    count &= U32_MAX
    if flags:
        return -errno.EINVAL
    if count > _MAX_LOOPS:
        return -errno.E2BIG
    for index in range(count):
        if vm.interpreter.call(function, index, context):
            return index + 1
    return count


# --- the ring buffer and events ---------------------------------------------------------------------------------------


def _ring(vm: Machine, address: int) -> RingBufferStore:
    store = vm.memory.store_at(address)
    if not isinstance(store, RingBufferStore):
        raise MemoryFault(f"map '{store.spec.name}' is no ring buffer", f"map '{store.spec.name}'")
    return store


@implements("ringbuf_output")
def ringbuf_output(vm: Machine, ring: int, data: int, size: int, flags: int) -> int:
    store = _ring(vm, ring)
    if flags & ~3:
        return -errno.EINVAL
    if size > store.spec.max_entries:
        return -errno.EAGAIN
    return store.output(vm.memory.read(data, size))


@implements("ringbuf_reserve")
def ringbuf_reserve(vm: Machine, ring: int, size: int, flags: int) -> int:
    store = _ring(vm, ring)
    if flags or size > store.spec.max_entries:
        return 0
    record = store.reserve(size)
    return 0 if record is None else vm.add_record(store, record)


@implements("ringbuf_submit")
def ringbuf_submit(vm: Machine, data: int, flags: int) -> int:
    vm.finish_record(data, discard=False)
    return 0


@implements("ringbuf_discard")
def ringbuf_discard(vm: Machine, data: int, flags: int) -> int:
    vm.finish_record(data, discard=True)
    return 0


@implements("ringbuf_query")
def ringbuf_query(vm: Machine, ring: int, flags: int) -> int:
    store = _ring(vm, ring)
    answers = (store.available, store.spec.max_entries, store.consumer_position, store.producer_position)
    return answers[flags] if flags < len(answers) else 0


@implements("perf_event_output")
def perf_event_output(vm: Machine, context: int, array: int, flags: int, data: int, size: int) -> int:
    """Kept in the store's `events` whether or not somebody has opened the channel."""
    store = vm.memory.store_at(array)
    if not isinstance(store, PerfEventArrayStore):
        raise MemoryFault(f"map '{store.spec.name}' is no perf event array", f"map '{store.spec.name}'")
    frame_bytes, index = flags >> 32 & 0xFFFFF, flags & U32_MAX
    if flags >> 52:
        return -errno.EINVAL
    index = vm.cpu if index == _CURRENT_CPU else index
    if index >= store.spec.max_entries:
        return -errno.E2BIG
    payload = vm.memory.read(data, size)
    if frame_bytes:
        packet = vm.frame_of(context).packet
        if frame_bytes > len(packet):
            return -errno.EFAULT
        payload += packet[:frame_bytes]
    return store.output(index, payload)


# --- clock, chance, place ---------------------------------------------------------------------------------------------


@implements("ktime_get_ns")
@implements("ktime_get_boot_ns")
@implements("ktime_get_coarse_ns")
@implements("ktime_get_tai_ns")
def ktime_get_ns(vm: Machine) -> int:
    """All of the kernel's clocks are the machine's one clock."""
    return vm.clock()


@implements("jiffies64")
def jiffies64(vm: Machine) -> int:
    """Ticks of the machine's clock, `hz` a second."""
    if vm.around.hz is None:
        raise missing("helper bpf_jiffies64 without a tick", "hz=250")
    return vm.clock() * vm.around.hz // _SECOND_NS


@implements("get_prandom_u32")
def get_prandom_u32(vm: Machine) -> int:
    return vm.random.getrandbits(32)


@implements("get_smp_processor_id")
def get_smp_processor_id(vm: Machine) -> int:
    return vm.cpu


@implements("get_numa_node_id")
def get_numa_node_id(vm: Machine) -> int:
    return 0


# --- packets ----------------------------------------------------------------------------------------------------------


def _delta(value: int) -> int:
    return to_signed(value, 32)


@implements("xdp_adjust_head")
def xdp_adjust_head(vm: Machine, context: int, delta: int) -> int:
    return vm.frame_of(context).adjust_head(_delta(delta))


@implements("xdp_adjust_tail")
def xdp_adjust_tail(vm: Machine, context: int, delta: int) -> int:
    return vm.frame_of(context).adjust_tail(_delta(delta))


@implements("xdp_adjust_meta")
def xdp_adjust_meta(vm: Machine, context: int, delta: int) -> int:
    return vm.frame_of(context).adjust_meta(_delta(delta))


@implements("xdp_get_buff_len")
def xdp_get_buff_len(vm: Machine, context: int) -> int:
    return len(vm.frame_of(context))


def _packet_place(vm: Machine, context: int, offset: int, size: int) -> int:
    """Where `offset` of the packet is in its buffer, or the kernel's negative errno."""
    frame = vm.frame_of(context)
    offset, size = offset & U32_MAX, size & U32_MAX
    if offset > _MAX_OFFSET or size > _MAX_OFFSET:
        return -errno.EFAULT
    if offset + size > len(frame):
        return -errno.EINVAL
    return frame.data + offset


@implements("xdp_load_bytes")
def xdp_load_bytes(vm: Machine, context: int, offset: int, target: int, size: int) -> int:
    place = _packet_place(vm, context, offset, size)
    if place < 0:
        return place
    vm.memory.write(target, bytes(vm.frame_of(context).buffer[place : place + (size & U32_MAX)]))
    return 0


@implements("xdp_store_bytes")
def xdp_store_bytes(vm: Machine, context: int, offset: int, source: int, size: int) -> int:
    place = _packet_place(vm, context, offset, size)
    if place < 0:
        return place
    data = vm.memory.read(source, size & U32_MAX)
    vm.frame_of(context).buffer[place : place + len(data)] = data
    return 0


@implements("skb_load_bytes")
def skb_load_bytes(vm: Machine, context: int, offset: int, target: int, size: int) -> int:
    place = _packet_place(vm, context, offset, size)
    size &= U32_MAX
    if place < 0:
        vm.memory.clear(target, size)  # the kernel clears the buffer when it fails
        return -errno.EFAULT
    vm.memory.write(target, bytes(vm.frame_of(context).buffer[place : place + size]))
    return 0


@implements("skb_store_bytes")
def skb_store_bytes(vm: Machine, context: int, offset: int, source: int, size: int, flags: int) -> int:
    if flags & ~3:
        return -errno.EINVAL
    place = _packet_place(vm, context, offset, size)
    if place < 0:
        return -errno.EFAULT
    data = vm.memory.read(source, size & U32_MAX)
    vm.frame_of(context).buffer[place : place + len(data)] = data
    return 0


def _fold(total: int) -> int:
    """The 32-bit one's-complement sum of a sum of 32-bit words: 0 only when every word was 0."""
    return (total - 1) % U32_MAX + 1 if total else 0


def _words(data: bytes, order: ByteOrder) -> int:
    return sum(int.from_bytes(data[i : i + 4], order) for i in range(0, len(data), 4))


@implements("csum_diff")
def csum_diff(vm: Machine, source: int, source_size: int, target: int, target_size: int, seed: int) -> int:
    """The checksum difference as since 6.13: sizes need not be multiples of 4, the sum is folded to 16 bits."""
    source_size, target_size, seed = source_size & U32_MAX, target_size & U32_MAX, seed & U32_MAX
    old = vm.memory.read(source, source_size)
    new = vm.memory.read(target, target_size)
    if old and new:
        total = _fold(_fold(_words(new, vm.order) + seed) + (U32_MAX - _fold(_words(old, vm.order))))
    elif new:
        total = _fold(_words(new, vm.order) + seed)
    elif old:
        total = U32_MAX - _fold(_words(old, vm.order) + (U32_MAX - seed))
    else:
        total = seed
    folded = total + (total >> 16 | total << 16 & U32_MAX)
    return folded >> 16 & 0xFFFF


# --- redirection ------------------------------------------------------------------------------------------------------


@implements("redirect")
def redirect(vm: Machine, ifindex: int, flags: int) -> int:
    if vm.is_xdp:
        if flags:
            return XDP_ABORTED
        vm.redirected = ("", ifindex & U32_MAX, ifindex & U32_MAX)
        return XDP_REDIRECT
    if flags & ~1:
        return TC_ACT_SHOT
    vm.redirected = ("", ifindex & U32_MAX, ifindex & U32_MAX)
    return TC_ACT_REDIRECT


@implements("redirect_map")
def redirect_map(vm: Machine, array: int, key: int, flags: int) -> int:
    store = vm.memory.store_at(array)
    key &= U32_MAX
    allowed = _ACTION_MASK | (_BROADCAST_FLAGS if store.spec.type in ("devmap", "devmap_hash") else 0)
    if flags & ~allowed:
        return XDP_ABORTED
    cell = store.lookup(key.to_bytes(4, vm.order))
    if cell is None and not flags & _BROADCAST_FLAGS & 8:
        return flags & _ACTION_MASK
    target = int.from_bytes(cell[:4], vm.order) if cell is not None else 0
    vm.redirected = (store.spec.name, key, target)
    return XDP_REDIRECT


# --- text -------------------------------------------------------------------------------------------------------------


def _format(vm: Machine, text: int, size: int, values: list[int]) -> bytes | int:
    data = vm.memory.read(text, size & U32_MAX)
    if not data.endswith(b"\0"):
        return -errno.EINVAL
    return format_text(data.split(b"\0", 1)[0], values, vm.memory)


@implements("trace_printk")
def trace_printk(vm: Machine, text: int, size: int, first: int, second: int, third: int) -> int:
    return _print(vm, _format(vm, text, size, [first, second, third]))


@implements("trace_vprintk")
def trace_vprintk(vm: Machine, text: int, size: int, data: int, data_size: int) -> int:
    values = _values(vm, data, data_size)
    return -errno.EINVAL if values is None else _print(vm, _format(vm, text, size, values))


def _values(vm: Machine, data: int, size: int) -> list[int] | None:
    size &= U32_MAX
    if size % 8 or size > 12 * 8 or (size and not data):
        return None
    raw = vm.memory.read(data, size)
    return [int.from_bytes(raw[i : i + 8], vm.order) for i in range(0, size, 8)]


def _print(vm: Machine, line: bytes | int) -> int:
    if isinstance(line, int):
        return line
    if len(vm.printed) < MAX_LINES:
        vm.printed.append(line.decode("utf-8", "replace"))
    return len(line)


@implements("snprintf")
def snprintf(vm: Machine, target: int, target_size: int, text: int, data: int, data_size: int) -> int:
    values = _values(vm, data, data_size)
    if values is None:
        return -errno.EINVAL
    line = format_text(vm.memory.read_string(text, 1 << 16), values, vm.memory)
    if isinstance(line, int):
        return line
    target_size &= U32_MAX
    if target_size:
        vm.memory.write(target, line[: target_size - 1] + b"\0")
    return len(line) + 1


_SPACES = b" \t\n\v\f\r"


def _parse_number(data: bytes, base: int) -> tuple[int, bool, int] | int:
    """(magnitude, is negative, bytes used) of the number at the start, or a negative errno."""
    if base not in (0, 8, 10, 16):
        return -errno.EINVAL
    place = len(data) - len(data.lstrip(_SPACES))
    negative = data[place : place + 1] == b"-"
    place += negative
    rest = data[place : place + 63].split(b"\0", 1)[0].lower()
    hexadecimal = rest[:2] == b"0x" and rest[2:3] in tuple(bytes([c]) for c in b"0123456789abcdef")
    if base == 0:
        base = 16 if hexadecimal else 8 if rest[:1] == b"0" else 10
    skip = 2 if base == 16 and rest[:2] == b"0x" else 0
    digits = skip
    while digits < len(rest) and rest[digits : digits + 1] in _DIGITS[base]:
        digits += 1
    if digits == skip:
        return -errno.EINVAL
    value = int(rest[skip:digits], base)
    return -errno.ERANGE if value > U64_MAX else (value, negative, place + digits)


_DIGITS: Final = {base: tuple(bytes([c]) for c in b"0123456789abcdef"[:base]) for base in (8, 10, 16)}


@implements("strtol")
def strtol(vm: Machine, text: int, size: int, flags: int, result: int) -> int:
    parsed = -errno.EINVAL if flags & ~0x1F else _parse_number(vm.memory.read(text, size), flags & 0x1F)
    if isinstance(parsed, int):
        return parsed
    value, negative, used = parsed
    if value > (1 << 63 if negative else (1 << 63) - 1):
        return -errno.ERANGE
    vm.memory.write(result, (-value if negative else value).to_bytes(8, vm.order, signed=True))
    return used


@implements("strtoul")
def strtoul(vm: Machine, text: int, size: int, flags: int, result: int) -> int:
    parsed = -errno.EINVAL if flags & ~0x1F else _parse_number(vm.memory.read(text, size), flags & 0x1F)
    if isinstance(parsed, int):
        return parsed
    value, negative, used = parsed
    if negative:
        return -errno.EINVAL
    vm.memory.write(result, value.to_bytes(8, vm.order))
    return used


@implements("strncmp")
def strncmp(vm: Machine, first: int, first_size: int, second: int) -> int:
    left = vm.memory.read(first, first_size & U32_MAX).split(b"\0", 1)[0]
    right = vm.memory.read_string(second, first_size & U32_MAX)
    for a, b in zip(left + b"\0", right + b"\0", strict=False):
        if a != b:
            return -1 if a < b else 1
    return 0
