"""Functions of the kernel that programs may call (kfuncs): `@kfunc` declares one, and some are declared here.

The declaration is the prototype in the kernel's own types; its body is what plain Python does instead. Kernels promise
nothing about them: the loader compares the declaration with the running kernel's and refuses what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal, TypeVar

from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import be16, s32, u16, u32, u64
from ebpfkit.errors import NotSupported

__all__ = [
    "Dynptr",
    "bpf_dynptr_from_xdp",
    "bpf_dynptr_size",
    "bpf_dynptr_slice",
    "bpf_xdp_metadata_rx_hash",
    "bpf_xdp_metadata_rx_timestamp",
    "bpf_xdp_metadata_rx_vlan_tag",
    "is_kfunc",
    "kfunc",
    "of_kernel",
]

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Struct)
_MARK = "__ebpf_kfunc__"
_EOPNOTSUPP = -95


def kfunc(function: F, /) -> F:
    """Declare a function of the kernel by its prototype.

        @bpf.kfunc
        def bpf_xdp_metadata_rx_hash(
            ctx: Packet, hash: array[u32, Literal[1]], kind: array[u32, Literal[1]]
        ) -> s32:
            raise NotImplementedError

    `Packet` is the program's context; numbers stand for themselves; an array is a pointer to its element, a structure a
    pointer to it, `object` a `void *`. The result is a number, None, a structure of the kernel's or such `| None`.
    The body is what plain Python does instead; `raise NotImplementedError`, or `...`, refuses there.
    """
    given: object = function
    if not isinstance(given, FunctionType):
        refuse("not-a-function", f"@kfunc decorates a function, not a {type(function).__name__}")
    setattr(function, _MARK, True)
    return function


def is_kfunc(function: object) -> bool:
    """Whether a function is declared with `@kfunc`."""
    return getattr(function, _MARK, False) is True


def _nothing() -> None: ...


def _documented() -> None:
    """Says something."""


_EMPTY = {_nothing.__code__.co_code, _documented.__code__.co_code}


def of_kernel(function: FunctionType, inside: Callable[..., Any]) -> Callable[..., Any]:
    """A kfunc in plain Python: its body, where it has one."""

    def call(*args: Any, **kwargs: Any) -> Any:
        _before_call(function)
        try:
            return inside(*args, **kwargs)
        except NotImplementedError:
            raise _only_kernel(function.__name__) from None

    return call


def _only_kernel(name: str) -> NotSupported:
    return NotSupported(f"the kernel function {name} in plain Python", why='give it a body, or run on="kernel"')


def _before_call(function: FunctionType) -> None:
    """What plain Python refuses of a call of a kfunc: one without a body, one in a lock, one outside of a run."""
    run, name = current_run(), function.__name__
    if run is None:
        refuse("program-only", f"the kernel function {name}() has a meaning only in a running program")
    if run.locked:
        refuse("in-lock", f"{name}() is called while a spin lock is held", "call it before or after the with")
    returns_nothing = function.__annotations__.get("return", "") in (None, "None")
    code = function.__code__
    is_empty = code.co_code in _EMPTY and all(one in (None, function.__doc__) for one in code.co_consts)
    if is_empty and not returns_nothing:
        raise _only_kernel(name)


# --- what network cards know about a packet (kernel 6.3; programs loaded for one device) ------------------------------


@kfunc
def bpf_xdp_metadata_rx_timestamp(ctx: Packet, timestamp: array[u64, Literal[1]]) -> s32:
    """When the card received the packet, in nanoseconds: 0, or a negative errno. Plain Python has no card: -95."""
    return s32(_EOPNOTSUPP)


@kfunc
def bpf_xdp_metadata_rx_hash(ctx: Packet, hash: array[u32, Literal[1]], kind: array[u32, Literal[1]]) -> s32:
    """The hash that the card computed, and over what: 0, or a negative errno. Plain Python has no card: -95."""
    return s32(_EOPNOTSUPP)


@kfunc
def bpf_xdp_metadata_rx_vlan_tag(ctx: Packet, protocol: array[be16, Literal[1]], tci: array[u16, Literal[1]]) -> s32:
    """The VLAN tag that the card took off (6.8): 0, or a negative errno. Plain Python has no card: -95."""
    return s32(_EOPNOTSUPP)


# --- dynptrs ----------------------------------------------------------------------------------------------------------


class bpf_dynptr(Struct):
    """A pointer with a length that the kernel checks at run time: `ptr = bpf.Dynptr.zero()`, then a kfunc fills it."""

    opaque: array[u64, Literal[2]]


Dynptr = bpf_dynptr


@kfunc
def bpf_dynptr_from_xdp(ctx: Packet, flags: u64, ptr: bpf_dynptr) -> s32:
    """A dynptr over the whole packet, fragments included (6.4): 0, or a negative errno. `flags` is 0."""
    run = current_run()
    assert run is not None
    run.dynptrs[id(ptr._region)] = (ptr._region, ctx)
    return s32(0)


@kfunc
def bpf_dynptr_size(ptr: bpf_dynptr) -> u32:
    """How many bytes it covers (6.5)."""
    ctx = _packet_of(ptr)
    return u32(0 if ctx is None else len(ctx))


@kfunc
def bpf_dynptr_slice(ptr: bpf_dynptr, offset: u32, buffer: S, size: u32) -> S | None:
    """A structure at an offset, to be read: where the packet has it, or copied to `buffer`; None beyond the end."""
    ctx = _packet_of(ptr)
    if ctx is None or int(offset) + int(size) > len(ctx):
        return None
    return type(buffer).__ebpf_load__(ctx._region, int(offset))


def _packet_of(ptr: bpf_dynptr) -> Packet | None:
    run = current_run()
    found = run.dynptrs.get(id(ptr._region)) if run is not None else None
    return None if found is None else found[1]
