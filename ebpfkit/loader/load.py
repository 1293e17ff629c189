"""One map, one BTF blob, one program into the kernel: bytes, flags, logs, and errors that say what to do.

Which maps and programs, in which order, is `collection`'s. A rejection by the kernel's verifier becomes a
`VerifierError` in `rejection`.
"""

from __future__ import annotations

import contextlib
import errno
import struct
import sys
from collections.abc import Mapping
from functools import cache

from ebpfkit._bits import U32_MAX, round_up
from ebpfkit.abi import uapi
from ebpfkit.asm.codec import encode
from ebpfkit.asm.insn import Instruction, KfuncRef, MapRef, MapValueRef, VarRef
from ebpfkit.btf.types import Btf
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.errors import KernelError, LoadError, NotSupported, UsageError
from ebpfkit.host.errnos import ENOTSUPP, describe_errno, explain_map_create, explain_permission, explain_program_load
from ebpfkit.kernel import bpf
from ebpfkit.kernel.cpus import possible_cpus
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.version import kernel_version
from ebpfkit.loader.btf import older_btf, plain_types
from ebpfkit.loader.externs import Externs, KernelSymbol
from ebpfkit.loader.rejection import kernel_rejection
from ebpfkit.loader.targets import Target

__all__ = ["attach_type_number", "create_map", "load_btf", "load_program", "map_type_number", "program_type_number"]

LOG_START = 1024 * 1024
LOG_LIMIT = 64 * 1024 * 1024
_COUNTED_BY_CGROUP_SINCE = (5, 11)
_SLOT = 8
_MISSING_KFUNC = 2_002_000_000  # where libbpf's numbers for calls of missing weak functions begin

# The kernel refuses BTF on these: their keys or values are the kernel's own objects.
_MAPS_WITHOUT_BTF = frozenset(
    {
        "perf_event_array", "cgroup_array", "stack_trace", "array_of_maps", "hash_of_maps", "devmap", "devmap_hash",
        "cpumap", "xskmap", "sockmap", "sockhash", "queue", "stack", "ringbuf", "user_ringbuf", "arena",
    }
)  # fmt: skip


def map_type_number(name: str) -> int:
    """The kernel's number of a map type ("hash" is BPF_MAP_TYPE_HASH)."""
    return _number("bpf_map_type", "BPF_MAP_TYPE_", name, "map type")


def program_type_number(name: str) -> int:
    """The kernel's number of a program type ("xdp" is BPF_PROG_TYPE_XDP)."""
    return _number("bpf_prog_type", "BPF_PROG_TYPE_", name, "program type")


def attach_type_number(name: str) -> int:
    """The kernel's number of an attach type ("xdp_devmap" is BPF_XDP_DEVMAP)."""
    return _number("bpf_attach_type", "BPF_", name, "attach type")


def _number(enum: str, prefix: str, name: str, what: str) -> int:
    number = uapi.ENUMS[enum].get(prefix + name.upper())
    if number is None:
        raise UsageError(f"{name!r} is no {what} of the kernel")
    return number


def create_map(spec: MapSpec, *, btf: Fd | None = None, inner: Fd | None = None) -> Fd:
    """Create the map as the spec says, empty. `btf` gives the types of key and value, `inner` the inner map's template.

    As libbpf does: a ring buffer is rounded up to a power of two of pages, a perf event array without size gets one
    slot per possible CPU, `.rodata` and its like are read-only for programs, and types that the kernel refuses are left
    out. Raises LoadError.
    """
    _check_ranges(spec)
    _lift_memory_limit()
    typed = btf is not None and spec.type not in _MAPS_WITHOUT_BTF and bool(spec.btf_value_type)
    try:
        try:
            return _create_map(spec, inner, btf if typed else None)
        except KernelError as error:
            if not typed or error.errno not in (errno.EINVAL, ENOTSUPP):
                raise
            # A map without types works the same, unless a program needs them, and then its verifier says so.
            return _create_map(spec, inner, None)
    except KernelError as error:
        number = error.errno or 0
        raise LoadError(explain_map_create(spec, number), errno=number, span=spec.span) from error


def _create_map(spec: MapSpec, inner: Fd | None, btf: Fd | None) -> Fd:
    flags = spec.flags
    if spec.numa_node is not None:
        flags |= uapi.BPF_F_NUMA_NODE
    if spec.frozen:
        flags |= uapi.BPF_F_RDONLY_PROG
    return bpf.map_create(
        map_type_number(spec.type),
        spec.key_size,
        spec.value_size,
        effective_max_entries(spec),
        flags=flags,
        name=spec.name,
        inner_map=inner,
        numa_node=spec.numa_node or 0,
        btf=btf,
        btf_key_type=spec.btf_key_type if btf else 0,
        btf_value_type=spec.btf_value_type if btf else 0,
        map_extra=spec.map_extra,
    )


def _check_ranges(spec: MapSpec) -> None:
    """The kernel's fields have 32 bits (map_extra 64): a larger number must not lose its upper part."""
    fields = (
        "key_size",
        "value_size",
        "max_entries",
        "flags",
        "btf_key_type",
        "btf_value_type",
        "numa_node",
        "map_extra",
    )
    for field in fields:
        value, bits = getattr(spec, field) or 0, 64 if field == "map_extra" else 32
        if not 0 <= value < 1 << bits:
            raise LoadError(
                f"cannot create map {spec.name!r}: {field} {value} does not fit {bits} bits", span=spec.span
            )


def effective_max_entries(spec: MapSpec) -> int:
    """The max_entries the kernel gets, where the spec leaves it to the loader or gives a size it would refuse."""
    if spec.type == "perf_event_array" and not spec.max_entries:
        return possible_cpus()
    if spec.type in ("ringbuf", "user_ringbuf") and spec.max_entries:
        page = 4096 if sys.platform != "linux" else _page_size()
        pages = round_up(spec.max_entries, page) // page
        return page << (pages - 1).bit_length()
    return spec.max_entries


@cache
def _lift_memory_limit() -> None:
    """Before Linux 5.11 maps and programs count against RLIMIT_MEMLOCK, whose default is far too small for them."""
    if kernel_version() < _COUNTED_BY_CGROUP_SINCE:
        import resource

        # Without the right to do so the refusal that follows names the limit.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _page_size() -> int:
    import mmap

    return mmap.PAGESIZE


def load_btf(btf: Btf) -> Fd:
    """BPF_BTF_LOAD, in an older form for an older kernel, with the kernel's words when it refuses. Raises LoadError."""
    data = btf.to_bytes()
    result = bpf.btf_load(data)
    if result.fd is not None:
        return result.fd
    number = result.errno
    if number in (errno.EINVAL, ENOTSUPP) and (mended := older_btf(plain_types(btf), kernel_version())) is not btf:
        return load_btf(mended)
    if number == 1:
        missing = explain_permission(("CAP_BPF",), "not permitted by this system's policy")
        raise LoadError(f"cannot load the program's BTF: {missing}", errno=number)
    size = LOG_START
    while True:
        result = bpf.btf_load(data, log_level=1, log_size=size)
        if result.fd is not None:
            return result.fd
        if result.errno != errno.ENOSPC or size >= LOG_LIMIT:
            break
        size = min(max(result.log_needed + 1, size * 4), LOG_LIMIT)
    last = next((line for line in reversed(result.log.splitlines()) if line.strip()), "")
    reason = last.strip() or describe_errno(result.errno)
    raise LoadError(
        f"the kernel refuses the program's BTF: {reason}; build without debug information to leave it out", errno=number
    )


def load_program(
    spec: ProgramSpec,
    maps: Mapping[str, bpf.HasFileno],
    *,
    btf: bpf.HasFileno | None = None,
    externs: Externs | None = None,
    target: Target | None = None,
    ifindex: int = 0,
    log_level: int = 0,
) -> tuple[Fd, str]:
    """Load one program whose map references resolve through `maps`; returns its descriptor and the verifier's log.

    `externs` is what it borrows from the kernel, `target` what it attaches to, where its type fixes that at load.

    The first try asks for no log (unless `log_level` does), which is what costs the least; a refusal is repeated with a
    log that grows until it is whole, at most 64 MiB. Raises VerifierError (the verifier's refusal) or LoadError.
    """
    if "\0" in spec.license:
        raise UsageError(f"the licence of program {spec.name!r} contains a NUL")
    _lift_memory_limit()
    externs = externs or Externs()
    loading = _Loading(spec, encode_resolved(spec, maps, externs), btf, ifindex, externs.fd_array(), target)
    if not log_level:
        result = loading.attempt(0, 0)
        if result.fd is not None:
            return result.fd, ""
    first_errno = 0 if log_level else result.errno
    # A walk that ran into the limit of a million instructions fills any log: repeating it costs seconds.
    result = loading.with_whole_log(log_level or 1, LOG_LIMIT if first_errno == errno.E2BIG else LOG_START)
    if result.fd is not None:
        return result.fd, result.log
    number = result.errno if result.errno != errno.ENOSPC else first_errno or result.errno
    rejection = kernel_rejection(spec, result.log, number) if result.log.strip() else None
    if rejection is not None:
        raise rejection
    raise LoadError(explain_program_load(spec, number), errno=number)


class _Loading:
    """One program's load, to be tried several times."""

    def __init__(
        self,
        spec: ProgramSpec,
        code: bytes,
        btf: bpf.HasFileno | None,
        ifindex: int,
        fd_array: bytes = b"",
        target: Target | None = None,
    ) -> None:
        self._fd_array = fd_array
        self._target = target
        self._spec = spec
        self._code = code
        self._btf = btf
        self._ifindex = ifindex
        typed = btf is not None and bool(spec.func_infos) and all(info.type_id for info in spec.func_infos)
        self._func_info = b"".join(struct.pack("=II", f.slot, f.type_id) for f in spec.func_infos) if typed else b""
        self._line_info = b"".join(
            struct.pack("=IIII", i.slot, i.file_name_off, i.line_off, i.line << 10 | min(i.column, 0x3FF))
            for i in spec.line_infos
        )

    def attempt(self, log_level: int, log_size: int) -> bpf.LoadResult:
        spec, target = self._spec, self._target
        attach_type = attach_type_number(spec.attach_type) if spec.attach_type else 0
        if target is not None and target.index is not None:
            attach_type = target.index
        return bpf.prog_load(
            program_type_number(spec.prog_type),
            self._code,
            spec.license,
            name=spec.name,
            flags=spec.flags,
            expected_attach_type=attach_type,
            attach_btf_id=target.btf_id if target else 0,
            attach_prog=target.fd if target else None,
            ifindex=self._ifindex,
            kernel_version=spec.kernel_version,
            btf=self._btf,
            func_info=self._func_info,
            line_info=self._line_info,
            fd_array=self._fd_array,
            log_level=log_level,
            log_size=log_size,
        )

    def with_whole_log(self, log_level: int, size: int) -> bpf.LoadResult:
        """Repeat with a larger log until nothing of it is cut off (the kernel says ENOSPC when it had to)."""
        while True:
            result = self.attempt(log_level, size)
            if result.errno != errno.ENOSPC or size >= LOG_LIMIT:
                return result
            size = min(result.log_needed + 1 if result.log_needed > size else size * 4, LOG_LIMIT)


def encode_resolved(spec: ProgramSpec, maps: Mapping[str, bpf.HasFileno], externs: Externs) -> bytes:
    """The program's bytes with descriptors and BTF ids where the spec has names."""
    code = bytearray(encode(spec.instructions, big_endian=sys.byteorder == "big"))
    slot = 0
    for insn in spec.instructions:
        ref = insn.ref
        if ref is not None:
            at = slot * _SLOT
            if isinstance(ref, MapRef | MapValueRef):
                if ref.name not in maps:
                    raise UsageError(
                        f"program {spec.name!r} uses map {ref.name!r}, which is not there",
                    )
                struct.pack_into("=i", code, at + 4, maps[ref.name].fileno())
                if isinstance(ref, MapValueRef):
                    if not 0 <= ref.offset <= U32_MAX:
                        raise UsageError(f"offset {ref.offset} into map {ref.name!r} does not fit 32 bits")
                    struct.pack_into("=I", code, at + 4 + _SLOT, ref.offset)
            elif isinstance(ref, KfuncRef):
                _put_kfunc(code, at, insn, ref, externs)
            elif isinstance(ref, VarRef):
                _put_symbol(code, at, insn, ref, externs)
        slot += insn.slots
    return bytes(code)


def _put_kfunc(code: bytearray, at: int, insn: Instruction, ref: KfuncRef, externs: Externs) -> None:
    """The function's type id, and for a module's function the place of its types in `fd_array` as the offset."""
    symbol = KernelSymbol(ref.btf_id) if ref.btf_id else externs.functions.get(ref.name)
    if symbol is not None:
        struct.pack_into("=hi", code, at + 2, externs.place(symbol.module), symbol.btf_id)
        return
    if not ref.weak:
        raise NotSupported(f"kernel function {ref.name}", why="this kernel does not have it", span=insn.span)
    # A call of no known helper: the kernel refuses it unless the program never gets there.
    code[at : at + _SLOT] = struct.pack("=BBhi", code[at], 0, 0, _MISSING_KFUNC)


def _put_symbol(code: bytearray, at: int, insn: Instruction, ref: VarRef, externs: Externs) -> None:
    """A typed symbol keeps the pseudo source and gets its type id (and module); everything else becomes a number."""
    number = externs.addresses.get(ref.name, 0) if ref.kind == "address" else 0
    found = (externs.functions if ref.kind == "func" else externs.variables).get(ref.name)
    symbol = KernelSymbol(ref.btf_id) if ref.btf_id else found
    if ref.kind != "address" and symbol is not None:
        struct.pack_into("=i", code, at + 4, symbol.btf_id)
        if symbol.module:
            struct.pack_into("=i", code, at + 4 + _SLOT, externs.modules[symbol.module].fileno())
        return
    if not number and not ref.weak:
        raise NotSupported(f"kernel symbol {ref.name}", why="this kernel does not have it", span=insn.span)
    register = int(insn.dst) if sys.byteorder == "little" else int(insn.dst) << 4
    code[at + 1] = register
    struct.pack_into("=I", code, at + 4, number & 0xFFFF_FFFF)
    struct.pack_into("=I", code, at + 4 + _SLOT, number >> 32)
