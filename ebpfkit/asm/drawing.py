"""Control-flow graphs as pictures: SVG that needs nothing else, Graphviz DOT, Mermaid.

Blocks stand in layers below what leads to them; taken branches are green, what falls through is grey, and jumps back
up run along the right side in red. Where blocks begin and end is `cfg`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from ebpfkit.asm.cfg import Cfg, Edge, EdgeKind, build_cfg
from ebpfkit.asm.codec import slot_starts
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.labels import label_targets
from ebpfkit.asm.layout import Layout, lay_out
from ebpfkit.asm.printer import Resolver, format_instruction
from ebpfkit.errors import NotSupported, UsageError

__all__ = ["FORMATS", "draw_cfg"]

FORMATS = ("svg", "dot", "mermaid")
MAX_DRAWN_BLOCKS = 1500
_MAX_LINE = 72
_CHARACTER, _LINE, _PADDING, _TITLE = 7.2, 15, 8, 30  # pixels of a 12 px monospace font, boxes and the title
_KEY, _KEY_WIDTH = 20, 170  # the line that explains the colours


def draw_cfg(
    insns: Sequence[Instruction],
    format: str = "svg",
    *,
    title: str = "",
    functions: Mapping[int, str] | None = None,
    resolver: Resolver | None = None,
) -> str:
    """The basic blocks of a program as text in one of FORMATS.

    `functions` names those that begin at a slot. Raises UsageError for another format, AsmError for jumps to nowhere,
    NotSupported for `gotox` and for more blocks than can be laid out (SVG).

    >>> from ebpfkit.asm.parser import parse
    >>> print(draw_cfg(parse("r0 = 2\\nexit"), "mermaid"))
    flowchart TD
        b0["0: r0 = 2<br/>1: exit"]
    <BLANKLINE>
    """
    if format not in FORMATS:
        raise UsageError(f"no drawing format {format!r}; there are {', '.join(FORMATS)}")
    labelled = label_targets(insns, functions)
    graph = build_cfg(labelled)
    texts = _texts(graph, labelled, resolver)
    if format == "mermaid":
        return _mermaid(graph, texts)
    return _dot(graph, texts, title) if format == "dot" else _svg(graph, texts, title)


def _texts(graph: Cfg, insns: Sequence[Instruction], resolver: Resolver | None) -> list[list[str]]:
    starts = slot_starts(insns)
    texts = []
    for block in graph.blocks:
        lines = [f"{label}:" for label in insns[block.first].labels]
        for index in range(block.first, block.last + 1):
            line = f"{starts[index]}: {format_instruction(insns[index], starts[index], resolver)}"
            lines.append(line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE - 3]}...")
        if block.falls_off:
            lines.append("(runs past the end)")
        texts.append(lines)
    return texts


def _mermaid(graph: Cfg, texts: list[list[str]]) -> str:
    lines = ["flowchart TD"]
    for block, text in zip(graph.blocks, texts, strict=True):
        shown = "<br/>".join(escape(line).replace("&#x27;", "'").replace("#", "#35;") for line in text)
        lines.append(f'    b{block.index}["{shown}"]')
    for block in graph.blocks:
        for edge in block.successors:
            arrow = "-->" if edge.kind is EdgeKind.JUMP else "-.->"
            lines.append(f"    b{edge.source} {arrow} b{edge.target}")
    return "\n".join(lines) + "\n"


def _dot(graph: Cfg, texts: list[list[str]], title: str) -> str:
    lines = ["digraph cfg {", '    node [shape=box, fontname="monospace", fontsize=10];']
    if title:
        lines.append(f"    label={_quoted(title)}; labelloc=t;")
    for block, text in zip(graph.blocks, texts, strict=True):
        body = "".join(f"{_quoted(line)[1:-1]}\\l" for line in text)
        lines.append(f'    b{block.index} [label="{body}"];')
    for block in graph.blocks:
        for edge in block.successors:
            lines.append(f"    b{edge.source} -> b{edge.target} [color={_colour(edge, False)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _colour(edge: Edge, is_back: bool) -> str:
    if is_back:
        return "crimson"
    return "seagreen" if edge.kind is EdgeKind.JUMP else "slategray"


def _svg(graph: Cfg, texts: list[list[str]], title: str) -> str:
    if len(graph.blocks) > MAX_DRAWN_BLOCKS:
        raise NotSupported(
            f"drawing {len(graph.blocks)} blocks as SVG",
            why=f"at most {MAX_DRAWN_BLOCKS} are laid out; take dot or mermaid and a tool for large graphs",
        )
    sizes = [(max(map(len, text)) * _CHARACTER + 2 * _PADDING, len(text) * _LINE + 2 * _PADDING - 3) for text in texts]
    layout = lay_out(sizes, [(edge.source, edge.target) for block in graph.blocks for edge in block.successors])
    width, height = max(layout.width, _KEY_WIDTH), layout.height + _TITLE + _KEY
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="20" font-family="sans-serif" font-size="14" font-weight="bold">{escape(title)}</text>',
        f'<g transform="translate(0,{_TITLE})">',
    ]
    edges = [edge for block in graph.blocks for edge in block.successors]
    parts += [_draw_edge(edge, layout, number) for number, edge in enumerate(edges)]
    entries = set(graph.functions)
    parts += [_draw_block(index, text, layout, sizes, index in entries) for index, text in enumerate(texts)]
    return "\n".join([*parts, "</g>", _key(height - 8), "</svg>"]) + "\n"


def _key(y: float) -> str:
    """What the colours mean, in one line below the picture."""
    words = (("jump", EdgeKind.JUMP, False), ("next", EdgeKind.FALL, False), ("back", EdgeKind.JUMP, True))
    spans = "".join(
        f'<tspan fill="{_colour(Edge(0, 0, kind), is_back)}">&#x2501; {word}</tspan> ' for word, kind, is_back in words
    )
    return f'<text x="12" y="{y:.0f}" font-family="sans-serif" font-size="11" xml:space="preserve">{spans}</text>'


def _draw_block(
    index: int, text: list[str], layout: Layout, sizes: Sequence[tuple[float, float]], is_entry: bool
) -> str:
    left, top = layout.boxes[index]
    width, height = sizes[index]
    fill, stroke = ("#e8f0fe", "#1a56b0") if is_entry else ("#f8f9fa", "#5f6b7a")
    lines = ""
    for number, line in enumerate(text):
        weight = ' font-weight="bold"' if line.endswith(":") else ""
        y = top + _PADDING + 10 + number * _LINE
        lines += f'<tspan x="{left + _PADDING:.1f}" y="{y:.1f}"{weight}>{escape(line)}</tspan>'
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4" '
        f'fill="{fill}" stroke="{stroke}"/>'
        f'<text font-family="monospace" font-size="12" xml:space="preserve">{lines}</text>'
    )


def _draw_edge(edge: Edge, layout: Layout, number: int) -> str:
    points, is_back = layout.routes[number]
    colour = _colour(edge, is_back)
    if is_back:
        path = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    else:
        path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
        for (x0, y0), (x1, y1) in pairwise(points):
            middle = (y0 + y1) / 2
            path += f" C{x0:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}"
    x, y = points[-1]
    head = f"{x - 4:.1f},{y - 7:.1f} {x + 4:.1f},{y - 7:.1f} {x:.1f},{y:.1f}"
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/><polygon points="{head}" fill="{colour}"/>'
    )
