"""Kernel versions: which are known, which ebpfkit's verdicts were checked against, and what changed between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ebpfkit.errors import UsageError

__all__ = [
    "BACKPORTED", "BEHAVIOURS", "DEFAULT_KERNEL", "KNOWN", "LONGTERM", "MEASURED", "MEASURED_RELEASES", "Behaviour",
    "basis_of", "has_instruction", "is_at_least", "is_in_force", "parse_version",
]  # fmt: skip

DEFAULT_KERNEL: Final = "6.18"
"""The kernel that a verdict is for when nobody says otherwise."""

MEASURED: Final = ("6.1", "6.12", "6.18")
"""Kernels whose verdicts were compared with the verifier's, program by program."""

MEASURED_RELEASES: Final[Mapping[str, str]] = MappingProxyType(
    {"6.1": "6.1.192", "6.12": "6.12.117", "6.18": "6.18.44"}
)
"""The stable releases on which rows were measured: they carry changes that the first of the series had not."""

BACKPORTED: Final[Mapping[str, frozenset[str]]] = MappingProxyType({"6.1": frozenset({"JA32"})})
"""Instructions that the measured stable release of a series has, though they came with a later series."""

LONGTERM: Final = ("4.4", "4.9", "4.14", "4.19", "5.4", "5.10", "5.15", "6.1", "6.6", "6.12", "6.18")
"""Series with long support."""

_LAST_MINOR = {4: 20, 5: 19, 6: 19, 7: 3}
KNOWN: Final = tuple(
    f"{major}.{minor}" for major, last in _LAST_MINOR.items() for minor in range(4 if major == 4 else 0, last + 1)
)
"""Every series that rows may name as `since`, oldest first."""


def parse_version(text: str) -> tuple[int, int]:
    """The series of a kernel version as two numbers; patch level and distribution suffix are ignored.

    >>> parse_version("6.12.117-amd64")
    (6, 12)

    Raises UsageError when the text does not begin with two numbers.
    """
    parts = text.strip().split("-")[0].split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() and len(part) <= 4 for part in parts[:2]):
        raise UsageError(f"{text!r} is no kernel version: write it like 6.1 or 6.12")
    return int(parts[0]), int(parts[1])


def is_at_least(kernel: str, since: str) -> bool:
    """Whether `kernel` has what came with `since` ("": it always has).

    >>> is_at_least("6.1", "5.18"), is_at_least("5.10", "5.18"), is_at_least("4.9", "")
    (True, False, True)
    """
    return not since or parse_version(kernel) >= parse_version(since)


def has_instruction(kernel: str, name: str, since: str) -> bool:
    """Whether the kernel knows the instruction of this name, which came with `since`.

    >>> has_instruction("6.1", "JA32", "6.6"), has_instruction("5.15", "JA32", "6.6")
    (True, False)
    """
    return is_at_least(kernel, since) or name in BACKPORTED.get(kernel, ())


def basis_of(kernel: str) -> str:
    """ "measured" for a kernel that verdicts were checked against, else "documented"."""
    major, minor = parse_version(kernel)
    return "measured" if f"{major}.{minor}" in MEASURED else "documented"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A difference between kernels that can change a verdict.

    In force from `since` ("": always) to below `until` ("": still). `accepts_more`: programs that older kernels refuse
    are accepted while it is in force (else the reverse). `known_between` are the measured kernels between which it
    changed; `since` is then the upper one unless documentation says more. `confirmed`: by an experiment made for it.
    """

    name: str
    since: str
    summary: str
    accepts_more: bool = True
    until: str = ""
    known_between: tuple[str, str] | None = None
    confirmed: bool = False


def is_in_force(name: str, kernel: str) -> bool:
    """Whether the behaviour of this name is in force in this kernel; raises KeyError for an unknown name."""
    row = BEHAVIOURS[name]
    return is_at_least(kernel, row.since) and not (row.until and is_at_least(kernel, row.until))


_TO_612 = ("6.1", "6.12")
_TO_618 = ("6.12", "6.18")

_ROWS = (
    Behaviour("large-programs", "5.2", "programs and walks of up to 1,000,000 instructions"),
    Behaviour("bounded-loops", "5.3", "loops are walked round by round"),
    Behaviour("global-functions", "5.6", "global functions are verified apart, by their BTF prototype"),
    Behaviour("cpu-v3", "5.1", "32-bit jumps (atomics with fetch came with 5.12)"),
    Behaviour(
        "cpu-v4", "6.6", "signed division, sign extension, unconditional byte swap, long jumps", True, "", _TO_612
    ),
    Behaviour("may-goto", "6.9", "the may_goto instruction", True, "", _TO_612),
    Behaviour("register-comparison", "6.8", "comparing two non-constant registers decides branches", True, "", _TO_612),
    Behaviour(
        "bounds-32-signed-unsigned", "6.8", "signed and unsigned 32-bit bounds are intersected", True, "", _TO_612
    ),
    Behaviour(
        "equality-tightens", "6.8", "== and != against a constant tighten bounds at their ends", True, "", _TO_612
    ),
    Behaviour("global-argument-tags", "6.8", "arguments of global functions may carry tags", True, "", _TO_612),
    Behaviour("lazy-global-functions", "6.8", "only reachable global functions are verified", True, "", _TO_612),
    Behaviour("precision-over-calls", "6.4", "what numbers relied on is followed into functions", True, "", _TO_612),
    Behaviour("narrow-spills", "6.12", "narrow spills and fills keep bounds and ids", True, "", _TO_612),
    Behaviour(
        "zero-store-variable-offset", "6.8", "a zero stored at a variable offset keeps zeroes", True, "", _TO_612
    ),
    Behaviour("back-edges-anywhere", "6.12", "back edges anywhere for privileged users", True, "", _TO_612),
    Behaviour(
        "exact-infinite-loop", "6.12", "infinite loops are reported only for exactly equal states", True, "", _TO_612
    ),
    Behaviour("null-by-comparison", "6.12", "a pointer equal to a non-null one is non-null", True, "", _TO_612),
    Behaviour("lock-over-static-calls", "6.12", "a spin lock may be held across static functions", True, "", _TO_612),
    # It came with 6.3, and 6.1's stable releases have it too.
    Behaviour("uninitialised-reads", "6.1", "the privileged may read stack that was never written"),
    Behaviour("netfilter-programs", "6.4", "netfilter programs"),
    Behaviour("hashes-allocate-anywhere", "6.1", "perf events and sleepers use hash maps without preallocation"),
    Behaviour("cgroup-unix-hooks", "6.7", "socket address hooks for AF_UNIX"),
    Behaviour("cpu-id-range", "6.12", "bpf_get_smp_processor_id is below the number of CPUs", True, "", _TO_612, True),
    Behaviour(
        "pointer-zero-32-undecided",
        "6.12",
        "a 32-bit comparison of a pointer with 0 is not decided",
        False,
        "6.18",
        _TO_612,
        True,
    ),
    Behaviour(
        "constant-array-key", "6.18", "array look-up with a constant key in range is not NULL", True, "", _TO_618, True
    ),
    Behaviour(
        "helper-reads-keep-spills", "6.18", "a helper that reads the stack keeps spilled pointers", True, "", _TO_618
    ),
    Behaviour("negation-bounds", "6.18", "negation keeps bounds", True, "", _TO_618),
    Behaviour("stack-rounding-16", "6.8", "frames are rounded up to 16 bytes under a JIT, not 32", True, "", _TO_612),
    Behaviour("context-constants", "6.4", "a constant may be stored into the context", True, "", _TO_612),
    Behaviour("null-by-pointer-kind", "6.12", "maps and memory too are known not to be null", True, "", _TO_612),
    Behaviour("ranges-meet-at-ends", "6.17", "ranges that overlap at one end of the sign tighten", True, "", _TO_618),
    Behaviour(
        "whole-arguments", "6.12", "pointers in typed contexts are read as a whole only", False, "", _TO_612, True
    ),
    Behaviour("hook-returns", "6.12", "what LSM hooks return is bounded", False, "", _TO_612, True),
    Behaviour(
        "untrusted-memory",
        "6.17",
        "a kernel structure's pointer to anything but a structure is memory read with care, not a number",
        True,
        "",
        _TO_618,
        True,
    ),
    Behaviour("wrapping-sums", "6.17", "sums of which both ends wrap keep bounds", True, "", _TO_618),
    Behaviour("product-bounds", "6.14", "products of negative numbers keep bounds", True, "", _TO_618),
    Behaviour("forked-masks", "6.18", "and, or with a constant split the path at 0 or all ones", True, "", _TO_618),
    Behaviour("linked-sums", "6.11", "a number plus a constant keeps its link", True, "", _TO_612),
    Behaviour("linked-differences", "6.18", "links at negative and at 32-bit distances", True, "", _TO_618),
    Behaviour("moves-32-linked", "6.8", "32-bit moves of small numbers link both", True, "", _TO_612),
    Behaviour("bits-decide-equality", "6.18", "known bits that differ decide == and !=", True, "", _TO_618),
    Behaviour("may-goto-anywhere", "6.18", "may_goto to the next instruction", True, "", _TO_618),
    Behaviour("byte-swap-bounds", "6.18", "byte swaps keep known bits", True, "", _TO_618),
    Behaviour("dead-registers-unlinked", "6.18", "links of numbers leave dead registers out", True, "", _TO_618),
    Behaviour("private-stacks", "6.13", "tracing programs get stacks of their own", True, "", _TO_618),
    Behaviour("more-tracing-helpers", "6.16", "many tracing helpers in every program type", True, "", _TO_618),
    Behaviour("register-ids-compared", "6.12", "ids of registers count when states are compared", False, "", _TO_612),
    Behaviour("dynptr-rules", "6.12", "dynptrs may not be overwritten or partly used", False, "", _TO_612),
    Behaviour("exact-return-range", "6.12", "the return value is checked precisely at exit", False, "", _TO_612),
    Behaviour("packet-dies-in-global-call", "6.12", "packet pointers die across global functions", False, "", _TO_612),
    Behaviour("packet-dies-in-tail-call", "6.12", "packet pointers die across tail calls", False, "", _TO_612),
    Behaviour("tail-calls-return", "6.18", "what a tail call went to returns to the caller", False, "", _TO_618, True),
    Behaviour("callbacks-from-none", "6.12", "a loop of no rounds does not walk its callback", True, "", _TO_612, True),
    Behaviour("locks-while-sleeping", "6.7", "sleepable programs use maps with locks", True, "", _TO_612),
    Behaviour(
        "storage-of-null",
        "6.12",
        "storage may be asked for with NULL",
        True,
        "",
        _TO_612,
        True,
    ),
    Behaviour("counting-under-locks", "6.18", "loops over numbers under a spin lock", True, "", _TO_618, True),
    Behaviour("casts-to-void", "6.17", "bpf_rdonly_cast to memory without a type", True, "", _TO_618, True),
    Behaviour("modifiable-tests", "6.12", "the kernel's test functions may be modified", True, "", _TO_612, True),
    Behaviour("more-sleepable-maps", "6.12", "sleepable programs use queues and stacks", True, "", _TO_612),
    Behaviour("kptr-tags", "6.2", "kptr tags are called kptr_untrusted and kptr", True, "", _TO_612),
    Behaviour(
        "message-reference-leak", "6.18", "a leak at exit is told as what the exit would lead to", True, "", _TO_618
    ),
    Behaviour(
        "message-stack-access", "6.18", "'invalid read from stack' instead of 'indirect access'", True, "", _TO_618
    ),
    Behaviour("message-return-range", "6.12", "return ranges as smin= smax=", True, "", _TO_612),
    Behaviour("structured-messages", "7.3", "rejections are explained in sections after the log", True),
)

BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType({row.name: row for row in _ROWS})
"""Every known difference between kernels by its name."""
