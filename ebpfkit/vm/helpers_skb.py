"""Helpers of socket buffers: packets of classifiers and filters, their tags, checksums, hashes and tunnel keys.

A packet that changes its length is written anew into the frame; what the kernel keeps beside the bytes (the VLAN tag
that hardware took out, hash, packet type, checksum state) are fields of the context. BPF_PROG_TEST_RUN is the
reference. What reads and stores bytes is in `helpers`.
"""

from __future__ import annotations

import errno
import zlib
from typing import TYPE_CHECKING, Final

from ebpfkit._bits import U32_MAX, to_signed
from ebpfkit.vm.helpers_registry import implements
from ebpfkit.vm.surroundings import missing

if TYPE_CHECKING:
    from ebpfkit.maps.base import ByteOrder
    from ebpfkit.vm.frame import Frame
    from ebpfkit.vm.machine import Machine

_ETHERNET = 14
_VLAN_Q, _VLAN_AD = 0x8100, 0x88A8
_IPV4, _IPV6 = 0x0800, 0x86DD
_HEADERS: Final = {_IPV4: 20, _IPV6: 40}
_MAX_LENGTH = 16064  # of a packet that a helper changes: four pages without the kernel's own part
_ENOTSUPP = 524
_MAX_OFFSET = 0xFFFF
_OTHER_HOST = 3
_XFRM_BYTES = 28  # of struct bpf_xfrm_state
_PSEUDO, _MANGLED_ZERO, _ENFORCE, _IPV6_PSEUDO = 1 << 4, 1 << 5, 1 << 6, 1 << 7


def _protocol(vm: Machine) -> int:
    """The EtherType of the packet."""
    return int.from_bytes((vm.context_values.get("protocol", 0) & 0xFFFF).to_bytes(2, vm.order), "big")


def _set_protocol(vm: Machine, protocol: int) -> None:
    vm.context_values["protocol"] = int.from_bytes(protocol.to_bytes(2, "big"), vm.order)


# --- VLAN tags --------------------------------------------------------------------------------------------------------


def _tag(vm: Machine) -> tuple[int, int] | None:
    """The tag beside the packet: (protocol, tci)."""
    values = vm.context_values
    if not values.get("vlan_present", 0):
        return None
    stored = (values.get("vlan_proto", 0) & 0xFFFF).to_bytes(2, vm.order)
    return int.from_bytes(stored, "big"), values.get("vlan_tci", 0) & 0xFFFF


def _set_tag(vm: Machine, tag: tuple[int, int] | None) -> None:
    values = vm.context_values
    protocol, tci = tag or (0, 0)
    values["vlan_present"] = int(tag is not None)
    values["vlan_tci"] = tci
    values["vlan_proto"] = int.from_bytes(protocol.to_bytes(2, "big"), vm.order)


@implements("skb_vlan_push")
def skb_vlan_push(vm: Machine, context: int, protocol: int, tci: int) -> int:
    """The new tag stays beside the packet; one that was there goes into the bytes."""
    frame = vm.frame_of(context)
    number = int.from_bytes((protocol & 0xFFFF).to_bytes(2, vm.order), "big")
    if number not in (_VLAN_Q, _VLAN_AD):
        number = _VLAN_Q
    before = _tag(vm)
    if before is not None:
        packet = frame.packet
        old = before[0].to_bytes(2, "big") + before[1].to_bytes(2, "big")
        frame.replace(packet[:12] + old + packet[12:])
        _set_protocol(vm, before[0])
    _set_tag(vm, (number, tci & 0xFFFF))
    return 0


@implements("skb_vlan_pop")
def skb_vlan_pop(vm: Machine, context: int) -> int:
    """Takes the outer tag away; a tag that is then in front in the bytes moves beside the packet."""
    frame = vm.frame_of(context)
    if _tag(vm) is not None:
        _set_tag(vm, None)
    elif _protocol(vm) not in (_VLAN_Q, _VLAN_AD):
        return 0
    else:
        code = _take_tag(vm, frame)
        if isinstance(code, int):
            return code
    outer = _protocol(vm)
    if outer in (_VLAN_Q, _VLAN_AD):
        inner = _take_tag(vm, frame)
        if isinstance(inner, int):
            return inner
        _set_tag(vm, (outer, int.from_bytes(inner, "big")))
    return 0


def _take_tag(vm: Machine, frame: Frame) -> bytes | int:
    """Cut the tag out of the bytes: its tci, or a negative errno."""
    packet = frame.packet
    if len(packet) < 18:
        return -errno.ENOMEM
    frame.replace(packet[:12] + packet[16:])
    inner = int.from_bytes(packet[16:18], "big")
    _set_protocol(vm, inner if inner >= 0x600 else 4)  # ETH_P_802_2
    return packet[14:16]


# --- length and room --------------------------------------------------------------------------------------------------


@implements("skb_change_tail")
def skb_change_tail(vm: Machine, context: int, length: int, flags: int) -> int:
    frame = vm.frame_of(context)
    length &= U32_MAX
    if flags or length > _MAX_LENGTH or length < vm.skb.network_offset:
        return -errno.EINVAL
    if vm.skb.is_encapsulated:
        return -_ENOTSUPP
    packet = frame.packet
    frame.replace(packet[:length].ljust(length, b"\0"))
    return 0


@implements("skb_change_head")
def skb_change_head(vm: Machine, context: int, room: int, flags: int) -> int:
    frame = vm.frame_of(context)
    room &= U32_MAX
    if flags or len(frame) + room > _MAX_LENGTH:
        return -errno.EINVAL
    frame.replace(bytes(room) + frame.packet)
    vm.skb.network_offset += room
    return 0


@implements("skb_pull_data")
def skb_pull_data(vm: Machine, context: int, length: int) -> int:
    """Every packet of the machine is in one piece."""
    return 0 if length & U32_MAX <= len(vm.frame_of(context)) else -errno.ENOMEM


@implements("skb_change_proto")
def skb_change_proto(vm: Machine, context: int, protocol: int, flags: int) -> int:
    """Makes room for, or takes away, the difference of an IPv4 and an IPv6 header; the caller writes the header."""
    frame = vm.frame_of(context)
    if flags:
        return -errno.EINVAL
    target = int.from_bytes((protocol & 0xFFFF).to_bytes(2, vm.order), "big")
    packet, at = frame.packet, vm.skb.network_offset
    if (_protocol(vm), target) == (_IPV4, _IPV6):
        frame.replace(packet[:at] + bytes(20) + packet[at:])
    elif (_protocol(vm), target) == (_IPV6, _IPV4):
        if len(packet) < at + 20:
            return -errno.ENOMEM
        frame.replace(packet[:at] + packet[at + 20 :])
    else:
        return -_ENOTSUPP
    _set_protocol(vm, target)
    vm.context_values["hash"] = 0
    return 0


@implements("skb_change_type")
def skb_change_type(vm: Machine, context: int, kind: int) -> int:
    vm.frame_of(context)
    kind &= U32_MAX
    if kind > _OTHER_HOST or vm.context_values.get("pkt_type", 0) > _OTHER_HOST:
        return -errno.EINVAL
    vm.context_values["pkt_type"] = kind
    return 0


_NET, _MAC = 0, 1
_ENCAP_V4, _ENCAP_V6, _GRE, _UDP, _ENCAP_ETH = 2, 4, 8, 16, 64
_DECAP_V4, _DECAP_V6 = 128, 256
_ENCAP = _ENCAP_V4 | _ENCAP_V6 | _GRE | _UDP | _ENCAP_ETH | 0xFF << 56
_ROOM_FLAGS = 1 | 32 | _ENCAP | _DECAP_V4 | _DECAP_V6
_MAX_ROOM = 0xFFF


@implements("skb_adjust_room")
def skb_adjust_room(vm: Machine, context: int, difference: int, mode: int, flags: int) -> int:
    """Inserts zeros behind the link header (mode MAC) or behind the network header (mode NET), or cuts there."""
    frame = vm.frame_of(context)
    delta = to_signed(difference & U32_MAX, 32)
    mode &= U32_MAX
    if flags & ~_ROOM_FLAGS:
        return -errno.EINVAL
    if abs(delta) > _MAX_ROOM:
        return -errno.EFAULT
    protocol = _protocol(vm)
    if protocol not in _HEADERS or mode not in (_NET, _MAC):
        return -_ENOTSUPP
    if flags & (_DECAP_V4 | _DECAP_V6 if delta >= 0 else _ENCAP):
        return -errno.EINVAL
    base = _HEADERS[protocol]
    place = vm.skb.network_offset + (base if mode == _NET else 0)
    decap = flags & (_DECAP_V4 | _DECAP_V6)
    if decap == _DECAP_V4 | _DECAP_V6:
        return -errno.EINVAL
    least = {_DECAP_V4: 20, _DECAP_V6: 40}.get(decap, base)
    current = len(frame) - vm.skb.network_offset
    if delta < 0 and (-delta >= current or current + delta < least):
        return -_ENOTSUPP
    if delta > 0 and len(frame) + delta > _MAX_LENGTH:
        return -_ENOTSUPP
    code = _check_encap(vm, flags) if delta > 0 and flags & (_ENCAP_V4 | _ENCAP_V6) else 0
    if code:
        return code
    packet = frame.packet
    if delta < 0 and place - delta > len(packet):
        return -errno.ENOMEM
    frame.replace(packet[:place] + (bytes(delta) + packet[place:] if delta > 0 else packet[place - delta :]))
    if delta > 0 and flags & (_ENCAP_V4 | _ENCAP_V6):
        _set_protocol(vm, _IPV6 if flags & _ENCAP_V6 else _IPV4)
        vm.skb.is_encapsulated = True
    elif decap:
        _set_protocol(vm, _IPV4 if decap == _DECAP_V4 else _IPV6)
    return 0


def _check_encap(vm: Machine, flags: int) -> int:
    both_l3 = flags & (_ENCAP_V4 | _ENCAP_V6) == _ENCAP_V4 | _ENCAP_V6
    both_l4 = flags & (_GRE | _UDP) == _GRE | _UDP
    if both_l3 or both_l4:
        return -errno.EINVAL
    if vm.skb.is_encapsulated:
        return -errno.EALREADY
    inner = flags >> 56
    return -errno.EINVAL if flags & _ENCAP_ETH and inner < _ETHERNET else 0


# --- checksums --------------------------------------------------------------------------------------------------------


def _checksum_place(frame: Frame, offset: int) -> int:
    """Where the 16-bit checksum field is in the buffer, or -EFAULT."""
    offset &= U32_MAX
    if offset > _MAX_OFFSET or offset & 1 or offset + 2 > len(frame):
        return -errno.EFAULT
    return frame.data + offset


def _update_checksum(order: ByteOrder, old: int, minus: bytes, plus: bytes, seed: int = 0) -> int:
    """The Internet checksum after the bytes `minus` became `plus` (RFC 1624, equation 3), all in this order."""
    total = ~old & 0xFFFF
    total += sum(~int.from_bytes(minus[i : i + 2], order) & 0xFFFF for i in range(0, len(minus), 2))
    total += sum(int.from_bytes(plus[i : i + 2], order) for i in range(0, len(plus), 2))
    total += seed
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def _replace(vm: Machine, place: int, old: int, new: int, size: int) -> int:
    """The new value of the checksum at `place`."""
    order = vm.order
    field = int.from_bytes(vm.frame.buffer[place : place + 2], order)
    if size == 0:
        return _update_checksum(order, field, b"", b"", (new & 0xFFFF) + (new >> 16 & 0xFFFF))
    mask = (1 << 8 * size) - 1
    return _update_checksum(order, field, (old & mask).to_bytes(size, order), (new & mask).to_bytes(size, order))


@implements("l3_csum_replace")
def l3_csum_replace(vm: Machine, context: int, offset: int, old: int, new: int, flags: int) -> int:
    frame = vm.frame_of(context)
    if flags & ~0xF:
        return -errno.EINVAL
    place = _checksum_place(frame, offset)
    if place < 0:
        return place
    size = flags & 0xF
    if size not in (0, 2, 4) or (size == 0 and old):
        return -errno.EINVAL
    frame.buffer[place : place + 2] = _replace(vm, place, old, new, size).to_bytes(2, vm.order)
    return 0


@implements("l4_csum_replace")
def l4_csum_replace(vm: Machine, context: int, offset: int, old: int, new: int, flags: int) -> int:
    frame = vm.frame_of(context)
    if flags & ~(0xF | _PSEUDO | _MANGLED_ZERO | _ENFORCE | _IPV6_PSEUDO):
        return -errno.EINVAL
    place = _checksum_place(frame, offset)
    if place < 0:
        return place
    if flags & _MANGLED_ZERO and not flags & _ENFORCE and not any(frame.buffer[place : place + 2]):
        return 0  # a datagram without a checksum stays without
    size = flags & 0xF
    if size not in (0, 2, 4) or (size == 0 and old):
        return -errno.EINVAL
    value = _replace(vm, place, old, new, size)
    if flags & _MANGLED_ZERO and not value:
        value = 0xFFFF
    frame.buffer[place : place + 2] = value.to_bytes(2, vm.order)
    return 0


@implements("csum_update")
def csum_update(vm: Machine, context: int, checksum: int) -> int:
    """No device has summed the packet up, so there is nothing to update."""
    vm.frame_of(context)
    return -_ENOTSUPP


@implements("csum_level")
def csum_level(vm: Machine, context: int, level: int) -> int:
    vm.frame_of(context)
    query, increase, decrease, reset = 0, 1, 2, 3
    now = vm.skb.checksum_level
    if level == query:
        return -errno.EACCES if now is None else now
    if level == increase:
        vm.skb.checksum_level = 0 if now is None else min(now + 1, 3)
    elif level == decrease:
        vm.skb.checksum_level = None if not now else now - 1
    elif level == reset:
        vm.skb.checksum_level = None
    else:
        return -errno.EINVAL
    return 0


# --- hash, congestion, time, places -----------------------------------------------------------------------------------


@implements("get_hash_recalc")
def get_hash_recalc(vm: Machine, context: int) -> int:
    """A hash of addresses and ports that is the same in every run; the kernel's depends on a secret."""
    frame = vm.frame_of(context)
    values = vm.context_values
    if not values.get("hash", 0):
        at = vm.skb.network_offset
        packet, protocol = frame.packet, _protocol(vm)
        if protocol == _IPV4:
            header = (packet[at] & 0xF) * 4 if len(packet) > at else 0
            flow = packet[at + 12 : at + 20] + packet[at + 9 : at + 10] + packet[at + header : at + header + 4]
        elif protocol == _IPV6:
            flow = packet[at + 8 : at + 40] + packet[at + 6 : at + 7] + packet[at + 40 : at + 44]
        else:
            flow = packet[:_ETHERNET]
        values["hash"] = zlib.crc32(flow) or 1
    return values["hash"]


@implements("set_hash_invalid")
def set_hash_invalid(vm: Machine, context: int) -> int:
    vm.frame_of(context)
    vm.context_values["hash"] = 0
    return 0


@implements("set_hash")
def set_hash(vm: Machine, context: int, value: int) -> int:
    vm.frame_of(context)
    vm.context_values["hash"] = value & U32_MAX
    return 0


@implements("skb_ecn_set_ce")
def skb_ecn_set_ce(vm: Machine, context: int) -> int:
    """1 when the packet says "congestion experienced" now, 0 when its sender does not take part."""
    frame = vm.frame_of(context)
    at = frame.data + vm.skb.network_offset
    protocol = _protocol(vm)
    header = _HEADERS.get(protocol)
    if header is None or len(frame) < vm.skb.network_offset + header:
        return 0
    if protocol == _IPV6:
        field = int.from_bytes(frame.buffer[at : at + 2], "big")
        if not field & 0x30:
            return 0
        frame.buffer[at : at + 2] = (field | 0x30).to_bytes(2, "big")
        return 1
    service = frame.buffer[at + 1]
    if not service & 3:
        return 0
    if service & 3 != 3:
        before = bytes(frame.buffer[at : at + 2])
        frame.buffer[at + 1] = service | 3
        after = bytes(frame.buffer[at : at + 2])
        checksum = int.from_bytes(frame.buffer[at + 10 : at + 12], vm.order)
        frame.buffer[at + 10 : at + 12] = _update_checksum(vm.order, checksum, before, after).to_bytes(2, vm.order)
    return 1


@implements("skb_set_tstamp")
def skb_set_tstamp(vm: Machine, context: int, stamp: int, kind: int) -> int:
    vm.frame_of(context)
    if _protocol(vm) not in _HEADERS:
        return -errno.EOPNOTSUPP
    kind &= U32_MAX
    realtime, monotonic, tai = 0, 1, 2
    if kind not in (realtime, monotonic, tai) or (kind != realtime and not stamp):
        return -errno.EINVAL
    vm.context_values["tstamp"] = stamp
    vm.context_values["tstamp_type"] = kind
    return 0


@implements("skb_load_bytes_relative")
def skb_load_bytes_relative(vm: Machine, context: int, offset: int, target: int, size: int, header: int) -> int:
    frame = vm.frame_of(context)
    offset, size, header = offset & U32_MAX, size & U32_MAX, header & U32_MAX
    bases = {0: vm.skb.network_offset - _ETHERNET, 1: vm.skb.network_offset}
    start = bases.get(header)
    data = None
    if start is not None and offset <= _MAX_OFFSET:
        place = frame.data + start + offset
        if place >= 0 and place + size <= frame.data_end:
            data = bytes(frame.buffer[place : place + size])
    if data is None:
        vm.memory.clear(target, size)
    else:
        vm.memory.write(target, data)
    return -errno.EFAULT if data is None else 0


@implements("get_cgroup_classid")
def get_cgroup_classid(vm: Machine) -> int:
    """Nothing has put anything into a class."""
    return 0


@implements("get_route_realm")
@implements("skb_cgroup_classid")
def get_route_realm(vm: Machine, context: int) -> int:
    """Nothing has put the packet into a class or a realm."""
    vm.frame_of(context)
    return 0


# --- tunnel keys ------------------------------------------------------------------------------------------------------

_KEY_BYTES = 44  # struct bpf_tunnel_key
_KEY_SIZES = (44, 28, 24, 22)  # and what it was in older kernels
_TUNNEL_IPV6, _TUNNEL_FLAGS = 1, 16
_LABEL_MASK = 0xFFFFF


@implements("skb_set_tunnel_key")
def skb_set_tunnel_key(vm: Machine, context: int, key: int, size: int, flags: int) -> int:
    """Recorded, and what skb_get_tunnel_key sees afterwards: the other way round, as the receiver would."""
    vm.frame_of(context)
    size &= U32_MAX
    if flags & ~0x1F or size not in _KEY_SIZES:
        return -errno.EINVAL
    data = vm.memory.read(key, size).ljust(_KEY_BYTES, b"\0")
    label = int.from_bytes(data[24:28], vm.order)
    if data[22:24] != b"\0\0" or (label and not flags & _TUNNEL_IPV6):
        return -errno.EINVAL
    data = data[:24] + (label & _LABEL_MASK).to_bytes(4, vm.order) + data[28:]
    vm.objects.record("skb_set_tunnel_key", key=data, flags=flags)
    vm.skb.tunnel_key = (data[:4] + data[28:44] + data[20:28] + data[4:20], bool(flags & _TUNNEL_IPV6))
    return 0


@implements("skb_get_tunnel_key")
def skb_get_tunnel_key(vm: Machine, context: int, key: int, size: int, flags: int) -> int:
    vm.frame_of(context)
    size &= U32_MAX
    held = vm.skb.tunnel_key
    code = 0
    if held is None or flags & ~(_TUNNEL_IPV6 | _TUNNEL_FLAGS):
        code = -errno.EINVAL
    elif bool(flags & _TUNNEL_IPV6) != held[1]:
        code = -errno.EPROTO
    elif size not in _KEY_SIZES:
        code = -errno.EINVAL
    if code or held is None:
        vm.memory.clear(key, size)
        return code
    vm.memory.write(key, held[0][:size])
    return 0


@implements("skb_set_tunnel_opt")
def skb_set_tunnel_opt(vm: Machine, context: int, options: int, size: int) -> int:
    vm.frame_of(context)
    size &= U32_MAX
    if vm.skb.tunnel_key is None or size % 4:
        return -errno.EINVAL
    if size > 255:
        return -errno.ENOMEM
    vm.skb.tunnel_options = vm.memory.read(options, size)
    vm.objects.record("skb_set_tunnel_opt", options=vm.skb.tunnel_options)
    return 0


@implements("skb_get_tunnel_opt")
def skb_get_tunnel_opt(vm: Machine, context: int, options: int, size: int) -> int:
    vm.frame_of(context)
    size &= U32_MAX
    held = vm.skb.tunnel_options
    if vm.skb.tunnel_key is None or not held:
        vm.memory.clear(options, size)
        return -errno.ENOENT
    if size < len(held):
        vm.memory.clear(options, size)
        return -errno.ENOMEM
    vm.memory.clear(options, size)
    vm.memory.write(options, held)
    return len(held)


# --- IPsec ------------------------------------------------------------------------------------------------------------


@implements("skb_get_xfrm_state")
def skb_get_xfrm_state(vm: Machine, context: int, index: int, target: int, size: int, flags: int) -> int:
    """One of the states that packets came through, as the caller's table has them."""
    vm.frame_of(context)
    if vm.around.xfrm is None:
        raise missing("helper bpf_skb_get_xfrm_state without a table", "xfrm=[XfrmState(...), ...]")
    index, size = index & U32_MAX, size & U32_MAX
    if index >= len(vm.around.xfrm) or flags or size != _XFRM_BYTES:
        vm.memory.clear(target, size)
        return -errno.EINVAL
    vm.memory.write(target, vm.around.xfrm[index].to_bytes(vm.order))
    return 0
