"""What a process without rights is told: one line, the missing capability, and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.loader import Program
from ebpfkit.testing.lab import VethLab
from tests.conftest import require_tool
from tests.loader import objects

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
REPORT = """
from ebpfkit.errors import EbpfError
try:
    {statement}
except EbpfError as error:
    print(type(error).__name__, error.errno, error)
else:
    print("it was allowed")
"""
IMPORTS = """
from tests.loader import objects
from ebpfkit.loader import Collection, Map, Program
from ebpfkit.host import probe
"""


def run_without(capabilities: str, code: str) -> str:
    """What the code prints in a process without some capabilities ("all": every one, as any user's process)."""
    setpriv = require_tool("setpriv")
    dropped = ",".join(f"-{name}" for name in capabilities.split())
    command = [setpriv, f"--bounding-set={dropped}", f"--inh-caps={dropped}", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr == ""
    return done.stdout


def told_without(capability: str, statement: str) -> str:
    return run_without(capability, IMPORTS + REPORT.format(statement=statement))


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("Map.create(objects.COUNTS)", "LoadError 1 cannot create map 'counts' (array): this process lacks CAP_BPF; "),
        (
            "Program.load(objects.returns(2))",
            "LoadError 1 cannot load program 'verdict' (xdp): this process lacks CAP_BPF and CAP_NET_ADMIN; ",
        ),
        ("Collection.load(objects.object_of(objects.counts()))", "LoadError 1 cannot create map 'counts'"),
        ("Map.open_id(1)", "MapError 1 cannot open map 1: this process lacks CAP_SYS_ADMIN; "),
        ("Program.open_id(1)", "KernelError 1 cannot open program 1: this process lacks CAP_SYS_ADMIN; "),
    ],
)
def test_without_any_capability(statement: str, words: str) -> None:
    told = told_without("all", statement)
    assert told.startswith(words)
    assert "run it as root (sudo)" in told
    assert told.count("\n") == 1


def test_without_net_admin_a_program_is_not_even_loaded() -> None:
    told = told_without("net_admin sys_admin", "Program.load(objects.returns(2))")
    assert told.startswith("LoadError 1 cannot load program 'verdict' (xdp): this process lacks CAP_NET_ADMIN; ")


@pytest.fixture
def pinned() -> Iterator[str]:
    path = Path(f"{find_bpffs()}/ebpfkit_test_unprivileged_{os.getpid()}")
    with Program.load(objects.returns(2)) as program:
        program.pin(path)
        yield str(path)
        path.unlink()


def test_without_net_admin_netlink_attaches_nothing(pinned: str) -> None:
    with VethLab() as lab, lab.near.enter():
        told = told_without("net_admin", f"Program.open_pinned({pinned!r}).attach_xdp('near0', via='netlink')")
    assert told.startswith("AttachError 1 cannot attach 'verdict' to near0: this process lacks CAP_NET_ADMIN; "), told


def test_the_probe_tells_what_is_missing() -> None:
    code = (
        "from ebpfkit.host import probe\n"
        "found = probe.probe_kernel()\n"
        "print(found['capabilities']['CAP_BPF'], found['hints'][0], probe.host_profile().privileged, sep='|')"
    )
    told = run_without("all", code)
    assert told == "False|loading and attaching needs CAP_BPF and CAP_NET_ADMIN: run as root (sudo)|False\n"
