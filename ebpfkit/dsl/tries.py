"""Maps by prefix: longest match of addresses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ebpfkit.dsl.addresses import IPv4Addr, IPv6Addr, network_of, prefix_of
from ebpfkit.dsl.maps import BPF_ANY, Entries
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.types import info_of, s64, type_name
from ebpfkit.errors import NotSupported

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

__all__ = ["LpmTrie"]

BPF_F_NO_PREALLOC = 1

A = TypeVar("A", IPv4Addr, IPv6Addr)
V = TypeVar("V")


class LpmTrie(Entries[A, V], Generic[A, V]):
    """Values by prefix (BPF_MAP_TYPE_LPM_TRIE): looking up an address finds its longest prefix.

    In a program the key is an address; `m[addr] = v` stores it with all its bits. In user space it is also text
    ("192.0.2.0/24") or an `ipaddress` network. As in the kernel, `[]` and `get` find the longest stored prefix that
    holds it.
    """

    map_type = "lpm_trie"
    extra_flags = BPF_F_NO_PREALLOC

    def _check_types(self) -> None:
        if self.key_type not in (IPv4Addr, IPv6Addr):
            raise NotSupported(f"LpmTrie[{self.key_type.__name__}, ...]", why="keys are IPv4Addr or IPv6Addr")

    def _key_size(self) -> int:
        return 4 + info_of(self.key_type).size

    def _key(self, key: Any) -> bytes:
        if current_run() is not None and not isinstance(key, self.key_type):
            refuse("bad-type", f"a {type_name(key)} is not an {self.key_type.__name__}")
        length, address = prefix_of(key, self.key_type)
        return length.to_bytes(4, sys.byteorder) + address

    def _decode_key(self, data: bytes) -> Any:
        return network_of(int.from_bytes(data[:4], sys.byteorder), data[4:])

    def get(self, address: A | str, /) -> V | None:
        """The value of the longest prefix that holds `address`, or None."""
        return self._find(address)

    def __getitem__(self, prefix: A | str | IPv4Network | IPv6Network, /) -> V:
        return self._require(prefix)

    def __setitem__(self, prefix: A | str | IPv4Network | IPv6Network, value: V | int, /) -> None:
        self._put(prefix, value)

    def set(self, prefix: A | str | IPv4Network | IPv6Network, value: V | int, /, flags: int = BPF_ANY) -> s64:
        """As `Hash.set`; in a program the prefix is an address with all its bits."""
        return self._set(prefix, value, flags)

    def delete(self, prefix: A | str | IPv4Network | IPv6Network, /) -> s64:
        """As `Hash.delete`."""
        return self._delete(prefix)

    def __delitem__(self, prefix: A | str | IPv4Network | IPv6Network, /) -> None:
        self._drop(prefix)

    def __contains__(self, address: A | str, /) -> bool:
        return self._has(address)

    def keys(self) -> Iterator[IPv4Network | IPv6Network]:
        """Every prefix; user space only."""
        return (self._decode_key(key) for key in self._stored_keys("keys()"))

    def __iter__(self) -> Iterator[IPv4Network | IPv6Network]:
        return self.keys()

    def items(self) -> Iterator[tuple[IPv4Network | IPv6Network, V]]:
        """Every entry, the values as copies; user space only."""
        return self._items()
