"""A program in the kernel: what it is, running it on a packet, attaching and pinning it.

How it got there is `load`'s and `collection`'s; what holds it to a device is in `links`.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfkit._bits import U32_MAX
from ebpfkit.abi import uapi
from ebpfkit.abi.limits import XDP_TEST_CONTEXT_SINCE
from ebpfkit.abi.versions import parse_version
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import KernelError, UsageError
from ebpfkit.host.errnos import describe_errno, explain_permission, explain_test_run
from ebpfkit.host.pins import explain_pin
from ebpfkit.kernel import bpf
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.version import kernel_version

if TYPE_CHECKING:
    from ebpfkit.loader.links.base import BpfLink, Link

__all__ = ["Program", "ProgramInfo", "TestRun", "program_type_name"]

# Their test runs take arguments or a context, and refuse everything that is about packets.
_WITHOUT_PACKETS = frozenset({"struct_ops", "syscall", "raw_tracepoint", "tracing"})
_TYPE_NAMES = {
    number: name.removeprefix("BPF_PROG_TYPE_").lower() for name, number in uapi.ENUMS["bpf_prog_type"].items()
}


def program_type_name(number: int) -> str:
    """The kernel's lower-case name of a program type, or its number as text when it is newer than this package."""
    return _TYPE_NAMES.get(number, str(number))


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the kernel says about a program.

    `xlated_size` and `jited_size` in bytes; `run_time_ns` and `run_count` stay 0 unless kernel.bpf_stats_enabled
    is set (sysctl); `verified_insns` is what its verifier walked (0 before Linux 5.16).
    """

    id: int
    type: str
    name: str
    tag: str
    gpl_compatible: bool
    xlated_size: int
    jited_size: int
    map_ids: tuple[int, ...]
    btf_id: int
    loaded_at_ns: int
    uid: int
    verified_insns: int
    run_time_ns: int
    run_count: int


@dataclass(frozen=True, slots=True)
class TestRun:
    """One BPF_PROG_TEST_RUN: verdict, packet and context afterwards, the mean time of a run in nanoseconds.

    `meta` is the metadata in front of an XDP packet.
    """

    __test__ = False  # not a pytest class

    retval: int
    data: bytes
    duration_ns: int
    context: bytes = b""
    meta: bytes = b""


class Program:
    """A loaded program, owned through one descriptor."""

    def __init__(self, spec: ProgramSpec | None, fd: Fd, *, name: str, prog_type: str, log: str = "") -> None:
        self.spec = spec
        self.fd = fd
        self.name = name
        self.prog_type = prog_type
        self.log = log

    @classmethod
    def load(
        cls,
        spec: ProgramSpec,
        maps: dict[str, bpf.HasFileno] | None = None,
        *,
        target: bpf.HasFileno | None = None,
        log_level: int = 0,
    ) -> Program:
        """Load one program by itself; `maps` are its maps by name, `target` is the program that it replaces or traces.

        Raises VerifierError or LoadError.
        """
        from ebpfkit.loader.btf import loadable_btf
        from ebpfkit.loader.externs import resolve_externs
        from ebpfkit.loader.kernel_types import KernelTypes
        from ebpfkit.loader.load import load_btf, load_program
        from ebpfkit.loader.targets import resolve_targets

        with ExitStack() as temporary:
            types = KernelTypes()
            btf = temporary.enter_context(load_btf(loadable_btf(spec.btf))) if spec.btf is not None else None
            externs = resolve_externs([spec], types)
            temporary.callback(externs.close)
            targets = resolve_targets([spec], types, programs={spec.name: target} if target else None)
            temporary.callback(targets.close)
            fd, log = load_program(
                spec, maps or {}, btf=btf, externs=externs, target=targets.get(spec.name), log_level=log_level
            )
        return cls(spec, fd, name=spec.name, prog_type=spec.prog_type, log=log)

    @classmethod
    def from_fd(cls, fd: Fd) -> Program:
        """A program around a descriptor."""
        info = bpf.prog_info(fd)
        return cls(None, fd, name=info.name.decode("ascii", "replace"), prog_type=program_type_name(info.type))

    @classmethod
    def open_pinned(cls, path: str | Path) -> Program:
        """Open a pinned program. Raises KernelError when there is none or it is something else."""
        try:
            fd = bpf.obj_get(str(path), what=f"BPF program {path}")
        except KernelError as error:
            number = error.errno or 0
            raise KernelError(explain_pin("open", "program", str(path), number), errno=number) from error
        return cls._checked(fd, str(path))

    @classmethod
    def open_id(cls, number: int) -> Program:
        """Open the program with that id (needs CAP_SYS_ADMIN). Raises KernelError."""
        try:
            return cls._checked(bpf.prog_fd_by_id(number), f"id {number}")
        except KernelError as error:
            why = explain_permission(("CAP_SYS_ADMIN",), describe_errno(error.errno or 0))
            raise KernelError(f"cannot open program {number}: {why}", errno=error.errno or 0) from error

    @classmethod
    def _checked(cls, fd: Fd, where: str) -> Program:
        if bpf.object_kind(fd) == "prog":
            return cls.from_fd(fd)
        fd.close()
        raise KernelError(f"{where} is not a BPF program", errno=errno.EINVAL)

    def fileno(self) -> int:
        return self.fd.fileno()

    @property
    def info(self) -> ProgramInfo:
        """What the kernel says about the program now."""
        i = bpf.prog_info(self.fd)
        return ProgramInfo(
            id=i.id,
            type=program_type_name(i.type),
            name=i.name.decode("ascii", "replace"),
            tag=bytes(i.tag).hex(),
            gpl_compatible=bool(i.gpl_compatible),
            xlated_size=i.xlated_prog_len,
            jited_size=i.jited_prog_len,
            map_ids=bpf.prog_map_ids(self.fd),
            btf_id=i.btf_id,
            loaded_at_ns=i.load_time,
            uid=i.created_by_uid,
            verified_insns=i.verified_insns,
            run_time_ns=i.run_time_ns,
            run_count=i.run_cnt,
        )

    @property
    def id(self) -> int:
        """The kernel's number of the program."""
        number: int = bpf.prog_info(self.fd).id
        return number

    def test_run(
        self, data: bytes, *, repeat: int = 1, ctx: bytes | None = None, live_frames: bool = False, batch_size: int = 0
    ) -> TestRun:
        """Run it on a packet in the kernel (BPF_PROG_TEST_RUN), `repeat` times. Raises KernelError.

        `ctx` is the context structure, as `struct xdp_md` with data and data_end as offsets, or the 64-bit arguments of
        a program without packets (raw_tracepoint, struct_ops). `live_frames` sends what the verdict says: XDP_TX and
        redirects reach devices, and no packet comes back.
        """
        if not 1 <= repeat <= U32_MAX:
            raise UsageError(f"repeat is {repeat}; a run needs at least 1 and takes at most {U32_MAX}")
        flags = bpf.BPF_F_TEST_XDP_LIVE_FRAMES if live_frames else 0
        bare = self.prog_type in _WITHOUT_PACKETS
        room = 0 if live_frames or bare else max(73_728, len(data) + 4096)
        repeat = 0 if bare and repeat == 1 else repeat
        context = ctx or b""
        if (
            not context
            and self.prog_type == "xdp"
            and not live_frames
            and kernel_version() >= parse_version(XDP_TEST_CONTEXT_SINCE)
        ):
            context = struct.pack("=6I", 0, len(data), 0, 0, 0, 0)  # struct xdp_md, to see where the packet begins
        try:
            result = bpf.test_run(
                self.fd,
                data,
                context=context,
                repeat=repeat,
                flags=flags,
                batch_size=batch_size,
                room=room,
                bare=bare,
            )
        except KernelError as error:
            number = error.errno or 0
            text = explain_test_run(self.name, self.prog_type, number, data_size=len(data))
            raise KernelError(text, errno=number) from error
        start = int.from_bytes(result.context[:4], sys.byteorder) if self.prog_type == "xdp" else 0
        packet, meta = result.data[start:], result.data[:start]
        return TestRun(result.retval, packet, result.duration_ns, result.context if ctx else b"", meta)

    def attach_xdp(
        self,
        dev: str | int,
        mode: str | None = None,
        *,
        via: str = "link",
        replace: bool | bpf.HasFileno | None = None,
        keep: bool = False,
    ) -> Link:
        """Attach to a network device of the current namespace. Raises AttachError.

        `mode` "native" (in the driver), "skb" (generic), "hw" (offload) or None (the kernel's choice: native where the
        driver has it). `via` "link" dies with this process unless pinned; "netlink" outlives it when `keep` is set.
        `replace`, for netlink: True takes over whatever is attached there, a program only that one, atomically.
        """
        from ebpfkit.loader.links import xdp

        return xdp.attach(self, dev, mode, via=via, replace=replace, keep=keep)

    def attach_tracing(self) -> BpfLink:
        """Attach to the function, hook, tracepoint, iterator or program that its section or load said.

        For tracing, lsm, ext and raw_tracepoint programs; an iterator's link has `read`. Raises AttachError.
        """
        from ebpfkit.loader.links import tracing

        return tracing.attach(self)

    def attach_tc(self, dev: str | int, direction: str, *, via: str = "", priority: int = 1) -> Link:
        """Attach a sched_cls program to the "ingress" or "egress" of a device. Raises AttachError.

        `via` "tcx" (from Linux 6.6 the default) is a bpf_link; "clsact" a filter of that queue, which is added where it
        is missing and stays, with a `priority` among its filters.
        """
        from ebpfkit.loader.links import tc

        return tc.attach(self, dev, direction, via=via, priority=priority)

    def attach_cgroup(self, path: str | Path) -> BpfLink:
        """Attach a cgroup_skb program to a control group, by its folder below /sys/fs/cgroup. Raises AttachError."""
        from ebpfkit.loader.links import places

        return places.attach_cgroup(self, path)

    def attach_socket(self, sock: socket.socket) -> Link:
        """Filter what a socket receives by a socket_filter program. Raises AttachError."""
        from ebpfkit.loader.links import places

        return places.attach_socket(self, sock)

    def attach_event(self) -> Link:
        """Attach a kprobe or tracepoint program to what its section names. Raises AttachError."""
        from ebpfkit.loader.links import places

        return places.attach_event(self)

    def attach_clock(self, *, hz: int, pid: int = -1, cpu: int | None = None) -> Link:
        """Run a perf_event program `hz` times a second, of a process or on a CPU (None: each). Raises AttachError."""
        from ebpfkit.loader.links import places

        return places.attach_clock(self, hz=hz, pid=pid, cpu=cpu)

    def pin(self, path: str | Path) -> None:
        """Give the program a path on a bpffs, which keeps it alive. Raises KernelError."""
        try:
            bpf.obj_pin(str(path), self.fd)
        except KernelError as error:
            number = error.errno or 0
            raise KernelError(explain_pin("pin", "program", str(path), number), errno=number) from error

    def close(self) -> None:
        """Let go of the program; it lives on while attached, pinned or in a map."""
        self.fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Program {self.name} {self.prog_type} {self.fd!r}>"
