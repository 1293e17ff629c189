"""The language surface: integer and network-order types, structures, packets, maps, helpers, `@xdp`.

Values behave in plain Python as they do in the kernel, so a program runs here as it is. Compiling is `compiler`'s,
protocol headers are `net`'s, bytes of maps are `maps`'s.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "addresses": ("IPv4Addr", "IPv6Addr", "MAC"),
    "actions": (
        "SK_DROP", "SK_PASS", "TC_ACT_OK", "TC_ACT_PIPE", "TC_ACT_QUEUED", "TC_ACT_RECLASSIFY", "TC_ACT_REDIRECT",
        "TC_ACT_REPEAT", "TC_ACT_SHOT", "TC_ACT_STOLEN", "TC_ACT_TRAP", "TC_ACT_UNSPEC", "SkAction", "TcAction",
    ),
    "arrays": ("array",),
    "decorators": (
        "cgroup_skb", "fentry", "fexit", "kprobe", "kretprobe", "perf_event", "raw_tracepoint", "socket_filter", "tc",
        "tp_btf", "tracepoint", "xdp",
    ),
    "enums": ("enum",),
    "event_arrays": ("PerfEvent", "PerfEventArray"),
    "callbacks": ("loop",),
    "functions": ("global_func", "noinline"),
    "iterators": ("iter_num",),
    "kernel_structs": ("Address", "Kernel"),
    "kfuncs": ("Dynptr", "kfunc"),
    "kptrs": ("Kptr", "drop", "new"),
    "locks": ("SpinLock",),
    "maps": ("BPF_ANY", "BPF_EXIST", "BPF_NOEXIST", "Array", "Hash", "LruHash", "MapFacade"),
    "packet": ("Packet",),
    "maps_of_maps": ("ArrayOfMaps", "HashOfMaps"),
    "percpu_maps": ("LruPerCpuHash", "PerCpuArray", "PerCpuHash"),
    "prog_arrays": ("ProgArray",),
    "program": ("Program", "TracingProgram"),
    "queues": ("BloomFilter", "Queue", "Stack"),
    "replacements": ("freplace",),
    "sockets": ("Socket",),
    "socket_maps": ("SkStorage", "SockHash", "SockMap"),
    "special_maps": ("CpuMap", "DevMap", "DevMapHash", "RingBuf", "XskMap"),
    "skbuff": ("SkBuff",),
    "struct_layout": ("PaddingWarning",),
    "structs": ("Header", "Struct", "bits", "offsetof", "sizeof"),
    "timers": ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "CLOCK_REALTIME", "TIMER_ABSOLUTE", "Timer"),
    "tracing": ("trace",),
    "trace_context": ("Context", "TraceEvent"),
    "tries": ("LpmTrie",),
    "unions": ("Union",),
    "user_rings": ("UserRingBuf",),
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
