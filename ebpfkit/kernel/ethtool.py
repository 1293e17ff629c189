"""ethtool's ioctls, as far as XDP and AF_XDP ask for them: the driver behind a device, and its channels.

A device that does not know a request says so with EOPNOTSUPP: that is an answer here (None), not an error.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from ebpfkit.errors import KernelError

__all__ = ["Channels", "DriverInfo", "RingSizes", "get_channels", "get_driver_info", "get_ring_sizes"]

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GRINGPARAM, _GCHANNELS = 0x03, 0x10, 0x3C
_DRVINFO_SIZE = 196


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """struct ethtool_drvinfo: the driver's name and versions, and the bus address of the device."""

    driver: str
    version: str
    firmware: str
    bus: str


@dataclass(frozen=True, slots=True)
class Channels:
    """How many queues of each kind there are, and could be."""

    rx: int
    tx: int
    combined: int
    max_rx: int
    max_tx: int
    max_combined: int

    @property
    def receiving(self) -> int:
        """The number of queues that receive: valid ids for an AF_XDP socket are below it."""
        return self.rx + self.combined


@dataclass(frozen=True, slots=True)
class RingSizes:
    """Descriptors of the receive and transmit rings, and the most there could be."""

    rx: int
    tx: int
    max_rx: int
    max_tx: int


def _ioctl(device: str, request: bytes) -> bytes | None:
    """The structure filled in, or None when the device does not know the request."""
    name = os.fsencode(device)
    if not 0 < len(name) <= 15:
        raise KernelError(f"{device!r} cannot be a device's name (1 to 15 bytes)", errno=errno.ENODEV)
    import ctypes

    room = ctypes.create_string_buffer(request, max(len(request), _DRVINFO_SIZE))
    ifreq = struct.pack("=16sQ16x" if struct.calcsize("P") == 8 else "=16sI12x", name, ctypes.addressof(room))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, ifreq)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return None
            what = f"asking device {device} through ethtool"
            raise KernelError(f"{what}: {error.strerror}", errno=error.errno or 0) from error
    return room.raw


def get_driver_info(device: str) -> DriverInfo | None:
    """ETHTOOL_GDRVINFO. Raises KernelError (ENODEV)."""
    answer = _ioctl(device, struct.pack("=I", _GDRVINFO))
    if answer is None:
        return None
    texts = struct.unpack_from("=4x32s32s32s32s", answer)
    driver, version, firmware, bus = (text.split(b"\0")[0].decode("utf-8", "replace") for text in texts)
    return DriverInfo(driver, version, firmware, bus)


def get_channels(device: str) -> Channels | None:
    """ETHTOOL_GCHANNELS. Raises KernelError (ENODEV)."""
    answer = _ioctl(device, struct.pack("=9I", _GCHANNELS, *[0] * 8))
    if answer is None:
        return None
    _, max_rx, max_tx, _, max_combined, rx, tx, _, combined = struct.unpack_from("=9I", answer)
    return Channels(rx, tx, combined, max_rx, max_tx, max_combined)


def get_ring_sizes(device: str) -> RingSizes | None:
    """ETHTOOL_GRINGPARAM. Raises KernelError (ENODEV)."""
    answer = _ioctl(device, struct.pack("=9I", _GRINGPARAM, *[0] * 8))
    if answer is None:
        return None
    _, max_rx, _, _, max_tx, rx, _, _, tx = struct.unpack_from("=9I", answer)
    return RingSizes(rx, tx, max_rx, max_tx)
