"""`verify` for every kernel, for another host, and for a user without rights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ebpfkit.cli.verify import command
from ebpfkit.errors import UsageError
from ebpfkit.pipeline.profiles import chosen_profile, read_profile

SOURCE = "r0 = 0\nr1 = 3\nr1 s/= 2\nexit\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "prog.s"
    path.write_text(SOURCE)
    return path


def test_all_kernels_in_a_matrix(source: Path) -> None:
    done = CliRunner().invoke(command, [str(source), "--kernel", "all"])
    assert "from Linux 6.6 on" in done.output
    assert "4.4: Linux 4.4 has no programs of type xdp" in done.output
    assert "6.1: BPF_ALU uses reserved fields (reserved-field at instruction 2)" in done.output.replace(
        "4.9, 4.14, 4.19, 5.4, 5.10, 5.15, ", ""
    )


def test_the_matrix_as_json(source: Path) -> None:
    done = CliRunner().invoke(command, [str(source), "--kernel", "all", "--json"])
    (row,) = json.loads(done.output)
    assert row["oldest"] == "6.6"
    cells = {cell["kernel"]: cell for cell in row["kernels"]}
    assert cells["6.18"] == {"kernel": "6.18", "verdict": "accept", "basis": "measured", "reason": None}
    assert cells["5.15"]["basis"] == "documented"
    assert cells["5.15"]["verdict"] == "reject"


def test_a_host_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    path.write_text(json.dumps({"profile": {"kernel": "6.1", "cpus": 64, "jit": False}, "hints": []}))
    profile = read_profile(path)
    assert (profile.kernel, profile.cpus, profile.jit, profile.privileged) == ("6.1", 64, False, True)
    other = chosen_profile("6.12", path, unprivileged=True)
    assert (other.kernel, other.cpus, other.privileged) == ("6.12", 64, False)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kernel": 6}', '{"kernel": "6.1", "cpus": 0}', '{"kernel": "6.1", "colour": "red"}']
)
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "host.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_profile(path)
