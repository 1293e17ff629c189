"""Every error that crosses the public API.

    EbpfError
    ├── CompileError        a Python function that the language refuses, at its line and column
    ├── AsmError            assembly text or instruction bytes
    ├── ObjectError         ELF and BTF
    ├── PcapError           capture files
    ├── VerifierError       a rejection, ours or the kernel's
    ├── MachineFault        a fault in the virtual machine
    ├── XskError            AF_XDP sockets
    ├── UsageError          arguments that make no sense (names, values, states), from the API or the command line
    ├── NotSupported        something real that ebpfkit does not model (yet), or that this host lacks
    └── KernelError         the kernel said no (also an OSError, with its errno)
        ├── LoadError
        ├── AttachError
        └── MapError
            └── MapKeyError (also a KeyError)

Each message is one line: what, why, what to do. A user's mistake is always one of these; a bug in ebpfkit stays an
ordinary exception.
"""

from __future__ import annotations

from ebpfkit.span import Span

__all__ = [
    "AsmError",
    "AttachError",
    "CompileError",
    "EbpfError",
    "KernelError",
    "LoadError",
    "MachineFault",
    "MapError",
    "MapKeyError",
    "NotSupported",
    "ObjectError",
    "PcapError",
    "UsageError",
    "VerifierError",
    "XskError",
]


class EbpfError(Exception):
    """The base of the tree. `message` is one line; `span` is the author's place where there is one."""

    def __init__(self, message: str, *, span: Span | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.span = span

    def __str__(self) -> str:
        return f"{self.span}: {self.message}" if self.span else self.message

    def render(self) -> str:
        """The message with its source line and a caret below it, as a compiler prints it."""
        caret = self.span.caret() if self.span else ""
        return f"{self}\n{caret}" if caret else str(self)


class CompileError(EbpfError):
    """A construct the language refuses. `code` is its stable identifier, `hint` the nearest legal spelling."""

    def __init__(self, message: str, *, span: Span | None = None, code: str = "", hint: str = "") -> None:
        super().__init__(message, span=span)
        self.code = code
        self.hint = hint

    def render(self) -> str:
        text = super().render()
        return f"{text}\n    hint: {self.hint}" if self.hint else text


class AsmError(EbpfError):
    """Assembly text that does not parse, or bytes that are no instruction."""


class ObjectError(EbpfError):
    """A malformed or unsupported ELF object or BTF blob. `place` says where (section and offset)."""

    def __init__(self, message: str, *, place: str = "", span: Span | None = None) -> None:
        super().__init__(f"{place}: {message}" if place else message, span=span)
        self.place = place


class PcapError(EbpfError):
    """A malformed capture file; the message names the offset."""


class VerifierError(EbpfError):
    """A program was rejected. `origin` is "ebpfkit" or "kernel"; `log` the verifier's text; `insn` the slot index."""

    def __init__(
        self,
        message: str,
        *,
        rule: str = "",
        insn: int | None = None,
        span: Span | None = None,
        log: str = "",
        origin: str = "ebpfkit",
        program: str = "",
    ) -> None:
        super().__init__(message, span=span)
        self.rule = rule
        self.insn = insn
        self.log = log
        self.origin = origin
        self.program = program


class MachineFault(EbpfError):
    """The virtual machine stopped a program: `insn` is the slot index, `region` what was touched."""

    def __init__(self, message: str, *, insn: int | None = None, span: Span | None = None, region: str = "") -> None:
        super().__init__(message, span=span)
        self.insn = insn
        self.region = region


class XskError(EbpfError):
    """An AF_XDP socket, ring or UMEM was used in a way that cannot work, or the kernel refused it."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class UsageError(EbpfError):
    """An argument that makes no sense: an unknown name, a value out of range, an object in the wrong state."""


class NotSupported(EbpfError):
    """A feature that is not modelled here or not present on this host. `since` names the kernel that has it."""

    def __init__(self, feature: str, *, since: str = "", why: str = "", span: Span | None = None) -> None:
        detail = f" (since Linux {since})" if since else ""
        super().__init__(f"{feature} is not supported{detail}{': ' + why if why else ''}", span=span)
        self.feature = feature
        self.since = since


class KernelError(EbpfError, OSError):
    """The kernel refused an operation; `errno` says how, the message says why and what to do."""

    def __init__(self, message: str, *, errno: int = 0, span: Span | None = None) -> None:
        EbpfError.__init__(self, message, span=span)
        self.errno = errno

    def __str__(self) -> str:
        return EbpfError.__str__(self)


class LoadError(KernelError):
    """A program or map could not be created (not a verifier rejection: that is `VerifierError`)."""


class AttachError(KernelError):
    """A program could not be attached, replaced or detached."""


class MapError(KernelError):
    """A map operation failed."""


class MapKeyError(MapError, KeyError):
    """The key is not in the map."""

    def __str__(self) -> str:
        return EbpfError.__str__(self)
