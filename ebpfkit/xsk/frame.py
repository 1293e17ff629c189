"""One packet in a frame of the UMEM, as the plain interface hands it out."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfkit.errors import XskError

if TYPE_CHECKING:
    from ebpfkit.xsk.socket import XskSocket

__all__ = ["Frame"]


class Frame:
    """A packet without a copy: `data` is a writable memoryview of it, until the frame is sent or released.

    A frame from `receive` belongs to the loop's body and is released behind it, unless it was sent or `keep` was
    called; a frame from `allocate` or `keep` is the caller's until `send` or `release`.
    """

    __slots__ = ("_kept", "_socket", "address", "data")

    def __init__(self, socket: XskSocket, address: int, data: memoryview, *, kept: bool = False) -> None:
        self._socket = socket
        self.address = address
        self.data = data
        self._kept = kept

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

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
        self._socket.umem.free_one(self.address)
        self.invalidate()

    def check(self) -> None:
        """Raises XskError when the frame is not the application's any more."""
        if self.address < 0:
            raise XskError("this frame was sent or released before; it is not the application's any more")

    def invalidate(self) -> None:
        """The frame has gone: its view too, where nothing else (a numpy array) still looks through it."""
        self.address = -1
        try:
            self.data.release()
        except BufferError:
            self.data = memoryview(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.address >= 0:
            self.release()

    def __repr__(self) -> str:
        return f"<Frame at {self.address:#x}, {len(self.data)} bytes>" if self.address >= 0 else "<Frame, gone>"
