"""`ebpfkit load` of what is on no device: kernel operations, and programs whose section says where they attach."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.elf.objects import compile_c

pytestmark = pytest.mark.kernel

COMMAND = f"{sys.executable} -m ebpfkit"


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with mounts of its own, so that what it pins is gone with it."""
    command = [require_tool("unshare"), "-m", "sh", "-c", f"set -e; mount -t bpf bpf /sys/fs/bpf; {script}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(params=["fixed", "stays"])
def operations(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(tmp_path: Path, name: str) -> Path:
    path = tmp_path / f"{name}.o"
    path.write_bytes(compile_c(name))
    return path


def test_operations_are_pinned_and_unloaded(tmp_path: Path, operations: str) -> None:
    available = "cat /proc/sys/net/ipv4/tcp_available_congestion_control"
    done = shell(
        f"""{COMMAND} load {written(tmp_path, "congestion")} --ops {operations} --pin; {available}
        {COMMAND} unload --name {operations}; {available}; ls /sys/fs/bpf | grep -c ebpfkit || true
        {COMMAND} unload --name {operations}"""
    )
    assert done.returncode == 3 and f"nothing of ebpfkit's is pinned as {operations}" in done.stderr
    loaded, there, unloaded, gone, left = done.stdout.splitlines()
    assert f"bpf_{operations}" in there and f"bpf_{operations}" not in gone and left == "0"
    assert set(json.loads(loaded)["program_ids"]) == {"threshold", "avoid", "undo"}
    assert json.loads(unloaded)["map_ids"] == json.loads(loaded)["map_ids"]


def test_programs_that_say_where_they_attach(tmp_path: Path) -> None:
    done = shell(
        f"""{COMMAND} load {written(tmp_path, "targets")} --prog syscalls --pin
        {COMMAND} unload --name syscalls; ls /sys/fs/bpf | grep -c ebpfkit || true"""
    )
    assert done.returncode == 0, done.stderr
    loaded, unloaded, left = done.stdout.splitlines()
    assert json.loads(loaded)["target"] == "sys_enter" and left == "0"
    assert json.loads(loaded)["program_ids"]["syscalls"] == json.loads(unloaded)["program_id"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--prog asks", "program asks is XDP: say on which device, --dev D"),
        ("--ops fixed --dev lo", "it goes without --prog and a place"),
        ("--ops fixed --prog asks", "--ops names a structure with all its functions"),
        ("--prog enter --mode skb", "--mode says where on a device"),
        ("--ops other", "the object has no program 'other'"),
        ("--ops asks", "asks is a program, no structure of kernel operations"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, arguments: str, message: str) -> None:
    done = shell(f"{COMMAND} load {written(tmp_path, 'targets')} {arguments}")
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr
