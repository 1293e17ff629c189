"""Every node class of Python's `ast`: each compiles and runs right, or is refused with its place. None is missing."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.compiler.lower import Lowerer
from ebpfkit.compiler.source import find_source
from ebpfkit.dsl.program import Program
from ebpfkit.errors import CompileError
from tests.compiler.support import PRELUDE, check, load_module, packets, program
from tests.compiler.test_maps import MAPS, RING

MUST_COMPILE = {
    "Module": "pass",  # the file a program stands in
    "FunctionDef": "d.r0 = 1",
    "arguments": "d.r0 = 1",
    "arg": "d.r0 = 1",
    "Return": "return XDP_TX",
    "Delete": "del counts[d.x8]",
    "Del": "del counts[d.x8]",
    "Assign": "a = b = d.x8; d.r0 = a; d.r1 = b",
    "AugAssign": "d.x8 += 5; table[1] += 2",
    "AnnAssign": "n: u32 = u32(5); d.t32 = n",
    "For": "for i in range(d.x8 & 7):\n    d.r0 += i\nelse:\n    d.r1 = 3",
    "While": "n = u8(0)\nwhile n < d.x8 & 7:\n    n += 1\nelse:\n    d.r1 = n",
    "If": "if d.x8 > 5:\n    d.r0 = 1\nelif d.x8 > 2:\n    d.r0 = 2\nelse:\n    d.r0 = 3",
    "Match": "match d.x8:\n    case 1:\n        d.r0 = 1\n    case _:\n        d.r0 = 2",
    "match_case": "match d.x8:\n    case 2 if d.y8 > 1:\n        d.r0 = 1",
    "MatchValue": "match d.x8:\n    case 7:\n        d.r0 = 1\n    case Kind.HIGH:\n        d.r0 = 2",
    "MatchSingleton": "match d.x8 > 5:\n    case True:\n        d.r0 = 1\n    case False:\n        d.r0 = 2",
    "MatchOr": "match d.x8:\n    case 1 | 2 | 7:\n        d.r0 = 1",
    "MatchAs": "match d.x8:\n    case 0:\n        pass\n    case other:\n        d.r0 = other",
    "MatchSequence": "match d.x8, d.y8:\n    case (7, n):\n        d.r0 = n\n    case [0, _]:\n        d.r0 = 1",
    "MatchClass": "match pairs.get(d.x8 & 7):\n    case Pair(a=0):\n        d.r0 = 1\n    case None:\n        d.r0 = 2",
    "Assert": "assert d.x8 > 5, 'more'",
    "With": "with events.record() as event:\n    if event is not None:\n        event.a = d.x8",
    "withitem": "with events.record() as event:\n    if event is not None:\n        event.a = d.x8",
    "JoinedStr": "bpf.trace(f'{d.x8} of {d.x32:08x}')",
    "FormattedValue": "bpf.trace(f'{d.x8} of {d.x32:08x}')",
    "Expr": "csum_fold(d.x32)",
    "Pass": "pass",
    "Break": "for i in range(9):\n    if i == d.x8:\n        break\n    d.r0 += 1",
    "Continue": "for i in range(9):\n    if i == d.x8:\n        continue\n    d.r0 += 1",
    "BoolOp": "d.flag = d.x8 > 5 and d.y8 > 5 or d.x16 > 9",
    "And": "if d.x8 and d.y8:\n    d.r0 = 1",
    "Or": "if d.x8 or d.y8:\n    d.r0 = 1",
    "NamedExpr": "if (n := d.x8 + d.y8) > 5:\n    d.r0 = n",
    "BinOp": "d.r0 = d.x64 + d.y64",
    "UnaryOp": "d.r0 = -d.x64",
    "IfExp": "d.r0 = d.x64 if d.x8 else d.y64",
    "Compare": "d.flag = 1 < d.x8 <= d.y8",
    "Call": "d.t16 = csum_fold(d.x32)",
    "keyword": "p = Pair(a=d.x32, b=2); d.t32 = p.a + p.b",
    "Constant": "d.r0 = 0x1234_5678_9ABC",
    "Attribute": "d.r0 = d.x64; d.flag = bpf.XDP_TX == 3",
    "Subscript": "d.t8 = d.arr[1]; d.r0 = table[d.x8 & 15]",
    "Name": "n = d.x8; d.r0 = n",
    "Load": "n = d.x8; d.r0 = n",
    "Store": "n = d.x8; d.r0 = n",
    "Tuple": "d.x8, d.y8 = d.y8, d.x8; d.flag = d.x8 in (1, 2)",
    "List": "[a, b] = d.x8, d.y8; d.flag = a in [b, 7]; d.r0 = a",
    "Set": "d.flag = d.x8 in {0, 7, 255}",
    "Add": "d.r0 = d.x64 + 7",
    "Sub": "d.r0 = d.x64 - d.y64",
    "Mult": "d.r0 = d.x64 * d.y64",
    "FloorDiv": "d.r0 = d.x64 // d.y64",
    "Mod": "d.r0 = d.x64 % d.y64",
    "LShift": "d.r0 = d.x64 << 9",
    "RShift": "d.r0 = d.x64 >> 9; d.s0 = d.p64 >> 9",
    "BitOr": "d.r0 = d.x64 | d.y64",
    "BitXor": "d.r0 = d.x64 ^ d.y64",
    "BitAnd": "d.r0 = d.x64 & d.y64",
    "Pow": "d.r0 = 2 ** 33",
    "Invert": "d.r0 = ~d.x64",
    "Not": "d.flag = not d.x8",
    "UAdd": "d.r0 = +d.x64",
    "USub": "d.s0 = -d.p64",
    "Eq": "d.flag = d.x8 == d.y8",
    "NotEq": "d.flag = d.x8 != d.y8",
    "Lt": "d.flag = d.p32 < d.q32",
    "LtE": "d.flag = d.x64 <= d.y64",
    "Gt": "d.flag = d.n32 > 9",
    "GtE": "d.flag = d.p8 >= d.q8",
    "Is": "if counts.get(d.x8) is None:\n    d.r0 = 1",
    "IsNot": "n = counts.get(d.x8)\nif n is not None:\n    d.r0 = n",
    "In": "d.flag = d.x8 in counts",
    "NotIn": "d.flag = d.x8 not in PORTS",
}
REFUSED = {
    "AsyncFunctionDef": "async def inner():\n    pass",
    "ClassDef": "class Inner:\n    pass",
    "AsyncFor": "async def inner():\n    async for x in d:\n        pass",
    "AsyncWith": "async def inner():\n    async with d:\n        pass",
    "Await": "async def inner():\n    await d",
    "Raise": "raise ValueError(5)",
    "Try": "try:\n    d.r0 = 1\nfinally:\n    d.r1 = 2",
    "TryStar": "try:\n    d.r0 = 1\nexcept* ValueError:\n    d.r1 = 2",
    "ExceptHandler": "try:\n    d.r0 = 1\nexcept ValueError:\n    d.r1 = 2",
    "Import": "import os",
    "ImportFrom": "from os import path",
    "alias": "import os as o",
    "Global": "global ONE\nONE = 5",
    "Lambda": "f = lambda: d.x8",
    "Dict": "n = {1: d.x8}",
    "ListComp": "n = [i for i in PORTS]",
    "SetComp": "n = {i for i in PORTS}",
    "DictComp": "n = {i: i for i in PORTS}",
    "GeneratorExp": "n = any(i for i in PORTS)",
    "comprehension": "n = [i for i in PORTS if i]",
    "Yield": "yield d.x8",
    "YieldFrom": "yield from PORTS",
    "Starred": "n = (*PORTS, d.x8)",
    "Slice": "n = d.arr[1:2]",
    "MatMult": "d.r0 = d.x64 @ d.y64",
    "Div": "d.r0 = d.x64 / d.y64",
    "MatchMapping": "match d.x8:\n    case {1: 2}:\n        d.r0 = 1",
    "MatchStar": "match PORTS:\n    case [a, *b]:\n        d.r0 = 1",
    "TypeAlias": "type T = u32",
    "TemplateStr": "n = t'{d.x8}'",
    "Interpolation": "n = t'{d.x8}'",
}
WHOLE_MODULES_REFUSED = {
    "Nonlocal": "def make():\n    n = 5\n    @bpf.xdp\n    def prog(pkt: Packet) -> XdpAction:\n        nonlocal n\n"
    "        n = 6\n        return XDP_PASS\n    return prog\nprog = make()\n",
    "TypeVar": "@bpf.xdp\ndef prog[T](pkt: Packet) -> XdpAction:\n    return XDP_PASS\n",
    "TypeVarTuple": "@bpf.xdp\ndef prog[*T](pkt: Packet) -> XdpAction:\n    return XDP_PASS\n",
    "ParamSpec": "@bpf.xdp\ndef prog[**T](pkt: Packet) -> XdpAction:\n    return XDP_PASS\n",
}
NEVER_IN_A_FUNCTION = {"Interactive", "Expression", "FunctionType", "TypeIgnore"}
"""Roots of other ways to parse, and a comment that the parser is not asked to keep."""
NEVER_PARSED = {
    "Num", "Str", "Bytes", "NameConstant", "Ellipsis", "Index", "ExtSlice", "Suite", "AugLoad", "AugStore", "Param",
}  # fmt: skip
"""Classes of Python 3.8 and before, that no parser makes any more."""


def node_classes() -> dict[str, type[ast.AST]]:
    """The concrete node classes of this Python."""
    found = {
        n: c for n, c in vars(ast).items() if isinstance(c, type) and issubclass(c, ast.AST) and not n.startswith("_")
    }
    bases = {base for c in found.values() for base in c.__mro__[1:]}
    abstract = {"AST", "slice"}
    return {n: c for n, c in found.items() if n not in abstract and (c not in bases or n in ("Constant", "Tuple"))}


def _known() -> set[str]:
    return {*MUST_COMPILE, *REFUSED, *WHOLE_MODULES_REFUSED, *NEVER_IN_A_FUNCTION, *NEVER_PARSED}


def test_no_class_is_missing():
    classes = node_classes()
    assert len(classes) > 100
    for name in set(classes) - _known():  # a later Python's: whatever it is, it is refused
        assert not hasattr(Lowerer, f"_expr_{name}") and not hasattr(Lowerer, f"_do_{name}"), name
    if sys.version_info < (3, 15):
        assert set(classes) <= _known()
    assert not set(MUST_COMPILE) & (set(REFUSED) | set(WHOLE_MODULES_REFUSED))


def _nodes_in(prog: Program) -> set[str]:
    source = find_source(prog.function)
    return {type(n).__name__ for n in ast.walk(ast.parse(source.text))}


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "body"), MUST_COMPILE.items(), ids=MUST_COMPILE)
def test_it_compiles_and_runs_right(name: str, body: str, tmp_path: Path):
    prog = program("d = pkt.read(Data)\n" + body.replace("; ", "\n") + "\nreturn XDP_PASS\n", tmp_path, MAPS + RING)
    assert name in _nodes_in(prog)
    check(prog, packets(3), kernel=True)


def _of_this_python(table: dict[str, str]) -> list[object]:
    """The rows whose class this Python has."""
    return [pytest.param(name, text, id=name) for name, text in table.items() if name in node_classes()]


@pytest.mark.parametrize(("name", "body"), _of_this_python(REFUSED))
def test_it_is_refused_at_its_line(name: str, body: str, tmp_path: Path):
    prog = program(f"d = pkt.read(Data)\n{body}\nreturn XDP_PASS\n", tmp_path, MAPS)
    assert name in _nodes_in(prog)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.span is not None and caught.value.span.column > 0 and caught.value.code
    assert caught.value.span.line > len((PRELUDE + MAPS).splitlines()) + 3


@pytest.mark.parametrize(("name", "text"), _of_this_python(WHOLE_MODULES_REFUSED))
def test_a_whole_function_is_refused(name: str, text: str, tmp_path: Path):
    prog = load_module(PRELUDE + text, tmp_path).prog
    assert name in {type(node).__name__ for node in ast.walk(ast.parse(text))}
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.span is not None and caught.value.span.line > len(PRELUDE.splitlines())


class NewStatement(ast.stmt):
    """A statement of some later Python."""


class NewExpression(ast.expr):
    """An expression of some later Python."""


class NewPattern(ast.pattern):
    """A pattern of some later Python."""


@pytest.mark.parametrize("kind", [NewStatement, NewExpression, NewPattern])
def test_what_a_later_python_adds_is_refused(kind: type[ast.AST], tmp_path: Path):
    prog = program("match pkt.rx_queue_index:\n    case 1:\n        pass\nreturn XDP_PASS\n", tmp_path)
    node = find_source(prog.function).node
    new = ast.copy_location(kind(), node.body[0])
    if isinstance(new, ast.stmt):
        node.body[0] = new
    elif isinstance(new, ast.expr):
        node.body[1].value = new  # type: ignore[attr-defined]
    else:
        node.body[0].cases[0].pattern = new  # type: ignore[attr-defined]
    with pytest.raises(CompileError, match=kind.__name__):
        compile_programs([prog])
