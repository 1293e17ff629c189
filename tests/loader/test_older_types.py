"""Types for kernels older than their kinds: something of the same size and id in their place."""

from __future__ import annotations

import pytest

from ebpfkit.btf import Btf
from ebpfkit.btf import types as t
from ebpfkit.kernel import bpf
from ebpfkit.loader.btf import loadable_btf, older_btf
from tests.elf.objects import open_c

EVERY = Btf([
    t.VOID, t.Int("int", 4, t.Int.SIGNED, 32), t.FuncProto("", 1, (t.Param("a", 1),)), t.Func("f", 2), t.Var("v", 1),
    t.Datasec("?.struct_ops", 4, (t.VarSecinfo(4, 0, 4),)), t.Float("double", 8), t.DeclTag("tag", 1),
    t.TypeTag("x", 1), t.Enum64("wide", 8, (t.Enumerator("A", 1),)), t.Int("long", 8, 0, 64),
])  # fmt: skip

FORMS = [
    ((4, 18), {2: t.Enum, 3: t.Typedef, 4: t.Int, 5: t.Struct, 6: t.Struct, 7: t.Int, 8: t.Const, 9: t.Union}),
    ((5, 0), {4: t.Int, 5: t.Struct, 6: t.Struct, 7: t.Int, 8: t.Const, 9: t.Union}),
    ((5, 10), {6: t.Struct, 7: t.Int, 8: t.Const, 9: t.Union}), ((5, 16), {8: t.Const, 9: t.Union}), ((6, 1), {}),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "changed"), FORMS, ids=[f"{row[0][0]}.{row[0][1]}" for row in FORMS])
def test_kinds_that_a_kernel_lacks(kernel: tuple[int, int], changed: dict[int, type]) -> None:
    older = older_btf(EVERY, kernel)
    kinds = {i: type(old) for i, (old, new) in enumerate(zip(older.types, EVERY.types)) if type(old) is not type(new)}
    assert kinds == changed
    section = older.types[5]
    assert isinstance(section, t.Struct | t.Datasec) and section.size == 4 and "?" not in section.name
    function = older.types[3]
    assert not isinstance(function, t.Func) or function.linkage == (1 if kernel > (5, 6) else 0)
    assert older_btf(EVERY, (6, 18)) is EVERY


@pytest.mark.kernel
@pytest.mark.parametrize("kernel", [(4, 19), (5, 1), (5, 4), (5, 10), (6, 1)], ids=lambda k: f"{k[0]}.{k[1]}")
@pytest.mark.parametrize("name", ["congestion", "globals", "core", "calls", "externs"])
def test_the_kernel_takes_every_older_form(name: str, kernel: tuple[int, int]) -> None:
    obj = open_c(name)
    assert obj.btf is not None
    result = bpf.btf_load(older_btf(loadable_btf(obj.btf, obj), kernel).to_bytes(), log_level=1, log_size=1 << 16)
    assert result.fd is not None, result.log
    result.fd.close()
