"""Asks the running kernel for its verdict on a program: the oracle of the verifier's tests and campaigns.

Needs CAP_BPF. Maps are made once per shape and kept. Not part of the package.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from ebpfkit.abi.attach_types import ATTACH_TYPES, BTF_TARGETS
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.codec import encode
from ebpfkit.asm.insn import Instruction, KfuncRef, MapRef, MapValueRef, VarRef
from ebpfkit.asm.isa import OPCODES
from ebpfkit.btf.types import Btf, BtfType, Func, Linkage, Struct, Typedef, Var
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.errors import NotSupported
from ebpfkit.kernel import bpf
from ebpfkit.kernel.fd import Fd
from ebpfkit.loader.btf import loadable_btf
from ebpfkit.loader.load import create_map, load_btf
from ebpfkit.loader.maps import Map
from ebpfkit.verifier.program import has_function_types

_STATS = re.compile(r"processed (\d+) insns.*?total_states (\d+)")
_STEP = re.compile(r"^(\d+): (?:\([0-9a-f]{2}\)|R\d)", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What the kernel said. `processed` is the number of instructions walked, `log` the text asked for."""

    accepted: bool
    errno: int
    processed: int
    states: int
    log: str

    @property
    def reason(self) -> str:
        """The last line of the log before the statistics."""
        lines = [line for line in self.log.splitlines() if line and not line.startswith(("processed", "stack depth"))]
        return lines[-1] if lines else f"errno {self.errno}"


@cache
def running_types() -> Btf:
    """The running kernel's BTF."""
    return read_btf_file()


def verdict_of(accepted: bool, errno: int, log: str) -> Verdict:
    """The verdict, with what the log's statistics say."""
    stats = _STATS.search(log)
    return Verdict(accepted, errno, int(stats[1]) if stats else 0, int(stats[2]) if stats else 0, log)


def _with_symbol(insn: Instruction, ref: VarRef, types: Btf) -> Instruction:
    """The wide load with the symbol's type id; what is weak and missing is the number 0."""
    number = types.find_id(ref.name, Func if ref.kind == "func" else Var) if ref.kind != "address" else 0
    if number:
        return insn.replace(imm=number, ref=None)
    if not ref.weak:
        raise NotSupported(f"kernel symbol {ref.name}", why="its address would be a constant")
    return insn.replace(op=OPCODES["LDDW"], imm=0, ref=None)


def encode_for(
    spec: ProgramSpec,
    map_fd: Callable[[MapSpec], int],
    kfunc_id: Callable[[str], int] | None = None,
    types: Btf | None = None,
) -> bytes:
    """The program's bytes with descriptors for its maps (named, or numbered in the order of `spec.maps`)."""
    maps = list(spec.maps.values())
    insns = []
    for insn in spec.instructions:
        if insn.op.name.startswith("LDDW_MAP") and not isinstance(insn.ref, MapRef | MapValueRef):
            number = insn.imm & 0xFFFF_FFFF
            if number < len(maps):
                insn = insn.replace(imm=insn.imm >> 32 << 32 | map_fd(maps[number]))
        elif isinstance(insn.ref, MapRef):
            insn = insn.replace(imm=map_fd(spec.maps[insn.ref.name]), ref=None)
        elif isinstance(insn.ref, MapValueRef):
            insn = insn.replace(imm=map_fd(spec.maps[insn.ref.name]) | insn.ref.offset << 32, ref=None)
        elif isinstance(insn.ref, VarRef):
            insn = _with_symbol(insn, insn.ref, types or running_types())
        elif isinstance(insn.ref, KfuncRef) and kfunc_id is not None:
            insn = insn.replace(imm=insn.ref.btf_id or kfunc_id(insn.ref.name), ref=None)
        insns.append(insn)
    return encode(insns)


def needs_types(spec: ProgramSpec) -> bool:
    """Whether the kernel gets the object's types: for its functions, or for a map's values."""
    typed = any(shape.btf_value_type for shape in spec.maps.values())
    return spec.btf is not None and (has_function_types(spec) or typed)


def kernel_types(spec: ProgramSpec) -> Btf:
    """The object's types as the kernel takes them; functions that are not global are static there too."""
    assert spec.btf is not None
    btf = loadable_btf(spec.btf)
    changes: dict[int, BtfType] = {}
    for info in spec.func_infos:
        func = btf.get(info.type_id)
        if isinstance(func, Func) and func.linkage == Linkage.GLOBAL and not info.is_global:
            changes[info.type_id] = Func(func.name, func.type, Linkage.STATIC)
    return btf.with_types(changes)


def _operation_of(spec: ProgramSpec) -> int | None:
    """The number of the member that a function of a structure of operations becomes, in place of an attach type."""
    if spec.prog_type != "struct_ops":
        return None
    struct, _, member = (spec.attach_target or "").partition("/")
    found = running_types().find(struct, Struct)
    names = [row.name for row in found.members] if found is not None else []
    return names.index(member) if member in names else 0


class KernelOracle:
    """Loads programs into the running kernel and drops them again."""

    def __init__(self) -> None:
        self.types = running_types()
        self._maps: dict[Any, Fd] = {}
        self._btf: dict[Any, tuple[Any, Fd]] = {}

    def map_fd(self, spec: MapSpec, btf: Fd | None = None, owner: str = "") -> int:
        """A map of this shape; the same one for the same shape.

        A program array binds itself to the first program that uses it: `owner` is its type.
        """
        key = (
            spec.type,
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            spec.flags,
            spec.frozen,
            spec.data,
            spec.inner,
            (spec.btf_value_type, btf.fileno()) if btf else None,
            owner if spec.type == "prog_array" else "",
        )
        found = self._maps.get(key)
        if found is None:
            inner = None
            if spec.inner is not None:
                inner = create_map(spec.inner)
            found = self._maps[key] = create_map(spec, inner=inner, btf=btf)
            if inner is not None:
                inner.close()
            if spec.data is not None:
                Map(spec, found).set(bytes(4), spec.data.ljust(spec.value_size, b"\0"))
            if spec.frozen:
                bpf.map_freeze(found)
        return found.fileno()

    def prepare(self, spec: ProgramSpec) -> None:
        """Make the maps and the types that `spec` needs, for who may not make them."""
        btf = self._btf_fd(spec) if needs_types(spec) else None
        for shape in spec.maps.values():
            self.map_fd(shape, btf, spec.prog_type)

    def ask(self, spec: ProgramSpec, *, log_level: int = 1, log_size: int = 1 << 16) -> Verdict:
        """Load the program and say what the kernel thinks of it."""
        btf = self._btf_fd(spec) if needs_types(spec) else None
        code = encode_for(
            spec,
            lambda shape: self.map_fd(shape, btf, spec.prog_type),
            lambda name: running_types().find_id(name, Func),
        )
        func_info = b""
        if has_function_types(spec):
            func_info = b"".join(struct.pack("=II", info.slot, info.type_id) for info in spec.func_infos)
        return self.ask_bytes(
            code, spec.prog_type, license=spec.license, attach_type=spec.attach_type, flags=spec.flags,
            log_level=log_level, log_size=log_size, btf=btf, func_info=func_info,
            attach_btf_id=self._target_id(spec), operation=_operation_of(spec),
        )  # fmt: skip

    def _target_id(self, spec: ProgramSpec) -> int:
        """What the program attaches to, in the running kernel's types; 0 for nothing."""
        if spec.prog_type == "struct_ops":
            return running_types().find_id((spec.attach_target or "").partition("/")[0], Struct)
        row = BTF_TARGETS.get(spec.attach_type or "")
        if row is None or not spec.attach_target:
            return 0
        return running_types().find_id(row[0] + spec.attach_target, Typedef if row[1] == "typedef" else Func)

    def _btf_fd(self, spec: ProgramSpec) -> Fd:
        """The object's types in the kernel; functions that are not global are static there too."""
        btf = spec.btf
        assert btf is not None
        key = (id(btf), spec.func_infos)
        found = self._btf.get(key)
        if found is None:
            found = self._btf[key] = (btf, load_btf(kernel_types(spec)))
        return found[1]

    def ask_bytes(
        self,
        code: bytes,
        prog_type: str,
        *,
        license: str = "GPL",
        attach_type: str | None = None,
        flags: int = 0,
        log_level: int = 1,
        log_size: int = 1 << 16,
        btf: Fd | None = None,
        func_info: bytes = b"",
        attach_btf_id: int = 0,
        operation: int | None = None,
    ) -> Verdict:
        """The same for encoded instructions whose maps are descriptors already."""
        attached = ATTACH_TYPES[attach_type].id if attach_type and operation is None else operation or 0
        while True:
            result = bpf.prog_load(
                PROG_TYPES[prog_type].id, code, license, flags=flags, log_level=log_level, log_size=log_size,
                expected_attach_type=attached,
                btf=btf, func_info=func_info, attach_btf_id=attach_btf_id,
            )  # fmt: skip
            if result.fd is not None:
                result.fd.close()
            if result.log_needed <= log_size or log_size >= 1 << 28:
                break
            log_size = result.log_needed + 4096
        return verdict_of(result.fd is not None, result.errno, result.log)

    def close(self) -> None:
        for fd in self._maps.values():
            fd.close()
        self._maps.clear()
        for _, fd in self._btf.values():
            fd.close()
        self._btf.clear()


def steps_of(log: str) -> list[int]:
    """The slots of the instructions in a level-2 log, in the order walked."""
    return [int(found[1]) for found in re.finditer(r"^(\d+): (?:R\d.*?)?\([0-9a-f]{2}\) ", log, re.MULTILINE)]
