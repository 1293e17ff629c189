"""Programs as people ship them, in C, and after one small change: verdict, reason and count against the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from differential import compare_program, mutants_of
from judged import assert_agrees
from shipped import NAMES, compile_source

from ebpfkit.elf import open_object
from ebpfkit.elf.model import ProgramSpec
from tests.conftest import require_tool

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("name", NAMES)
def test_shipped_programs(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    require_tool("clang")
    path = compile_source(name, "clang", "v3", tmp_path)
    assert path is not None
    programs: list[ProgramSpec] = list(open_object(path, target_btf=oracle.types).programs.values())
    assert programs
    for number, spec in enumerate(programs):
        verdict = "accept" if oracle.ask(spec).accepted else "reject"
        assert_agrees(spec, verdict, oracle, oracle.types)
        for mutant in mutants_of(spec, number, 1, gently=True):
            outcome = compare_program(mutant, oracle, number)
            assert outcome is None or outcome.ours == outcome.kernel, outcome
