"""No input ends the interpreter, or takes for ever: what LLVM aborts on, and what grows without bounds, is refused.

Each refusal names a line of the author's. Where LLVM's own limit is the reason, it stops in a process of its own.
"""

# ruff: noqa: E501

from __future__ import annotations

import linecache
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ebpfkit.compiler import base, calls
from ebpfkit.errors import CompileError
from ebpfkit.llvm.fence import assess, explain
from tests.compiler.support import build, program

BIG = "class Big(Struct):\n    data: array[u8, {}]\nmap_of = bpf.Array[Big](max_entries=2)\n"
ENDS = "return XDP_PASS\n"


def live(count: int) -> str:
    first = "".join(f"v{i} = d.x64 * {i * 7 + 1} + d.y64\n" for i in range(count))
    return first + "t = helpers.ktime_get_ns()\n" + "".join(f"d.r{i % 3} ^= v{i} * t\n" for i in range(count))


def twice(levels: int, body: str) -> str:
    made = "".join(f"def f{i}(n: u32) -> u32:\n{textwrap.indent(body.format(i + 1), '    ')}\n" for i in range(levels))
    return f"{made}def f{levels}(n: u32) -> u32:\n    return n\n"


STACK = "stack-too-large: the variables and temporaries need more than BPF's 512 bytes of stack"
REFUSED = {
    "a structure beyond the stack": (
        BIG.format(600), "big = Big.zero()\nmap_of[0] = big\n",
        "stack-too-large: Big has 600 bytes, and BPF's stack 512",
    ),
    "a structure without end": (
        "class Big(Struct):\n    data: array[u8, 1 << 40]\n", "big = Big.zero()\nd.x8 = big.data[5]\n",
        "stack-too-large: Big has 1099511627776 bytes, and BPF's stack 512",
    ),
    "a copy beyond the stack": (
        BIG.format(1_000_000), "big = map_of[0].copy()\nmap_of[1] = big\n",
        "stack-too-large: copy of Big has 1000000 bytes, and BPF's stack 512",
    ),
    "a value beyond the stack": (
        BIG.format(1_000_000), "map_of[1] = map_of[0]\n",
        "stack-too-large: the value has 1000000 bytes, and BPF's stack 512",
    ),
    "a copy from map to map": (
        ("class Two(Struct):\n    one: array[u8, 99999]\n    other: array[u8, 99999]\n"
        "map_of = bpf.Array[Two](max_entries=2)\n"),
        "two = map_of[0]\ntwo.one = two.other\n", "too-large: a copy of 99999 bytes would be 24999 instructions",
    ),
    "several structures": (
        BIG.format(200),
        ("a, b, c = Big.zero(), Big.zero(), Big.zero()\nfor i in range(200):\n    a.data[i] = d.arr[i & 7]\n"
        "    b.data[i] = a.data[i & 127]\n    c.data[i] = b.data[i & 127] + d.x8\n"
        "map_of[0] = a\nmap_of[1] = b\nmap_of[1] = c\n"), f"{STACK}; the largest are Big (200 bytes, line ",
    ),
    "too much alive at once": ("", live(120), STACK),
    "a huge literal": ("", f"d.x32 = 0x{'f' * 30_000}\n", "too-large: this constant has more than 4096 bits"),
    "a huge constant": ("HUGE = 1 << 100_000\n", "d.x32 = HUGE\n", "too-large: this constant has more than 4096 bits"),
    "a huge comparison": (
        "HUGE = 1 << 100_000\n", "if d.x32 < HUGE:\n    return XDP_TX\n", "too-large: this constant has more than 4096 bits"
    ),
    "a shift without end": ("", "d.x32 = 1 << 10 ** 11\n", "too-large: this constant has more than 4096 bits"),
    "a power without end": ("", "d.x32 = 7 ** 10 ** 9\n", "too-large: this constant has more than 4096 bits"),
    "a product that grows": (
        "HALF = (1 << 4000) - 1\n", "d.x32 = HALF * HALF\n", "too-large: this constant has more than 4096 bits"
    ),
    "a repetition without end": (
        "", "for i in (1, 2) * 10 ** 10:\n    d.t8 += 1\n", "too-large: this constant has more than 4096 elements"
    ),
    "bytes without end": ("", "d.arr = b'x' * 10 ** 11\n", "too-large: this constant has more than 4096 elements"),
    "a list that is searched": (
        "ALL = [1] * 10 ** 6\n", "d.flag = d.x32 in ALL\n", "too-large: this list has more than 1024 elements"
    ),
    "a sum without end": ("", "d.x32 = sum(range(10 ** 12))\n", "too-large: sum() goes through more than 4096 elements"),
    "rounds without end": (
        "ALL = tuple(range(100_000))\n", "for i in ALL:\n    d.t32 += i\n", "too-large: unrolling 100000 rounds"
    ),
    "rounds in rounds": (
        "ALL = tuple(range(60))\n",
        ("for a in ALL:\n    for b in ALL:\n        for c in ALL:\n            if d.x32 == a * b + c:\n"
        "                d.t8 += 1\n"), "too-large: the program is too large",
    ),
    "functions that call twice": (
        twice(25, "return f{0}(n) + f{0}(n + 1)"), "d.t32 = f0(d.x32)\n",
        "too-large: more than 150 calls are inlined into this program",
    ),
    "branches in functions that call twice": (
        twice(25, "if n > 5:\n    return f{0}(n)\nreturn f{0}(n + 1)"), "d.t32 = f0(d.x32)\n",
        "too-large: more than 150 calls are inlined into this program",
    ),
    "a deep expression": (
        "", "d.t32 = " + "d.x32 if d.flag else " * 900 + "d.x32\n", "too-deep: prog is nested too deeply to compile"
    ),
    "a long sum": ("", "d.t32 = " + " + ".join(["d.x32"] * 900) + "\n", "too-deep: prog is nested too deeply to compile"),
    "an atomic operation of a byte": (
        "small = bpf.Array[u8](max_entries=1)\n", "small[0].atomic_add(1)\n",
        "atomic-width: no atomic operation has 8 bits",
    ),
    "fractions": ("LIMIT = float('nan')\n", "if d.x32 > LIMIT:\n    return XDP_TX\n", "float: "),
    "a skip without end": ("", "pkt.skip(10 ** 30)\n", "does-not-fit: "),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_and_the_interpreter_lives(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "_LARGEST", 6000)
    monkeypatch.setattr(calls, "MOST_INLINED", 150)
    monkeypatch.setenv("EBPFKIT_CACHE", "")
    before, body, wanted = REFUSED[case]
    prog = program(f"d = pkt.read(Data)\n{body}{ENDS}", tmp_path, before)
    with pytest.raises(CompileError) as caught:
        build(prog)
    error = caught.value
    assert f"{error.code}: {error.message}".startswith(wanted), error
    assert error.span is not None and error.span.file == prog.function.__code__.co_filename and error.span.line > 0


BUILT = {
    "a loop without end": ("", "while True:\n    d.t8 += 1\n"),
    "a loop of nothing": ("", "while True:\n    pass\n"),
    "many rounds": ("", "n = u64(0)\nfor i in range(1 << 40):\n    n += u64(i) * u64(i) * u64(i)\nd.r0 = n\n" + ENDS),
    "a sum with a closed form": (
        "", "n = u64(0)\nfor i in range(d.x32):\n    n += u64(i) * u64(i) * u64(i)\nd.r0 = n\n" + ENDS
    ),
    "clearing a long array": (BIG.format(400), "b = map_of[0]\nfor i in range(400):\n    b.data[i] = 0\n" + ENDS),
    "copying a long array": (
        BIG.format(400), "b = map_of[0]\nc = map_of[1]\nfor i in range(400):\n    b.data[i] = c.data[i]\n" + ENDS
    ),
    "hundreds of cases": (
        "", "match d.x32:\n" + "".join(f"    case {i * 31}:\n        d.t32 = {i * i}\n" for i in range(300)) + ENDS
    ),
    "a long name": ("", f"{'x' * 5000} = d.x32\nd.t32 = {'x' * 5000}\n{ENDS}"),
    "a name of LLVM's": ("@bpf.noinline\ndef memcpy(n: u32) -> u32:\n    return n * 3\n", "d.t32 = memcpy(d.x32)\n" + ENDS),
    "letters of other scripts": ("größe = bpf.config(u32, 5)\n", "länge = größe\nd.t32 = länge\n" + ENDS),
    "blocks in blocks": (
        "", "".join("    " * i + "if d.flag:\n" for i in range(60)) + "    " * 60 + "return XDP_TX\n" + ENDS
    ),
    "calls in calls": ("def f(n: u32) -> u32:\n    return n\n", f"d.t32 = {'f(' * 80}d.x32{')' * 80}\n{ENDS}"),
    "a list that holds itself": ("T = [1]\nT.append(T)\n", "if d.x32 == T[0]:\n    d.t8 += 1\n" + ENDS),
}  # fmt: skip


@pytest.mark.parametrize("case", BUILT)
def test_it_is_built(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EBPFKIT_CACHE", "")
    before, body = BUILT[case]
    assert build(program(f"d = pkt.read(Data)\n{body}", tmp_path, before)).elf[:4] == b"\x7fELF"


def test_types_that_hold_themselves_are_refused(tmp_path: Path):
    for text in ("class Node(Struct):\n    next: 'Node'\n", "class Node(Struct):\n    rest: 'array[Node, 2]'\n"):
        with pytest.raises(CompileError, match="Node"):
            program(ENDS, tmp_path, text)


def test_a_branch_that_would_go_too_far_is_an_error_not_the_end():
    """LLVM aborts there ("Branch target out of insn range"), so long functions are emitted in a process of their own."""
    stores = "  store volatile i64 %n, ptr %p\n" * 9000
    assert assess(f"define i32 @far(ptr %p, i64 %n) {{\nentry:\n{stores}  ret i32 0\n}}\n").risky
    error = explain("LLVM ERROR: Branch target out of insn range\n", -6)
    assert error.code == "too-large" and "32,767 instructions" in error.message and "@noinline" in error.hint


# Functions that are in no file

NOTEBOOK = """
import ebpfkit as bpf
from ebpfkit import Packet, u32

@bpf.xdp(short=bpf.XDP_DROP)
def cell(pkt: Packet) -> bpf.XdpAction:
    number = pkt.read(u32)
    return bpf.XDP_PASS if number else bpf.XDP_TX
"""


def test_a_cell_of_a_notebook_compiles_and_brings_its_lines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EBPFKIT_CACHE", "")
    name = "<ipython-input-7-abcdef>"
    monkeypatch.setitem(linecache.cache, name, (len(NOTEBOOK), None, NOTEBOOK.splitlines(keepends=True), name))
    module: dict[str, object] = {"__name__": "__main__"}
    exec(compile(NOTEBOOK, name, "exec"), module)
    cell = module["cell"]
    assert isinstance(cell, bpf_program())
    built = cell.build()
    spans = [insn.span for insn in built.programs["cell"].instructions if insn.span is not None]
    assert any("number = pkt.read(u32)" in (span.text or "") for span in spans)
    assert cell(bytes(20)) == 3 and b"number = pkt.read(u32)" in (built.raw or b"")


def bpf_program() -> type:
    from ebpfkit.dsl.program import Program

    return Program


def test_functions_of_the_interactive_interpreter_compile_or_say_what_to_do():
    """`python -i` keeps the text of what was typed from 3.13 on."""
    script = NOTEBOOK.strip() + "\n\nprint('ELF', cell.build().raw[:4])\n"
    done = subprocess.run([sys.executable, "-i", "-q"], input=script, capture_output=True, text=True, check=False)
    if sys.version_info >= (3, 13):
        assert "ELF b'\\x7fELF'" in done.stdout, done.stderr
    else:
        assert "the source text of cell is not available" in done.stderr


def test_text_that_is_nowhere_is_refused_with_the_way_out():
    module: dict[str, object] = {"__name__": "nowhere"}
    exec(compile(NOTEBOOK, "<string>", "exec"), module)
    with pytest.raises(CompileError, match="the source text of cell is not available") as caught:
        module["cell"].build()  # type: ignore[attr-defined]
    assert caught.value.code == "no-source" and "linecache" in caught.value.hint
