"""Maps of sockets: `sockmap`, `sockhash`, `reuseport_sockarray`.

In the kernel user space stores descriptors and reads cookies, where values have 8 bytes; here a socket is named by its
cookie throughout. Whether there is a socket of that cookie is known to who runs programs, not to the store.
"""

from __future__ import annotations

import errno

from ebpfkit.elf.model import MapSpec
from ebpfkit.maps.base import Cell, MemoryStore, flag_error
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST

__all__ = ["ReuseportArrayStore", "SockHashStore", "SockMapStore", "SocketStore"]

_MAX_KEY_BYTES = 512  # MAX_BPF_STACK: a key has to fit on the stack of a program


class SocketStore(MemoryStore):
    """Cookies of sockets by key. `cookie` is what a program's look-up finds, `put` what its update stores."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._cookies: dict[bytes, int] = {}

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if spec.value_size not in (4, 8):
            self._refuse(f"value_size must be 4 or 8, not {spec.value_size}")

    def cookie(self, key: bytes) -> int | None:
        """The cookie of the socket under `key`."""
        return self._cookies.get(bytes(key))

    def put(self, key: bytes, cookie: int, flags: int = BPF_ANY) -> int:
        """Store a socket: 0 or a negative errno."""
        raise NotImplementedError

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        number = self.cookie(key)
        return None if number is None else bytearray(number.to_bytes(self._spec.value_size, self.order))

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        return self.put(key, int.from_bytes(value, self.order), flags)

    def _keys(self) -> list[bytes]:
        return list(self._cookies)

    def __len__(self) -> int:
        return len(self._cookies)


class SockMapStore(SocketStore):
    """Sockets by index."""

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if spec.key_size != 4:
            self._refuse(f"the key of a sockmap is a u32, not {spec.key_size} bytes")

    def _is_outside(self, key: bytes) -> bool:
        return int.from_bytes(key, self.order) >= self._spec.max_entries

    def _error_of(self, key: bytes, flags: int) -> int:
        if flags <= BPF_EXIST and self._is_outside(key):
            return -errno.E2BIG
        return flag_error(flags, bytes(key) in self._cookies)

    def put(self, key: bytes, cookie: int, flags: int = BPF_ANY) -> int:
        code = self._error_of(key, flags)
        if not code:
            self._cookies[bytes(key)] = cookie
        return code

    def remove(self, key: bytes) -> int:
        return 0 if self._cookies.pop(bytes(key), None) is not None else -errno.EINVAL

    def _keys(self) -> list[bytes]:
        return [index.to_bytes(4, self.order) for index in range(self._spec.max_entries)]


class SockHashStore(SocketStore):
    """Sockets under any key."""

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if spec.key_size > _MAX_KEY_BYTES:
            self._refuse(f"a key has at most {_MAX_KEY_BYTES} bytes, not {spec.key_size}")

    def put(self, key: bytes, cookie: int, flags: int = BPF_ANY) -> int:
        exists = bytes(key) in self._cookies
        code = flag_error(flags, exists)
        if not code and not exists and len(self._cookies) >= self._spec.max_entries:
            code = -errno.E2BIG
        if not code:
            self._cookies[bytes(key)] = cookie
        return code

    def remove(self, key: bytes) -> int:
        return 0 if self._cookies.pop(bytes(key), None) is not None else -errno.ENOENT


class ReuseportArrayStore(SockMapStore):
    """Sockets of a reuseport group by index, each in one place only. Programs cannot write."""

    def put(self, key: bytes, cookie: int, flags: int = BPF_ANY) -> int:
        code = self._error_of(key, flags)
        if not code and cookie in self._cookies.values():
            code = -errno.EBUSY
        return code or super().put(key, cookie, flags)

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return -errno.EPERM

    def remove(self, key: bytes) -> int:
        return -errno.EPERM

    def _erase(self, key: bytes) -> int:
        if self._is_outside(key):
            return -errno.E2BIG
        return 0 if self._cookies.pop(bytes(key), None) is not None else -errno.ENOENT
