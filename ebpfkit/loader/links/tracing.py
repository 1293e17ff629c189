"""Programs whose target was fixed at load, or is a raw tracepoint: tracing, LSM hooks, iterators, replaced functions.

Finding that target is `loader.targets`'.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ebpfkit.abi import uapi
from ebpfkit.errors import AttachError, KernelError, UsageError
from ebpfkit.host.errnos import describe_errno, explain_permission
from ebpfkit.kernel import bpf
from ebpfkit.loader.links.base import BpfLink

if TYPE_CHECKING:
    from ebpfkit.loader.program import Program

__all__ = ["IteratorLink", "attach"]

_RAW = frozenset({"raw_tracepoint", "raw_tracepoint_writable"})
_FIXED = frozenset({"tracing", "lsm", "ext"})
_PIECE = 1 << 16
_NEWER_WAY = frozenset({errno.EINVAL, errno.EOPNOTSUPP})  # before Linux 5.18 only raw tracepoints could be opened so


class IteratorLink(BpfLink):
    """An iterator: each `read` walks the kernel's objects once and gives what the program wrote about them."""

    def read(self, limit: int = 64 << 20) -> bytes:
        """The output of one walk, at most `limit` bytes of it. Raises KernelError."""
        pieces, left = [], limit
        with bpf.iter_create(self.fd) as fd:
            while left > 0:
                try:
                    piece = os.read(fd.fileno(), min(_PIECE, left))
                except OSError as error:
                    raise KernelError(f"the walk ended: {error.strerror}", errno=error.errno or 0) from error
                if not piece:
                    break
                pieces.append(piece)
                left -= len(piece)
        return b"".join(pieces)


def attach(program: Program) -> BpfLink:
    """Attach a program to what its section, or its target at load, says. Raises AttachError, UsageError."""
    spec = program.spec
    if spec is None or program.prog_type not in _RAW | _FIXED or spec.attach_type == "lsm_cgroup":
        raise UsageError(f"program {program.name!r} of type {program.prog_type} does not say itself where it attaches")
    if program.prog_type in _RAW and not spec.attach_target:
        raise UsageError(f'program {program.name!r} does not say which tracepoint; write SEC("raw_tp/NAME")')
    try:
        if program.prog_type in _RAW:
            return BpfLink(bpf.raw_tracepoint_open(program.fd, spec.attach_target or ""))
        number = uapi.ENUMS["bpf_attach_type"][f"BPF_{spec.attach_type.upper()}"] if spec.attach_type else 0
        try:
            fd = bpf.link_create(program.fd, 0, number)
        except KernelError as error:
            if error.errno not in _NEWER_WAY or spec.attach_type == "trace_iter":
                raise
            fd = bpf.raw_tracepoint_open(program.fd)
        return IteratorLink(fd) if spec.attach_type == "trace_iter" else BpfLink(fd)
    except KernelError as error:
        number = error.errno or 0
        where = f" to {spec.attach_target!r}" if spec.attach_target else ""
        why = describe_errno(number)
        if number == errno.EPERM:
            why = explain_permission(("CAP_BPF", "CAP_PERFMON"), "not permitted by this system's policy")
        elif number == errno.ENOENT:
            why = "this kernel has no such tracepoint"
        elif number == errno.EBUSY:
            why = "another program is in that place already"
        raise AttachError(f"cannot attach {program.name!r}{where}: {why}", errno=number) from error
