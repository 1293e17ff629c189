"""The verdicts of XDP."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.typeinfo import IntType
from ebpfkit.dsl.types import u32

__all__ = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_REDIRECT", "XDP_TX", "XdpAction"]


class XdpAction(IntEnum):
    """What an XDP program says shall become of the packet."""

    XDP_ABORTED = 0
    XDP_DROP = 1
    XDP_PASS = 2
    XDP_TX = 3
    XDP_REDIRECT = 4

    if not TYPE_CHECKING:

        @classmethod
        def __ebpf_load__(cls, region, offset):
            number = int.from_bytes(region.read(offset, 4), sys.byteorder)
            if number not in cls._value2member_map_:
                refuse("bad-verdict", f"{number} is no verdict of XDP", "store XDP_PASS or another XdpAction")
            return cls(number)

        @classmethod
        def __ebpf_store__(cls, region, offset, value):
            region.write(offset, u32.accept(value).to_bytes(4, sys.byteorder))


XdpAction.__ebpf_type__ = IntType(  # type: ignore[attr-defined]  # an enum's body may only hold members
    "XdpAction", 32, enum=tuple((member.name, member.value) for member in XdpAction)
)

XDP_ABORTED: Final = XdpAction.XDP_ABORTED
XDP_DROP: Final = XdpAction.XDP_DROP
XDP_PASS: Final = XdpAction.XDP_PASS
XDP_TX: Final = XdpAction.XDP_TX
XDP_REDIRECT: Final = XdpAction.XDP_REDIRECT
