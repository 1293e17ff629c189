"""Programs that came without an object: instruction lists and raw bytes become a `ProgramSpec`."""

from __future__ import annotations

from collections.abc import Sequence

from ebpfkit.asm import isa
from ebpfkit.asm.codec import decode
from ebpfkit.asm.insn import Instruction, MapRef, MapValueRef
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.errors import UsageError

__all__ = ["program_from_code"]


def program_from_code(
    code: bytes | bytearray | memoryview | Sequence[Instruction],
    *,
    prog_type: str | None = "xdp",
    maps: Sequence[MapSpec] = (),
    name: str = "prog",
    license: str = "GPL",
    big_endian: bool = False,
) -> ProgramSpec:
    """Wrap raw bytes or instructions as a program; `maps` are what its wide map loads refer to.

    In raw bytes, the immediate of a wide load with a map pseudo source is an index into `maps`. In instructions, a map
    reference by name finds the map of that name. `big_endian` is the order of raw bytes, and of the machine that the
    program is for. Bytes that are no instruction stay in place as `INVALID`: refusing them is the verifier's business.
    Raises UsageError for what is neither bytes nor instructions, AsmError for a cut slot.
    """
    if isinstance(code, (bytes, bytearray, memoryview)):
        insns = tuple(_with_map(insn, maps) for insn in decode(bytes(code), strict=False, big_endian=big_endian))
    else:
        insns = _checked(code)
    by_name: dict[str, MapSpec] = {}
    for spec in maps:
        if spec.name in by_name:
            raise UsageError(f"two maps are named {spec.name!r}; names must differ")
        by_name[spec.name] = spec
    return ProgramSpec(name, "", prog_type or "", insns, license=license, maps=by_name, big_endian=big_endian)


def _checked(code: object) -> tuple[Instruction, ...]:
    if not isinstance(code, Sequence):
        raise UsageError(f"expected a program, instructions or raw bytes, found {type(code).__name__}")
    for insn in code:
        if not isinstance(insn, Instruction):
            raise UsageError(f"expected instructions or raw bytes, found {type(insn).__name__}")
    return tuple(code)


def _with_map(insn: Instruction, maps: Sequence[MapSpec]) -> Instruction:
    index = insn.imm & 0xFFFF_FFFF
    if insn.op in (isa.LDDW_MAP_FD, isa.LDDW_MAP_IDX) and index < len(maps):
        return insn.replace(ref=MapRef(maps[index].name))
    if insn.op in (isa.LDDW_MAP_VALUE, isa.LDDW_MAP_IDX_VALUE) and index < len(maps):
        return insn.replace(ref=MapValueRef(maps[index].name, insn.imm >> 32))
    return insn
