"""`ebpfkit doctor`: its JSON, its status, and that a fix is shown before it is applied."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ebpfkit.kernel import ethtool
from ebpfkit.testing import VethLab
from tests.cli.conftest import Command

pytestmark = pytest.mark.kernel


def run(*arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ebpfkit", "doctor", *arguments]
    return subprocess.run(command, input=answer, capture_output=True, text=True, check=False)


def test_the_host_as_json(ebpfkit: Command) -> None:
    done = ebpfkit("doctor", "--json")
    assert done.status == 0, done.err
    assert done.json["device"] is None and done.json["applied"] == []
    rows = done.json["findings"]
    assert {"check", "status", "found", "why", "fix", "safe"} == set(rows[0])
    assert {"kernel", "capabilities", "bpffs", "jit"} <= {row["check"] for row in rows}


def test_a_device_as_text_and_its_status() -> None:
    with VethLab() as lab, lab.near.enter():
        done = run("near0")
        assert done.returncode == 0, done.stderr
        assert "ok    native-xdp" in done.stdout and "fix: ethtool -K near0 rxvlan off  (--fix does it)" in done.stdout
        subprocess.run(["ip", "link", "set", "near0", "down"], check=True)
        done = run("near0")
        assert done.returncode == 1 and "fix: ip link set dev near0 up\n" in done.stdout
        assert run("near7").returncode == 3


def test_fixes_are_shown_then_applied() -> None:
    with VethLab() as lab, lab.near.enter():
        done = run("near0", "--fix", answer="n\n")
        assert "will do: ethtool -K near0 rxvlan off" in done.stdout
        features = ethtool.get_features("near0")
        assert features is not None and features["rx-vlan-hw-parse"]
        done = run("near0", "--fix", "--yes", "--json")
        assert json.loads(done.stdout)["applied"] == ["ethtool -K near0 rxvlan off"]
        features = ethtool.get_features("near0")
        assert features is not None and not features["rx-vlan-hw-parse"]
        done = run("near0", "--fix", "--yes")
        assert "nothing here can be fixed safely from here" in done.stderr
