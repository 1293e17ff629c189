"""One comparison with the kernel: what the tests and the campaign share."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cases import MAPS, program
from generator import generate, mutate, mutate_gently

from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.insn import Instruction, MapRef, MapValueRef
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import EbpfError
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

LIMIT = 20_000
"""Walks beyond this are not compared: the kernel needs seconds for its million."""


@dataclass(frozen=True)
class Outcome:
    """Both verdicts on one program."""

    seed: int
    ours: str
    kernel: str
    rule: str
    message: str
    reason: str
    walked: int
    kernel_walked: int


def compare_program(spec: ProgramSpec, oracle: KernelOracle, seed: int = 0) -> Outcome | None:
    """Ask both; None when the walk is too long, the program cannot be encoded, or was refused before verification."""
    report = verify_program(spec, max_insns=LIMIT, kernel_btf=oracle.types)
    if report.insns_processed >= LIMIT:
        return None
    try:
        verdict = oracle.ask(spec)
    except EbpfError:
        return None
    if verdict.errno == errno.EPERM and not verdict.log:
        return None  # refused before the verifier saw it: attaching to functions and hooks is not allowed here
    kernel = "accept" if verdict.accepted else "reject"
    return Outcome(
        seed,
        report.verdict,
        kernel,
        report.rule,
        report.message,
        verdict.reason,
        report.insns_processed,
        verdict.processed,
    )


def mutants_of(spec: ProgramSpec, seed: int, count: int, gently: bool = False) -> Iterator[ProgramSpec]:
    """`count` programs that differ from `spec` in one or two places, or in the shape of a map.

    `gently`: in one small thing only, for programs of constructs that most changes would break.
    """
    rng = random.Random(seed * 7 + 1)
    for _ in range(count):
        if gently and rng.random() < 0.85:
            yield spec.replace(instructions=tuple(mutate_gently(list(spec.instructions), rng)))
            continue
        if spec.maps and rng.random() < 0.08:
            yield _with_another_map(spec, rng)
            continue
        insns = mutate(list(spec.instructions), rng)
        if rng.random() < 0.2:
            insns = mutate(insns, rng)
        yield spec.replace(instructions=tuple(insns))


def _with_another_map(spec: ProgramSpec, rng: random.Random) -> ProgramSpec:
    name = rng.choice(list(spec.maps))
    shape = spec.maps[name]
    change = rng.choice(("value", "value", "key", "entries"))
    if change == "entries" or shape.data is not None or shape.type in ("ringbuf", "perf_event_array"):
        shape = shape.replace(max_entries=1 if shape.type not in ("ringbuf", "user_ringbuf") else shape.max_entries)
    elif change == "key":
        shape = shape.replace(key_size=max(1, shape.key_size + rng.choice((-4, 4))), btf_key_type=0, btf_value_type=0)
    else:
        size = max(1, shape.value_size + rng.choice((-8, -4, -1, 1, 8)))
        shape = shape.replace(value_size=size, btf_key_type=0, btf_value_type=0)
    return spec.replace(maps={**spec.maps, name: shape})


_NAMES = list(MAPS)


def _numbered(insn: Instruction) -> Instruction:
    if isinstance(insn.ref, MapRef):
        return insn.replace(ref=None, imm=_NAMES.index(insn.ref.name))
    if isinstance(insn.ref, MapValueRef):
        return insn.replace(ref=None, imm=_NAMES.index(insn.ref.name) | insn.ref.offset << 32)
    return insn


def broken_bytes(seed: int) -> bytes:
    """Random bytes, or an encoded program with a few bits changed; maps are indices."""
    rng = random.Random(seed)
    if seed % 4 == 0:
        return rng.randbytes(8 * rng.randrange(1, 12))
    data = bytearray(encode([_numbered(insn) for insn in program(generate(seed)[0]).instructions]))
    for _ in range(rng.randrange(1, 3)):
        at = rng.randrange(len(data) // 8) * 8
        match rng.randrange(5):
            case 0:
                data[at] = rng.choice([rng.randrange(256), data[at] ^ 8, data[at] ^ (1 << rng.randrange(8))])
            case 1:
                data[at + 1] = rng.randrange(256)
            case 2:
                data[at + 2 + rng.randrange(2)] ^= 1 << rng.randrange(8)
            case 3:
                data[at + 4 + rng.randrange(4)] ^= 1 << rng.randrange(8)
            case _:
                data[at + 1] = rng.randrange(11) | rng.randrange(11) << 4
    return bytes(data)


def compare_bytes(seed: int, oracle: KernelOracle) -> Outcome | None:
    """Ask both about broken bytes; None when the walk is too long."""
    data = bytearray(broken_bytes(seed))
    insns = decode(data, strict=False)
    report = verify_program(ProgramSpec("bytes", "xdp", "xdp", tuple(insns), "GPL", maps=MAPS), max_insns=LIMIT)
    if report.insns_processed >= LIMIT:
        return None
    slot = 0
    for insn in insns:
        if insn.op.name.startswith("LDDW_MAP"):
            number = insn.imm & 0xFFFF_FFFF
            fd = oracle.map_fd(MAPS[_NAMES[number]]) if number < len(_NAMES) else 1 << 20
            data[slot * 8 + 4 : slot * 8 + 8] = fd.to_bytes(4, "little")
        slot += insn.slots
    verdict = oracle.ask_bytes(bytes(data), "xdp")
    kernel = "accept" if verdict.accepted else "reject"
    return Outcome(
        seed,
        report.verdict,
        kernel,
        report.rule,
        report.message,
        verdict.reason,
        report.insns_processed,
        verdict.processed,
    )
