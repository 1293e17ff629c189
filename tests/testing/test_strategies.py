"""What the published strategies promise: programs that verify and agree, packets that scapy reads, maps that exist."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from ebpfkit import pipeline
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.insn import Instruction
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import UsageError
from ebpfkit.loader.load import create_map
from ebpfkit.loader.maps import Map
from ebpfkit.maps.memory import create_store
from ebpfkit.testing.strategies import instructions, map_contents, maps, packets, programs
from ebpfkit.vm import Machine

LAW = settings(max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@LAW
@given(instructions())
def test_instructions_encode(insn: Instruction) -> None:
    assert len(encode([insn])) == 8 * insn.slots


@LAW
@given(programs())
def test_programs_are_accepted_and_end(program: list[Instruction]) -> None:
    assert decode(encode(program)) == program
    assert pipeline.verify(program, prog_type="socket_filter").ok
    Machine(program, prog_type=None).run(budget=10 * len(program))


@LAW
@given(programs(cpu=2))
def test_programs_keep_to_their_level(program: list[Instruction]) -> None:
    assert all(insn.op.cpu <= 2 for insn in program)


@settings(LAW, max_examples=150)
@given(packets(truncated=False))
def test_packets_have_right_lengths_and_checksums(packet: bytes) -> None:
    read = Ether(packet)
    if IP not in read or read[IP].version != 4:
        return
    assert read[IP].len == len(bytes(read[IP]))
    again = IP(bytes(read[IP]))
    del again.chksum
    assert IP(bytes(again)).chksum == read[IP].chksum
    if read[IP].frag == 0 and read[IP].payload.name in ("TCP", "UDP", "ICMP"):
        layer = read[IP].payload
        given_sum = layer.chksum
        del layer.chksum
        assert Ether(bytes(read))[IP].payload.chksum == given_sum


def test_packets_reach_every_kind() -> None:
    seen: set[str] = set()
    sizes: set[int] = set()

    @settings(LAW, max_examples=400)
    @given(packets())
    def collect(packet: bytes) -> None:
        sizes.add(len(packet))
        if len(packet) >= 40:
            seen.update(layer.__name__ for layer in Ether(packet).layers())

    collect()
    assert {"IP", "IPv6", "TCP", "UDP", "Dot1Q", "ARP"} <= seen
    assert min(sizes) < 14 < max(sizes)


@LAW
@given(st.data())
def test_maps_take_their_contents(data: st.DataObject) -> None:
    spec = data.draw(maps())
    store = create_store(spec)
    if spec.key_size == 0:
        return
    contents = data.draw(map_contents(spec))
    for key, value in contents.items():
        store.set(key, value.ljust(store.value_bytes, b"\0") if store.per_cpu else value)
    for key, value in contents.items():
        found = store.get(key)
        assert found is not None and found[: len(value)] == value


NEWER = ("unspec", "insn_array", "rhash")  # than the kernels that the tests run on
CREATED = [row.name for row in MAP_TYPES.values() if not row.needs_btf and row.name not in NEWER]


@pytest.mark.kernel
@settings(LAW, max_examples=120)
@given(maps(CREATED))
def test_the_kernel_creates_the_same_maps(spec: MapSpec) -> None:
    if spec.type.endswith("_of_maps"):
        spec = spec.replace(inner=MapSpec("inner", "array", 4, 8, 1))
        with Map.create(spec.inner) as inner, Map(spec, create_map(spec, inner=inner.fd)) as made:
            assert made.info.max_entries == spec.max_entries
        return
    with Map.create(spec) as made:
        assert made.info.max_entries == spec.max_entries


def test_maps_that_need_types_are_refused() -> None:
    @LAW
    @given(maps(["sk_storage"]))
    def draw(spec: MapSpec) -> None:
        raise AssertionError(spec)

    with pytest.raises(UsageError, match="sk_storage are described by BTF"):
        draw()
