"""Maps as a module declares them: a facade of spec, types and current store, the same object in a program and outside.

Inside a run of a program an operation means what the kernel's helper does: structures are views of the value in the
map, a failed update is not an exception. In user space it means what bpf(2) does: values are copies, a missing key is
a `MapKeyError`. Unbound, the store is in memory, and what is put there becomes the initial contents at load. Byte
stores live in `ebpfkit.maps`; per-CPU maps are in `percpu_maps`, prefixes in `tries`, ring buffers and maps of
references in `special_maps`.
"""

from __future__ import annotations

import copy
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from ebpfkit._bits import round_up
from ebpfkit.abi.map_types import WITH_KPTRS, WITH_SPIN_LOCKS, WITH_TIMERS
from ebpfkit.dsl.callbacks import for_each
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import caller_span, refuse
from ebpfkit.dsl.running import Run, ShortExit, current_run
from ebpfkit.dsl.struct_layout import PaddingWarning, padding_of
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.typeinfo import StructType, TypeInfo
from ebpfkit.dsl.types import encode, info_of, s64, u32
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapKeyError, UsageError
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST, BPF_NOEXIST, MapStore

__all__ = ["BPF_ANY", "BPF_EXIST", "BPF_NOEXIST", "Array", "Entries", "Hash", "LruHash", "MapFacade"]

NAME_LENGTH = 15  # BPF_OBJ_NAME_LEN without its terminating zero
ENOENT = 2

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S", bound=Struct | None)


_OPAQUE = {
    "bpf_spin_lock": (WITH_SPIN_LOCKS, "a spin lock"),
    "bpf_timer": (WITH_TIMERS, "a timer"),
    "kptr": (WITH_KPTRS, "a Kptr"),
}
"""The kernel's own structures in values: the map types that keep them, and how a message calls them."""


class MapFacade:
    """The base of all maps: name, spec and store; what can be done with entries is in the subclasses.

    `key_type` and `value_type` are the types between the brackets, or None where the map has none; `in_program` says
    what a program can do with the map. The name is that of
    the module's global unless `name=` is given, at most 15 characters.
    """

    map_type: ClassVar[str] = ""
    extra_flags: ClassVar[int] = 0
    is_per_cpu: ClassVar[bool] = False
    in_program: ClassVar[str] = "get, set, delete, [], in, del"
    least_entries: ClassVar[int] = 1
    key_type: Any = None
    value_type: Any = None
    parameters: ClassVar[tuple[str, ...]] = ("key_type", "value_type")
    _made: ClassVar[dict[tuple[Any, ...], type[Any]]] = {}

    if not TYPE_CHECKING:

        def __class_getitem__(cls, params):
            given = params if isinstance(params, tuple) else (params,)
            if any(isinstance(kind, TypeVar) for kind in given):
                return super().__class_getitem__(params)
            if len(given) != len(cls.parameters):
                wanted = ", ".join(name.removesuffix("_type") for name in cls.parameters)
                refuse("bad-map", f"{cls.__name__}[...] takes {wanted}, not {len(given)} types")
            made = cls._made.get((cls, *given))
            if made is None:
                for kind in given:
                    info_of(kind)
                made = type(cls.__name__, (cls,), {"__module__": cls.__module__})
                for name, kind in zip(cls.parameters, given):
                    setattr(made, name, kind)
                MapFacade._made[(cls, *given)] = made
            return made

    def __init__(self, *, max_entries: int, name: str = "", flags: int = 0) -> None:
        if any(getattr(self, name) is None for name in self.parameters):
            wanted = ", ".join(name.removesuffix("_type").capitalize() for name in self.parameters)
            refuse("bad-map", f"{type(self).__name__} needs its types", f"write {type(self).__name__}[{wanted}](...)")
        given: object = max_entries
        if not isinstance(given, int) or not self.least_entries <= given < 1 << 32:
            raise UsageError(f"max_entries is a positive number of 32 bits, not {max_entries!r}")
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("ebpfkit.dsl"):
            frame = frame.f_back
        self._globals: Mapping[str, object] = frame.f_globals
        self._name = _checked_name(name) if name else ""
        self._bound: list[MapStore] = []
        self._memory: Any = None
        self.max_entries = int(max_entries)
        self.flags = flags | self.extra_flags
        self.span = caller_span()
        self._check_types()
        self._check_opaque()
        self._name_padding()

    def _check_opaque(self) -> None:
        """Refuse what the kernel does not keep in values of this type."""
        for name in opaque_names(self.value_type):
            allowed, what = _OPAQUE[name]
            if self.map_type not in allowed:
                refuse("bad-map", f"values of a {type(self).__name__} cannot have {what}", "use a Hash or an Array")

    def _name_padding(self) -> None:
        """Warn of keys with padding: it is zero here, and must be so for everybody else who makes such keys."""
        info = getattr(self.key_type, "__ebpf_type__", None)
        holes = padding_of(info) if info is not None and not getattr(self.key_type, "_padding_is_meant", False) else []
        if holes and self.span is not None:
            named = ", ".join(f"{size} behind '{field}' (offset {offset})" for offset, size, field in holes)
            kind = self.key_type.__name__
            text = f"keys of type {kind} have bytes of padding: {named}; reorder the fields, name the bytes, or say "
            text += f"that they are meant: class {kind}(bpf.Struct, padding=True)"
            warnings.warn_explicit(text, PaddingWarning, self.span.file, self.span.line)

    def _check_types(self) -> None:
        """Refuse types that the map cannot have."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name or self._find_name() or '(unnamed)'}>"

    def __bool__(self) -> bool:
        return True

    # --- name and spec

    @property
    def name(self) -> str:
        """The map's name. Raises UsageError when it has none, or one that the kernel would cut off."""
        if not self._name:
            found = self._find_name()
            if not found:
                raise UsageError(f'this {type(self).__name__} is no global of its module: give it name="..."')
            self._name = _checked_name(found)
        return self._name

    def _find_name(self) -> str:
        return next((name for name, value in self._globals.items() if value is self), "")

    def adopt_name(self, name: str) -> None:
        """Use `name` where neither `name=` nor a global of the module gives one (a function's own map)."""
        if not self._name and not self._find_name():
            self._name = _checked_name(name)

    @property
    def stored_types(self) -> tuple[Any, Any]:
        """The types of key and value as they are stored."""
        return self.key_type, self.value_type

    @property
    def spec(self) -> MapSpec:
        """The map as it will be created; initial contents are apart, in `initial_contents`."""
        return self.definition(self.name)

    def definition(self, name: str) -> MapSpec:
        """The map as it would be created under another name."""
        return MapSpec(
            name=name,
            type=self.map_type,
            key_size=self._key_size(),
            value_size=self._value_size(),
            max_entries=self.max_entries,
            flags=self.flags,
            span=self.span,
        )

    def _key_size(self) -> int:
        return info_of(self.key_type).size

    def _value_size(self) -> int:
        return info_of(self.value_type).size

    # --- bytes as values of the map's types

    def decode_key(self, data: bytes) -> Any:
        """A stored key in the map's key type. Raises UsageError for maps whose entries have no types."""
        raise UsageError(f"the entries of '{self.name}' ({self.map_type}) are no values of the language")

    def decode_value(self, data: bytes) -> Any:
        """A stored value in the map's value type; of a per-CPU map, the list over all CPUs."""
        raise UsageError(f"the entries of '{self.name}' ({self.map_type}) are no values of the language")

    # --- stores

    def bind(self, store: MapStore) -> None:
        """Make `store` the one that user space works on (a load or a run does this)."""
        if store not in self._bound:
            self._bound.append(store)

    def unbind(self, store: MapStore | None = None) -> None:
        """Let go of one store, or of all; with none left the map is in memory again."""
        self._bound = [bound for bound in self._bound if store is not None and bound is not store]

    def close(self) -> None:
        """Let go of every store, and forget what is in memory."""
        self.unbind()
        self._memory = None

    def fill(self, store: MapStore) -> None:
        """Put into another store what does not go along as bytes: the maps in a map of maps."""

    def view(self, store: MapStore, *, name: str = "") -> Self:
        """This map on one store alone, as `collection[blocked]` gives it."""
        other = copy.copy(self)
        other._name = name or self.name
        other._bound = [store]
        return other

    @property
    def is_bound(self) -> bool:
        return bool(self._bound)

    @property
    def store(self) -> MapStore:
        """The store that user space works on now. Raises UsageError while two loads are alive."""
        if len(self._bound) > 1:
            raise UsageError(
                f"'{self.name}' belongs to {len(self._bound)} live loads: say which, as in collection[{self.name}]"
            )
        return self._bound[0] if self._bound else self.memory_store

    @property
    def memory_store(self) -> Any:
        """The store in memory, made when first asked for."""
        if self._memory is None:
            from ebpfkit.maps.memory import create_store

            self._memory = create_store(self.spec)
        return self._memory

    def make_native(self, cpus: int = 1) -> None:
        """Put the map in memory into a store that native code works on, with what is in it.

        A per-CPU map gets room for `cpus` CPUs at least; what is there stays with those that it belongs to.
        """
        from ebpfkit.maps.native import NATIVE, create_native_store

        old = self.memory_store
        if old.spec.type in NATIVE and not isinstance(old, NATIVE[old.spec.type]):
            self._memory = create_native_store(old.spec.replace(contents=()))
            self._memory.set_many(old.items())
        elif self.is_per_cpu and old.cpus < cpus:
            self._memory = create_native_store(old.spec.replace(contents=()), cpus=cpus)
            more = bytes(round_up(self._value_size(), 8) * (cpus - old.cpus))
            self._memory.set_many((key, value + more) for key, value in old.items())

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """What user space has put into the map in memory; slots of an array that are still zero are left out."""
        if self._memory is None:
            return ()
        return tuple((key, value) for key, value in self._memory.items() if "array" not in self.map_type or any(value))

    def _run_store(self, run: Run) -> Any:
        """The store whose live values a program sees."""
        if run.locked:
            refuse(
                "in-lock", f"the map '{self.name}' is used while a spin lock is held", "do it before or after the with"
            )
        store: Any = run.stores.get(self)
        if store is None:
            store = self.store
        if not hasattr(store, "lookup"):
            raise UsageError(
                f"'{self.name}' is bound to a map in the kernel, on which plain Python cannot run: close the load first"
            )
        if self.is_per_cpu and run.cpu >= store.cpus:
            raise UsageError(
                f"'{self.name}' has {store.cpus} CPU in memory and the run is on CPU {run.cpu}: "
                f"give it a store, as in maps={{{self.name}: create_store({self.name}.spec, cpus={run.cpu + 1})}}"
            )
        return store

    def _cpu(self, run: Run) -> int:
        """Which of a value's copies a program sees."""
        return run.cpu if self.is_per_cpu else 0


def opaque_names(kind: Any) -> list[str]:
    """The kernel's own structures in a type, which only it touches, such as "bpf_spin_lock"."""
    return _opaque_names(getattr(kind, "__ebpf_type__", None))


def _opaque_names(info: TypeInfo | None) -> list[str]:
    if not isinstance(info, StructType):
        return []
    if info.opaque:
        return [info.name]
    return [name for field in info.fields for name in _opaque_names(field.type)]


def _checked_name(name: str) -> str:
    if len(name) > NAME_LENGTH:
        raise UsageError(
            f"the map name '{name}' has {len(name)} characters, and the kernel keeps {NAME_LENGTH}: "
            f'give a shorter one, as in name="{name[:NAME_LENGTH]}"'
        )
    if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
        raise UsageError(f"the map name '{name}' may only have letters, digits, '_' and '.'")
    return name


class Entries(MapFacade, Generic[K, V]):
    """What every map with values can do, in a program and outside."""

    def _key(self, key: Any) -> bytes:
        return encode(self.key_type, key)

    def _stored_key(self, key: Any) -> bytes:
        """The key for storing and deleting; it differs from the one for looking up in a prefix map."""
        return self._key(key)

    def _decode_key(self, data: bytes) -> Any:
        return self.key_type.__ebpf_load__(Region(bytearray(data), RegionKind.SNAPSHOT, self.name), 0)

    def decode_key(self, data: bytes) -> Any:
        """A stored key in the map's key type."""
        return self._decode_key(data)

    def decode_value(self, data: bytes) -> Any:
        """A stored value in the map's value type, as a copy; of a per-CPU map, the list over all CPUs."""
        if not self.is_per_cpu:
            return self._snapshot(data)
        size = self._value_size()
        return [self._snapshot(data[at : at + size]) for at in range(0, len(data), round_up(size, 8))]

    def _load(self, region: Region) -> V:
        return cast(V, self.value_type.__ebpf_load__(region, 0))

    def _snapshot(self, data: bytes) -> V:
        return self._load(Region(bytearray(data), RegionKind.SNAPSHOT, self.name))

    def _find(self, key: Any) -> V | None:
        run = current_run()
        if run is not None:
            cell = self._run_store(run).lookup(self._key(key), self._cpu(run))
            return None if cell is None else self._load(Region(cell, RegionKind.MAP, self.name))
        self._refuse_per_cpu("[] and get")
        data = self.store.get(self._key(key))
        return None if data is None else self._snapshot(data)

    def _require(self, key: Any) -> V:
        found = self._find(key)
        if found is None:
            message = f"'{self.name}' has no key {key!s}"
            if current_run() is not None:
                raise ShortExit(message)
            raise MapKeyError(message, errno=ENOENT)
        return found

    def _put(self, key: Any, value: Any) -> None:
        data = encode(self.value_type, value)
        run = current_run()
        if run is not None:
            self._run_store(run).update(self._stored_key(key), data, BPF_ANY, self._cpu(run))
        else:
            self._refuse_per_cpu("[] =")
            self.store.set(self._stored_key(key), data)

    def _set(self, key: Any, value: Any, flags: int) -> s64:
        if flags not in (BPF_ANY, BPF_NOEXIST, BPF_EXIST):
            refuse("bad-flags", f"set() with the flags {flags}", "BPF_ANY, BPF_NOEXIST or BPF_EXIST")
        data = encode(self.value_type, value)
        run = current_run()
        if run is not None:
            return s64(self._run_store(run).update(self._stored_key(key), data, int(flags), self._cpu(run)))
        self._refuse_per_cpu("set")
        self.store.set(self._stored_key(key), data, int(flags))
        return s64(0)

    def _delete(self, key: Any) -> s64:
        run = current_run()
        if run is not None:
            return s64(self._run_store(run).remove(self._stored_key(key)))
        self.store.delete(self._stored_key(key))
        return s64(0)

    def _drop(self, key: Any) -> None:
        run = current_run()
        if run is not None:
            self._run_store(run).remove(self._stored_key(key))
        else:
            self.store.delete(self._stored_key(key))

    def _has(self, key: Any) -> bool:
        run = current_run()
        if run is not None:
            return self._run_store(run).lookup(self._key(key), self._cpu(run)) is not None
        return self.store.get(self._key(key)) is not None

    def for_each(self, visit: Callable[[K, V, S], bool | None], state: S, /) -> s64:
        """Call `visit(key, value, state)` for every entry until it returns True (bpf_for_each_map_elem): how many.

        In a program, for hashes and arrays and their per-CPU forms, in the kernel's order; the key is a copy, the value
        is the map's own. `state` is a local structure or None. User space writes `for key, value in m.items()`.
        """
        run = current_run()
        if run is None:
            hint = f"write for key, value in {self.name}.items()"
            refuse("program-only", f"{self.name}.for_each() has a meaning only in a running program", hint)
        from ebpfkit.abi.helpers import HELPERS_BY_NAME  # many rows, which few programs need

        if self.map_type not in (HELPERS_BY_NAME["for_each_map_elem"].map_types or ()):
            refuse("bad-map-operation", f"a program cannot call for_each() of this {type(self).__name__}")
        return for_each(self._live_entries(run), visit, state)

    def _live_entries(self, run: Run) -> Iterator[tuple[K, V]]:
        store = self._run_store(run)
        for stored in list(store.keys()):
            cell = store.lookup(stored, self._cpu(run))
            if cell is not None:
                key = self.key_type.__ebpf_load__(Region(bytearray(stored)), 0)
                yield key, self._load(Region(cell, RegionKind.MAP, self.name))

    def fire_timers(self, now: int) -> int:
        """Call the functions of the map's timers whose time has come, at `now` nanoseconds: how many.

        For runs in plain Python, where time stands still; in the kernel timers fire by themselves.
        """
        self._outside("fire_timers()")
        from ebpfkit.dsl.timers import fire

        return fire(self, now)

    def _refuse_per_cpu(self, what: str) -> None:
        if self.is_per_cpu:
            raise UsageError(
                f"{what} of the per-CPU map '{self.name}' has one value for each CPU: "
                f"write {self.name}.sum(key) or {self.name}.per_cpu(key)"
            )

    def _outside(self, what: str) -> MapStore:
        """The store for something that only user space can do."""
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot call {what} of the map '{self.name}'")
        return self.store

    def _stored_keys(self, what: str) -> Iterator[bytes]:
        return self._outside(what).keys()

    def _items(self) -> Iterator[tuple[Any, V]]:
        self._refuse_per_cpu("items()")
        for key, value in self._outside("items()").items():
            yield self._decode_key(key), self._snapshot(value)

    def values(self) -> Iterator[V]:
        """Every value, as a copy; user space only."""
        return (value for _, value in self._items())

    def __len__(self) -> int:
        return sum(1 for _ in self._stored_keys("len()"))


class Hash(Entries[K, V]):
    """A hash table (BPF_MAP_TYPE_HASH).

    `m[k]` of a missing key takes the short exit in an XDP program and raises MapKeyError in user space. In a program
    `m[k] = v` and `del m[k]` have no result, as with the helpers: a full map keeps its entries.
    """

    map_type = "hash"

    def get(self, key: K | int, /) -> V | None:
        """The value, or None; a structure is a view of the value in the map."""
        return self._find(key)

    def __getitem__(self, key: K | int, /) -> V:
        return self._require(key)

    def __setitem__(self, key: K | int, value: V | int, /) -> None:
        self._put(key, value)

    def set(self, key: K | int, value: V | int, /, flags: int = BPF_ANY) -> s64:
        """Store a value: 0, or a negative errno (bpf_map_update_elem); user space raises MapError instead.

        With BPF_NOEXIST only a new key (else -EEXIST), with BPF_EXIST only one that is there (else -ENOENT); a full map
        gives -E2BIG.
        """
        return self._set(key, value, flags)

    def delete(self, key: K | int, /) -> s64:
        """Remove an entry: 0, or -ENOENT (bpf_map_delete_elem); user space raises MapKeyError instead."""
        return self._delete(key)

    def __delitem__(self, key: K | int, /) -> None:
        self._drop(key)

    def __contains__(self, key: K | int, /) -> bool:
        return self._has(key)

    def keys(self) -> Iterator[K]:
        """Every key; user space only."""
        return (self._decode_key(key) for key in self._stored_keys("keys()"))

    def __iter__(self) -> Iterator[K]:
        return self.keys()

    def items(self) -> Iterator[tuple[K, V]]:
        """Every entry, the values as copies; user space only."""
        return self._items()

    def update(self, entries: Mapping[K, V], /) -> int:
        """Store many entries, in batches where the kernel can; how many. User space only."""
        pairs = [(self._stored_key(key), encode(self.value_type, value)) for key, value in entries.items()]
        return self._outside("update()").set_many(pairs)


class LruHash(Hash[K, V]):
    """A hash table that forgets what was used longest ago when it is full (BPF_MAP_TYPE_LRU_HASH)."""

    map_type = "lru_hash"


class Array(Entries[u32, V], Generic[V]):
    """An array of `max_entries` values, all zero at first (BPF_MAP_TYPE_ARRAY); the keys are u32.

    An index past the end is a missing key.
    """

    map_type = "array"
    parameters = ("value_type",)
    key_type = u32

    def get(self, index: int, /) -> V | None:
        """The value, or None past the end; a structure is a view of the value in the map."""
        return self._find(index)

    def __getitem__(self, index: int, /) -> V:
        return self._require(index)

    def __setitem__(self, index: int, value: V | int, /) -> None:
        self._put(index, value)

    def set(self, index: int, value: V | int, /, flags: int = BPF_ANY) -> s64:
        """Store a value: 0, or a negative errno such as -E2BIG past the end; user space raises MapError instead."""
        return self._set(index, value, flags)

    def __contains__(self, index: int, /) -> bool:
        return self._has(index)

    def keys(self) -> Iterator[u32]:
        """Every index; user space only."""
        return (self._decode_key(key) for key in self._stored_keys("keys()"))

    def items(self) -> Iterator[tuple[u32, V]]:
        """Every entry, the values as copies; user space only."""
        return self._items()

    def __iter__(self) -> Iterator[V]:
        return self.values()
