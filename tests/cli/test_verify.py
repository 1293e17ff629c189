"""`verify` on several files, in processes, as SARIF and as a page; `explain` of rules and logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ebpfkit.cli.main import cli
from ebpfkit.errors import UsageError

GOOD = "r0 = 2\nexit\n"
BAD = "r0 = r9\nexit\n"
LOG = """\
0: R1=ctx() R10=fp0
0: (bf) r0 = r9
R9 !read_ok
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def run(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False, input=text)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "good.s").write_text(GOOD)
    (tmp_path / "bad.s").write_text(BAD)
    return tmp_path / "good.s", tmp_path / "bad.s"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_several_files_keep_their_order(files: tuple[Path, Path], jobs: str) -> None:
    result = run("verify", *files, *files, "--jobs", jobs, "--json")
    assert [row["verdict"] for row in json.loads(result.stdout)] == ["accept", "reject"] * 2
    assert result.return_value == 1


def test_a_budget_ends_the_walk(files: tuple[Path, Path]) -> None:
    [row] = json.loads(run("verify", files[0], "--max-insns", "1", "--json").stdout)
    assert (row["verdict"], row["rule"]) == ("reject", "too-complex")


def test_sarif_has_what_its_schema_requires(files: tuple[Path, Path]) -> None:
    log = json.loads(run("verify", *files, "--format", "sarif").stdout)
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    [sarif] = log["runs"]
    driver = sarif["tool"]["driver"]
    assert driver["name"] == "ebpfkit"
    [result] = sarif["results"]
    assert result["message"]["text"] and result["level"] in ("none", "note", "warning", "error")
    assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "uninitialised-register"
    for location in result["locations"]:
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"] and place["region"]["startLine"] >= 1


def test_a_page_is_written(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert run("verify", *files, "--html", out).return_value == 1
    text = out.read_text()
    assert text.startswith("<!doctype html>") and "on-path failed" in text and "R9 !read_ok" in text


def test_explain_lists_shows_and_guesses() -> None:
    assert "unbounded-packet-access" in run("explain").stdout
    shown = run("explain", "null-map-value").stdout
    assert "refused (xdp):" in shown and "accepted:" in shown and "in C:" in shown
    assert json.loads(run("explain", "null-map-value", "--json").stdout)["mended"]
    wrong = run("explain", "nul-map-value").exception
    assert isinstance(wrong, UsageError) and "did you mean 'null-map-value'" in str(wrong)


def test_explain_reads_a_kernels_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LOG)
    for result in (run("explain", "--log", tmp_path / "log"), run("explain", "--log", "-", text=LOG)):
        assert result.return_value == 1
        assert "uninitialised-register" in result.stdout and "R9 was never written" in result.stdout
    accepted = run("explain", "--log", "-", text=LOG.replace("R9 !read_ok\n", ""))
    assert accepted.return_value == 0


@pytest.mark.parametrize("text", ["", "hello\n", "\0\xff\n"])
def test_what_is_no_log_is_refused(text: str) -> None:
    assert isinstance(run("explain", "--log", "-", text=text).exception, UsageError)


def test_a_single_line_of_a_log_is_enough() -> None:
    assert "null-map-value" in run("explain", "--log", "-", text="R0 invalid mem access 'map_value_or_null'\n").stdout


def test_the_kernels_format_is_for_the_eye_alone(files: tuple[Path, Path]) -> None:
    assert "0: (bf) r0 = r9" in run("verify", files[1], "--log-level", "2").stdout
    assert run("verify", files[1], "--log-level", "2", "--json").exception is not None
