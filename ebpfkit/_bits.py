"""Two's-complement arithmetic on Python integers, and nothing else."""

from __future__ import annotations

U32_MAX = 0xFFFF_FFFF
U64_MAX = 0xFFFF_FFFF_FFFF_FFFF
S32_MIN, S32_MAX = -(1 << 31), (1 << 31) - 1
S64_MIN, S64_MAX = -(1 << 63), (1 << 63) - 1


def to_unsigned(value: int, bits: int) -> int:
    """The low `bits` of `value`, read as an unsigned number.

    >>> to_unsigned(-1, 8)
    255
    """
    return value & ((1 << bits) - 1)


def to_signed(value: int, bits: int) -> int:
    """The low `bits` of `value`, read as a two's-complement number.

    >>> to_signed(0xFF, 8)
    -1
    """
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def swap_bytes(value: int, size: int) -> int:
    """The low `size` bytes of `value` in the opposite order.

    >>> hex(swap_bytes(0x1234, 2))
    '0x3412'
    """
    return int.from_bytes(to_unsigned(value, size * 8).to_bytes(size, "little"), "big")


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple
