"""Helpers that ask for the network around a program: routes, devices, sockets, redirection of copies.

The tables they search are in `network` and come from the caller of the machine; without a table a helper raises
NotSupported. What redirection without a table does is in `helpers`.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ebpfkit._bits import U32_MAX, to_signed
from ebpfkit.errors import NotSupported
from ebpfkit.vm.helpers_registry import implements
from ebpfkit.vm.network import Device, Fib, FibVerdict, Socket
from ebpfkit.vm.surroundings import missing

if TYPE_CHECKING:
    from ebpfkit.maps.base import ByteOrder
    from ebpfkit.vm.machine import Machine

_AF_INET, _AF_INET6 = 2, 10
_PARAMETERS = 64  # bytes of struct bpf_fib_lookup
_DIRECT, _OUTPUT, _SKIP_NEIGH, _TBID, _SRC, _MARK = 1, 2, 4, 8, 16, 32
_FIB_FLAGS = _DIRECT | _OUTPUT | _SKIP_NEIGH | _TBID | _SRC | _MARK
_SEGMENTS = 1
_VLAN_HEADER = 4
_NOBODY = 65534  # overflowuid
_TUPLE_SIZES = {12: 4, 36: 16}  # bytes of struct bpf_sock_tuple to bytes of an address
TC_ACT_SHOT, TC_ACT_REDIRECT = 2, 7


def _missing(helper: str, what: str) -> NotSupported:
    return missing(f"helper bpf_{helper} without a table", what)


def _devices(vm: Machine, helper: str) -> Mapping[int, Device]:
    if vm.around.devices is None:
        raise _missing(helper, "devices=[Device(...), ...]")
    return vm.around.devices


# --- routes -----------------------------------------------------------------------------------------------------------


class _Parameters:
    """struct bpf_fib_lookup in the program's memory: read whole, written whole."""

    def __init__(self, data: bytes, order: ByteOrder) -> None:
        self.data = bytearray(data)
        self.order = order
        self.family = data[0]
        self.total = int.from_bytes(data[6:8], order)
        self.ifindex = int.from_bytes(data[8:12], order)
        self.table = int.from_bytes(data[48:52], order)

    @property
    def destination(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return ipaddress.ip_address(bytes(self.data[32 : 36 if self.family == _AF_INET else 48]))

    def put(self, offset: int, value: bytes) -> None:
        self.data[offset : offset + len(value)] = value


@implements("fib_lookup")
def fib_lookup(vm: Machine, context: int, params: int, size: int, flags: int) -> int:
    size &= U32_MAX
    flags &= U32_MAX
    if size < _PARAMETERS or flags & ~_FIB_FLAGS:
        return -errno.EINVAL
    if vm.around.fib is None:
        raise _missing("fib_lookup", "fib=Fib(...) and devices=[Device(...), ...]")
    devices = _devices(vm, "fib_lookup")
    request = _Parameters(vm.memory.read(params, _PARAMETERS), vm.order)
    if request.family not in (_AF_INET, _AF_INET6):
        return -errno.EAFNOSUPPORT
    device = devices.get(request.ifindex)
    if device is None:
        return -errno.ENODEV
    verdict = _look_up(vm.around.fib, devices, device, request, flags)
    if verdict is FibVerdict.SUCCESS and not vm.is_xdp and not request.total:
        egress = devices[int.from_bytes(request.data[8:12], vm.order)]
        if len(vm.frame_of(context)) > egress.mtu + egress.header + _VLAN_HEADER:
            verdict = FibVerdict.FRAG_NEEDED
    vm.memory.write(params, bytes(request.data))
    return verdict


def _look_up(fib: Fib, devices: Mapping[int, Device], device: Device, request: _Parameters, flags: int) -> FibVerdict:
    if not device.forwarding:
        return FibVerdict.FWD_DISABLED
    table = None
    if flags & _DIRECT:
        table = request.table if flags & _TBID else device.table
    if flags & _TBID:
        request.put(48, bytes(4))
    destination = request.destination
    found = fib.lookup(destination, table, oif=device.ifindex if flags & _OUTPUT else 0)
    route = found.route
    if found.verdict is not FibVerdict.SUCCESS or route is None or found.next_hop is None:
        return found.verdict
    egress = devices.get(route.ifindex)
    if egress is None:
        return FibVerdict.NOT_FWDED
    mtu = route.mtu or egress.mtu
    if request.total > mtu:
        request.put(6, mtu.to_bytes(2, request.order))
        return FibVerdict.FRAG_NEEDED
    if route.encap:
        return FibVerdict.UNSUPP_LWT
    request.put(12, route.metric.to_bytes(4, request.order))
    request.put(8, egress.ifindex.to_bytes(4, request.order))
    if flags & _SRC:
        if found.source is None:
            return FibVerdict.NO_SRC_ADDR
        request.put(16, found.source.packed)
    if route.gateway:
        request.put(32, found.next_hop.packed)
        if found.next_hop.version == 6:
            request.put(0, bytes([_AF_INET6]))
    if not flags & _SKIP_NEIGH:
        hardware = fib.neighbour(egress.ifindex, found.next_hop)
        if hardware is None:
            return FibVerdict.NO_NEIGH
        request.put(58, hardware)
        request.put(52, egress.address)
    request.put(48, bytes(4))
    request.put(6, (mtu & 0xFFFF).to_bytes(2, request.order))
    return FibVerdict.SUCCESS


@implements("check_mtu")
def check_mtu(vm: Machine, context: int, ifindex: int, mtu_len: int, difference: int, flags: int) -> int:
    devices = _devices(vm, "check_mtu")
    wanted = int.from_bytes(vm.memory.read(mtu_len, 4), vm.order)
    delta = to_signed(difference & U32_MAX, 32)
    allowed = 0 if vm.is_xdp else _SEGMENTS
    if flags & ~allowed or (flags & _SEGMENTS and (delta or wanted)):
        return -errno.EINVAL
    ifindex &= U32_MAX
    device = devices.get(ifindex or vm.ifindex)
    if device is None:
        return -errno.ENODEV
    length = wanted + device.header if wanted else len(vm.frame_of(context))
    too_long = length + delta > device.mtu + device.header
    vm.memory.write(mtu_len, device.mtu.to_bytes(4, vm.order))
    return 1 if too_long else 0


# --- sockets ----------------------------------------------------------------------------------------------------------


def _find_socket(
    vm: Machine, helper: str, protocol: str, address: int, size: int, netns: int, flags: int
) -> Socket | None:
    if vm.around.sockets is None:
        raise _missing(helper, "sockets=[Socket(...), ...] (an empty list: there are none)")
    size &= U32_MAX
    data = vm.memory.read(address, size)
    width = _TUPLE_SIZES.get(size)
    if width is None or flags or to_signed(netns & U32_MAX, 32) >= 0:
        return None
    source, destination = ipaddress.ip_address(data[:width]), ipaddress.ip_address(data[width : 2 * width])
    source_port, port = (int.from_bytes(data[at : at + 2], "big") for at in (2 * width, 2 * width + 2))
    best, most = None, 0
    for socket in vm.around.sockets:
        if socket.protocol == protocol:
            score = socket.score(source, source_port, destination, port, vm.ifindex)
            if score > most:
                best, most = socket, score
    return best


def _lookup_socket(vm: Machine, helper: str, protocol: str, full: bool, *arguments: int) -> int:
    socket = _find_socket(vm, helper, protocol, *arguments)
    if socket is None or (full and not socket.is_full):
        return 0
    return vm.objects.acquire(socket)


@implements("sk_lookup_tcp")
def sk_lookup_tcp(vm: Machine, context: int, address: int, size: int, netns: int, flags: int) -> int:
    return _lookup_socket(vm, "sk_lookup_tcp", "tcp", True, address, size, netns, flags)


@implements("sk_lookup_udp")
def sk_lookup_udp(vm: Machine, context: int, address: int, size: int, netns: int, flags: int) -> int:
    return _lookup_socket(vm, "sk_lookup_udp", "udp", True, address, size, netns, flags)


@implements("skc_lookup_tcp")
def skc_lookup_tcp(vm: Machine, context: int, address: int, size: int, netns: int, flags: int) -> int:
    return _lookup_socket(vm, "skc_lookup_tcp", "tcp", False, address, size, netns, flags)


@implements("sk_release")
def sk_release(vm: Machine, socket: int) -> int:
    vm.objects.release(socket)
    return 0


@implements("sk_fullsock")
def sk_fullsock(vm: Machine, socket: int) -> int:
    return socket if vm.objects.socket_at(socket).is_full else 0


@implements("get_listener_sock")
def get_listener_sock(vm: Machine, socket: int) -> int:
    return socket if vm.objects.socket_at(socket).state_number == 10 else 0


@implements("sk_assign")
def sk_assign(vm: Machine, context: int, socket: int, flags: int) -> int:
    """Recorded. Of a classifier as on ingress; a socket look-up may also take its choice back with no socket."""
    found = vm.objects.socket_at(socket) if socket else None
    if vm.prog_type == "sk_lookup":
        return _choose_socket(vm, found, flags)
    if found is None or flags:
        return -errno.EINVAL
    vm.objects.record("sk_assign", cookie=found.cookie)
    return 0


def _choose_socket(vm: Machine, socket: Socket | None, flags: int) -> int:
    replace, no_reuseport = 1, 2
    if flags & ~(replace | no_reuseport):
        return -errno.EINVAL
    if socket is not None:
        values = vm.context_values
        if values.get("protocol", 0) != (6 if socket.protocol == "tcp" else 17):
            return -errno.EPROTOTYPE
        if not socket.is_v6 and values.get("family", 0) == _AF_INET6:
            return -errno.EAFNOSUPPORT
        if socket.protocol == "tcp" and socket.state_number != 10:
            return -errno.ESOCKTNOSUPPORT
    if vm.assigned is not None and not flags & replace:
        return -errno.EEXIST
    vm.assigned = socket
    vm.objects.record("sk_assign", cookie=socket.cookie if socket is not None else 0)
    return 0


@implements("get_socket_cookie")
def get_socket_cookie(vm: Machine, context: int) -> int:
    """The cookie of the packet's socket, 0 without one."""
    if context in vm.objects.sockets:
        return vm.objects.socket_at(context).cookie
    return vm.socket.cookie if vm.socket is not None else 0


@implements("get_socket_uid")
def get_socket_uid(vm: Machine, context: int) -> int:
    """The owner of the packet's socket, nobody's without one."""
    vm.frame_of(context)
    return vm.socket.uid if vm.socket is not None else _NOBODY


@implements("get_netns_cookie")
def get_netns_cookie(vm: Machine, context: int) -> int:
    """The first namespace's."""
    return 1


# --- redirection ------------------------------------------------------------------------------------------------------


@implements("clone_redirect")
def clone_redirect(vm: Machine, context: int, ifindex: int, flags: int) -> int:
    frame = vm.frame_of(context)
    ifindex &= U32_MAX
    if flags & ~1 or (vm.around.devices is not None and ifindex not in vm.around.devices):
        return -errno.EINVAL
    kept = vm.objects.record("clone_redirect", ifindex=ifindex, flags=flags, packet=frame.packet)
    return 0 if kept else -errno.ENOMEM


@implements("redirect_neigh")
def redirect_neigh(vm: Machine, ifindex: int, params: int, size: int, flags: int) -> int:
    size &= U32_MAX
    if (size and size < 20) or flags:
        return TC_ACT_SHOT
    next_hop = vm.memory.read(params, 20) if size else b""
    ifindex &= U32_MAX
    vm.objects.record("redirect_neigh", ifindex=ifindex, next_hop=next_hop)
    vm.redirected = ("", ifindex, ifindex)
    return TC_ACT_REDIRECT


@implements("redirect_peer")
def redirect_peer(vm: Machine, ifindex: int, flags: int) -> int:
    if flags:
        return TC_ACT_SHOT
    ifindex &= U32_MAX
    vm.objects.record("redirect_peer", ifindex=ifindex)
    vm.redirected = ("", ifindex, ifindex)
    return TC_ACT_REDIRECT
