"""What the virtual machine refuses, as one table: instructions, program types, map types, helpers, kernel functions.

The reasons are kept where the refusals are made; here they are brought together for documentation and the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

__all__ = ["Limit", "limits", "to_markdown", "to_text"]

_TITLES = {
    "instruction": "Instructions",
    "program type": "Program types",
    "map type": "Map types",
    "helper": "Helpers",
    "kernel function": "Kernel functions",
    "difference": "What is there and differs from a kernel",
}


class Limit(NamedTuple):
    """Things of one kind that are refused for one reason."""

    kind: str
    names: tuple[str, ...]
    why: str


_INSTRUCTIONS = (
    Limit(
        "instruction",
        ("CALLX",),
        "no Linux takes it; without a program type it calls the helper whose number is in the register",
    ),
    Limit("instruction", ("INVALID",), "bytes that are no instruction stop the run with a fault"),
)
_DIFFERENCES = (
    Limit("difference", ("lru_hash", "lru_percpu_hash"), "forget exactly the entry used longest ago; the kernel "
          "decides by CPU and in batches, so a test that is to hold in both must not name the victim"),
    Limit("difference", ("sockmap", "sockhash", "reuseport_sockarray", "sk_storage"), "name sockets by their cookies "
          "(Socket.cookie) where user space gives the kernel descriptors; task_storage by pid, cgroups by id"),
    Limit("difference", ("prog_array", "array_of_maps", "hash_of_maps"), "hold numbers of the machine "
          "(Machine.program_id, MemoryStore.id), which can be read back"),
    Limit("difference", ("devmap", "devmap_hash", "cpumap", "xskmap"), "take any number and record it as the target "
          "of a redirection (Result.redirect): nothing is sent"),
    Limit("difference", ("bloom_filter",), "another hash than the kernel's: other false positives, at the same rate"),
    Limit("difference", ("tcp_gen_syncookie", "tcp_raw_gen_syncookie_ipv4", "tcp_raw_gen_syncookie_ipv6"), "cookies "
          "depend on cookie_secret= instead of the kernel's secret; sizes, ages and error numbers are the kernel's"),
    Limit("difference", ("skc_to_tcp_sock", "skc_to_udp6_sock"), "and their siblings: the kernel's structure has the "
          "bytes of Socket.kernel, and reading past them is a fault"),
    Limit("difference", ("trusted native code",), "counts no instructions (insns is None), has no budget and cannot "
          "be traced: it is for programs that the verifier accepted"),
    Limit("difference", ("big-endian hosts",), "hash tables and tries have no native stores there: the stores in "
          "Python are used"),
)  # fmt: skip


def limits() -> list[Limit]:
    """Everything that is refused, and why; then what is there and differs from a kernel."""
    from ebpfkit.maps.memory import UNSUPPORTED as MAPS
    from ebpfkit.vm.contexts import REFUSED_TYPES
    from ebpfkit.vm.helpers_unsupported import UNSUPPORTED as HELPERS
    from ebpfkit.vm.kfuncs import UNSUPPORTED as KFUNCS

    return [
        *_INSTRUCTIONS,
        *_grouped("program type", REFUSED_TYPES),
        *_grouped("map type", MAPS),
        *_grouped("helper", HELPERS),
        *_grouped("kernel function", KFUNCS),
        *_DIFFERENCES,
    ]


def _grouped(kind: str, reasons: Mapping[str, str]) -> Iterator[Limit]:
    """Rows that share a reason become one."""
    for why in dict.fromkeys(reasons.values()):
        yield Limit(kind, tuple(sorted(name for name, reason in reasons.items() if reason == why)), why)


def _sections(rows: Iterable[Limit]) -> Iterator[tuple[str, list[Limit]]]:
    chosen = list(rows)
    for kind, title in _TITLES.items():
        found = [row for row in chosen if row.kind == kind]
        if found:
            yield title, found


def to_markdown(rows: Iterable[Limit]) -> str:
    """The table as a page has it."""
    lines = []
    for title, found in _sections(rows):
        lines += [f"### {title}", "", "| | why, and what to do |", "|---|---|"]
        lines += [f"| {', '.join(f'`{name}`' for name in row.names)} | {row.why} |" for row in found]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def to_text(rows: Iterable[Limit]) -> str:
    """The table as a terminal has it."""
    import textwrap

    lines = []
    for title, found in _sections(rows):
        lines.append(title)
        for row in found:
            lines += textwrap.wrap(", ".join(row.names), 100, initial_indent="  ", subsequent_indent="  ")
            lines += textwrap.wrap(row.why, 96, initial_indent="      ", subsequent_indent="      ")
        lines.append("")
    return "\n".join(lines).rstrip()
