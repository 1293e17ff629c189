"""How a program of each type attaches: the one table that `attach()` in Python and `ebpfkit load` both read.

What the kernel is asked for is `ebpfkit.loader.links`'; loading before and pinning afterwards is `loading`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import NotSupported, UsageError

if TYPE_CHECKING:
    from ebpfkit.loader.links.base import Link as LiveLink
    from ebpfkit.loader.program import Program as LiveProgram

__all__ = ["WAYS", "ShellPlace", "Way", "attach_live", "shell_place"]


@dataclass(frozen=True, slots=True)
class Way:
    """How programs of one type attach.

    `wants` is the place that Python names, "" where a program knows its own; `options` are the keywords of `attach`.
    `needs` and `may` are the options of `ebpfkit load`; `no_shell` says why a shell has no place for them.
    """

    attach: Callable[[LiveProgram, Any, Mapping[str, Any]], LiveLink]
    wants: str = ""
    options: frozenset[str] = frozenset()
    needs: str = ""
    may: frozenset[str] = frozenset()
    no_shell: str = ""


def _to_traffic(live: LiveProgram, place: Any, given: Mapping[str, Any]) -> LiveLink:
    options = dict(given)
    return live.attach_tc(place, options.pop("mode", "ingress"), **options)


_AT_EVENT = Way(lambda live, _place, _given: live.attach_event())
_TRACING = Way(lambda live, _place, _given: live.attach_tracing(), may=frozenset({"target"}))

WAYS: Mapping[str, Way] = {
    "xdp": Way(
        lambda live, place, given: live.attach_xdp(place, **given),
        wants="a device",
        options=frozenset({"mode", "via", "replace", "keep"}),
        needs="dev",
        may=frozenset({"mode"}),
    ),
    "sched_cls": Way(
        _to_traffic,
        wants="a device",
        options=frozenset({"mode", "via", "priority"}),
        needs="dev",
        may=frozenset({"at", "via"}),
    ),
    "cgroup_skb": Way(
        lambda live, place, _given: live.attach_cgroup(place), wants="the folder of a control group", needs="cgroup"
    ),
    "socket_filter": Way(
        lambda live, place, _given: live.attach_socket(place),
        wants="a socket",
        no_shell="it attaches to a socket that the process has open, and a shell has none: in Python, "
        "attach(sock) of the decorated function or attach_socket(sock) of a loaded program",
    ),
    "perf_event": Way(
        lambda live, _place, given: live.attach_clock(**given), options=frozenset({"hz", "pid", "cpu"}), needs="hz"
    ),
    "kprobe": _AT_EVENT,
    "tracepoint": _AT_EVENT,
    "raw_tracepoint": _TRACING,
    "raw_tracepoint_writable": _TRACING,
    "tracing": _TRACING,
    "lsm": _TRACING,
    "ext": _TRACING,
}
"""The ways by program type; types that are missing do not attach by themselves, or not by this package."""


def attach_live(live: LiveProgram, decorator: str, place: Any, given: Mapping[str, Any]) -> LiveLink:
    """Attach a loaded program to what Python's `attach` was given. Raises UsageError for a place that suits it not."""
    way = WAYS[live.prog_type]
    if way.needs == "hz":
        if place is not None or "mode" in given or "hz" not in given:
            raise UsageError(f"a {decorator} program attaches to a clock: write attach(hz=100), with pid= or cpu=")
    elif not way.wants:
        if place is not None or given:
            raise UsageError(f"a {decorator} program knows its place by itself: write attach()")
    elif place is None:
        raise UsageError(f"say where to attach: a {decorator} program attaches to {way.wants}")
    if unknown := sorted(set(given) - way.options):
        raise UsageError(f"attaching a {decorator} program takes no {', '.join(unknown)}")
    return way.attach(live, place, given)


@dataclass(frozen=True, slots=True)
class ShellPlace:
    """Where the options of `ebpfkit load` put a program.

    `place` and `options` are what its way of attaching is called with; `dev` is the device ("": none), `direction`
    that of traffic control; `target` is the id of a program that it traces or replaces a function of.
    """

    way: Way
    place: Any = None
    options: Mapping[str, Any] | None = None
    dev: str = ""
    direction: str = ""
    target: int | None = None

    def attach(self, live: LiveProgram) -> LiveLink:
        """Attach a loaded program there. Raises AttachError, UsageError."""
        return self.way.attach(live, self.place, self.options or {})

    def named(self, spec: ProgramSpec) -> str:
        """What a summary calls it: the control group, the clock, or what the section names."""
        rate = (self.options or {}).get("hz")
        return f"{rate} Hz" if rate else str(self.place or spec.attach_target or "")


_MEANINGS = {
    "dev": "--dev is for XDP programs and those of traffic control",
    "mode": "--mode says where on a device an XDP program runs",
    "at": "--at says which way a program of traffic control looks",
    "via": "--via says how a program of traffic control is kept",
    "cgroup": "--cgroup is the control group of a cgroup_skb program",
    "hz": "--hz is the clock of a perf_event program",
    "target": "--target is the program that a tracing or freplace program is for",
}
_MISSING = {
    "dev": "say on which device, --dev D",
    "cgroup": "say in which control group, --cgroup FOLDER (below where cgroup2 is mounted)",
    "hz": "say how many times a second it runs, --hz N",
}
_SPOKEN = {"xdp": "XDP", "sched_cls": "of traffic control"}


def shell_place(spec: ProgramSpec, given: Mapping[str, Any]) -> ShellPlace:
    """What the options of `ebpfkit load` (by name, those that were given) say for one program.

    Raises UsageError where they do not fit its type, NotSupported for types that nothing here attaches.
    """
    kind = _SPOKEN.get(spec.prog_type, f"of type {spec.prog_type}")
    way = WAYS.get(spec.prog_type)
    if way is None:
        raise NotSupported(f"attaching a program {kind} ({spec.name}) by `ebpfkit load`", why="no link here is for it")
    if way.no_shell:
        raise UsageError(f"program {spec.name} is {kind}: {way.no_shell}")
    if stray := sorted(set(given) - way.may - {way.needs}):
        raise UsageError(f"{_MEANINGS[stray[0]]}; program {spec.name} is {kind}")
    if way.needs and way.needs not in given:
        raise UsageError(f"program {spec.name} is {kind}: {_MISSING[way.needs]}")
    dev = given.get("dev", "")
    if spec.prog_type == "sched_cls":
        direction = _direction(spec, given.get("at"))
        via = {"via": given["via"]} if "via" in given else {}
        return ShellPlace(way, dev, {"mode": direction, **via}, dev=dev, direction=direction)
    options = {name: given[name] for name in ("mode", "hz") if name in given}
    return ShellPlace(way, dev or given.get("cgroup"), options, dev=dev, target=given.get("target"))


def _direction(spec: ProgramSpec, at: str | None) -> str:
    """The direction that the section of a traffic control program says, or else --at."""
    said = (spec.attach_type or "").removeprefix("tcx_")
    if said not in ("", "ingress", "egress"):
        raise NotSupported(f"attaching to netkit devices ({spec.name}, section {spec.section!r})")
    if said and at and at != said:
        raise UsageError(f"program {spec.name} is for the {said} by its section {spec.section!r}, not for --at {at}")
    if not (said or at):
        raise UsageError(
            f"program {spec.name} does not say its direction: --at ingress or --at egress (sections tcx/ingress and "
            "tcx/egress say it by themselves)"
        )
    return said or at or ""
