"""One packet in a frame of the UMEM, as the plain interface hands it out."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfkit.abi import uapi
from ebpfkit.errors import XskError
from ebpfkit.xsk.metadata import write_request

if TYPE_CHECKING:
    from ebpfkit.xsk.socket import XskSocket

__all__ = ["Frame"]

_CONTINUED = uapi.XDP_PKT_CONTD


class Frame:
    """A packet without a copy: `data` is a writable memoryview of it, until the frame is sent or released.

    A frame from `receive` belongs to the loop's body and is released behind it, unless it was sent or `keep` was
    called; a frame from `allocate` or `keep` is the caller's until `send` or `release`. A packet that needed several
    frames (`multi_buffer=True`) has its first bytes in `data` and the others in `rest`: views, in order.
    """

    __slots__ = ("_kept", "_more", "_options", "_socket", "address", "data", "timestamp_tag")

    def __init__(self, socket: XskSocket, address: int, data: memoryview, *, kept: bool = False) -> None:
        self._socket = socket
        self.address = address
        self.data = data
        self._kept = kept
        self._more: list[tuple[int, memoryview]] | None = None
        self._options = 0
        self.timestamp_tag: int | None = None

    @property
    def rest(self) -> list[memoryview]:
        """The views of the packet's further frames."""
        return [view for _, view in self._more] if self._more else []

    def extend(self, rows: Iterator[tuple[int, int, int]]) -> int:
        """Take the further descriptors of this packet from `rows`; how many."""
        memory = self._socket.umem.memory
        self._more = []
        for address, length, options in rows:
            self._more.append((address, memory[address : address + length]))
            if not options & _CONTINUED:
                break
        return len(self._more)

    def descriptors(self) -> list[tuple[int, int, int]]:
        """Address, length and options of each of its frames, as the TX ring takes them."""
        if not self._more:
            return [(self.address, len(self.data), self._options)]
        parts = [(self.address, len(self.data)), *((address, len(view)) for address, view in self._more)]
        last = len(parts) - 1
        return [
            (address, length, (self._options if at == 0 else 0) | (_CONTINUED if at < last else 0))
            for at, (address, length) in enumerate(parts)
        ]

    def metadata(self, length: int) -> memoryview:
        """The `length` bytes in front of the packet, where an XDP program leaves what it has to say
        (bpf_xdp_adjust_meta).
        """
        self.check()
        return self._socket.umem.data(self.address - length, length)

    def request(
        self,
        *,
        checksum: tuple[int, int] | None = None,
        timestamp: int | None = None,
        launch_time: int | None = None,
    ) -> Self:
        """Ask the driver for something on sending; the UMEM was made with `tx_metadata=True`.

        `checksum`: (start, offset), sum the bytes from `start` on and put the result `offset` bytes behind it, where
        the sum of the pseudo header stands. `timestamp`: a number of yours; the time of sending appears with it in the
        socket's `timestamps`. `launch_time`: send at this time (nanoseconds of the NIC's clock). Which of them a driver
        does, `ebpfkit probe DEV` tells. Raises UsageError.
        """
        self.check()
        write_request(
            self._socket.umem, self.address, checksum=checksum, timestamp=timestamp is not None, launch_time=launch_time
        )
        self._options = uapi.XDP_TX_METADATA
        self.timestamp_tag = timestamp
        return self

    def __len__(self) -> int:
        """The length of the whole packet in bytes."""
        return len(self.data) + (sum(map(len, self.rest)) if self._more else 0)

    def __bytes__(self) -> bytes:
        return b"".join((self.data, *self.rest)) if self._more else bytes(self.data)

    @property
    def socket(self) -> XskSocket:
        """The socket whose UMEM the frame lies in."""
        return self._socket

    @property
    def is_kept(self) -> bool:
        """Whether the caller has taken it out of the receiving loop."""
        return self._kept

    def resize(self, length: int) -> None:
        """Make the packet `length` bytes long, at the same start; what is new has the frame's old contents.

        Raises XskError when that leaves the frame.
        """
        self.check()
        self.data = self._socket.umem.data(self.address, length)

    def keep(self) -> Self:
        """Take it out of the receiving loop: the caller sends or releases it."""
        self.check()
        self._kept = True
        return self

    def send(self) -> None:
        """Send it as it is now; the frame is the kernel's from here on."""
        self._socket.send(self)

    def release(self) -> None:
        """Give the frame back. Raises XskError when it was sent or released before."""
        self.check()
        for address in self.invalidate():
            self._socket.umem.free_one(address)

    def check(self) -> None:
        """Raises XskError when the frame is not the application's any more."""
        if self.address < 0:
            raise XskError("this frame was sent or released before; it is not the application's any more")

    def invalidate(self) -> list[int]:
        """The frame has gone: its views too, where nothing else (a numpy array) still looks through them.

        Returns the addresses it had.
        """
        addresses = [self.address]
        self.address = -1
        try:
            self.data.release()
        except BufferError:
            self.data = memoryview(b"")
        if self._more:
            addresses += [address for address, _ in self._more]
            self._more = None
        return addresses

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.address >= 0:
            self.release()

    def __repr__(self) -> str:
        return f"<Frame at {self.address:#x}, {len(self.data)} bytes>" if self.address >= 0 else "<Frame, gone>"
