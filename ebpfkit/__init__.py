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
    from ebpfkit.dsl.addresses import MAC, IPv4Addr, IPv6Addr
    from ebpfkit.dsl.arrays import array
    from ebpfkit.dsl.decorators import xdp
    from ebpfkit.dsl.locks import SpinLock
    from ebpfkit.dsl.maps import Array, Hash, LpmTrie, LruHash, LruPerCpuHash, PerCpuArray, PerCpuHash
    from ebpfkit.dsl.packet import Packet
    from ebpfkit.dsl.program import Program
    from ebpfkit.dsl.queues import BloomFilter, Queue, Stack
    from ebpfkit.dsl.special_maps import CpuMap, DevMap, DevMapHash, RingBuf, XskMap
    from ebpfkit.dsl.structs import Header, Struct, bits, offsetof, sizeof
    from ebpfkit.dsl.typeinfo import HeaderLength
    from ebpfkit.dsl.types import be16, be32, be64, bool_, s8, s16, s32, s64, u8, u16, u32, u64
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
    "MAC",
    "XDP_ABORTED",
    "XDP_DROP",
    "XDP_PASS",
    "XDP_REDIRECT",
    "XDP_TX",
    "Array",
    "AsmError",
    "AttachError",
    "BloomFilter",
    "CompileError",
    "CpuMap",
    "DevMap",
    "DevMapHash",
    "EbpfError",
    "Hash",
    "Header",
    "HeaderLength",
    "IPv4Addr",
    "IPv6Addr",
    "KernelError",
    "Link",
    "LoadError",
    "Loaded",
    "LpmTrie",
    "LruHash",
    "LruPerCpuHash",
    "MachineFault",
    "MapError",
    "MapKeyError",
    "NotSupported",
    "ObjectError",
    "Packet",
    "PcapError",
    "PerCpuArray",
    "PerCpuHash",
    "Program",
    "Queue",
    "Report",
    "Result",
    "RingBuf",
    "SpinLock",
    "Stack",
    "Struct",
    "UsageError",
    "Var",
    "VerifierError",
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
    "config",
    "helpers",
    "load",
    "offsetof",
    "run",
    "s8",
    "s16",
    "s32",
    "s64",
    "sizeof",
    "u8",
    "u16",
    "u32",
    "u64",
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
    if name == "helpers":
        return import_module("ebpfkit.dsl.helpers")
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
