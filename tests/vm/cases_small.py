# ruff: noqa: E501 (rows of a table stay on one line)
"""Small programs as suites for instruction sets have them, in uBPF's spelling: memory in, r0 out.

`SMALL` are rows of (group, name, program, r0) on no memory, `ON_MEMORY` have memory too. Groups are those of RFC 9669.
Numbers are worked out by hand or by Python.
"""

from __future__ import annotations

import struct

from .cases import M32, M64, MIN32, MIN64, Case

# A frame: Ethernet, IPv4 from 192.168.1.77 to 10.1.2.3 (TTL 64, TCP), ports 45000 to 443.
FRAME = (
    bytes.fromhex("0a0b0c0d0e0f 020304050607 0800".replace(" ", ""))
    + struct.pack("!BBHHHBBH4B4B", 0x45, 0, 52, 0x1C46, 0x4000, 64, 6, 0, 192, 168, 1, 77, 10, 1, 2, 3)
    + struct.pack("!HHIIBBHHH", 45000, 443, 1, 2, 0x80, 2, 8192, 0, 0)
)
WORDS = struct.pack("<8I", 9, 4, 7, 1, 8, 2, 6, 3)

SMALL: list[tuple[str, str, str, int]] = [
    ("base32", "mov32 clears the upper half", "lddw %r0, 0x1122334455667788\nmov32 %r0, %r0", 0x55667788),
    ("base32", "mov32 of a negative number", "mov32 %r0, -1", M32),
    ("base32", "add32 wraps", "mov32 %r0, 0x7fffffff\nadd32 %r0, 1", MIN32),
    ("base32", "sub32 below zero", "mov %r0, 3\nsub32 %r0, 4", M32),
    ("base32", "and32 extends nothing", "mov %r0, -1\nand32 %r0, -16", M32 - 15),
    ("base32", "or32 drops the upper half", "lddw %r0, 0xffffffff00000000\nor32 %r0, 1", 1),
    ("base32", "xor32 of all bits", "mov32 %r0, 0x0f0f0f0f\nxor32 %r0, -1", 0xF0F0F0F0),
    ("base32", "lsh32 out of the word", "mov32 %r0, 0x80000001\nlsh32 %r0, 1", 2),
    ("base32", "lsh32 by a register beyond 31", "mov %r0, 1\nmov %r1, 33\nlsh32 %r0, %r1", 2),
    ("base32", "rsh32 sees the lower half", "lddw %r0, 0xf000000080000000\nrsh32 %r0, 31", 1),
    ("base32", "arsh32 keeps the sign", "mov32 %r0, 0x80000000\narsh32 %r0, 4", 0xF8000000),
    ("base32", "arsh32 of a positive number", "lddw %r0, 0xffffffff40000000\narsh32 %r0, 30", 1),
    ("base32", "neg32", "mov %r0, 5\nneg32 %r0", M32 - 4),
    ("base32", "movsx832", "mov %r1, 0x80\nmovsx832 %r0, %r1", M32 - 127),
    ("base32", "movsx1632", "mov %r1, 0x8000\nmovsx1632 %r0, %r1", M32 - 32767),
    ("base64", "movsx864", "mov %r1, 0x80\nmovsx864 %r0, %r1", M64 - 127),
    ("base64", "movsx1664", "mov %r1, 0xffff\nmovsx1664 %r0, %r1", M64),
    ("base64", "movsx3264", "mov32 %r1, 0x80000000\nmovsx3264 %r0, %r1", M64 - 0x7FFFFFFF),
    ("base64", "add of a negative immediate", "mov %r0, 5\nadd %r0, -7", M64 - 1),
    ("base64", "an immediate is extended", "mov %r0, -2147483648", M64 - 0x7FFFFFFF),
    ("base64", "lsh, rsh, arsh", "mov %r0, -1\nlsh %r0, 60\narsh %r0, 4\nrsh %r0, 56", 0xFF),
    ("base64", "rsh by a register beyond 63", "lddw %r0, 0x8000000000000000\nmov %r1, 127\nrsh %r0, %r1", 1),
    ("base64", "lddw of all bits", "lddw %r0, 0xffffffffffffffff\nadd %r0, 1", 0),
    ("base64", "lddw, its halves apart", "lddw %r1, 0x0000000180000000\nmov %r0, %r1\nrsh %r0, 32", 1),
    ("base32", "le16", "mov32 %r0, 0x12345678\nle16 %r0", 0x5678),
    ("base32", "be16", "mov32 %r0, 0x12345678\nbe16 %r0", 0x7856),
    ("base32", "be32", "lddw %r0, 0xaabbccdd11223344\nbe32 %r0", 0x44332211),
    ("base64", "be64", "lddw %r0, 0x0102030405060708\nbe64 %r0", 0x0807060504030201),
    ("base64", "le64", "lddw %r0, 0x0102030405060708\nle64 %r0", 0x0102030405060708),
    ("base64", "swap16", "mov32 %r0, 0x12345678\nswap16 %r0", 0x7856),
    ("base64", "swap32", "lddw %r0, 0xaabbccdd11223344\nswap32 %r0", 0x44332211),
    ("base64", "swap64", "lddw %r0, 0xaabbccdd11223344\nswap64 %r0", 0x44332211DDCCBBAA),
    ("divmul32", "mul32 of the lower halves", "lddw %r0, 0x7700000003\nmul32 %r0, 5", 15),
    ("divmul32", "div32 is unsigned", "mov %r0, -4\ndiv32 %r0, 2", 0x7FFFFFFE),
    ("divmul32", "div32 by zero", "mov %r0, 4\nmov %r1, 0\ndiv32 %r0, %r1", 0),
    ("divmul32", "mod32 by zero keeps the lower half", "lddw %r0, 0x500000007\nmov %r1, 0\nmod32 %r0, %r1", 7),
    ("divmul32", "div32 by a divisor whose lower half is zero", "mov %r0, 4\nlddw %r1, 0x100000000\ndiv32 %r0, %r1", 0),
    ("divmul32", "sdiv32", "mov %r0, -7\nsdiv32 %r0, 2", M32 - 2),
    ("divmul32", "sdiv32 that overflows", "mov32 %r0, 0x80000000\nmov %r1, -1\nsdiv32 %r0, %r1", MIN32),
    ("divmul32", "smod32 that overflows", "mov32 %r0, 0x80000000\nmov %r1, -1\nsmod32 %r0, %r1", 0),
    ("divmul32", "smod32 has the dividend's sign", "mov %r0, -7\nsmod32 %r0, 4", M32 - 2),
    ("divmul64", "mul wraps", "lddw %r0, 0x8000000000000001\nmul %r0, 3", MIN64 + 3),
    ("divmul64", "div by an immediate is unsigned", "mov %r0, 7\ndiv %r0, -1", 0),
    ("divmul64", "div by zero", "mov %r0, 7\nmov %r1, 0\ndiv %r0, %r1", 0),
    ("divmul64", "mod by zero", "mov %r0, -7\nmov %r1, 0\nmod %r0, %r1", M64 - 6),
    ("divmul64", "sdiv rounds to zero", "mov %r0, -13\nsdiv %r0, 3", M64 - 3),
    ("divmul64", "sdiv that overflows", "lddw %r0, 0x8000000000000000\nmov %r1, -1\nsdiv %r0, %r1", MIN64),
    ("divmul64", "smod that overflows", "lddw %r0, 0x8000000000000000\nmov %r1, -1\nsmod %r0, %r1", 0),
    ("divmul64", "smod by a negative number", "mov %r0, 13\nsmod %r0, -3", 1),
    ("divmul64", "sdiv by zero, smod by zero", "mov %r0, 5\nmov %r1, 0\nmov %r2, 9\nsdiv %r0, %r1\nsmod %r2, %r1\nadd %r0, %r2", 9),
    ("atomic64", "lock add", "stdw [%r10-8], 5\nmov %r1, -7\nlock add [%r10-8], %r1\nldxdw %r0, [%r10-8]", M64 - 1),
    ("atomic64", "lock fetch_add", "stdw [%r10-8], 5\nmov %r0, 7\nlock fetch_add [%r10-8], %r0\nldxdw %r1, [%r10-8]\nlsh %r1, 8\nor %r0, %r1", 0xC05),
    ("atomic64", "lock xchg", "stdw [%r10-8], 5\nmov %r0, 7\nlock xchg [%r10-8], %r0\nldxdw %r1, [%r10-8]\nlsh %r1, 8\nor %r0, %r1", 0x705),
    ("atomic64", "lock cmpxchg that fits", "stdw [%r10-8], 5\nmov %r0, 5\nmov %r1, 9\nlock cmpxchg [%r10-8], %r1\nldxdw %r1, [%r10-8]\nlsh %r1, 8\nor %r0, %r1", 0x905),
    ("atomic64", "lock cmpxchg that does not", "stdw [%r10-8], 6\nmov %r0, 5\nmov %r1, 9\nlock cmpxchg [%r10-8], %r1\nldxdw %r1, [%r10-8]\nlsh %r1, 8\nor %r0, %r1", 0x606),
    ("atomic64", "lock fetch_and, or, xor", "stdw [%r10-8], 0xff\nmov %r1, 0x3c\nlock fetch_and [%r10-8], %r1\nmov %r2, 1\nlock fetch_or [%r10-8], %r2\nmov %r0, 0xf\nlock fetch_xor [%r10-8], %r0\nldxdw %r3, [%r10-8]\nadd %r0, %r1\nadd %r0, %r2\nadd %r0, %r3", 0x3D + 0xFF + 0x3C + 0x32),
    ("atomic32", "lock add32 leaves its neighbour", "stdw [%r10-8], -1\nmov %r1, 1\nlock add32 [%r10-8], %r1\nldxdw %r0, [%r10-8]", M64 - M32),
    ("atomic32", "lock fetch_add32 gives 32 bits", "stdw [%r10-8], -1\nmov %r0, 1\nlock fetch_add32 [%r10-8], %r0", M32),
    ("atomic32", "lock xchg32", "stdw [%r10-8], 0\nmov %r0, -1\nlock xchg32 [%r10-4], %r0\nldxdw %r0, [%r10-8]", M64 - M32),
    ("atomic32", "lock cmpxchg32 compares 32 bits", "stw [%r10-8], 5\nlddw %r0, 0x7700000005\nmov %r1, 6\nlock cmpxchg32 [%r10-8], %r1\nldxw %r1, [%r10-8]\nlsh %r1, 8\nor %r0, %r1", 0x605),
    ("base64", "the stack, bytes of a word", "lddw %r1, 0x0807060504030201\nstxdw [%r10-16], %r1\nldxb %r0, [%r10-9]\nldxh %r2, [%r10-12]\nadd %r0, %r2", 8 + 0x0605),
    ("base64", "a stack of 512 bytes", "stdw [%r10-512], 7\nstdw [%r10-8], 8\nldxdw %r0, [%r10-512]\nldxdw %r1, [%r10-8]\nlsh %r0, 4\nadd %r0, %r1", 0x78),
    ("base64", "ja over an instruction", "mov %r0, 1\nja +1\nmov %r0, 2", 1),
    ("base64", "ja back", "mov %r0, 0\nja start\nend:\nadd %r0, 2\nja out\nstart:\nadd %r0, 5\nja end\nout:\nmov %r1, 0", 7),
    ("base32", "ja32", "mov %r0, 1\nja32 +1\nmov %r0, 2", 1),
    ("base64", "all signed comparisons", "mov %r1, -1\nmov %r0, 0\njsgt %r1, 0, a\nor %r0, 1\na:\njsge %r1, -1, b\nja out\nb:\nor %r0, 2\njslt %r1, 0, c\nja out\nc:\nor %r0, 4\njsle %r1, -2, out\nor %r0, 8\nout:\nmov %r2, 0", 15),
    ("base64", "all unsigned comparisons", "mov %r1, -1\nmov %r0, 0\njgt %r1, 5, a\nja out\na:\nor %r0, 1\njge %r1, -1, b\nja out\nb:\nor %r0, 2\njlt %r1, 5, out\nor %r0, 4\njle %r1, 5, out\nor %r0, 8\nout:\nmov %r2, 0", 15),
    ("base32", "comparisons of lower halves", "lddw %r1, 0x1ffffffff\nmov %r0, 0\njeq32 %r1, -1, a\nja out\na:\nor %r0, 1\njeq %r1, -1, out\nor %r0, 2\njsgt32 %r1, 0, out\nor %r0, 4\njne32 %r1, -1, out\nor %r0, 8\nout:\nmov %r2, 0", 15),
    ("base32", "jset32 and jset", "lddw %r1, 0x100000000\nmov %r2, %r1\nmov %r0, 0\njset32 %r1, %r2, out\nor %r0, 1\njset %r1, %r2, a\nja out\na:\nor %r0, 2\nout:\nmov %r3, 0", 3),
    ("base64", "a local call and what it may not change", "mov %r6, 5\nmov %r1, 4\ncall local square\nadd %r0, %r6\nexit\nsquare:\nmov %r6, %r1\nmul %r6, %r1\nmov %r0, %r6", 21),
    ("base64", "local calls in a row", "mov %r1, 1\ncall local f\nmov %r1, %r0\ncall local f\nmov %r1, %r0\ncall local f\nexit\nf:\nmov %r0, %r1\nmul %r0, 3\nadd %r0, 1", 40),
    ("base64", "a frame of its own", "stdw [%r10-8], 1\ncall local f\nldxdw %r1, [%r10-8]\nadd %r0, %r1\nexit\nf:\nstdw [%r10-8], 16\nldxdw %r0, [%r10-8]", 17),
    ("base64", "the largest prime below 100", "mov %r1, 100\nnext:\nsub %r1, 1\nmov %r2, 2\ntry:\nmov %r3, %r1\nmod %r3, %r2\njeq %r3, 0, check\nadd %r2, 1\nja try\ncheck:\njne %r2, %r1, next\nmov %r0, %r1", 97),
    ("base64", "Fibonacci number 40", "mov %r0, 0\nmov %r1, 1\nmov %r2, 40\nmore:\nmov %r3, %r0\nadd %r3, %r1\nmov %r0, %r1\nmov %r1, %r3\nsub %r2, 1\njne %r2, 0, more", 102334155),
    ("base64", "the greatest common divisor", "mov %r0, 1071\nmov %r1, 462\nmore:\njeq %r1, 0, out\nmov %r2, %r0\nmod %r2, %r1\nmov %r0, %r1\nmov %r1, %r2\nja more\nout:\nmov %r3, 0", 21),
    ("base64", "bits that are set", "lddw %r1, 0xf0f0000000000101\nmov %r0, 0\nmore:\njeq %r1, 0, out\nmov %r2, %r1\nsub %r2, 1\nand %r1, %r2\nadd %r0, 1\nja more\nout:\nmov %r3, 0", 10),
]  # fmt: skip

_CHECKSUM = sum(struct.unpack("!10H", FRAME[14:34]))
_FOLDED = ~((_CHECKSUM & 0xFFFF) + (_CHECKSUM >> 16)) & 0xFFFF

ON_MEMORY: list[tuple[str, str, str, int, bytes]] = [
    ("base64", "the destination port of a TCP segment", "ldxh %r3, [%r1+12]\nmov %r0, 0\njne %r3, 0x8, out\nldxb %r3, [%r1+23]\njne %r3, 6, out\nldxb %r3, [%r1+14]\nand %r3, 0xf\nlsh %r3, 2\njne %r3, 20, out\nldxh %r0, [%r1+36]\nbe16 %r0\nout:\nmov %r2, 0", 443, FRAME),
    ("base64", "an address in a subnet", "ldxw %r2, [%r1+26]\nbe32 %r2\nand32 %r2, 0xffffff00\nmov32 %r3, 0xc0a80100\nmov %r0, 0\njne %r2, %r3, +1\nmov %r0, 1", 1, FRAME),
    ("base64", "an address outside a subnet", "ldxw %r2, [%r1+30]\nbe32 %r2\nand32 %r2, 0xffffff00\nmov32 %r3, 0xc0a80100\nmov %r0, 0\njne %r2, %r3, +1\nmov %r0, 1", 0, FRAME),
    ("base64", "the checksum of a header", "mov %r0, 0\nmov %r3, 10\nadd %r1, 14\nmore:\nldxh %r4, [%r1]\nbe16 %r4\nadd %r0, %r4\nadd %r1, 2\nsub %r3, 1\njne %r3, 0, more\nmov %r4, %r0\nrsh %r4, 16\nand %r0, 0xffff\nadd %r0, %r4\nxor %r0, -1\nand %r0, 0xffff", _FOLDED, FRAME),
    ("base64", "two MAC addresses compared", "ldxw %r2, [%r1]\nldxw %r3, [%r1+6]\nmov %r0, 1\njne %r2, %r3, out\nldxh %r2, [%r1+4]\nldxh %r3, [%r1+10]\njne %r2, %r3, out\nmov %r0, 0\nout:\nmov %r4, 0", 1, FRAME),
    ("base64", "the largest of eight words", "mov %r0, 0\nmov %r3, 8\nmore:\nldxw %r4, [%r1]\njle %r4, %r0, +1\nmov %r0, %r4\nadd %r1, 4\nsub %r3, 1\njne %r3, 0, more", 9, WORDS),
    ("base64", "a word in memory turned round", "ldxdw %r0, [%r1]\nbe64 %r0\nstxdw [%r1], %r0\nldxb %r0, [%r1+3]", 4, WORDS),
    ("base64", "every width of load", "ldxb %r0, [%r1]\nldxh %r2, [%r1+4]\nlsh %r0, 8\nor %r0, %r2\nldxw %r2, [%r1+8]\nlsh %r0, 8\nor %r0, %r2\nldxdw %r2, [%r1+12]\nrsh %r2, 32\nlsh %r0, 8\nor %r0, %r2", 0x09040708, WORDS),
    ("base64", "every width of store", "stb [%r1], 0x11\nsth [%r1+1], 0x2233\nstw [%r1+3], 0x44556677\nldxdw %r0, [%r1]", 0x44556677_2233_11, bytes(8)),
    ("base64", "the length of a text", "mov %r0, 0\nmore:\nldxb %r3, [%r1]\njeq %r3, 0, out\nadd %r0, 1\nadd %r1, 1\njlt %r0, 11, more\nout:\nmov %r3, 0", 7, b"measure\0xyz"),
    ("base64", "r2 is the length of the memory", "mov %r0, %r2", len(FRAME), FRAME),
]  # fmt: skip


NOT_IN_THE_KERNEL = {
    "ja over an instruction": "code that is never reached",
    "ja32": "code that is never reached",
    "the largest prime below 100": "more jumps than its verifier follows",
    "the greatest common divisor": "more jumps than its verifier follows",
}
"""Programs that the kernel's verifier refuses, and why."""


def small_cases() -> list[Case]:
    """All of them, with `exit` behind each."""
    rows = [(group, name, asm, r0, b"") for group, name, asm, r0 in SMALL] + ON_MEMORY
    return [
        Case(f"{group}: {name}", f"{asm}\nexit", r0, memory, name not in NOT_IN_THE_KERNEL, _after(name, memory))
        for group, name, asm, r0, memory in rows
    ]


def _after(name: str, memory: bytes) -> bytes | None:
    """What memory holds afterwards, of the two programs that write to it."""
    if name == "a word in memory turned round":
        return memory[7::-1] + memory[8:]
    return bytes.fromhex("1133227766554400") if name == "every width of store" else None
