"""Global variables: the same values in every executor, and what user space sees of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.types import u32
from ebpfkit.elf import open_object
from ebpfkit.elf.variables import set_variable
from ebpfkit.errors import CompileError, UsageError
from ebpfkit.verifier import verify_program
from tests.compiler.support import load_module, module_text, program

BEFORE = """
RATE = bpf.config(u32, 5)
WIDE = bpf.config(s64, -2)
hits = bpf.var(u64)
start = bpf.var(u32, 7)
state = bpf.var(Pair)
padded = bpf.var(Padded, Padded(small=1, large=2, half=3))
table = bpf.var(array[u16, 4])
address = bpf.var(IPv4Addr, IPv4Addr("192.0.2.1"))
hardware = bpf.var(MAC)
flag = bpf.var(bool_)
def count(n: u32) -> u32:
    hits.value += u64(n)
    return n + RATE
"""
EXECUTORS = ["interpreter", "jit", *(["kernel"] if os.geteuid() == 0 else [])]

BODIES = {
    "a counter": "hits.value += 1",
    "an atomic counter": "before = hits.value.atomic_add(3)\nhits.value.atomic_xor(before << 8)",
    "begins with a value": "start.value = start.value + d.x32",
    "a structure": "state.value.a = d.x32\nstate.value.b += 2",
    "a structure as a whole": "state.value = Pair(a=d.x32, b=RATE)",
    "a structure with padding": "padded.value.large += u64(padded.value.small)",
    "a view of it": "s = state.value\ns.a = 3\ns.b = s.a + 1",
    "an array": "table.value[d.x8 & 3] += d.x16\nfor i in range(4):\n    table.value[i] ^= 1",
    "addresses": "if d.ip == address.value:\n    hits.value = 1\nhardware.value = d.mac\naddress.value = d.ip",
    "a truth": "flag.value = d.x8 > 100 or flag.value",
    "configuration": "d.t32 = RATE + d.x32\nd.p64 = WIDE",
    "configuration decides": "if RATE > 4:\n    hits.value = 9\nelse:\n    hits.value = 8",
    "in a function": "d.t32 = count(3)",
    "in a loop": "for i in range(20):\n    hits.value += u64(RATE) + d.x64",
}


@pytest.mark.parametrize("on", EXECUTORS)
@pytest.mark.parametrize("name", BODIES)
def test_every_executor_leaves_the_same_values(name: str, on: str, tmp_path: Path):
    text = module_text(f"d = pkt.read(Data)\n{BODIES[name]}\nreturn XDP_PASS\n", BEFORE)
    frame = bytes(range(200))
    wanted, got = (load_module(text, tmp_path).prog.run(frame, on=executor) for executor in ("python", on))
    assert (got.action, got.data) == (wanted.action, wanted.data)
    assert {k: bytes_of(v) for k, v in got.variables.items()} == {k: bytes_of(v) for k, v in wanted.variables.items()}
    assert got.variables or name == "configuration"


def bytes_of(value: Any) -> object:
    return bytes(value) if hasattr(value, "__bytes__") else int(value)


def test_user_space_reads_and_writes_in_memory(tmp_path: Path):
    module = load_module(module_text("hits.value += 1\nreturn XDP_PASS\n", BEFORE), tmp_path)
    module.hits.value = 41
    assert module.prog(bytes(20)) == 2 and module.hits.value == 42
    assert module.RATE == 5 and module.RATE + u32(1) == 6
    with pytest.raises(CompileError, match="this is a copy of a value"):
        module.state.value.a = 1
    with pytest.raises(CompileError, match="-1 does not fit u64"):
        module.hits.value = -1
    built = module.prog.build()
    assert built.variables["hits"].map_name == ".bss" and not any(built.maps[".bss"].data or b"")


@pytest.mark.kernel
def test_a_loaded_program_shares_them_with_user_space(tmp_path: Path):
    body = "hits.value += u64(RATE)\nstart.value = RATE\nreturn XDP_TX if RATE > 100 else XDP_PASS\n"
    module = load_module(module_text(body, BEFORE), tmp_path)
    module.hits.value = 3
    with module.prog.load(RATE=200) as loaded:
        run = loaded.programs["prog"].test_run
        assert run(bytes(20)).retval == 3 and module.hits.value == 203
        module.hits.value = 1000
        assert run(bytes(20)).retval == 3 and (module.hits.value, module.start.value) == (1200, 200)
        with pytest.raises(UsageError, match="bound to a variable in the kernel"):
            module.prog(bytes(20))
        with pytest.raises(UsageError, match="constant once it is loaded"):
            loaded.collection.variable("RATE").write(bytes(4))
        with pytest.raises(UsageError, match=r"no variable 'rate' is loaded; there is .*RATE"):
            loaded.collection.variable("rate")
    assert module.hits.value == 3


def test_the_verifier_knows_configuration(tmp_path: Path):
    body = "if RATE > 100:\n    hits.value += 1\n    hits.value += u64(len(pkt))\nreturn XDP_PASS\n"
    obj = open_object(compile_programs([program(body, tmp_path, BEFORE)]).elf)
    low, high = (verify_program(set_variable(obj, "RATE", rate).programs["prog"]) for rate in (5, 200))
    assert low.ok and high.ok and low.insns_processed < high.insns_processed


REFUSED = {
    "the variable itself": ("d.r0 = hits + 1", "bad-type: this is Var where a number is wanted (write .value)"),
    "another attribute": ("d.r0 = hits.number", "no-such-attribute: a global variable has no number (write .value)"),
    "narrower": ("start.value = d.x64", "narrowing: u32 is narrower than u64 (write the cast u32(...))"),
    "atomic of configuration": (
        "RATE.atomic_add(1)",
        "atomic-place: atomic_add works on a map value, not on a value without a place (write +=)",
    ),
    "assigning configuration": ("RATE += 1", "unbound: RATE has no value yet (give it one before this line)"),
}


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, wanted: str, tmp_path: Path):
    prog = program(f"d = pkt.read(Data)\n{body}\nreturn XDP_PASS\n", tmp_path, BEFORE)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    hint = f" ({caught.value.hint})" if caught.value.hint else ""
    assert f"{caught.value.code}: {caught.value.message}{hint}" == wanted


def test_names_must_be_the_modules(tmp_path: Path):
    prog = program("holder[0].value += 1\nreturn XDP_PASS\n", tmp_path, "holder = (bpf.var(u32),)\n")
    with pytest.raises(CompileError, match=r"this var\(\) is no global of its module"):
        compile_programs([prog])
    with pytest.raises(CompileError, match=r"config\(\) is for integers such as u32, not Pair"):
        load_module(module_text("return XDP_PASS\n", "X = bpf.config(Pair, 1)\n"), tmp_path)


@pytest.mark.parametrize("on", EXECUTORS)
def test_what_is_named_only_where_nothing_runs_is_no_obstacle(on: str, tmp_path: Path):
    before = BEFORE + "unused = bpf.Hash[u32, u32](max_entries=4)\n"
    body = "d = pkt.read(Data)\nif DEBUG:\n    hits.value += 1\n    unused[1] = 2\nstart.value += 1\nreturn XDP_PASS\n"
    done = load_module(module_text(body, before), tmp_path).prog.run(bytes(range(200)), on=on)
    assert done.action == 2 and done.variables["start"] == 8
