"""Helpers that take or give what only the kernel has: dynptrs, sockets, tasks."""

# ruff: noqa: E501

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError, NotSupported
from ebpfkit.pipeline import verify
from tests.compiler.support import agree, check, initial, packets, program, run_in_python, run_in_vm

READ = "d = pkt.read(Data)\n"
END = "\nreturn XDP_PASS\n"
BEFORE = """
from ebpfkit.dsl.kfuncs import bpf_dynptr_from_xdp
events = bpf.RingBuf[Pair](max_entries=4096)
class task_struct(bpf.Kernel):
    tgid: s32
class Tuple4(Struct):
    src: IPv4Addr
    dst: IPv4Addr
    sport: be16
    dport: be16
"""

AGREED = {
    "bytes out of a dynptr": "dyn = bpf.Dynptr.zero()\nbpf_dynptr_from_xdp(pkt, 0, dyn)\np = Pair.zero()\nd.s0 = helpers.dynptr_read(p, 8, dyn, u32(d.x8), 0)\nd.r1 = u64(p.a) + u64(p.b)",
    "beyond the end of a dynptr": "dyn = bpf.Dynptr.zero()\nbpf_dynptr_from_xdp(pkt, 0, dyn)\np = Pair.zero()\nd.s0 = helpers.dynptr_read(p, 8, dyn, len(pkt) - 7, 0)",
    "bytes into a dynptr": "dyn = bpf.Dynptr.zero()\nbpf_dynptr_from_xdp(pkt, 0, dyn)\np = Pair(a=d.x32, b=7)\ncode = helpers.dynptr_write(dyn, 2, p, 8, 0)\nagain = pkt.peek(u8)\nreturn XDP_TX if code == 0 else XDP_DROP",
}


@pytest.mark.parametrize("name", AGREED)
def test_every_executor_agrees(name: str, tmp_path: Path):
    prog = program(READ + AGREED[name] + END, tmp_path, BEFORE)
    compiled = check(prog, packets(), kernel=os.geteuid() == 0)
    again = program(READ + AGREED[name] + END, tmp_path, BEFORE)
    contents = initial(again)
    agree(
        run_in_vm(again, compiled, contents, packets(), jit="safe"), run_in_python(again, packets()), packets(), "jit"
    )
    assert verify(open_object(compiled.elf)).ok


SOCKET = """
d = pkt.read(Data)
ends = Tuple4(src=IPv4Addr("127.0.0.1"), dst=IPv4Addr("127.0.0.1"), sport=1, dport=d.n16)
sk = helpers.sk_lookup_udp(pkt, ends, sizeof(Tuple4), 0xFFFF_FFFF_FFFF_FFFF, 0)
if sk is None:
    return XDP_DROP
d.t32 = sk.src_port
d.t16 = u16(sk.family)
helpers.sk_release(sk)
return XDP_TX
"""


@pytest.mark.kernel
def test_a_socket_is_found_read_and_released(tmp_path: Path):
    prog = program(SOCKET, tmp_path, BEFORE)
    data_type = prog.function.__globals__["Data"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        frame = bytearray(200)
        at = next(f.offset for f in data_type.__ebpf_type__.fields if f.name == "n16")
        frame[at : at + 2] = port.to_bytes(2, "big")
        done = prog.run(bytes(frame), on="kernel")
    found = data_type.from_bytes(done.data[: data_type.__ebpf_type__.size])
    assert (done.action, found.t32, found.t16) == (3, port, socket.AF_INET)
    assert prog.verify().ok


def test_a_socket_that_is_not_released_is_not_accepted(tmp_path: Path):
    prog = program(SOCKET.replace("helpers.sk_release(sk)\n", ""), tmp_path, BEFORE)
    report = prog.verify()
    assert not report.ok and "reference" in str(report).lower()


@pytest.mark.kernel
def test_the_current_task_is_read_directly(tmp_path: Path):
    body = READ + "d.q32 = task_struct.cast(helpers.get_current_task_btf()).tgid" + END
    prog = program(body, tmp_path, BEFORE)
    data_type = prog.function.__globals__["Data"]
    done = prog.run(bytes(200), on="kernel")
    assert data_type.from_bytes(done.data[: data_type.__ebpf_type__.size]).q32 == os.getpid()


@pytest.mark.kernel
def test_helpers_with_memory_of_a_fixed_size(tmp_path: Path):
    body = (
        READ
        + "size = array[u32, 1]()\nd.s0 = helpers.check_mtu(pkt, 0, size, 0, 0)\nd.t32 = size[0]\nd.r0 = helpers.ringbuf_query(events, 1)"
        + END
    )
    prog = program(body, tmp_path, BEFORE)
    data_type = prog.function.__globals__["Data"]
    done = prog.run(bytes(200), on="kernel")
    found = data_type.from_bytes(done.data[: data_type.__ebpf_type__.size])
    assert found.s0 == 0 and found.t32 >= 1280 and found.r0 == 4096


REFUSED = {
    "no dynptr": ("p = Pair.zero()\nhelpers.dynptr_read(p, 8, p, 0, 0)", "bad-type: this is Pair where a Dynptr is wanted ()"),
    "no socket": ("helpers.sk_release(d)", "bad-type: this is Data where what a helper or kernel function gave is wanted ()"),
    "an untested socket": ("ends = Tuple4.zero()\nsk = helpers.sk_lookup_udp(pkt, ends, 12, 0, 0)\nhelpers.sk_release(sk)", "untested-optional: this is bpf_sock | None: sk_lookup_udp() may have found nothing (test it first: if sk is not None)"),
    "a socket changed": ("ends = Tuple4.zero()\nsk = helpers.sk_lookup_udp(pkt, ends, 12, 0, 0)\nif sk is not None:\n    sk.mark = 3", "read-only: a bpf_sock of the kernel's cannot be changed ()"),
    "a timer's helper": ("helpers.timer_start(1, 2, 3)", "no-such-attribute: the helper timer_start is not supported: write value.timer.start(nanoseconds) ()"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, wanted: str, tmp_path: Path):
    with pytest.raises(CompileError) as caught:
        compile_programs([program(READ + body + END, tmp_path, BEFORE)])
    error = caught.value
    assert error.span is not None and error.span.column > 0
    assert f"{error.code}: {re.sub(r'line [0-9]+', 'line N', error.message)} ({error.hint})" == wanted


def test_sockets_are_only_the_kernels(tmp_path: Path):
    prog = program(SOCKET, tmp_path, BEFORE)
    with pytest.raises(NotSupported, match="the helper sk_lookup_udp in plain Python"):
        prog(bytes(200))
