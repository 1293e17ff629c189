"""Files that cannot be written, and stages as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "import ebpfkit as bpf\n\n@bpf.xdp\ndef f(pkt: bpf.Packet) -> bpf.XdpAction:\n    return bpf.XDP_PASS\n"


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ebpfkit", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", [["build", "f.py"], ["build", "f.py", "--emit", "btf"], ["asm", "f.s"]])
def test_an_output_that_cannot_be_written_is_one_line(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(PROGRAM)
    (tmp_path / "f.s").write_text("r0 = 2\nexit\n")
    words = [str(tmp_path / word) if word.startswith("f.") else word for word in command]
    done = _run(*words, "-o", str(tmp_path / "absent" / "x"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "absent/x: No such file or directory" in done.stderr


@pytest.mark.parametrize(("stage", "field"), [("ir", "text"), ("btf", "hex")])
def test_a_stage_comes_as_json(stage: str, field: str, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(PROGRAM)
    done = _run("build", str(tmp_path / "f.py"), "--emit", stage, "--json")
    found = json.loads(done.stdout)
    assert found["stage"] == stage and found[field]
