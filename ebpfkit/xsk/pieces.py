"""Packets over several frames: all but the last of their descriptors have XDP_PKT_CONTD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebpfkit.abi import uapi
from ebpfkit.xsk.umem import Umem

__all__ = ["in_pieces", "whole_packets"]

_CONTINUED = uapi.XDP_PKT_CONTD


def whole_packets(descriptors: NDArray[Any]) -> int:
    """How many descriptors belong to whole packets, when the last packet may still be cut off."""
    last = np.flatnonzero((descriptors["options"] & _CONTINUED) == 0)
    return int(last[-1]) + 1 if len(last) else 0


def in_pieces(umem: Umem, data: bytes, allocate: Callable[[int], int]) -> list[tuple[int, int, int]]:
    """Copy a packet into as many frames as it needs; their descriptors. `allocate(length)` gives an address."""
    step = umem.frame_size - umem.data_offset
    rows = []
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        address = allocate(len(piece))
        umem.memory[address : address + len(piece)] = piece
        rows.append((address, len(piece), _CONTINUED))
    rows[-1] = (*rows[-1][:2], 0)
    return rows
