"""Frames and their owners: last in first out, no frame in two hands, none lost."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.errors import EbpfError, KernelError, UsageError, XskError
from ebpfkit.xsk.umem import FrameOwner, Umem


def array(*addresses: int) -> np.ndarray:
    return np.array(addresses, np.uint64)


def test_last_in_first_out() -> None:
    umem = Umem(8, 2048)
    first = umem.allocate(3)
    assert first.tolist() == [0x1000, 0x800, 0] and len(umem) == 5
    umem.release(array(0x800 + 300))  # any address within the frame names it
    assert umem.allocate(1).tolist() == [0x800]
    assert umem.allocate(99).tolist() == [0x3800, 0x3000, 0x2800, 0x2000, 0x1800]
    assert umem.allocate(1).tolist() == []


def test_double_release_names_the_frame() -> None:
    umem = Umem(8, 2048)
    taken = umem.allocate(2)
    umem.release(taken)
    with pytest.raises(
        XskError, match=r"frame 1 \(address 0x800\) cannot be released: it is free, not the application's"
    ):
        umem.release(taken)
    with pytest.raises(XskError, match=r"frame 1 .* released"):
        umem.free_one(0x800)
    one = umem.allocate(1)
    with pytest.raises(XskError, match=r"frame 0 \(address 0x0\) is named twice in one batch"):
        umem.release(np.concatenate((one, one)))
    umem.release(one)
    assert len(umem) == 8


def test_a_frame_of_the_kernels_cannot_be_sent() -> None:
    umem = Umem(4, 4096)
    umem.take_free(1, FrameOwner.FILL)
    with pytest.raises(
        XskError, match=r"frame 0 .* cannot be sent: it is in the fill ring, not the application's; it was"
    ):
        umem.move(array(0), FrameOwner.USER, FrameOwner.TX)
    with pytest.raises(XskError, match="outside the UMEM"):
        umem.release(array(4 * 4096))


def test_a_leak_names_the_frames() -> None:
    umem = Umem(16, 2048)
    taken = umem.allocate(10)
    with pytest.raises(XskError, match=r"10 of 16 frames leaked: frame 0, 1, 2, 3, 4, 5, 6, 7, \.\.\. was taken"):
        umem.check_leaks()
    umem.release(taken)
    umem.check_leaks()


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(
    st.lists(st.tuples(st.sampled_from(["allocate", "release", "send", "complete"]), st.integers(0, 5)), max_size=40)
)
def test_every_frame_has_one_owner(moves: list[tuple[str, int]]) -> None:
    umem = Umem(8, 2048)
    held: list[int] = []
    sent: list[int] = []
    for move, count in moves:
        if move == "allocate":
            taken = umem.allocate(count).tolist()
            assert not set(taken) & {*held, *sent}
            held += taken
        elif move == "release":
            umem.release(array(*held[:count]))
            del held[:count]
        elif move == "send":
            umem.move(array(*held[:count]), FrameOwner.USER, FrameOwner.TX)
            sent += held[:count]
            del held[:count]
        else:
            umem.free_from(array(*sent[:count]), FrameOwner.TX)
            del sent[:count]
        assert (umem.count(FrameOwner.USER), umem.count(FrameOwner.TX)) == (len(held), len(sent))
        assert len(umem) == umem.count(FrameOwner.FREE) == 8 - len(held) - len(sent)
    assert sorted(umem.allocate(8).tolist() + held + sent) == [frame * 2048 for frame in range(8)]


def test_views_are_the_memory_itself_and_outlive_the_umem() -> None:
    umem = Umem(4, 2048)
    view = umem.data(2048, 5)
    view[:] = b"hello"
    assert bytes(umem.frames[1, :5]) == b"hello"
    row = umem.frames[1]
    del umem
    gc.collect()
    assert bytes(view) == b"hello" and bytes(row[:5]) == b"hello"


@pytest.mark.parametrize(("address", "length"), [(2040, 9), (0, 2049), (-1, 1), (8192, 1), (0, -1)])
def test_data_stays_within_one_frame(address: int, length: int) -> None:
    with pytest.raises(XskError):
        Umem(4, 2048).data(address, length)


WRONG: list[tuple[dict[str, int], type[EbpfError], str]] = [
    ({"frame_count": 0}, UsageError, "frame_count is 0"),
    ({"frame_size": 3000}, UsageError, "not 3000; for any other size set unaligned=True"),
    ({"software_checksum": True}, UsageError, "set tx_metadata=True as well"),
    ({"shareable": True, "huge_pages": True}, UsageError, "cannot be of huge pages"),
    ({"frame_size": 1024}, UsageError, "not 1024"),
    ({"frame_size": 8192}, UsageError, "not 8192"),
    ({"headroom": 4000}, UsageError, "headroom 4000"),
    ({"frame_count": 1 << 40}, KernelError, "use fewer frames"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_sizes_the_kernel_does_not_take(options: dict[str, int], error: type[EbpfError], message: str) -> None:
    with pytest.raises(error, match=message):
        Umem(**options)


def test_huge_pages_that_are_not_there_say_how_to_reserve_them() -> None:
    try:
        umem = Umem(1024, 4096, huge_pages=True)
    except KernelError as error:
        assert "echo 2 > /proc/sys/vm/nr_hugepages" in str(error)
    else:
        assert umem.address % (2 << 20) == 0


def test_children_do_not_unmap_what_is_not_theirs() -> None:
    code = """
import gc, mmap, os
from ebpfkit.xsk.umem import Umem
umem = Umem(4, 2048)
address = umem.address
pid = os.fork()
if pid == 0:
    maps = [line for line in open("/proc/self/maps") if int(line.split("-")[0], 16) == address]
    del umem
    gc.collect()
    os._exit(len(maps))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert bytes(umem.data(0, 4)) == bytes(4)
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", code], check=True, timeout=60
    )
