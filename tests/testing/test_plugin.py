"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

USER_TEST = """
from hypothesis import given, settings, HealthCheck
from ebpfkit import XDP_DROP, XDP_PASS
from ebpfkit.testing.strategies import packets
from programs.firewall import firewall

IP = bytes.fromhex("4500001c000100004011668a0a0000017f000001")
PACKET = bytes.fromhex("ffffffffffff0200000000010800") + IP + bytes.fromhex("003500350008f56c")


def test_one_packet(ebpf):
    outcome = ebpf.run(firewall, PACKET)
    outcome.expect(action=XDP_PASS, data=PACKET, maps={"seen": {17: [1]}}, max_insns=60)
    ebpf.verify(firewall, max_insns=200)
    assert ebpf.coverage(firewall).percent > 50


def test_everywhere(ebpf_everywhere):
    ebpf_everywhere.run(firewall, PACKET).expect(action=XDP_PASS)


def test_executors_agree(ebpf):
    ebpf.diff_run(firewall, [PACKET, b"short"])


@settings(max_examples=5, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(packets())
def test_any_packet(ebpf, packet):
    assert ebpf.run(firewall, packet).action in (XDP_PASS, XDP_DROP)


def test_time_and_chance(ebpf, ebpf_clock, ebpf_random):
    ebpf_clock.advance(seconds=1)
    assert ebpf.clock() == 1_000_000_000 and ebpf_random is ebpf.numbers


def test_that_fails(ebpf):
    ebpf.run(firewall, PACKET).expect(action=XDP_DROP)
"""


def run_pytest(folder: Path, *arguments: str, text: str = USER_TEST) -> subprocess.CompletedProcess[str]:
    (folder / "test_user.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-p", "ebpfkit.testing.plugin", "-p", "no:cacheprovider", "-q"]
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_fixtures_as_a_user_has_them(tmp_path: Path) -> None:
    done = run_pytest(tmp_path)
    assert "1 failed, 7 passed" in done.stdout, done.stdout
    assert "AssertionError: interpreter: the verdict is XDP_PASS, not XDP_DROP" in done.stdout
    assert "executors.py" not in done.stdout  # the traceback ends in the user's own test


@pytest.mark.parametrize(
    ("chosen", "expected"), [("python", "test_everywhere[python] PASSED"), ("moon", "--ebpf-on takes names of")]
)
def test_where_to_run_is_an_option(tmp_path: Path, chosen: str, expected: str) -> None:
    done = run_pytest(tmp_path, "-vv", "--ebpf-on", chosen, "-k", "everywhere")
    assert expected in done.stdout + done.stderr


def test_the_page_on_testing_is_true(tmp_path: Path) -> None:
    """What docs/testing.md shows, run as it stands."""
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "testing.md").read_text(), re.MULTILINE | re.DOTALL
    )
    shutil.copy(ROOT / "programs" / "firewall.py", tmp_path)
    done = run_pytest(tmp_path, text=code)
    assert "9 passed" in done.stdout, done.stdout


def test_the_plugin_loads_nothing_heavy() -> None:
    heavy = "('llvmlite', 'numpy', 'hypothesis', 'rich')"
    code = f"import sys, ebpfkit.testing.plugin; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
