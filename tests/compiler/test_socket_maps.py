"""Maps of sockets, and values that belong to sockets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError, MapKeyError
from ebpfkit.verifier import verify_program
from tests.compiler.support import PRELUDE, build, load_module, program

TEXT = """
class Seen(Struct):
    packets: u64
socks = bpf.SockMap(max_entries=4)
byport = bpf.SockHash[u16](max_entries=4)
perconn = bpf.SkStorage[Seen]()
@bpf.xdp(short=XDP_DROP)
def prog(pkt: Packet) -> XdpAction:
    n = pkt.read(u8)
    if n == 7:
        return XDP_PASS if socks.delete(1) == 0 else XDP_TX
    if n & 3 in socks and u16(n) not in byport:
        return XDP_TX
    return XDP_DROP
@bpf.tc
def classify(skb: bpf.SkBuff) -> bpf.TcAction:
    seen = perconn.get(skb, create=True)
    if seen is None:
        return bpf.TC_ACT_OK
    seen.packets.atomic_add(1)
    return bpf.TC_ACT_SHOT if seen.packets > 1 else bpf.TC_ACT_PIPE
"""


def frame(first: int) -> bytes:
    return bytes([first]) + bytes(63)


@pytest.mark.kernel
def test_a_program_asks_for_sockets_and_takes_them_out(tmp_path: Path):
    m = load_module(PRELUDE + TEXT, tmp_path)
    for on in ("python", "interpreter", "kernel"):
        actions = [m.prog.run(frame(first), on=on).action for first in (0, 1, 7)]
        assert actions == [bpf.XDP_DROP, bpf.XDP_DROP, bpf.XDP_TX]
    with bpf.load([m.prog, m.classify]) as loaded, socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as connection:
            m.socks[1] = connection
            assert 1 in m.socks and 2 not in m.socks and m.socks[1] > 0

            def runs(*firsts: int) -> list[int]:
                return [loaded.programs["prog"].test_run(frame(first)).retval for first in firsts]

            assert runs(0, 1, 2) == [bpf.XDP_DROP, bpf.XDP_TX, bpf.XDP_DROP]
            m.byport[1] = connection
            assert m.byport[1] == m.socks[1]
            assert runs(1, 5) == [bpf.XDP_DROP, bpf.XDP_TX]
            assert runs(7, 7) == [bpf.XDP_PASS, bpf.XDP_TX] and 1 not in m.socks
            with pytest.raises(MapKeyError):
                m.socks[1]
            del m.byport[1]
            assert 1 not in m.byport
            m.perconn[connection] = m.Seen(packets=5)
            assert m.perconn[connection].packets == 5
            del m.perconn[connection]
            with pytest.raises(MapKeyError):
                m.perconn[connection]


@pytest.mark.kernel
def test_storage_goes_with_the_socket_of_a_packet(tmp_path: Path):
    m = load_module(PRELUDE + TEXT, tmp_path)
    assert m.classify.run(bytes(64), on="python").action == bpf.TC_ACT_OK  # no socket there
    assert m.classify.run(bytes(64), on="interpreter").action == bpf.TC_ACT_OK
    assert m.classify.run(bytes(64), on="kernel").action == bpf.TC_ACT_PIPE  # the kernel's test run has one
    for prog in (m.prog, m.classify):
        assert verify_program(open_object(build(prog).elf).programs[prog.name]).verdict == "accept"


REFUSED = {
    "get in XDP": ("v = perconn.get(pkt)", "program-type"),
    "get without the packet": ("v = perconn.get(5)", "bad-type"),
    "storing a socket": ("socks[1] = 5", "bad-map-operation"),
    "reading a socket": ("n = socks[1]", "bad-map-operation"),
    "a value of a socket by number": ("v = perconn[1]", "bad-map-operation"),
}


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED)
def test_what_a_program_cannot_do_with_sockets_is_refused(body: str, code: str, tmp_path: Path):
    prog = program(f"{body}\nreturn XDP_PASS\n", tmp_path, TEXT.replace("def prog", "def other"))
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.code == code and "^" in caught.value.render()
