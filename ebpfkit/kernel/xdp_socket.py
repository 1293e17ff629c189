"""AF_XDP sockets, one thin typed call at a time: socket, setsockopt, mmap, bind, sendto, recvfrom, poll.

No policy here: which calls in which order, what a refusal means and who owns a frame is `xsk`'s. Memory is mapped by
libc's mmap itself, because Python's `mmap.mmap` duplicates the descriptor and so keeps the queue bound. Sizes are in
bytes unless named otherwise. Errors are KernelError with the errno (kernel: Documentation/networking/af_xdp.rst).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from ebpfkit.abi import uapi
from ebpfkit.errors import KernelError, NotSupported
from ebpfkit.kernel.fd import Fd

__all__ = [
    "AF_XDP", "HUGE_PAGE_SIZE", "TX_METADATA_SIZE", "HasFileno", "MmapOffsets", "RingOffsets", "TxMetadata", "UmemReg",
    "bind", "create_memory", "exclude_from_fork", "get_mmap_offsets", "get_options", "get_statistics", "kick_rx",
    "kick_tx", "map_memory", "map_ring", "map_shared", "open_socket", "pending_error", "register_umem",
    "set_busy_poll", "set_ring_size", "set_tx_budget", "unmap", "wait_ready",
]  # fmt: skip

AF_XDP: Final = 44
SOL_XDP: Final = 283
HUGE_PAGE_SIZE: Final = 2 << 20

_SOCK_RAW, _SOCK_CLOEXEC = 3, 0o2000000
_MSG_DONTWAIT = 0x40
_SOL_SOCKET, _SO_ERROR = socket.SOL_SOCKET, socket.SO_ERROR
_SO_BUSY_POLL, _SO_PREFER_BUSY_POLL, _SO_BUSY_POLL_BUDGET = 46, 69, 70
_MAP_HUGETLB = 0x40000
_MADV_DONTFORK = 10
_RING_SIZE_OPTIONS = {
    "rx": uapi.XDP_RX_RING,
    "tx": uapi.XDP_TX_RING,
    "fill": uapi.XDP_UMEM_FILL_RING,
    "completion": uapi.XDP_UMEM_COMPLETION_RING,
}
_RING_PAGE_OFFSETS = {
    "rx": uapi.XDP_PGOFF_RX_RING,
    "tx": uapi.XDP_PGOFF_TX_RING,
    "fill": uapi.XDP_UMEM_PGOFF_FILL_RING,
    "completion": uapi.XDP_UMEM_PGOFF_COMPLETION_RING,
}


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class RingOffsets(NamedTuple):
    """Where a ring's parts are in its mapping. `flags` is None on kernels before 5.4, which have none."""

    producer: int
    consumer: int
    descriptors: int
    flags: int | None


class MmapOffsets(NamedTuple):
    """XDP_MMAP_OFFSETS: one entry a ring."""

    rx: RingOffsets
    tx: RingOffsets
    fill: RingOffsets
    completion: RingOffsets


class UmemReg(ctypes.Structure):
    """struct xdp_umem_reg."""

    _fields_ = (
        ("addr", ctypes.c_uint64),
        ("len", ctypes.c_uint64),
        ("chunk_size", ctypes.c_uint32),
        ("headroom", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("tx_metadata_len", ctypes.c_uint32),
    )


class TxMetadata(ctypes.Structure):
    """struct xsk_tx_metadata with its request, in front of a packet to be sent (Linux 6.8; launch_time 6.14).

    After sending, the kernel puts the time of sending over the 8 bytes behind the flags, where it was asked to.
    """

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("csum_start", ctypes.c_uint16),
        ("csum_offset", ctypes.c_uint16),
        ("launch_time", ctypes.c_uint64),
    )


TX_METADATA_SIZE: Final = ctypes.sizeof(TxMetadata)


class _SockaddrXdp(ctypes.Structure):
    _fields_ = (
        ("family", ctypes.c_uint16),
        ("flags", ctypes.c_uint16),
        ("ifindex", ctypes.c_uint32),
        ("queue_id", ctypes.c_uint32),
        ("shared_umem_fd", ctypes.c_uint32),
    )


_INT, _PTR, _SIZE, _U32P = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint32)
_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "socket": (_INT, (_INT, _INT, _INT)),
    "setsockopt": (_INT, (_INT, _INT, _INT, _PTR, ctypes.c_uint32)),
    "getsockopt": (_INT, (_INT, _INT, _INT, _PTR, _U32P)),
    "bind": (_INT, (_INT, _PTR, ctypes.c_uint32)),
    "mmap": (_PTR, (_PTR, _SIZE, _INT, _INT, _INT, ctypes.c_int64)),
    "munmap": (_INT, (_PTR, _SIZE)),
    "madvise": (_INT, (_PTR, _SIZE, _INT)),
    "sendto": (ctypes.c_ssize_t, (_INT, _PTR, _SIZE, _INT, _PTR, ctypes.c_uint32)),
    "recvfrom": (ctypes.c_ssize_t, (_INT, _PTR, _SIZE, _INT, _PTR, _PTR)),
}


def _bind_libc() -> dict[str, Callable[..., int]]:
    if sys.platform != "linux":
        return {}
    libc = ctypes.CDLL(None, use_errno=True)
    functions: dict[str, Callable[..., int]] = {}
    for name, (result, arguments) in _SIGNATURES.items():
        # A 32-bit libc has a 32-bit off_t in mmap, too small for the page offsets of the rings.
        function = getattr(libc, "mmap64" if name == "mmap" and hasattr(libc, "mmap64") else name)
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return functions


_libc = _bind_libc()


def _call(name: str, what: str, *arguments: object) -> int:
    function = _libc.get(name)
    if function is None:
        raise NotSupported("AF_XDP", why=f"there is none on {sys.platform}")
    result = function(*arguments)
    if result == -1:
        raise _refusal(what)
    return result


def _refusal(what: str) -> KernelError:
    number = ctypes.get_errno()
    return KernelError(f"{what}: {os.strerror(number)}", errno=number)


def open_socket() -> Fd:
    """A new AF_XDP socket, close-on-exec."""
    return Fd(_call("socket", "socket(AF_XDP)", AF_XDP, _SOCK_RAW | _SOCK_CLOEXEC, 0), "AF_XDP socket")


def _set_option(sock: HasFileno, option: int, value: ctypes.Structure | ctypes.c_uint32, what: str) -> None:
    size = ctypes.sizeof(value)
    _call("setsockopt", what, sock.fileno(), SOL_XDP, option, ctypes.addressof(value), size)


def register_umem(
    sock: HasFileno, address: int, length: int, chunk_size: int, headroom: int, *, flags: int = 0, tx_metadata: int = 0
) -> None:
    """XDP_UMEM_REG: `length` bytes at `address`, cut into chunks with `headroom` bytes kept free in each."""
    value = UmemReg(address, length, chunk_size, headroom, flags, tx_metadata)
    _set_option(sock, uapi.XDP_UMEM_REG, value, "setsockopt(XDP_UMEM_REG)")


def set_ring_size(sock: HasFileno, ring: str, entries: int) -> None:
    """Create the ring "rx", "tx", "fill" or "completion" with that many entries (a power of 2)."""
    what = f"setsockopt of the {ring} ring's size to {entries}"
    _set_option(sock, _RING_SIZE_OPTIONS[ring], ctypes.c_uint32(entries), what)


def set_tx_budget(sock: HasFileno, packets: int) -> bool:
    """XDP_MAX_TX_SKB_BUDGET: how many packets one sendto may send in copy mode. False where the kernel lacks it."""
    try:
        _set_option(sock, uapi.XDP_MAX_TX_SKB_BUDGET, ctypes.c_uint32(packets), "setsockopt(XDP_MAX_TX_SKB_BUDGET)")
    except KernelError as error:
        if error.errno == errno.ENOPROTOOPT:
            return False
        raise
    return True


def set_busy_poll(sock: HasFileno, microseconds: int, packets: int) -> None:
    """Prefer busy polling: the application's calls run the driver for so long, and for so many packets a call."""
    for option, value, name in (
        (_SO_PREFER_BUSY_POLL, 1, "SO_PREFER_BUSY_POLL"),
        (_SO_BUSY_POLL, microseconds, "SO_BUSY_POLL"),
        (_SO_BUSY_POLL_BUDGET, packets, "SO_BUSY_POLL_BUDGET"),
    ):
        number = ctypes.c_int(value)
        what = f"setsockopt({name}) to {value}"
        _call("setsockopt", what, sock.fileno(), _SOL_SOCKET, option, ctypes.addressof(number), 4)


def _get_option(sock: HasFileno, option: int, size: int, what: str) -> bytes:
    buffer = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    _call("getsockopt", what, sock.fileno(), SOL_XDP, option, ctypes.addressof(buffer), ctypes.byref(length))
    return buffer.raw[: length.value]


def get_mmap_offsets(sock: HasFileno) -> MmapOffsets:
    """XDP_MMAP_OFFSETS. Kernels before 5.4 give three numbers a ring, without the flags."""
    data = _get_option(sock, uapi.XDP_MMAP_OFFSETS, 128, "getsockopt(XDP_MMAP_OFFSETS)")
    each = len(data) // 4
    if each not in (24, 32):
        raise KernelError(f"getsockopt(XDP_MMAP_OFFSETS) gave {len(data)} bytes, not 128 or 96", errno=errno.EPROTO)
    rings = []
    for start in range(0, len(data), each):
        numbers = struct.unpack_from(f"={each // 8}Q", data, start)
        rings.append(RingOffsets(numbers[0], numbers[1], numbers[2], numbers[3] if each == 32 else None))
    return MmapOffsets(*rings)


def get_statistics(sock: HasFileno) -> bytes:
    """XDP_STATISTICS as it comes: 48 bytes, or 24 from kernels before 5.9."""
    return _get_option(sock, uapi.XDP_STATISTICS, 48, "getsockopt(XDP_STATISTICS)")


def get_options(sock: HasFileno) -> int:
    """XDP_OPTIONS: the bits XDP_OPTIONS_*, of which XDP_OPTIONS_ZEROCOPY tells the mode of a bound socket."""
    data = _get_option(sock, uapi.XDP_OPTIONS, 4, "getsockopt(XDP_OPTIONS)")
    return int.from_bytes(data, sys.byteorder)


def map_memory(length: int, *, huge: bool = False) -> int:
    """The address of `length` bytes of fresh anonymous memory, present at once, from huge pages when asked."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE | (_MAP_HUGETLB if huge else 0)
    what = f"mmap of {length} bytes{' of huge pages' if huge else ''}"
    return _map(what, length, flags, -1, 0)


def create_memory(name: str, length: int) -> Fd:
    """A memfd of `length` bytes, to be mapped here and in another process."""
    try:
        fd = Fd(os.memfd_create(name, os.MFD_CLOEXEC), name)
        os.ftruncate(fd.fileno(), length)
    except OSError as error:
        raise KernelError(f"memory of {length} bytes to share: {error.strerror}", errno=error.errno or 0) from error
    return fd


def map_shared(memory: HasFileno, length: int) -> int:
    """The address of memory shared with other processes, present at once."""
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    return _map(f"mmap of {length} shared bytes", length, flags, memory.fileno(), 0)


def map_ring(sock: HasFileno, ring: str, length: int) -> int:
    """The address of a ring's mapping."""
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    return _map(f"mmap of the {ring} ring", length, flags, sock.fileno(), _RING_PAGE_OFFSETS[ring])


def _map(what: str, length: int, flags: int, number: int, offset: int) -> int:
    address = _call("mmap", what, None, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, number, offset)
    if address == ctypes.c_void_p(-1).value:
        raise _refusal(what)
    return address


def unmap(address: int, length: int) -> None:
    """munmap."""
    _call("munmap", "munmap", address, length)


def exclude_from_fork(address: int, length: int) -> None:
    """MADV_DONTFORK: children do not get the mapping, so that a copied page cannot part it from the kernel's."""
    _call("madvise", "madvise(MADV_DONTFORK)", address, length, _MADV_DONTFORK)


def bind(sock: HasFileno, ifindex: int, queue: int, *, flags: int = 0, shared_umem: HasFileno | None = None) -> None:
    """Bind to one queue of a device; `flags` are XDP_COPY, XDP_ZEROCOPY, XDP_USE_NEED_WAKEUP and their like."""
    other = shared_umem.fileno() if shared_umem is not None else 0
    address = _SockaddrXdp(AF_XDP, flags, ifindex, queue, other)
    what = f"bind to queue {queue} of device {ifindex}"
    _call("bind", what, sock.fileno(), ctypes.addressof(address), ctypes.sizeof(address))


def kick_tx(number: int) -> int:
    """sendto of nothing: the kernel sends what is in the TX ring. The errno (0: done), never an exception."""
    return 0 if _libc["sendto"](number, None, 0, _MSG_DONTWAIT, None, 0) >= 0 else ctypes.get_errno()


def kick_rx(number: int) -> int:
    """recvfrom of nothing: wakes a driver that sleeps on the fill ring. The errno (0: done), never an exception."""
    return 0 if _libc["recvfrom"](number, None, 0, _MSG_DONTWAIT, None, None) >= 0 else ctypes.get_errno()


def wait_ready(number: int, *, readable: bool = True, writable: bool = False, timeout: float | None = None) -> bool:
    """poll(2) until the RX ring has packets or the TX ring has room; False after `timeout` seconds (None: for ever)."""
    poller = select.poll()
    poller.register(number, (select.POLLIN if readable else 0) | (select.POLLOUT if writable else 0))
    return bool(poller.poll(None if timeout is None else max(0, timeout) * 1000))


def pending_error(sock: HasFileno) -> int:
    """SO_ERROR: the errno that waits on the socket, and is cleared by asking; ENETDOWN when its device was removed.

    poll(2) does not tell of it.
    """
    code, length = ctypes.c_int(0), ctypes.c_uint32(4)
    what = "getsockopt(SO_ERROR)"
    _call("getsockopt", what, sock.fileno(), _SOL_SOCKET, _SO_ERROR, ctypes.addressof(code), ctypes.byref(length))
    return code.value
