"""What the helpers of socket buffers mean in plain Python: bytes of the packet, its checksums, its length.

Those that need the network's state (routes, tunnels, sockets) have no meaning here; `helpers` refuses them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import Run
from ebpfkit.dsl.skbuff import SkBuff

__all__ = ["SKB_MEANINGS"]

EFAULT, EINVAL = -14, -22
_FIELD_SIZES = (2, 4)
_PSEUDO_HEADER, _MARK_MANGLED_0 = 0x10, 0x20
_LARGEST = 0xFFFF


def _outside(skb: SkBuff, offset: int, size: int) -> bool:
    return offset < 0 or offset > _LARGEST or offset + size > len(skb)


def _load_bytes(run: Run, skb: SkBuff, offset: int, target: Any, size: int) -> int:
    region: Region = target._region
    if _outside(skb, int(offset), int(size)):
        region.write(target._offset, bytes(int(size)))
        return EFAULT
    region.write(target._offset, skb._region.read(int(offset), int(size)))
    return 0


def _store_bytes(run: Run, skb: SkBuff, offset: int, source: Any, size: int, flags: int) -> int:
    if flags & ~3:
        return EINVAL
    if _outside(skb, int(offset), int(size)):
        return EFAULT
    data = skb._data
    data[int(offset) : int(offset) + int(size)] = bytes(source)[: int(size)]
    skb._moved("skb_store_bytes()", data)
    return 0


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _replace(run: Run, skb: SkBuff, offset: int, before: int, after: int, flags: int, mark: bool) -> int:
    """Change a checksum of 16 bits in the packet by a field of 2 or 4 bytes, or (size 0) by a difference."""
    size, at = flags & 0xF, int(offset)
    if at & 1 or at > _LARGEST or (size not in _FIELD_SIZES and size != 0) or (size == 0 and before):
        return EINVAL if at <= _LARGEST and not at & 1 else EFAULT
    if _outside(skb, at, 2):
        return EFAULT
    data = skb._data
    current = int.from_bytes(data[at : at + 2], "little")
    if not (mark and flags & _MARK_MANGLED_0 and current == 0):
        words = after & 0xFFFF_FFFF if size == 0 else _difference(before, after, size)
        total = _fold((~current & 0xFFFF) + _fold(words)) ^ 0xFFFF
        if mark and flags & _MARK_MANGLED_0 and total == 0:
            total = 0xFFFF
        data[at : at + 2] = total.to_bytes(2, "little")
    skb._moved("a change of a checksum", data)
    return 0


def _difference(before: int, after: int, size: int) -> int:
    mask = (1 << size * 8) - 1
    return _fold(~before & mask) + _fold(after & mask)


def _l3(run: Run, skb: SkBuff, offset: int, before: int, after: int, flags: int) -> int:
    return EINVAL if flags & ~0xF else _replace(run, skb, offset, int(before), int(after), int(flags), False)


def _l4(run: Run, skb: SkBuff, offset: int, before: int, after: int, flags: int) -> int:
    return _replace(run, skb, offset, int(before), int(after), int(flags), True)


def _pull(run: Run, skb: SkBuff, size: int) -> int:
    if size > len(skb):
        return -12
    skb._moved("skb_pull_data()", skb._data)
    return 0


def _needs_skb(name: str, meaning: Callable[..., int]) -> Callable[..., int]:
    def checked(run: Run, skb: object, *rest: Any) -> int:
        if not isinstance(skb, SkBuff):
            refuse("bad-type", f"{name}() takes the packet")
        return meaning(run, skb, *rest)

    return checked


SKB_MEANINGS: dict[str, Callable[..., int]] = {
    "skb_load_bytes": _needs_skb("skb_load_bytes", _load_bytes),
    "skb_store_bytes": _needs_skb("skb_store_bytes", _store_bytes),
    "l3_csum_replace": _needs_skb("l3_csum_replace", _l3),
    "l4_csum_replace": _needs_skb("l4_csum_replace", _l4),
    "skb_pull_data": _needs_skb("skb_pull_data", _pull),
}
"""By the helper's name: called with the run and the helper's arguments."""
