"""Which map types, program types and helpers this kernel takes, found by trying each one. Slow: only on request.

An answer of None means that this process may not try, or that the kernel wants more than a probe can give it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

from ebpfkit.abi import uapi
from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.helpers import HELPERS
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.abi.model import MapTypeSpec, ProgTypeSpec
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.errors import KernelError, UsageError
from ebpfkit.kernel import bpf
from ebpfkit.kernel.cpus import possible_cpus

__all__ = ["available_helpers", "available_map_types", "available_program_types"]

_RETURN_0 = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
_LOG_SIZE = 64 * 1024
# These attach to something that must be named at load time: the probe has nothing to name.
_NEED_TARGET = frozenset({"tracing", "ext", "lsm", "struct_ops"})
_NEED_SYSTEM = frozenset({"sk_storage", "inode_storage", "task_storage", "cgrp_storage", "struct_ops"})


def available_map_types() -> dict[str, bool | None]:
    """For each map type whether the kernel makes one; None where it wants BTF or privileges that are missing."""
    return {name: _try_map(row) for name, row in MAP_TYPES.items() if row.id}


def _try_map(row: MapTypeSpec) -> bool | None:
    if row.name in _NEED_SYSTEM:
        return None
    key = row.key_size if row.key_size is not None else 4
    value = row.value_size if row.value_size is not None else 4
    entries, flags = 1, 0
    for flag in row.required_flags:
        flags |= getattr(uapi, flag)
    if row.name == "lpm_trie":
        key, flags = 8, flags | uapi.BPF_F_NO_PREALLOC
    elif row.name in ("ringbuf", "user_ringbuf"):
        entries = 4096
    elif row.name == "stack_trace":
        value = 8
    elif row.name in ("cgroup_storage", "percpu_cgroup_storage"):
        key, value, entries = 16, 8, 0
    elif row.name in ("queue", "stack", "bloom_filter"):
        key = 0
    elif row.name == "perf_event_array":
        entries = possible_cpus()
    inner = None
    try:
        if row.name in ("array_of_maps", "hash_of_maps"):
            inner = bpf.map_create(uapi.BPF_MAP_TYPE_ARRAY, 4, 4, 1)
        bpf.map_create(row.id, key, value, entries, flags=flags, inner_map=inner).close()
    except KernelError as error:
        return None if error.errno == errno.EPERM else False
    finally:
        if inner is not None:
            inner.close()
    return True


def available_program_types() -> dict[str, bool | None]:
    """For each program type whether the kernel loads one; None for those that need a target or missing privileges."""
    return {name: _try_program(row) for name, row in PROG_TYPES.items() if row.id}


def _attach_type(row: ProgTypeSpec) -> int:
    if not row.needs_attach_type or not row.attach_types:
        return 0
    return ATTACH_TYPES[row.attach_types[0]].id


def _try_program(row: ProgTypeSpec) -> bool | None:
    if row.name in _NEED_TARGET:
        return None
    result = bpf.prog_load(
        row.id, _RETURN_0, "GPL", expected_attach_type=_attach_type(row), log_level=1, log_size=_LOG_SIZE
    )
    if result.fd is not None:
        result.fd.close()
        return True
    if result.errno == errno.EPERM:
        return None
    return bool(result.log.strip())  # the verifier spoke, so the kernel knows the type


def available_helpers(prog_type: str, helpers: Iterable[int] | None = None) -> dict[str, bool]:
    """For each helper (by number; None: all that are known) whether programs of that type may call it here.

    Raises KernelError when this process may not load programs, UsageError for a type that cannot be tried.
    """
    row = PROG_TYPES.get(prog_type)
    if row is None or row.name in _NEED_TARGET:
        raise UsageError(f"helpers of program type {prog_type!r} cannot be tried")
    found = {}
    for number in HELPERS if helpers is None else helpers:
        code = struct.pack("=BBhi", 0x85, 0, 0, number) + _RETURN_0
        result = bpf.prog_load(
            row.id, code, "GPL", expected_attach_type=_attach_type(row), log_level=1, log_size=_LOG_SIZE
        )
        if result.fd is not None:
            result.fd.close()
        elif result.errno == errno.EPERM:
            raise KernelError("this process may not load programs, so helpers cannot be tried", errno=errno.EPERM)
        name = HELPERS[number].name if number in HELPERS else str(number)
        found[name] = result.fd is not None or not _is_refusal(result.log)
    return found


def _is_refusal(log: str) -> bool:
    """Whether the log says that the call itself is not there, rather than that its arguments are wrong."""
    return any(words in log for words in ("invalid func ", "unknown func ", "cannot use helper", "not supported by"))
