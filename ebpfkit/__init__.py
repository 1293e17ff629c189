"""ebpfkit: an eBPF toolchain in pure Python. A Python function becomes an attached XDP program.

    import ebpfkit as bpf

This module re-exports the language and the pipeline's verbs, each imported when it is first used. Rooms are reached as
`ebpfkit.vm`, `ebpfkit.net` and so on. Nothing is defined here.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; importing typing would take longer than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from ebpfkit.dsl import helpers as helpers
    from ebpfkit.dsl import kfuncs as kfuncs
    from ebpfkit.dsl.actions import (
        SK_DROP,
        SK_PASS,
        TC_ACT_OK,
        TC_ACT_PIPE,
        TC_ACT_QUEUED,
        TC_ACT_RECLASSIFY,
        TC_ACT_REDIRECT,
        TC_ACT_REPEAT,
        TC_ACT_SHOT,
        TC_ACT_STOLEN,
        TC_ACT_TRAP,
        TC_ACT_UNSPEC,
        SkAction,
        TcAction,
    )
    from ebpfkit.dsl.addresses import MAC, IPv4Addr, IPv6Addr
    from ebpfkit.dsl.arrays import array
    from ebpfkit.dsl.callbacks import loop
    from ebpfkit.dsl.decorators import (
        cgroup_skb,
        fentry,
        fexit,
        kprobe,
        kretprobe,
        perf_event,
        raw_tracepoint,
        socket_filter,
        tc,
        tp_btf,
        tracepoint,
        xdp,
    )
    from ebpfkit.dsl.enums import enum
    from ebpfkit.dsl.event_arrays import PerfEvent, PerfEventArray
    from ebpfkit.dsl.functions import global_func, noinline
    from ebpfkit.dsl.iterators import iter_num
    from ebpfkit.dsl.kernel_structs import Address, Kernel
    from ebpfkit.dsl.kfuncs import Dynptr, kfunc
    from ebpfkit.dsl.kptrs import Kptr, drop, new
    from ebpfkit.dsl.locks import SpinLock
    from ebpfkit.dsl.maps import BPF_ANY, BPF_EXIST, BPF_NOEXIST, Array, Hash, LruHash
    from ebpfkit.dsl.maps_of_maps import ArrayOfMaps, HashOfMaps
    from ebpfkit.dsl.packet import Packet
    from ebpfkit.dsl.percpu_maps import LruPerCpuHash, PerCpuArray, PerCpuHash
    from ebpfkit.dsl.prog_arrays import ProgArray
    from ebpfkit.dsl.program import Program, TracingProgram
    from ebpfkit.dsl.queues import BloomFilter, Queue, Stack
    from ebpfkit.dsl.replacements import freplace
    from ebpfkit.dsl.skbuff import SkBuff
    from ebpfkit.dsl.socket_maps import SkStorage, SockHash, SockMap
    from ebpfkit.dsl.sockets import Socket
    from ebpfkit.dsl.special_maps import CpuMap, DevMap, DevMapHash, RingBuf, XskMap
    from ebpfkit.dsl.struct_layout import PaddingWarning
    from ebpfkit.dsl.structs import Header, Struct, bits, offsetof, sizeof
    from ebpfkit.dsl.timers import CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, TIMER_ABSOLUTE, Timer
    from ebpfkit.dsl.trace_context import Context, TraceEvent
    from ebpfkit.dsl.tracing import trace
    from ebpfkit.dsl.tries import LpmTrie
    from ebpfkit.dsl.typeinfo import HeaderLength
    from ebpfkit.dsl.types import be16, be32, be64, bool_, s8, s16, s32, s64, u8, u16, u32, u64
    from ebpfkit.dsl.unions import Union
    from ebpfkit.dsl.user_rings import UserRingBuf
    from ebpfkit.dsl.variables import Var, config, var
    from ebpfkit.dsl.verdicts import XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, XdpAction
    from ebpfkit.errors import (
        AsmError,
        AttachError,
        CompileError,
        EbpfError,
        KernelError,
        LoadError,
        MachineFault,
        MapError,
        MapKeyError,
        NotSupported,
        ObjectError,
        PcapError,
        UsageError,
        VerifierError,
        XskError,
    )
    from ebpfkit.pipeline import Link, Loaded, Report, Result, attach, build, load, run, verify

__all__ = [
    "BPF_ANY",
    "BPF_EXIST",
    "BPF_NOEXIST",
    "Address",
    "Array",
    "ArrayOfMaps",
    "AsmError",
    "AttachError",
    "BloomFilter",
    "CLOCK_BOOTTIME",
    "CLOCK_MONOTONIC",
    "CLOCK_REALTIME",
    "CompileError",
    "Context",
    "CpuMap",
    "DevMap",
    "DevMapHash",
    "Dynptr",
    "EbpfError",
    "Hash",
    "HashOfMaps",
    "Header",
    "HeaderLength",
    "IPv4Addr",
    "IPv6Addr",
    "Kernel",
    "KernelError",
    "Kptr",
    "Link",
    "LoadError",
    "Loaded",
    "LpmTrie",
    "LruHash",
    "LruPerCpuHash",
    "MAC",
    "MachineFault",
    "MapError",
    "MapKeyError",
    "NotSupported",
    "ObjectError",
    "PaddingWarning",
    "Packet",
    "PerfEvent",
    "PerfEventArray",
    "PcapError",
    "PerCpuArray",
    "PerCpuHash",
    "ProgArray",
    "Program",
    "Queue",
    "Report",
    "Result",
    "RingBuf",
    "SK_DROP",
    "SK_PASS",
    "SkAction",
    "SkBuff",
    "SkStorage",
    "SockHash",
    "SockMap",
    "Socket",
    "SpinLock",
    "Stack",
    "Struct",
    "TC_ACT_OK",
    "TC_ACT_PIPE",
    "TC_ACT_QUEUED",
    "TC_ACT_RECLASSIFY",
    "TC_ACT_REDIRECT",
    "TC_ACT_REPEAT",
    "TC_ACT_SHOT",
    "TC_ACT_STOLEN",
    "TC_ACT_TRAP",
    "TC_ACT_UNSPEC",
    "TIMER_ABSOLUTE",
    "TcAction",
    "Timer",
    "TraceEvent",
    "TracingProgram",
    "Union",
    "UsageError",
    "UserRingBuf",
    "Var",
    "VerifierError",
    "XDP_ABORTED",
    "XDP_DROP",
    "XDP_PASS",
    "XDP_REDIRECT",
    "XDP_TX",
    "XdpAction",
    "XskError",
    "XskMap",
    "array",
    "attach",
    "be16",
    "be32",
    "be64",
    "bits",
    "bool_",
    "build",
    "cgroup_skb",
    "config",
    "enum",
    "fentry",
    "fexit",
    "drop",
    "freplace",
    "global_func",
    "helpers",
    "kprobe",
    "kretprobe",
    "iter_num",
    "kfunc",
    "kfuncs",
    "load",
    "loop",
    "new",
    "noinline",
    "offsetof",
    "perf_event",
    "raw_tracepoint",
    "run",
    "s16",
    "s32",
    "s64",
    "s8",
    "sizeof",
    "socket_filter",
    "tc",
    "tp_btf",
    "trace",
    "tracepoint",
    "u16",
    "u32",
    "u64",
    "u8",
    "var",
    "verify",
    "xdp",
]

_PIPELINE = frozenset({"Link", "Loaded", "Report", "Result", "attach", "build", "load", "run", "verify"})
_ROOMS = frozenset(
    {
        "abi", "asm", "btf", "cli", "compiler", "diag", "dsl", "elf", "errors", "host", "kernel", "llvm", "loader",
        "maps", "net", "pipeline", "span", "testing", "verifier", "vm", "xsk",
    }
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in ("helpers", "kfuncs"):
        return import_module(f"ebpfkit.dsl.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _PIPELINE:
        home = import_module("ebpfkit.pipeline")
    else:
        errors = import_module("ebpfkit.errors")
        home = errors if name in errors.__all__ else import_module("ebpfkit.dsl")
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, *(name for name in globals() if name.startswith("__"))})
