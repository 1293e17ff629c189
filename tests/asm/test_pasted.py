"""What terminals show, generated here by the tools themselves, assembles back to the bytes that it was made from."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.insn import Instruction, MapRef, MapValueRef
from ebpfkit.asm.parser import parse, read_text
from ebpfkit.asm.printer import format_instruction
from ebpfkit.elf import open_object
from ebpfkit.kernel import bpf
from ebpfkit.loader import Collection
from tests.conftest import require_tool
from tests.elf.objects import require_zig

SOURCE = Path(__file__).parent / "data" / "loads.c"
SOCKET_FILTER, ARRAY = 1, 2


def as_it_is(text: str) -> str:
    return text


def with_cr_lf(text: str) -> str:
    return text.replace("\n", "\r\n")


def in_colour(text: str) -> str:
    return "".join(f"\x1b[32m{line[:7]}\x1b[0m{line[7:]}\x1b[K\n" for line in text.splitlines())


def between_prompts(text: str) -> str:
    return f"user@host:~/src$ bpftool prog dump xlated id 7\n{text}[root@host ~]# exit\n(venv) user@host:/$ \n$ ls\n"


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def with_mark(text: str) -> str:
    return "\ufeff" + text


DRESSES = [as_it_is, with_cr_lf, in_colour, between_prompts, with_mark]
dressed = pytest.mark.parametrize("dress", DRESSES, ids=lambda dress: dress.__name__)


def bare(program: list[Instruction]) -> list[Instruction]:
    return [insn.replace(ref=None, labels=()) for insn in program]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pasted") / "t.o"
    command = [require_tool("clang"), "-target", "bpf", "-O2", "-g", "-mcpu=v3", "-c", str(SOURCE), "-o", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def target_22(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pasted") / "t.o"
    command = [*require_zig(), "-target", "bpfel-freestanding", "-O2", "-g", "-mcpu=v4"]
    subprocess.run([*command, "-c", str(SOURCE), "-o", str(path)], check=True)
    return path


def code_of(target: Path) -> bytes:
    """The instructions of the object's code sections, in the order in which llvm-objdump prints them."""
    from ebpfkit.elf.reader import read_elf

    elf = read_elf(target.read_bytes())
    return b"".join(elf.contents(section) for section in elf.sections if section.is_code)


def objdump(target: Path, *options: str) -> str:
    command = [require_tool("llvm-objdump"), "-d", "--mcpu=v3", *options, str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dressed
@pytest.mark.parametrize(
    "options", [[], ["-S"], ["-l"], ["-S", "-l", "--symbolize-operands"], ["-t", "-h"]], ids=" ".join
)
def test_objdump(target: Path, options: list[str], dress: Callable[[str], str]) -> None:
    assert encode(parse(dress(objdump(target, *options)))) == code_of(target)


@dressed
def test_objdump_with_relocations(target: Path, dress: Callable[[str], str]) -> None:
    """Symbols stand where the bytes have zeroes: the same operations on the same registers."""
    program, expected = parse(dress(objdump(target, "-S", "-r"))), decode(code_of(target))
    assert [(insn.op.kind, insn.dst, insn.off) for insn in program] == [(i.op.kind, i.dst, i.off) for i in expected]
    assert any(isinstance(insn.ref, MapRef | MapValueRef) for insn in program)


def test_objdump_of_later_instructions(target_22: Path) -> None:
    """An older llvm-objdump prints some of CPU v4 as others; the bytes beside the text tell."""
    assert encode(parse(objdump(target_22, "-S"))) == code_of(target_22)


@pytest.fixture(scope="module")
def loaded(target: Path) -> Iterator[tuple[bytes, dict[str, str]]]:
    """The translated program of a loaded object, and what bpftool prints of it in each of its ways."""
    bpftool = require_tool("bpftool")
    obj = open_object(target.read_bytes(), name="t.o")
    with Collection.load(obj) as collection:
        number = str(next(iter(collection.programs.values())).info.id)
        dump = [bpftool, "prog", "dump", "xlated", "id", number]
        code = target.parent / "xlated"
        subprocess.run([*dump, "file", str(code)], check=True)
        ways = {"": [], "linum": ["linum"], "opcodes": ["opcodes"], "visual": ["visual"]}
        texts = {
            way: subprocess.run([*dump, *words], check=True, capture_output=True, text=True).stdout
            for way, words in ways.items()
        }
        yield code.read_bytes(), texts


@dressed
@pytest.mark.kernel
def test_bpftool_with_bytes(loaded: tuple[bytes, dict[str, str]], dress: Callable[[str], str]) -> None:
    code, texts = loaded
    assert encode(parse(dress(texts["opcodes"]))) == code


@pytest.mark.kernel
def test_we_print_what_bpftool_prints(loaded: tuple[bytes, dict[str, str]]) -> None:
    code, texts = loaded
    shown = [line.split(") ", 1)[1] for line in texts[""].splitlines() if re.match(r" *\d+: \(", line)]
    ours = [format_instruction(insn) for insn in decode(code, strict=False)]
    assert [plain(text) for text in ours] == [plain(text) for text in shown]
    assert any(text.startswith("call pc+") for text in ours)


def plain(text: str) -> str:
    """Without names, which are the resolver's, and without what the kernel's text loses."""
    text = re.sub(r"(#\S+| \{imm=\d+\}| ll)$", "", re.sub(r"call \S+#\d+", "call", text))
    return re.sub(r"call (pc[+-]\d+)#.*", r"call \1", text).replace("map[fd:", "map[id:")


@dressed
@pytest.mark.kernel
@pytest.mark.parametrize("way", ["", "linum", "visual"])
def test_bpftool(loaded: tuple[bytes, dict[str, str]], way: str, dress: Callable[[str], str]) -> None:
    """Without the bytes, a call shows the kernel's name for what is called: the rest is the same."""
    code, texts = loaded
    expected = decode(code, strict=False)
    program = bare(parse(dress(texts[way])))
    assert [insn.op for insn in program if insn.op.name != "MOV64_REG"] == [
        insn.op for insn in expected if insn.op.name not in ("MOV64_REG", "INVALID")
    ]


LOGGED = """
r0 = 0
r6 = r1
r1 = map[fd:{fd}] ll
r2 = map[fd:{fd}][0]+4 ll
r3 = 5
if r3 == 5 goto taken
r0 = 7
r0 = 8 ll
taken:
r4 = *(u32 *)(r2 +0)
if r4 > 3 goto over
call f
over:
w0 = 1
exit
f:
r0 = r4
if r4 s> -7 goto out
r0 s/= 2
out:
exit
"""


def log_of(text: str, level: int) -> tuple[list[Instruction], str]:
    with bpf.map_create(ARRAY, 4, 8, 1, name="hits") as map_fd:
        program = parse(text.format(fd=map_fd.fileno()))
        result = bpf.prog_load(SOCKET_FILTER, encode(program), "GPL", name="pasted", log_level=level, log_size=1 << 20)
        if result.fd is not None:
            result.fd.close()
    return program, result.log


@dressed
@pytest.mark.kernel
def test_a_log_of_level_2_is_the_whole_program(dress: Callable[[str], str]) -> None:
    """Dead code too, where the kernel prints its table of live registers; maps come by name."""
    program, log = log_of(LOGGED.replace("r0 = r4", "r0 = 4").replace("if r4", "if r0"), 2)
    reader = read_text(dress(log))
    pasted = reader.finish()
    if "Live regs" in log:
        assert reader.not_shown == []
        without_maps = [insn for insn in bare(pasted) if not insn.op.name.startswith("LDDW_MAP")]
        assert without_maps == [insn for insn in bare(program) if not insn.op.name.startswith("LDDW_MAP")]
    assert [insn.ref for insn in pasted if isinstance(insn.ref, MapRef | MapValueRef)] == [
        MapRef("hits"),
        MapValueRef("hits", 4),
    ]


@pytest.mark.kernel
def test_a_log_of_level_1_shows_the_path_that_failed() -> None:
    text = "r0 = 0\nr3 = 5\nif r3 == 5 goto x\nr0 = 7\nr0 = 8\nx: r2 = *(u64 *)(r3 +0)\nexit"
    _, log = log_of(text, 1)
    with pytest.raises(Exception, match=r"slot 6 is not in this log, whose walk ended with .R3 invalid mem access"):
        parse(log)
    _, log = log_of(text.replace("exit", "if r0 == 0 goto y\ny: exit").replace("u64 *)(r3", "u64 *)(r1"), 1)
    without_verdict = re.sub(r"invalid bpf_context.*\n", "6: (95) exit\n", log)
    reader = read_text(without_verdict)
    assert [insn.op.name for insn in reader.finish()].count("JA") == 2
    assert reader.not_shown == [range(3, 5)]


@pytest.mark.kernel
def test_a_log_with_source_lines_and_the_words_of_a_loader(target: Path) -> None:
    bpftool = require_tool("bpftool")
    pin = f"/sys/fs/bpf/pasted_{target.parent.name.replace('-', '_')}"
    run = subprocess.run([bpftool, "-d", "prog", "load", str(target), pin], capture_output=True, text=True, check=True)
    Path(pin).unlink()
    log = run.stderr
    assert "BEGIN PROG LOAD LOG" in log and "; " in log
    start = log.index("-- BEGIN PROG LOAD LOG --")
    text = log[log.rindex("\n", 0, start) + 1 : log.index("-- END PROG LOAD LOG --")]
    expected = open_object(target.read_bytes(), name="t.o").programs["prog"].instructions
    program = parse(text)
    assert "Live regs" not in log or len(program) == len(expected)
    shown = [(a, b) for a, b in zip(bare(program), bare(list(expected)), strict=False) if a.op.slots == b.op.slots == 1]
    assert len(shown) > 20
    assert [a for a, _ in shown if a.op.name != "JA"] == [b for a, b in shown if a.op.name != "JA"]
    assert {insn.ref.name for insn in program if isinstance(insn.ref, MapRef | MapValueRef)} >= {
        "hits",
        "t.data",
        "t.bss",
    }


# What loaders put around a log: libbpf, iproute2, the Go library, an old kernel.
AROUND = {
    "libbpf": """\
libbpf: prog 'x': BPF program load failed: Permission denied
libbpf: prog 'x': -- BEGIN PROG LOAD LOG --
0: R1=ctx(off=0,imm=0) R10=fp0
; int x(struct xdp_md *ctx) @ x.c:5
{}processed 3 insns (limit 1000000)
-- END PROG LOAD LOG --
libbpf: failed to load object 'x.o'
""",
    "iproute2": """
Prog section 'xdp' rejected: Permission denied (13)!
 - Type:         6
 - Instructions: 3 (0 over limit)
 - License:      GPL

Verifier analysis:

{}
Error fetching program/map!
""",
    "go": """\
load program: permission denied:
	0: R1=ctx() R10=fp0
	; return 2; @ x.c:7
{}	processed 3 insns (limit 1000000)
""",
    "old": "{}from 0 to 1: R0=inv0 R10=fp0\nprocessed 3 insns (limit 131072), stack depth 0\n",
}


@dressed
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_logs_as_loaders_print_them(around: str, dress: Callable[[str], str]) -> None:
    log = "0: (61) r1 = *(u32 *)(r1 +4)          ; R1_w=pkt_end(off=0,imm=0)\n1: (b7) r0 = 2\n2: (95) exit\n"
    assert parse(dress(around.format(log))) == parse("r1 = *(u32 *)(r1 +4)\nr0 = 2\nexit")
