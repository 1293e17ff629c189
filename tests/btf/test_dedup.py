"""Joining types: laws on made-up sets, and the same sizes and members as bpftool's linker gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.btf.dedup import deduplicate
from ebpfkit.btf.split import deduplicate_split
from ebpfkit.btf.types import (
    VOID,
    BtfType,
    Const,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Param,
    Ptr,
    Struct,
    Typedef,
    Var,
    referenced_ids,
    with_ids,
)  # fmt: skip
from ebpfkit.btf.vmlinux import read_btf_file
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


def split(added: list[BtfType], base: list[BtfType] | None = None) -> Btf:
    """Types that extend others, decoded as a module's are."""
    kernel = Btf.from_bytes(Btf(base or [*node(), U32]).to_bytes())
    return Btf.from_bytes(Btf([*kernel.types, *added], b"", base=kernel).to_bytes(), base=kernel)


def test_split_types_refer_to_their_base() -> None:
    """A copy of the base's circle goes; what is new stays, and refers to the base's."""
    mine = Struct("mine", 16, (Member("node", 4, 0), Member("a", 6, 64)))
    added = [Ptr(type=5), Struct("node", 8, (Member("next", 4, 0),)), U32, Const(type=6), mine]
    joined = deduplicate_split(split(added))
    assert joined.types[4:] == [
        Const(type=3), Struct("mine", 16, (Member("node", 1, 0), Member("a", 3, 64))),
    ]  # fmt: skip
    assert joined.ids == ((0, 1, 2, 3, 1, 2, 3, 4, 5),)
    again = Btf.from_bytes(joined.to_btf().to_bytes(), base=joined.base)
    assert list(again.types) == joined.types


def test_split_types_that_differ_far_away_stay() -> None:
    added = [Ptr(type=5), Struct("node", 8, (Member("other", 4, 0),)), Const(type=5)]
    assert deduplicate_split(split(added)).types[4:] == added


def test_split_types_are_joined_among_themselves() -> None:
    added = [Struct("new", 8, (Member("n", 5, 0),)), Ptr(type=4), Struct("new", 8, (Member("n", 7, 0),)), Ptr(type=6)]
    joined = deduplicate_split(split(added))
    assert joined.types[4:] == added[:2] and joined.ids[0][4:] == (4, 5, 4, 5)


def test_a_declaration_of_what_the_base_defines() -> None:
    joined = deduplicate_split(split([Fwd("node", False), Ptr(type=4), Fwd("elsewhere", True)]))
    assert joined.types[4:] == [Fwd("elsewhere", True)] and joined.ids[0][4:] == (2, 1, 4)
    with pytest.raises(ObjectError, match="extend no others"):
        deduplicate_split(Btf(node()))


def test_variables_and_functions_of_split_types() -> None:
    base = [*node(), U32, FuncProto("", 0, ()), Func("f", 4, 0)]
    added = [Var("v", 3), Var("v", 3), FuncProto("", 0, ()), Func("f", 8, 0), Func("g", 8, 0)]
    assert deduplicate_split(split(added, base)).types[6:] == [Var("v", 3), Var("v", 3), Func("g", 4, 0)]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(type_sets(), type_sets())
def test_laws_of_split_types(base: Btf, added: Btf) -> None:
    """Every type keeps its shape, the base its ids; what is left of a set that was cleaned before stays as it is."""
    kernel = deduplicate([base]).to_btf()
    count = len(kernel.types) - 1
    moved = [with_ids(type_, lambda i: i + count if i else 0) for type_ in added.types[1:]]
    both = Btf([*kernel.types, *moved], b"", base=kernel)
    joined = deduplicate_split(both)
    result = joined.to_btf()
    for old, new in enumerate(joined.ids[0]):
        assert repr(shape(both, old, 9)) == repr(shape(result, new, 9)) and (new == old or old > count)
    assert list(Btf.from_bytes(result.to_bytes(), base=kernel).types) == joined.types
    assert deduplicate_split(result).types == joined.types


def reached(btf: Btf, *names: str) -> list[int]:
    """The ids of types and of everything that they refer to."""
    found: dict[int, None] = {}
    waiting = [btf.find_id(name) for name in names]
    while waiting:
        type_id = waiting.pop()
        if type_id and type_id not in found:
            found[type_id] = None
            waiting += referenced_ids(btf.types[type_id])
    return list(found)


@pytest.mark.kernel
def test_what_was_taken_from_the_kernel_is_the_kernel_s() -> None:
    """Circles and all: a copy of `struct bpf_map` and whatever it reaches is nothing new."""
    kernel = read_btf_file()
    ids = reached(kernel, "bpf_map")
    new = {type_id: len(kernel.types) + number for number, type_id in enumerate(ids)}
    copies = [with_ids(kernel.types[type_id], lambda i: new[i] if i else 0) for type_id in ids]
    joined = deduplicate_split(Btf([*kernel.types, *copies], b"", base=kernel))
    left = joined.types[len(kernel.types) :]
    assert len(copies) > 5000 and len(left) < len(copies) // 50, len(left)
