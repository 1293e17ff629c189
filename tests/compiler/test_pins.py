"""Indices and sizes whose bounds the verifier would not see by itself: masks that are needless, remainders, quotients.

Each body was refused by a kernel, or would be, without the barrier of `compiler/pins.py`.
"""

# ruff: noqa: E501

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.compiler.everywhere import differences, outcomes
from tests.compiler.support import packets, program

BEFORE = """
class Ten(Struct):
    v: array[u32, 10]
ten = bpf.Array[Ten](max_entries=1)
row = bpf.var(array[u16, 4])
"""
BODIES = {
    "a remainder": "t = ten[0]\nt.v[d.x32 % 10] += 1",
    "a remainder of a byte": "t = ten[0]\nt.v[d.x8 % 10] += 1",
    "a remainder times a constant": "t = ten[0]\nt.v[u32(d.x8 % 3) * 3] += 1",
    "a mask and arithmetic": "t = ten[0]\nt.v[(d.x32 & 3) * 2 + 1] += 1",
    "a mask by way of a name": "t = ten[0]\ni = d.x32 & 7\nt.v[i] += 1",
    "a needless mask of a remainder": "row.value[(d.x8 % 3) & 3] = u16(d.p16)",
    "a quotient by way of a name": "i = d.x8 // 64\nd.words[i] += 1",
    "a shift": "d.words[d.x8 >> 6] += 1",
    "a needless mask of a quotient": "d.t8 = 3\npkt.skip((d.t8 // d.y8) & 7)\nx = pkt.peek(u16)\nif x is not None:\n    d.t16 = x",
    "skipping a remainder": "pkt.skip(d.x8 % 3)\nx = pkt.peek(u16)\nif x is not None:\n    d.t16 = x",
    "skipping a quotient": "pkt.skip(d.x16 // 7)\nx = pkt.peek(u16)\nif x is not None:\n    d.t16 = x",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bounds_that_arithmetic_gives_are_enough(name: str, tmp_path: Path):
    prog = program(f"d = pkt.read(Data)\n{BODIES[name]}\nreturn XDP_PASS\n", tmp_path, BEFORE)
    frames = packets(3)
    executors = ["python", "interpreter", "jit", *(["kernel"] if os.geteuid() == 0 else [])]
    assert differences(outcomes([prog], frames, executors), frames) == []
    assert prog.verify().ok
