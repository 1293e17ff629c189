"""The documentation names what is there: every module, test and command that it points at exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ebpfkit.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_the_documentation_exists(page: Path) -> None:
    named = re.findall(r"`((?:ebpfkit|tests|programs|benchmarks|tools|docs)/[\w./-]*)`", page.read_text())
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_documentation_exists(page: Path) -> None:
    named = set(re.findall(r"`(?:\S*/)?ebpfkit ([\w-]+)", page.read_text()))
    assert named <= set(COMMANDS)


def test_every_test_named_on_the_af_xdp_page_exists() -> None:
    page = (ROOT / "docs" / "af-xdp.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []


def test_every_word_of_the_socket_named_on_the_af_xdp_page_exists() -> None:
    from ebpfkit.xsk import XskSocket

    for name in re.findall(r"`XskSocket\.(\w+)`", (ROOT / "docs" / "af-xdp.md").read_text()):
        assert hasattr(XskSocket, name)


def test_nothing_names_a_workplace() -> None:
    listed = [
        path for folder in ("ebpfkit", "docs", "programs", "benchmarks", "tools") for path in (ROOT / folder).rglob("*")
    ]
    texts = [
        path
        for path in [*listed, *ROOT.glob("*.md"), ROOT / "pyproject.toml"]
        if path.suffix in (".py", ".md", ".toml", ".c")
    ]
    assert not [path for path in texts if re.search(r"/work/|/\.library|/opt/pypi", path.read_text())]
