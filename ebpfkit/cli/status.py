"""Exit statuses, the same for every command, and the shapes that several commands print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ebpfkit.errors import (
    EbpfError,
    KernelError,
    MachineFault,
    NotSupported,
    UsageError,
    VerifierError,
    XskError,
)

__all__ = [
    "ACCEPTED", "BAD_INPUT", "REFUSED", "REJECTED", "UNSUPPORTED", "exit_status", "print_json", "worst_verdict",
    "write_output",
]  # fmt: skip

ACCEPTED, REJECTED, BAD_INPUT, REFUSED, UNSUPPORTED = 0, 1, 2, 3, 4


def exit_status(error: EbpfError) -> int:
    """The status for an error that ends a command."""
    if isinstance(error, (VerifierError, MachineFault)):
        return REJECTED
    if isinstance(error, (KernelError, XskError)):
        return REFUSED
    if isinstance(error, NotSupported):
        return UNSUPPORTED
    return BAD_INPUT


def worst_verdict(verdicts: list[str]) -> int:
    """The status for several verdicts: a rejection goes before `unsupported`, that before acceptance."""
    if "reject" in verdicts:
        return REJECTED
    return UNSUPPORTED if "unsupported" in verdicts else ACCEPTED


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, default=str))


def write_output(path: Path, data: bytes) -> None:
    """Write what a command made; a path that cannot be written is a UsageError that names it."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
