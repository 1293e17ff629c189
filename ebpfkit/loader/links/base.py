"""What every attachment has in common: it can be swapped, let go, and, when it is a bpf_link (`BpfLink`), pinned.

What a device, a cgroup or a function is to the kernel belongs to the family's own module.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfkit.errors import AttachError, KernelError
from ebpfkit.host.errnos import describe_errno
from ebpfkit.host.pins import explain_pin
from ebpfkit.kernel import bpf
from ebpfkit.kernel.fd import Fd

if TYPE_CHECKING:
    from ebpfkit.loader.program import Program

__all__ = ["BpfLink", "Link"]


class Link(ABC):
    """A program in its place. Leaving a `with` block takes it away, unless it is pinned or was asked to stay."""

    @property
    @abstractmethod
    def program_id(self) -> int:
        """The id of the program in place (0: none)."""

    @abstractmethod
    def update(self, program: Program) -> None:
        """Put another program in its place, atomically: no packet sees neither. Raises AttachError."""

    @abstractmethod
    def detach(self) -> None:
        """Take the program away now, pinned or not. Raises AttachError."""

    @abstractmethod
    def pin(self, path: str | Path) -> None:
        """Keep the attachment beyond this process, at a path on a bpffs. Raises AttachError."""

    @abstractmethod
    def close(self) -> None:
        """Let go: the program is taken away, unless the attachment is pinned or was asked to stay."""

    @staticmethod
    def open_pinned(path: str | Path) -> Link:
        """Open a pinned link. Raises AttachError when there is none, or it is something else than an XDP link."""
        from ebpfkit.loader.links.xdp import LINK_TYPE_XDP, XdpLink

        try:
            fd = bpf.obj_get(str(path), what=f"BPF link {path}")
        except KernelError as error:
            number = error.errno or 0
            raise AttachError(explain_pin("open", "link", str(path), number), errno=number) from error
        if bpf.object_kind(fd) != "link":
            fd.close()
            raise AttachError(f"{path} is not a BPF link", errno=errno.EINVAL)
        if bpf.link_info(fd).type != LINK_TYPE_XDP:
            fd.close()
            raise AttachError(f"{path} is not the link of an XDP program", errno=errno.EINVAL)
        return XdpLink(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BpfLink(Link):
    """A bpf_link of any family: gone with its last descriptor, unless pinned."""

    def __init__(self, fd: Fd) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd.fileno()

    @property
    def id(self) -> int:
        """The kernel's number of the link."""
        number: int = bpf.link_info(self.fd).id
        return number

    @property
    def program_id(self) -> int:
        number: int = bpf.link_info(self.fd).prog_id
        return number

    def update(self, program: Program) -> None:
        try:
            bpf.link_update(self.fd, program.fd)
        except KernelError as error:
            number = error.errno or 0
            text = f"cannot replace by {program.name!r}: {describe_errno(number)}"
            raise AttachError(text, errno=number) from error

    def detach(self) -> None:
        try:
            bpf.link_detach(self.fd)
        except KernelError as error:
            raise AttachError(f"cannot detach link {self.id}: {error.message}", errno=error.errno or 0) from error

    def pin(self, path: str | Path) -> None:
        try:
            bpf.obj_pin(str(path), self.fd)
        except KernelError as error:
            number = error.errno or 0
            raise AttachError(explain_pin("pin", "link", str(path), number), errno=number) from error

    def close(self) -> None:
        self.fd.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fd!r}>"
