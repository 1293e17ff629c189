"""bpf(2): one function per command, typed, without policy.

Sizes are bytes, descriptors are anything with `fileno()`. A refusal is a `KernelError` that names the command and
carries the errno; what it means for a map, a program or a device is said further up. Layouts live in `attrs`, reading
and writing map entries in `elements`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

from ebpfkit.abi import uapi
from ebpfkit.errors import KernelError, NotSupported
from ebpfkit.kernel import attrs
from ebpfkit.kernel.fd import Fd

__all__ = [
    "Command", "HasFileno", "LoadResult", "RunResult", "bpf", "btf_data", "btf_fd_by_id", "btf_ids", "btf_load",
    "btf_name", "iter_create", "kernel_name", "link_create", "link_detach", "link_fd_by_id", "link_ids", "link_info",
    "link_update", "map_create", "map_fd_by_id", "map_freeze", "map_ids", "map_info", "obj_get", "obj_pin",
    "object_kind", "prog_fd_by_id", "prog_ids", "prog_info", "prog_load", "prog_map_ids", "prog_xlated",
    "raw_tracepoint_open", "test_run",
]  # fmt: skip

BPF_F_REPLACE = 1 << 2
BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1
_CONTEXT_ROOM = 256

_SYSCALL_NUMBERS = {
    "x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "armv7l": 386, "armv6l": 386,
    "i686": 357, "i386": 357, "ppc64": 361, "ppc64le": 361, "s390x": 351, "sparc64": 349, "mips64": 5315,
}  # fmt: skip


class Command(IntEnum):
    """enum bpf_cmd."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    BTF_GET_FD_BY_ID = 19
    TASK_FD_QUERY = 20
    MAP_LOOKUP_AND_DELETE_ELEM = 21
    MAP_FREEZE = 22
    BTF_GET_NEXT_ID = 23
    MAP_LOOKUP_BATCH = 24
    MAP_LOOKUP_AND_DELETE_BATCH = 25
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    ENABLE_STATS = 32
    ITER_CREATE = 33
    LINK_DETACH = 34
    PROG_BIND_MAP = 35
    TOKEN_CREATE = 36
    PROG_STREAM_READ_BY_FD = 37


class HasFileno(Protocol):
    def fileno(self) -> int: ...


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_machine = os.uname().machine if hasattr(os, "uname") else ""
_number = _SYSCALL_NUMBERS.get(_machine, 0)
if _libc is not None:
    _syscall = _libc.syscall
    _syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_ulong)
    _syscall.restype = ctypes.c_long


def raw_bpf(command: int, address: int, size: int) -> int:
    """The system call itself on an attr at `address`; a negative errno instead of -1, never an exception of its own."""
    result: int = _syscall(_number, command, address, size)
    return result if result >= 0 else -ctypes.get_errno()


def bpf(command: Command, attr: ctypes.Structure, subject: str = "") -> int:
    """Call bpf(2) and return its result (a descriptor or 0). Raises KernelError; `subject` names what it was about."""
    if _libc is None or not _number:
        raise NotSupported("bpf(2)", why=f"there is none on {sys.platform} {_machine}")
    result = raw_bpf(command, ctypes.addressof(attr), ctypes.sizeof(attr))
    if result < 0:
        raise refusal(command, -result, subject)
    return result


def refusal(command: Command, number: int, subject: str = "") -> KernelError:
    """The error of a refused command, before anyone has explained it."""
    about = f" of {subject}" if subject else ""
    return KernelError(f"BPF_{command.name}{about}: {os.strerror(number)}", errno=number)


def kernel_name(name: str) -> bytes:
    """The name as the kernel takes it: at most 15 of the characters A-Z a-z 0-9 _ and full stop; others become _."""
    allowed = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)
    return allowed.encode()[: attrs.OBJ_NAME_LEN - 1]


def map_create(
    map_type: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    name: str = "",
    inner_map: HasFileno | None = None,
    numa_node: int = 0,
    btf: HasFileno | None = None,
    btf_key_type: int = 0,
    btf_value_type: int = 0,
    kernel_value_type: int = 0,
    kernel_value_btf: HasFileno | None = None,
    map_extra: int = 0,
) -> Fd:
    """BPF_MAP_CREATE. The name is cut to the kernel's 15 characters.

    `kernel_value_type` is the value's type among the kernel's, or those of the module whose BTF is `kernel_value_btf`.
    """
    attr = attrs.MapCreate(
        map_type=map_type,
        key_size=key_size,
        value_size=value_size,
        max_entries=max_entries,
        map_flags=flags,
        inner_map_fd=inner_map.fileno() if inner_map else 0,
        numa_node=numa_node,
        map_name=kernel_name(name),
        btf_fd=btf.fileno() if btf else 0,
        btf_key_type_id=btf_key_type,
        btf_value_type_id=btf_value_type,
        btf_vmlinux_value_type_id=kernel_value_type,
        map_extra=map_extra,
    )
    if kernel_value_btf is not None:
        attr.map_flags |= uapi.BPF_F_VTYPE_BTF_OBJ_FD
        attr.value_type_btf_obj_fd = kernel_value_btf.fileno()
    return Fd(bpf(Command.MAP_CREATE, attr, f"map {name!r}"), f"BPF map {name}".rstrip())


def map_freeze(map_fd: HasFileno) -> None:
    """BPF_MAP_FREEZE: no system call may change the map from now on."""
    bpf(Command.MAP_FREEZE, attrs.Elem(map_fd=map_fd.fileno()))


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What BPF_PROG_LOAD or BPF_BTF_LOAD gave: a descriptor, or the errno; and the log that was asked for.

    `log_needed` is the size in bytes that the whole log needs (0: this kernel does not tell, Linux before 6.4).
    """

    fd: Fd | None
    errno: int
    log: str
    log_needed: int


def prog_load(
    prog_type: int,
    instructions: bytes,
    license: str,
    *,
    name: str = "",
    flags: int = 0,
    expected_attach_type: int = 0,
    ifindex: int = 0,
    kernel_version: int = 0,
    btf: HasFileno | None = None,
    func_info: bytes = b"",
    func_info_record: int = 8,
    line_info: bytes = b"",
    line_info_record: int = 16,
    attach_btf_id: int = 0,
    attach_prog: HasFileno | None = None,
    fd_array: bytes = b"",
    log_level: int = 0,
    log_size: int = 0,
) -> LoadResult:
    """BPF_PROG_LOAD of encoded instructions. A refusal is a result, since its log matters; EAGAIN is retried."""
    log = ctypes.create_string_buffer(log_size) if log_level and log_size else None
    license_bytes = license.encode("utf-8", "surrogateescape") + b"\0"
    attr = attrs.ProgLoad(
        prog_type=prog_type,
        insn_cnt=len(instructions) // 8,
        insns=attrs.address_of(instructions),
        license=attrs.address_of(license_bytes),
        log_level=log_level if log is not None else 0,
        log_size=log_size if log is not None else 0,
        log_buf=ctypes.addressof(log) if log is not None else 0,
        kern_version=kernel_version,
        prog_flags=flags,
        prog_name=kernel_name(name),
        prog_ifindex=ifindex,
        expected_attach_type=expected_attach_type,
        attach_btf_id=attach_btf_id,
        attach_prog_fd=attach_prog.fileno() if attach_prog else 0,
        fd_array=attrs.address_of(fd_array) if fd_array else 0,
    )
    if btf is not None:
        attr.prog_btf_fd = btf.fileno()
        if func_info:
            attr.func_info, attr.func_info_rec_size = attrs.address_of(func_info), func_info_record
            attr.func_info_cnt = len(func_info) // func_info_record
        if line_info:
            attr.line_info, attr.line_info_rec_size = attrs.address_of(line_info), line_info_record
            attr.line_info_cnt = len(line_info) // line_info_record
    number, fd = _load(Command.PROG_LOAD, attr, f"BPF program {name}".rstrip())
    return LoadResult(fd, number, _log_text(log), attr.log_true_size)


def btf_load(data: bytes, *, log_level: int = 0, log_size: int = 0) -> LoadResult:
    """BPF_BTF_LOAD. A refusal is a result, since its log matters."""
    log = ctypes.create_string_buffer(log_size) if log_level and log_size else None
    attr = attrs.BtfLoad(
        btf=attrs.address_of(data),
        btf_size=len(data),
        btf_log_buf=ctypes.addressof(log) if log is not None else 0,
        btf_log_size=log_size if log is not None else 0,
        btf_log_level=log_level if log is not None else 0,
    )
    number, fd = _load(Command.BTF_LOAD, attr, "BTF")
    return LoadResult(fd, number, _log_text(log), attr.btf_log_true_size)


def _load(command: Command, attr: ctypes.Structure, what: str) -> tuple[int, Fd | None]:
    """The errno and the descriptor. The kernel gives EAGAIN when a signal came during verification."""
    for attempt in range(5):
        try:
            return 0, Fd(bpf(command, attr), what)
        except KernelError as error:
            if error.errno != 11 or attempt == 4:  # EAGAIN
                return error.errno or 0, None
    raise AssertionError("the loop returns")


def _log_text(log: ctypes.Array[ctypes.c_char] | None) -> str:
    return log.value.decode("utf-8", "replace") if log is not None else ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What BPF_PROG_TEST_RUN gave; `duration_ns` is the mean of one run in nanoseconds."""

    retval: int
    data: bytes
    context: bytes
    duration_ns: int


def test_run(
    prog: HasFileno,
    data: bytes,
    *,
    context: bytes = b"",
    repeat: int = 1,
    flags: int = 0,
    cpu: int = 0,
    batch_size: int = 0,
    room: int = 73_728,
    bare: bool = False,
) -> RunResult:
    """BPF_PROG_TEST_RUN. `room` bounds the packet that comes back, in bytes (0: none, as live frames demand).

    The context that comes back is the kernel's where it gives one, else what the program left of the one given. `bare`
    asks for none, which types of programs without packets demand.
    """
    out = ctypes.create_string_buffer(room) if room else None
    # The context that comes back is the kernel's whole structure, whatever part of it went in.
    context_out = ctypes.create_string_buffer(max(len(context), _CONTEXT_ROOM) + 8) if context else None
    context_in = ctypes.create_string_buffer(context, len(context)) if context else None  # syscall programs write to it
    attr = attrs.TestRun(
        prog_fd=prog.fileno(),
        data_size_in=len(data),
        data_in=attrs.address_of(data) if data else 0,
        data_size_out=room,
        data_out=ctypes.addressof(out) if out is not None else 0,
        repeat=repeat,
        flags=flags,
        cpu=cpu,
        batch_size=batch_size,
    )
    if context_in is not None and context_out is not None:
        attr.ctx_size_in, attr.ctx_size_out = len(context), 0 if bare else len(context_out)
        attr.ctx_in, attr.ctx_out = ctypes.addressof(context_in), 0 if bare else ctypes.addressof(context_out)
    bpf(Command.PROG_TEST_RUN, attr)
    context_after = b""
    if context_in is not None and context_out is not None:
        whole = attr.ctx_size_out in (0, len(context_out))  # as it was: the kernel gave none
        context_after = context_in.raw if whole else ctypes.string_at(context_out, attr.ctx_size_out)
    data_after = ctypes.string_at(out, attr.data_size_out) if out is not None else b""
    return RunResult(attr.retval, data_after, context_after, attr.duration)


test_run.__test__ = False  # type: ignore[attr-defined]  # pytest must not collect it


def _path_bytes(path: str) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:
        raise KernelError(f"{path!r} cannot be a path: it contains a NUL", errno=22)
    return name + b"\0"


def obj_pin(path: str, fd: HasFileno) -> None:
    """BPF_OBJ_PIN: give the object a path on a bpffs, which keeps it alive."""
    name = _path_bytes(path)
    bpf(Command.OBJ_PIN, attrs.ObjPath(pathname=attrs.address_of(name), bpf_fd=fd.fileno()), path)


def obj_get(path: str, *, flags: int = 0, what: str = "BPF object") -> Fd:
    """BPF_OBJ_GET: a new descriptor of a pinned object."""
    name = _path_bytes(path)
    return Fd(bpf(Command.OBJ_GET, attrs.ObjPath(pathname=attrs.address_of(name), file_flags=flags), path), what)


def link_create(prog: HasFileno, target: int, attach_type: int, *, flags: int = 0, target_btf_id: int = 0) -> Fd:
    """BPF_LINK_CREATE of a program, or a map of kernel operations, on a target descriptor or interface index."""
    attr = attrs.LinkCreate(
        prog_fd=prog.fileno(), target_fd=target, attach_type=attach_type, flags=flags, target_btf_id=target_btf_id
    )
    return Fd(bpf(Command.LINK_CREATE, attr), "BPF link")


def raw_tracepoint_open(prog: HasFileno, name: str = "") -> Fd:
    """BPF_RAW_TRACEPOINT_OPEN: a link to that tracepoint, or (no name) to the target that was fixed at load."""
    encoded = name.encode() + b"\0"
    attr = attrs.RawTracepoint(name=attrs.address_of(encoded) if name else 0, prog_fd=prog.fileno())
    return Fd(bpf(Command.RAW_TRACEPOINT_OPEN, attr), "BPF link")


def iter_create(link: HasFileno) -> Fd:
    """BPF_ITER_CREATE: a descriptor that reads what the iterator's program writes."""
    return Fd(bpf(Command.ITER_CREATE, attrs.IterCreate(link_fd=link.fileno())), "BPF iterator")


def link_update(link: HasFileno, new_prog: HasFileno, *, old_prog: HasFileno | None = None) -> None:
    """BPF_LINK_UPDATE: swap the program; with `old_prog` only when that is the one in place (else EPERM)."""
    attr = attrs.LinkUpdate(link_fd=link.fileno(), new_prog_fd=new_prog.fileno())
    if old_prog is not None:
        attr.flags, attr.old_prog_fd = BPF_F_REPLACE, old_prog.fileno()
    bpf(Command.LINK_UPDATE, attr)


def link_detach(link: HasFileno) -> None:
    """BPF_LINK_DETACH: the link stays as an object, without its target."""
    bpf(Command.LINK_DETACH, attrs.LinkDetach(link_fd=link.fileno()))


def object_kind(fd: HasFileno) -> str:
    """ "link", "prog", "map" or "btf": what /proc says about the descriptor; "" when it is none of these."""
    try:
        with open(f"/proc/self/fdinfo/{fd.fileno()}") as file:
            keys = {line.partition(":")[0] for line in file}
    except OSError:
        return ""
    # A link's page also names its program, so links are asked for first.
    marks = (("link", "link_type"), ("prog", "prog_type"), ("map", "map_type"), ("btf", "btf_id"))
    return next((kind for kind, mark in marks if mark in keys), "")


_Info = TypeVar("_Info", attrs.ProgInfo, attrs.MapInfo, attrs.LinkInfo, attrs.BtfInfo)


def _info(fd: HasFileno, info: _Info) -> _Info:
    attr = attrs.GetInfo(bpf_fd=fd.fileno(), info_len=ctypes.sizeof(info), info=ctypes.addressof(info))
    bpf(Command.OBJ_GET_INFO_BY_FD, attr)
    return info


def prog_info(prog: HasFileno) -> attrs.ProgInfo:
    """BPF_OBJ_GET_INFO_BY_FD of a program; lengths and counts only, no arrays."""
    return _info(prog, attrs.ProgInfo())


def prog_map_ids(prog: HasFileno) -> tuple[int, ...]:
    """The ids of the maps that the program uses."""
    count = prog_info(prog).nr_map_ids
    if not count:
        return ()
    ids = (ctypes.c_uint32 * count)()
    info = _info(prog, attrs.ProgInfo(nr_map_ids=count, map_ids=ctypes.addressof(ids)))
    return tuple(ids[: min(count, info.nr_map_ids)])


def prog_xlated(prog: HasFileno) -> bytes:
    """The instructions after the kernel rewrote them (needs CAP_PERFMON or CAP_SYS_ADMIN; empty without)."""
    size = prog_info(prog).xlated_prog_len
    if not size:
        return b""
    room = ctypes.create_string_buffer(size)
    info = _info(prog, attrs.ProgInfo(xlated_prog_len=size, xlated_prog_insns=ctypes.addressof(room)))
    return room.raw[: info.xlated_prog_len] if info.xlated_prog_insns else b""


def map_info(map_fd: HasFileno) -> attrs.MapInfo:
    """BPF_OBJ_GET_INFO_BY_FD of a map."""
    return _info(map_fd, attrs.MapInfo())


def link_info(link: HasFileno) -> attrs.LinkInfo:
    """BPF_OBJ_GET_INFO_BY_FD of a link."""
    return _info(link, attrs.LinkInfo())


def btf_data(btf: HasFileno) -> bytes:
    """The BTF blob behind a descriptor."""
    size = _info(btf, attrs.BtfInfo()).btf_size
    room = ctypes.create_string_buffer(size)
    _info(btf, attrs.BtfInfo(btf=ctypes.addressof(room), btf_size=size))
    return room.raw


def btf_name(btf: HasFileno) -> tuple[str, bool]:
    """The name of a BTF object ("vmlinux", a module, or "") and whether it is the kernel's or a module's."""
    room = ctypes.create_string_buffer(64)
    info = _info(btf, attrs.BtfInfo(name=ctypes.addressof(room), name_len=len(room)))
    return room.value.decode("utf-8", "replace"), bool(info.kernel_btf)


def _ids(command: Command) -> Iterator[int]:
    """Every id of a kind, ascending. Objects may come and go meanwhile."""
    attr = attrs.GetId()
    while True:
        try:
            bpf(command, attr)
        except KernelError as error:
            if error.errno == 2:  # ENOENT: no further one
                return
            raise
        yield attr.next_id
        attr = attrs.GetId(id=attr.next_id)


def prog_ids() -> Iterator[int]:
    """The ids of all loaded programs (needs CAP_SYS_ADMIN, as do the other id walks)."""
    return _ids(Command.PROG_GET_NEXT_ID)


def map_ids() -> Iterator[int]:
    """The ids of all maps."""
    return _ids(Command.MAP_GET_NEXT_ID)


def btf_ids() -> Iterator[int]:
    """The ids of all BTF blobs, the kernel's own first."""
    return _ids(Command.BTF_GET_NEXT_ID)


def link_ids() -> Iterator[int]:
    """The ids of all links."""
    return _ids(Command.LINK_GET_NEXT_ID)


def prog_fd_by_id(number: int) -> Fd:
    """A descriptor of the program with that id (ENOENT when there is none)."""
    return Fd(bpf(Command.PROG_GET_FD_BY_ID, attrs.GetId(id=number), f"id {number}"), "BPF program")


def map_fd_by_id(number: int) -> Fd:
    """A descriptor of the map with that id (ENOENT when there is none)."""
    return Fd(bpf(Command.MAP_GET_FD_BY_ID, attrs.GetId(id=number), f"id {number}"), "BPF map")


def btf_fd_by_id(number: int) -> Fd:
    """A descriptor of the BTF blob with that id (ENOENT when there is none)."""
    return Fd(bpf(Command.BTF_GET_FD_BY_ID, attrs.GetId(id=number), f"id {number}"), "BTF")


def link_fd_by_id(number: int) -> Fd:
    """A descriptor of the link with that id (ENOENT when there is none)."""
    return Fd(bpf(Command.LINK_GET_FD_BY_ID, attrs.GetId(id=number), f"id {number}"), "BPF link")
