"""Labels at jump targets, and drawings of basic blocks: well-formed, complete, nothing on top of anything."""

from __future__ import annotations

import random
import re
from xml.etree import ElementTree

import pytest

from ebpfkit.asm.cfg import build_cfg
from ebpfkit.asm.codec import encode
from ebpfkit.asm.drawing import FORMATS, draw_cfg
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.labels import label_targets
from ebpfkit.asm.layout import lay_out
from ebpfkit.asm.parser import parse
from ebpfkit.asm.printer import format_program
from ebpfkit.errors import NotSupported, UsageError

LOOPS = """\
r0 = 0
r1 = 10
outer: r2 = 5
inner: r0 += r2
r2 -= 1
if r2 != 0 goto inner
if r0 > 100 goto out
call f
r1 -= 1
if r1 != 0 goto outer
out: exit
f: r0 = *(u64 *)(r1 +0) // <&"
exit
"""


def test_targets_get_labels_and_the_text_assembles_to_the_same_bytes() -> None:
    program = [insn.replace(ref=None, labels=()) for insn in parse(LOOPS)]
    labelled = label_targets(program, {0: "main", 11: "f"})
    text = format_program(labelled, slots=True)
    assert [line for line in text.splitlines() if line.endswith(":")] == ["main:", "L2:", "L3:", "L10:", "f:"]
    assert "goto L3" in text and "call f" in text and "pc" not in text
    assert encode(parse(text)) == encode(program)
    assert label_targets(labelled) == labelled


def test_a_jump_to_nowhere_keeps_its_distance() -> None:
    insn = Instruction(OPCODES["JA"], off=7)
    assert label_targets([insn]) == [insn]


@pytest.mark.parametrize("format", FORMATS)
def test_every_block_and_edge_is_drawn(format: str) -> None:
    text = draw_cfg(parse(LOOPS), format, title="a <title>")
    graph = build_cfg(parse(LOOPS))
    edges = sum(len(block.successors) for block in graph.blocks)
    if format == "svg":
        root = ElementTree.fromstring(text)
        boxes = [element for element in root.iter() if element.tag.endswith("}rect")][1:]
        assert len(boxes) == len(graph.blocks)
        assert len([element for element in root.iter() if element.tag.endswith("}path")]) == edges
        assert "a <title>" in "".join(root.itertext()) and "12: exit" in "".join(root.itertext())
    else:
        arrow = "->" if format == "dot" else r"--?>|-\.->"
        assert len(re.findall(rf"b\d+ (?:{arrow}) b\d+", text)) == edges
        assert all(f"b{block.index}" in text for block in graph.blocks)


def test_boxes_do_not_overlap_and_stay_inside() -> None:
    rng = random.Random(7)
    for _ in range(40):
        count = rng.randint(1, 40)
        sizes = [(rng.uniform(30, 300), rng.uniform(20, 200)) for _ in range(count)]
        edges = [(rng.randrange(count), rng.randrange(count)) for _ in range(rng.randint(0, 2 * count))]
        layout = lay_out(sizes, edges)
        assert len(layout.routes) == len(edges)
        placed = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(layout.boxes, sizes, strict=True)]
        for index, (left, top, right, bottom) in enumerate(placed):
            assert left >= 0 and top >= 0 and right <= layout.width and bottom <= layout.height
            for other in placed[:index]:
                assert left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]


def test_what_cannot_be_drawn_says_so() -> None:
    with pytest.raises(UsageError, match="svg, dot, mermaid"):
        draw_cfg(parse("exit"), "png")
    with pytest.raises(NotSupported, match="blocks as SVG"):
        draw_cfg(parse("if r1 == 0 goto pc+0\n" * 2000 + "exit"))
    assert draw_cfg(parse("if r1 == 0 goto pc+0\n" * 2000 + "exit"), "dot")
