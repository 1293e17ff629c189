"""What the language refuses: each snippet with its place, its stable code, its message and the way out.

Lines count from the snippet's first; line 0 is the `def`, numbers below that are functions in front of it.
"""

# ruff: noqa: E501

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.errors import CompileError
from tests.compiler.support import PRELUDE, program
from tests.compiler.test_maps import MAPS, RING

BEFORE = (
    MAPS
    + RING
    + """
def rec(n: u32) -> u32:
    return rec(n)
def mixed(n: u32):
    if n:
        return n
    return True
def star(*n: u32) -> u32:
    return n[0]
def gen(n: u32) -> u32:
    yield n
def lonely(n: u32) -> u32:
    while True:
        pass
def none(n: u32) -> None:
    return None
class WithInit(Struct):
    a: u32
    def __init__(self, a: int) -> None:
        super().__init__(a=a)
class Long(Struct):
    data: array[u8, 600]
other = bpf.Array[u64](max_entries=1, name="table")
def e_submit(pkt):
    e = events.reserve()
    if e is not None:
        return e.submit()
    return None
def bad_inside(n: u32) -> u32:
    return n + u8(1) * u64(2)
"""
)

REFUSED = {
    "mixed widths": (
        "d.r0 = d.x32 + d.x64",
        "1:12 mixed-types: u32 + u64 mixes types (write the cast u64(...) around the left operand)",
    ),
    "mixed signedness": (
        "d.s0 = d.p32 + d.x32",
        "1:12 mixed-types: s32 + u32 mixes types (write the cast s32(...) around the right operand)",
    ),
    "mixed with bool": (
        "d.r0 = d.x32 + (d.x8 > 1)",
        "1:12 mixed-types: u32 + bool mixes types (write the cast u32(...))",
    ),
    "bool arithmetic": ("d.r0 = (d.x8 > 1) + (d.y8 > 1)", "1:12 bool-arithmetic: + on truth values (cast: u32(x))"),
    "literal does not fit": ("d.t8 = d.x8 + 300", "1:12 does-not-fit: 300 does not fit u8 (write u8(300) to wrap it)"),
    "negative literal": ("d.t32 = d.x32 + -1", "1:13 does-not-fit: -1 does not fit u32 (write - 1)"),
    "negative mask": ("d.t32 = d.x32 & ~7", "1:13 does-not-fit: -8 does not fit u32 (write u32(-8) to wrap it)"),
    "stored literal": ("d.t16 = 70000", "1:13 does-not-fit: 70000 does not fit u16 (write u16(70000) to wrap it)"),
    "narrowing store": ("d.t16 = d.x32", "1:13 narrowing: u16 is narrower than u32 (write the cast u16(...))"),
    "signed store": ("d.r0 = d.p8", "1:12 narrowing: u64 and s8 differ in signedness (write the cast u64(...))"),
    "signed division": (
        "d.q32 = d.p32 // 2",
        "1:13 signed-division: // on s32: Python rounds down, the machine towards zero (cast to u32 when the values cannot be negative)",
    ),
    "signed modulo": (
        "d.q32 %= 3",
        "1:5 signed-division: % on s32: Python rounds down, the machine towards zero (cast to u32 when the values cannot be negative)",
    ),
    "division by zero": ("d.t32 = d.x32 // ZERO", "1:13 division-by-zero: // by the constant 0"),
    "constant division by zero": ("d.t32 = 1 % 0", "1:13 division-by-zero: % by the constant 0"),
    "shift too far": ("d.t32 = d.x32 << 32", "1:13 bad-shift: a u32 is shifted by 0 to 31, not by 32"),
    "negative shift": ("d.t32 = d.x32 >> -1", "1:13 bad-shift: a u32 is shifted by 0 to 31, not by -1"),
    "true division": ("d.t32 = d.x32 / 2", "1:13 float: / gives a fraction, and the machine has none (write //)"),
    "float": ("d.t32 = d.x32 * 1.5", "1:13 float: the machine has no fractions (scale it to an integer)"),
    "power": ("d.t32 = d.x32 ** 2", "1:13 power: ** has no instruction (multiply, or shift for powers of two)"),
    "matrix": ("d.t32 = d.x32 @ d.y32", "1:13 unsupported-operator: @ multiplies matrices, and there are none here"),
    "signed comparison": (
        "d.flag = d.p32 < d.x32",
        "1:14 mixed-signedness: s32 < u32 compares across signedness (cast one of them: s32(...))",
    ),
    "network arithmetic": ("d.r0 = d.n16 + 1", "1:12 network-order: arithmetic on a be16 (write .to_host() first)"),
    "network cast": (
        "d.t16 = u16(d.n16)",
        "1:17 network-order: u16(...) of a be16 would reinterpret network order (write .to_host() and cast that)",
    ),
    "network store": ("d.t16 = d.n16", "1:13 network-order: a be16 is not a u16 (write .to_host())"),
    "network widths": ("d.flag = d.n16 == d.n32", "1:14 mixed-types: be16 == be32 mixes widths"),
    "network narrowing": ("d.n16 = d.x32", "1:13 narrowing: be16 is narrower than u32 (write the cast u16(...))"),
    "network negation": ("d.n16 = ~d.n16", "1:13 network-order: arithmetic on a be16 (write .to_host() first)"),
    "truth store": ("d.flag = d.x8", "1:14 bad-type: a u8 is not a truth value (compare it: x != 0)"),
    "scalar and array": ("d.flag = d.x8 == d.arr", "1:14 bad-type: array[u8, 8] == u8 has no meaning"),
    "mac order": ("d.flag = d.mac < d.mac2", "1:14 bad-type: MAC has no order (compare with == or !=)"),
    "mac from text": (
        "d.mac = '02:00:00:00:00:01'",
        "1:13 bad-type: a str is not a MAC (write MAC('02:00:00:00:00:01'))",
    ),
    "mac element": ("d.mac[0] = 1", "1:5 read-only: a MAC is a value (assign a whole address)"),
    "no width": (
        "n = 0\nwhile n < d.x32:\n    n += 1",
        "3:9 no-width: the int that + gives here may leave 64 bits (give the variable a width where it begins, as in n = u64(0))",
    ),
    "conflict of a conditional": (
        "d.r0 = d.x8 if d.x8 > 5 else d.x16",
        "1:12 type-conflict: the sides of this conditional expression differ: u8 on one side and u16 on the other (cast both to one type)",
    ),
    "conflict of paths": (
        "if d.x8 > 5:\n    n = d.x8\nelse:\n    n = d.x16\nd.r0 = n",
        "5:12 type-conflict: n is u8 on one path to here and u16 on another (use two names, or cast to one type on both paths)",
    ),
    "min of two types": ("d.r0 = min(d.x8, 5)", "1:22 mixed-types: min() of u8 and int mixes types (write u8(...))"),
    "abs": ("d.q32 = abs(d.p32)", "1:13 abs: abs() of s32 gives an int of no width (write -x if x < 0 else x)"),
    "int": ("d.r0 = int(d.x8)", "1:12 no-width: int(...) has no width (write u64(...) or another type)"),
    "annotation": ("n: u32 = 5", "1:14 annotation: the annotation does not make 5 a u32 (write u32(5))"),
    "annotation of another type": (
        "n: u32 = d.x8",
        "1:14 annotation: this is u8, the annotation says u32 (write u32(...))",
    ),
    "enum cast": (
        "return XdpAction(d.x32)",
        "1:12 bad-cast: XdpAction(...) of a number may be no member (compare and return a member)",
    ),
    "bit field": ("d.hi = 8", "1:12 does-not-fit: 8 does not fit a field of 3 bits"),
    "index too large": ("d.t8 = d.arr[8]", "1:12 array-index: index 8 is outside of 0 to 7"),
    "index unknown": (
        "d.t8 = d.arr[d.x8]",
        "1:18 array-index: this index is between 0 and 255, the array's are 0 to 7 (test it first: if i < 8, or write i & 7)",
    ),
    "index negative": ("d.t8 = d.arr[-1]", "1:12 array-index: index -1 is outside of 0 to 7"),
    "identity": (
        "d.flag = d.x8 is d.y8",
        "1:14 identity: is compares objects, and there are none here (write ==, or compare with None)",
    ),
    "none comparison": (
        "d.flag = pkt.peek(u8) == None",
        "1:14 untested-optional: this is u8 | None: peek() may have found nothing (test it first: if x is not None)",
    ),
    "container": (
        "d.flag = d.x8 in d.arr",
        "1:22 bad-container: array[u8, 8] holds nothing that in could find (write a tuple or a map)",
    ),
    "unknown name": ("d.r0 = no_such", "1:12 unknown-name: there is no name no_such here"),
    "near name": ("d.r0 = PROTS", "1:12 unknown-name: there is no name PROTS here (write PORTS)"),
    "unbound": ("d.r0 = n\nn = d.x8", "1:12 unbound: n has no value yet (give it one before this line)"),
    "maybe unbound": (
        "if d.x8:\n    n = d.x8\nd.r0 = n",
        "3:12 maybe-unbound: n has no value on some paths to here (it is in line 2) (give it one before)",
    ),
    "loop variable after the loop": (
        "for i in range(d.x8):\n    pass\nd.r0 = i",
        "3:12 maybe-unbound: i has no value on some paths to here (it is in line 1) (give it one before)",
    ),
    "no field": (
        "d.nothing = 1",
        "1:5 no-such-field: Data has no field nothing (it has x8, y8, x16, y16, x32, y32, x64, y64, ...)",
    ),
    "near field": ("d.r0 = d.x46", "1:12 no-such-field: Data has no field x46 (write x64)"),
    "module attribute": ("return bpf.XDP_PAS", "1:12 no-such-attribute: module ebpfkit has no XDP_PAS"),
    "constant attribute": ("d.r0 = PORTS.first", "1:12 no-such-attribute: tuple has no first"),
    "untested optional": (
        "m = pkt.peek(Pair)\nd.t32 = m.a",
        "2:13 untested-optional: this is Pair | None: peek() may have found nothing (test it first: if m is not None)",
    ),
    "untested scalar": (
        "n = pkt.peek(u32)\nd.t32 = n + 1",
        "2:13 untested-optional: this is u32 | None: peek() may have found nothing (test it first: if x is not None)",
    ),
    "tested on the wrong side": (
        "m = pkt.peek(Pair)\nif m is None:\n    d.t32 = m.a",
        "3:17 none-value: this is None where something with .a is wanted",
    ),
    "test forgotten after the branch": (
        "m = pkt.peek(Pair)\nif m is not None:\n    d.r0 = 1\nd.t32 = m.a",
        "4:13 untested-optional: this is Pair | None: peek() may have found nothing (test it first: if m is not None)",
    ),
    "optional truth": (
        "n = pkt.peek(u32)\nif n:\n    d.r0 = 1",
        "2:8 optional-truth: the truth of u32 | None mixes None with 0 (write `is not None`)",
    ),
    "optional look-up": (
        "d.r0 = counts.get(d.x8)",
        "1:12 untested-optional: this is u64 | None: counts.get() may have found nothing (test it first: if x is not None)",
    ),
    "struct alias": (
        "a = Pair(a=1, b=2)\nb = a",
        "2:9 struct-alias: a is a Pair, and = would give it a second name (write a.copy(), or use a itself)",
    ),
    "part of a local": (
        "a = Nested.zero()\nb = a.first",
        "2:9 struct-alias: a name for a part of a local structure (use it in place, or write .copy())",
    ),
    "struct truth type": ("d.r0 = d.arr + 1", "1:12 bad-type: array[u8, 8] + int has no meaning"),
    "missing field": ("a = Pair(a=1)", "1:9 missing-field: Pair(...) lacks b (name it, or start from Pair.zero())"),
    "no such field": ("a = Pair(a=1, b=2, c=3)", "1:9 no-such-field: Pair has no field c (it has a, b)"),
    "positional field": ("a = Pair(1, 2)", "1:9 bad-call: Pair(...) takes its fields by name (write a=...)"),
    "own init": (
        "a = WithInit(5)",
        "1:9 bad-type: WithInit has an __init__ of its own (use a function that returns one)",
    ),
    "method as value": ("d.r0 = d.copy", "1:12 bad-type: copy is a method (call it: copy())"),
    "struct of another type": ("pairs[0] = Padded.zero()", "1:16 bad-type: this is Padded where a Pair is wanted"),
    "stack too large": (
        "a = Long.zero()\na.data[d.x8 & 63] = 1\nhelpers.csum_diff(None, 0, a, 600, 0)\nd.t8 = a.data[d.y8 & 63]",
        "1:9 stack-too-large: Long has 600 bytes, and BPF's stack 512 (keep large structures in a map (a PerCpuArray of one entry), and change them there)",
    ),
    "context write": (
        "pkt.rx_queue_index = 1",
        "1:5 read-only: the context of an XDP program is read-only (keep the value in a variable)",
    ),
    "context field": (
        "d.r0 = pkt.mark",
        "1:12 no-such-field: the packet has no field mark (it has ingress_ifindex, rx_queue_index)",
    ),
    "egress": (
        "d.t32 = pkt.egress_ifindex",
        '1:13 context-field: egress_ifindex is only known to programs in a devmap (write @xdp(at="devmap"), or use ingress_ifindex)',
    ),
    "read nothing": ("pkt.read()", "1:5 bad-call: read() takes (type)"),
    "read a value": ("pkt.read(5)", "1:14 not-a-type: int is not a type of the language (write u16 or a Struct)"),
    "skip too far": (
        "pkt.skip(d.x16)",
        "1:14 bad-size: skip() of up to 65535 bytes (write & 0x3fff, or test it first)",
    ),
    "skip back": ("pkt.skip(d.p8)", "1:14 bad-size: skip() of a signed number may go back (write the cast u16(...))"),
    "skip a truth": ("pkt.skip(d.x8 > 1)", "1:14 bad-type: skip() takes a number of bytes, not a bool"),
    "skip as a value": ("n = pkt.skip(4)", "1:5 no-value: skip() has no result (write it as a statement of its own)"),
    "packet method": (
        "pkt.send(u8)",
        "1:5 no-such-field: the packet of a xdp program has no method send (it has read, peek, skip, write, read_into, write_from, push_head, pop_head, trim, extend, push_meta, meta)",
    ),
    "key of another type": ("d.r0 = counts[d.x16]", "1:19 narrowing: u8 is narrower than u16 (write the cast u8(...))"),
    "signed key": ("d.r0 = counts[d.p8]", "1:19 narrowing: u8 and s8 differ in signedness (write the cast u8(...))"),
    "value too wide": ("trie[d.ip] = d.x64", "1:18 narrowing: u32 is narrower than u64 (write the cast u32(...))"),
    "prefix key": ("trie['10.0.0.0/8'] = 1", "1:10 bad-type: this is str where an IPv4Addr is wanted"),
    "integer for an address": ("trie[d.x32] = 1", "1:10 bad-type: this is u32 where an IPv4Addr is wanted"),
    "user space only": (
        "for k in counts.keys():\n    pass",
        "1:14 user-space-only: a program cannot call keys() of this Hash (it has get, set, delete, [], in, del)",
    ),
    "delete of an array": (
        "del table[1]",
        "1:9 bad-map-operation: a program cannot delete entries of this Array (store a zero)",
    ),
    "look into an xskmap": (
        "d.r0 = xsks[0]",
        "1:12 bad-map-operation: a program cannot reach the entries of this XskMap",
    ),
    "store into an xskmap": ("xsks[0] = 5", "1:5 bad-map-operation: a program cannot reach the entries of this XskMap"),
    "atomic of a byte": (
        "d.x8.atomic_add(1)",
        "1:5 atomic-width: no atomic operation has 8 bits (make the field a u32 or u64)",
    ),
    "atomic of the packet": (
        "d.x64.atomic_add(1)",
        "1:5 atomic-place: atomic_add works on a map value, not on the packet (write +=)",
    ),
    "atomic of a local": (
        "n = u64(5)\nn.atomic_add(1)",
        "2:5 atomic-place: atomic_add works on a map value, not on a value without a place (write +=)",
    ),
    "otherwise": (
        "return xsks.redirect(1, otherwise=7)",
        "1:12 bad-verdict: otherwise= is one of XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX",
    ),
    "record leak": (
        "e = events.reserve()\nif e is not None:\n    e.a = 1",
        "4:5 record-leak: the record reserved in line 1 may be neither submitted nor discarded here (call .submit() or .discard() on every path)",
    ),
    "record leak on a path": (
        "e = events.reserve()\nif e is None:\n    return XDP_DROP\nif d.x8:\n    e.submit()",
        "6:5 record-leak: the record reserved in line 1 is submitted or discarded on some paths only here (call .submit() or .discard() on every path)",
    ),
    "record leak by the short exit": (
        "e = events.reserve()\nif e is not None:\n    pkt.read(u8)\n    e.submit()",
        "3:9 record-leak: read() may end the program while the record reserved in line 1 is neither submitted nor discarded (do this before reserve(), or use get() or peek())",
    ),
    "record after submit": (
        "e = events.reserve()\nif e is not None:\n    e.submit()\n    e.a = 1",
        "4:15 dead-view: the record reserved in line 1 was submitted or discarded",
    ),
    "record twice": (
        "e = events.reserve()\nif e is not None:\n    e.submit()\n    e.discard()",
        "4:9 dead-view: the record reserved in line 1 was submitted or discarded",
    ),
    "submit of a local": (
        "p = Pair.zero()\np.submit()",
        "2:5 no-record: submit() of a Pair that no RingBuf.reserve() gave",
    ),
    "map as value": ("d.r0 = counts", "1:12 bad-type: this is Hash where a u64 is wanted"),
    "two maps of one name": (
        "d.r0 = table[0]\nother[0] = 1",
        '2:5 bad-map-name: two maps of this object have the name table (give one name="...")',
    ),
    "recursion": (
        "d.t32 = rec(d.x32)",
        "-31:12 recursion: rec calls itself, and functions cannot call themselves (write a loop)",
    ),
    "mixed results": (
        "d.t32 = mixed(d.x32)",
        "1:13 type-conflict: mixed returns u32 on one path and bool on another (return one type on all paths)",
    ),
    "star": ("d.t32 = star(d.x32)", "1:13 unsupported-syntax: star takes * or ** (name its parameters)"),
    "generator": ("d.t32 = gen(d.x32)", "1:13 unsupported-syntax: gen is a generator or async (write a plain def)"),
    "endless": ("d.t32 = lonely(d.x32)", "1:13 no-return: lonely never returns"),
    "none result": ("d.t32 = none(d.x32)", "1:13 none-value: this is None where a u32 is wanted"),
    "wrong arguments": ("d.t32 = rec()", "1:13 bad-call: rec(): missing a required argument: 'n'"),
    "narrowing argument": ("d.t32 = none(d.x64)", "1:13 narrowing: u32 is narrower than u64 (write the cast u32(...))"),
    "starred argument": (
        "d.t32 = rec(*PORTS)",
        "1:17 unsupported-syntax: * needs a length that is known here (name the arguments)",
    ),
    "keyword arguments": (
        "d.t32 = rec(**PORTS)",
        "1:19 unsupported-syntax: ** needs names that are known here (name them)",
    ),
    "print": ("print(d.x8)", '1:5 not-callable: a program cannot print (write bpf.trace(f"..."), or use a RingBuf)'),
    "range as a value": (
        "r = range(d.x8)",
        "1:9 not-callable: range() only has a meaning in a for loop (write for i in range(...))",
    ),
    "not callable": ("d.x8()", "1:5 not-callable: x8 of a Data cannot be called in a program"),
    "a program calls itself": (
        "return prog(pkt)",
        "1:12 calls-program: prog is a program, and programs do not call each other (move the common part into a function without @xdp)",
    ),
    "helper argument": ("helpers.redirect(d.mac, 0)", "1:22 bad-type: this is MAC where a number is wanted"),
    "helper arity": ("helpers.redirect(1)", "1:5 bad-call: redirect() takes (ifindex, flags)"),
    "helper size": (
        "helpers.csum_diff(None, 0, d.words, 20, 0)",
        "1:41 bad-size: 20 bytes may be asked of 16 (write sizeof(T), or test it)",
    ),
    "helper map type": (
        "helpers.redirect_map(table, 0, 0)",
        "1:26 bad-map-operation: redirect_map() does not take this Array",
    ),
    "no such helper": (
        "helpers.no_such_helper()",
        "1:5 no-such-attribute: module ebpfkit.dsl.helpers has no no_such_helper",
    ),
    "helper not offered": (
        "helpers.tail_call()",
        "1:5 no-such-attribute: the helper tail_call is not supported: write table.tail_call(pkt, index)",
    ),
    "verdict": ("return 9", "1:12 bad-verdict: 9 is no verdict of XDP (return XDP_PASS or another XdpAction)"),
    "verdict of truth": (
        "return d.x8 > 1",
        "1:12 bad-verdict: a bool is no verdict (return XDP_PASS or another XdpAction)",
    ),
    "no verdict": (
        "return",
        "1:5 bad-verdict: the program ends without a verdict (return XDP_PASS or another XdpAction)",
    ),
    "unpack": ("a, b = d.x8, d.y8, d.x16", "1:5 unpack: 3 values for 2 names"),
    "unpack a scalar": ("a, b = d.x16", "1:12 bad-type: u16 cannot be taken apart (write a tuple)"),
    "starred target": ("a, *b = PORTS", "1:8 unsupported-syntax: * in an assignment makes a list (name every element)"),
    "del a name": ("n = d.x8\ndel n", "2:9 unsupported-syntax: del is for entries of maps (write del m[key])"),
    "global": (
        "global DEBUG",
        "1:5 unsupported-syntax: a program cannot rebind names of the module (keep the value in a map)",
    ),
    "import": ("import os", "1:5 unsupported-syntax: an import inside a program (move it to the top of the module)"),
    "try": (
        "try:\n    d.r0 = 1\nexcept KeyError:\n    pass",
        "1:5 unsupported-syntax: nothing in a program raises (test for None, or use get() and peek())",
    ),
    "with": (
        "with d.x8:\n    pass",
        "1:10 bad-type: u8 is no lock (with value.lock: or with ring.record() as event:)",
    ),
    "raise": ("raise ValueError", "1:5 unsupported-syntax: a program cannot raise (return a verdict)"),
    "def": ("def inner(): pass", "1:5 unsupported-syntax: a function inside a program (move it out into the module)"),
    "class": ("class Inner: pass", "1:5 unsupported-syntax: a class inside a program (move it out into the module)"),
    "lambda": ("f = lambda x: x", "1:9 unsupported-syntax: a lambda cannot be compiled (write a def in the module)"),
    "list": (
        "n = [1, 2]",
        "1:9 unsupported-syntax: a list has no size the machine knows (use an array in a Struct, or a tuple)",
    ),
    "dict": (
        "n = {1: 2}",
        "1:9 unsupported-syntax: a dict has no meaning in a program (declare a Hash map in the module)",
    ),
    "set": (
        "n = {1, 2}",
        "1:9 unsupported-syntax: a set has no meaning in a program (write a tuple, or declare a Hash map in the module)",
    ),
    "comprehension": (
        "n = [x for x in PORTS]",
        "1:9 unsupported-syntax: a comprehension builds a list (write a for loop)",
    ),
    "f-string": (
        "n = f'{d.x8}'",
        '1:9 unsupported-syntax: text has no meaning in a program (write trace(f"..."), or use a RingBuf)',
    ),
    "slice": (
        "n = d.arr[1:3]",
        "1:15 unsupported-syntax: a slice makes a copy of unknown length (name the elements, or read a Struct)",
    ),
    "yield": ("yield d.x8", "1:5 unsupported-syntax: a program is no generator (use a RingBuf to hand values out)"),
    "step zero": (
        "for i in range(0, 5, ZERO):\n    pass",
        "1:26 bad-range: the step of a range is a constant that is not 0",
    ),
    "step unknown": (
        "for i in range(0, 5, d.x8):\n    pass",
        "1:26 bad-range: the step of a range is a constant that is not 0",
    ),
    "range of 64 bits": (
        "for i in range(d.x64):\n    pass",
        "1:20 bad-range: a range over all of u64 is too long (cast: u32(...))",
    ),
    "loop over a scalar": (
        "for i in d.x8:\n    pass",
        "1:14 bad-iterable: u8 cannot be gone through (write for i in range(n))",
    ),
    "match a class": (
        "match d.x8:\n    case int():\n        pass",
        "2:14 bad-type: the type int is no structure of the language (match integers)",
    ),
    "match a sequence": (
        "match d.x8:\n    case [a, b]:\n        pass",
        "2:14 bad-type: u8 is no tuple (match a, b: with case (1, 2):)",
    ),
    "constant too large": ("d.r0 = 1 << 100000", "1:12 too-large: this constant has more than 4096 bits"),
    "endless string": ("d.r0 = 'a' * 1000000000", "1:12 too-large: this constant has more than 4096 elements"),
    "void": ("n = e_submit(pkt)", "-7:9 no-value: submit() has no result (write it as a statement of its own)"),
    "inner function's own line": (
        "d.t32 = bad_inside(d.x32)",
        "-4:16 mixed-types: u8 * u64 mixes types (write the cast u64(...) around the other operand)",
    ),
    "undecorated docstring text": ("n = 'text'\nd.r0 = n", "2:12 bad-type: this is str where a u64 is wanted"),
    "nested too deep narrowing": (
        "d.t8 = u8(d.x8) + d.x16",
        "1:12 mixed-types: u8 + u16 mixes types (write the cast u16(...) around the left operand)",
    ),
    "comparison with text": ("d.flag = d.x8 == 'a'", "1:14 bad-type: u8 == str has no meaning"),
    "comparison of structures": ("a = Pair.zero()\nd.flag = a < a", "2:14 bad-type: Pair < Pair has no meaning"),
    "modulo of a be16": ("d.t16 = d.n16 % 2", "1:13 network-order: arithmetic on a be16 (write .to_host() first)"),
    "xor with none": ("d.r0 = d.x64 ^ None", "1:12 none-value: this is None where a number is wanted"),
    "augmented unknown": ("n += 1", "1:5 unbound: n has no value yet (give it one before this line)"),
    "augmented global": ("SEVEN += 1", "1:5 unbound: SEVEN has no value yet (give it one before this line)"),
    "break out of nothing known": (
        "for i in range(4):\n    k = d.x8\n    break\nd.r0 = k",
        "4:12 maybe-unbound: k has no value on some paths to here (it is in line 2) (give it one before)",
    ),
    "type as value": ("d.r0 = u64", "1:12 bad-type: this is the type u64 where a u64 is wanted"),
    "helper of a mac": (
        "helpers.xdp_store_bytes(pkt, 0, d.mac, 6)",
        "1:37 bad-type: this is MAC where a structure or an array is wanted",
    ),
    "write of a number": ("pkt.write(d.x16)", "1:15 bad-type: this is u16 where a structure is wanted"),
    "raw of host order": (
        "n = d.x16.raw()",
        "1:9 no-such-attribute: a u16 has no method raw (it is in host order already)",
    ),
    "raw of too many bits": (
        "d.n16 = be16.from_raw(d.x32)",
        "1:27 narrowing: u16 is narrower than u32 (write the cast u16(...))",
    ),
    "raw of network order": (
        "d.n16 = be16.from_raw(d.n16)",
        "1:27 network-order: a be16 is not a u16 (write .to_host())",
    ),
    "array of wrong length": ("a = array[u8, 4]((1, 2))", "1:9 bad-array: array[u8, 4] has 4 elements, not 2"),
    "annotated field": (
        "d.r0: u64 = u64(1)",
        "1:5 unsupported-syntax: only a name can be annotated (remove the annotation)",
    ),
    "index of a constant": (
        "d.r0 = PORTS[d.x8]",
        "1:12 constant-index: a constant can only be indexed by a constant (put it into an Array)",
    ),
    "index into an address": (
        "d.t8 = d.mac[d.x8 & 3]",
        "1:12 array-index: the index into a MAC is a number known here",
    ),
    "assign to a tuple": ("PORTS[0] = 1", "1:5 bad-type: this is tuple where an array or a map is wanted"),
    "assign to a module": ("bpf.other = 1", "1:5 read-only: other of module cannot be assigned in a program"),
    "missing comparison cast": (
        "d.flag = d.p64 == d.x64",
        "1:14 mixed-signedness: s64 == u64 compares across signedness (cast one of them: s64(...))",
    ),
    "key of a structure": ("d.r0 = u64(wide[Padded.zero()].a)", "1:21 bad-type: this is Padded where a u64 is wanted"),
}


def refusal(body: str, folder: Path) -> CompileError:
    prog = program(f"d = pkt.read(Data)\n{body}\nreturn XDP_PASS\n", folder, BEFORE)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    return caught.value


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_a_snippet_is_refused_at_its_place(body: str, wanted: str, tmp_path: Path):
    error = refusal(body, tmp_path)
    first = len((PRELUDE + BEFORE).splitlines()) + 4
    assert error.span is not None
    message = re.sub(r"line (\d+)", lambda found: f"line {int(found[1]) - first}", error.message)
    hint = f" ({error.hint})" if error.hint else ""
    assert f"{error.span.line - first}:{error.span.column} {error.code}: {message}{hint}" == wanted
    assert error.span.text is not None and "^" in error.render()


def test_the_table_is_broad():
    codes = {wanted.split()[1] for _, wanted in REFUSED.values()}
    assert len(REFUSED) >= 120 and len(codes) >= 40
