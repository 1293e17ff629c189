"""Basic blocks, edges, functions, and jumps to nowhere."""

from __future__ import annotations

import pytest

from ebpfkit.asm.cfg import EdgeKind, build_cfg
from ebpfkit.asm.parser import parse
from ebpfkit.errors import AsmError, NotSupported


def edges(text: str) -> list[str]:
    cfg = build_cfg(parse(text))
    arrow = {EdgeKind.FALL: "->", EdgeKind.JUMP: "=>"}
    return [f"{edge.source}{arrow[edge.kind]}{edge.target}" for block in cfg.blocks for edge in block.successors]


GRAPHS = [
    ("exit", [], 1),
    ("r0 = 0\nexit", [], 1),
    ("if r1 == 0 goto a\nr0 = 1\na: exit", ["0->1", "0=>2", "1->2"], 3),
    ("top: r0 += 1\nif r0 < 9 goto top\nexit", ["0->1", "0=>0"], 2),
    ("goto a\nr0 = 1\na: exit", ["0=>2", "1->2"], 3),
    ("top: may_goto top\ngotol top", ["0->1", "0=>0", "1=>0"], 2),
    ("r1 = 5 ll\nif r1 == 0 goto pc+2\nr2 = 5 ll\nexit", ["0->1", "0=>2", "1->2"], 3),
]


@pytest.mark.parametrize(("text", "expected", "blocks"), GRAPHS, ids=[text for text, *_ in GRAPHS])
def test_edges(text: str, expected: list[str], blocks: int) -> None:
    assert edges(text) == expected
    cfg = build_cfg(parse(text))
    assert len(cfg.blocks) == blocks
    assert sorted(edge for block in cfg.blocks for edge in map(str, block.predecessors)) == sorted(
        edge for block in cfg.blocks for edge in map(str, block.successors)
    )


def test_functions_and_what_is_reachable() -> None:
    cfg = build_cfg(parse("call f\nr1 = subprog[g] ll\nexit\ndead: goto dead\nf: exit\ng: r0 = 0\nexit"))
    assert [cfg.blocks[index].first for index in cfg.functions] == [0, 4, 5]
    assert cfg.reachable() == {0, 2, 3}
    assert [block.slot for block in cfg.blocks] == [0, 4, 5, 6]


def test_falling_off_the_end_is_marked() -> None:
    assert [block.falls_off for block in build_cfg(parse("if r1 == 0 goto a\nexit\na: r0 = 0")).blocks] == [
        False,
        False,
        True,
    ]


def test_no_program_has_no_blocks() -> None:
    assert build_cfg([]).blocks == ()


WRONG = [
    ("goto pc+5\nexit", r"slot 0 \(byte 0x0\): JA goes to slot 6, where no instruction begins"),
    ("goto pc-9\nexit", "JA goes to slot -8"),
    ("if r1 == 0 goto pc+1\nr1 = 5 ll\nexit", "JEQ64_IMM goes to slot 2"),
    ("call pc+7\nexit", "CALL_LOCAL goes to slot 8"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_jumps_to_nowhere(text: str, message: str) -> None:
    with pytest.raises(AsmError, match=message):
        build_cfg(parse(text))


def test_indirect_jumps_are_not_guessed() -> None:
    with pytest.raises(NotSupported, match="gotox"):
        build_cfg(parse("gotox r1\nexit"))
