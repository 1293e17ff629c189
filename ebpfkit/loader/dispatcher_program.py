"""The program that runs several XDP programs one behind the other, as libxdp's protocol describes it.

It calls a global function for each component, which the component then replaces, and goes on as long as the verdict is
one of those that the component wants others to run after. `DispatcherConfig` is what every tool that speaks the
protocol finds in its first map. Loading, pinning and attaching are `dispatcher`'s.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ebpfkit.abi import uapi
from ebpfkit.asm.builder import Builder
from ebpfkit.asm.insn import R0, R1, R6, R7, Instruction
from ebpfkit.btf.build import BtfBuilder
from ebpfkit.elf.model import FuncInfo, MapSpec, ProgramSpec
from ebpfkit.elf.run_config import RunConfig
from ebpfkit.errors import AttachError

__all__ = ["MAX_COMPONENTS", "NAME", "NOTHING_RAN", "DispatcherConfig", "build_dispatcher", "slot_name"]

MAX_COMPONENTS = 10
NOTHING_RAN = 31
"""What the place of a component returns while nothing replaces it."""

NAME = "xdp_dispatcher"
_CONFIG_MAP = ".rodata"
_MAGIC = 236
_VERSION = 2
_HEAD = struct.Struct("=4B")
_ROWS = struct.Struct(f"={MAX_COMPONENTS}I")
_SIZE = _HEAD.size + 3 * _ROWS.size
_SIZE_OF_VERSION_1 = 4 + 2 * _ROWS.size
_VERDICTS = uapi.ENUMS["xdp_action"]
_ALWAYS = 1 << NOTHING_RAN


@dataclass(frozen=True, slots=True)
class DispatcherConfig:
    """The components in the order in which they run, and the BPF_F_* flags that each was made for."""

    components: tuple[RunConfig, ...]
    flags: tuple[int, ...]

    @property
    def frags(self) -> bool:
        """Whether packets of several buffers may come: only when every component takes them."""
        return bool(self.flags) and all(flags & uapi.BPF_F_XDP_HAS_FRAGS for flags in self.flags)

    def to_bytes(self) -> bytes:
        """The 124 bytes of version 2."""
        head = _HEAD.pack(_MAGIC, _VERSION, len(self.components), self.frags)
        chains = [_mask(config.chain) for config in self.components]
        return head + b"".join(
            _ROWS.pack(*row, *(0,) * (MAX_COMPONENTS - len(row)))
            for row in (chains, [config.priority for config in self.components], list(self.flags))
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> DispatcherConfig:
        """Read version 1, 2 or 3. Raises AttachError for anything else."""
        if len(data) == _SIZE_OF_VERSION_1:
            count, at, has_flags = data[0], 4, False
        elif len(data) >= _SIZE and data[0] == _MAGIC and data[1] in (2, 3):
            count, at, has_flags = data[2], _HEAD.size, True
        else:
            raise AttachError(f"{len(data)} bytes, beginning {data[:4].hex(' ')}, are no dispatcher's configuration")
        if count > MAX_COMPONENTS:
            raise AttachError(f"a dispatcher's configuration names {count} programs, and there is room for ten")
        chains, priorities = _ROWS.unpack_from(data, at), _ROWS.unpack_from(data, at + _ROWS.size)
        flags = _ROWS.unpack_from(data, at + 2 * _ROWS.size) if has_flags else (0,) * MAX_COMPONENTS
        rows = zip(chains[:count], priorities[:count], strict=True)
        return cls(tuple(RunConfig(priority, _names(mask)) for mask, priority in rows), flags[:count])


def _mask(chain: frozenset[str]) -> int:
    return _ALWAYS | sum(1 << _VERDICTS[name] for name in chain)


def _names(mask: int) -> frozenset[str]:
    return frozenset(name for name, number in _VERDICTS.items() if mask >> number & 1)


def slot_name(index: int) -> str:
    """The function that component number `index` replaces."""
    return f"prog{index}"


def build_dispatcher(config: DispatcherConfig) -> ProgramSpec:
    """The dispatcher of these components, ready to load."""
    insns, starts = _instructions(config.components)
    types, functions = _types(len(config.components))
    names = [NAME, *(slot_name(i) for i in range(len(config.components)))]
    return ProgramSpec(
        name=NAME,
        section="xdp",
        prog_type="xdp",
        attach_type="xdp",
        instructions=tuple(insns),
        license="GPL",
        maps={_CONFIG_MAP: MapSpec(_CONFIG_MAP, "array", 4, _SIZE, 1, data=config.to_bytes(), frozen=True)},
        func_infos=tuple(
            FuncInfo(slot, name, type_id, True) for slot, name, type_id in zip(starts, names, functions, strict=True)
        ),
        btf=types.build(),
        flags=uapi.BPF_F_XDP_HAS_FRAGS if config.frags else 0,
    )


def _instructions(components: Sequence[RunConfig]) -> tuple[list[Instruction], list[int]]:
    """The calls, then the functions to be replaced; and the slot at which each begins."""
    code = Builder().mov(R6, R1).load_map_value(R7, _CONFIG_MAP)  # the map is what other tools read
    for i, config in enumerate(components):
        code.mov(R1, R6).call_local(slot_name(i)).jump("jgt", R0, NOTHING_RAN, "out")
        code.mov(R1, 1).alu("lsh", R1, R0).load_imm64(R7, _mask(config.chain)).alu("and", R1, R7)
        code.jump("jeq", R1, 0, "out")
    code.mov(R0, _VERDICTS["XDP_PASS"]).label("out").exit()
    for i in range(len(components)):
        code.label(slot_name(i)).mov(R0, NOTHING_RAN).exit()
    insns = code.build()
    first = sum(insn.op.slots for insn in insns) - 2 * len(components)
    return insns, [0, *(first + 2 * i for i in range(len(components)))]


def _types(count: int) -> tuple[BtfBuilder, list[int]]:
    """The types of functions and configuration, and the FUNC of each function."""
    builder = BtfBuilder()
    u8, u32 = builder.integer("unsigned char", 1), builder.integer("unsigned int", 4)
    members = ("data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index", "egress_ifindex")
    context = builder.struct("xdp_md", 24, [(name, u32, i * 4) for i, name in enumerate(members)])
    integer = builder.integer("int", 4, signed=True)
    prototype = builder.func_proto(integer, [("ctx", builder.pointer(context))])
    functions = [builder.func(NAME, prototype), *(builder.func(slot_name(i), prototype) for i in range(count))]
    rows = builder.array(u32, MAX_COMPONENTS)
    heads = ("magic", "dispatcher_version", "num_progs_enabled", "is_xdp_frags")
    tables = ("chain_call_actions", "run_prios", "program_flags")
    shape = builder.struct(
        "xdp_dispatcher_config",
        _SIZE,
        [
            *((name, u8, i) for i, name in enumerate(heads)),
            *((name, rows, _HEAD.size + i * _ROWS.size) for i, name in enumerate(tables)),
        ],
    )
    builder.datasec(_CONFIG_MAP, _SIZE, [(builder.var("conf", shape), 0, _SIZE)])
    version = builder.var("dispatcher_version", builder.pointer(builder.array(integer, _VERSION)))
    builder.datasec("xdp_metadata", 8, [(version, 0, 8)])
    return builder, functions
