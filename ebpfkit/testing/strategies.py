"""Hypothesis strategies: instructions, well-formed programs, packets and maps.

They are published because property-based tests of verifiers, virtual machines and programs are a use of this package;
its own tests draw from them too. Needs the extra `testing`.

    @given(packets())
    def test_the_filter_never_passes_udp(packet): ...
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypothesis import strategies as st

from ebpfkit._bits import S32_MAX, S32_MIN, U64_MAX, round_up
from ebpfkit.abi import uapi
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.asm.insn import R10, Instruction, Register
from ebpfkit.asm.isa import OPCODES, Kind, Opcode
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import UsageError

__all__ = ["instructions", "instructions_of", "map_contents", "maps", "numbers", "packets", "programs"]

_REGISTERS = st.integers(0, 10).map(Register)
_S16 = st.integers(-0x8000, 0x7FFF)
_S32 = st.integers(S32_MIN, S32_MAX)
_U64 = st.integers(0, U64_MAX)

# --- instructions -----------------------------------------------------------------------------------------------------


def instructions_of(op: Opcode) -> st.SearchStrategy[Instruction]:
    """All instructions of one opcode: every operand over its whole range, reserved fields zero."""
    return st.builds(
        Instruction,
        st.just(op),
        _REGISTERS if "dst" in op.operands else st.just(Register(0)),
        _REGISTERS if "src" in op.operands else st.just(Register(0)),
        (_S32 if op.name == "JA32" else _S16) if "off" in op.operands else st.just(0),
        (_U64 if op.slots == 2 or op.name == "INVALID" else _S32) if "imm" in op.operands else st.just(0),
    )


def instructions() -> st.SearchStrategy[Instruction]:
    """Any instruction, INVALID too."""
    return st.sampled_from(list(OPCODES.values())).flatmap(instructions_of)


# --- programs ---------------------------------------------------------------------------------------------------------

_EDGES = [0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 0xFF, 0x8000]
_NUMBERED = st.integers(0, 9).map(Register)  # registers that hold numbers in a program
_SLOTS = [-8 * i for i in range(1, 9)]
_COMPUTING = [op for op in OPCODES.values() if op.kind in (Kind.ALU, Kind.MOV, Kind.MOVSX, Kind.SWAP)]
_JUMPING = [op for op in OPCODES.values() if op.kind is Kind.JUMP]
_STORING = [op for op in OPCODES.values() if op.kind in (Kind.STORE, Kind.STORE_RELEASE)]
_LOADING = [op for op in OPCODES.values() if op.kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE)]
_ATOMIC = [op for op in OPCODES.values() if op.kind is Kind.ATOMIC]


def numbers() -> st.SearchStrategy[int]:
    """Numbers of 64 bits, those at the edges of widths and signs more often."""
    return st.one_of(_U64, st.sampled_from(_EDGES))


def _immediates(op: Opcode) -> st.SearchStrategy[int]:
    """Immediates that the kernel's verifier takes: no shift past the width, no division by zero."""
    if op.operation in ("lsh", "rsh", "arsh"):
        return st.integers(0, op.width - 1)
    drawn = st.one_of(_S32, st.sampled_from([1, -1, S32_MAX, S32_MIN]))
    return drawn.filter(bool) if op.operation in ("div", "mod", "sdiv", "smod") else drawn


@st.composite
def _computations(draw: st.DrawFn, rows: Sequence[Opcode]) -> Instruction:
    op = draw(st.sampled_from(rows))
    dst = draw(_NUMBERED)
    if "src" in op.operands:
        return Instruction(op, dst, draw(_NUMBERED))
    return Instruction(op, dst, imm=draw(_immediates(op)) if op.source == "imm" else 0)


@st.composite
def _accesses(draw: st.DrawFn, rows: Sequence[Opcode]) -> Instruction:
    """A naturally aligned access to a slot of the stack that has been written."""
    op = draw(st.sampled_from(rows))
    off = draw(st.sampled_from(_SLOTS)) + op.size * draw(st.integers(0, 8 // op.size - 1))
    if op.kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE):
        return Instruction(op, draw(_NUMBERED), R10, off)
    if op.source == "imm":
        return Instruction(op, R10, off=off, imm=draw(_S32))
    return Instruction(op, R10, draw(_NUMBERED), off)


@st.composite
def programs(draw: st.DrawFn, max_size: int = 40, cpu: int = 4) -> list[Instruction]:
    """Well-formed programs that compute: accepted by verifiers, and every value ends up in r0.

    Ten registers and eight stack slots are filled with numbers; a body of up to `max_size` instructions computes,
    stores, loads and jumps forwards; a digest of everything is returned. `cpu` is the highest level of instructions, as
    in LLVM's -mcpu. Maps, packets and helpers do not occur.
    """
    level = [op for op in _COMPUTING if op.cpu <= cpu]
    memory = [op for op in _STORING + _LOADING + _ATOMIC if op.cpu <= cpu]
    start = [Instruction(OPCODES["LDDW"], Register(i), imm=draw(numbers())) for i in range(10)]
    start += [Instruction(OPCODES["STXDW"], R10, Register(i % 10), off) for i, off in enumerate(_SLOTS)]
    jumps = st.sampled_from([op for op in _JUMPING if op.cpu <= cpu])
    steps = st.one_of(_computations(level), _computations(level), _accesses(memory))
    body = draw(st.lists(steps, min_size=min(5, max_size), max_size=max_size))
    places = draw(st.sets(st.integers(0, len(body) - 1), max_size=6)) if body else set()
    for position in sorted(places, reverse=True):
        op = draw(jumps)
        distance = draw(st.integers(0, min(5, len(body) - position)))
        src = draw(_NUMBERED) if op.source == "reg" else Register(0)
        imm = draw(_S32) if op.source == "imm" else 0
        body.insert(position, Instruction(op, draw(_NUMBERED), src, distance, imm))
    digest = "".join(f"r0 *= 31\nr0 += r{i}\n" for i in range(1, 10))
    digest += "".join(f"r1 = *(u64 *)(r10 {off})\nr0 *= 31\nr0 += r1\n" for off in _SLOTS)
    return [*start, *body, *parse(digest + "exit")]


# --- packets ----------------------------------------------------------------------------------------------------------

_IPV4, _IPV6, _ARP, _VLAN, _QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_PORTS = st.one_of(st.sampled_from([0, 22, 53, 80, 443, 4789, 8080, 65535]), st.integers(0, 0xFFFF))
_ADDRESSES4 = st.one_of(
    st.sampled_from([bytes((10, 0, 0, 1)), bytes((192, 0, 2, 1)), bytes((198, 51, 100, 7)), bytes(4), b"\xff" * 4]),
    st.binary(min_size=4, max_size=4),
)
_ADDRESSES6 = st.one_of(
    st.sampled_from([bytes(16), bytes(15) + b"\x01", bytes.fromhex("20010db8") + bytes(11) + b"\x01"]),
    st.binary(min_size=16, max_size=16),
)
_MACS = st.one_of(st.sampled_from([b"\xff" * 6, bytes(6), b"\x02\0\0\0\0\x01"]), st.binary(min_size=6, max_size=6))
_OPTION_WORDS = st.integers(0, 10)
_TCP_FLAGS = st.sampled_from([0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x00, 0xFF])
_EIGHT, _FOUR = st.binary(min_size=8, max_size=8), st.binary(min_size=4, max_size=4)
_ICMP_TYPES, _ICMP6_TYPES = st.sampled_from([8, 0, 3, 11]), st.sampled_from([128, 129, 1, 135])
_FEW_OPTIONS = st.sampled_from([0, 0, 0, 1, 10])
_PROTOCOLS4, _PROTOCOLS6 = st.sampled_from([_TCP, _UDP, _ICMP, 0, 47]), st.sampled_from([_TCP, _UDP, _ICMP6, 59])
_FRAGMENTS = st.sampled_from([0, 0, 0, 0x4000, 0x2000, 0x00B9])
_U16S, _FLOWS = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFF)
_HOPS = st.sampled_from([64, 1, 0, 255])
_ONE_IN_FOUR = st.sampled_from([False, False, False, True])
_TAGS, _TAG_TYPES = st.sampled_from([0, 0, 0, 1, 2]), st.sampled_from([_VLAN, _QINQ])
_TYPES = st.sampled_from([_IPV4, _IPV4, _IPV4, _IPV6, _IPV6, _ARP, 0x88CC])
_ARP_OPERATIONS = st.sampled_from([1, 2])


def _sum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@st.composite
def _transports(draw: st.DrawFn, protocol: int, pseudo: bytes, payload: bytes) -> bytes:
    """A TCP or UDP header with its checksum, or an ICMP message, and the payload."""
    if protocol == _TCP:
        options = draw(_OPTION_WORDS) * 4
        flags = draw(_TCP_FLAGS)
        ports = struct.pack("!HH", draw(_PORTS), draw(_PORTS))
        numbers = draw(_EIGHT)
        head = ports + numbers + bytes([(5 + options // 4) << 4, flags]) + struct.pack("!HHH", 1024, 0, 0)
        segment, at = head + b"\x01" * options + payload, 16
    elif protocol == _UDP:
        segment, at = struct.pack("!HHHH", draw(_PORTS), draw(_PORTS), 8 + len(payload), 0) + payload, 6
    else:
        kind = draw(_ICMP_TYPES if protocol == _ICMP else _ICMP6_TYPES)
        segment, at = bytes([kind, 0, 0, 0]) + draw(_FOUR) + payload, 2
    covered = segment if protocol == _ICMP else pseudo + struct.pack("!II", len(segment), protocol) + segment
    total = _sum(covered)
    if protocol == _UDP and not total:
        total = 0xFFFF  # zero would say that there is none
    return segment[:at] + total.to_bytes(2, "big") + segment[at + 2 :]


@st.composite
def _ipv4(draw: st.DrawFn, payload: bytes) -> bytes:
    options = b"\x01" * 4 * draw(_FEW_OPTIONS)
    protocol = draw(_PROTOCOLS4)
    source, dest = draw(_ADDRESSES4), draw(_ADDRESSES4)
    if protocol in (_TCP, _UDP, _ICMP):
        # The pseudo header's length and protocol are two fields of four bytes here: its sum is the same.
        payload = draw(_transports(protocol, source + dest, payload))
    fragment = draw(_FRAGMENTS)
    length = 20 + len(options) + len(payload)
    head = struct.pack(
        "!BBHHHBBH", 0x40 | 5 + len(options) // 4, 0, length, draw(_U16S), fragment,
        draw(_HOPS), protocol, 0,
    )  # fmt: skip
    head += source + dest + options
    return head[:10] + _sum(head).to_bytes(2, "big") + head[12:] + payload


@st.composite
def _ipv6(draw: st.DrawFn, payload: bytes) -> bytes:
    protocol = draw(_PROTOCOLS6)
    source, dest = draw(_ADDRESSES6), draw(_ADDRESSES6)
    if protocol != 59:
        payload = draw(_transports(protocol, source + dest, payload))
    hop_by_hop = draw(_ONE_IN_FOUR)
    extension = bytes([protocol, 0, 1, 4, 0, 0, 0, 0]) if hop_by_hop else b""
    first = struct.pack("!IHBB", 6 << 28 | draw(_FLOWS), len(extension) + len(payload),
                        0 if hop_by_hop else protocol, draw(_HOPS))  # fmt: skip
    return first + source + dest + extension + payload


@st.composite
def packets(draw: st.DrawFn, *, truncated: bool = True, max_payload: int = 64, min_size: int = 0) -> bytes:
    """Ethernet frames: up to two VLAN tags, IPv4 (with options), IPv6, ARP or something else, TCP, UDP or ICMP.

    Lengths and checksums are right. With `truncated`, one in some is cut short anywhere, at least `min_size` bytes
    being kept; frames below `min_size` are filled up with zeros.
    """
    head = draw(_MACS) + draw(_MACS)
    for _ in range(draw(_TAGS)):
        head += struct.pack("!HH", draw(_TAG_TYPES), draw(_U16S))
    payload = draw(st.binary(max_size=max_payload))
    kind = draw(_TYPES)
    if kind == _IPV4:
        body = draw(_ipv4(payload))
    elif kind == _IPV6:
        body = draw(_ipv6(payload))
    elif kind == _ARP:
        body = struct.pack("!HHBBH", 1, _IPV4, 6, 4, draw(_ARP_OPERATIONS))
        body += draw(_MACS) + draw(_ADDRESSES4) + draw(_MACS) + draw(_ADDRESSES4)
    else:
        body = payload
    frame = head + kind.to_bytes(2, "big") + body
    if truncated and draw(_ONE_IN_FOUR):
        frame = frame[: draw(st.integers(min(min_size, len(frame)), len(frame)))]
    return frame.ljust(min_size, b"\0")


# --- maps -------------------------------------------------------------------------------------------------------------

_KINDS = (
    "hash", "array", "percpu_hash", "percpu_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "queue", "stack",
    "bloom_filter", "ringbuf",
)  # fmt: skip
_PAGE = 4096
_ADDRESS_BYTES = (1, 4, 16)  # of the keys of tries


@st.composite
def maps(draw: st.DrawFn, types: Sequence[str] = _KINDS, *, max_entries: int = 16, name: str = "map") -> MapSpec:
    """Maps that the kernel would create, of the given types: any of `abi.map_types` that need no BTF."""
    row = MAP_TYPES[draw(st.sampled_from(list(types)))]
    if row.needs_btf:
        raise UsageError(f"maps of type {row.name} are described by BTF, which is not drawn")
    if row.name == "lpm_trie":
        key_size = 4 + draw(st.sampled_from(_ADDRESS_BYTES))
    else:
        key_size = _size(draw, row.key_size, row.key_sizes, row.min_key_size, 16)
    value_size = _size(draw, row.value_size, row.value_sizes, 1, 32)
    if row.name == "stack_trace":
        value_size = round_up(value_size, 8)  # of addresses
    entries = 0 if row.max_entries_zero else draw(st.integers(1, max_entries))
    if row.max_entries_power_of_two:
        entries = _PAGE << entries % 3
    flags = sum(int(getattr(uapi, flag)) for flag in row.required_flags)
    return MapSpec(name, row.name, key_size, value_size, entries, flags)


def _size(draw: st.DrawFn, only: int | None, some: Sequence[int], least: int, most: int) -> int:
    if only is not None:
        return only
    return draw(st.sampled_from(list(some))) if some else draw(st.integers(least, most))


@st.composite
def map_contents(draw: st.DrawFn, spec: MapSpec) -> dict[bytes, bytes]:
    """Entries that fit into a map with keys and plain values: at most as many as it holds."""
    if "array" in spec.type:
        keys = st.integers(0, spec.max_entries - 1).map(lambda index: index.to_bytes(4, "little"))
    elif spec.type == "lpm_trie":
        width = spec.key_size - 4
        keys = st.tuples(st.integers(0, 8 * width), st.binary(min_size=width, max_size=width)).map(_prefix)
    else:
        keys = st.binary(min_size=spec.key_size, max_size=spec.key_size)
    values = st.binary(min_size=spec.value_size, max_size=spec.value_size)
    return draw(st.dictionaries(keys, values, max_size=spec.max_entries))


def _prefix(drawn: tuple[int, bytes]) -> bytes:
    """The key of a trie: length of the prefix, then its bits, those behind it zero."""
    length, data = drawn
    rest = 8 * len(data) - length
    kept = int.from_bytes(data, "big") >> rest << rest
    return length.to_bytes(4, "little") + kept.to_bytes(len(data), "big")
