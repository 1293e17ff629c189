"""The licence strings that the kernel takes as GPL-compatible (its Documentation/bpf/bpf_licensing.rst)."""

from __future__ import annotations

__all__ = ["GPL_COMPATIBLE"]

GPL_COMPATIBLE = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)
"""A program whose licence is one of these may call GPL-only helpers."""
