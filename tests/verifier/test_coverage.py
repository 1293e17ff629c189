"""The table of what has no model: it is what verification says, and the command prints it."""

from __future__ import annotations

from click.testing import CliRunner

from ebpfkit.abi.helpers import HELPERS
from ebpfkit.abi.kfuncs import FLAGS
from ebpfkit.cli.verify import command
from ebpfkit.verifier import coverage


def test_what_is_modelled_is_not_in_the_table() -> None:
    found = {(gap.kind, gap.name) for gap in coverage.gaps()}
    assert ("helper", "loop") not in found and ("kernel function", "bpf_iter_num_next") not in found
    assert ("kernel function", "bpf_get_file_xattr") in found and "bpf_get_file_xattr" not in FLAGS


def test_nearly_every_helper_has_a_model() -> None:
    without = [gap for gap in coverage.gaps() if gap.kind == "helper"]
    assert len(without) < len(HELPERS) * 0.02, without


def test_the_command_prints_the_table() -> None:
    result = CliRunner().invoke(command, ["--coverage"])
    assert result.exit_code == 0, result.output
    assert "helpers without a model: " in result.output and "features without a model: " in result.output
