"""Objects, programs, maps and variables as plain data: the same on every machine, picklable, no descriptor inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ebpfkit.asm.insn import Instruction
from ebpfkit.span import Span

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = ["FuncInfo", "LineInfo", "MapSpec", "ObjectFile", "ProgramSpec", "StructOpsSpec", "VarSpec"]

STRUCT_OPS = (".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link")
"""The sections of structures of kernel operations."""


@dataclass(frozen=True, slots=True)
class VarSpec:
    """A global variable: `size` bytes at `offset` of the data map `map_name`. `constant`: it lives in .rodata."""

    name: str
    map_name: str
    offset: int
    size: int
    constant: bool = False
    type_id: int = 0


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map as it will be created.

    Sizes in bytes; `type` is the kernel's lower-case name ("hash", "lpm_trie", "xskmap"); `flags` are BPF_F_* bits.
    `contents` are initial entries; `data` is the initial value of a data section's map (".rodata", ".data", ".bss").
    `frozen`: read-only for the program and frozen before load, so that its contents are constants for the verifier.
    """

    name: str
    type: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    numa_node: int | None = None
    map_extra: int = 0
    pin_by_name: bool = False
    inner: MapSpec | None = None
    contents: tuple[tuple[bytes, bytes], ...] = ()
    data: bytes | None = None
    frozen: bool = False
    btf_key_type: int = 0
    btf_value_type: int = 0
    value_slots: tuple[str | None, ...] = ()  # prog arrays and map-in-map: names of the initial values by index
    section: str = ".maps"
    span: Span | None = None

    def replace(self, **changes: Any) -> MapSpec:
        return replace(self, **changes)


class FuncInfo(NamedTuple):
    """A function of a linked program: its first slot, name and BTF FUNC type. `is_global`: verified apart."""

    slot: int
    name: str
    type_id: int = 0
    is_global: bool = False


class LineInfo(NamedTuple):
    """One bpf_line_info record of a linked program; `slot` counts 8-byte slots, string offsets are into its BTF."""

    slot: int
    file_name_off: int
    line_off: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """One linked program: its function first, then the subprograms it needs, jumps and local calls resolved.

    Map references stay symbolic (`MapRef`, `MapValueRef` on wide loads, resolved through `maps`). `btf` is the object's
    BTF (None: none). Spans ride on the instructions; `line_infos` and `func_infos` are for the kernel. `big_endian`:
    for machines of that byte order, whose memory the verifier then reads as they do.
    """

    name: str
    section: str
    prog_type: str
    instructions: tuple[Instruction, ...]
    license: str = ""
    attach_type: str | None = None
    attach_target: str | None = None
    maps: Mapping[str, MapSpec] = field(default_factory=dict)
    func_infos: tuple[FuncInfo, ...] = ()
    line_infos: tuple[LineInfo, ...] = ()
    btf: Btf | None = None
    flags: int = 0  # BPF_F_* of BPF_PROG_LOAD, such as BPF_F_XDP_HAS_FRAGS
    kernel_version: int = 0
    autoload: bool = True
    origin: str = ""
    big_endian: bool = False

    def replace(self, **changes: Any) -> ProgramSpec:
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class StructOpsSpec:
    """A structure of kernel operations (`.struct_ops`): `members` says which program each function pointer names.

    `type_name` is the kernel's structure; `data` the other members' values in the layout of BTF type `type_id`. `link`:
    registered through a bpf_link.
    """

    name: str
    type_name: str
    data: bytes
    members: Mapping[str, str]
    type_id: int = 0
    link: bool = False
    autocreate: bool = True
    section: str = ".struct_ops"

    def replace(self, **changes: Any) -> StructOpsSpec:
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """A read and linked object: programs and maps by name, in file order."""

    programs: Mapping[str, ProgramSpec]
    maps: Mapping[str, MapSpec]
    variables: Mapping[str, VarSpec] = field(default_factory=dict)
    license: str = ""
    btf: Btf | None = None
    path: str = ""
    big_endian: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)  # program name -> why it cannot be used
    needs_target: frozenset[str] = frozenset()  # programs in `problems` that a target kernel's BTF would mend (CO-RE)
    needs_config: frozenset[str] = frozenset()  # programs in `problems` that a kernel's configuration would mend
    raw: bytes = field(default=b"", repr=False)
    struct_ops: Mapping[str, StructOpsSpec] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # what was left out without harm to any program, such as unreadable line tables

    def replace(self, **changes: Any) -> ObjectFile:
        return replace(self, **changes)
