"""`ebpfkit run --memory` runs a program on plain memory, and `--step` goes through a run by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ebpfkit.asm.codec import encode
from ebpfkit.asm.parser import parse
from ebpfkit.cli.main import cli

SUM = "ldxb %r0, [%r1]\nldxb %r3, [%r1+1]\nadd %r0, %r3\nadd %r0, %r2\nexit\n"
CODE = encode(parse(SUM))


def run(*arguments: object, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments)], input=stdin)


@pytest.mark.parametrize("jit", [(), ("--jit",)])
@pytest.mark.parametrize("given", [SUM, CODE.hex(), CODE.hex(" ") + "\n", CODE], ids=["text", "hex", "bytes", "raw"])
def test_the_program_comes_from_stdin_in_any_form(given: str | bytes, jit: tuple[str, ...]) -> None:
    assert run("-", "--memory", "f0 10 00", *jit, stdin=given).output == "0x103\n"


def test_the_program_comes_from_a_file_in_any_form(tmp_path: Path) -> None:
    for name, data in (("a.s", SUM.encode()), ("a.bin", CODE), ("a.hex", CODE.hex().encode())):
        (tmp_path / name).write_bytes(data)
        assert run(tmp_path / name, "--memory", "0102").output == "0x5\n"
    document = json.loads(run(tmp_path / "a.s", "--memory", "0102", "--json").output)
    assert document == {"r0": "0x5", "memory": "0102", "insns": 5}
    (tmp_path / "big.bin").write_bytes(encode(parse("r0 = *(u16 *)(r1 +0)\nexit"), big_endian=True))
    assert run(tmp_path / "big.bin", "--memory", "0102", "--big-endian").output == "0x102\n"


def test_no_memory_is_some_too() -> None:
    assert run("-", "--memory", "", stdin="mov %r0, %r2\nexit").output == "0x0\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("-", "--memory", "0"), "exit", "hex digits"),
        (("-", "--memory", ""), "b7 0", "stdin"),
        (("-", "--memory", ""), "nonsense", "nonsense"),
        (("-", "--memory", "", "--trace"), "exit", "--memory goes with"),
        (("-", "--memory", "", "--trusted"), "exit", "--jit"),
        (("-", "--packet", "00"), "exit", "say --memory"),
        (("-", "--memory", "00"), "ldxb %r0, [%r1+1]\nexit", "which has 1 byte"),
    ],
)
def test_what_cannot_run_says_why(arguments: tuple[str, ...], stdin: str, message: str) -> None:
    done = run(*arguments, stdin=stdin)
    assert done.exit_code != 0 and done.exception is not None
    assert message in done.output + str(done.exception)


PROGRAM = """r2 = *(u32 *)(r1 +4)
r1 = *(u32 *)(r1 +0)
r0 = 1
r3 = r1
r3 += 4
if r3 > r2 goto out
*(u32 *)(r10 -4) = 77
r0 = 2
out: exit
"""


def stepped(tmp_path: Path, *commands: str) -> list[str]:
    (tmp_path / "p.s").write_text(PROGRAM)
    done = run(tmp_path / "p.s", "--packet", "00" * 14, "--step", stdin="\n".join(commands))
    assert done.exception is None
    return done.output.splitlines()


def test_steps_go_forwards_and_backwards(tmp_path: Path) -> None:
    lines = stepped(tmp_path, "step 2", "back", "", "quit", "step")
    places = [line.split(":")[1] for line in lines if "p.s:" in line]
    assert places == ["1", "3", "2", "1"]


def test_breakpoints_memory_and_registers(tmp_path: Path) -> None:
    lines = stepped(tmp_path, "break 8", "c", "mem r10-4 4", "r", "mem r10-4 4", "regs", "clear", "continue", "where")
    assert "breakpoint before slot 7" in lines
    shown = [line.split("  ")[1] for line in lines if line.startswith("0x")]
    assert shown == ["4d 00 00 00", "00 00 00 00"]
    assert lines[-1] == lines[-2] == "end: XDP_PASS, 9 instructions"
    assert any(line.startswith("r10 0x") for line in lines)


def test_mistakes_at_the_prompt_are_said(tmp_path: Path) -> None:
    text = "\n".join(stepped(tmp_path, "dance", "step x", "mem r1", "mem 5", "break 99", "step 1 2", "break", "help"))
    for message in ("no 'dance'", "'x' is no number", "no memory there", "from line 99", "does not take '1 2'",
                    "say `break LINE`", "entries of every map"):  # fmt: skip
        assert message in text


def test_a_fault_is_where_the_run_ends(tmp_path: Path) -> None:
    (tmp_path / "f.s").write_text("r0 = *(u8 *)(r1 +99)\nexit")
    done = run(tmp_path / "f.s", "--packet", "00" * 14, "--step", stdin="continue\nmaps\n")
    assert "fault: instruction 0" in done.output


def test_stepping_watches_the_interpreter(tmp_path: Path) -> None:
    (tmp_path / "p.s").write_text(PROGRAM)
    for option in ("--jit", "--trace", "--totals"):
        done = run(tmp_path / "p.s", "--packet", "00" * 14, "--step", option)
        assert "--step goes through one run of the interpreter" in done.output + str(done.exception)
    for option in ("--trace", "--coverage"):
        done = run(tmp_path / "p.s", "--packet", "00" * 14, option, "--jit")
        assert "watch the interpreter" in done.output + str(done.exception)
