"""How memory and speed of `ebpfkit run` behave when the capture grows: a campaign, minutes long.

    python tools/long_capture.py [--packets 1000000] [--options=--jit]

Writes captures of a tenth of the packets and of all of them into a temporary directory, runs the same filter over both,
each in a process of its own, and prints the peak memory and the packets per second of CPU time. Exits with 1 when the
peak of the longer one is more than a tenth higher.
"""

from __future__ import annotations

import argparse
import os
import shlex
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

FILTER = """
import ebpfkit as bpf
from ebpfkit import Packet, u64
from ebpfkit.net import Ethernet, IPv4

seen = bpf.Array[u64](max_entries=256)

@bpf.xdp(short=bpf.XDP_DROP)
def count(pkt: Packet) -> bpf.XdpAction:
    pkt.read(Ethernet)
    ip = pkt.read(IPv4)
    seen[ip.protocol] += 1
    return bpf.XDP_PASS
"""
PACKET = bytes.fromhex("02000000000102000000000208004500002e000100004011f96bc0000201c6336401") + bytes(30)


def write_capture(path: Path, count: int) -> None:
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, 1))
        for number in range(count):
            head = struct.pack("<IIII", 1_700_000_000 + number // 1000, number % 1000, len(PACKET), len(PACKET))
            out.write(head + PACKET)


def measure(program: Path, capture: Path, options: list[str]) -> tuple[int, float]:
    """(peak memory in KiB, seconds of CPU time) of one run."""
    command = [sys.executable, "-m", "ebpfkit", "run", str(program), "--pcap", str(capture), "--totals", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} left with {process.returncode}")
    return usage.ru_maxrss, usage.ru_utime + usage.ru_stime


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--packets", type=int, default=1_000_000)
    options.add_argument("--options", default="", help="further options of `ebpfkit run`, such as --options=--jit")
    chosen = options.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "filter.py")
        program.write_text(FILTER)
        for count in (chosen.packets // 10, chosen.packets):
            capture = Path(folder, f"{count}.pcap")
            write_capture(capture, count)
            peak, seconds = measure(program, capture, shlex.split(chosen.options))
            peaks.append(peak)
            print(f"{count:>9} packets: peak {peak / 1024:.0f} MiB, {count / seconds:,.0f} packets a CPU second")
    return int(peaks[1] > peaks[0] * 1.1)


if __name__ == "__main__":
    raise SystemExit(main())
