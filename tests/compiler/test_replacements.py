"""Programs that replace a global function of another (`@freplace`).

The kernel that the tests run on may forbid them; Linux 6.12 took them (tools/guest_kernel.py).
"""

from __future__ import annotations

import errno
from pathlib import Path
from types import ModuleType

import pytest

import ebpfkit as bpf
from ebpfkit.btf.types import Func, Linkage
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError, EbpfError, KernelError, UsageError
from tests.compiler.support import load_module, module_text

BEFORE = """
totals = bpf.Array[Pair](max_entries=2)
@bpf.global_func
def count(p: Pair, n: u8, ok: bool) -> u32:
    p.b += u32(n)
    return p.a
@bpf.global_func(short=2)
def judge(pkt: Packet, n: u64) -> XdpAction:
    return XDP_TX if pkt.read(u8) == 0 else XDP_DROP
@bpf.noinline
def inner(n: u32) -> u32:
    return n
@bpf.freplace(count)
def count_more(p: Pair, n: u8, ok: bool) -> u32:
    p.b += u32(n) * 2
    there = totals.get(1)
    if there is not None:
        there.a += 1
    return u32(7)
@bpf.freplace("judge", short=3)
def judge_other(pkt: Packet, n: u64) -> XdpAction:
    return XDP_ABORTED if pkt.read(u16) == 0 else XDP_PASS
"""
BODY = """
d = pkt.read(Data)
p = Pair(a=d.x32, b=0)
d.t32 = count(p, d.x8, True)
d.r0 = u64(p.b)
return judge(pkt, d.x64)
"""


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    return load_module(module_text(BODY, BEFORE), tmp_path)


def prototype(data: bytes, name: str) -> tuple[str, ...]:
    btf = open_object(data).btf
    assert btf is not None
    func = btf.find(name, Func)
    assert func is not None and func.linkage is Linkage.GLOBAL
    proto = btf.resolve(func.type)
    return tuple(type(btf.resolve(p.type)).__name__ for p in proto.params)


def test_a_replacement_has_the_prototype_of_what_it_replaces(module: ModuleType):
    target = compile_programs([module.prog]).elf
    for replacement, name in ((module.count_more, "count"), (module.judge_other, "judge")):
        mine = compile_programs([replacement]).elf
        spec = open_object(mine).programs[replacement.name]
        assert (spec.prog_type, spec.attach_target) == ("ext", name)
        assert prototype(mine, replacement.name) == prototype(target, name)


def test_a_module_is_built_without_its_replacements(module: ModuleType):
    from ebpfkit.pipeline import build

    assert list(build(module).programs) == ["prog"]
    assert list(build(module.count_more).maps) == ["totals"]


@pytest.mark.kernel
def test_it_replaces_where_the_kernel_allows_it(module: ModuleType):
    frame = bytes(200)
    with module.prog.load() as loaded:
        live = loaded.programs["prog"]
        assert live.test_run(frame).retval == bpf.XDP_TX
        try:
            link = module.judge_other.attach(live)
        except KernelError as refused:
            assert refused.errno in (errno.EPERM, errno.EOPNOTSUPP)
            return
        with link:
            assert live.test_run(frame).retval == bpf.XDP_ABORTED
        assert live.test_run(frame).retval == bpf.XDP_TX


def test_wrong_uses_are_refused(module: ModuleType, tmp_path: Path):
    with pytest.raises(CompileError, match="inner is no global function, and only those can be replaced"):
        bpf.freplace(module.inner)
    with pytest.raises(UsageError, match="of= names the type of the program whose function is replaced"):
        bpf.freplace("judge", of="kprobe")(module.judge)
    with pytest.raises(UsageError, match=r"count_more replaces count\(\) of a loaded program: attach it to that"):
        module.count_more(bytes(20))
    with pytest.raises(UsageError, match=r"write attach\(loaded.programs\[NAME\]\)"):
        module.count_more.attach("eth7")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def other(pkt, n: u64) -> u32:\n    return 1", "the parameter pkt has no annotation that says what it is"),
        ("def other(n: u64):\n    return 1", "the result of other() has no annotation"),
        ("def other(n: u64 = u64(1)) -> u32:\n    return 1", "a replacement takes the parameters of what it replaces"),
        ("def other(n: u64) -> u32:\n    return n", "u32 is narrower than u64"),
    ],
)
def test_what_a_replacement_cannot_be_is_refused(text: str, wanted: str, tmp_path: Path):
    module = load_module(module_text(BODY, BEFORE + f'@bpf.freplace("judge")\n{text}\n'), tmp_path)
    with pytest.raises(EbpfError) as caught:
        compile_programs([module.other])
    assert isinstance(caught.value, CompileError) and caught.value.message == wanted and caught.value.span is not None
