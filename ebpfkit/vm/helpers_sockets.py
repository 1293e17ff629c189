"""Helpers on sockets that a program holds, and on maps of sockets: structures, storage, control groups, redirects.

Which sockets there are is in `surroundings`; looking one up by addresses is in `helpers_network`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ebpfkit._bits import U32_MAX, to_signed
from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.errors import NotSupported
from ebpfkit.maps.memory import (
    CgroupArrayStore,
    CgroupStorageStore,
    MemoryStore,
    ObjectStorageStore,
    ReuseportArrayStore,
    SocketStore,
)
from ebpfkit.vm.helpers_registry import implements
from ebpfkit.vm.memory import MemoryFault
from ebpfkit.vm.network import Socket, tcp_sock_bytes

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

SK_DROP, SK_PASS = 0, 1
_ESTABLISHED, _LISTEN = 1, 10
_INGRESS = 1  # BPF_F_INGRESS
_CREATE = 1  # BPF_SK_STORAGE_GET_F_CREATE and its siblings
_EBADFD = 77
_EVENTS_WITH_SOCKET = (4, 5, 11)  # BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, PASSIVE_ESTABLISHED_CB, TCP_LISTEN_CB
_Store = TypeVar("_Store", bound=MemoryStore)


def store_of(vm: Machine, address: int, kind: type[_Store], what: str) -> _Store:
    """The map of this kind behind a pointer. Raises MemoryFault for another."""
    store = vm.memory.store_at(address)
    if not isinstance(store, kind):
        raise MemoryFault(f"map '{store.spec.name}' is no {what}", f"map '{store.spec.name}'")
    return store


# --- structures of a socket -------------------------------------------------------------------------------------------


@implements("tcp_sock")
def tcp_sock(vm: Machine, socket: int) -> int:
    """struct bpf_tcp_sock of a full TCP socket: what `Socket.tcp` says, zeros elsewhere."""
    found = vm.objects.socket_at(socket)
    if found.protocol != "tcp" or not found.is_full:
        return 0
    return vm.objects.derive(socket, "bpf_tcp_sock of a socket", tcp_sock_bytes(found, vm.order))


def _as_structure(name: str, fits: Callable[[Socket], bool]) -> None:
    @implements(f"skc_to_{name}")
    def cast(vm: Machine, socket: int) -> int:
        """The kernel's own structure: programs read the bytes that `Socket.kernel` gives, and may hand it on."""
        found = vm.objects.socket_at(socket) if socket else None
        if found is None or not fits(found):
            return 0
        return vm.objects.derive(socket, f"struct {name} of a socket (Socket.kernel)", found.kernel)


_as_structure("tcp_sock", lambda socket: socket.protocol == "tcp" and socket.is_full)
_as_structure("tcp6_sock", lambda socket: socket.protocol == "tcp" and socket.is_full and socket.is_v6)
_as_structure("tcp_timewait_sock", lambda socket: socket.state == "time_wait")
_as_structure("tcp_request_sock", lambda socket: socket.state == "new_syn_recv")
_as_structure("udp6_sock", lambda socket: socket.protocol == "udp" and socket.is_v6)
_as_structure("unix_sock", lambda socket: False)  # sockets of the table are tcp or udp
_as_structure("mptcp_sock", lambda socket: False)


# --- storage ----------------------------------------------------------------------------------------------------------


def storage_get(vm: Machine, storage: int, number: int, value: int, flags: int, *, may_create: bool = True) -> int:
    """The value of an object in storage of objects, made if `flags` ask for it: its address or 0."""
    store = store_of(vm, storage, ObjectStorageStore, "storage of objects")
    if flags & ~_CREATE:
        return 0
    cell = store.value_of(number)
    if cell is None and flags & _CREATE and may_create:
        size = store.spec.value_size
        if store.set_of(number, vm.memory.read(value, size) if value else bytes(size)):
            return 0
        cell = store.value_of(number)
    return 0 if cell is None else vm.address_of_value(store, cell)


def cookie_of(socket: Socket, what: str) -> int:
    """The number by which maps know a socket. Raises NotSupported for one without."""
    if not socket.cookie:
        why = "maps know sockets by their cookies: Socket(..., cookie=1), another for each"
        raise NotSupported(f"{what} of a socket without a cookie", why=why)
    return socket.cookie


@implements("sk_storage_get")
def sk_storage_get(vm: Machine, storage: int, socket: int, value: int, flags: int) -> int:
    if not socket:
        return 0
    number = cookie_of(vm.objects.socket_at(socket), "storage")
    return storage_get(vm, storage, number, value, flags)


@implements("sk_storage_delete")
def sk_storage_delete(vm: Machine, storage: int, socket: int) -> int:
    store = store_of(vm, storage, ObjectStorageStore, "storage of objects")
    if not socket:
        return -errno.EINVAL
    return store.delete_of(cookie_of(vm.objects.socket_at(socket), "storage"))


@implements("get_local_storage")
def get_local_storage(vm: Machine, storage: int, flags: int) -> int:
    """The value of the control group that the program is attached to (`cgroup_id`), zeros at first."""
    store = store_of(vm, storage, CgroupStorageStore, "storage of control groups")
    row = ATTACH_TYPES.get(vm.spec.attach_type or "")
    cell = store.value_in(vm.around.cgroup_id, row.id if row is not None else 0, vm.cpu)
    return vm.address_of_value(store, cell)


# --- control groups ---------------------------------------------------------------------------------------------------


def _packet_groups(vm: Machine, context: int) -> tuple[int, ...] | None:
    """The control groups of the packet's socket, None without a full one."""
    vm.frame_of(context)
    return vm.socket.cgroups if vm.socket is not None and vm.socket.is_full else None


def ancestor(groups: tuple[int, ...] | None, level: int) -> int:
    """The id of the group at a level below the root, 0 where there is none."""
    level = to_signed(level & U32_MAX, 32)
    return groups[level] if groups and 0 <= level < len(groups) else 0


def group_at(vm: Machine, array: int, index: int) -> int:
    """The id of a group in a map of control groups, or a negative errno."""
    store = store_of(vm, array, CgroupArrayStore, "map of control groups")
    index &= U32_MAX
    if index >= store.spec.max_entries:
        return -errno.E2BIG
    found = store.target(index)
    return -errno.EAGAIN if found is None else found


@implements("skb_cgroup_id")
def skb_cgroup_id(vm: Machine, context: int) -> int:
    groups = _packet_groups(vm, context)
    return groups[-1] if groups else 0


@implements("skb_ancestor_cgroup_id")
def skb_ancestor_cgroup_id(vm: Machine, context: int, level: int) -> int:
    return ancestor(_packet_groups(vm, context), level)


@implements("skb_under_cgroup")
def skb_under_cgroup(vm: Machine, context: int, array: int, index: int) -> int:
    groups = _packet_groups(vm, context)
    if groups is None:
        return -errno.ENOENT
    group = group_at(vm, array, index)
    return group if group < 0 else int(group in groups)


@implements("sk_cgroup_id")
def sk_cgroup_id(vm: Machine, socket: int) -> int:
    found = vm.objects.socket_at(socket) if socket else None
    return found.cgroup_id if found is not None and found.is_full else 0


@implements("sk_ancestor_cgroup_id")
def sk_ancestor_cgroup_id(vm: Machine, socket: int, level: int) -> int:
    found = vm.objects.socket_at(socket) if socket else None
    return ancestor(found.cgroups, level) if found is not None and found.is_full else 0


# --- maps of sockets --------------------------------------------------------------------------------------------------


def lookup_socket(vm: Machine, store: SocketStore, key: bytes) -> int:
    """A reference to the socket under a key, 0 without one."""
    cookie = store.cookie(key)
    return 0 if cookie is None else vm.objects.acquire(vm.around.socket_with(cookie))


def store_socket(vm: Machine, store: SocketStore, key: bytes, socket: int, flags: int) -> int:
    """Put a socket that the program holds into a map: 0 or a negative errno."""
    found = vm.objects.socket_at(socket)
    if not found.is_full:
        return -errno.EINVAL
    if found.protocol == "tcp" and found.state_number not in (_ESTABLISHED, _LISTEN):
        return -errno.EOPNOTSUPP
    return store.put(key, cookie_of(found, "an entry"), flags)


@implements("sock_map_update")
@implements("sock_hash_update")
def sock_map_update(vm: Machine, context: int, array: int, key: int, flags: int) -> int:
    """Put the socket of the run into a map, from the events in which it is established or starts to listen."""
    vm.frame_of(context)
    store = store_of(vm, array, SocketStore, "map of sockets")
    if vm.socket is None:
        raise NotSupported("a map update without a socket", why="give the run a socket: run(socket=Socket(...))")
    if vm.context_values.get("op", 0) not in _EVENTS_WITH_SOCKET:
        return -errno.EOPNOTSUPP
    data = vm.memory.read(key, store.spec.key_size)
    return store.put(data, cookie_of(vm.socket, "an entry"), flags)


def _redirect(vm: Machine, context: int, array: int, key: bytes, flags: int) -> int:
    """Send a packet or message to a socket of a map: recorded as the redirection of the run."""
    vm.frame_of(context)
    store = store_of(vm, array, SocketStore, "map of sockets")
    cookie = store.cookie(key) if not flags & ~_INGRESS else None
    if cookie is None or not _takes_redirects(vm.around.socket_with(cookie)):
        return SK_DROP
    vm.redirected = (store.spec.name, int.from_bytes(key, vm.order), cookie)
    return SK_PASS


def _takes_redirects(socket: Socket) -> bool:
    state = socket.state_number
    return state != _LISTEN if socket.protocol == "tcp" else state == _ESTABLISHED


@implements("sk_redirect_map")
@implements("msg_redirect_map")
def sk_redirect_map(vm: Machine, context: int, array: int, key: int, flags: int) -> int:
    return _redirect(vm, context, array, (key & U32_MAX).to_bytes(4, vm.order), flags)


@implements("sk_redirect_hash")
@implements("msg_redirect_hash")
def sk_redirect_hash(vm: Machine, context: int, array: int, key: int, flags: int) -> int:
    size = vm.memory.store_at(array).spec.key_size
    return _redirect(vm, context, array, vm.memory.read(key, size), flags)


@implements("sk_select_reuseport")
def sk_select_reuseport(vm: Machine, context: int, array: int, key: int, flags: int) -> int:
    """Choose the socket of a reuseport group: recorded."""
    vm.frame_of(context)
    store = store_of(vm, array, SocketStore, "map of sockets")
    if flags:
        return -errno.EINVAL
    cookie = store.cookie(vm.memory.read(key, store.spec.key_size))
    if cookie is None:
        return -errno.ENOENT
    socket = vm.around.socket_with(cookie)
    wrong = _mismatch(vm, socket)
    if wrong:
        return wrong if isinstance(store, ReuseportArrayStore) else -_EBADFD
    vm.assigned = socket
    vm.objects.record("sk_select_reuseport", cookie=cookie)
    return 0


def _mismatch(vm: Machine, socket: Socket) -> int:
    """What the kernel says of a socket that is not of the packet's protocol."""
    protocol = vm.context_values.get("ip_protocol", 0)
    return -errno.EPROTOTYPE if protocol and protocol != (6 if socket.protocol == "tcp" else 17) else 0


# --- messages ---------------------------------------------------------------------------------------------------------


@implements("msg_apply_bytes")
def msg_apply_bytes(vm: Machine, context: int, size: int) -> int:
    """Recorded: for how many bytes the verdict holds."""
    vm.frame_of(context)
    vm.objects.record("msg_apply_bytes", bytes=size & U32_MAX)
    return 0


@implements("msg_cork_bytes")
def msg_cork_bytes(vm: Machine, context: int, size: int) -> int:
    """Recorded: how many bytes have to be there before the program is asked again."""
    vm.frame_of(context)
    vm.objects.record("msg_cork_bytes", bytes=size & U32_MAX)
    return 0
