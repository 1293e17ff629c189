"""The cache of built objects: a hit is the same object, each input makes another key, nothing broken is used."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from ebpfkit.compiler import driver, object_cache
from ebpfkit.compiler.driver import Options, compile_programs
from ebpfkit.dsl.program import Program
from tests.compiler.support import PRELUDE

TEXT = """
LIMIT = 9
DEBUG = False
NAMES = (1, 2)
hits = bpf.Hash[u32, u64](max_entries=16)
RATE = bpf.config(u32, 5)
begun = bpf.var(u64, 3)
class Cell(Struct):
    first: u32
    second: u32
def helper(n: u32) -> u32:
    return n + 1
@bpf.xdp(short=XDP_DROP)
def prog(pkt: Packet) -> XdpAction:
    cell = pkt.read(Pair)
    if DEBUG:
        return XDP_TX
    begun.value += 1
    if helper(cell.a) > LIMIT and RATE > 3:
        hits[cell.b] = u64(Cell(first=1, second=cell.a).second)
    for name in NAMES:
        if cell.a == name:
            return XDP_DROP
    return XDP_PASS
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EBPFKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "objects"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that LLVM is asked."""
    asked: list[str] = []
    real = driver.optimise

    def counting(text: str, **options: str) -> object:
        asked.append(text)
        return real(text, **options)

    monkeypatch.setattr(driver, "optimise", counting)
    return asked


def load(folder: Path, text: str = TEXT, name: str = "module") -> Program:
    path = folder / f"{name}.py"
    path.write_text(PRELUDE + text)
    module = types.ModuleType(name)
    exec(compile(PRELUDE + text, str(path), "exec", dont_inherit=True), module.__dict__)
    program: Program = module.prog
    return program


def test_the_second_time_is_a_hit_and_the_same_object(folder: Path, made: list[str], tmp_path: Path):
    first = compile_programs([load(tmp_path)])
    second = compile_programs([load(tmp_path)])
    assert first.elf == second.elf and len(made) == 1 and len(list(folder.iterdir())) == 1
    assert first.stages["asm"] == second.stages["asm"]  # stages are made again where they are wanted
    assert (folder.stat().st_mode & 0o777) == 0o700


CHANGES = {
    "a constant": ("LIMIT = 9", "LIMIT = 10"),
    "a constant that is resolved": ("DEBUG = False", "DEBUG = True"),
    "a tuple of constants": ("NAMES = (1, 2)", "NAMES = (1, 3)"),
    "the size of a map": ("max_entries=16", "max_entries=17"),
    "the type of a map": ("bpf.Hash[u32, u64]", "bpf.LruHash[u32, u64]"),
    "the types in a map": ("bpf.Hash[u32, u64]", "bpf.Hash[u64, u64]"),
    "the name of a map": ("hits", "kits"),
    "a field of a structure": ("    second: u32\n", "    second: u64\n"),
    "the order of fields": ("    first: u32\n    second: u32\n", "    second: u32\n    first: u32\n"),
    "a configuration": ("bpf.config(u32, 5)", "bpf.config(u32, 6)"),
    "a variable's beginning": ("bpf.var(u64, 3)", "bpf.var(u64, 4)"),
    "a function that is called": ("return n + 1", "return n + 2"),
    "the short exit": ("short=XDP_DROP", "short=XDP_PASS"),
    "the body": ("return XDP_PASS", "return XDP_TX"),
    "the licence": ("LIMIT = 9", 'LICENSE = "Dual MIT/GPL"\nLIMIT = 9'),
    "a comment in its lines": ("return XDP_PASS", "return XDP_PASS  # now"),
    "frags": ("@bpf.xdp(short=XDP_DROP)", "@bpf.xdp(short=XDP_DROP, frags=True)"),
    "the name of the program": ("@bpf.xdp(short=XDP_DROP)", '@bpf.xdp(short=XDP_DROP, name="other")'),
    "a line before it": ("LIMIT = 9", "\nLIMIT = 9"),
}


SAME = {"a comment in its lines", "a field of a structure", "the order of fields"}
"""What may leave the object as it was: the key is another all the same."""


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_the_author_changes_makes_another_key(change: str, folder: Path, made: list[str], tmp_path: Path):
    before, after = CHANGES[change]
    assert before in TEXT
    one = compile_programs([load(tmp_path)]).elf
    two = compile_programs([load(tmp_path, TEXT.replace(before, after))]).elf
    fresh = driver.optimise(made[1], cpu="v3").emit()  # type: ignore[attr-defined]
    assert len(list(folder.iterdir())) == 2 and two == fresh and (two != one or change in SAME)


def test_a_constant_that_is_set_after_the_import_makes_another_key(folder: Path, made: list[str], tmp_path: Path):
    program = load(tmp_path)
    compile_programs([program])
    program.function.__globals__["LIMIT"] = 11
    compile_programs([program])
    assert len(made) == 2


def test_options_and_versions_make_other_keys(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = load(tmp_path)
    for cpu in ("v2", "v3", "v4"):
        compile_programs([program], options=Options(mcpu=cpu))
    assert len(list(folder.iterdir())) == 3
    monkeypatch.setattr(object_cache, "back_end", lambda: b"another llvmlite")
    compile_programs([program])
    assert len(list(folder.iterdir())) == 4


def test_the_back_end_is_known_by_its_files():
    said = object_cache.back_end().decode()
    assert "ebpfkit/llvm/emit.py" in said and "libllvmlite" in said


def test_a_file_that_is_elsewhere_makes_another_key(folder: Path, made: list[str], tmp_path: Path):
    compile_programs([load(tmp_path, name="one")])
    compile_programs([load(tmp_path, name="two")])
    assert len(made) == 2


BREAKS: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "a byte is another": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:]),
    "of another format": lambda path: path.write_bytes(b"ebpfkit object 0\n" + bytes(100)),
    "writable by others": lambda path: path.chmod(0o666),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("how", BREAKS)
def test_what_is_broken_or_foreign_is_made_again(how: str, folder: Path, made: list[str], tmp_path: Path):
    wanted = compile_programs([load(tmp_path)]).elf
    (path,) = folder.iterdir()
    BREAKS[how](path)
    assert compile_programs([load(tmp_path)]).elf == wanted and len(made) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_another_user_wrote_is_not_used(folder: Path, made: list[str], tmp_path: Path):
    compile_programs([load(tmp_path)])
    (path,) = folder.iterdir()
    os.chown(path, 12345, -1)
    compile_programs([load(tmp_path)])
    assert len(made) == 2


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, made: list[str], tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EBPFKIT_CACHE", str(tmp_path / "file"))
    compile_programs([load(tmp_path)])
    compile_programs([load(tmp_path)])
    assert len(made) == 2


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, made: list[str], tmp_path: Path):
    monkeypatch.setenv("EBPFKIT_CACHE", "")
    compile_programs([load(tmp_path)])
    compile_programs([load(tmp_path)])
    assert len(made) == 2


def test_refusals_are_not_kept(folder: Path, tmp_path: Path):
    text = TEXT.replace("cell = pkt.read(Pair)", "cell = pkt.read(Pair)\n    return cell")
    with pytest.raises(driver.CompileError):
        compile_programs([load(tmp_path, text)])
    assert not folder.exists()


def test_old_objects_go(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(object_cache, "MOST_OBJECTS", 4)
    for number in range(6):
        compile_programs([load(tmp_path, TEXT.replace("LIMIT = 9", f"LIMIT = {number + 20}"))])
    assert len(list(folder.iterdir())) <= 4


def test_many_at_once_agree(folder: Path, tmp_path: Path):
    found: list[bytes] = []
    text = "".join(f"; {n}\n" for n in range(2000))

    def work() -> None:
        for _ in range(20):
            found.append(object_cache.fetch(text, "v3", lambda: text.encode()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {text.encode()} and len(list(folder.iterdir())) == 1


def test_a_hit_needs_no_llvmlite(folder: Path, tmp_path: Path):
    (tmp_path / "prog.py").write_text(PRELUDE + TEXT)
    script = "import prog, sys; prog.prog.build(); print('llvmlite' in sys.modules)"
    said = [
        subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["True", "False"]
