"""`ebpfkit load` and `unload` on a veth pair of the test's own: what stays, what goes, and what is said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebpfkit.testing import VethLab
from tests.conftest import require_tool
from tests.elf.objects import compile_c

pytestmark = pytest.mark.kernel

EBPFKIT = [sys.executable, "-m", "ebpfkit"]
PROGRAM = """
import ebpfkit as bpf
from ebpfkit import u64

seen = bpf.Array[u64](max_entries=4)

@bpf.xdp
def count(pkt: bpf.Packet) -> bpf.XdpAction:
    seen[1] += 1
    return bpf.XDP_PASS
"""
REJECTED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int reads(struct xdp_md *ctx) { return *(unsigned char *)(long)ctx->data; }
char _license[] SEC("license") = "GPL";
"""


NO_REPLACING = "this system does not let programs replace functions"


@pytest.fixture
def lab() -> Iterator[VethLab]:
    with VethLab() as made:
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "count.py"
    path.write_text(PROGRAM)
    return path


def run(lab: VethLab, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    with lab.far.enter():
        return subprocess.run(
            [*EBPFKIT, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, **options
        )


def attached(lab: VethLab) -> list[int]:
    """The ids of the programs on the far device, as iproute2 tells them."""
    with lab.far.enter():
        shown = subprocess.run(
            [require_tool("ip"), "-j", "link", "show", "dev", lab.far_dev], capture_output=True, text=True, check=True
        )
    xdp = json.loads(shown.stdout)[0].get("xdp")
    return [xdp["prog"]["id"]] if xdp else []


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def start(lab: VethLab, *arguments: object) -> subprocess.Popen[str]:
    with lab.far.enter():
        return subprocess.Popen([*EBPFKIT, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("mode", ["native", "skb"])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_foreground_load_detaches_however_it_ends(
    lab: VethLab, program: Path, ending: signal.Signals, mode: str
) -> None:
    with start(lab, "load", program, "--dev", lab.far_dev, "--mode", mode) as process:
        assert process.stdout is not None
        shown = json.loads(process.stdout.readline())
        assert (shown["device"], shown["mode"]) == (lab.far_dev, mode)
        assert attached(lab) == [shown["program_id"]]
        assert len(shown["map_ids"]) == 1
        process.send_signal(ending)
        status = process.wait(timeout=20)
    assert status == (0 if ending is not signal.SIGKILL else -signal.SIGKILL)
    wait_until(lambda: not attached(lab))


def test_a_rejection_stops_before_the_kernel(lab: VethLab, tmp_path: Path) -> None:
    source, target = tmp_path / "bad.c", tmp_path / "bad.o"
    source.write_text(REJECTED)
    clang = [require_tool("clang"), "-O2", "-g", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", "-c"]
    subprocess.run([*clang, source, "-o", target], check=True)
    ours = run(lab, "load", target, "--dev", lab.far_dev)
    assert ours.returncode == 1 and "bad.c:4" in ours.stderr
    theirs = run(lab, "load", target, "--dev", lab.far_dev, "--no-verify")
    assert theirs.returncode == 1 and "bad.c:4" in theirs.stderr
    assert not attached(lab)


def test_missing_device(lab: VethLab, program: Path) -> None:
    done = run(lab, "load", program, "--dev", "far1")
    assert done.returncode == 3
    assert "far1" in done.stderr and "far0" in done.stderr
    assert done.stderr.count("\n") == 1


def test_already_attached(lab: VethLab, program: Path) -> None:
    with start(lab, "load", program, "--dev", lab.far_dev) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        done = run(lab, "load", program, "--dev", lab.far_dev)
        process.send_signal(signal.SIGINT)
    assert done.returncode == 3
    assert str(first["program_id"]) in done.stderr
    assert done.stderr.count("\n") == 1


def test_hardware_offload_is_refused_with_a_reason(lab: VethLab, program: Path) -> None:
    done = run(lab, "load", program, "--dev", lab.far_dev, "--mode", "hw")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


def test_without_privileges(lab: VethLab, program: Path) -> None:
    drop = [require_tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    with lab.far.enter():
        done = subprocess.run(
            [*drop, *EBPFKIT, "load", program, "--dev", lab.far_dev],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3, done.stderr
    assert "CAP_" in done.stderr and "Traceback" not in done.stderr


def in_private_mounts(lab: VethLab, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with mounts of its own, so that what it pins is gone with it."""
    with lab.far.enter():
        return subprocess.run(
            [require_tool("unshare"), "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
        )


def test_pin_and_unload(lab: VethLab, program: Path) -> None:
    command = " ".join(EBPFKIT)
    done = in_private_mounts(
        lab,
        f"""set -e
        mount -t bpf bpf /sys/fs/bpf
        {command} load {program} --dev {lab.far_dev} --pin
        {require_tool("ip")} link show dev {lab.far_dev} | grep -c prog/xdp
        find /sys/fs/bpf/ebpfkit -type f | sed 's#.*{lab.far_dev}/##' | sort | tr '\\n' ' '; echo
        {command} unload --dev {lab.far_dev}
        {require_tool("ip")} link show dev {lab.far_dev} | grep -c prog/xdp || true
        ls /sys/fs/bpf | grep -c ebpfkit || true
        {command} unload --dev {lab.far_dev}""",
    )
    assert done.returncode == 3, done.stderr  # the second unload: nothing is there
    loaded, is_attached, pins, unloaded, is_still_attached, left = done.stdout.splitlines()
    assert (is_attached, is_still_attached, left) == ("1", "0", "0")
    assert {"link", "maps/seen"} <= set(pins.split())
    assert json.loads(loaded)["program_id"] == json.loads(unloaded)["program_id"]
    assert lab.far_dev in done.stderr


def test_no_bpffs(lab: VethLab, program: Path) -> None:
    done = in_private_mounts(
        lab,
        f"""while umount /sys/fs/bpf 2>/dev/null; do :; done
        {" ".join(EBPFKIT)} load {program} --dev {lab.far_dev} --pin""",
    )
    assert done.returncode == 3
    assert "mount -t bpf" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not attached(lab)


def test_load_beside_others(lab: VethLab, tmp_path: Path) -> None:
    """Put behind a dispatcher, listed, taken away; or told that this system does not allow it, and nothing is left."""
    file = tmp_path / "beside.o"
    file.write_bytes(compile_c("beside"))
    first = run(lab, "load", file, "--prog", "plain", "--dev", lab.far_dev, "--dispatcher", "--priority", 7)
    if NO_REPLACING in first.stderr:
        assert first.returncode == 3 and "attach it alone" in first.stderr and "Traceback" not in first.stderr
        again = run(lab, "unload", "--dev", lab.far_dev, "--prog", "plain")
        assert again.returncode == 3 and "it is not there; there is nothing" in again.stderr
        return
    assert first.returncode == 0, first.stderr
    shown = json.loads(first.stdout)
    row = {"program": "plain", "program_id": shown["program_id"], "priority": 7, "chain": ["XDP_PASS"]}
    assert shown["runs"] == [row]
    refused = run(lab, "load", file, "--prog", "plain", "--dev", lab.far_dev)
    assert "a dispatcher that runs 'plain'" in refused.stderr and "--dispatcher`" in refused.stderr
    assert "a dispatcher that runs" in " ".join(run(lab, "doctor", lab.far_dev).stdout.split())
    gone = json.loads(run(lab, "unload", "--dev", lab.far_dev, "--prog", "plain").stdout)
    assert gone["program_id"] == shown["program_id"] and gone["runs"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dispatcher"], "--dispatcher is for a device, --dev D"),
        (["--dispatcher", "--dev", "any", "--pin"], "it goes without --pin"),
        (["--priority", "3", "--dev", "any"], "give --dispatcher too"),
    ],
)
def test_wrong_options_of_a_dispatcher(lab: VethLab, program: Path, arguments: list[str], message: str) -> None:
    done = run(lab, "load", program, *arguments)
    assert done.returncode == 2 and message in done.stderr
