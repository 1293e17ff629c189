"""Commands as a user types them, in this process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ebpfkit.cli.main import main
from tests.conftest import require_tool

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Done:
    """What a command left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def ebpfkit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`ebpfkit("verify", file, "--json")` runs the command and returns what it left."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", ["ebpfkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capfd.readouterr()
        status = left.value.code
        return Done(status if isinstance(status, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def clang_object(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles C text with clang to an object."""
    folder = tmp_path_factory.mktemp("c")

    def compile_c(text: str) -> Path:
        source = folder / f"t{abs(hash(text))}.c"
        source.write_text(text)
        target = source.with_suffix(".o")
        subprocess.run(
            [
                require_tool("clang"),
                "-O2",
                "-g",
                "-target",
                "bpf",
                "-I/usr/include/x86_64-linux-gnu",
                "-c",
                source,
                "-o",
                target,
            ],
            check=True,
        )
        return target

    return compile_c
