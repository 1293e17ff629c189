"""Moving the packet's ends and its metadata: the same bytes in every executor, and no view outlives the move."""

# ruff: noqa: E501

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.errors import CompileError
from tests.compiler.support import check, packets, program

END = "return XDP_PASS\n"
BEFORE = """
class Mark(Struct):
    number: u32
    length: u32
class Large(Struct):
    data: array[u8, 256]
class Odd(Header):
    data: array[u8, 6]
def shorter(pkt, n: u16) -> u32:
    pkt.pop_head(n)
    return len(pkt)
"""

MOVES = {
    "push a constant": "d = pkt.read(u32)\npkt.push_head(4)\nfirst = pkt.read(Pair)\nfirst.a = d\nfirst.b = len(pkt)\n",
    "pop a constant": "pkt.pop_head(6)\npkt.read(Pair).a = len(pkt)\n",
    "pop what the packet says": "n = pkt.read(u8)\npkt.pop_head(n)\npkt.read(Pair).a = u32(n)\n",
    "pop then push shows old bytes": "pkt.pop_head(8)\npkt.push_head(8)\npkt.read(Pair).a ^= 1\n",
    "trim what the packet says": "n = pkt.read(u8)\npkt.trim(n)\npkt.read(Pair).a = len(pkt)\n",
    "extend": "n = pkt.read(u8) & 31\npkt.extend(n)\npkt.read(Pair).a = len(pkt)\n",
    "trim then extend gives zeros": "pkt.trim(9)\npkt.extend(7)\n",
    "a large push fails": "pkt.read(Pair).a = 1\npkt.push_head(300)\n",
    "all of the headroom": "pkt.push_head(216)\npkt.read(Pair).a = 1\n",
    "one more than the headroom": "pkt.push_head(217)\npkt.read(Pair).a = 1\n",
    "many bytes at the end": "pkt.extend(4000)\npkt.read(Pair).a = 1\n",
    "in a loop": "for i in range(4):\n    pkt.pop_head(2)\n    head = pkt.read(Pair)\n    head.a += u32(i)\n",
    "in a loop that may end": (
        "for i in range(6):\n    head = pkt.read(Pair)\n    if head.a & 3 == 0:\n        break\n    pkt.pop_head(1)\n"
        "pkt.push_head(1)\npkt.read(u8)\n"
    ),
    "on one path": (
        "head = pkt.read(Pair)\nif head.a & 1:\n    pkt.trim(4)\nelse:\n    pkt.extend(4)\nagain = pkt.read(Pair)\nagain.b = 7\n"
    ),
    "in a function": "n = shorter(pkt, 3)\npkt.read(Pair).a = n\n",
    "metadata": (
        "m = pkt.push_meta(Mark)\nm.number = 5\nm.length = len(pkt)\nfound = pkt.meta(Mark)\n"
        "if found is not None:\n    pkt.read(Pair).b = found.number + found.length\n"
    ),
    "no metadata": "if pkt.meta(Mark) is None:\n    pkt.read(Pair).b = 3\n",
    "metadata moves along": (
        "pkt.push_meta(Mark).number = 9\npkt.push_head(12)\npkt.read(Pair).a = 0\nm = pkt.meta(Mark)\n"
        "if m is not None:\n    pkt.read(Pair).a = m.number\n"
    ),
    "two structures of metadata": (
        "pkt.push_meta(Mark).number = 1\npkt.push_meta(Mark).number = 2\nm = pkt.meta(Mark)\n"
        "if m is not None:\n    pkt.read(Pair).a = m.number\n"
    ),
    "write a structure": "w = pkt.write(Pair(a=1, b=2))\nw.b += len(pkt)\npkt.read(Pair).a = w.a\n",
    "write padding": "pkt.write(Padded(small=1, large=2, half=3))\n",
    "write what was copied": "old = pkt.read(Pair).copy()\npkt.push_head(8)\npkt.write(old)\n",
    "write behind the end": "pkt.trim(u16(len(pkt)) - 14)\npkt.write(Pair(a=1, b=2))\npkt.write(Pair(a=3, b=4))\n",
    "metadata needs room": "pkt.push_head(212)\npkt.push_meta(Mark).number = 1\npkt.read(u8)\n",
}


@pytest.mark.parametrize("name", MOVES)
def test_every_executor_moves_the_same_bytes(name: str, tmp_path: Path):
    check(program(MOVES[name] + END, tmp_path, BEFORE), packets(), kernel=os.geteuid() == 0)


REFUSED = {
    "a view": ("d = pkt.read(u16)\ne = pkt.read(Pair)\npkt.push_head(4)\nreturn XDP_DROP if e.a else XDP_PASS",
               "4 dead-view: e died in line 3, where push_head() moved the packet's bounds"),
    "a part of a view": ("t = pkt.read(Data).arr\npkt.trim(4)\nreturn XDP_DROP if t[0] else XDP_PASS",
                         "3 dead-view: t died in line 2, where trim() moved the packet's bounds"),
    "an optional view": ("e = pkt.peek(Pair)\npkt.pop_head(4)\nif e is not None:\n    e.a = 1",
                         "3 dead-view: e died in line 2, where pop_head() moved the packet's bounds"),
    "on one path": ("e = pkt.read(Pair)\nif e.a:\n    pkt.pop_head(4)\ne.b = 1",
                    "4 dead-view: e died in line 3, where pop_head() moved the packet's bounds"),
    "from the round before": ("e = pkt.read(Pair)\nfor _ in range(3):\n    e.a += 1\n    pkt.extend(4)",
                              "3 dead-view: e died in line 4, where extend() moved the packet's bounds"),
    "metadata": ("m = pkt.push_meta(Mark)\npkt.push_head(4)\nm.number = 1",
                 "3 dead-view: m died in line 2, where push_head() moved the packet's bounds"),
    "inside a call": ("max(pkt.read(Pair).a, shorter(pkt, 1))\ne = pkt.read(Pair)\nshorter(pkt, 1)\ne.a = 1",
                      "4 dead-view: e died in line -4, where pop_head() moved the packet's bounds"),
    "signed": ("pkt.push_head(pkt.read(s8))", "1 bad-size: push_head() of a signed number may go the other way"),
    "too many": ("pkt.trim(pkt.read(u32))", "1 bad-size: trim() of up to 4294967295 bytes"),
    "a truth": ("pkt.pop_head(True)", "1 bad-type: pop_head() takes a number of bytes, not a bool"),
    "large metadata": ("pkt.push_meta(Large)", "1 bad-size: metadata is a structure of 4 to 252 bytes, a multiple of 4"),
    "odd metadata": ("pkt.push_meta(Odd)", "1 bad-size: metadata is a structure of 4 to 252 bytes, a multiple of 4"),
    "a number as metadata": ("pkt.push_meta(u32)", "1 bad-size: metadata is a structure of 4 to 252 bytes, a multiple of 4"),
    "untested metadata": ("pkt.meta(Mark).number = 1", "1 untested-optional: this is Mark | None: meta() may have found nothing"),
    "no value": ("n = pkt.trim(4)", "1 no-value: trim() has no result"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_a_view_that_has_died_is_refused_with_both_lines(body: str, wanted: str, tmp_path: Path):
    prog = program(f"{body}\nreturn XDP_PASS\n", tmp_path, BEFORE)
    first = prog.function.__code__.co_firstlineno + 1
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    error = caught.value
    assert error.span is not None
    message = re.sub(r"line (\d+)", lambda found: f"line {int(found[1]) - first}", error.message)
    assert f"{error.span.line - first} {error.code}: {message}" == wanted


def test_plain_python_refuses_dead_views_too(tmp_path: Path):
    prog = program(REFUSED["on one path"][0] + "\n" + END, tmp_path, BEFORE)
    assert prog(bytes(64)) == 2
    with pytest.raises(CompileError, match=r"this view died: pop_head\(\) moved the packet's bounds"):
        prog(b"\1" + bytes(63))
