"""The options of `run` and `diff-run` that say what a program finds: entries of maps, context, time, chance, tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.pipeline import Source, Surrounding
    from ebpfkit.testing.subjects import Subject

__all__ = ["Given", "open_packet", "surrounding_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Given:
    """What the options said."""

    entries: tuple[str, ...]
    context: dict[str, int]
    time_ns: int | None
    seed: int
    tables: Path | None
    prog_type: str

    def source(self, file: Path) -> Source:
        """The FILE."""
        from ebpfkit import pipeline

        return pipeline.open_source(file, prog_type=self.prog_type)

    def subject(self, file: Path, name: str | None) -> Subject:
        """The FILE as a subject of tests, with the entries in its maps."""
        from ebpfkit import pipeline
        from ebpfkit.testing.subjects import subject_of

        subject = subject_of(file, name, prog_type=self.prog_type)
        source = pipeline.Source(str(file), subject.object, subject.facades)
        numbers = {program: number for number, program in enumerate(subject.object.programs, 1)}
        return subject.with_entries(pipeline.read_entries(source, self.entries, numbers))

    def surrounding(self) -> Surrounding:
        """As the virtual machine takes it."""
        from ebpfkit import pipeline

        around = pipeline.read_tables(self.tables) if self.tables is not None else {}
        return pipeline.Surrounding(self.entries, self.context, self.time_ns, self.seed, around)


def surrounding_options(command: _Command) -> _Command:
    """Add the options; the command gets them as `given`."""
    options = (
        click.option(
            "--map",
            "entries",
            multiple=True,
            metavar="NAME[KEY]=VALUE",
            help="An entry that a map holds at the start; NAME=@FILE takes a map out of what --json or `bpftool map "
            "dump -j` printed. Numbers, addresses, prefixes, Python literals of the map's types, or hex:0a0b.",
        ),
        click.option(
            "--ctx",
            "fields",
            multiple=True,
            metavar="FIELD=NUMBER",
            help="A field of the context: ingress_ifindex=3, rx_queue_index=1, mark=7.",
        ),
        click.option(
            "--time",
            "seconds",
            metavar="SECONDS",
            help="What the clock says throughout. Default: the time stamp of each packet.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Where the random numbers start."),
        click.option(
            "--tables",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Routes, neighbours, devices, sockets, the task and more as TOML, for the helpers that ask for them "
            "(bpf_fib_lookup, bpf_sk_lookup_tcp, ...).",
        ),
        click.option(
            "--type",
            "prog_type",
            default="xdp",
            show_default=True,
            metavar="TYPE",
            help="Program type of a FILE that is only instructions (assembly, raw bytes).",
        ),
    )

    def wrapped(**values: Any) -> Any:
        given = Given(
            values.pop("entries"),
            _fields(values.pop("fields")),
            _nanoseconds(values.pop("seconds")),
            values.pop("seed"),
            values.pop("tables"),
            values.pop("prog_type"),
        )
        return command(given=given, **values)

    wrapped.__doc__ = command.__doc__
    wrapped.__name__ = command.__name__
    decorated: Any = wrapped
    decorated.__click_params__ = getattr(command, "__click_params__", [])
    for option in reversed(options):
        decorated = option(decorated)
    chosen: _Command = decorated
    return chosen


def _fields(texts: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            found[name] = int(number, 0)
        except ValueError as error:
            raise UsageError(f"--ctx takes FIELD=NUMBER, such as ingress_ifindex=3, not {text!r}") from error
        if not equals or not name:
            raise UsageError(f"--ctx takes FIELD=NUMBER, such as ingress_ifindex=3, not {text!r}")
    return found


def _nanoseconds(text: str | None) -> int | None:
    """Seconds as text, exactly: a float has no room for nanoseconds since 1970."""
    from decimal import Decimal, InvalidOperation

    if text is None:
        return None
    try:
        value = int(Decimal(text) * _NANO)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise UsageError(f"--time takes seconds, such as 1.5, not {text!r}") from error
    if not 0 <= value < 1 << 64:
        raise UsageError(f"--time takes seconds that fit into 64 bits of nanoseconds, not {text}")
    return value


def open_packet(digits: str) -> bytes:
    """The packet that `--packet` gives."""
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise UsageError(f"--packet takes hex digits, two a byte: {error}") from error
