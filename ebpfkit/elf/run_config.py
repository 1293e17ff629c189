"""How an XDP program wants to run beside others: libxdp's `.xdp_run_config`, which is types alone, no bytes.

The section describes a variable `_FUNCTION`, a structure whose members carry numbers as lengths of arrays: `priority`,
and for each verdict 1 when the next program runs after it, 0 when not. Doing so is `loader.dispatcher`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from ebpfkit.abi import uapi
from ebpfkit.btf import types as t
from ebpfkit.btf.build import BtfBuilder

__all__ = ["RUN_CONFIG_SECTION", "RunConfig", "add_run_config", "read_run_config", "run_config_rows"]

RUN_CONFIG_SECTION = ".xdp_run_config"
_DEFAULT_PRIORITY = 50
_VERDICTS = uapi.ENUMS["xdp_action"]
_POINTER = 8


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Programs run in ascending order of `priority`; after a verdict of `chain` (XDP_*) the next one does.

    The defaults are libxdp's.
    """

    priority: int = _DEFAULT_PRIORITY
    chain: frozenset[str] = frozenset({"XDP_PASS"})


def read_run_config(btf: t.Btf | None, function: str) -> RunConfig:
    """What an object says about a function; libxdp's defaults where it says nothing, or not in this form."""
    members = _members(btf, function) if btf is not None else {}
    wanted = {name: bool(number) for name, number in members.items() if name in _VERDICTS}
    chain = {name for name in _VERDICTS if wanted.get(name, name in RunConfig().chain)}
    return RunConfig(members.get("priority", _DEFAULT_PRIORITY), frozenset(chain))


def run_config_rows(config: RunConfig) -> list[tuple[str, int]]:
    """The members that say it: the priority, and each verdict that the defaults have otherwise."""
    changed = [name for name in _VERDICTS if (name in config.chain) != (name in RunConfig().chain)]
    return [("priority", config.priority), *((name, int(name in config.chain)) for name in changed)]


def add_run_config(builder: BtfBuilder, configs: dict[str, RunConfig]) -> None:
    """Describe the section of an object: one variable a function."""
    integer = builder.integer("int", 4, signed=True)

    def number(value: int) -> int:
        return builder.pointer(builder.array(integer, value))

    variables = []
    for function, config in configs.items():
        members = [(name, number(value), i * _POINTER) for i, (name, value) in enumerate(run_config_rows(config))]
        size = len(members) * _POINTER
        variables.append((builder.var(f"_{function}", builder.struct("", size, members)), size))
    offsets = [sum(size for _, size in variables[:i]) for i in range(len(variables))]
    builder.datasec(
        RUN_CONFIG_SECTION,
        sum(size for _, size in variables),
        [(var, offset, size) for (var, size), offset in zip(variables, offsets, strict=True)],
    )


def _members(btf: t.Btf, function: str) -> dict[str, int]:
    section = btf.find(RUN_CONFIG_SECTION, t.Datasec)
    for row in section.vars if section is not None else ():
        variable = btf.get(row.type)
        if isinstance(variable, t.Var) and btf.name(variable) == f"_{function}":
            shape = btf.resolve(variable.type)
            if isinstance(shape, t.Struct):
                return {member.name: _number(btf, member.type) for member in shape.members}
    return {}


def _number(btf: t.Btf, type_id: int) -> int:
    found = btf.resolve(type_id)
    if isinstance(found, t.Ptr):
        found = btf.resolve(found.type)
    return found.nelems if isinstance(found, t.Array) else 0
