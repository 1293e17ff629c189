"""Where the boxes of a graph go: layers from top to bottom, ordered so that few lines cross, and routes between them.

Sizes are pixels. An edge that skips layers passes through a narrow place of its own in each of them; edges that go
back up run through lanes right of everything. Nothing here knows what is in a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layout", "lay_out"]

_GAP_X, _GAP_Y, _MARGIN, _LANE, _STUB = 28.0, 46.0, 20.0, 12.0, 12.0
_PASSAGE = 8.0
_SWEEPS = 6
_MAX_PASSAGES = 20_000  # beyond, long edges are drawn straight

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """Upper left corners of the boxes, and for each edge its points and whether it goes back up."""

    width: float
    height: float
    boxes: tuple[Point, ...]
    routes: tuple[tuple[tuple[Point, ...], bool], ...]


def lay_out(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Layout:
    """Place boxes of these sizes (width, height), joined by edges from box to box, by index."""
    count = len(sizes)
    back = _back_edges(count, edges)
    forward = [(number, edge) for number, edge in enumerate(edges) if number not in back]
    layer_of = _layers(count, [edge for _, edge in forward])
    widths = [width for width, _ in sizes]
    layer = list(layer_of)
    chains: dict[int, list[int]] = {}
    for number, (source, target) in forward:
        chain = [source]
        if len(layer) - count < _MAX_PASSAGES:
            for level in range(layer_of[source] + 1, layer_of[target]):
                chain.append(len(layer))
                layer.append(level)
                widths.append(_PASSAGE)
        chains[number] = [*chain, target]
    above: list[list[int]] = [[] for _ in layer]
    below: list[list[int]] = [[] for _ in layer]
    for chain in chains.values():
        for upper, lower in pairwise(chain):
            below[upper].append(lower)
            above[lower].append(upper)
    rows = _order(layer, above, below)
    centres = _centres(rows, widths, above, below)
    tops = _tops(rows, sizes)
    left = min((centres[node] - widths[node] / 2 for node in range(len(layer))), default=0.0)
    centres = [centre - left + _MARGIN for centre in centres]
    right = max((centres[node] + widths[node] / 2 for node in range(len(layer))), default=0.0)
    boxes = tuple((centres[node] - widths[node] / 2, tops[layer_of[node]]) for node in range(count))
    heights = [max((sizes[node][1] for node in row if node < count), default=0.0) for row in rows]
    routes: list[tuple[tuple[Point, ...], bool]] = []
    lane = right + _LANE
    for number, (source, target) in enumerate(edges):
        bottom = (centres[source], boxes[source][1] + sizes[source][1])
        top = (centres[target], boxes[target][1])
        if number in back:
            stub_low, stub_high = bottom[1] + _STUB, top[1] - _STUB
            shifted, entering = (bottom[0] + 10, bottom[1]), (top[0] + 10, top[1])
            points = (
                shifted, (shifted[0], stub_low), (lane, stub_low), (lane, stub_high), (entering[0], stub_high), entering
            )  # fmt: skip
            routes.append((points, True))
            lane += _LANE
            continue
        passages: list[Point] = []
        for node in chains[number][1:-1]:
            level = layer[node]
            passages += [(centres[node], tops[level]), (centres[node], tops[level] + heights[level])]
        routes.append(((bottom, *passages, top), False))
    height = max((top + sizes[node][1] for node, (_, top) in enumerate(boxes)), default=0.0)
    return Layout(lane + _MARGIN, height + _MARGIN + _STUB, boxes, tuple(routes))


def _back_edges(count: int, edges: Sequence[tuple[int, int]]) -> set[int]:
    """Edges to a box that is still open in a walk in depth: those that close a loop."""
    leaving: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for number, (source, target) in enumerate(edges):
        leaving[source].append((number, target))
    state = [0] * count
    back: set[int] = set()
    for root in range(count):
        if state[root]:
            continue
        state[root] = 1
        stack = [(root, iter(leaving[root]))]
        while stack:
            node, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                state[node] = 2
                stack.pop()
                continue
            number, target = step
            if state[target] == 1:
                back.add(number)
            elif state[target] == 0:
                state[target] = 1
                stack.append((target, iter(leaving[target])))
    return back


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Each box below everything that leads to it."""
    waiting = [0] * count
    leaving: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        waiting[target] += 1
        leaving[source].append(target)
    layer = [0] * count
    ready = [node for node in range(count) if not waiting[node]]
    while ready:
        node = ready.pop()
        for target in leaving[node]:
            layer[target] = max(layer[target], layer[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return layer


def _order(layer: list[int], above: list[list[int]], below: list[list[int]]) -> list[list[int]]:
    """The boxes of each layer from left to right, moved towards the mean of their neighbours."""
    rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for node, level in enumerate(layer):
        rows[level].append(node)
    place = {node: float(position) for row in rows for position, node in enumerate(row)}
    for sweep in range(_SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {node: _mean([place[other] for other in neighbours[node]], place[node]) for node in row}
            row.sort(key=lambda node: wanted[node])
            for position, node in enumerate(row):
                place[node] = float(position)
    return rows


def _centres(rows: list[list[int]], widths: list[float], above: list[list[int]], below: list[list[int]]) -> list[float]:
    """Horizontal centres: packed first, then drawn towards the neighbours without overlapping."""
    centres = [0.0] * len(widths)
    for row in rows:
        x = 0.0
        for node in row:
            centres[node] = x + widths[node] / 2
            x += widths[node] + _GAP_X
    for sweep in range(2 * _SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([centres[other] for other in neighbours[node]], centres[node]) for node in row]
            from_left, from_right = list(wanted), list(wanted)
            for i in range(1, len(row)):
                room = (widths[row[i - 1]] + widths[row[i]]) / 2 + _GAP_X
                from_left[i] = max(from_left[i], from_left[i - 1] + room)
            for i in range(len(row) - 2, -1, -1):
                room = (widths[row[i + 1]] + widths[row[i]]) / 2 + _GAP_X
                from_right[i] = min(from_right[i], from_right[i + 1] - room)
            for i, node in enumerate(row):
                centres[node] = (from_left[i] + from_right[i]) / 2
    return centres


def _tops(rows: list[list[int]], sizes: Sequence[tuple[float, float]]) -> list[float]:
    tops = []
    y = _MARGIN
    for row in rows:
        tops.append(y)
        y += max((sizes[node][1] for node in row if node < len(sizes)), default=0.0) + _GAP_Y
    return tops


def _mean(numbers: list[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise
