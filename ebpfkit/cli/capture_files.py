"""Captures as `run` reads and writes them: one output file, or one for each action, and how far it has come."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.vm.pcap import Packet, PcapReader, PcapWriter

__all__ = ["Outputs", "progress"]

_MAX_FILES = 64
_LONG = 1 << 20  # bytes of a capture that is worth a progress bar
_EVERY = 256  # packets between two looks at how far it has come


class Outputs:
    """Where packets go: `out` takes all of them, `directory` gets a file named after each action.

    The link type is that of the capture's first packet; stamps keep their nanoseconds.
    """

    def __init__(self, out: Path | None = None, directory: Path | None = None) -> None:
        self._out = out
        self._directory = directory
        self._files = ExitStack()
        self._writers: dict[str, PcapWriter] = {}
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"{directory}: {error.strerror or error}") from error

    def write(self, frame: Packet, data: bytes, action: str) -> None:
        """A packet as the program left it."""
        if self._out is not None:
            self._writer("", self._out, frame).write(data, time_ns=frame.time_ns)
        if self._directory is not None:
            name = re.sub(r"[^a-z0-9_]", "_", action.lower())
            if name not in self._writers and len(self._writers) >= _MAX_FILES:
                raise UsageError(f"--out-dir would need more than {_MAX_FILES} files: the program returns no actions")
            self._writer(name, self._directory / f"{name}.pcap", frame).write(data, time_ns=frame.time_ns)

    def _writer(self, name: str, path: Path, frame: Packet) -> PcapWriter:
        writer = self._writers.get(name)
        if writer is None:
            from ebpfkit.vm.pcap import PcapWriter

            writer = self._files.enter_context(PcapWriter(path, link_type=frame.link_type))
            self._writers[name] = writer
        return writer

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from ebpfkit.vm.pcap import PcapWriter

        if self._out is not None and "" not in self._writers and kind is None:
            PcapWriter(self._out).close()  # a capture without packets is a capture
        self._files.close()


@contextmanager
def progress(reader: PcapReader, path: Path) -> Iterator[Iterator[Packet]]:
    """The packets of a capture; of a long one with a bar on standard error when that is a terminal."""
    size = os.path.getsize(path)
    if size < _LONG or not sys.stderr.isatty():
        yield iter(reader)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(path.name), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as shown:
        task = shown.add_task("", total=size)
        yield _watched(reader, lambda offset: shown.update(task, completed=offset))


def _watched(reader: PcapReader, report: Callable[[int], None]) -> Iterator[Packet]:
    for number, packet in enumerate(reader):
        if not number % _EVERY:
            report(reader.offset)
        yield packet
    report(reader.offset)
