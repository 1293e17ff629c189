"""What the language accepts: each snippet means in the machine, and in the kernel, what it means in plain Python."""

# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compiler.support import check, packets, program

READ = "d = pkt.read(Data)\n"
END = "return XDP_PASS\n"

EXPRESSIONS = {
    "add": "d.t32 = d.x32 + d.y32; d.t16 = d.x16 + d.y16; d.t8 = d.x8 + d.y8; d.r0 = d.x64 + d.y64",
    "sub": "d.t32 = d.x32 - d.y32; d.t16 = d.x16 - d.y16; d.t8 = d.x8 - d.y8; d.r0 = d.x64 - 1",
    "mul": "d.t32 = d.x32 * d.y32; d.t16 = d.x16 * 3; d.t8 = 5 * d.x8; d.r0 = d.x64 * d.y64",
    "div": "d.t32 = d.x32 // d.y32; d.t16 = d.x16 // 10; d.t8 = d.x8 // d.y8; d.r0 = d.x64 // d.y64",
    "mod": "d.t32 = d.x32 % d.y32; d.t16 = d.x16 % 10; d.t8 = d.x8 % d.y8; d.r0 = d.x64 % d.y64",
    "div of a literal": "d.t32 = 1000 // d.x32; d.t8 = 100 % d.x8",
    "bits": "d.t32 = d.x32 & d.y32; d.t16 = d.x16 | d.y16; d.t8 = d.x8 ^ d.y8; d.r0 = ~d.x64 & 0xFF00FF00FF00",
    "shift by constants": "d.t32 = d.x32 << 3; d.t16 = d.x16 >> 5; d.t8 = d.x8 << 7; d.r0 = d.x64 >> 63",
    "shift by values": "d.t32 = d.x32 << d.y32; d.t16 = d.x16 >> d.y16; d.t8 = d.x8 << d.y8; d.r0 = d.x64 >> d.y64",
    "shift by masked values": "d.r0 = d.x64 << (d.y64 & 63); d.r1 = 1 << (d.x64 & 31)",
    "signed": "d.s0 = d.p64 + d.q64; d.q32 = d.p32 * d.q32; d.q8 = d.p8 - d.q8; d.q64 = d.p64 >> 7",
    "signed shift by values": "d.q32 = d.p32 >> d.q32; d.q8 = d.p8 << d.q8",
    "negation": "d.q32 = -d.p32; d.t32 = -d.x32; d.q8 = +d.p8; d.t8 = ~d.x8",
    "casts up": "d.r0 = u64(d.x8) + u64(d.x16) * u64(d.x32); d.s0 = s64(d.p8) + s64(d.p16)",
    "casts down": "d.t8 = u8(d.x64); d.t16 = u16(d.x32); d.q8 = s8(d.p64)",
    "casts across": "d.s0 = s64(d.x8) - s64(d.x64); d.r0 = u64(d.p8); d.t32 = u32(d.p16)",
    "widening store": "d.r0 = d.x8; d.r1 = d.x16; d.r2 = d.x32; d.s0 = d.p8; d.t32 = d.x8",
    "literals": "d.r0 = 0xFFFF_FFFF_FFFF_FFFF; d.s0 = -1; d.t8 = 255; d.t16 = ONE; d.t32 = BIG",
    "typed constants": "d.t32 = d.x32 + TYPED; d.r0 = TYPED; d.t16 = u16(TYPED + 1)",
    "constant folding": "d.r0 = (1 << 40) + 3 * 5 - 2 ** 10 // 7 % 5; d.r1 = ~0 & 0xFF; d.s0 = -7 // 2",
    "comparisons": "d.r0 = u64(d.x32 < d.y32); d.r1 = u64(d.p32 < d.q32) + u64(d.p8 >= d.q8); d.r2 = u64(d.x8 != d.y8)",
    "comparisons widen": "d.r0 = u64(d.x8 < d.x64); d.r1 = u64(d.p8 >= d.p64); d.r2 = u64(d.x16 == d.x32)",
    "comparison with literals": "d.r0 = u64(d.x8 > 200) + u64(300 > d.x8) + u64(d.x8 == 300); d.r1 = u64(d.p8 > -1)",
    "chained": "d.r0 = u64(0 < d.x8 < 100); d.r1 = u64(d.x8 <= d.y8 < 200 != d.x8); d.r2 = u64(1 < 2 < d.x8)",
    "bool store": "d.flag = d.x8 > d.y8; d.t8 = d.flag; d.r0 = d.x8 == d.y8",
    "bool operators": "d.flag = (d.x8 > 5) & (d.y8 > 5); d.t8 = (d.x8 > 5) | (d.y8 > 5); d.r0 = (d.x8 > 5) ^ (d.y8 > 5)",
    "and or not": "d.flag = d.x8 > 5 and d.y8 > 5 or not d.x16; d.t8 = not (d.x8 or d.y8)",
    "and or of values": "d.r0 = d.x64 and d.y64; d.t8 = d.x8 or d.y8; d.t16 = d.x16 and d.x16 - 1 or d.y16",
    "conditional": "d.t32 = d.x32 if d.x8 & 1 else d.y32; d.r0 = 5 if d.x8 > 100 else 6",
    "nested conditional": "d.r0 = 1 if d.x8 < 50 else 2 if d.x8 < 100 else 3",
    "in tuple": "d.flag = d.x8 in (1, 2, 7, 255); d.t8 = d.n16 in PORTS; d.t16 = d.x8 not in [0, 1, 2]",
    "in range": "d.flag = d.x8 in range(0, 200, 50)",
    "walrus": "d.r0 = (n := d.x8) + n; d.r1 = n",
    "network compare": "d.flag = d.n16 == 0x0800; d.t8 = d.n16 != d.m16; d.t16 = d.n32 > 0x7FFFFFFF; d.r0 = d.n16 < d.x16",
    "network arithmetic": "d.r0 = d.n16.to_host() + 1; d.r1 = d.n32.to_host(); d.r2 = d.n64.to_host() >> 3",
    "network store": "d.m16 = 0x1234; d.n32 = d.x32; d.n64 = d.x16; d.n16 = be16(d.x8)",
    "network copy": "d.m16 = d.n16; d.n32 = d.ip; d.ip = d.n32",
    "network truth": "d.flag = d.n16 != 0; d.t8 = 1 if d.n32 else 2",
    "address": "d.flag = d.ip == IPv4Addr('1.2.3.4'); d.ip = IPv4Addr('10.0.0.1')",
    "mac": "d.flag = d.mac == MAC('02:00:00:00:00:01'); d.mac2 = d.mac; d.t8 = d.mac[5]; d.t16 = d.mac[0]",
    "mac compare": "d.flag = d.mac != d.mac2; d.t8 = 1 if d.mac else 0",
    "mac swap": "d.mac, d.mac2 = d.mac2, d.mac",
    "mac local": "m = d.mac; d.mac = MAC('ff:ff:ff:ff:ff:ff'); d.mac2 = m",
    "ipv6": "d.flag = d.ip6 == IPv6Addr('::1'); d.t8 = d.ip6[15]; d.ip6 = IPv6Addr('2001:db8::5')",
    "bit fields": "d.r0 = u64(d.hi) * 100 + u64(d.mid) * 10 + u64(d.lo); d.r1 = d.wide; d.r2 = d.rest",
    "bit stores": "d.hi = 5; d.mid = d.x8; d.lo = d.y8; d.wide = d.x16; d.rest = 7",
    "arrays": "d.t8 = d.arr[3]; d.arr[0] = d.x8; d.words[3] = d.x32 + d.words[0]; d.r0 = len(d.arr)",
    "array index": "d.t8 = d.arr[d.x8 & 7]; d.words[d.y8 % 4] = 9; d.arr[d.x64 & 3] += 1",
    "array compare": "d.flag = d.arr == b'\\0\\1\\2\\3\\4\\5\\6\\7'; d.t8 = d.arr == d.arr",
    "min max": "d.t32 = min(d.x32, d.y32, u32(1000)); d.q32 = max(d.p32, d.q32); d.t8 = min(d.x8, d.y8)",
    "enum": "d.flag = d.x8 == Kind.HIGH; d.t8 = Kind.LOW; d.r0 = d.x64 + Kind.HIGH",
    "sizes": "d.r0 = sizeof(Pair); d.r1 = offsetof(Padded, 'half'); d.r2 = len(PORTS)",
    "length": "d.r0 = len(pkt); d.t32 = len(pkt) - 14; d.flag = len(pkt) > 100; d.r1 = len(pkt) * 2",
    "length in narrow places": "d.t16 = (u16(len(pkt)) ^ d.x16) >> 2; d.t8 = u8(len(pkt) - 14); d.r0 = u64(len(pkt) & 7)",
    "large literals": "d.r0 = d.x64 & 0xFFFF_0000_FFFF_0000; d.flag = d.x64 >= 0xFFFF_FFFF_FFFF_FFFF; d.r1 = d.x64 // (1 << 63)",
    "context": "d.t32 = pkt.ingress_ifindex * 0; d.r0 = pkt.rx_queue_index",
    "augmented": "d.t32 += 1; d.x32 -= d.y32; d.x8 *= 3; d.x16 //= 3; d.x64 %= 7; d.y8 <<= 1; d.y16 >>= 2",
    "augmented bits": "d.x8 &= 15; d.y8 |= 0x80; d.x16 ^= d.y16",
    "swap": "d.x8, d.y8 = d.y8, d.x8; d.x32, d.y32, d.t32 = d.y32, d.t32, d.x32",
    "several targets": "d.x8 = d.y8 = 7; a = b = d.x16; d.r0 = a; d.r1 = b",
    "unpack": "a, (b, c) = d.x8, (d.x16, d.x32); d.r0 = a; d.r1 = b; d.r2 = c",
    "constant unpack": "a, b, c = PORTS; d.r0 = a * b + c",
    "parenthesised tuple index": "d.r0 = (d.x8, d.y8)[1]; d.r1 = PORTS[2]; d.r2 = PORTS[-1]",
    "ints of if": "n = 3 if d.x8 else 4; d.t32 = d.x32 * n; d.r0 = n << 2; d.s0 = -n; d.r1 = n // 2 + n % 3 + (n & 1)",
    "name of a type": "T = u32; d.t32 = T(d.x64)",
}

STATEMENTS = {
    "if elif else": """
        if d.x8 < 50:
            d.r0 = 1
        elif d.x8 < 100:
            d.r0 = 2
        else:
            d.r0 = 3
        """,
    "if constant": """
        if DEBUG:
            d.r0 = undefined_name
        elif not DEBUG and ONE == 1:
            d.r0 = 2
        else:
            d.nothing = 3
        """,
    "while": """
        n = u32(0)
        total = u64(0)
        while n < 10:
            total += u64(d.x8)
            n += 1
        else:
            total += 1000
        d.r0 = total
        """,
    "while break": """
        n = u32(0)
        while True:
            if n >= 20 or u32(d.x8) == n:
                break
            n += 1
            if n == 5:
                continue
            d.r0 += 3
        else:
            d.r1 = 7
        d.r2 = n
        """,
    "for": """
        for i in range(10):
            d.r0 += i
            if i == d.x8:
                break
        else:
            d.r1 = 99
        """,
    "for start stop step": """
        for i in range(3, 30, 4):
            d.r0 += d.x64 * i
        for i in range(10, 0, -3):
            d.r1 = d.r1 * 3 + i
        for i in range(5, 5):
            d.r2 = 1
        else:
            d.r2 = 2
        """,
    "for runtime end": """
        for i in range(d.x8 & 15):
            d.r0 += i
        for i in range(d.y8 & 3, 8):
            d.r1 = d.r1 * 5 + i
        """,
    "for continue": """
        for i in range(8):
            if i % 2 == 1:
                continue
            d.r0 += d.arr[i]
        """.replace("d.r0 += d.arr[i]", "d.r0 += u64(d.arr[i])"),
    "nested loops": """
        for i in range(4):
            for j in range(i):
                if j == 2:
                    break
                d.r0 += i * j + 1
            else:
                d.r1 += 1
        """,
    "loop variable rebound": """
        for i in range(5):
            i = i * 2
            d.r0 += i
        """,
    "for over a tuple": """
        for port in PORTS:
            if d.n16 == port:
                d.r0 = port
                break
        else:
            d.r0 = 1
        for value in (d.x8, d.y8, u8(3)):
            if value > 100:
                continue
            d.r1 += u64(value)
        """,
    "for over an array": """
        for byte in d.arr:
            if byte == 7:
                continue
            d.r0 = d.r0 * 3 + u64(byte)
            d.arr[7] = 1
        for word in d.words:
            d.t32 ^= word
        """,
    "match": """
        match d.x8:
            case 0:
                d.r0 = 1
            case 1 | 2 | 7:
                d.r0 = 2
            case Kind.HIGH:
                d.r0 = 3
            case n if n > 100:
                d.r0 = u64(n)
            case _:
                d.r0 = 5
        """,
    "match without else": """
        match d.n16:
            case 80 | 443:
                d.r0 = 1
            case (53 | 5353) as port:
                d.r0 = u64(port.to_host())
        """,
    "match true": """
        match d.x8 > d.y8:
            case True:
                d.r0 = 1
            case False:
                d.r0 = 2
        """,
    "early return": """
        if d.x8 > 200:
            return XDP_TX
        if d.x8 > 100:
            return XDP_DROP
        """,
    "verdict variable": """
        verdict = XDP_PASS
        if d.x8 > 100:
            verdict = XDP_DROP
        elif d.x8 == 7:
            verdict = XDP_TX
        return verdict
        """,
    "verdict conditional": """
        return XDP_TX if d.x8 & 1 else XDP_DROP
        """,
    "rebinding to another type": """
        h = d.x8
        d.r0 = h
        h = d.x64
        d.r1 = h
        """,
    "locals": """
        n = u64(0)
        m: u64 = u64(5)
        pair = Pair(a=d.x32, b=7)
        pair.a += 1
        other = pair.copy()
        other.b = pair.a
        d.r0 = u64(pair.a) + u64(pair.b) * 3 + u64(other.b) + n + m
        d.flag = pair == other
        """,
    "struct defaults": """
        p = Padded.zero()
        p.large = d.x64
        p.half = d.x16
        d.r0 = p.large + u64(p.small) + u64(p.half)
        n = Nested.zero()
        n.first.b = 5
        n.tail[2] = d.x16
        n.first = Pair(a=1, b=d.y32)
        d.r1 = u64(n.first.a) + u64(n.first.b) + u64(n.tail[2])
        """,
    "pass and docstring": """
        "not a docstring"
        pass
        ...
        """,
    "annotation alone": """
        x: u32
        x = d.x32
        d.r0 = x
        """,
    "unreachable": """
        return XDP_TX
        d.r0 = 1
        """,
    "array local": """
        a = array[u16, 4]((1, 2, 3, 4))
        a[2] = d.x16
        b = array[u8, 8](b"abcdefgh")
        b[d.x8 & 7] = 1
        for i in range(4):
            d.r0 += u64(a[i])
        for i in range(8):
            d.r1 = d.r1 * 31 + u64(b[i])
        """,
    "narrowing by comparison": """
        i = d.x8
        if i < 8:
            d.r0 = d.arr[i]
        """,
    "narrowing on both sides": """
        i = d.p32
        if 0 <= i < 8:
            d.r0 = u64(d.arr[i])
            local = array[u16, 4]((5, 6, 7, 8))
            if 4 > i:
                d.r1 = local[i]
        n = d.y8
        while n < 8:
            d.arr[n] += 1
            n += 1
        """,
    "peek": """
        more = pkt.peek(Pair)
        if more is not None:
            d.r0 = more.a
            again = pkt.read(Pair)
            again.b = 5
            if (byte := pkt.peek(u8)) is not None:
                d.r1 = byte
        else:
            d.r0 = 77
        """,
    "peek truth": """
        if not (more := pkt.peek(Pair)):
            return XDP_TX
        d.r0 = more.a
        """,
    "peek both ways": """
        more = pkt.peek(u32)
        if more is None or more > 100:
            d.r0 = 1
        elif more < 50 and more is not None:
            d.r0 = more
        """,
    "read scalars": """
        a = pkt.read(u8)
        b = pkt.read(be16)
        c = pkt.read(u32)
        m = pkt.read(MAC)
        d.r0 = u64(a) + u64(b.to_host()) + u64(c)
        d.mac = m
        """,
    "read in a loop": """
        for i in range(6):
            d.r0 = d.r0 * 7 + u64(pkt.read(u8))
        """,
    "read in a while": """
        n = u32(0)
        while n < 5:
            byte = pkt.read(u8)
            if byte == 0:
                break
            d.r0 += u64(byte)
            n += 1
        """,
}

FUNCTIONS = {
    "simple": ("def twice(n: u32) -> u32:\n    return n * 2\n", "d.t32 = twice(d.x32) + twice(5)"),
    "widening": ("def wide(n: u64) -> u64:\n    return n * n\n", "d.r0 = wide(d.x32) + wide(d.x8)"),
    "result widens": ("def small(n: u8) -> u32:\n    return n\n", "d.t32 = small(d.x8) * 1000"),
    "early returns": (
        (
            "def grade(n: u8) -> u32:\n    if n > 200:\n        return u32(3)\n    for i in range(10):\n"
            "        if n == i:\n            return u32(i)\n    return u32(n)\n"
        ),
        "d.t32 = grade(d.x8); d.r0 = grade(7)",
    ),
    "procedures": (
        "def note(d: Data, n: u64):\n    d.r0 += n\n    if n > 5:\n        return\n    d.r1 = n\n",
        "note(d, d.x64); note(d, u64(3))",
    ),
    "defaults and keywords": (
        "def mix(a: u32, b: u32 = u32(3), *, c: u32 = u32(1)) -> u32:\n    return a * 7 + b * 5 + c\n",
        "d.t32 = mix(d.x32); d.r0 = mix(d.x32, c=d.y32); d.r1 = mix(b=u32(1), a=u32(2))",
    ),
    "unannotated": ("def plus(a, b):\n    return a + b\n", "d.t32 = plus(d.x32, d.y32); d.t8 = plus(d.x8, 1)"),
    "packet argument": (
        "def skip(pkt: Packet) -> u8:\n    return pkt.read(u8)\n",
        "d.r0 = skip(pkt); d.r1 = skip(pkt)",
    ),
    "calls calls": (
        "def one(n: u64) -> u64:\n    return n + 1\ndef two(n: u64) -> u64:\n    return one(one(n))\n",
        "d.r0 = two(d.x64) + one(two(d.y64))",
    ),
    "bool result": (
        "def odd(n: u32) -> bool:\n    return n & 1 == 1\n",
        "d.flag = odd(d.x32)\nif odd(d.y32) and not odd(d.x32):\n    d.r0 = 1",
    ),
    "methods and properties": (
        (
            "class P(Struct):\n    x: u32\n    y: u32\n    SCALE = 10\n    @property\n    def total(self) -> u32:\n"
            "        return self.x + self.y\n    def grow(self, by: u32):\n        self.x += by * self.SCALE\n"
            "    @staticmethod\n    def unit() -> u32:\n        return u32(4)\n"
        ),
        "p = P(x=d.x32, y=d.y32)\np.grow(u32(2))\nd.t32 = p.total + p.unit() + P.unit()",
    ),
    "struct result": (
        "def make(a: u32) -> Pair:\n    p = Pair(a=a, b=u32(2))\n    p.a += 1\n    return p\n",
        "p = make(d.x32)\nd.r0 = u64(p.a) + u64(p.b)",
    ),
    "optional result": (
        "def look(pkt: Packet):\n    return pkt.peek(u32)\n",
        "v = look(pkt)\nif v is not None:\n    d.t32 = v",
    ),
    "checksums": (
        "",
        "d.m16 = csum_replace2(d.m16, d.n16, be16(d.x16))\nd.n16 = csum_replace4(d.n16, d.n32, d.ip)",
    ),
    "closures": (
        "def maker():\n    step = 5\n    def inner(n: u32) -> u32:\n        return n + step\n    return inner\nadder = maker()\n",
        "d.t32 = adder(d.x32)",
    ),
}


def _cases(table: dict[str, str]) -> list[object]:
    import textwrap

    return [
        pytest.param(textwrap.dedent(body).strip().replace("; ", "\n") + "\n", id=name) for name, body in table.items()
    ]


@pytest.mark.kernel
@pytest.mark.parametrize("body", _cases(EXPRESSIONS))
def test_an_expression_means_the_same_everywhere(body: str, tmp_path: Path):
    check(program(READ + body + END, tmp_path), packets(), kernel=True)


@pytest.mark.kernel
@pytest.mark.parametrize("body", _cases(STATEMENTS))
def test_a_statement_means_the_same_everywhere(body: str, tmp_path: Path):
    check(program(READ + body + END, tmp_path), packets(), kernel=True)


@pytest.mark.kernel
@pytest.mark.parametrize(("before", "body"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_is_inlined(before: str, body: str, tmp_path: Path):
    check(program(READ + body.replace("; ", "\n") + "\n" + END, tmp_path, before), packets(), kernel=True)
