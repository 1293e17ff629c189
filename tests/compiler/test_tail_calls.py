"""Tail calls: programs of a table are compiled along, and a jump means the same in every executor."""

# ruff: noqa: E501

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError, UsageError
from ebpfkit.pipeline import verify
from tests.compiler.support import (
    agree,
    check,
    initial,
    load_module,
    module_text,
    packets,
    program,
    run_in_python,
    run_in_vm,
)

READ = "d = pkt.read(Data)\n"
END = "\nreturn XDP_PASS\n"
BEFORE = """
counts = bpf.Array[u64](max_entries=4)
events = bpf.RingBuf[Pair](max_entries=4096)
table = bpf.ProgArray(max_entries=4)
empty = bpf.ProgArray(max_entries=1)

@bpf.xdp(short=XDP_TX)
def second(pkt: Packet) -> XdpAction:
    counts[1] += 1
    d = pkt.read(Data)
    d.t8 = 7
    if d.x8 & 1:
        table.tail_call(pkt, 2)
    return XDP_PASS
@bpf.xdp(short=XDP_ABORTED)
def third(pkt: Packet) -> XdpAction:
    pkt.read(array[u8, 180])
    counts[2] += 1
    table.tail_call(pkt, 2)
    return XDP_TX
table[0] = second
table[2] = third
@bpf.noinline
def jumps(pkt: Packet) -> None:
    table.tail_call(pkt, 1)
def goes_on(pkt: Packet, n: u32) -> None:
    table.tail_call(pkt, n)
"""

JUMPS = {
    "by number": "table.tail_call(pkt, 0)\nreturn XDP_DROP",
    "by a field": "d.t16 = 3\ntable.tail_call(pkt, u32(d.x8) & 7)\ncounts[0] += 1\nreturn XDP_DROP",
    "to nothing": "empty.tail_call(pkt, 0)\ncounts[0] += 1",
    "33 times": "table.tail_call(pkt, 2)",
    "after the packet has moved": "pkt.push_head(8)\npkt.read(u64)\ntable.tail_call(pkt, 2)",
    "in a function that is inlined": "goes_on(pkt, d.x32 & 3)",
    "in a branch": "if d.x8 > 100:\n    table.tail_call(pkt, 2)\nelse:\n    table.tail_call(pkt, 1)",
}


@pytest.mark.parametrize("name", JUMPS)
def test_every_executor_agrees(name: str, tmp_path: Path):
    prog = program(READ + JUMPS[name] + END, tmp_path, BEFORE)
    compiled = check(prog, packets(), kernel=os.geteuid() == 0)
    again = program(READ + JUMPS[name] + END, tmp_path, BEFORE)
    contents = initial(again)
    agree(
        run_in_vm(again, compiled, contents, packets(), jit="safe"), run_in_python(again, packets()), packets(), "jit"
    )
    assert verify(open_object(compiled.elf)).ok


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    return load_module(module_text("table.tail_call(pkt, 0)\nreturn XDP_DROP\n", BEFORE), tmp_path)


def test_the_object_names_the_programs_of_a_table(module: ModuleType):
    compiled = compile_programs([module.prog])
    assert [one.name for one in compiled.programs] == ["prog", "second", "third"]
    assert open_object(compiled.elf).maps["table"].value_slots == ("second", None, "third")
    assert [facade.name for facade in module.prog.maps] == ["table", "counts"]


@pytest.mark.parametrize("on", ["python", "interpreter", "jit"])
def test_the_table_can_change_between_runs(module: ModuleType, on: str):
    frame = bytes(200)
    assert module.prog.run(frame, on=on).action == bpf.XDP_PASS
    del module.table[0]
    assert module.prog.run(frame, on=on).action == bpf.XDP_DROP
    module.table[0] = module.third
    assert module.prog.run(frame, on=on).action == bpf.XDP_TX
    assert module.table[0] is module.third and module.table[3] is None


@pytest.mark.kernel
def test_user_space_changes_the_table_of_a_live_load(module: ModuleType):
    frame = bytes(200)
    with module.prog.load() as loaded:
        live = loaded.programs["prog"]
        assert live.test_run(frame).retval == bpf.XDP_PASS
        del module.table[0]
        assert live.test_run(frame).retval == bpf.XDP_DROP
        module.table[0] = module.second
        assert live.test_run(frame).retval == bpf.XDP_PASS
        module.table[0] = loaded.programs["third"]
        assert live.test_run(frame).retval == bpf.XDP_TX
        with pytest.raises(UsageError, match="stranger is not in this load, which has prog, second, third"):
            module.table[1] = bpf.Program(module.second.function, name="stranger")
    assert module.prog.run(frame).action == bpf.XDP_PASS


def test_what_a_table_does_not_take_is_said(module: ModuleType):
    with pytest.raises(UsageError, match="'table' holds programs, decorated functions or loaded ones, not a int"):
        module.table[0] = 5
    with pytest.raises(UsageError, match="'table' has room for 4 programs, 0 to 3"):
        module.table[4] = module.second
    with pytest.raises(UsageError, match="many is xdp with frags, and 'table' has second, which is xdp"):
        module.table[1] = bpf.Program(module.second.function, frags=True, name="many")
    with pytest.raises(CompileError, match="has a meaning only in a running program"):
        module.table.tail_call(None, 0)


REFUSED = {
    "another argument": ("table.tail_call(d, 0)", "bad-type: this is Data where the packet is wanted ()"),
    "no index": ("table.tail_call(pkt)", "bad-call: tail_call() takes (pkt, index) ()"),
    "a wide index": ("table.tail_call(pkt, d.x64)", "narrowing: u32 is narrower than u64 (write the cast u32(...))"),
    "network order": ("table.tail_call(pkt, d.n16)", "network-order: a be16 is not a u32 (write .to_host())"),
    "in a function of its own": ("jumps(pkt)", "tail-call-place: a tail call ends the program, and jumps() is a function of its own (remove the decorator of jumps(), or jump in the program)"),
    "with a record": ("e = events.reserve()\nif e is not None:\n    table.tail_call(pkt, 0)\n    e.submit()", "record-leak: the record reserved in line 70 is neither submitted nor discarded at this tail call (call .submit() or .discard() before)"),
    "as a value": ("d.t32 = table.tail_call(pkt, 0)", "no-value: tail_call() has no result (write it as a statement of its own)"),
    "as a map": ("d.t32 = table[0]", "bad-map-operation: a program cannot reach the entries of this ProgArray ()"),
    "as a helper": ("helpers.tail_call(pkt, table, 0)", "no-such-attribute: the helper tail_call is not supported: write table.tail_call(pkt, index) ()"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, wanted: str, tmp_path: Path):
    import re

    with pytest.raises(CompileError) as caught:
        compile_programs([program(READ + body + END, tmp_path, BEFORE)])
    error = caught.value
    assert error.span is not None and error.span.column > 0
    said = f"{error.code}: {error.message} ({error.hint})"
    assert re.sub(r"line \d+", "line N", said) == re.sub(r"line \d+", "line N", wanted)
