"""The language surface: integer and network-order types, structures, packets, maps, helpers, `@xdp`.

Values behave in plain Python as they do in the kernel, so a program runs here as it is. Compiling is `compiler`'s,
protocol headers are `net`'s, bytes of maps are `maps`'s.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "addresses": ("IPv4Addr", "IPv6Addr", "MAC"),
    "arrays": ("array",),
    "decorators": ("xdp",),
    "locks": ("SpinLock",),
    "maps": ("Array", "Hash", "LpmTrie", "LruHash", "LruPerCpuHash", "MapFacade", "PerCpuArray", "PerCpuHash"),
    "packet": ("Packet",),
    "program": ("Program",),
    "queues": ("BloomFilter", "Queue", "Stack"),
    "special_maps": ("CpuMap", "DevMap", "DevMapHash", "RingBuf", "XskMap"),
    "structs": ("Header", "Struct", "bits", "offsetof", "sizeof"),
    "typeinfo": ("HeaderLength",),
    "types": (
        "be16", "be32", "be64", "bool_", "s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64",
    ),
    "variables": ("Var", "config", "var"),
    "verdicts": ("XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_REDIRECT", "XDP_TX", "XdpAction"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME_OF)
