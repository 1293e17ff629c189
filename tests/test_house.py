"""The promises of the house itself: light imports, one tree of errors, packages that carry what they need."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ebpfkit
from ebpfkit import errors

ROOT = Path(__file__).parent.parent
HEAVY = ("llvmlite", "numpy", "rich", "pyroute2", "elftools", "click", "hypothesis", "pytest")


def modules_after(code: str) -> set[str]:
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_brings_in_only_a_few_modules_of_its_own() -> None:
    gained = {name for name in modules_after("import ebpfkit") if name.partition(".")[0] not in sys.stdlib_module_names}
    assert all(name.partition(".")[0] == "ebpfkit" for name in gained)
    assert len(gained) <= 8, sorted(gained)


def test_help_does_not_load_what_it_does_not_need() -> None:
    gained = modules_after(
        "import sys; sys.argv = ['ebpfkit', '--help']\n"
        "from ebpfkit.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass"
    )
    heavy = {name for name in gained if name.partition(".")[0] in set(HEAVY) - {"click"}}
    assert not heavy


def test_every_public_name_exists() -> None:
    for name in ebpfkit.__all__:
        assert getattr(ebpfkit, name) is not None


def test_every_error_is_an_ebpferror_and_in_the_drawn_tree() -> None:
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.EbpfError)
        assert name in drawn


def test_kernel_errors_are_oserrors_too() -> None:
    error = errors.MapKeyError("no such key", errno=2)
    assert isinstance(error, OSError) and isinstance(error, KeyError)
    assert (error.errno, str(error)) == (2, "no such key")


def test_runtime_dependencies_are_the_agreed_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert names == {"llvmlite", "pyelftools", "pyroute2", "click", "rich", "numpy"}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "-o", str(out), str(ROOT)], check=True, capture_output=True
    )
    return out


def test_wheel_is_whole(distributions: Path) -> None:
    names = set(zipfile.ZipFile(next(distributions.glob("*.whl"))).namelist())
    assert {"ebpfkit/py.typed", "ebpfkit/cli/demo_files/firewall.py", "ebpfkit/cli/demo_files/packets.pcap"} <= names
    assert not any(name.startswith(("tests/", "programs/")) for name in names)


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_an_installed_distribution_runs_from_another_folder(distributions: Path, kind: str, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(next(distributions.glob(kind)))], check=True)
    (tmp_path / "drop.py").write_text(
        "import ebpfkit as bpf\n\n@bpf.xdp\ndef drop(pkt: bpf.Packet) -> bpf.XdpAction:\n    return bpf.XDP_DROP\n"
    )
    command = venv / "bin" / "ebpfkit"
    demo = subprocess.run([command, "demo", "--no-kernel"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert demo.returncode == 0, demo.stderr
    verify = subprocess.run(
        [command, "verify", "drop.py", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert verify.returncode == 0, verify.stderr
    assert '"verdict": "accept"' in verify.stdout
