"""Programs in control groups, on sockets, and at perf events: probes, tracepoints, clocks."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfkit.abi import uapi
from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.versions import parse_version
from ebpfkit.errors import AttachError, KernelError, NotSupported, UsageError
from ebpfkit.host.errnos import describe_errno, explain_permission
from ebpfkit.kernel import bpf, perf
from ebpfkit.kernel.cpus import online_cpus
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.version import kernel_version
from ebpfkit.loader.links.base import BpfLink, Link

if TYPE_CHECKING:
    from ebpfkit.loader.program import Program

__all__ = ["SeveralLinks", "SocketFilter", "attach_cgroup", "attach_clock", "attach_event", "attach_socket"]

_PERF_LINKS_SINCE = parse_version(ATTACH_TYPES["perf_event"].since)
# Others of these types are not about a function of the kernel by its name: uprobes, usdt, system calls, many at once.
_EVENT_SECTIONS = frozenset({"kprobe", "kretprobe", "tracepoint", "tp", "tracepoint.s", "tp.s"})
_OTHER_PROBES = 'probes are attached to one function of the kernel: SEC("kprobe/NAME") or SEC("kretprobe/NAME")'
_SO_ATTACH_BPF, _SO_DETACH_BPF = 50, 27


def _refused(program: Program, where: str, error: KernelError) -> AttachError:
    number = error.errno or 0
    why = describe_errno(number)
    if number in (errno.EPERM, errno.EACCES):
        why = explain_permission(("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"), "not permitted by this system's policy")
    elif error.message and number in (errno.ENOENT, errno.EOPNOTSUPP):
        why = error.message
    return AttachError(f"cannot attach {program.name!r} to {where}: {why}", errno=number)


def attach_cgroup(program: Program, path: str | os.PathLike[str]) -> BpfLink:
    """Attach to a control group (cgroup v2) by its folder; see `Program.attach_cgroup`. Raises AttachError."""
    spec = program.spec
    if program.prog_type != "cgroup_skb" or spec is None or not spec.attach_type:
        raise UsageError(
            f"program {program.name!r} of type {program.prog_type} does not say how it attaches to a group"
        )
    number = uapi.ENUMS["bpf_attach_type"][f"BPF_{spec.attach_type.upper()}"]
    try:
        fd = Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "control group")
    except OSError as error:
        text = f"cannot attach {program.name!r}: no control group {str(path)!r}: {error.strerror}"
        raise AttachError(text, errno=error.errno or 0) from error
    with fd:
        try:
            return BpfLink(bpf.link_create(program.fd, fd.fileno(), number))
        except KernelError as error:
            if error.errno == errno.EBADF:
                text = f"cannot attach {program.name!r}: {str(path)!r} is no control group of version 2 (cgroup2)"
                raise AttachError(text, errno=errno.EBADF) from error
            raise _refused(program, f"the control group {str(path)!r}", error) from error


class SocketFilter(Link):
    """A program that filters what a socket receives; closing the socket takes it away, too."""

    def __init__(self, program: Program, sock: socket.socket) -> None:
        self.socket = sock
        self._program_id = 0
        self._set(program)

    def _set(self, program: Program) -> None:
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, program.fileno())
        except OSError as error:
            number = error.errno or 0
            text = f"cannot attach {program.name!r} to a socket: {describe_errno(number)}"
            raise AttachError(text, errno=number) from error
        self._program_id = program.id

    @property
    def program_id(self) -> int:
        return self._program_id

    def update(self, program: Program) -> None:
        self._set(program)

    def detach(self) -> None:
        if self._program_id and self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_DETACH_BPF, 0)
        self._program_id = 0

    def pin(self, path: str | Path) -> None:
        raise UsageError(f"a socket filter cannot be pinned at {path}: it lives as long as its socket")

    def close(self) -> None:
        self.detach()


def attach_socket(program: Program, sock: socket.socket) -> SocketFilter:
    """Filter what a socket receives. Raises AttachError, UsageError."""
    if program.prog_type != "socket_filter":
        raise UsageError(f"program {program.name!r} is of type {program.prog_type}, no socket filter")
    if not isinstance(sock, socket.socket):
        raise UsageError(f"a socket filter attaches to a socket, not to {type(sock).__name__}")
    return SocketFilter(program, sock)


class EventLink(Link):
    """A program at a perf event as kernels before 5.15 hold it: with the event's descriptor."""

    def __init__(self, program: Program, event: Fd) -> None:
        self._event = event
        self._program_id = program.id

    @property
    def program_id(self) -> int:
        return self._program_id

    def update(self, program: Program) -> None:
        raise UsageError("this kernel (before 5.15) cannot swap the program of a perf event")

    def detach(self) -> None:
        self._program_id = 0
        self._event.close()

    def pin(self, path: str | Path) -> None:
        raise UsageError(f"this kernel (before 5.15) cannot pin the program of a perf event at {path}")

    def close(self) -> None:
        self.detach()


class SeveralLinks(Link):
    """The links of one program in several places, such as a clock on each CPU."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple(links)

    @property
    def program_id(self) -> int:
        return self.links[0].program_id if self.links else 0

    def update(self, program: Program) -> None:
        for link in self.links:
            link.update(program)

    def detach(self) -> None:
        for link in self.links:
            link.detach()

    def pin(self, path: str | Path) -> None:
        raise UsageError(f"these are {len(self.links)} links, which one path such as {path} cannot hold")

    def close(self) -> None:
        for link in self.links:
            link.close()


def _at_event(program: Program, event: Fd) -> Link:
    if kernel_version() < _PERF_LINKS_SINCE:
        perf.set_bpf(event, program)
        return EventLink(program, event)
    with event:
        return BpfLink(bpf.link_create(program.fd, event.fileno(), uapi.BPF_PERF_EVENT))


def attach_event(program: Program) -> Link:
    """Attach a kprobe, kretprobe or tracepoint program to what its section names. Raises AttachError, UsageError."""
    spec = program.spec
    target = spec.attach_target if spec is not None else ""
    if spec is None or not target or program.prog_type not in ("kprobe", "tracepoint"):
        raise UsageError(f"program {program.name!r} of type {program.prog_type} does not say which event it is for")
    kind = spec.section.removeprefix("?").partition("/")[0]
    if kind not in _EVENT_SECTIONS:
        raise NotSupported(f"attaching program {program.name!r}, section {spec.section!r}", why=_OTHER_PROBES)
    where = f"{kind} {target!r}"
    try:
        if program.prog_type == "tracepoint":
            group, _, name = target.partition("/")
            return _at_event(program, perf.open_tracepoint(group, name))
        return _at_event(program, perf.open_probe(target, at_return=kind == "kretprobe"))
    except KernelError as error:
        raise _refused(program, where, error) from error


def attach_clock(program: Program, *, hz: int, pid: int = -1, cpu: int | None = None) -> Link:
    """Run a perf_event program `hz` times a second: of a process, or of a CPU (None: of each). Raises AttachError."""
    if program.prog_type != "perf_event":
        raise UsageError(f"program {program.name!r} is of type {program.prog_type}, not perf_event")
    places = [cpu] if cpu is not None else [-1] if pid != -1 else online_cpus()
    with ExitStack() as undo:
        links: list[Link] = []
        try:
            for place in places:
                link = _at_event(program, perf.open_clock(hz, pid=pid, cpu=place))
                undo.callback(link.close)
                links.append(link)
        except KernelError as error:
            raise _refused(program, f"a clock of {hz} Hz", error) from error
        undo.pop_all()
    return links[0] if len(links) == 1 else SeveralLinks(links)
