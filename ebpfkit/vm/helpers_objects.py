"""Helpers of objects that programs hold: dynptrs, timers, locks, kept pointers; and the machine's memory by address.

The objects are in `objects`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ebpfkit._bits import U32_MAX
from ebpfkit.maps.memory import RingBufferStore, UserRingBufferStore
from ebpfkit.vm.helpers_registry import implements
from ebpfkit.vm.memory import MemoryFault
from ebpfkit.vm.objects import Dynptr, Timer

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

_MAX_DYNPTR = (1 << 24) - 1
_DYNPTR_BYTES = _TIMER_BYTES = 16
_CLOCKS = (0, 1, 7)  # CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME
_ABSOLUTE, _PIN = 1, 2
_NO_WAKEUP, _FORCE_WAKEUP = 1, 2
_MAX_SAMPLES = 128 * 1024  # that one call drains

# --- locks ------------------------------------------------------------------------------------------------------------


@implements("spin_lock")
def spin_lock(vm: Machine, lock: int) -> int:
    """Nothing runs beside the program: what is checked is that locks are taken one at a time."""
    vm.memory.read(lock, 4)
    if vm.objects.locked is not None:
        raise MemoryFault("a lock is taken while another is held: the kernel would never go on", "lock")
    vm.objects.locked = lock
    return 0


@implements("spin_unlock")
def spin_unlock(vm: Machine, lock: int) -> int:
    vm.memory.read(lock, 4)
    if vm.objects.locked != lock:
        raise MemoryFault("a lock is given back that is not held", "lock")
    vm.objects.locked = None
    return 0


# --- dynptrs ----------------------------------------------------------------------------------------------------------


def _make(vm: Machine, target: int, dynptr: Dynptr) -> None:
    vm.memory.write(target, bytes(_DYNPTR_BYTES))
    vm.objects.dynptrs[target] = dynptr


@implements("dynptr_from_mem")
def dynptr_from_mem(vm: Machine, data: int, size: int, flags: int, target: int) -> int:
    size &= U32_MAX
    code = -errno.E2BIG if size > _MAX_DYNPTR else -errno.EINVAL if flags else 0
    if not code:
        vm.memory.read(data, size)
    _make(vm, target, Dynptr() if code else Dynptr(data, size))
    return code


@implements("ringbuf_reserve_dynptr")
def ringbuf_reserve_dynptr(vm: Machine, ring: int, size: int, flags: int, target: int) -> int:
    store = vm.memory.store_at(ring)
    if not isinstance(store, RingBufferStore):
        raise MemoryFault(f"map '{store.spec.name}' is no ring buffer", f"map '{store.spec.name}'")
    size &= U32_MAX
    code = -errno.EINVAL if flags else -errno.E2BIG if size > _MAX_DYNPTR else 0
    record = store.reserve(size) if not code and size <= store.spec.max_entries else None
    if record is None:
        _make(vm, target, Dynptr())
        return code or -errno.EINVAL
    _make(vm, target, Dynptr(vm.add_record(store, record), size, (store, record)))
    return 0


def _finish(vm: Machine, address: int, discard: bool) -> int:
    dynptr = vm.objects.dynptr_at(address)
    if dynptr.record is not None:
        vm.finish_record(dynptr.address, discard=discard)
    elif dynptr.address:
        raise MemoryFault("the dynptr is no reserved ring buffer record")
    del vm.objects.dynptrs[address]
    return 0


@implements("ringbuf_submit_dynptr")
def ringbuf_submit_dynptr(vm: Machine, dynptr: int, flags: int) -> int:
    return _finish(vm, dynptr, discard=False)


@implements("ringbuf_discard_dynptr")
def ringbuf_discard_dynptr(vm: Machine, dynptr: int, flags: int) -> int:
    return _finish(vm, dynptr, discard=True)


@implements("dynptr_read")
def dynptr_read(vm: Machine, target: int, length: int, source: int, offset: int, flags: int) -> int:
    dynptr = vm.objects.dynptr_at(source)
    length, offset = length & U32_MAX, offset & U32_MAX
    if dynptr.is_null or flags:
        return -errno.EINVAL
    if dynptr.is_outside(offset, length):
        return -errno.E2BIG
    if dynptr.frame is not None and dynptr.offset + offset + length > len(dynptr.frame):
        return -errno.EINVAL if vm.is_xdp else -errno.EFAULT  # the packet became shorter
    vm.memory.write(target, vm.memory.read(dynptr.start + offset, length))
    return 0


@implements("dynptr_write")
def dynptr_write(vm: Machine, target: int, offset: int, source: int, length: int, flags: int) -> int:
    dynptr = vm.objects.dynptr_at(target)
    length, offset = length & U32_MAX, offset & U32_MAX
    if dynptr.is_null or dynptr.read_only:
        return -errno.EINVAL
    if dynptr.is_outside(offset, length):
        return -errno.E2BIG
    if flags & ~(3 if dynptr.frame is not None and not vm.is_xdp else 0):
        return -errno.EINVAL
    if dynptr.frame is not None and dynptr.offset + offset + length > len(dynptr.frame):
        return -errno.EINVAL if vm.is_xdp else -errno.EFAULT
    vm.memory.write(dynptr.start + offset, vm.memory.read(source, length))
    return 0


@implements("dynptr_data")
def dynptr_data(vm: Machine, source: int, offset: int, length: int) -> int:
    """0 for packets, which are looked at in slices."""
    dynptr = vm.objects.dynptr_at(source)
    length, offset = length & U32_MAX, offset & U32_MAX
    if dynptr.is_null or dynptr.frame is not None or dynptr.read_only or dynptr.is_outside(offset, length):
        return 0
    return dynptr.start + offset


@implements("user_ringbuf_drain")
def user_ringbuf_drain(vm: Machine, ring: int, callback: int, context: int, flags: int) -> int:
    """Calls back for each sample that user space wrote, until the callback says stop; how many it saw."""
    store = vm.memory.store_at(ring)
    if not isinstance(store, UserRingBufferStore):
        raise MemoryFault(f"map '{store.spec.name}' is no user ring buffer", f"map '{store.spec.name}'")
    function = vm.interpreter.function_at(callback)
    if flags & ~(_NO_WAKEUP | _FORCE_WAKEUP):
        return -errno.EINVAL
    count = 0
    handle = vm.memory.add("dynptr of a sample", bytearray(_DYNPTR_BYTES), writable=False)
    try:
        while count < _MAX_SAMPLES and (sample := store.next_sample()) is not None:
            region = vm.memory.add(f"sample of '{store.spec.name}'", bytearray(sample), writable=False)
            vm.objects.dynptrs[handle.base] = Dynptr(region.base, len(sample), read_only=True)
            try:
                stop = vm.interpreter.call(function, handle.base, context)
            finally:
                vm.memory.remove(region)
            count += 1
            if stop:
                break
    finally:
        vm.objects.dynptrs.pop(handle.base, None)
        vm.memory.remove(handle)
    return count


@implements("kptr_xchg")
def kptr_xchg(vm: Machine, place: int, pointer: int) -> int:
    """Puts a pointer into a map value and gives out the one that was there."""
    before = vm.memory.load(place, 8)
    vm.memory.store(place, 8, pointer)
    return before


# --- variables of the kernel ------------------------------------------------------------------------------------------


@implements("per_cpu_ptr")
def per_cpu_ptr(vm: Machine, variable: int, cpu: int) -> int:
    return vm.symbols.on_cpu(variable, cpu & U32_MAX)


@implements("this_cpu_ptr")
def this_cpu_ptr(vm: Machine, variable: int) -> int:
    return vm.symbols.on_cpu(variable, vm.cpu)


# --- timers -----------------------------------------------------------------------------------------------------------


@implements("timer_init")
def timer_init(vm: Machine, timer: int, array: int, flags: int) -> int:
    store = vm.memory.store_at(array)
    vm.memory.read(timer, _TIMER_BYTES)
    if flags & U32_MAX not in _CLOCKS:
        return -errno.EINVAL
    known = vm.objects.timers.get(timer)
    if known is not None and known.is_alive:
        return -errno.EBUSY
    region = vm.memory.find(timer)
    held = Timer(store, b"", region.data if region is not None else bytearray(), timer, flags & U32_MAX)
    for key in list(store.keys()):
        if held.holds(store.lookup(key)):
            if region is not None and vm.memory.known_address(held.cell) == region.base:
                vm.memory.address_of_cell(held.cell, region.name, keep=True)  # the timer is known by its address
            held.key = key
            vm.objects.timers[timer] = held
            return 0
    raise MemoryFault(f"a timer that is in no value of map '{store.spec.name}'", region.name if region else "")


def _timer(vm: Machine, address: int) -> Timer | None:
    vm.memory.read(address, _TIMER_BYTES)
    found = vm.objects.timers.get(address)
    return found if found is not None and found.is_alive else None


@implements("timer_set_callback")
def timer_set_callback(vm: Machine, timer: int, callback: int) -> int:
    function = vm.interpreter.function_at(callback)
    found = _timer(vm, timer)
    if found is None:
        return -errno.EINVAL
    found.callback = function
    return 0


@implements("timer_start")
def timer_start(vm: Machine, timer: int, nanoseconds: int, flags: int) -> int:
    if flags & ~(_ABSOLUTE | _PIN):
        return -errno.EINVAL
    found = _timer(vm, timer)
    if found is None or found.callback is None:
        return -errno.EINVAL
    found.expires_ns = nanoseconds if flags & _ABSOLUTE else vm.clock() + nanoseconds
    return 0


@implements("timer_cancel")
def timer_cancel(vm: Machine, timer: int) -> int:
    """1 when the timer was running, 0 when not; its callback is forgotten as in the kernel."""
    found = _timer(vm, timer)
    if found is None:
        return -errno.EINVAL
    if vm.objects.is_running(found):
        return -errno.EDEADLK
    was_active = found.expires_ns is not None
    found.expires_ns = found.callback = None
    return int(was_active)


# --- memory by address ------------------------------------------------------------------------------------------------


_USER_END = 1 << 47


def _error_at(address: int) -> int:
    """The kernel's error for an address where nothing is: addresses of user space are out of range."""
    return -errno.ERANGE if address < _USER_END else -errno.EFAULT


@implements("probe_read_kernel")
def probe_read_kernel(vm: Machine, target: int, size: int, source: int) -> int:
    """The machine's own memory is all the kernel memory there is; elsewhere an error, and zeros."""
    size &= U32_MAX
    try:
        data = vm.memory.read(source, size)
    except MemoryFault:
        vm.memory.clear(target, size)
        return _error_at(source)
    vm.memory.write(target, data)
    return 0


@implements("probe_read_kernel_str")
def probe_read_kernel_str(vm: Machine, target: int, size: int, source: int) -> int:
    size &= U32_MAX
    if not size:
        return 0
    try:
        data = vm.memory.read_string(source, size - 1)
    except MemoryFault:
        vm.memory.clear(target, size)
        return _error_at(source)
    vm.memory.write(target, data + b"\0")
    return len(data) + 1
