"""`ebpfkit demo`: the whole road on a small firewall, through the public API alone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.status import REJECTED, print_json
from ebpfkit.errors import KernelError, UsageError

if TYPE_CHECKING:
    import ebpfkit
    from ebpfkit.testing import VethLab
    from ebpfkit.xsk import Frame, XskSocket

FILES = Path(__file__).parent / "demo_files"
ECHO_PORT = 7007
BLOCKED_SOURCE = "192.0.2.9"
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(name="demo", short_help="See the whole road at work.")
@click.option(
    "--firewall",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use this firewall instead of the embedded one.",
)
@click.option(
    "--pcap", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Run it on this capture instead."
)
@click.option("--no-kernel", is_flag=True, help="Stop before anything enters the kernel, even as root.")
@click.option("--json", "as_json", is_flag=True, help="Print what happened as one JSON document.")
def command(firewall: Path | None, pcap: Path | None, no_kernel: bool, as_json: bool) -> int:
    """Compile a firewall, verify it, run it on a capture; as root also attach it and send real traffic through it."""
    from ebpfkit import pipeline

    file = firewall or FILES / "firewall.py"
    say = (lambda text="": None) if as_json else click.echo
    program = _program_of(pipeline.import_file(file), file)
    report: dict[str, Any] = {"firewall": str(file)}

    say(f"1. {file}\n   compiled in process, without clang:")
    report["compile"] = _compile(program)
    say("   {insns} instructions, an object of {bytes} bytes, {milliseconds} ms\n".format(**report["compile"]))

    say("2. verified without a kernel, for Linux 6.18:")
    report["verify"], accepted = _verify(program)
    say("   {verdict}: {insns_processed} instructions walked in {milliseconds} ms".format(**report["verify"]))
    if not accepted:
        say(f"   {report['verify']['message']}; `ebpfkit verify {file}` says more")
        if as_json:
            print_json(report)
        return REJECTED

    capture = pcap or FILES / "packets.pcap"
    say(f"\n3. run in the virtual machine on {capture}:")
    report["packets"] = []
    for row in _run_capture(program, capture):
        report["packets"].append(row)
        say("   {number:>3}  {packet:<44} {action:<13} {insns:>4} instructions".format(**row))
    report["maps"] = _maps(program)
    _say_maps(say, report["maps"])

    report["kernel"] = _kernel_part(program, say, no_kernel)
    if as_json:
        print_json(report)
    else:
        click.echo(f"\nEdit the rules in {file} and run it again.")
    return 0


def _program_of(module: Any, file: Path) -> ebpfkit.Program:
    import ebpfkit

    found = [value for value in vars(module).values() if isinstance(value, ebpfkit.Program)]
    if len(found) != 1:
        raise UsageError(f"{file} holds {len(found)} programs; the demo wants one")
    return found[0]


def _compile(program: ebpfkit.Program) -> dict[str, Any]:
    started = time.perf_counter()
    built = program.build()
    spent = time.perf_counter() - started
    insns = sum(insn.slots for insn in built.programs[program.name].instructions)
    return {"insns": insns, "bytes": len(built.raw), "milliseconds": round(spent * 1000, 1)}


def _verify(program: ebpfkit.Program) -> tuple[dict[str, Any], bool]:
    report = program.verify()
    judged = report.programs[0]
    shown = {
        "verdict": report.verdict,
        "insns_processed": report.insns_processed,
        "milliseconds": round(judged.seconds * 1000, 1),
        "message": judged.message,
    }
    return shown, report.verdict != "reject"


def _run_capture(program: ebpfkit.Program, capture: Path) -> Iterator[dict[str, Any]]:
    from ebpfkit.vm.pcap import open_pcap

    with open_pcap(capture) as frames:
        for number, frame in enumerate(frames, 1):
            result = program.run(frame.data, on="interpreter")
            action = getattr(result.action, "name", str(result.action))
            yield {"number": number, "packet": describe(frame.data), "action": action, "insns": result.insns}


PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP"}
ETHERTYPES = {0x0806: "ARP", 0x86DD: "IPv6", 0x8100: "VLAN"}


def describe(frame: bytes) -> str:
    """What a frame is, in a few words."""
    if len(frame) < 14:
        return f"a frame of only {len(frame)} bytes"
    kind = int.from_bytes(frame[12:14], "big")
    if kind != 0x0800 or len(frame) < 34:
        return ETHERTYPES.get(kind, f"ethertype {kind:#06x}")
    header = (frame[14] & 15) * 4
    protocol = PROTOCOLS.get(frame[23], f"protocol {frame[23]}")
    source, target = (socket.inet_ntoa(frame[at : at + 4]) for at in (26, 30))
    ports = frame[14 + header :]
    if frame[23] in (6, 17) and len(ports) >= 4:
        target += f":{int.from_bytes(ports[2:4], 'big')}"
    return f"{protocol} {source} > {target}"


def _maps(program: ebpfkit.Program) -> dict[str, dict[str, str]]:
    """The contents of the program's maps as text: per-CPU values as their sum."""
    shown: dict[str, dict[str, str]] = {}
    for facade in program.maps:
        entries: dict[str, str] = {}
        contents: Any = facade
        if facade.map_type == "xskmap":
            continue
        for key in contents.keys() if hasattr(contents, "keys") else ():
            value = contents.sum(key) if facade.is_per_cpu else contents.get(key)
            if "array" not in facade.map_type or value:
                entries[str(key)] = str(value)
        shown[facade.name] = entries
    return shown


def _say_maps(say: Any, maps: dict[str, dict[str, str]]) -> None:
    for name, entries in maps.items():
        say(f"   {name}: {', '.join(f'{key} = {value}' for key, value in entries.items()) or 'empty'}")


# --- in the kernel ----------------------------------------------------------------------------------------------------


def _kernel_part(program: ebpfkit.Program, say: Any, no_kernel: bool) -> dict[str, Any]:
    """Real traffic through the attached firewall; without the privileges for it, one line that says so."""
    from ebpfkit.testing import VethLab

    if no_kernel:
        return {"skipped": "--no-kernel"}
    try:
        lab = VethLab()
    except (KernelError, OSError) as error:
        why = f"loading into the kernel, real traffic and AF_XDP are left out: they need root ({error})"
        say(f"\n4. {why}")
        return {"skipped": why}
    with lab:
        return _real_traffic(program, lab, say)


def _real_traffic(program: ebpfkit.Program, lab: VethLab, say: Any) -> dict[str, Any]:
    from ebpfkit.testing import ping, udp_exchange

    say("\n4. two network namespaces, a veth pair between them, the firewall attached to one end:")
    lab.add_near_address(f"{BLOCKED_SOURCE}/32")
    seen: dict[str, Any] = {}
    with lab.far.enter():
        link = program.attach(lab.far_dev)
    try:
        with _echo_service(program, lab) as served, lab.near.enter():
            seen["ping_answered"] = ping(lab.far_address, count=3)
            say(f"   ping {lab.far_address}: {seen['ping_answered']} of 3 answered")
            seen["blocked_answered"] = ping(lab.far_address, count=2, timeout=0.2, source=BLOCKED_SOURCE)
            say(f"   ping from {BLOCKED_SOURCE}: {seen['blocked_answered']} of 2 answered")
            if served is not None:
                questions = [f"packet {number}".encode() for number in range(5)]
                answers = udp_exchange(lab.far_address, ECHO_PORT, questions)
                seen["af_xdp_answers"] = [answer.decode(errors="replace") for answer in answers]
                say(
                    f"   UDP to port {ECHO_PORT}, steered to an AF_XDP socket: {len(answers)} of {len(questions)} "
                    f"answered, the first with {answers[0].decode()!r}" if answers else "   no answer over AF_XDP"
                )  # fmt: skip
        seen["maps"] = _maps(program)
        say("   live map contents (what the virtual machine had counted was loaded with them):")
        _say_maps(say, seen["maps"])
    finally:
        link.close()
    say("   detached; the namespaces are gone")
    return seen


@contextmanager
def _echo_service(program: ebpfkit.Program, lab: VethLab) -> Iterator[XskSocket | None]:
    """An AF_XDP socket on the firewall's device that answers what is steered to it; None without an XSK map."""
    import ebpfkit
    from ebpfkit.xsk import XskSocket

    sockets = next((facade for facade in program.maps if isinstance(facade, ebpfkit.XskMap)), None)
    if sockets is None:
        yield None
        return
    stop = threading.Event()

    def serve(xsk: XskSocket) -> None:
        while not stop.is_set():
            for frame in xsk.receive(timeout=0.05):
                answer(frame)

    with lab.far.enter():
        xsk = XskSocket(lab.far_dev, 0)
    with xsk:
        sockets[0] = xsk
        server = threading.Thread(target=serve, args=(xsk,))
        server.start()
        try:
            yield xsk
        finally:
            stop.set()
            server.join()


def answer(frame: Frame) -> None:
    """Turn a UDP packet round in its frame, its text in capitals, and send it back."""
    data = frame.data
    udp = 14 + (data[14] & 15) * 4
    data[0:6], data[6:12] = bytes(data[6:12]), bytes(data[0:6])
    data[26:30], data[30:34] = bytes(data[30:34]), bytes(data[26:30])
    data[udp : udp + 2], data[udp + 2 : udp + 4] = bytes(data[udp + 2 : udp + 4]), bytes(data[udp : udp + 2])
    data[udp + 6 : udp + 8] = bytes(2)  # no checksum: IPv4 allows that
    data[udp + 8 :] = bytes(data[udp + 8 :]).upper()
    frame.send()
