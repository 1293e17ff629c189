"""Minimal BTF answers every question as the whole one does, for us and for libbpf."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from ebpfkit.btf import Btf
from ebpfkit.btf.core import answer
from ebpfkit.btf.vmlinux import KERNEL_BTF, read_btf_file
from ebpfkit.elf import open_object
from ebpfkit.elf.reader import read_elf
from ebpfkit.elf.types import read_raw_types
from tests.conftest import require_tool
from tests.elf.objects import compile_c


@pytest.mark.kernel
def test_the_same_answers(tmp_path: Path) -> None:
    from ebpfkit.cli.main import cli

    path, out = tmp_path / "core.o", tmp_path / "min.btf"
    path.write_bytes(compile_c("core"))
    done = CliRunner().invoke(cli, ["btf", "min", str(path), "-o", str(out), "--json"], standalone_mode=False)
    assert done.exception is None
    cut, whole = read_btf_file(out), read_btf_file()
    assert out.stat().st_size < 20_000 and len(cut.types) < 200
    local, ext = read_raw_types(read_elf(path.read_bytes()))
    assert local is not None
    relos = [relo for rows in ext.relos.values() for relo in rows]
    assert len(relos) > 30
    for relo in relos:
        mine, theirs = answer(local, relo, cut), answer(local, relo, whole)
        assert (mine == theirs) or relo.kind == 7  # a target's type id is another one in another file
    linked = open_object(path, target_btf=cut)
    assert set(linked.programs) == set(open_object(path, target_btf=whole).programs)
    # bpftool's own answer to the same task is of the same kind, and takes more room.
    theirs_path = tmp_path / "theirs.btf"
    subprocess.run(
        [require_tool("bpftool"), "gen", "min_core_btf", KERNEL_BTF, str(theirs_path), str(path)], check=True
    )
    other = Btf.from_bytes(theirs_path.read_bytes())
    for relo in relos:
        if relo.kind != 7:
            assert answer(local, relo, cut).value == answer(local, relo, other).value, relo
    assert len(cut.types) < 3 * len(other.types)
