"""SYN cookies: helpers that make the sequence number of a SYN-ACK and recognise it in the ACK.

A cookie is built as the kernel's: a hash of the connection, the minute in the upper 8 bits, and in the lower 24 a hash
of connection and minute plus the class of the segment size. The hash is keyed with the caller's secret instead of the
kernel's, so cookies of the two are not exchangeable; sizes, ages and error numbers are the kernel's.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ebpfkit._bits import U32_MAX
from ebpfkit.vm.helpers_registry import implements
from ebpfkit.vm.network import Socket

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

_TCP_HEADER = 20
_IP_HEADERS: Final = {4: 20, 6: 40}
_SEGMENTS: Final = {4: (536, 1300, 1440, 1460), 6: (1220, 1420, 1440, 8940)}  # classes of segment sizes, least first
_DEFAULT_SEGMENT: Final = {4: 536, 6: 1220}
_ADDRESSES: Final = {4: slice(12, 20), 6: slice(8, 40)}
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_MINUTE_NS = 60_000_000_000
_MAX_AGE = 2  # minutes
_CLASS_BITS, _CLASS_MASK = 24, 0xFFFFFF
_LISTEN = 10
_END_OF_OPTIONS, _NO_OPERATION, _SEGMENT_SIZE = 0, 1, 2


def _hash(vm: Machine, flow: bytes, count: int, which: int) -> int:
    import hashlib  # loads a cryptographic library, which few programs need

    key = hashlib.blake2b(vm.around.cookie_secret).digest()
    data = flow + count.to_bytes(8, "little") + bytes([which])
    return int.from_bytes(hashlib.blake2b(data, key=key, digest_size=4).digest(), "little")


def _flow(ip: bytes, tcp: bytes, version: int) -> bytes:
    return ip[_ADDRESSES[version]] + tcp[:4]


def _segment_option(tcp: bytes) -> int:
    """The maximum segment size that a SYN announces, 0 without one."""
    options = tcp[_TCP_HEADER:]
    place = 0
    while place < len(options):
        kind = options[place]
        if kind == _END_OF_OPTIONS:
            break
        if kind == _NO_OPERATION:
            place += 1
            continue
        size = options[place + 1] if place + 1 < len(options) else 0
        if size < 2 or place + size > len(options):
            break
        if kind == _SEGMENT_SIZE and size == 4:
            return int.from_bytes(options[place + 2 : place + 4], "big")
        place += size
    return 0


def _make(vm: Machine, ip: bytes, tcp: bytes, version: int) -> int:
    """The cookie, and the segment size it stands for in the upper half."""
    classes = _SEGMENTS[version]
    wanted = _segment_option(tcp) or _DEFAULT_SEGMENT[version]
    index = max((at for at, size in enumerate(classes) if size <= wanted), default=0)
    flow, minute = _flow(ip, tcp, version), vm.clock() // _MINUTE_NS
    sequence = int.from_bytes(tcp[4:8], "big")
    cookie = _hash(vm, flow, 0, 0) + sequence + (minute << _CLASS_BITS)
    cookie += _hash(vm, flow, minute & 0xFF, 1) + index & _CLASS_MASK
    return cookie & U32_MAX | classes[index] << 32


def _is_genuine(vm: Machine, ip: bytes, tcp: bytes, version: int) -> bool:
    flow, minute = _flow(ip, tcp, version), vm.clock() // _MINUTE_NS
    sequence, acknowledged = (int.from_bytes(tcp[at : at + 4], "big") - 1 for at in (4, 8))
    cookie = acknowledged - _hash(vm, flow, 0, 0) - sequence & U32_MAX
    age = minute - (cookie >> _CLASS_BITS) & 0xFF
    if age >= _MAX_AGE:
        return False
    index = cookie - _hash(vm, flow, minute - age & 0xFF, 1) & _CLASS_MASK
    return index < len(_SEGMENTS[version])


# --- with the headers alone -------------------------------------------------------------------------------------------


def _raw_make(vm: Machine, ip: int, tcp: int, size: int, version: int) -> int:
    size &= U32_MAX
    header = vm.memory.read(ip, _IP_HEADERS[version])
    segment = vm.memory.read(tcp, size)
    if size < _TCP_HEADER or size != _header_size(segment):
        return -errno.EINVAL
    return _make(vm, header, segment, version)


def _raw_check(vm: Machine, ip: int, tcp: int, version: int) -> int:
    header, segment = vm.memory.read(ip, _IP_HEADERS[version]), vm.memory.read(tcp, _TCP_HEADER)
    return 0 if _is_genuine(vm, header, segment, version) else -errno.EACCES


def _header_size(tcp: bytes) -> int:
    return (tcp[12] >> 4) * 4


@implements("tcp_raw_gen_syncookie_ipv4")
def tcp_raw_gen_syncookie_ipv4(vm: Machine, ip: int, tcp: int, size: int) -> int:
    return _raw_make(vm, ip, tcp, size, 4)


@implements("tcp_raw_gen_syncookie_ipv6")
def tcp_raw_gen_syncookie_ipv6(vm: Machine, ip: int, tcp: int, size: int) -> int:
    return _raw_make(vm, ip, tcp, size, 6)


@implements("tcp_raw_check_syncookie_ipv4")
def tcp_raw_check_syncookie_ipv4(vm: Machine, ip: int, tcp: int) -> int:
    return _raw_check(vm, ip, tcp, 4)


@implements("tcp_raw_check_syncookie_ipv6")
def tcp_raw_check_syncookie_ipv6(vm: Machine, ip: int, tcp: int) -> int:
    return _raw_check(vm, ip, tcp, 6)


# --- with the listening socket ----------------------------------------------------------------------------------------


def _version(socket: Socket, ip: bytes) -> int:
    """The IP version of the header when the socket takes such packets, else a negative errno."""
    version = ip[0] >> 4
    if version not in _IP_HEADERS:
        return -errno.EPROTONOSUPPORT
    if version == 6 and (len(ip) < _IP_HEADERS[6] or not socket.is_v6):
        return -errno.EINVAL
    return -errno.EINVAL if version == 4 and socket.is_v6 and socket.is_v6only else version


@implements("tcp_gen_syncookie")
def tcp_gen_syncookie(vm: Machine, socket: int, ip: int, ip_size: int, tcp: int, tcp_size: int) -> int:
    """The cookie of a listener that sends them (`Socket.sends_cookies`), -ENOENT of one that has no need to."""
    header, segment = vm.memory.read(ip, ip_size & U32_MAX), vm.memory.read(tcp, tcp_size & U32_MAX)
    if len(segment) < _TCP_HEADER or len(segment) != _header_size(segment):
        return -errno.EINVAL
    found = vm.objects.socket_at(socket)
    if found.protocol != "tcp" or found.state_number != _LISTEN:
        return -errno.EINVAL
    if segment[13] & (_FIN | _SYN | _RST | _ACK) != _SYN or len(header) < _IP_HEADERS[4]:
        return -errno.EINVAL
    version = _version(found, header)
    if version < 0:
        return version
    return _make(vm, header, segment, version) if found.sends_cookies else -errno.ENOENT


@implements("tcp_check_syncookie")
def tcp_check_syncookie(vm: Machine, socket: int, ip: int, ip_size: int, tcp: int, tcp_size: int) -> int:
    """0 for an ACK that returns a cookie of a listener that sends them, -ENOENT for any other."""
    header, segment = vm.memory.read(ip, ip_size & U32_MAX), vm.memory.read(tcp, tcp_size & U32_MAX)
    found = vm.objects.socket_at(socket)
    if len(segment) < _TCP_HEADER or found.protocol != "tcp" or found.state_number != _LISTEN:
        return -errno.EINVAL
    if segment[13] & (_SYN | _RST | _ACK) != _ACK:
        return -errno.ENOENT
    if len(header) < _IP_HEADERS[4]:
        return -errno.EINVAL
    if not found.sends_cookies:
        return -errno.ENOENT
    version = _version(found, header)
    if version < 0:
        return version
    return 0 if _is_genuine(vm, header, segment, version) else -errno.ENOENT
