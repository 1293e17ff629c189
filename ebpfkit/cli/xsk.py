"""`ebpfkit xsk`: AF_XDP from the shell, with live rates: drop, send, send back, capture, and who has sockets."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.status import print_json
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Program
    from ebpfkit.xsk import Running, XskSocket
    from ebpfkit.xsk.workers import Threads

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.group(name="xsk", short_help="AF_XDP sockets from the shell: drop, send, forward, capture.")
def command() -> None:
    """Receive and send on a device's queues through AF_XDP sockets. Ends with Ctrl-C, or after --seconds.

    While one of these runs, the packets of its queues do not reach the network stack.
    """


def _common(function: Callable[..., None]) -> Callable[..., None]:
    """The options that rxdrop, txonly and l2fwd have in common."""
    for option in reversed(
        (
            click.argument("dev"),
            click.option("--queues", metavar="0,1", help="Which queues (default: all)."),
            click.option("--mode", type=click.Choice(["auto", "copy", "zero-copy"]), default="auto", show_default=True),
            click.option("--seconds", type=float, help="End after so long."),
            click.option("--interval", type=float, default=1.0, show_default=True, help="Seconds between two lines."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end."),
        )
    ):
        function = option(function)
    return function


@command.command(name="rxdrop")
@_common
@click.option("--attach", type=click.Choice(["native", "skb"]), help="Where the XDP program runs.")
def rxdrop(attach: str | None, **options: Any) -> None:
    """Receive and drop: how fast packets come in."""
    from ebpfkit.xsk.apps import drop

    _receive("rxdrop", drop, attach, **options)


@command.command(name="l2fwd")
@_common
@click.option("--attach", type=click.Choice(["native", "skb"]), help="Where the XDP program runs.")
def l2fwd(attach: str | None, **options: Any) -> None:
    """Send every packet back with its MAC addresses exchanged."""
    from ebpfkit.xsk.apps import forward

    _receive("l2fwd", forward, attach, **options)


@command.command(name="txonly")
@_common
@click.option("--rate", type=float, help="Packets a second and queue (default: as many as go).")
@click.option("--count", type=int, help="End after so many packets a queue.")
@click.option("--size", type=click.IntRange(14, 4096), default=64, show_default=True, help="Bytes of each packet.")
@click.option("--packet", metavar="HEX", help="The whole packet, in place of an empty one of --size bytes.")
def txonly(
    dev: str, queues: str | None, mode: str, rate: float | None, count: int | None, size: int, packet: str | None,
    **options: Any,
) -> None:  # fmt: skip
    """Send the same packet over and over."""
    from ebpfkit.xsk import XskSocket
    from ebpfkit.xsk.apps import generator
    from ebpfkit.xsk.workers import Threads

    data = _packet(packet, size)
    with ExitStack() as undo:
        sockets = {
            queue: undo.enter_context(XskSocket(dev, queue, mode=mode, rx_size=0, frame_count=512))
            for queue in _queues(queues) or (0,)
        }
        _watch("txonly", sockets, Threads(sockets, generator(data, rate=rate, count=count)), **options)


@command.command(name="dump")
@click.argument("dev")
@click.option("--queues", metavar="0,1", help="Which queues (default: all).")
@click.option("--write", "-w", "path", type=click.Path(dir_okay=False, path_type=Path), help="To a pcapng file.")
@click.option("--count", "-c", type=int, help="End after so many packets.")
@click.option("--seconds", type=float, help="End after so long.")
@click.option("--attach", type=click.Choice(["native", "skb"]), help="Where the XDP program runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end, with each packet.")
def dump(
    dev: str, queues: str | None, path: Path | None, count: int | None, seconds: float | None, attach: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Print or write the packets that come in. They are taken: the network stack does not see them."""
    from ebpfkit.xsk import XskGroup
    from ebpfkit.xsk.capture import PcapngWriter, describe_packet

    taken = 0
    packets: list[dict[str, Any]] = []
    end = None if seconds is None else time.monotonic() + seconds
    with ExitStack() as undo:
        stop = undo.enter_context(_stop_signals())
        writer = None
        if path is not None:
            writer = PcapngWriter(undo.enter_context(path.open("wb")))
        group = undo.enter_context(XskGroup(dev, _queues(queues), attach_mode=attach, multi_buffer=True))
        while not stop.is_set() and (end is None or time.monotonic() < end) and (count is None or taken < count):
            for sock in group.wait(0.1):
                for frame in sock.receive(0, count=64 if count is None else min(64, count - taken) or 1):
                    if count is not None and taken >= count:
                        break
                    taken += 1
                    if writer is not None:
                        writer.write(bytes(frame))
                    if as_json:
                        packets.append({"queue": sock.queue, "length": len(frame), "data": bytes(frame).hex()})
                    elif writer is None:
                        click.echo(f"queue {sock.queue}  {describe_packet(bytes(frame))}")
        statistics = group.statistics()
    if as_json:
        print_json({"packets": packets, "statistics": asdict(statistics)})
        return
    lines = statistics.explain()
    for line in [f"{taken} packets", *lines]:
        click.echo(line, err=True)


@command.command(name="stats")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def stats(as_json: bool) -> None:
    """The AF_XDP sockets of all processes, and what the kernel counted for each."""
    from ebpfkit.xsk.others import find_sockets

    found = find_sockets()
    if as_json:
        print_json([asdict(other) for other in found])
        return
    for other in found:
        mode = "zero-copy" if other.zero_copy else "copy"
        click.echo(f"process {other.pid} ({other.command}), descriptor {other.descriptor}, {mode}")
        for name, value in asdict(other.statistics).items():
            click.echo(f"  {name:<20} {value}")
        for line in other.statistics.explain():
            click.echo(f"  ! {line}")
    if not found:
        click.echo("no AF_XDP sockets")


def _queues(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--queues wants numbers with commas between them, not {text!r}") from None


def _packet(text: str | None, size: int) -> bytes:
    if text is None:
        # From a locally administered address to everybody, of the EtherType for local experiments.
        return (b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5").ljust(size, b"\0")
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"--packet wants hexadecimal digits, two a byte, not {text[:20]!r}") from None
    if len(data) < 14:
        raise UsageError(f"a packet has an Ethernet header of 14 bytes at least, not {len(data)}")
    return data


def _receive(
    name: str, handler: Program, attach: str | None, *, dev: str, queues: str | None, mode: str, **options: Any
) -> None:
    from ebpfkit.xsk import XskGroup

    with XskGroup(dev, _queues(queues), attach_mode=attach, mode=mode, frame_size=2048) as group:
        _watch(name, group.sockets, group.run(handler), **options)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    event = threading.Event()
    before = {number: signal.signal(number, lambda *_: event.set()) for number in _SIGNALS}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(
    name: str, sockets: Mapping[int, XskSocket], work: Running | Threads, *, seconds: float | None, interval: float,
    as_json: bool,
) -> None:  # fmt: skip
    """Print the rates of what works on the sockets until it is over."""
    from ebpfkit.xsk.apps import Rates

    rates, samples = Rates(sockets), []
    started = time.monotonic()
    end = None if seconds is None else started + seconds
    with work as workers, _stop_signals() as stop:
        if interval <= 0:
            raise UsageError(f"--interval is a positive number of seconds, not {interval}")
        if not as_json:
            zero_copy = all(sock.zero_copy for sock in sockets.values())
            mode = "zero-copy" if zero_copy else "copy"
            click.echo(f"{name} on queues {', '.join(map(str, sockets))}, {mode} mode; Ctrl-C ends")
            sys.stdout.flush()
        while not stop.is_set() and workers.is_running and (end is None or time.monotonic() < end):
            left = interval if end is None else min(interval, max(0.0, end - time.monotonic()))
            workers.wait(left, stop)
            sample = rates.sample()
            samples.append(asdict(sample))
            if not as_json:
                click.echo(f"rx {sample.received:>12,.0f}/s   tx {sample.sent:>12,.0f}/s   lost {sample.lost:>8,}")
                sys.stdout.flush()
    statistics = rates.statistics()
    if as_json:
        print_json({
            "command": name, "queues": list(sockets), "seconds": time.monotonic() - started, "received": rates.received,
            "sent": rates.sent, "statistics": asdict(statistics), "samples": samples,
        })  # fmt: skip
    else:
        click.echo(f"{rates.received:,} received, {rates.sent:,} sent, {statistics.lost:,} lost")
        for line in statistics.explain():
            click.echo(line)
