"""Random programs: plain Python, the virtual machine and the kernel agree on verdict, bytes and maps.

A long run is `python -m tests.compiler.test_random FIRST LAST`; what it finds becomes a case of the tables.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfkit.compiler.lower import lower_program
from ebpfkit.errors import CompileError, EbpfError
from tests.compiler.everywhere import differences, outcomes
from tests.compiler.random_language import LANGUAGE, language_body
from tests.compiler.random_programs import MAPS, mutated_body, random_body
from tests.compiler.support import PRELUDE, check, indent, load_module, packets, program

FOLDED = {"division-by-zero"}
"""Refusals that a random program may well deserve: constants that meet."""


def agree_on(seed: int, folder: Path) -> bool:
    """Whether the random program of this number compiled; raises when executors differ."""
    prog = program(random_body(seed), folder, MAPS)
    try:
        check(prog, packets(3, seed=seed), kernel=True)
    except CompileError as error:
        if error.code not in FOLDED:
            raise
        return False
    finally:
        Path(prog.function.__code__.co_filename).unlink()
    return True


@pytest.mark.kernel
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32))
def test_random_programs_mean_the_same_everywhere(seed: int):
    with tempfile.TemporaryDirectory() as folder:
        agree_on(seed, Path(folder))


@pytest.mark.kernel
@pytest.mark.parametrize("first", range(0, 32, 4))
def test_programs_over_the_whole_language_mean_the_same_everywhere(first: int, tmp_path: Path):
    """A few of the programs that `tools/language_campaign.py` runs by the thousand."""
    numbers = range(first, first + 4)
    text = PRELUDE + LANGUAGE
    for number in numbers:
        body = indent(language_body(number))
        text += f"@bpf.xdp(short=XDP_DROP)\ndef prog_{number}(pkt: Packet) -> XdpAction:\n{body}\n"
    module = load_module(text, tmp_path)
    frames = packets(3, seed=first)
    executors = ["python", "interpreter", "kernel", *(["jit"] if first == 8 else [])]
    found = outcomes([getattr(module, f"prog_{number}") for number in numbers], frames, executors)
    assert differences(found, frames) == []


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_mutated_programs_compile_or_are_refused_at_a_place(tmp_path: Path):
    """Whatever is written, the compiler answers."""
    compiled, codes = 0, set()
    for seed in range(250):
        try:
            prog = program(mutated_body(seed), tmp_path, MAPS)
        except SyntaxError:
            continue
        try:
            function = lower_program(prog, cpu="v3", maps={}, variables={}, subprograms={})
        except CompileError as error:
            assert error.span is not None and error.span.column and error.code and error.message, seed
            codes.add(error.code)
        else:
            assert function.blocks[0].closed
            compiled += 1
    assert compiled >= 8 and len(codes) > 15


def main() -> None:
    first, last = int(sys.argv[1]), int(sys.argv[2])
    compiled = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, last):
            try:
                compiled += agree_on(seed, Path(folder))
            except (AssertionError, EbpfError) as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"{last - first} programs, {compiled} compiled and ran, {failed} failed")


if __name__ == "__main__":
    main()
