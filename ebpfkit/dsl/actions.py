"""What programs other than XDP's answer with: the verdicts of traffic control, and of control groups and sockets."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from ebpfkit.dsl.typeinfo import IntType

__all__ = [
    "SK_DROP", "SK_PASS", "TC_ACT_OK", "TC_ACT_PIPE", "TC_ACT_QUEUED", "TC_ACT_RECLASSIFY", "TC_ACT_REDIRECT",
    "TC_ACT_REPEAT", "TC_ACT_SHOT", "TC_ACT_STOLEN", "TC_ACT_TRAP", "TC_ACT_UNSPEC", "SkAction", "TcAction",
]  # fmt: skip


class TcAction(IntEnum):
    """What a traffic control program says shall become of the packet."""

    TC_ACT_UNSPEC = -1
    TC_ACT_OK = 0
    TC_ACT_RECLASSIFY = 1
    TC_ACT_SHOT = 2
    TC_ACT_PIPE = 3
    TC_ACT_STOLEN = 4
    TC_ACT_QUEUED = 5
    TC_ACT_REPEAT = 6
    TC_ACT_REDIRECT = 7
    TC_ACT_TRAP = 8


class SkAction(IntEnum):
    """What a program of a control group or a socket says shall become of the packet."""

    SK_DROP = 0
    SK_PASS = 1


def _number(enum: type[IntEnum], signed: bool) -> IntType:
    members = tuple((member.name, member.value) for member in enum)
    return IntType(enum.__name__, 32, signed=signed, enum=members)


TcAction.__ebpf_type__ = _number(TcAction, signed=True)  # type: ignore[attr-defined]  # as for XdpAction
SkAction.__ebpf_type__ = _number(SkAction, signed=False)  # type: ignore[attr-defined]

TC_ACT_UNSPEC: Final = TcAction.TC_ACT_UNSPEC
TC_ACT_OK: Final = TcAction.TC_ACT_OK
TC_ACT_RECLASSIFY: Final = TcAction.TC_ACT_RECLASSIFY
TC_ACT_SHOT: Final = TcAction.TC_ACT_SHOT
TC_ACT_PIPE: Final = TcAction.TC_ACT_PIPE
TC_ACT_STOLEN: Final = TcAction.TC_ACT_STOLEN
TC_ACT_QUEUED: Final = TcAction.TC_ACT_QUEUED
TC_ACT_REPEAT: Final = TcAction.TC_ACT_REPEAT
TC_ACT_REDIRECT: Final = TcAction.TC_ACT_REDIRECT
TC_ACT_TRAP: Final = TcAction.TC_ACT_TRAP
SK_DROP: Final = SkAction.SK_DROP
SK_PASS: Final = SkAction.SK_PASS
