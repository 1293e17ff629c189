"""Maps whose values are maps: all like one that is given as a pattern, put in and exchanged by user space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from ebpfkit.dsl.maps import ENOENT, MapFacade
from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import ShortExit, current_run
from ebpfkit.dsl.types import encode, info_of, u32
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapKeyError, UsageError
from ebpfkit.maps.store import MapStore

__all__ = ["ArrayOfMaps", "HashOfMaps", "MapOfMaps"]

K = TypeVar("K")
M = TypeVar("M", bound=MapFacade)


class MapOfMaps(MapFacade, Generic[K, M]):
    """The base of both: `inner` is the pattern of the maps that are in it."""

    parameters: ClassVar[tuple[str, ...]] = ()
    in_program = "get, [], in"

    def __init__(self, key: Any, inner: M, *, max_entries: int, name: str = "", flags: int = 0) -> None:
        if not isinstance(inner, MapFacade):
            refuse("bad-map", f"{type(self).__name__} holds maps like one that is given, not a {type(inner).__name__}")
        if isinstance(inner, MapOfMaps) or inner.map_type in ("prog_array", "cgroup_storage", "struct_ops"):
            refuse("bad-map", f"a {type(inner).__name__} cannot be in a map")
        info_of(key)
        super().__init__(max_entries=max_entries, name=name, flags=flags)
        self.key_type = key
        self.inner = inner
        self._placed: dict[bytes, M] = {}
        self._created: list[tuple[MapStore, M, Any]] = []

    def _value_size(self) -> int:
        return 4

    @property
    def stored_types(self) -> tuple[Any, Any]:
        """The key's type, and the number that stands for a map."""
        return self.key_type, u32

    def definition(self, name: str) -> MapSpec:
        """The map as it will be created, with the pattern of the maps in it."""
        return super().definition(name).replace(inner=self.inner.definition(f"{name}.inner"))

    def get(self, key: K | int, /) -> M | None:
        """The map under a key, or None."""
        data = encode(self.key_type, key)
        run = current_run()
        if run is None:
            return self._placed.get(data)
        store = self._run_store(run).inner(data)
        return None if store is None else self._seen(store)

    def _seen(self, store: MapStore) -> M:
        return self.inner.view(store, name=f"{self.name}[...]")

    def __getitem__(self, key: K | int, /) -> M:
        found = self.get(key)
        if found is None:
            message = f"'{self.name}' has no map under {key!s}"
            if current_run() is not None:
                raise ShortExit(message)
            raise MapKeyError(message, errno=ENOENT)
        return found

    def __contains__(self, key: K | int, /) -> bool:
        return self.get(key) is not None

    def __setitem__(self, key: K | int, inner: M, /) -> None:
        """Put a map in, or exchange the one that is there in one step; user space only.

        With a live map it is created and filled with what was put into `inner`, which then stands for the live one.
        """
        self._refuse_inside("put a map into")
        data = encode(self.key_type, key)
        self._place(self.store, data, inner)
        self._placed[data] = inner

    def __delitem__(self, key: K | int, /) -> None:
        self._refuse_inside("delete from")
        data = encode(self.key_type, key)
        self.store.delete(data)
        self._placed.pop(data, None)

    def _refuse_inside(self, what: str) -> None:
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot {what} the map '{self.name}'")

    @property
    def placed(self) -> Mapping[bytes, M]:
        """The maps that were put in, by the bytes of their keys."""
        return self._placed

    def _place(self, store: Any, key: bytes, inner: M) -> None:
        mine, its = self.inner.definition("inner"), inner.definition("inner")
        same = all(getattr(mine, part) == getattr(its, part) for part in ("type", "key_size", "value_size", "flags"))
        if not same or (mine.type == "array" and mine.max_entries != its.max_entries):
            raise UsageError(f"this {type(inner).__name__} is not like the pattern of '{self.name}'")
        inner.adopt_name("inner")
        if hasattr(store, "set_store"):
            store.set_store(key, inner.memory_store)
            return
        if not inner.is_bound:
            live = _live_copy(store, inner)
            self._created.append((store, inner, live))
            inner.bind(live)
        held: Any = inner.store
        store.set(key, encode(u32, held.fileno()))

    def bind(self, store: MapStore) -> None:
        """Make `store` the one that user space works on; the maps that were put in before stand for live ones."""
        super().bind(store)
        for key, inner in self._placed.items():
            self._place(store, key, inner)

    def fill(self, store: MapStore) -> None:
        """Put copies of the maps that were put in into another store, and bind nothing to them."""
        if hasattr(store, "set_store"):
            from ebpfkit.maps.memory import create_store

            copies: dict[M, Any] = {}
            for key, inner in self._placed.items():
                if inner not in copies:
                    copies[inner] = create_store(inner.spec.replace(contents=inner.initial_contents()))
                store.set_store(key, copies[inner])
            return
        live: dict[M, Any] = {}
        try:
            for key, inner in self._placed.items():
                if inner not in live:
                    live[inner] = _live_copy(store, inner)
                store.set(key, encode(u32, live[inner].fileno()))
        finally:
            for held in live.values():
                held.close()

    def unbind(self, store: MapStore | None = None) -> None:
        """Let go of one store, or of all, and of the live maps that were made for it."""
        super().unbind(store)
        for created in [held for held in self._created if store is None or held[0] is store]:
            self._created.remove(created)
            created[1].unbind(created[2])
            created[2].close()

    def decode_key(self, data: bytes) -> Any:
        """A stored key in the map's key type."""
        return self.key_type.__ebpf_load__(Region(bytearray(data)), 0)

    def decode_value(self, data: bytes) -> u32:
        """The number that stands for a map: an id."""
        return u32.__ebpf_load__(Region(bytearray(data)), 0)

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """Nothing: maps do not go along as bytes, see `fill`."""
        return ()


def _live_copy(store: Any, inner: MapFacade) -> Any:
    """A map like `inner`, with what was put into it, where `store` is."""
    live = type(store).create(inner.spec)
    live.set_many(inner.initial_contents())
    return live


class ArrayOfMaps(MapOfMaps[u32, M], Generic[M]):
    """Maps by index (BPF_MAP_TYPE_ARRAY_OF_MAPS).

    tables = bpf.ArrayOfMaps(bpf.Hash[u32, u64](max_entries=64), max_entries=4)
    """

    map_type = "array_of_maps"

    def __init__(self, inner: M, /, *, max_entries: int, name: str = "", flags: int = 0) -> None:
        super().__init__(u32, inner, max_entries=max_entries, name=name, flags=flags)


class HashOfMaps(MapOfMaps[K, M], Generic[K, M]):
    """Maps by key (BPF_MAP_TYPE_HASH_OF_MAPS).

    tables = bpf.HashOfMaps(MAC, bpf.Array[u64](max_entries=4), max_entries=16)
    """

    map_type = "hash_of_maps"

    def __init__(self, key: type[K], inner: M, /, *, max_entries: int, name: str = "", flags: int = 0) -> None:
        super().__init__(key, inner, max_entries=max_entries, name=name, flags=flags)
