"""Kernel functions that packet programs call, done in the machine: dynptrs, iterators, sections, exceptions.

A function gets the machine and its arguments as unsigned 64-bit numbers. Those of arenas are in `arena`, of objects
with owners in `kfuncs_graph`, of strings in `kfuncs_strings`; what is refused is in `UNSUPPORTED` with the reason.
Semantics and prototypes are those of Linux 6.18.
"""

from __future__ import annotations

import errno
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ebpfkit._bits import U32_MAX, to_signed
from ebpfkit.btf.types import DeclTag
from ebpfkit.errors import NotSupported
from ebpfkit.maps.memory import HashStore
from ebpfkit.vm import arena, kfuncs_graph, kfuncs_strings  # noqa: F401 (they register their functions)
from ebpfkit.vm.kfuncs_registry import KFUNCS, Kfunc, Thrown, kfunc
from ebpfkit.vm.memory import MemoryFault
from ebpfkit.vm.objects import Dynptr

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

__all__ = ["KFUNCS", "UNSUPPORTED", "Kfunc", "kfunc_reason"]

_DYNPTR_BYTES = 16
_MAX_LOOPS = 8 * 1024 * 1024
_MAX_WORDS = 511
_EXCEPTION_CALLBACK = "exception_callback:"
_WRITABLE: Final = frozenset({"sched_cls", "sched_act", "lwt_xmit", "sk_skb", "sk_msg", "xdp"})

_CRYPTO = "there are no ciphers in the machine"
_CONNECTIONS = "there is no table of tracked connections"
_KERNEL_OBJECT = "it gives a kernel object, with the kernel's own layout"
_TREE_SHAPE = "it shows the shape of the kernel's tree; bpf_rbtree_first gives the elements in order"
_WORK = "there are no work queues; bpf_timer runs callbacks later"


def _reasons(reason: str, names: str) -> dict[str, str]:
    return {f"bpf_{name}": reason for name in names.split()}


UNSUPPORTED: Final = MappingProxyType[str, str](
    {
        **_reasons(_CRYPTO, "crypto_ctx_create crypto_ctx_acquire crypto_ctx_release crypto_encrypt crypto_decrypt"),
        **_reasons(
            _CONNECTIONS,
            "xdp_ct_lookup skb_ct_lookup xdp_ct_alloc skb_ct_alloc ct_insert_entry ct_release ct_set_timeout "
            "ct_change_timeout ct_set_status ct_change_status ct_set_nat_info",
        ),
        **_reasons(
            _KERNEL_OBJECT,
            "cast_to_kern_ctx xdp_get_xfrm_state xdp_xfrm_state_release task_acquire task_release task_from_pid "
            "cgroup_acquire cgroup_release cgroup_from_id get_kmem_cache",
        ),
        **_reasons(_TREE_SHAPE, "rbtree_root rbtree_left rbtree_right"),
        **_reasons(_WORK, "wq_init wq_set_callback_impl wq_start"),
    }
)
"""Kernel functions that packet programs may call and that raise NotSupported here, and why."""


def kfunc_reason(name: str) -> str:
    """Why a kernel function does not work here."""
    return UNSUPPORTED.get(name, f"the machine has {len(KFUNCS)} kernel functions, and this is none of them")


# --- dynptrs ----------------------------------------------------------------------------------------------------------


def _make(vm: Machine, target: int, dynptr: Dynptr) -> None:
    vm.memory.write(target, bytes(_DYNPTR_BYTES))
    vm.objects.dynptrs[target] = dynptr


def _from_packet(vm: Machine, context: int, flags: int, target: int, read_only: bool) -> int:
    frame = vm.frame_of(context)
    if flags:
        _make(vm, target, Dynptr())
        return -errno.EINVAL
    _make(vm, target, Dynptr(size=len(frame), read_only=read_only, frame=frame))
    return 0


@kfunc("bpf_dynptr_from_xdp")
def dynptr_from_xdp(vm: Machine, context: int, flags: int, target: int) -> int:
    return _from_packet(vm, context, flags, target, False)


@kfunc("bpf_dynptr_from_skb")
def dynptr_from_skb(vm: Machine, context: int, flags: int, target: int) -> int:
    return _from_packet(vm, context, flags, target, vm.prog_type not in _WRITABLE)


def _slice(vm: Machine, source: int, offset: int, buffer: int, size: int, *, write: bool) -> int:
    """Packets are in one piece here: the buffer is not needed, except that the kernel gives it out for an error."""
    dynptr = vm.objects.dynptr_at(source)
    offset, size = offset & U32_MAX, size & U32_MAX
    if dynptr.is_null or dynptr.is_outside(offset, size) or (write and dynptr.read_only):
        return 0
    start = dynptr.start + offset
    try:
        vm.memory.read(start, size)
    except MemoryFault:  # the packet became shorter
        return buffer if vm.is_xdp else 0
    return start


@kfunc("bpf_dynptr_slice", bits=64)
def dynptr_slice(vm: Machine, source: int, offset: int, buffer: int, size: int) -> int:
    return _slice(vm, source, offset, buffer, size, write=False)


@kfunc("bpf_dynptr_slice_rdwr", bits=64)
def dynptr_slice_rdwr(vm: Machine, source: int, offset: int, buffer: int, size: int) -> int:
    return _slice(vm, source, offset, buffer, size, write=True)


@kfunc("bpf_dynptr_adjust")
def dynptr_adjust(vm: Machine, target: int, start: int, end: int) -> int:
    dynptr, start, end = vm.objects.dynptr_at(target), start & U32_MAX, end & U32_MAX
    if dynptr.is_null or start > end:
        return -errno.EINVAL
    if start > dynptr.size or end > dynptr.size:
        return -errno.ERANGE
    dynptr.offset += start
    dynptr.size = end - start
    return 0


@kfunc("bpf_dynptr_is_null")
def dynptr_is_null(vm: Machine, source: int) -> int:
    return int(vm.objects.dynptr_at(source).is_null)


@kfunc("bpf_dynptr_is_rdonly")
def dynptr_is_rdonly(vm: Machine, source: int) -> int:
    dynptr = vm.objects.dynptr_at(source)
    return int(not dynptr.is_null and dynptr.read_only)


@kfunc("bpf_dynptr_size")
def dynptr_size(vm: Machine, source: int) -> int:
    dynptr = vm.objects.dynptr_at(source)
    return -errno.EINVAL if dynptr.is_null else dynptr.size


@kfunc("bpf_dynptr_clone")
def dynptr_clone(vm: Machine, source: int, target: int) -> int:
    dynptr = vm.objects.dynptr_at(source)
    _make(vm, target, dynptr.copy())
    return -errno.EINVAL if dynptr.is_null else 0


@kfunc("bpf_dynptr_copy")
def dynptr_copy(vm: Machine, target: int, target_offset: int, source: int, source_offset: int, size: int) -> int:
    into, out_of = vm.objects.dynptr_at(target), vm.objects.dynptr_at(source)
    size, target_offset, source_offset = size & U32_MAX, target_offset & U32_MAX, source_offset & U32_MAX
    start = _slice(vm, source, source_offset, 0, size, write=False)
    place = _slice(vm, target, target_offset, 0, size, write=True)
    if start and place:
        vm.memory.write(place, vm.memory.read(start, size))
        return 0
    if start:
        return -errno.EINVAL if into.is_null or into.read_only else -errno.E2BIG
    if place:
        return -errno.EINVAL if out_of.is_null else -errno.E2BIG
    return -errno.E2BIG


@kfunc("bpf_dynptr_memset")
def dynptr_memset(vm: Machine, target: int, offset: int, size: int, value: int) -> int:
    dynptr, size = vm.objects.dynptr_at(target), size & U32_MAX
    if dynptr.read_only:
        return -errno.EINVAL
    place = _slice(vm, target, offset, 0, size, write=True)
    if not place:
        return -errno.E2BIG
    vm.memory.write(place, bytes([value & 0xFF]) * size)
    return 0


# --- iterators --------------------------------------------------------------------------------------------------------
# The state of a loop over numbers is in the program's own memory, as in the kernel: the current number, then the end.


def _set_numbers(vm: Machine, iterator: int, current: int, end: int) -> None:
    vm.memory.store(iterator, 4, current & U32_MAX)
    vm.memory.store(iterator + 4, 4, end & U32_MAX)


@kfunc("bpf_iter_num_new")
def iter_num_new(vm: Machine, iterator: int, start: int, end: int) -> int:
    start, end = to_signed(start & U32_MAX, 32), to_signed(end & U32_MAX, 32)
    code = -errno.EINVAL if start > end else -errno.E2BIG if end - start > _MAX_LOOPS else 0
    _set_numbers(vm, iterator, 0 if code else start - 1, 0 if code else end)
    return code


@kfunc("bpf_iter_num_next", bits=64)
def iter_num_next(vm: Machine, iterator: int) -> int:
    current, end = (to_signed(vm.memory.load(iterator + at, 4), 32) for at in (0, 4))
    following = to_signed((current + 1) & U32_MAX, 32)
    if following >= end:
        _set_numbers(vm, iterator, 0, 0)
        return 0
    vm.memory.store(iterator, 4, following & U32_MAX)
    return iterator


@kfunc("bpf_iter_num_destroy")
def iter_num_destroy(vm: Machine, iterator: int) -> int:
    _set_numbers(vm, iterator, 0, 0)
    return 0


_BIT = 12  # where struct bpf_iter_bits has the current bit


@kfunc("bpf_iter_bits_new")
def iter_bits_new(vm: Machine, iterator: int, words: int, count: int) -> int:
    count &= U32_MAX
    vm.memory.write(iterator, bytes(_BIT) + b"\xff" * 4)
    vm.objects.bits[iterator] = []
    if not words or not count:
        return -errno.EINVAL
    if count > _MAX_WORDS:
        return -errno.E2BIG
    try:
        data = vm.memory.read(words, count * 8)
    except MemoryFault:
        return -errno.EFAULT
    numbers = [int.from_bytes(data[at : at + 8], vm.order) for at in range(0, len(data), 8)]
    vm.objects.bits[iterator] = [
        at * 64 + bit for at, number in enumerate(numbers) for bit in range(64) if number >> bit & 1
    ]
    return 0


@kfunc("bpf_iter_bits_next", bits=64)
def iter_bits_next(vm: Machine, iterator: int) -> int:
    left = vm.objects.bits.get(iterator)
    if not left:
        return 0
    vm.memory.store(iterator + _BIT, 4, left.pop(0))
    return iterator + _BIT


@kfunc("bpf_iter_bits_destroy")
def iter_bits_destroy(vm: Machine, iterator: int) -> int:
    vm.objects.bits.pop(iterator, None)
    return 0


# --- sections and locks: nothing runs beside the program --------------------------------------------------------------


@kfunc("bpf_rcu_read_lock")
@kfunc("bpf_rcu_read_unlock")
@kfunc("bpf_preempt_disable")
@kfunc("bpf_preempt_enable")
def enter_or_leave(vm: Machine) -> int:
    return 0


@kfunc("bpf_local_irq_save")
def local_irq_save(vm: Machine, flags: int) -> int:
    vm.memory.store(flags, 8, 0)
    return 0


@kfunc("bpf_local_irq_restore")
def local_irq_restore(vm: Machine, flags: int) -> int:
    vm.memory.load(flags, 8)
    return 0


@kfunc("bpf_res_spin_lock")
def res_spin_lock(vm: Machine, lock: int) -> int:
    """Taking a lock twice is the one deadlock that one program alone can make."""
    vm.memory.read(lock, 4)
    if lock in vm.objects.resilient:
        return -errno.EDEADLK
    vm.objects.resilient.append(lock)
    return 0


@kfunc("bpf_res_spin_unlock")
def res_spin_unlock(vm: Machine, lock: int) -> int:
    if lock not in vm.objects.resilient:
        raise MemoryFault("a lock is given back that is not held", "lock")
    vm.objects.resilient.remove(lock)
    return 0


@kfunc("bpf_res_spin_lock_irqsave")
def res_spin_lock_irqsave(vm: Machine, lock: int, flags: int) -> int:
    code = res_spin_lock(vm, lock)
    return code or local_irq_save(vm, flags)


@kfunc("bpf_res_spin_unlock_irqrestore")
def res_spin_unlock_irqrestore(vm: Machine, lock: int, flags: int) -> int:
    return res_spin_unlock(vm, lock) or local_irq_restore(vm, flags)


# --- the rest ---------------------------------------------------------------------------------------------------------


@kfunc("bpf_throw")
def throw(vm: Machine, cookie: int) -> int:
    """Without a callback of its own, the program returns the cookie."""
    tags = (tag.name for tag in vm.spec.btf.types if isinstance(tag, DeclTag)) if vm.spec.btf is not None else ()
    callback = next((tag for tag in tags if tag.startswith(_EXCEPTION_CALLBACK)), "")
    if callback:
        name = callback.removeprefix(_EXCEPTION_CALLBACK)
        why = f"the machine does not run '{name}': without that tag the program returns what it throws"
        raise NotSupported("bpf_throw with an exception callback", why=why)
    raise Thrown(cookie)


@kfunc("bpf_rdonly_cast", bits=64)
def rdonly_cast(vm: Machine, pointer: int, type_id: int) -> int:
    return pointer


@kfunc("bpf_map_sum_elem_count", bits=64)
def map_sum_elem_count(vm: Machine, array: int) -> int:
    """Only maps that hash count their elements."""
    store = vm.memory.store_at(array)
    return len(store) if isinstance(store, HashStore) else 0


@kfunc("bpf_xdp_pull_data")
def xdp_pull_data(vm: Machine, context: int, length: int) -> int:
    """Every packet of the machine is in one piece."""
    return 0 if length & U32_MAX <= len(vm.frame_of(context)) else -errno.EINVAL


@kfunc("bpf_xdp_metadata_rx_timestamp")
def xdp_metadata_rx_timestamp(vm: Machine, context: int, target: int) -> int:
    stamp = vm.around.rx_metadata.timestamp
    if stamp is None:
        return -errno.EOPNOTSUPP
    vm.memory.store(target, 8, stamp)
    return 0


@kfunc("bpf_xdp_metadata_rx_hash")
def xdp_metadata_rx_hash(vm: Machine, context: int, target: int, kind: int) -> int:
    metadata = vm.around.rx_metadata
    if metadata.hash is None:
        return -errno.EOPNOTSUPP
    vm.memory.store(target, 4, metadata.hash)
    vm.memory.store(kind, 4, metadata.hash_type)
    return 0


@kfunc("bpf_xdp_metadata_rx_vlan_tag")
def xdp_metadata_rx_vlan_tag(vm: Machine, context: int, protocol: int, tci: int) -> int:
    """The protocol is in network order."""
    tag = vm.around.rx_metadata.vlan_tag
    if tag is None:
        return -errno.EOPNOTSUPP
    vm.memory.write(protocol, (tag[0] & 0xFFFF).to_bytes(2, "big"))
    vm.memory.store(tci, 2, tag[1])
    return 0
