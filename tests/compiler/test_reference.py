"""The language reference holds: its snippets run the same everywhere, its refusals and codes are the compiler's."""

from __future__ import annotations

import random
import types
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.program import Program
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from ebpfkit.loader import Collection
from ebpfkit.verifier import verify_program
from tests.compiler.reference import PAGE, ROOT, Snippet, listed_codes, raised_codes, snippets
from tests.compiler.support import check, indent, load_module
from tests.programs.packets import FOR_CASE, GENERAL

ALL = snippets()
PRELUDE = next(s.text for s in ALL if s.kind == "prelude")


def frames() -> list[bytes]:
    chance = random.Random(3)
    whole = [*GENERAL, *FOR_CASE["mss_clamp"], *(chance.randbytes(80) for _ in range(10)), bytes(80), b"\7" * 80]
    return [*whole, *(frame[:size] for frame in whole[:8] for size in (14, 17, 33, 34, 41, 54, 60))]


def fragment(text: str, folder: Path) -> Program:
    body = f"d = pkt.read(Numbers)\n{text}"
    if "refused no-return" not in text and not text.rstrip().splitlines()[-1].startswith("return"):
        body += "return bpf.XDP_PASS\n"
    source = f"{PRELUDE}\n\n@bpf.xdp(short=bpf.XDP_DROP)\ndef prog(pkt: Packet) -> XdpAction:\n{indent(body)}"
    found = load_module(source, folder).prog
    assert isinstance(found, Program)
    return found


def programs_of(module: types.ModuleType) -> list[Program]:
    found = [value for value in vars(module).values() if isinstance(value, Program)]
    return [program for program in found if program.prog_type != "ext"]


def holds_everywhere(prog: Program) -> None:
    kernel_runs_it = prog.at not in ("devmap", "cpumap")
    compiled = check(prog, frames(), kernel=kernel_runs_it)
    if not kernel_runs_it:
        Collection.load(open_object(compiled.elf)).close()
    assert verify_program(open_object(compiled.elf).programs[prog.name]).verdict == "accept"


def of_kind(kind: str) -> list[Snippet]:
    return [s for s in ALL if s.kind == kind]


@pytest.mark.kernel
@pytest.mark.parametrize("snippet", of_kind("module"), ids=str)
def test_a_module_runs_the_same_everywhere(snippet: Snippet, tmp_path: Path) -> None:
    found = programs_of(load_module(snippet.text, tmp_path))
    assert found
    for prog in found:
        holds_everywhere(prog)


@pytest.mark.kernel
@pytest.mark.parametrize("snippet", of_kind("kernel"), ids=str)
def test_what_only_a_kernel_knows_loads(snippet: Snippet, tmp_path: Path) -> None:
    (prog,) = programs_of(load_module(snippet.text, tmp_path))
    with prog.load(verify_first=False) as loaded:
        assert loaded.programs[prog.name].test_run(bytes(60)).retval == 2


@pytest.mark.kernel
@pytest.mark.parametrize("snippet", of_kind(""), ids=str)
def test_a_fragment_runs_the_same_everywhere(snippet: Snippet, tmp_path: Path) -> None:
    holds_everywhere(fragment(snippet.text, tmp_path))


@pytest.mark.parametrize("snippet", of_kind("refused"), ids=str)
def test_what_is_refused_gives_its_code_and_a_caret(snippet: Snippet, tmp_path: Path) -> None:
    text = snippet.text
    if snippet.code == "no-return":
        text = "# refused no-return\n" + text
    with pytest.raises(CompileError) as caught:
        compile_programs([fragment(text, tmp_path)])
    assert caught.value.code == snippet.code
    assert "^" in caught.value.render()
    if "the message says: " in text:
        assert text.split("the message says: ")[1].strip() == caught.value.hint


@pytest.mark.parametrize("snippet", of_kind("user"), ids=str)
def test_what_user_space_writes(snippet: Snippet, tmp_path: Path) -> None:
    first = load_module(next(s.text for s in of_kind("module")), tmp_path)
    names = {**vars(load_module(PRELUDE, tmp_path)), "count": first.count}
    try:
        exec(compile(snippet.text, f"{PAGE}:{snippet.line}", "exec"), names)
    finally:
        for value in names.values():
            if isinstance(value, MapFacade):
                value.close()


def test_every_code_is_listed_once_and_every_listed_code_is_raised() -> None:
    listed = listed_codes()
    assert listed == sorted(set(listed))
    assert set(listed) == set(raised_codes())
    assert {s.code for s in of_kind("refused")} <= set(listed)


def test_every_kind_of_snippet_is_known_and_the_page_is_linked() -> None:
    assert {s.kind for s in ALL} == {"", "kernel", "module", "prelude", "refused", "user"}
    assert "docs/language.md" in (ROOT / "README.md").read_text()
