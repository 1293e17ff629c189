"""Helpers that ask for the task that runs: its ids, its control groups, its storage, its memory in user space.

The task and the memory come from the caller of the machine (`surroundings`).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ebpfkit._bits import U32_MAX, round_up
from ebpfkit.maps.memory import ObjectStorageStore
from ebpfkit.vm.helpers_registry import implements
from ebpfkit.vm.helpers_sockets import ancestor, group_at, storage_get, store_of
from ebpfkit.vm.memory import MemoryFault

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

_TASK = "task_struct of the current task"
_LAST_SIGNAL = 64
_NAMESPACE_BYTES = 8  # of struct bpf_pidns_info

# --- who it is --------------------------------------------------------------------------------------------------------


@implements("get_current_pid_tgid")
def get_current_pid_tgid(vm: Machine) -> int:
    task = vm.around.task_for("get_current_pid_tgid")
    return task.tgid << 32 | task.pid


@implements("get_current_uid_gid")
def get_current_uid_gid(vm: Machine) -> int:
    task = vm.around.task_for("get_current_uid_gid")
    return task.gid << 32 | task.uid


@implements("get_current_comm")
def get_current_comm(vm: Machine, target: int, size: int) -> int:
    task = vm.around.task_for("get_current_comm")
    size &= U32_MAX
    if size:
        vm.memory.clear(target, size)
        vm.memory.write(target, task.comm.encode()[: min(15, size - 1)])
    return 0


@implements("get_ns_current_pid_tgid")
def get_ns_current_pid_tgid(vm: Machine, device: int, inode: int, target: int, size: int) -> int:
    """The ids in the task's own namespace, which the arguments have to name."""
    size &= U32_MAX
    namespace = vm.around.task_for("get_ns_current_pid_tgid").pid_namespace
    if size != _NAMESPACE_BYTES or namespace is None or (namespace.device, namespace.inode) != (device, inode):
        vm.memory.clear(target, size)
        return -errno.EINVAL
    vm.memory.write(target, namespace.pid.to_bytes(4, vm.order) + namespace.tgid.to_bytes(4, vm.order))
    return 0


@implements("get_current_task_btf")
def get_current_task_btf(vm: Machine) -> int:
    """A pointer for storage and the like; what the kernel keeps behind it is not there."""
    vm.around.task_for("get_current_task_btf")
    return vm.objects.opaque(_TASK)


@implements("send_signal")
@implements("send_signal_thread")
def send_signal(vm: Machine, number: int) -> int:
    """Recorded."""
    vm.around.task_for("send_signal")
    number &= U32_MAX
    if not 0 < number <= _LAST_SIGNAL:
        return -errno.EINVAL
    vm.objects.record("send_signal", signal=number)
    return 0


# --- control groups ---------------------------------------------------------------------------------------------------


@implements("get_current_cgroup_id")
def get_current_cgroup_id(vm: Machine) -> int:
    return vm.around.task_for("get_current_cgroup_id").cgroup_id


@implements("get_current_ancestor_cgroup_id")
def get_current_ancestor_cgroup_id(vm: Machine, level: int) -> int:
    return ancestor(vm.around.task_for("get_current_ancestor_cgroup_id").cgroups, level)


@implements("current_task_under_cgroup")
def current_task_under_cgroup(vm: Machine, array: int, index: int) -> int:
    group = group_at(vm, array, index)
    return group if group < 0 else int(group in vm.around.task_for("current_task_under_cgroup").cgroups)


# --- storage ----------------------------------------------------------------------------------------------------------


def _pid_behind(vm: Machine, address: int, helper: str) -> int:
    if address != vm.objects.opaque(_TASK):
        raise MemoryFault(f"{address:#x} is no task")
    return vm.around.task_for(helper).pid


@implements("task_storage_get")
def task_storage_get(vm: Machine, storage: int, task: int, value: int, flags: int) -> int:
    return storage_get(vm, storage, _pid_behind(vm, task, "task_storage_get"), value, flags) if task else 0


@implements("task_storage_delete")
def task_storage_delete(vm: Machine, storage: int, task: int) -> int:
    store = store_of(vm, storage, ObjectStorageStore, "storage of objects")
    return store.delete_of(_pid_behind(vm, task, "task_storage_delete")) if task else -errno.EINVAL


# --- user space -------------------------------------------------------------------------------------------------------


def _read_user(vm: Machine, helper: str, target: int, size: int, source: int) -> int:
    size &= U32_MAX
    data = vm.around.user_bytes(helper, source, size)
    if data is None:
        vm.memory.clear(target, size)
        return -errno.EFAULT
    vm.memory.write(target, data)
    return 0


@implements("probe_read_user")
def probe_read_user(vm: Machine, target: int, size: int, source: int) -> int:
    return _read_user(vm, "probe_read_user", target, size, source)


@implements("copy_from_user")
def copy_from_user(vm: Machine, target: int, size: int, source: int) -> int:
    return _read_user(vm, "copy_from_user", target, size, source)


@implements("probe_read_user_str")
def probe_read_user_str(vm: Machine, target: int, size: int, source: int) -> int:
    """The text with its zero, cut where the room ends; zeros fill a word that there is room for, as in the kernel."""
    size &= U32_MAX
    if not size:
        return 0
    text = bytearray()
    while len(text) < size - 1:
        byte = vm.around.user_bytes("probe_read_user_str", source + len(text), 1)
        if byte is None:
            vm.memory.clear(target, size)
            return -errno.EFAULT
        if byte == b"\0":
            break
        text += byte
    word = round_up(len(text) + 1, 8)
    vm.memory.write(target, bytes(text).ljust(word if word <= size else len(text) + 1, b"\0"))
    return len(text) + 1
