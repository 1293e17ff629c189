"""Helper functions of the kernel as typed calls: `helpers.ktime_get_ns()`, also by the full name `bpf_ktime_get_ns`.

One function per row of `ebpfkit.abi.helpers` that some type of program may call and whose arguments the language can
write; arguments are those of the C prototype. The signatures for type checkers are in `helpers.pyi`, which
`tools/generate_helper_stubs.py` writes from the same rows. What a map or the packet offers as a method is better
written so. In plain Python a helper runs on what the run provides; one that only a kernel can answer is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from ebpfkit.abi.helpers import HELPERS, HELPERS_BY_NAME
from ebpfkit.abi.licenses import GPL_COMPATIBLE
from ebpfkit.abi.model import ArgKind, HelperSpec, RetKind
from ebpfkit.dsl.actions import TcAction
from ebpfkit.dsl.kinds import KINDS
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import Run, current_run
from ebpfkit.dsl.skb_meanings import SKB_MEANINGS
from ebpfkit.dsl.special_maps import RedirectMap
from ebpfkit.dsl.types import Integer, encode, s64, u32, u64
from ebpfkit.dsl.verdicts import XdpAction
from ebpfkit.errors import NotSupported

__all__ = [
    "POINTERS",
    "PYTHON_TYPES",
    "RESULT_TYPES",
    "UNSUPPORTED",
    "Helper",
    "offered",
    "reason_against",
    "result_type",
]  # and every helper

_MEMORY = "Struct | array[Any, Any]"
PYTHON_TYPES = {
    ArgKind.ANYTHING: "int",
    ArgKind.UNCHECKED: "int",
    ArgKind.SCALAR: "int",
    ArgKind.CONST: "int",
    ArgKind.CTX: "Reader | Context | TraceEvent",
    ArgKind.CTX_OR_NULL: "Reader | Context | TraceEvent | None",
    ArgKind.CONST_MAP_PTR: "MapFacade",
    ArgKind.MAP_KEY: "Any",
    ArgKind.MAP_VALUE: "Any",
    ArgKind.MEM: f"{_MEMORY} | bytes",
    ArgKind.MEM_OR_NULL: f"{_MEMORY} | bytes | None",
    ArgKind.MEM_UNINIT: _MEMORY,
    ArgKind.MEM_RW: _MEMORY,
    ArgKind.MEM_FIXED: _MEMORY,
    ArgKind.MEM_FIXED_UNINIT: _MEMORY,
    ArgKind.MEM_FIXED_RW: _MEMORY,
    ArgKind.DYNPTR: "Dynptr",
    ArgKind.DYNPTR_UNINIT: "Dynptr",
    ArgKind.BTF_SOCK_COMMON: "Socket | Kernel",
    ArgKind.BTF_ID: "Kernel",
    ArgKind.BTF_ID_OR_NULL: "Kernel | None",
    ArgKind.SIZE: "int",
    ArgKind.SIZE_OR_ZERO: "int",
}
"""How an argument is annotated, for the kinds that the language can write."""

POINTERS = {
    RetKind.SOCKET_OR_NULL: "Socket | None",
    RetKind.SOCK_COMMON_OR_NULL: "Socket | None",
    RetKind.BTF_ID: "Kernel",
    RetKind.BTF_ID_OR_NULL: "Kernel | None",
}
"""How a result is annotated that is a pointer of the kernel's."""

RESULT_TYPES: dict[str, type[Integer]] = {"u64": u64, "u32": u32, "s64": s64, "void": s64}  # void: it answers 0
VERDICTS = frozenset({"redirect", "redirect_map", "redirect_neigh", "redirect_peer"})
"""Helpers whose result is the verdict to return."""


def result_type(spec: HelperSpec, verdict: type[IntEnum] | None = XdpAction) -> type[Integer] | type[IntEnum]:
    """The type of what a call of this helper gives, in a program whose verdicts are of that type."""
    return verdict if spec.name in VERDICTS and verdict is not None else RESULT_TYPES[spec.ret_ctype]


UNSUPPORTED = {
    "tail_call": "write table.tail_call(pkt, index)",
    "xdp_adjust_head": "write pkt.push_head(n) or pkt.pop_head(n)",
    "xdp_adjust_tail": "write pkt.trim(n) or pkt.extend(n)",
    "xdp_adjust_meta": "write pkt.push_meta(T)",
    "loop": "write bpf.loop(n, step, state)",
    "for_each_map_elem": "write m.for_each(visit, state)",
    "timer_init": "write value.timer.init(m)",
    "timer_set_callback": "write value.timer.set_callback(f)",
    "timer_start": "write value.timer.start(nanoseconds)",
    "timer_cancel": "write value.timer.cancel()",
    "map_pop_elem": "write q.pop()",
    "map_peek_elem": "write q.peek(), or x in filter",
    "dynptr_data": "write kfuncs.bpf_dynptr_slice(...), or dynptr_read",
    "strncmp": "compare bytes with ==",
    "snprintf": "hand the values out through a RingBuf",
}
"""Helpers that a program could call in C and that are not offered here, by name, beside those that `reason_against`
finds by their arguments."""

_REASONS = {
    ArgKind.FUNC: "it takes a callback",
    ArgKind.SPIN_LOCK: "write with value.lock:",
    ArgKind.KPTR: "there are no kernel pointers in the language yet",
    ArgKind.RINGBUF_MEM: "write record.submit() or record.discard()",
}


def reason_against(spec: HelperSpec) -> str:
    """Why a row is not offered as a call; an empty string when it is."""
    if not spec.prog_types & {"*", *(kind.prog_type for kind in KINDS.values())}:
        return "no program of the language may call it"
    if spec.args is None:
        return "its arguments are not modelled"
    if spec.name in UNSUPPORTED:
        return UNSUPPORTED[spec.name]
    for argument in spec.args:
        if argument.kind not in PYTHON_TYPES:
            return _REASONS.get(argument.kind, f"its argument '{argument.name}' is a pointer of the kernel's")
    if spec.ret is RetKind.RINGBUF_MEM_OR_NULL:
        return "write events.reserve()"
    if spec.ret is RetKind.MAP_VALUE_OR_NULL:
        return "write m.get(key)"
    if spec.ret not in (RetKind.INTEGER, RetKind.VOID, *POINTERS):
        return "its result is a pointer of the kernel's"
    return ""


def offered() -> dict[str, HelperSpec]:
    """The helpers that are offered as calls, by name."""
    return {spec.name: spec for spec in HELPERS.values() if not reason_against(spec)}


class Helper:
    """A callable helper. `__ebpf_helper__` is its row."""

    def __init__(self, spec: HelperSpec) -> None:
        self.__ebpf_helper__ = spec
        self.__name__ = spec.name
        self.__doc__ = spec.summary or None
        self.names = tuple(argument.name for argument in spec.args or ())

    def __repr__(self) -> str:
        return f"<helper {self.__name__}>"

    def __call__(self, *args: Any, **named: Any) -> Any:
        spec = self.__ebpf_helper__
        run = current_run()
        if run is None:
            refuse("program-only", f"the helper {spec.name}() has a meaning only in a running program")
        if run.locked:
            refuse("in-lock", f"{spec.name}() is called while a spin lock is held", "call it before or after the with")
        given = dict(zip(self.names, args))
        unknown = [name for name in named if name not in self.names or name in given]
        given.update(named)
        if len(args) > len(self.names) or unknown or len(given) != len(self.names):
            refuse("bad-call", f"{spec.name}() takes ({', '.join(self.names)})")
        kind = run.kind or KINDS["xdp"]
        if not spec.prog_types & {kind.prog_type, "*"}:
            refuse("program-type", f"a {kind.decorator} program may not call {spec.name}")
        if spec.gpl_only and run.license not in GPL_COMPATIBLE:
            said = f"LICENSE is {run.license!r}" if run.license else "the module has no LICENSE"
            refuse(
                "gpl-only",
                f"the helper {spec.name} is only for GPL-compatible programs, and {said}",
                'write LICENSE = "GPL" or "Dual MIT/GPL" in the module',
            )
        meaning = _MEANINGS.get(spec.name)
        if meaning is None:
            raise NotSupported(f"the helper {spec.name} in plain Python", why='only a kernel can answer: on="kernel"')
        result = meaning(run, *(given[name] for name in self.names))
        return None if spec.ret is RetKind.VOID else result_type(spec, kind.verdict)(result)


def __getattr__(name: str) -> Any:
    spec = HELPERS_BY_NAME.get(name.removeprefix("bpf_"))
    if spec is None:
        raise AttributeError(f"there is no helper {name!r}")
    reason = reason_against(spec)
    if reason:
        raise NotSupported(f"the helper {spec.name}", why=reason)
    helper = Helper(spec)
    globals()[spec.name] = globals()[f"bpf_{spec.name}"] = helper
    return helper


def __dir__() -> list[str]:
    return sorted(offered())


# --- what they mean in plain Python -----------------------------------------------------------------------------------


def _clock(run: Run) -> int:
    return run.clock()


def _redirect(run: Run, ifindex: int, flags: int) -> int:
    u32.accept(ifindex)
    is_xdp = run.kind is None or run.kind.prog_type == "xdp"
    if flags and (is_xdp or flags != 1):  # XDP knows none, traffic control the way in
        return XdpAction.XDP_ABORTED if is_xdp else TcAction.TC_ACT_SHOT
    run.redirect = ("", int(ifindex))
    return XdpAction.XDP_REDIRECT if is_xdp else TcAction.TC_ACT_REDIRECT


def _redirect_map(run: Run, target: MapFacade, key: int, flags: int) -> int:
    if not isinstance(target, RedirectMap):
        refuse("bad-type", f"redirect_map() takes a map of redirect targets, not {type(target).__name__}")
    if not 0 <= flags <= XdpAction.XDP_TX:
        return XdpAction.XDP_ABORTED
    return target.redirect(u32(key), otherwise=XdpAction(int(flags)))


def _map_update_elem(run: Run, target: Any, key: Any, value: Any, flags: int) -> int:
    data = encode(target.value_type, value)
    return int(target._run_store(run).update(target._stored_key(key), data, int(flags), target._cpu(run)))


def _map_delete_elem(run: Run, target: Any, key: Any) -> int:
    return int(target._run_store(run).remove(target._stored_key(key)))


def _bytes(memory: Any, size: int) -> bytes:
    data = b"" if memory is None else bytes(memory)
    if size > len(data):
        refuse("bad-size", f"{size} bytes are asked of {len(data)}")
    return data[:size]


def _csum_diff(run: Run, before: Any, before_size: int, after: Any, after_size: int, seed: int) -> int:
    if before_size % 4 or after_size % 4:
        return -22
    total = int(seed)
    for data, sign in ((_bytes(before, before_size), 0xFFFF_FFFF), (_bytes(after, after_size), 0)):
        for at in range(0, len(data), 4):
            total += int.from_bytes(data[at : at + 4], "little") ^ sign
    while total >> 32:
        total = (total & 0xFFFF_FFFF) + (total >> 32)
    return total


def _xdp_load_bytes(run: Run, packet: Packet, offset: int, target: Any, size: int) -> int:
    data = packet._region.read(int(offset), int(size))
    if len(data) < size or size > len(bytes(target)):
        return -22
    region: Region = target._region
    region.write(target._offset, data)
    return 0


def _xdp_store_bytes(run: Run, packet: Packet, offset: int, source: Any, size: int) -> int:
    if offset + size > len(packet):
        return -22
    packet._region.write(int(offset), _bytes(source, size))
    return 0


def _dynptr(run: Run, ptr: Any, offset: int, size: int) -> Region | None:
    """The packet under a dynptr, where it has these bytes."""
    found = run.dynptrs.get(id(ptr._region))
    return None if found is None or offset + size > len(found[1]) else found[1]._region


def _dynptr_read(run: Run, target: Any, size: int, ptr: Any, offset: int, flags: int) -> int:
    region = _dynptr(run, ptr, offset, size)
    if flags or region is None:
        return -22 if flags or id(ptr._region) not in run.dynptrs else -7
    target._region.write(target._offset, region.read(int(offset), int(size)))
    return 0


def _dynptr_write(run: Run, ptr: Any, offset: int, source: Any, size: int, flags: int) -> int:
    region = _dynptr(run, ptr, offset, size)
    if flags or region is None:
        return -22 if flags or id(ptr._region) not in run.dynptrs else -7
    region.write(int(offset), _bytes(source, size))
    return 0


_MEANINGS: dict[str, Callable[..., int]] = {
    "dynptr_read": _dynptr_read,
    "dynptr_write": _dynptr_write,
    "ktime_get_ns": _clock,
    "ktime_get_boot_ns": _clock,
    "ktime_get_coarse_ns": _clock,
    "ktime_get_tai_ns": _clock,
    "get_prandom_u32": lambda run: run.random(),
    "get_smp_processor_id": lambda run: run.cpu,
    "redirect": _redirect,
    "redirect_map": _redirect_map,
    "map_update_elem": _map_update_elem,
    "map_delete_elem": _map_delete_elem,
    "csum_diff": _csum_diff,
    "xdp_get_buff_len": lambda run, packet: len(packet),
    "xdp_load_bytes": _xdp_load_bytes,
    "xdp_store_bytes": _xdp_store_bytes,
    **SKB_MEANINGS,
}
