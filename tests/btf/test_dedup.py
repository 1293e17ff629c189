"""Joining types: laws on made-up sets, and the same sizes and members as bpftool's linker gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.btf.dedup import deduplicate
from ebpfkit.btf.types import VOID, BtfType, Const, Func, FuncProto, Fwd, Int, Member, Param, Ptr, Struct, Typedef, Var
from ebpfkit.errors import ObjectError

U32 = Int("u32", 4, 0, 32)


def node(size: int = 8, name: str = "node") -> list[BtfType]:
    """struct node { struct node *next; }, with the pointer first."""
    return [VOID, Ptr(type=2), Struct(name, size, (Member("next", 1, 0),))]


def test_one_with_itself() -> None:
    btf = Btf(node())
    joined = deduplicate([btf, btf, btf])
    assert joined.types == node()
    assert joined.ids == ((0, 1, 2),) * 3


def test_circles_in_another_order() -> None:
    other = [VOID, Struct("node", 8, (Member("next", 2, 0),)), Ptr(type=1), U32]
    joined = deduplicate([Btf(node()), Btf(other)])
    assert joined.types == [*node(), U32]
    assert joined.ids[1] == (0, 2, 1, 3)


def test_what_differs_far_away_differs() -> None:
    """Two lists whose nodes' last pointees differ are two types all the way."""
    one = [VOID, Ptr(type=2), Const(type=3), Struct("leaf", 4, (Member("a", 4, 0),)), U32]
    two = [VOID, Ptr(type=2), Const(type=3), Struct("leaf", 4, (Member("b", 4, 0),)), U32]
    joined = deduplicate([Btf(one), Btf(two)])
    assert len(joined.types) == 1 + 4 + 3


def test_a_declaration_stands_for_the_one_definition() -> None:
    declared = [VOID, Ptr(type=2), Fwd("node", False), Ptr(type=4), Fwd("elsewhere", False)]
    joined = deduplicate([Btf(declared), Btf(node())])
    assert [type_ for type_ in joined.types if isinstance(type_, Struct)] == [
        Struct("node", 8, (Member("next", 1, 0),))
    ]
    assert [type_ for type_ in joined.types if isinstance(type_, Fwd)] == [Fwd("elsewhere", False)]
    assert joined.ids[0][1] == joined.ids[1][1]


def test_a_declaration_of_two_definitions_stays() -> None:
    declared = [VOID, Ptr(type=2), Fwd("node", False)]
    joined = deduplicate([Btf(declared), Btf(node(8)), Btf(node(16))])
    assert sum(isinstance(type_, Struct) for type_ in joined.types) == 2
    assert sum(isinstance(type_, Fwd) for type_ in joined.types) == 1


def test_variables_are_never_joined() -> None:
    one = [VOID, U32, Var("x", 1), FuncProto(ret=1), Func("f", 3)]
    joined = deduplicate([Btf(one), Btf(one)])
    assert sum(isinstance(type_, Var) for type_ in joined.types) == 2
    assert sum(isinstance(type_, Func) for type_ in joined.types) == 1


def test_byte_orders_and_split_types_are_refused() -> None:
    with pytest.raises(ObjectError, match="both byte orders"):
        deduplicate([Btf(node()), Btf(node(), big_endian=True)])
    with pytest.raises(ObjectError, match="split BTF"):
        deduplicate([Btf([*node(), U32], base=Btf(node()))])


def shape(btf: Btf, type_id: int, depth: int) -> object:
    """What a type looks like from outside, to a depth."""
    type_ = btf.types[type_id]
    if depth == 0 or type_id == 0:
        return type_.kind
    if isinstance(type_, Struct):
        return type_.name, type_.size, [(m.name, m.bit_offset, shape(btf, m.type, depth - 1)) for m in type_.members]
    if isinstance(type_, Ptr | Const | Typedef):
        return type_.kind, type_.name, shape(btf, type_.type, depth - 1)
    if isinstance(type_, FuncProto):
        return shape(btf, type_.ret, depth - 1), [(p.name, shape(btf, p.type, depth - 1)) for p in type_.params]
    return type_


@st.composite
def type_sets(draw: st.DrawFn) -> Btf:
    count = draw(st.integers(1, 12))
    ids = st.integers(0, count)
    types: list[BtfType] = [VOID]
    for _ in range(count):
        kind = draw(st.integers(0, 5))
        if kind == 0:
            types.append(Int("n", draw(st.sampled_from([4, 8])), 0, 32))
        elif kind == 1:
            types.append(Ptr(type=draw(ids)))
        elif kind == 2:
            types.append(Const(type=draw(ids)))
        elif kind == 3:
            types.append(Typedef(draw(st.sampled_from("ab")), draw(ids)))
        elif kind == 5:
            types.append(FuncProto(ret=draw(ids), params=(Param("x", draw(ids)), Param("y", draw(ids)))))
        else:
            members = tuple(Member(f"m{i}", draw(ids), i * 64) for i in range(draw(st.integers(0, 3))))
            types.append(Struct(draw(st.sampled_from(["s", "t", ""])), 8 * len(members), members))
    return Btf(types)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(type_sets(), min_size=1, max_size=3))
def test_laws(inputs: list[Btf]) -> None:
    """Every type keeps its shape; equal shapes share an id; joining again changes nothing."""
    joined = deduplicate(inputs)
    btf = joined.to_btf()
    found: dict[str, int] = {}
    for source, ids in zip(inputs, joined.ids):
        assert ids[0] == 0 and len(ids) == len(source.types)
        for old, new in enumerate(ids):
            before = repr(shape(source, old, 9))
            assert before == repr(shape(btf, new, 9))
            if old:
                assert found.setdefault(before + source.types[old].name, new) == new
    again = deduplicate([btf])
    assert again.types == joined.types
    assert Btf.from_bytes(btf.to_bytes()).types == joined.types


def test_builders_types() -> None:
    builder = BtfBuilder()
    builder.struct("point", 8, [("x", builder.integer("int", 4), 0), ("y", builder.integer("int", 4), 4)])
    assert deduplicate([builder.build()] * 4).types == list(builder.build().types)
