"""Maps with one value for each CPU: a program sees its CPU's, user space all of them."""

from __future__ import annotations

import inspect
from typing import Any, Generic, TypeVar, cast

from ebpfkit.dsl.maps import ENOENT, Array, Entries, Hash
from ebpfkit.dsl.typeinfo import ArrayType, StructType
from ebpfkit.dsl.types import Integer, encode, info_of, u32
from ebpfkit.errors import MapKeyError, UsageError

__all__ = ["LruPerCpuHash", "PerCpuArray", "PerCpuHash", "add_up"]

K = TypeVar("K")
V = TypeVar("V")


class _PerCpu(Entries[K, V]):
    """What user space can do with a map that has one value for each CPU."""

    is_per_cpu = True

    def per_cpu(self, key: K | int, /) -> list[V]:
        """The value of every CPU."""
        data = self._outside("per_cpu()").get(self._key(key))
        if data is None:
            raise MapKeyError(f"'{self.name}' has no key {key!s}", errno=ENOENT)
        return cast(list[V], self.decode_value(data))

    def sum(self, key: K | int, /) -> V:
        """The sum over all CPUs; of a structure, field by field."""
        return cast(V, add_up(self.value_type, self.per_cpu(key)))

    def set_per_cpu(self, key: K | int, values: list[V] | list[int], /) -> None:
        """Store one value for each CPU."""
        pad = bytes(-self._value_size() % 8)
        data = b"".join(encode(self.value_type, value) + pad for value in values)
        self._outside("set_per_cpu()").set(self._key(key), data)


def add_up(kind: Any, values: list[Any]) -> Any:
    """The sum of values of one type; of structures, field by field. Raises UsageError for what is no number."""
    info = info_of(kind)
    if isinstance(info, StructType):
        total = kind.zero()
        for field in info.fields:
            view = inspect.getattr_static(kind, field.name)
            parts = [getattr(value, field.name) for value in values]
            setattr(total, field.name, add_up(view.type_class, parts))
        return total
    if isinstance(info, ArrayType) or not issubclass(kind, Integer):
        raise UsageError(f"values of type {kind.__name__} cannot be added: write per_cpu(key)")
    return kind(sum(int(value) for value in values))


class PerCpuHash(_PerCpu[K, V], Hash[K, V]):
    """A hash table with one value for each CPU (BPF_MAP_TYPE_PERCPU_HASH)."""

    map_type = "percpu_hash"


class LruPerCpuHash(_PerCpu[K, V], Hash[K, V]):
    """A hash table with one value for each CPU that forgets (BPF_MAP_TYPE_LRU_PERCPU_HASH)."""

    map_type = "lru_percpu_hash"


class PerCpuArray(_PerCpu[u32, V], Array[V], Generic[V]):
    """An array with one value for each CPU (BPF_MAP_TYPE_PERCPU_ARRAY)."""

    map_type = "percpu_array"
    parameters = ("value_type",)
    key_type = u32
