"""The conformance table: what each instruction does, in assembly, with memory in and r0 (or a fault) out.

Numbers are written by hand from RFC 9669. `ALU`, `JUMPS` and `ATOMICS` are rows of operands that become one program
with a register and, where the operand fits, one with an immediate; `PROGRAMS` are whole programs; `FAULTS` stop with a
fault.
"""

from __future__ import annotations

from dataclasses import dataclass

M64 = 0xFFFF_FFFF_FFFF_FFFF
M32 = 0xFFFF_FFFF
MIN64 = 0x8000_0000_0000_0000
MAX64 = 0x7FFF_FFFF_FFFF_FFFF
MIN32 = 0x8000_0000
MAX32 = 0x7FFF_FFFF
MIXED = 0x1122_3344_8566_7788


@dataclass(frozen=True)
class Case:
    """`kernel` is False where the kernel's verifier refuses what the instruction set allows."""

    name: str
    asm: str
    expected: int
    memory: bytes = b""
    kernel: bool = True
    memory_after: bytes | None = None


# operation, width, a, b, result
ALU: list[tuple[str, int, int, int, int]] = [
    ("+=", 64, 1, 2, 3),
    ("+=", 64, M64, 1, 0),
    ("+=", 64, MAX64, 1, MIN64),
    ("+=", 64, 5, M64, 4),
    ("+=", 32, M64, 1, 0),
    ("+=", 32, MIXED, 0x10, 0x8566_7798),
    ("+=", 32, MAX32, 1, MIN32),
    ("-=", 64, 3, 5, M64 - 1),
    ("-=", 64, 0, MIN64, MIN64),
    ("-=", 64, 7, M64, 8),
    ("-=", 64, MIN64, 1, MAX64),
    ("-=", 32, 0, 1, M32),
    ("-=", 32, MIXED, 0x8566_7788, 0),
    ("-=", 32, M64, M64, 0),
    ("*=", 64, 0x1_0000_0001, 0x1_0000_0001, 0x2_0000_0001),
    ("*=", 64, M64, M64, 1),
    ("*=", 64, MIN64, 2, 0),
    ("*=", 64, MIXED, 0, 0),
    ("*=", 32, M64, M64, 1),
    ("*=", 32, 0x1_0000, 0x1_0000, 0),
    ("*=", 32, 0x8000_0001, 3, 0x8000_0003),
    ("/=", 64, 7, 2, 3),
    ("/=", 64, M64, 2, MAX64),
    ("/=", 64, 9, 0, 0),
    ("/=", 64, 9, M64, 0),
    ("/=", 32, M64, 2, MAX32),
    ("/=", 32, MIXED, M64, 0),
    ("/=", 32, M64, M64, 1),
    ("/=", 32, MIXED, 0, 0),
    ("/=", 32, MIXED, 0x1_0000_0001, 0x8566_7788),
    ("%=", 64, 7, 4, 3),
    ("%=", 64, MIXED, 0, MIXED),
    ("%=", 64, M64, 10, 5),
    ("%=", 64, MIN64, M64, MIN64),
    ("%=", 32, M64, 10, 5),
    ("%=", 32, MIXED, M64, 0x8566_7788),
    ("%=", 32, MIXED, 1, 0),
    ("%=", 32, MIXED, 0, 0x8566_7788),
    ("%=", 32, MIXED, 0x7_0000_0010, 8),
    ("s/=", 64, M64 - 6, 2, M64 - 2),  # -7 / 2 == -3
    ("s/=", 64, 7, M64 - 1, M64 - 2),  # 7 / -2 == -3
    ("s/=", 64, MIN64, M64, MIN64),
    ("s/=", 64, 7, 0, 0),
    ("s/=", 32, M32 - 6, 2, M32 - 2),
    ("s/=", 32, MIN32, M64, MIN32),
    ("s/=", 32, 7, M64 - 1, M32 - 2),  # 7 / -2 == -3
    ("s/=", 32, MIXED, 0, 0),
    ("s%=", 64, M64 - 6, 2, M64),  # -7 % 2 == -1
    ("s%=", 64, 7, M64 - 1, 1),
    ("s%=", 64, MIN64, M64, 0),
    ("s%=", 64, M64 - 6, 0, M64 - 6),
    ("s%=", 32, M32 - 6, 3, M32),
    ("s%=", 32, MIN32, M64, 0),
    ("s%=", 32, 7, M64 - 1, 1),
    ("s%=", 32, MIXED, 0, 0x8566_7788),
    ("|=", 64, 0xF0, 0x0F, 0xFF),
    ("|=", 64, 0, M64, M64),
    ("|=", 64, MIN64, 1, MIN64 | 1),
    ("|=", 32, MIN32, 1, 0x8000_0001),
    ("|=", 32, M64, 0, M32),
    ("|=", 32, MIXED, 0x70, 0x8566_77F8),
    ("|=", 32, 0, M64, M32),
    ("&=", 64, MIXED, M64, MIXED),
    ("&=", 64, M64, 0x8000_0000, 0x8000_0000),
    ("&=", 64, MIXED, 0xFF, 0x88),
    ("&=", 64, M64, -2 & M64, M64 - 1),
    ("&=", 64, MIXED, 0, 0),
    ("&=", 32, MIN32, MIN32, MIN32),
    ("&=", 32, M64, 0xFFFF, 0xFFFF),
    ("&=", 32, MIXED, M64, 0x8566_7788),
    ("^=", 64, M64, M64, 0),
    ("^=", 64, MIXED, M64, MIXED ^ M64),
    ("^=", 64, MIN64, 1, MIN64 | 1),
    ("^=", 32, MIN32, 1, 0x8000_0001),
    ("^=", 32, MIXED, M64, 0x7A99_8877),
    ("^=", 32, M64, M32, 0),
    ("<<=", 64, 1, 63, MIN64),
    ("<<=", 64, MIXED, 64, MIXED),
    ("<<=", 64, 1, 65, 2),
    ("<<=", 64, MIXED, 0, MIXED),
    ("<<=", 64, MIXED, 32, 0x8566_7788_0000_0000),
    ("<<=", 32, MIXED, 4, 0x5667_7880),
    ("<<=", 32, 1, 32, 1),
    ("<<=", 32, M64, 31, MIN32),
    ("<<=", 32, MIXED, 0, 0x8566_7788),
    (">>=", 64, MIN64, 63, 1),
    (">>=", 64, MIXED, 64, MIXED),
    (">>=", 64, M64, 0x101, MAX64),
    (">>=", 64, MIXED, 32, 0x1122_3344),
    (">>=", 64, MIXED, 0, MIXED),
    (">>=", 32, M64, 4, 0x0FFF_FFFF),
    (">>=", 32, MIXED, 32, 0x8566_7788),
    (">>=", 32, MIXED, 31, 1),
    (">>=", 32, MIXED, 0, 0x8566_7788),
    ("s>>=", 64, MIN64, 63, M64),
    ("s>>=", 64, MIXED, 8, MIXED >> 8),
    ("s>>=", 64, M64 - 1, 65, M64),
    ("s>>=", 64, MAX64, 62, 1),
    ("s>>=", 32, MIXED, 4, 0xF856_6778),
    ("s>>=", 32, MAX32, 30, 1),
    ("s>>=", 32, MIN32, 32, MIN32),
    ("s>>=", 32, MIN32, 31, M32),
    ("=", 64, 1, M64, M64),
    ("=", 64, 1, MIN64, MIN64),
    ("=", 64, M64, 5, 5),
    ("=", 64, 0, 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_8000_0000),
    ("=", 32, M64, M64, M32),
    ("=", 32, MIXED, MIN32, MIN32),
    ("=", 32, MIXED, 5, 5),
]

# symbol, width, a, b, whether the jump is taken
JUMPS: list[tuple[str, int, int, int, bool]] = [
    ("==", 64, 5, 5, True),
    ("==", 64, 0x1_0000_0005, 5, False),
    ("==", 64, M64, M64, True),
    ("==", 32, 0x1_0000_0005, 5, True),
    ("==", 32, M64, M32, True),
    ("==", 32, 4, 5, False),
    ("!=", 64, 5, 5, False),
    ("!=", 64, M64, MAX64, True),
    ("!=", 64, 0, M64, True),
    ("!=", 64, 0x1_0000_0005, 5, True),
    ("!=", 32, 0x1_0000_0005, 5, False),
    ("!=", 32, M64, M32, False),
    ("!=", 32, 4, 5, True),
    (">", 64, M64, 1, True),
    (">", 64, 1, M64, False),
    (">", 64, 5, 5, False),
    (">", 32, 0x1_0000_0001, 1, False),
    (">", 32, M64, 1, True),
    (">", 32, 1, M64, False),
    (">=", 64, 5, 5, True),
    (">=", 64, 4, 5, False),
    (">=", 64, MIN64, MAX64, True),
    (">=", 64, 0, 0, True),
    (">=", 64, MAX64, MAX32, True),
    (">=", 32, 0x7_0000_0004, 5, False),
    (">=", 32, M64, M64, True),
    (">=", 32, MIN32, MAX32, True),
    ("<", 64, 4, 5, True),
    ("<", 64, 5, 5, False),
    ("<", 64, 1, M64, True),
    ("<", 32, 0x7_0000_0004, 5, True),
    ("<", 32, M64, 5, False),
    ("<", 32, 5, 5, False),
    ("<=", 64, 5, 5, True),
    ("<=", 64, M64, 5, False),
    ("<=", 64, MAX64, MIN64, True),
    ("<=", 64, MIN64, 0, False),
    ("<=", 32, 0x7_0000_0005, 5, True),
    ("<=", 32, 6, 5, False),
    ("<=", 32, MAX32, MIN32, True),
    ("&", 64, 0xF0, 0x10, True),
    ("&", 64, 0xF0, 0x0F, False),
    ("&", 64, MIN64, M64, True),
    ("&", 32, 0xF_0000_0000, M64, False),
    ("&", 32, MIN32, M64, True),
    ("&", 32, 3, 4, False),
    ("s>", 64, 1, M64, True),
    ("s>", 64, M64, 1, False),
    ("s>", 64, MIN64, MAX64, False),
    ("s>", 64, 0, M64, True),
    ("s>", 32, 1, M32, True),
    ("s>", 32, MAX32, MIN32, True),
    ("s>", 32, 5, 5, False),
    ("s>=", 64, M64, M64, True),
    ("s>=", 64, MIN64, 0, False),
    ("s>=", 64, 0, M64, True),
    ("s>=", 32, MIN32, 0, False),
    ("s>=", 32, 0x1_0000_0000, 0, True),
    ("s>=", 32, 0, M64, True),
    ("s<", 64, M64, 0, True),
    ("s<", 64, 0, M64, False),
    ("s<", 64, 5, 5, False),
    ("s<", 32, 0x8000_0000, 0, True),
    ("s<", 32, 0x1_7FFF_FFFF, MIN32, False),
    ("s<", 32, M64, 0, True),
    ("s<=", 64, M64, M64, True),
    ("s<=", 64, 0, M64, False),
    ("s<=", 64, MIN64, MAX64, True),
    ("s<=", 64, M64, 0, True),
    ("s<=", 32, MIN32, MAX32, True),
    ("s<=", 32, 0xF_0000_0001, 0, False),
    ("s<=", 32, 5, 5, True),
]

# statement over `*(uN *)(r10 -8)` with operand r1, width, before, operand, after, r1 afterwards (r0 for cmpxchg)
ATOMICS: list[tuple[str, int, int, int, int, int]] = [
    ("lock *(u64 *)(r10 -8) += r1", 64, 1, 2, 3, 2),
    ("lock *(u64 *)(r10 -8) += r1", 64, M64, 1, 0, 1),
    ("lock *(u32 *)(r10 -8) += r1", 32, MIXED, M64, 0x1122_3344_8566_7787, M64),
    ("lock *(u32 *)(r10 -8) += r1", 32, M32, 1, 0, 1),
    ("lock *(u64 *)(r10 -8) += r1", 64, MIN64, MIN64, 0, MIN64),
    ("lock *(u32 *)(r10 -8) += r1", 32, MAX32, 1, MIN32, 1),
    ("lock *(u64 *)(r10 -8) |= r1", 64, MIN64, 1, MIN64 | 1, 1),
    ("lock *(u32 *)(r10 -8) |= r1", 32, MIN64, MIN32, MIN64 | MIN32, MIN32),
    ("lock *(u64 *)(r10 -8) &= r1", 64, 0, M64, 0, M64),
    ("lock *(u32 *)(r10 -8) &= r1", 32, M64, MIN64 | MIN32, 0xFFFF_FFFF_8000_0000, MIN64 | MIN32),
    ("lock *(u64 *)(r10 -8) ^= r1", 64, MIN64, MIN64 | 1, 1, MIN64 | 1),
    ("lock *(u32 *)(r10 -8) ^= r1", 32, MIN64, MIN64, MIN64, MIN64),
    ("r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)", 64, MIN64, MIN64, 0, MIN64),
    ("w1 = atomic_fetch_add((u32 *)(r10 -8), w1)", 32, MIN32, MIN32, 0, MIN32),
    ("r1 = atomic64_fetch_or((u64 *)(r10 -8), r1)", 64, MIN64, 1, MIN64 | 1, MIN64),
    ("w1 = atomic_fetch_or((u32 *)(r10 -8), w1)", 32, MIN64, MIN32, MIN64 | MIN32, 0),
    ("r1 = atomic64_fetch_and((u64 *)(r10 -8), r1)", 64, MIN64 | 1, MIN64, MIN64, MIN64 | 1),
    ("w1 = atomic_fetch_and((u32 *)(r10 -8), w1)", 32, M64, MIN32, 0xFFFF_FFFF_8000_0000, M32),
    ("r1 = atomic64_fetch_xor((u64 *)(r10 -8), r1)", 64, M64, 1, M64 - 1, M64),
    ("w1 = atomic_fetch_xor((u32 *)(r10 -8), w1)", 32, MIXED, 0, MIXED, 0x8566_7788),
    ("r1 = atomic64_xchg((u64 *)(r10 -8), r1)", 64, M64, MIN64, MIN64, M64),
    ("w1 = atomic_xchg((u32 *)(r10 -8), w1)", 32, MIN64, MIN64 | 1, MIN64 | 1, 0),
    ("lock *(u64 *)(r10 -8) |= r1", 64, 0xF0, 0x0F, 0xFF, 0x0F),
    ("lock *(u64 *)(r10 -8) |= r1", 64, 0, M64, M64, M64),
    ("lock *(u32 *)(r10 -8) |= r1", 32, MIXED, 0xFFF0_0000_0070, 0x1122_3344_8566_77F8, 0xFFF0_0000_0070),
    ("lock *(u32 *)(r10 -8) |= r1", 32, 1, 2, 3, 2),
    ("lock *(u64 *)(r10 -8) &= r1", 64, MIXED, 0xFF, 0x88, 0xFF),
    ("lock *(u64 *)(r10 -8) &= r1", 64, M64, MIN64, MIN64, MIN64),
    ("lock *(u32 *)(r10 -8) &= r1", 32, MIXED, 0xFF, 0x1122_3344_0000_0088, 0xFF),
    ("lock *(u32 *)(r10 -8) &= r1", 32, M64, 0, 0xFFFF_FFFF_0000_0000, 0),
    ("lock *(u64 *)(r10 -8) ^= r1", 64, MIXED, MIXED, 0, MIXED),
    ("lock *(u64 *)(r10 -8) ^= r1", 64, 5, M64, M64 - 5, M64),
    ("lock *(u32 *)(r10 -8) ^= r1", 32, M64, M64, 0xFFFF_FFFF_0000_0000, M64),
    ("lock *(u32 *)(r10 -8) ^= r1", 32, 5, 1, 4, 1),
    ("r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)", 64, M64, 2, 1, M64),
    ("r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)", 64, 5, 0, 5, 5),
    ("w1 = atomic_fetch_add((u32 *)(r10 -8), w1)", 32, MIXED, M64, 0x1122_3344_8566_7787, 0x8566_7788),
    ("w1 = atomic_fetch_add((u32 *)(r10 -8), w1)", 32, M32, 1, 0, M32),
    ("r1 = atomic64_fetch_or((u64 *)(r10 -8), r1)", 64, 0xF0, 0x0F, 0xFF, 0xF0),
    ("r1 = atomic64_fetch_or((u64 *)(r10 -8), r1)", 64, M64, 0, M64, M64),
    ("w1 = atomic_fetch_or((u32 *)(r10 -8), w1)", 32, MIXED, 0x70, 0x1122_3344_8566_77F8, 0x8566_7788),
    ("w1 = atomic_fetch_or((u32 *)(r10 -8), w1)", 32, 0, M64, M32, 0),
    ("r1 = atomic64_fetch_and((u64 *)(r10 -8), r1)", 64, MIXED, 0xFF, 0x88, MIXED),
    ("r1 = atomic64_fetch_and((u64 *)(r10 -8), r1)", 64, M64, 0, 0, M64),
    ("w1 = atomic_fetch_and((u32 *)(r10 -8), w1)", 32, MIXED, 0xFF, 0x1122_3344_0000_0088, 0x8566_7788),
    ("w1 = atomic_fetch_and((u32 *)(r10 -8), w1)", 32, M64, M64, M64, M32),
    ("r1 = atomic64_fetch_xor((u64 *)(r10 -8), r1)", 64, MIXED, MIXED, 0, MIXED),
    ("r1 = atomic64_fetch_xor((u64 *)(r10 -8), r1)", 64, 1, 3, 2, 1),
    ("w1 = atomic_fetch_xor((u32 *)(r10 -8), w1)", 32, M64, M64, 0xFFFF_FFFF_0000_0000, M32),
    ("w1 = atomic_fetch_xor((u32 *)(r10 -8), w1)", 32, 1, 3, 2, 1),
    ("r1 = atomic64_xchg((u64 *)(r10 -8), r1)", 64, MIXED, M64, M64, MIXED),
    ("r1 = atomic64_xchg((u64 *)(r10 -8), r1)", 64, 0, 1, 1, 0),
    ("w1 = atomic_xchg((u32 *)(r10 -8), w1)", 32, MIXED, M64, 0x1122_3344_FFFF_FFFF, 0x8566_7788),
    ("w1 = atomic_xchg((u32 *)(r10 -8), w1)", 32, M64, 0, 0xFFFF_FFFF_0000_0000, M32),
]

# width, before, r0 (expected), operand, after, r0 afterwards
COMPARE_EXCHANGES: list[tuple[int, int, int, int, int, int]] = [
    (64, 5, 5, 9, 9, 5),
    (64, 5, 6, 9, 5, 5),
    (64, 0x1_0000_0005, 5, 9, 0x1_0000_0005, 0x1_0000_0005),
    (32, MIXED, 0x8566_7788, M64, 0x1122_3344_FFFF_FFFF, 0x8566_7788),
    (32, MIXED, 0x7_8566_7788, 1, 0x1122_3344_0000_0001, 0x8566_7788),
    (32, 5, 6, 9, 5, 5),
]

_MEMORY = bytes.fromhex("8182838485868788 7172737475767778".replace(" ", ""))

PROGRAMS: list[Case] = [
    Case("neg64 of 1", "r0 = 1\nr0 = -r0\nexit", M64),
    Case("neg64 of the most negative", f"r0 = {MIN64:#x} ll\nr0 = -r0\nexit", MIN64),
    Case("neg64 of 0", "r0 = 0\nr0 = -r0\nexit", 0),
    Case("neg32 drops the upper half", f"r0 = {MIXED:#x} ll\nw0 = -w0\nexit", 0x7A99_8878),
    Case("neg32 of the most negative", f"r0 = {MIN32:#x} ll\nw0 = -w0\nexit", MIN32),
    Case("neg32 of 1", "r0 = 1\nw0 = -w0\nexit", M32),
    Case("movsx64 8 negative", "r1 = 0x1280\nr0 = (s8)r1\nexit", M64 - 127),
    Case("movsx64 8 positive", "r1 = 0x127f\nr0 = (s8)r1\nexit", 127),
    Case("movsx64 8 of zero below set bits", f"r1 = {M64 - 0xFF:#x} ll\nr0 = (s8)r1\nexit", 0),
    Case("movsx64 16 negative", "r1 = 0x18000\nr0 = (s16)r1\nexit", M64 - 0x7FFF),
    Case("movsx64 16 positive", "r1 = 0x17fff\nr0 = (s16)r1\nexit", 0x7FFF),
    Case("movsx64 16 of zero below set bits", f"r1 = {M64 - 0xFFFF:#x} ll\nr0 = (s16)r1\nexit", 0),
    Case("movsx64 32 negative", f"r1 = {MIXED:#x} ll\nr0 = (s32)r1\nexit", 0xFFFF_FFFF_8566_7788),
    Case("movsx64 32 positive", "r1 = 0x80000007fffffff ll\nr0 = (s32)r1\nexit", MAX32),
    Case("movsx64 32 of minus one", f"r1 = {M32:#x} ll\nr0 = (s32)r1\nexit", M64),
    Case("movsx32 8 negative", "r1 = 0x80\nw0 = (s8)w1\nexit", M32 - 127),
    Case("movsx32 8 positive", f"r0 = {M64:#x} ll\nr1 = 0x17f\nw0 = (s8)w1\nexit", 127),
    Case("movsx32 8 of zero below set bits", f"r1 = {M64 - 0xFF:#x} ll\nw0 = (s8)w1\nexit", 0),
    Case("movsx32 16 negative", "r1 = 0x8001\nw0 = (s16)w1\nexit", 0xFFFF_8001),
    Case("movsx32 16 of zero below set bits", f"r1 = {M64 - 0xFFFF:#x} ll\nw0 = (s16)w1\nexit", 0),
    Case("movsx32 16 positive", "r1 = 0x17001\nw0 = (s16)w1\nexit", 0x7001),
    *(
        Case(f"{word} of {value:#x}", f"r0 = {value:#x} ll\nr0 = {word} r0\nexit", expected)
        for word, value, expected in [
            ("le16", MIXED, 0x7788),
            ("le16", M64, 0xFFFF),
            ("le32", MIXED, 0x8566_7788),
            ("le32", M64, M32),
            ("le64", MIXED, MIXED),
            ("le64", M64, M64),
            ("le16", 0x1_0000, 0),
            ("le32", 1 << 32, 0),
            ("le64", MIN64, MIN64),
            ("be16", MIXED, 0x8877),
            ("be16", 0xFF, 0xFF00),
            ("be32", MIXED, 0x8877_6685),
            ("be32", 0xFF, 0xFF00_0000),
            ("be64", MIXED, 0x8877_6685_4433_2211),
            ("be64", 0xFF, 0xFF00_0000_0000_0000),
            ("be16", 0xFFFF_0001, 0x0100),
            ("be32", M64 - M32 + 1, 0x0100_0000),
            ("be64", MIN64, 0x80),
            ("bswap16", MIXED, 0x8877),
            ("bswap16", 0xFF, 0xFF00),
            ("bswap16", M64 - 0xFFFF, 0),
            ("bswap32", MIXED, 0x8877_6685),
            ("bswap32", M64, M32),
            ("bswap32", M64 - M32 + 0x80, MIN32),
            ("bswap64", MIXED, 0x8877_6685_4433_2211),
            ("bswap64", MIN64, 0x80),
            ("bswap64", 1, 0x0100_0000_0000_0000),
        ]
    ),
    Case("wide immediate", "r0 = 0xfedcba9876543210 ll\nexit", 0xFEDC_BA98_7654_3210),
    Case("wide immediate, small", "r0 = 1 ll\nexit", 1),
    *(
        Case(name, f"r0 = *({kind} *)(r1 +{offset})\nexit", expected, _MEMORY)
        for name, kind, offset, expected in [
            ("load u8", "u8", 0, 0x81),
            ("load u8, last", "u8", 15, 0x78),
            ("load u8, middle", "u8", 7, 0x88),
            ("load u16", "u16", 0, 0x8281),
            ("load u16, unaligned", "u16", 1, 0x8382),
            ("load u16, last", "u16", 14, 0x7877),
            ("load u32", "u32", 0, 0x8483_8281),
            ("load u32, unaligned", "u32", 3, 0x8786_8584),
            ("load u32, last", "u32", 12, 0x7877_7675),
            ("load u64", "u64", 8, 0x7877_7675_7473_7271),
            ("load u64, unaligned", "u64", 3, 0x7372_7188_8786_8584),
            ("load u64, first", "u64", 0, 0x8887_8685_8483_8281),
            ("load s8 negative", "s8", 0, 0xFFFF_FFFF_FFFF_FF81),
            ("load s8 positive", "s8", 8, 0x71),
            ("load s8, last", "s8", 15, 0x78),
            ("load s16 negative", "s16", 1, 0xFFFF_FFFF_FFFF_8382),
            ("load s16 positive", "s16", 7, 0x7188),
            ("load s16, last", "s16", 14, 0x7877),
            ("load s32 negative", "s32", 4, 0xFFFF_FFFF_8887_8685),
            ("load s32 positive", "s32", 12, 0x7877_7675),
            ("load s32, unaligned", "s32", 1, 0xFFFF_FFFF_8584_8382),
        ]
    ),
    *(
        Case(name, f"r2 = {value:#x} ll\n*({kind} *)(r1 +{offset}) = r2\nr0 = 0\nexit", 0, bytes(16), True, after)
        for name, kind, offset, value, after in [
            ("store u8", "u8", 3, MIXED, b"\0\0\0\x88" + bytes(12)),
            ("store u8, last", "u8", 15, M64, bytes(15) + b"\xff"),
            ("store u8, first", "u8", 0, 0x1FF, b"\xff" + bytes(15)),
            ("store u16", "u16", 2, MIXED, b"\0\0\x88\x77" + bytes(12)),
            ("store u16, unaligned", "u16", 1, MIXED, b"\0\x88\x77" + bytes(13)),
            ("store u16, last", "u16", 14, M64, bytes(14) + b"\xff\xff"),
            ("store u32", "u32", 4, MIXED, bytes(4) + b"\x88\x77\x66\x85" + bytes(8)),
            ("store u32, unaligned", "u32", 5, MIXED, bytes(5) + b"\x88\x77\x66\x85" + bytes(7)),
            ("store u32, last", "u32", 12, M64, bytes(12) + b"\xff" * 4),
            ("store u64", "u64", 8, MIXED, bytes(8) + MIXED.to_bytes(8, "little")),
            ("store u64, unaligned", "u64", 7, MIXED, bytes(7) + MIXED.to_bytes(8, "little") + b"\0"),
            ("store u64, first", "u64", 0, 1, b"\1" + bytes(15)),
        ]
    ),
    *(
        Case(name, f"*({kind} *)(r1 +{offset}) = {value}\nr0 = 0\nexit", 0, bytes(16), True, after)
        for name, kind, offset, value, after in [
            ("store immediate u8", "u8", 0, -1, b"\xff" + bytes(15)),
            ("store immediate u8, cut", "u8", 1, 0x1234, b"\0\x34" + bytes(14)),
            ("store immediate u8, last", "u8", 15, 127, bytes(15) + b"\x7f"),
            ("store immediate u16", "u16", 0, -2, b"\xfe\xff" + bytes(14)),
            ("store immediate u16, cut", "u16", 2, 0x12345, b"\0\0\x45\x23" + bytes(12)),
            ("store immediate u16, last", "u16", 14, 1, bytes(14) + b"\1\0"),
            ("store immediate u32", "u32", 0, -2, b"\xfe\xff\xff\xff" + bytes(12)),
            ("store immediate u32, unaligned", "u32", 1, 1, b"\0\1" + bytes(14)),
            ("store immediate u32, last", "u32", 12, -(1 << 31), bytes(15) + b"\x80"),
            ("store immediate u64 extends the sign", "u64", 8, -2, bytes(8) + b"\xfe" + b"\xff" * 7),
            ("store immediate u64, unaligned", "u64", 3, -1, bytes(3) + b"\xff" * 8 + bytes(5)),
            ("store immediate u64", "u64", 0, 5, b"\5" + bytes(15)),
        ]
    ),
    *(
        Case(
            f"store_release and load_acquire {kind} of {value:#x}",
            f"r1 = {value:#x} ll\nr2 = 0\n*(u64 *)(r10 -8) = r2\nstore_release(({kind} *)(r10 -8), r1)\n"
            f"r0 = load_acquire(({kind} *)(r10 -8))\nr3 = *(u64 *)(r10 -8)\nif r0 == r3 goto pc+1\nr0 = 77\nexit",
            expected,
        )
        for kind, value, expected in [
            ("u8", MIXED, 0x88),
            ("u8", 0x17F, 0x7F),
            ("u8", M64 - 0xFF, 0),
            ("u16", MIXED, 0x7788),
            ("u16", M64, 0xFFFF),
            ("u16", 0x18000, 0x8000),
            ("u32", MIXED, 0x8566_7788),
            ("u32", 1 << 32, 0),
            ("u32", MIN32, MIN32),
            ("u64", MIN64, MIN64),
            ("u64", MIXED, MIXED),
            ("u64", M64, M64),
        ]
    ),
    Case("goto forward", "r0 = 1\nif r2 == 77 goto pc+1\ngoto pc+1\nr0 = 2\nexit", 1),
    Case("goto over a wide load", "r0 = 1\nif r2 == 77 goto pc+1\ngoto pc+2\nr0 = 5 ll\nexit", 1),
    Case("goto the next instruction", "r0 = 3\ngoto pc+0\nexit", 3),
    Case("gotol forward", "r0 = 1\nif r2 == 77 goto pc+1\ngotol pc+1\nr0 = 2\nexit", 1),
    Case("gotol backward", "r0 = 1\ngoto pc+2\nr0 = 7\nexit\ngotol pc-3", 7),
    Case("gotol the next instruction", "r0 = 4\ngotol pc+0\nexit", 4),
    Case("may_goto goes on", "r0 = 1\nmay_goto pc+1\nr0 = 2\nexit", 2),
    Case("may_goto in a loop", "r0 = 0\nr0 += 1\nif r0 == 9 goto pc+2\nmay_goto pc+1\ngoto pc-4\nexit", 9),
    Case("may_goto the next instruction", "r0 = 5\nmay_goto pc+0\nr0 += 1\nexit", 6),
    Case(
        "a loop that sums",
        "r0 = 0\nr1 = 10\nloop:\nr0 += r1\nr1 += -1\nif r1 != 0 goto loop\nexit",
        55,
    ),
    Case("a local call", "r1 = 20\ncall twice\nr0 += 2\nexit\ntwice:\nr0 = r1\nr0 += r0\nexit", 42),
    Case(
        "a local call keeps r6 to r9 and the stack",
        "r6 = 1\nr7 = 2\nr8 = 3\nr9 = 4\n*(u64 *)(r10 -8) = 5\ncall spoil\nr0 = *(u64 *)(r10 -8)\nr0 += r6\nr0 += r7\n"
        "r0 += r8\nr0 += r9\nexit\nspoil:\nr6 = 99\nr7 = 99\nr8 = 99\nr9 = 99\n*(u64 *)(r10 -8) = 99\nr0 = 0\nexit",
        15,
    ),
    Case(
        "a callee writes through a pointer to its caller's stack",
        "r1 = r10\nr1 += -8\ncall fill\nr0 = *(u64 *)(r10 -8)\nexit\nfill:\n*(u64 *)(r1 +0) = 1234\nr0 = 0\nexit",
        1234,
    ),
    Case(
        "calls eight frames deep",
        "r1 = 0\ncall f1\nexit\n"
        + "".join(f"f{i}:\nr1 += 1\ncall f{i + 1}\nexit\n" for i in range(1, 7))
        + "f7:\nr1 += 1\nr0 = r1\nexit",
        7,
        kernel=False,  # the wrapper in the kernel is one more frame
    ),
    Case("the length of the memory", "r0 = r2\nexit", 16, _MEMORY),
    Case(
        "memory is changed in place",
        "r3 = *(u8 *)(r1 +0)\nr4 = *(u8 *)(r1 +1)\n*(u8 *)(r1 +0) = r4\n*(u8 *)(r1 +1) = r3\nr0 = 0\nexit",
        0,
        b"\x01\x02" + bytes(14),
        True,
        b"\x02\x01" + bytes(14),
    ),
]

# name, program, part of the message
FAULTS: list[tuple[str, str, str]] = [
    ("null", "r1 = 0\nr0 = *(u8 *)(r1 +0)\nexit", "null"),
    ("null with an offset", "r1 = 0\nr0 = *(u64 *)(r1 +16)\nexit", "null"),
    ("a number as an address", "r1 = 0x7fff12345678 ll\nr0 = *(u64 *)(r1 +0)\nexit", "no memory there"),
    ("minus one as an address", "r1 = -1\nr0 = *(u8 *)(r1 +0)\nexit", "no memory there"),
    ("before the memory", "r0 = *(u8 *)(r1 -1)\nexit", "offset -1 of the memory"),
    ("behind the memory", "r0 = *(u8 *)(r1 +16)\nexit", "offset 16 of the memory, which has 16 bytes"),
    ("across the end of the memory", "r0 = *(u64 *)(r1 +9)\nexit", "read of 8 bytes at offset 9"),
    ("a signed load behind the memory", "r0 = *(s16 *)(r1 +15)\nexit", "read of 2 bytes at offset 15"),
    ("a store behind the memory", "*(u32 *)(r1 +13) = 1\nexit", "write of 4 bytes at offset 13"),
    ("a register stored before the memory", "*(u16 *)(r1 -2) = r1\nexit", "write of 2 bytes at offset -2"),
    ("above the stack", "r0 = *(u8 *)(r10 +0)\nexit", "stack of frame 0"),
    ("below the stack", "r0 = 0\n*(u64 *)(r10 -520) = r0\nexit", "stack of frame 0"),
    ("across the bottom of the stack", "*(u64 *)(r10 -513) = 0\nexit", "write of 8 bytes at offset -1"),
    ("an atomic behind the memory", "r2 = 1\nlock *(u64 *)(r1 +16) += r2\nexit", "offset 16"),
    ("compare and exchange at null", "r1 = 0\nr0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)\nexit", "null"),
    ("load_acquire behind the memory", "r0 = load_acquire((u32 *)(r1 +16))\nexit", "offset 16"),
    ("store_release behind the memory", "store_release((u32 *)(r1 +16), r2)\nexit", "offset 16"),
    ("running past the end", "r0 = 0", "past the last instruction"),
    ("a jump past the end", "r0 = 0\ngoto pc+5\nexit", "past the last instruction"),
    ("a jump before the start", "r0 = 0\ngoto pc-9\nexit", "past the last instruction"),
    ("a jump into a wide load", "goto pc+1\nr0 = 1 ll\nexit", "second half"),
    ("nine frames", "call pc-1", "8 frames"),
    ("an endless loop", "goto pc-1", "budget"),
    ("r10 computed", "r10 += 8\nexit", "r10 is read-only"),
    ("r10 loaded", "r10 = *(u64 *)(r1 +0)\nexit", "r10 is read-only"),
    ("r10 exchanged", "r10 = atomic64_xchg((u64 *)(r1 +0), r10)\nexit", "r10 is read-only"),
    ("a helper that does not exist", "call 100000", "no helper 100000"),
    ("tail call without an array", "r1 = 0\nr2 = 0\nr3 = 0\ncall bpf_tail_call#12\nexit", "no map pointer"),
]


def _spelled(symbol: str, width: int, left: str, right: str) -> str:
    letter = "r" if width == 64 else "w"
    right = right if right.lstrip("-").isdigit() else letter + right[1:]
    return f"{letter}{left[1:]} {symbol} {right}"


def _immediate(value: int, width: int) -> int | None:
    """`value` as a 32-bit immediate of an operation of this width, or None when there is none."""
    if width == 32:
        value &= M32
        return value - (1 << 32) if value >> 31 else value
    signed = value - (1 << 64) if value >> 63 else value
    return signed if -(1 << 31) <= signed < 1 << 31 else None


def alu_cases() -> list[Case]:
    cases = []
    for symbol, width, a, b, result in ALU:
        name = f"{a:#x} {symbol} {b:#x} ({width})"
        start = f"r0 = {a:#x} ll\n"
        program = f"{start}r1 = {b:#x} ll\n{_spelled(symbol, width, 'r0', 'r1')}\nexit"
        cases.append(Case(f"{name}, register", program, result))
        number = _immediate(b, width)
        if number is not None:
            refused = (symbol in ("/=", "%=", "s/=", "s%=") and number == 0) or (
                ("<<" in symbol or ">>" in symbol) and not 0 <= number < width
            )
            program = f"{start}{_spelled(symbol, width, 'r0', str(number))}\nexit"
            cases.append(Case(f"{name}, immediate", program, result, kernel=not refused))
    return cases


def jump_cases() -> list[Case]:
    cases = []
    for symbol, width, a, b, taken in JUMPS:
        name = f"{a:#x} {symbol} {b:#x} ({width})"
        rest = "goto pc+1\nr0 = 0\nexit"
        start = f"r0 = 1\nr2 = {a:#x} ll\n"
        program = f"{start}r3 = {b:#x} ll\nif {_spelled(symbol, width, 'r2', 'r3')} {rest}"
        cases.append(Case(f"{name}, register", program, int(taken)))
        number = _immediate(b, width)
        if number is not None:
            program = f"{start}if {_spelled(symbol, width, 'r2', str(number))} {rest}"
            cases.append(Case(f"{name}, immediate", program, int(taken)))
    return cases


def atomic_cases() -> list[Case]:
    """Each row twice: what memory holds afterwards, and what the register holds."""
    cases = []
    for statement, _, before, operand, after, register in ATOMICS:
        start = f"r2 = {before:#x} ll\n*(u64 *)(r10 -8) = r2\nr1 = {operand:#x} ll\n{statement}\n"
        name = f"{statement} with {before:#x}, {operand:#x}"
        cases.append(Case(f"{name}: memory", f"{start}r0 = *(u64 *)(r10 -8)\nexit", after))
        cases.append(Case(f"{name}: register", f"{start}r0 = r1\nexit", register))
    for width, before, expected, operand, after, result in COMPARE_EXCHANGES:
        word, letter = ("atomic64", "r") if width == 64 else ("atomic", "w")
        statement = f"{letter}0 = {word}_cmpxchg((u{width} *)(r10 -8), {letter}0, {letter}1)"
        start = (
            f"r2 = {before:#x} ll\n*(u64 *)(r10 -8) = r2\nr0 = {expected:#x} ll\nr1 = {operand:#x} ll\n{statement}\n"
        )
        name = f"{word}_cmpxchg of {before:#x}, {expected:#x}, {operand:#x}"
        cases.append(Case(f"{name}: memory", f"{start}r0 = *(u64 *)(r10 -8)\nexit", after))
        cases.append(Case(f"{name}: register", f"{start}exit", result))
    return cases


def all_cases() -> list[Case]:
    return [*alu_cases(), *jump_cases(), *atomic_cases(), *PROGRAMS]
