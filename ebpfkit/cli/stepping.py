"""`ebpfkit run --step`: through one run by hand, forwards and backwards, at a prompt that also reads from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from inspect import signature
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from ebpfkit._bits import U64_MAX
from ebpfkit.errors import EbpfError, UsageError

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine
    from ebpfkit.vm.stepper import Stepper

__all__ = ["run_stepping"]

_HELP = """step [N]       forward by N instructions (s)      back [N]       backward (b)
continue       to the next breakpoint (c)         reverse        back to the last one (r)
break LINE     stop where a source line begins    break slot N   stop before slot N
clear          forget all breakpoints             where          show this place again (w)
regs           registers r0 to r10                mem PLACE [N]  N bytes at r1, r10-8 or 0x...
maps           entries of every map here          quit           leave (q)"""
_ALIASES: Final = MappingProxyType(
    {"s": "step", "n": "step", "b": "back", "c": "continue", "r": "reverse", "w": "where", "q": "quit", "h": "help"}
)
_DEFAULT_BYTES = 16
_MAX_BYTES = 4096
_MAX_ENTRIES = 20


def run_stepping(make: Callable[[], Machine], packet: bytes, name_of: Callable[[int], str], **options: Any) -> None:
    """Record a run of a machine that `make` gives, then obey what stdin says. Ends with `quit` or the input."""
    from ebpfkit.vm.stepper import Stepper

    stepper = Stepper(make, packet, **options)
    prompt = _Prompt(stepper, name_of)
    count = len(stepper)
    click.echo(f"{count} instruction{'' if count == 1 else 's'}; `help` lists what can be said")
    prompt.where()
    for line in _lines():
        if not prompt.obey(line):
            break


def _lines() -> Iterator[str]:
    stream, shown = sys.stdin, sys.stdin.isatty()
    while True:
        if shown:
            click.echo("(step) ", nl=False)
        line = stream.readline()
        if not line:
            return
        yield line


class _Prompt:
    """What each command does; an empty line repeats the last one."""

    def __init__(self, stepper: Stepper, name_of: Callable[[int], str]) -> None:
        self.stepper = stepper
        self.name_of = name_of
        self._last = "step"

    def obey(self, line: str) -> bool:
        """Do what a line says; False to leave. Mistakes are said, and change nothing."""
        text = line.strip() or self._last
        self._last = text
        word, *rest = text.split()
        command = _ALIASES.get(word, word)
        if command == "quit":
            return False
        action = _COMMANDS.get(command)
        try:
            if action is None:
                raise UsageError(f"there is no {word!r}: `help` lists what can be said")
            try:
                arguments = signature(action).bind(self, *rest)
            except TypeError:
                raise UsageError(f"`{command}` does not take {' '.join(rest)!r}: `help` says what it takes") from None
            action(*arguments.args)
        except EbpfError as error:
            click.echo(error.message)
        return True

    def help(self) -> None:
        click.echo(_HELP)

    def where(self) -> None:
        """This place: the source line, the instruction; at the end how the run ended."""
        stepper = self.stepper
        if not stepper.at_end:
            span = stepper.entry.instruction.span
            if span is not None:
                click.echo(f"{span.file}:{span.line}: {(span.text or '').strip()}".rstrip(": "))
            click.echo(f"{stepper.position:>6}  {stepper.entry}")
        elif stepper.fault is not None:
            click.echo(f"fault: {stepper.fault.message}")
        elif stepper.result is not None:
            click.echo(f"end: {self.name_of(stepper.result.r0)}, {len(stepper)} instructions")

    def step(self, count: str = "1") -> None:
        self.stepper.step(_number(count))
        self.where()

    def back(self, count: str = "1") -> None:
        self.stepper.back(_number(count))
        self.where()

    def go_on(self) -> None:
        self.stepper.run()
        self.where()

    def reverse(self) -> None:
        self.stepper.run_back()
        self.where()

    def stop_at(self, *place: str) -> None:
        if len(place) == 2 and place[0] == "slot":
            slots = {_number(place[1])}
            self.stepper.breakpoints |= slots
        elif len(place) == 1:
            slots = self.stepper.break_at_line(_number(place[0]))
        else:
            raise UsageError("say `break LINE` or `break slot N`")
        click.echo(f"breakpoint before slot {', '.join(map(str, sorted(slots)))}")

    def clear(self) -> None:
        self.stepper.breakpoints.clear()

    def regs(self) -> None:
        for number, value in enumerate(self.stepper.registers):
            click.echo(f"r{number:<3}{value:#x}")

    def mem(self, place: str, count: str = str(_DEFAULT_BYTES)) -> None:
        address, size = self._address(place), min(_number(count), _MAX_BYTES)
        data = self.stepper.read(address, size)
        for start in range(0, size, 16):
            click.echo(f"{address + start:#x}  {data[start : start + 16].hex(' ')}")

    def maps(self) -> None:
        for name, store in self.stepper.maps.items():
            entries = list(store.items()) if store.spec.key_size else []
            shown = [(key, value) for key, value in entries if any(value) or "array" not in store.spec.type]
            click.echo(f"{name} ({store.spec.type}): {len(shown)}")
            for key, value in shown[:_MAX_ENTRIES]:
                click.echo(f"  {key.hex(' ')}: {value.hex(' ')}")

    def _address(self, place: str) -> int:
        """`r10-8`, `r1`, `0x...`."""
        base, sign, distance = place.replace("-", "+-").partition("+")
        offset = _number(distance) if sign else 0
        if base.startswith("r") and base[1:].isdecimal() and int(base[1:]) <= 10:
            return (self.stepper.registers[int(base[1:])] + offset) & U64_MAX
        return (_number(base) + offset) & U64_MAX


_COMMANDS: Final[MappingProxyType[str, Callable[..., None]]] = MappingProxyType(
    {
        "help": _Prompt.help,
        "where": _Prompt.where,
        "step": _Prompt.step,
        "back": _Prompt.back,
        "continue": _Prompt.go_on,
        "reverse": _Prompt.reverse,
        "break": _Prompt.stop_at,
        "clear": _Prompt.clear,
        "regs": _Prompt.regs,
        "mem": _Prompt.mem,
        "maps": _Prompt.maps,
    }
)


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{text!r} is no number") from None
