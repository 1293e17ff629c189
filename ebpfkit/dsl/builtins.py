"""Builtin names as they are inside a program: the same as Python's where widths play no part, exact where they do.

`len(pkt)` is a u32; `min` and `max` want one type on all sides; what has no meaning in a program is refused.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.types import Integer, NetworkInteger, type_name, u32

__all__ = ["BUILTINS"]


def _len(value: Any, /) -> Any:
    return u32(len(value)) if isinstance(value, Packet) else len(value)


def _one_type(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        if isinstance(value, NetworkInteger):
            refuse("network-order", f"{name}() of a {type_name(value)}", "write .to_host()")
        if type_name(value) != type_name(values[0]):
            wanted = values[0] if isinstance(values[0], Integer) else value
            refuse(
                "mixed-types",
                f"{name}() of {type_name(values[0])} and {type_name(value)} mixes types",
                f"write {type_name(wanted)}(...)",
            )


def _extreme(name: str, pick: Callable[..., Any]) -> Callable[..., Any]:
    def choose(*values: Any, **options: Any) -> Any:
        if options or len(values) < 2:
            return pick(*values, **options)
        _one_type(name, values)
        return pick(*values)

    return choose


def _abs(value: Any, /) -> Any:
    if isinstance(value, Integer) and value.__ebpf_type__.signed:
        refuse("abs", f"abs() of {type_name(value)} gives an int of no width", "write -x if x < 0 else x")
    if isinstance(value, NetworkInteger):
        refuse("bad-type", f"abs() of a {type_name(value)}", "write .to_host()")
    return value if isinstance(value, Integer) else abs(value)


class _Int(int):
    """`int` as a program sees it: still the class, but its call on a value of the language is refused."""

    def __new__(cls, value: Any = 0, *rest: Any) -> Any:
        if isinstance(value, Integer | NetworkInteger):
            refuse("no-width", "int(...) has no width", "write u64(...) or another type")
        return int(value, *rest)


def _print(*values: Any, **options: Any) -> NoReturn:
    refuse("not-callable", "a program cannot print", 'write bpf.trace(f"..."), or use a RingBuf')


BUILTINS: Mapping[str, Any] = {
    "len": _len,
    "min": _extreme("min", builtins.min),
    "max": _extreme("max", builtins.max),
    "abs": _abs,
    "int": _Int,
    "print": _print,
}
"""Builtin names that mean something more exact inside a program than outside."""
