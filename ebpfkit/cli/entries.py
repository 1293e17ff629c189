"""The contents of maps as the command line prints them: bpftool's shape, with values in the types of the map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ebpfkit._bits import round_up

if TYPE_CHECKING:
    from ebpfkit.maps.store import MapStore
    from ebpfkit.pipeline import MachineRun, Source

__all__ = ["map_entries"]


def map_entries(run: MachineRun) -> dict[str, list[dict[str, Any]]]:
    """The entries of every map by name: key and value as bytes, and `formatted` in the map's types.

    Of arrays, whose every slot exists, those that are not zero.
    """
    return {name: list(_entries(run.source, name, store)) for name, store in run.machine.maps.items()}


def _entries(source: Source, name: str, store: MapStore) -> Iterator[dict[str, Any]]:
    from ebpfkit.pipeline import entries_of

    for key, value in entries_of(store):
        yield {
            "key": [f"0x{byte:02x}" for byte in key],
            "value": [f"0x{byte:02x}" for byte in value],
            "formatted": _formatted(source, name, store, key, value),
        }


def _formatted(source: Source, name: str, store: MapStore, key: bytes, value: bytes) -> dict[str, Any]:
    spec = store.spec
    facade = source.facades.get(name)
    if facade is not None and spec.type != "xskmap":
        return {"key": _plain(facade.decode_key(key)), "value": _plain(facade.decode_value(value))}
    values: Any = _by_btf(source, spec.btf_value_type, value)
    if "percpu" in spec.type:
        stride = round_up(spec.value_size, 8)
        cells = [value[at : at + spec.value_size] for at in range(0, len(value), stride)]
        values = [_by_btf(source, spec.btf_value_type, cell) for cell in cells]
    return {"key": _by_btf(source, spec.btf_key_type, key), "value": values}


def _by_btf(source: Source, type_id: int, data: bytes) -> Any:
    from ebpfkit.btf.values import decode_value

    btf = source.object.btf
    return decode_value(btf, type_id, data) if btf is not None and type_id else data.hex()


def _plain(value: Any) -> Any:
    """A value of the language as JSON has it: structures as objects, numbers as numbers, addresses as text."""
    from ebpfkit.dsl.structs import Struct
    from ebpfkit.dsl.types import Integer, be16, be32, be64

    if isinstance(value, Struct):
        return {field.name: _plain(getattr(value, field.name)) for field in type(value).__ebpf_type__.fields}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, (be16, be32, be64)):
        return int(value.to_host())
    return int(value) if isinstance(value, Integer) else str(value)
