"""What travels with packets: requests on sending (checksum, time), and what an XDP program leaves in front on arrival.

The structures are held against the running kernel's own types, and the effect is measured on a veth pair.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from pathlib import Path

import pytest

from ebpfkit.abi import uapi
from ebpfkit.asm import isa
from ebpfkit.asm.builder import Builder
from ebpfkit.asm.insn import R0, R1, R2, R3, R6, R10, Instruction, KfuncRef
from ebpfkit.btf.types import Btf
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import UsageError
from ebpfkit.kernel import xdp_socket
from ebpfkit.testing import VethLab
from ebpfkit.xsk import FrameOwner, Umem, XskGroup, XskSocket

from .conftest import HEADER, Far

SMALL = {"rx_size": 8, "tx_size": 8, "fill_size": 8, "completion_size": 8, "frame_count": 32, "frame_size": 2048}


# --- the bytes, against the kernel's own types


@pytest.fixture(scope="module")
def kernel_types() -> Btf:
    path = Path("/sys/kernel/btf/vmlinux")
    if not path.exists():
        pytest.skip("this kernel has no BTF")
    return Btf.from_bytes(path.read_bytes())


def leaves(btf: Btf, name: str) -> dict[str, tuple[int, int]]:
    """The members of a structure, those of unnamed members included, by dotted name: byte offset and size."""
    found: dict[str, tuple[int, int]] = {}

    def walk(number: int, base: int, prefix: str) -> None:
        for member in btf.types[number].members:  # type: ignore[attr-defined]
            label, at = member.name, base + member.bit_offset // 8
            full = f"{prefix}{label}"
            inner = btf.types[member.type]
            if hasattr(inner, "members"):
                walk(member.type, at, f"{full}." if label else prefix)
            else:
                found[full] = (at, btf.size_of(member.type))

    (number,) = [at for at, kind in enumerate(btf.types) if at and hasattr(kind, "members") and btf.name(kind) == name][
        :1
    ]
    walk(number, 0, "")
    return found


def ours(structure: type[ctypes.Structure]) -> dict[str, tuple[int, int]]:
    return {name: (getattr(structure, name).offset, getattr(structure, name).size) for name, *_ in structure._fields_}


@pytest.mark.kernel
def test_the_umem_registration_is_the_kernels_structure(kernel_types: Btf) -> None:
    assert ours(xdp_socket.UmemReg) == leaves(kernel_types, "xdp_umem_reg")


@pytest.mark.kernel
def test_the_tx_request_is_the_kernels_structure(kernel_types: Btf) -> None:
    theirs = leaves(kernel_types, "xsk_tx_metadata")
    mine = ours(xdp_socket.TxMetadata)
    assert mine["flags"] == theirs["flags"] == (0, 8)
    for name in ("csum_start", "csum_offset", "launch_time"):
        assert mine[name] == theirs[f"request.{name}"]
    assert theirs["completion.tx_timestamp"] == (8, 8)  # where read_timestamp looks


def test_the_bytes_of_a_request() -> None:
    from ebpfkit.xsk.metadata import read_timestamp, write_request

    umem = Umem(2, 2048, tx_metadata=True)
    assert umem.data_offset == umem.tx_metadata_size == 24 and umem.flags == uapi.XDP_UMEM_TX_METADATA_LEN
    write_request(umem, 2048 + 24, checksum=(34, 6), timestamp=True, launch_time=77)
    assert bytes(umem.frames[1, :24]) == struct.pack("=QHH4xQ", 1 | 2 | 4, 34, 6, 77)
    umem.memory[2056:2064] = struct.pack("=Q", 1234)
    assert read_timestamp(umem, 2048 + 24, 5) == (5, 1234)
    with pytest.raises(UsageError, match="starts too early"):
        write_request(umem, 2050, checksum=None, timestamp=True, launch_time=None)
    with pytest.raises(UsageError, match="16-bit numbers of bytes"):
        write_request(umem, 2072, checksum=(70000, 0), timestamp=False, launch_time=None)
    with pytest.raises(UsageError, match="tx_metadata=True"):
        write_request(Umem(1, 2048), 100, checksum=None, timestamp=True, launch_time=None)


# --- the effect on a veth pair


def udp_packet(payload: bytes) -> bytes:
    """An UDP packet whose checksum is left to the driver: the field has the sum of the pseudo header."""
    addresses = socket.inet_aton("10.77.0.1") + socket.inet_aton("10.77.0.2")
    length = 8 + len(payload)
    pseudo = sum(struct.unpack("!4H", addresses)) + 17 + length
    while pseudo >> 16:
        pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, 17, 0) + addresses
    udp = struct.pack("!HHHH", 1, 2, length, pseudo)
    return HEADER[:12] + b"\x08\x00" + ip + udp + payload


def checksum_is_right(packet: bytes) -> bool:
    data = packet[26:34] + struct.pack("!HH", 17, len(packet) - 34) + packet[34:]
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@pytest.mark.kernel
@pytest.mark.parametrize("software", [True, False])
def test_checksum_requests_on_veth(lab: VethLab, software: bool) -> None:
    """The kernel sums in software when asked to; else veth passes the unfinished packet on, marked as such."""
    with lab.far.enter():
        far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        far.bind((lab.far_dev, 0x0800))
        far.settimeout(5)
    packet = udp_packet(b"sum me up!")
    assert not checksum_is_right(packet)
    with lab.near.enter():
        with XskSocket(lab.near_dev, tx_metadata=True, software_checksum=software, mode="copy", **SMALL) as sock:
            frame = sock.allocate(len(packet))
            frame.data[:] = packet
            frame.request(checksum=(34, 6)).send()
            arrived = far.recv(2048)
            assert sock.drain(5)
            sock.send(packet)  # without a request nothing is touched
            assert far.recv(2048) == packet
            assert sock.statistics().tx_invalid_descs == 0
    far.close()
    assert checksum_is_right(arrived) is software
    assert arrived[:40] == packet[:40] and arrived[42:] == packet[42:]


@pytest.mark.kernel
def test_the_time_of_sending_comes_back_with_the_frame(lab: VethLab, far: Far) -> None:
    """In copy mode it is the system's TAI clock at completion."""
    with lab.near.enter(), XskSocket(lab.near_dev, tx_metadata=True, **SMALL) as sock:
        before = time.clock_gettime_ns(time.CLOCK_TAI)
        for tag in range(20):
            frame = sock.allocate(len(HEADER) + 4)
            frame.data[:] = HEADER + b"time"
            if tag % 2:
                frame.request(timestamp=tag)
            frame.send()
            assert far.receive() == b"time"
        assert sock.drain(5)
        after = time.clock_gettime_ns(time.CLOCK_TAI)
        stamps = list(sock.timestamps)
        assert [stamp.tag for stamp in stamps] == list(range(1, 20, 2))
        times = [stamp.time_ns for stamp in stamps]
        assert times == sorted(times) and before < times[0] and times[-1] < after
        assert sock.umem.count(FrameOwner.TX) == 0


@pytest.mark.kernel
def test_received_packets_are_sent_on_beside_requests(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, tx_metadata=True, **SMALL) as group:
        far.send(b"ping")
        for frame in group[0].receive(5):
            frame.request(timestamp=9).send()
        assert far.receive() == b"ping"
        assert group[0].drain(5) and group[0].timestamps[0].tag == 9


# --- what an XDP program leaves in front of a packet


def object_of(instructions: list[Instruction], flags: int = 0) -> ObjectFile:
    xsks = MapSpec("xsks_map", "xskmap", 4, 4, 4)
    program = ProgramSpec(
        "mark",
        "xdp",
        "xdp",
        tuple(instructions),
        license="GPL",
        attach_type="xdp",
        maps={"xsks_map": xsks},
        flags=flags,
    )
    return ObjectFile({"mark": program}, {"xsks_map": xsks})


def marking(build: Builder) -> Builder:
    """Make room for 8 bytes in front of the packet, and R2 its address; out when there is none."""
    return (
        build.mov(R6, R1)
        .mov(R2, -8)
        .call("bpf_xdp_adjust_meta")
        .jump("jne", R0, 0, "out")
        .load(4, R2, R6, 8)  # data_meta
        .load(4, R1, R6, 0)  # data
        .mov(R3, R2)
        .add(R3, 8)
        .jump("jgt", R3, R1, "out")
    )


def redirecting(build: Builder) -> list[Instruction]:
    return (
        build.load(4, R2, R6, 16)
        .load_map(R1, "xsks_map")
        .mov(R3, 2)
        .call("bpf_redirect_map")
        .exit()
        .label("out")
        .mov(R0, 0)
        .exit()
        .build()
    )


@pytest.mark.kernel
@pytest.mark.parametrize("attach_mode", ["native", "skb"])
def test_metadata_of_an_xdp_program_reaches_the_application(lab: VethLab, far: Far, attach_mode: str) -> None:
    program = object_of(redirecting(marking(Builder()).store(4, R2, 0, 0x1234).store(4, R2, 4, 77)))
    with lab.near.enter(), XskGroup(lab.near_dev, program=program, attach_mode=attach_mode, **SMALL) as group:
        far.send(b"marked")
        for frame in group[0].receive(5):
            assert bytes(frame) == HEADER + b"marked"
            assert struct.unpack("=II", frame.metadata(8)) == (0x1234, 77)


@pytest.mark.kernel
def test_what_the_driver_knows_of_a_packet_reaches_the_application(lab: VethLab, far: Far) -> None:
    """The program is bound to its device, asks the driver for the packet's hash, and leaves it in front."""
    build = Builder().mov(R6, R1).store(8, R10, -8, 0).mov(R2, R10).add(R2, -8).mov(R3, R10).add(R3, -4)
    build.emit(Instruction(isa.CALL_KFUNC, ref=KfuncRef("bpf_xdp_metadata_rx_hash")))
    build.mov(R1, R6).store(8, R10, -16, 0).emit(Instruction(isa.STXDW, dst=R10, src=R0, off=-16))
    build.mov(R2, -8).call("bpf_xdp_adjust_meta").jump("jne", R0, 0, "out")
    build.load(4, R2, R6, 8).load(4, R1, R6, 0).mov(R3, R2).add(R3, 8).jump("jgt", R3, R1, "out")
    build.load(8, R1, R10, -16).emit(Instruction(isa.STXDW, dst=R2, src=R1, off=0))
    program = object_of(redirecting(build), flags=uapi.BPF_F_XDP_DEV_BOUND_ONLY)
    with lab.near.enter(), XskGroup(lab.near_dev, program=program, attach_mode="native", **SMALL) as group:
        far.send(b"hashed")
        for frame in group[0].receive(5):
            assert struct.unpack("=q", frame.metadata(8)) == (0,)  # the driver had a hash for it
