"""Types of programs beside XDP: the same in every executor, and attached where this kernel lets them be.

What this machine's kernel refuses (probes, fentry) is run on another one: `python tools/guest_python.py --package
llvmlite --module veth 6.12 -m pytest tests/compiler/test_program_types.py`, where nothing may be refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ebpfkit as bpf
from ebpfkit.dsl.kinds import KINDS
from ebpfkit.dsl.program import Program, TracingProgram
from ebpfkit.errors import AttachError, CompileError, LoadError, NotSupported, UsageError
from ebpfkit.kernel.netns import Namespace, create_veth_pair
from tests.compiler import type_programs as programs
from tests.compiler.support import PRELUDE, load_module


def empty() -> None:
    for key in list(programs.seen.keys()):
        del programs.seen[key]


EXECUTORS = ["interpreter", "jit", *(["kernel"] if os.geteuid() == 0 else [])]
IN_GUEST = Path("/plan.json").exists()
"""On another kernel under emulation: nothing is refused there."""
GROUPS = next((Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line),
              None)  # fmt: skip


def frame(protocol: int = 17, port: int = 53, size: int = 60) -> bytes:
    ip = bytes([0x45, 0, 0, size - 14, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
    udp = (4000).to_bytes(2, "big") + port.to_bytes(2, "big") + (size - 34).to_bytes(2, "big") + bytes(2)
    return (bytes(range(12)) + b"\x08\x00" + ip + udp).ljust(size, b"\x5a")[:size]


FRAMES = {
    "udp to dns": frame(),
    "udp elsewhere": frame(port=80),
    "tcp": frame(protocol=6),
    "ipv6": frame()[:12] + b"\x86\xdd" + frame()[14:],
    "cut in the udp header": frame()[:38],
    "cut in the ip header": frame()[:30],
    "no payload": frame(size=42),
}
OF_PACKETS = [p for p in vars(programs).values() if isinstance(p, Program) and not isinstance(p, TracingProgram)]
OF_EVENTS = [p for p in vars(programs).values() if isinstance(p, TracingProgram)]
ARGUMENTS: dict[str, list[tuple[object, ...]]] = {
    "on_unlink": [(0xFFFF_FF9C, 5), (3, 0)],
    "after_unlink": [(0,), (0xFFFF_FFFF_FFFF_FFFE,)],
    "on_switch": [(bytes(range(8, 72)),), (bytes(64),)],
    "on_unlinkat": [(bytes(range(40)),)],
    "raw_switch": [(1, 2, 3), (0x1_00, 9, 9)],
    "tick": [()],
}


@pytest.mark.parametrize("on", EXECUTORS)
@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("program", OF_PACKETS, ids=lambda p: p.name)
def test_packets_are_treated_the_same_everywhere(program: Program[int], name: str, on: str):
    if on == "kernel" and name == "cut in the ip header":
        return  # the kernel refuses such a run
    got: list[Any] = []
    wanted: list[Any] = []
    for executor, out in (("python", wanted), (on, got)):
        empty()
        done = program.run(FRAMES[name], on=executor)
        out[:] = [done.action, done.data, dict(done.maps.get("seen", {}))]
    assert got == wanted and type(got[0]) is type(wanted[0])


@pytest.mark.parametrize("on", EXECUTORS)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_events_are_treated_the_same_everywhere(name: str, on: str):
    program: TracingProgram = getattr(programs, name)
    for arguments in ARGUMENTS[name]:
        if on == "kernel" and not program.kind.test_run:
            with pytest.raises(NotSupported, match="no run on request"):
                program.run(*arguments, on=on)
            continue
        results = []
        for executor in ("python", on):
            empty()
            fields = {"ip": 99} if name == "on_unlink" else {"sample_period": 7} if name == "tick" else {}
            options = {"context": fields} if fields else {}
            done = program.run(*arguments, on=executor, **options)
            results.append((done.action, dict(done.maps["seen"])))
        assert results[0] == results[1]


def test_fields_of_the_context_can_be_given():
    for on in ["python", *EXECUTORS]:
        empty()
        done = programs.mark.run(FRAMES["udp to dns"], on=on, context={"mark": 5, "priority": 9})
        assert done.action is bpf.TC_ACT_SHOT and done.maps["seen"] == {1: 60}


def test_arguments_are_cut_to_their_types():
    empty()
    assert programs.raw_switch(0x1_05, 1, 2) == 6 and programs.seen[10] == 5
    assert programs.after_unlink(-2) == 0 and programs.seen[7] == 0xFFFF_FFFE


@pytest.mark.parametrize("program", [*OF_PACKETS, *OF_EVENTS], ids=lambda p: p.name)
def test_our_verifier_accepts_each(program: Program[int]):
    options = {"btf": "/sys/kernel/btf/vmlinux"} if program.kind.prog_type == "tracing" else {}
    if options and not Path(options["btf"]).exists():
        return
    report = program.verify(**options)
    assert [(one.verdict, one.message) for one in report] == [("accept", "")]


def test_there_is_a_program_of_each_type():
    assert {p.kind.decorator for p in [*OF_PACKETS, *OF_EVENTS]} == set(KINDS) - {"xdp"}


# Attached


@contextmanager
def attached(program: Program[int], *place: Any, **options: Any) -> Iterator[Any]:
    """Attached, or a refusal of this kernel that says why; in the guest nothing is refused."""
    empty()
    try:
        link = program.attach(*place, **options)
    except (AttachError, LoadError) as error:
        assert not IN_GUEST, error
        assert re.search("no probes of functions|tracefs is not mounted|not permitted by this system", str(error))
        yield None
        return
    try:
        assert link.link.program_id
        yield link
    finally:
        link.close()


@pytest.fixture
def wire() -> Iterator[tuple[Namespace, str]]:
    """A device in a namespace with an address, whose packets go to another one."""
    number = os.getpid()
    with Namespace() as near, Namespace() as far:
        one, two = f"ta{number}", f"tb{number}"
        create_veth_pair(near, one, far, two, near_address="10.66.0.1/24", far_address="10.66.0.2/24")
        yield near, one


def send(port: int = 5300, to: str = "10.66.0.2") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(3):
            with contextlib.suppress(PermissionError):  # a control group's program dropped it
                sock.sendto(b"hello", (to, port))


@pytest.mark.kernel
@pytest.mark.parametrize("via", ["tcx", "clsact"])
def test_traffic_control_sees_what_leaves(wire: tuple[Namespace, str], via: str):
    space, device = wire
    if IN_GUEST and via == "tcx" and os.uname().release < "6.6":
        return
    with space.enter(), attached(programs.mark, device, "egress", via=via) as link:
        send()
        deadline = time.monotonic() + 5
        while 1 not in programs.seen and time.monotonic() < deadline:
            time.sleep(0.05)
        assert programs.seen[1] == 47 or programs.seen[1] > 47
        link.detach()
        count = programs.seen[1]
        send()
        assert programs.seen[1] == count
        link.close()
        with pytest.raises(AttachError, match="no device"):
            programs.mark.attach("nosuchdevice")
    empty()


@pytest.mark.kernel
def test_a_socket_filter_sees_what_a_socket_receives():
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, two, programs.every.attach(one) as link:
        two.send(b"hello")
        assert one.recv(100) == b"hello" and programs.seen[3] == 5
        link.link.update(link.loaded.programs["every"])
        assert link.link.program_id
        link.close()
    with pytest.raises(UsageError, match="attaches to a socket, not to str"):
        programs.every.attach("socket")


@pytest.mark.kernel
@pytest.mark.skipif(GROUPS is None, reason="no cgroup2 is mounted")
def test_a_control_group_drops_what_its_processes_send(wire: tuple[Namespace, str]):
    assert GROUPS is not None
    group = GROUPS / f"ebpfkit-types-{os.getpid()}"
    group.mkdir()
    try:
        with attached(programs.no_udp, group):
            child = os.fork()
            if not child:
                try:
                    (group / "cgroup.procs").write_text(str(os.getpid()))
                    with wire[0].enter():
                        send()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            assert programs.seen[4] >= 33
        with attached(programs.count_in, str(group)):
            pass
    finally:
        group.rmdir()
    with pytest.raises(AttachError, match=r"no control group of version 2|no control group"):
        programs.no_udp.attach("/tmp")


def trigger_switches() -> None:
    for _ in range(20):
        time.sleep(0.002)


def trigger_unlink(folder: Path) -> None:
    for number in range(3):
        path = folder / f"gone{number}"
        path.touch()
        here = os.open(folder, os.O_RDONLY)
        os.unlink(path.name, dir_fd=here)  # unlinkat(2)
        os.close(here)


def burn(_: Path) -> None:
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        pass


EVENTS: dict[str, tuple[int, Callable[[Path], None], dict[str, int]]] = {
    "on_unlink": (6, trigger_unlink, {}),
    "after_unlink": (7, trigger_unlink, {}),
    "on_switch": (8, lambda _: trigger_switches(), {}),
    "on_unlinkat": (9, trigger_unlink, {}),
    "raw_switch": (10, lambda _: trigger_switches(), {}),
    "typed_switch": (11, lambda _: trigger_switches(), {}),
    "enter_unlink": (12, trigger_unlink, {}),
    "leave_unlink": (13, trigger_unlink, {}),
    "tick": (14, burn, {"hz": 200}),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", EVENTS)
def test_an_event_reaches_its_program(name: str, tmp_path: Path):
    number, trigger, options = EVENTS[name]
    with attached(getattr(programs, name), **options) as link:
        if link is None:
            return
        trigger(tmp_path)
        assert number in programs.seen, dict(programs.seen.items())
        link.close()


# Refused

BEFORE = """
class Event(bpf.TraceEvent):
    pid: s32
    values: array[u32, 4]
counts = bpf.Hash[u32, u64](max_entries=8)
devices = bpf.DevMap(max_entries=8)
"""
REFUSED = {
    "a field of another type": (
        "@bpf.socket_filter\ndef p(skb: bpf.SkBuff) -> int:\n    return u32(skb.tstamp)\n",
        "context-field: a socket_filter program cannot read tstamp",
    ),
    "a field that is not there": (
        "@bpf.tc\ndef p(skb: bpf.SkBuff) -> int:\n    return skb.makr\n",
        "no-such-field: the packet has no field makr",
    ),
    "a field that cannot be assigned": (
        "@bpf.tc\ndef p(skb: bpf.SkBuff) -> int:\n    skb.hash = 1\n    return 0\n",
        "read-only: a tc program cannot assign hash",
    ),
    "a packet that cannot be changed": (
        "@bpf.cgroup_skb('ingress')\ndef p(skb: bpf.SkBuff) -> int:\n    skb.read(IPv4).ttl = 1\n    return 1\n",
        "read-only: a cgroup_skb program cannot change the packet",
    ),
    "a copy of the packet": (
        "@bpf.socket_filter\ndef p(skb: bpf.SkBuff) -> int:\n    skb.read(IPv4).ttl = 1\n    return 1\n",
        "read-only: a socket_filter program cannot change the packet",
    ),
    "a method of XDP": (
        "@bpf.tc\ndef p(skb: bpf.SkBuff) -> int:\n    skb.push_head(4)\n    return 0\n",
        "no-such-field: the packet of a tc program has no method push_head",
    ),
    "a verdict that is none": (
        "@bpf.cgroup_skb('egress')\ndef p(skb: bpf.SkBuff) -> int:\n    return 7\n",
        "bad-verdict: 7 is no verdict of a control group",
    ),
    "a verdict that is not 0": (
        "@bpf.fentry('x')\ndef p(a: u32) -> int:\n    return 1\n",
        "bad-verdict: 1 is no verdict of a fentry program",
    ),
    "a helper of another type": (
        (
            "@bpf.xdp\ndef p(pkt: Packet) -> int:\n    b = array[u8, 4]()\n    helpers.skb_load_bytes(pkt, 0, b, 4)\n"
            "    return 2\n"
        ),
        "program-type: a xdp program may not call skb_load_bytes",
    ),
    "a view that has died": (
        (
            "@bpf.tc\ndef p(skb: bpf.SkBuff) -> int:\n    ip = skb.read(IPv4)\n    helpers.skb_pull_data(skb, 20)\n"
            "    return 0 if ip.ttl else 2\n"
        ),
        "dead-view: ip died in line 4, where skb_pull_data() moved the packet's bounds",
    ),
    "no verdict for a missing key": (
        "@bpf.kprobe('x')\ndef p(a: u32) -> None:\n    counts[a] += 1\n",
        "no-short-exit: [] of a missing key may end the program, and a kprobe program has no verdict for that",
    ),
    "an argument without a type": (
        "@bpf.kprobe('x')\ndef p(a) -> None:\n    return\n",
        "bad-signature: the argument a of p() has no type of an integer",
    ),
    "too many arguments": (
        "@bpf.kretprobe('x')\ndef p(a: u64, b: u64) -> None:\n    return\n",
        "bad-signature: the program p() can see 1 arguments, not 2",
    ),
    "no record": (
        "@bpf.tracepoint('a:b')\ndef p(a: u64) -> None:\n    return\n",
        "bad-signature: the program p() takes a record",
    ),
    "a record that is changed": (
        "@bpf.tracepoint('a:b')\ndef p(e: Event) -> None:\n    e.pid = 1\n",
        "read-only: a record of the kernel's cannot be changed",
    ),
    "common fields of a record": (
        "@bpf.tracepoint('a:b')\ndef p(e: Event) -> None:\n    if e.common_pid:\n        return\n",
        "context-field: no program may read the field common_pid of a record",
    ),
    "a variable index into a record": (
        "@bpf.tracepoint('a:b')\ndef p(e: Event) -> None:\n    n = e.values[u32(e.pid) & 3]\n    counts[n] = 1\n",
        "array-index: an index into the context is a number known here",
    ),
    "a field that a context has not": (
        "@bpf.fentry('x')\ndef p(ctx: bpf.Context) -> None:\n    if ctx.ip:\n        return\n",
        "context-field: the context of a fentry has no ip",
    ),
    "a redirect of XDP": (
        "@bpf.tc\ndef p(skb: bpf.SkBuff) -> int:\n    return devices.redirect(1)\n",
        "program-type: a tc program cannot redirect by a DevMap",
    ),
    "the egress device": (
        "@bpf.xdp\ndef p(pkt: Packet) -> int:\n    return 2 if pkt.egress_ifindex else 1\n",
        "context-field: egress_ifindex is only known to programs in a devmap",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_type_has_not_is_refused_at_its_place(case: str, tmp_path: Path):
    text, wanted = REFUSED[case]
    module = load_module(PRELUDE + BEFORE + text, tmp_path)
    first = len((PRELUDE + BEFORE).splitlines())
    with pytest.raises(CompileError) as caught:
        module.p.build()
    error = caught.value
    assert error.span is not None and error.span.line > first and error.span.column, error
    message = re.sub(r"line (\d+)", lambda found: f"line {int(found[1]) - first}", error.message)
    assert f"{error.code}: {message}".startswith(wanted)


def test_places_that_do_not_suit_are_refused():
    for program, arguments, options, why in (
        (programs.mark, (), {}, "attaches to a device"),
        (programs.no_udp, (), {}, "attaches to the folder of a control group"),
        (programs.on_unlink, ("eth0",), {}, "knows its place by itself"),
        (programs.tick, (), {}, "attaches to a clock"),
        (programs.mark, ("lo", "sideways"), {}, "'ingress' or 'egress'"),
        (programs.mark, ("lo",), {"hz": 5}, "attaching a tc program takes no hz"),
    ):
        with pytest.raises((UsageError, LoadError), match=why):
            program.attach(*arguments, **options)


def test_decorators_want_what_they_need():
    for make in (
        lambda: bpf.tracepoint("sched_switch"),
        lambda: bpf.cgroup_skb("both"),  # type: ignore[arg-type]
        lambda: bpf.kprobe(print),  # type: ignore[arg-type]
        lambda: bpf.xdp(at="netmap"),  # type: ignore[arg-type,call-overload]
    ):
        with pytest.raises(UsageError):
            make()
    with pytest.raises(CompileError, match="short= is a verdict"):
        bpf.tc(short=bpf.XDP_DROP)(programs.mark.function)  # type: ignore[arg-type]
