"""`ebpfkit load` and `unload` on a veth pair of the test's own, and elsewhere: what stays, goes, and is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ebpfkit.errors import KernelError
from ebpfkit.loader import Map
from ebpfkit.loader import Program as LiveProgram
from ebpfkit.testing import VethLab
from ebpfkit.testing.lab import ping
from tests.cli.conftest import Command
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


TC = """
import ebpfkit as bpf
from ebpfkit import u64

seen = bpf.Array[u64](max_entries=1)

@bpf.tc
def count(skb: bpf.SkBuff) -> bpf.TcAction:
    seen[0] += 1
    return bpf.TC_ACT_OK
"""
CLSACT = ["--via", "clsact"]
GROUPS = next((Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line),
              None)  # fmt: skip


@pytest.fixture
def places(tmp_path: Path) -> Path:
    path = tmp_path / "places.o"
    path.write_bytes(compile_c("places"))
    return path


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of the test's own."""
    if GROUPS is None:
        pytest.skip("no cgroup2 is mounted")
    made = GROUPS / f"ebpfkit-load-{os.getpid()}"
    made.mkdir()
    yield made
    wait_until(lambda: not (made / "cgroup.procs").read_text())
    made.rmdir()


def hits(shown: dict[str, Any]) -> int:
    """What the one map of a loaded program has counted, in its first word."""
    (number,) = shown["map_ids"]
    with Map.open_id(number) as live:
        value = live.get(bytes(4))
        return int.from_bytes(value[:4], sys.byteorder) if value is not None else 0


def is_loaded(number: int) -> bool:
    try:
        LiveProgram.open_id(number).close()
    except KernelError:
        return False
    return True


@contextmanager
def held(lab: VethLab, *arguments: object) -> Iterator[dict[str, Any]]:
    """`ebpfkit load` in the foreground for the length of a block; afterwards its program is gone."""
    with start(lab, "load", *arguments) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            shown = json.loads(line)
            yield shown
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    ids = [shown["program_id"]] if "program_id" in shown else shown["program_ids"].values()
    wait_until(lambda: not any(map(is_loaded, ids)))


@pytest.mark.parametrize(
    ("name", "options", "direction"),
    [
        ("arrives", [], "ingress"),
        ("departs", [], "egress"),
        ("departs", CLSACT, "egress"),
        ("either", ["--at", "ingress"], "ingress"),
        ("either", ["--at", "egress", *CLSACT], "egress"),
        ("count", ["--at", "ingress"], "ingress"),
        ("count", ["--at", "egress", *CLSACT], "egress"),
    ],
)
def test_traffic_control_sees_packets_in_its_direction(
    lab: VethLab, places: Path, tmp_path: Path, name: str, options: list[str], direction: str
) -> None:
    (tmp_path / "tc.py").write_text(TC)
    file = tmp_path / "tc.py" if name == "count" else places
    with held(lab, file, "--prog", name, "--dev", lab.far_dev, *options) as shown:
        assert (shown["device"], shown["direction"], shown["program"]) == (lab.far_dev, direction, name)
        with lab.near.enter():
            assert ping(lab.far_address, count=2) == 2
        assert hits(shown) >= 2


def test_traffic_control_is_pinned_by_device_and_direction(lab: VethLab, places: Path) -> None:
    command, dev = " ".join(EBPFKIT), lab.far_dev
    done = in_private_mounts(
        lab,
        f"""set -e
        mount -t bpf bpf /sys/fs/bpf
        {command} load {places} --prog arrives --dev {dev} --pin
        {command} load {places} --prog departs --dev {dev} --pin
        {command} load {places} --prog departs --dev {dev} --pin || true
        {command} unload --dev {dev} || true
        {command} unload --dev {dev} --at ingress
        {command} unload --dev {dev} --at egress
        ls /sys/fs/bpf | grep -c ebpfkit || true
        {command} unload --dev {dev} --at egress""",
    )
    assert done.returncode == 3, done.stderr
    arrives, departs, first, second, left = map(json.loads, done.stdout.splitlines())
    assert left == 0
    for loaded, gone, direction in ((arrives, first, "ingress"), (departs, second, "egress")):
        assert gone == {name: loaded[name] for name in ("device", "direction", "program_id", "map_ids")}
        assert gone["direction"] == direction
        wait_until(lambda number=gone["program_id"]: not is_loaded(number))
    again, xdp, nothing = done.stderr.splitlines()
    assert f"`ebpfkit unload --dev {dev} --at egress` removes it" in again
    assert f"nothing of ebpfkit's is pinned for {dev} in" in xdp and f"{dev}:egress" in xdp
    assert f"nothing of ebpfkit's is pinned for the egress of {dev} in" in nothing


def test_a_control_group_sees_what_its_processes_send(lab: VethLab, places: Path, group: Path) -> None:
    with held(lab, places, "--prog", "sends", "--cgroup", group) as shown:
        assert (shown["program"], shown["type"], shown["target"]) == ("sends", "cgroup_skb", str(group))
        with lab.near.enter():
            send = f"echo $$ > {group}/cgroup.procs && exec ping -c 1 -W 5 {lab.far_address}"
            subprocess.run(["sh", "-c", send], check=True, capture_output=True, timeout=30)
        assert hits(shown) >= 1
    command = " ".join(EBPFKIT)
    done = in_private_mounts(
        lab,
        f"""set -e
        mount -t bpf bpf /sys/fs/bpf
        {command} load {places} --prog sends --cgroup {group} --pin
        {command} unload --name sends""",
    )
    assert done.returncode == 0, done.stderr
    loaded, gone = map(json.loads, done.stdout.splitlines())
    assert gone["program_id"] == loaded["program_ids"]["sends"]
    wait_until(lambda: not is_loaded(gone["program_id"]))


@pytest.mark.parametrize(
    ("name", "options", "target"), [("calls", [], "sys_enter"), ("ticks", ["--hz", 200], "200 Hz")]
)
def test_places_of_the_whole_machine(lab: VethLab, places: Path, name: str, options: list[object], target: str) -> None:
    with held(lab, places, "--prog", name, *options) as shown:
        assert shown["target"] == target
        wait_until(lambda: hits(shown) > 0)


def test_a_probe_runs_or_says_what_the_kernel_lacks(lab: VethLab, places: Path) -> None:
    if Path("/sys/bus/event_source/devices/kprobe").exists():
        with held(lab, places, "--prog", "unlinks") as shown:
            assert shown["target"] == "do_unlinkat"
    else:
        done = run(lab, "load", places, "--prog", "unlinks")
        assert done.returncode == 3 and done.stderr.count("\n") == 1
        assert "kprobe 'do_unlinkat'" in done.stderr and "CONFIG_KPROBE_EVENTS" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("arrives", "program arrives is of traffic control: say on which device, --dev D"),
        ("either --dev far0", "program either does not say its direction: --at ingress or --at egress"),
        ("arrives --dev far0 --at egress", "is for the ingress by its section 'tcx/ingress', not for --at egress"),
        ("arrives --dev far0 --mode skb", "--mode says where on a device an XDP program runs"),
        ("arrives --dev far0 --dispatcher", "--dispatcher is for XDP programs; program arrives is none"),
        ("arrives --dev far0 --via clsact --pin", "--pin keeps a bpf_link"),
        ("primary --dev far0", "netkit"),
        ("sends", "say in which control group, --cgroup FOLDER"),
        ("sends --cgroup /tmp --dev far0", "program sends is of type cgroup_skb"),
        ("keeps", "it attaches to a socket that the process has open, and a shell has none"),
        ("unlinks --hz 9", "--hz is the clock of a perf_event program"),
        ("ticks", "say how many times a second it runs, --hz N"),
        ("looks", "attaching a program of type sk_lookup (looks) by `ebpfkit load` is not supported"),
    ],
)
def test_places_that_do_not_suit_a_program(ebpfkit: Command, places: Path, arguments: str, message: str) -> None:
    done = ebpfkit("load", places, "--prog", *arguments.split())
    assert done.status == (4 if "is not supported" in done.err else 2) and message in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("arrives --dev nowhere", "nowhere"),
        ("sends --cgroup /tmp", "'/tmp' is no control group of version 2"),
        ("elsewhere --no-verify", "probes are attached to one function of the kernel"),
    ],
)
def test_places_that_are_none(lab: VethLab, places: Path, arguments: str, message: str) -> None:
    done = run(lab, "load", places, "--prog", *arguments.split())
    assert (
        done.returncode == (4 if "is not supported" in done.stderr else 3)
        and message in done.stderr
        and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--at ingress", "say what to unload"),
        ("--name any --at ingress", "--at is a direction of a device"),
        ("--dev far0 --at ingress --prog any", "goes without --prog"),
    ],
)
def test_a_direction_is_unloaded_from_a_device(ebpfkit: Command, arguments: str, message: str) -> None:
    done = ebpfkit("unload", *arguments.split())
    assert done.status == 2 and message in done.err
