"""Entries of maps written by hand, on a command line or in a file: text to bytes, by the types of the map.

    blocked[192.0.2.0/24]=7         one entry
    events[]=0x1234                 a map without keys: push
    counts=@dump.json               what `--json` and `bpftool map dump -j` print

A key or value is a number, an address, a prefix (of a trie), a program's name (of a program array), bytes as
`hex:0a0b0c`, or, in the language's own maps, whatever Python literal the map takes; a structure is written as a dict.
"""

from __future__ import annotations

import ast
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import EbpfError, UsageError

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.maps.store import MapStore
    from ebpfkit.pipeline.sources import Source

__all__ = ["Entries", "encode_entry", "read_entries"]

Entries = Mapping[str, list[tuple[bytes, bytes]]]
_FORM = re.compile(r"(?P<name>[\w.]+)(?:\[(?P<key>.*?)\])?=(?P<value>.*)", re.DOTALL)


def read_entries(source: Source, texts: Iterable[str], programs: Mapping[str, int] | None = None) -> Entries:
    """The entries that `texts` ask for, as bytes by map; `programs` are numbers for names in a program array.

    Raises UsageError for a map that is not there, and for what does not fit its sizes.
    """
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for text in texts:
        form = _FORM.fullmatch(text)
        if form is None:
            raise UsageError(f"a map's entry is written NAME[KEY]=VALUE or NAME=@FILE, not {text!r}")
        name = form["name"]
        spec = source.object.maps.get(name)
        if spec is None:
            raise UsageError(f"there is no map {name!r}; there are {', '.join(source.object.maps) or 'none'}")
        if form["key"] is None:
            if not form["value"].startswith("@"):
                raise UsageError(f"{text!r}: write {name}[KEY]=VALUE for an entry, {name}=@FILE for a file of them")
            found.setdefault(name, []).extend(_from_file(Path(form["value"][1:]), spec))
            continue
        entry = _entry(source.facades.get(name), spec, form["key"], form["value"], programs or {}, source)
        found.setdefault(name, []).append(entry)
    return found


def _entry(
    facade: MapFacade | None, spec: MapSpec, key: str, value: str, programs: Mapping[str, int], source: Source
) -> tuple[bytes, bytes]:
    if facade is not None and spec.type not in ("xskmap", "queue", "stack"):
        return _of_language(facade, spec, key, value)
    order = "big" if source.object.big_endian else "little"
    if spec.type == "prog_array" and value in programs:
        value = str(programs[value])
    stored = _bytes(spec, "key", key, spec.key_size, order) if spec.key_size else b""
    return stored, _bytes(spec, "value", value, spec.value_size, order)


def _of_language(facade: MapFacade, spec: MapSpec, key: str, value: str) -> tuple[bytes, bytes]:
    kind: Any = getattr(facade, "value_type", None)
    try:
        return encode_entry(facade, spec, _literal(key), _as(kind, _literal(value)))
    except (TypeError, ValueError, EbpfError) as error:
        why = (error.message if isinstance(error, EbpfError) else str(error)) + _form_of(kind, value)
        raise UsageError(f"map '{spec.name}': [{key}]={value} does not fit: {why}") from error


def encode_entry(facade: MapFacade, spec: MapSpec, key: Any, value: Any) -> tuple[bytes, bytes]:
    """An entry of a map of the language as bytes: what it takes in Python. Raises what the map raises."""
    from ebpfkit.maps.memory import create_store

    recorder = _Recorder(create_store(spec.replace(contents=())))
    store: Any = recorder  # the map only ever sets
    view: Any = facade.view(store)
    if "percpu" in spec.type:
        view.set_per_cpu(key, [value])
    else:
        view[key] = value
    return recorder.taken[-1]


class _Recorder:
    """A store that remembers the bytes that were put into it."""

    def __init__(self, store: MapStore) -> None:
        self._store = store
        self.taken: list[tuple[bytes, bytes]] = []

    def set(self, key: bytes, value: bytes, flags: int = 0) -> None:
        self._store.set(key, value, flags)
        self.taken.append((key, value))


def _form_of(kind: Any, value: str) -> str:
    """How a structure is written, to whom it was not known."""
    if isinstance(_literal(value), dict):
        return ""
    info = getattr(kind, "__ebpf_type__", None)
    fields = getattr(info, "fields", ())
    return f"; a {kind.__name__} is written {{{', '.join(f'{field.name!r}: 0' for field in fields)}}}" if fields else ""


def _literal(text: str) -> Any:
    """A Python literal, or the text itself (an address)."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _as(kind: Any, value: Any) -> Any:
    return kind(**value) if isinstance(value, dict) else value


def _bytes(spec: MapSpec, what: str, text: str, size: int, order: Any) -> bytes:
    """A key or value of a map without types of the language."""
    data = _without_types(text, size, order, is_prefix=what == "key" and spec.type == "lpm_trie")
    if data is None or len(data) != size:
        raise UsageError(
            f"map '{spec.name}': {text!r} is no {what} of {size} bytes: write a number, an address, or hex: and "
            f"{2 * size} digits"
        )
    return data


def _without_types(text: str, size: int, order: Any, *, is_prefix: bool) -> bytes | None:
    if text.startswith("hex:"):
        try:
            return bytes.fromhex(text[4:])
        except ValueError:
            return None
    try:
        number = int(text, 0)
        bits = 8 * size
        return (number & ((1 << bits) - 1)).to_bytes(size, order) if -(1 << bits - 1) <= number < 1 << bits else None
    except ValueError:
        pass
    try:
        if is_prefix:
            network = ipaddress.ip_network(text)
            return network.prefixlen.to_bytes(4, order) + network.network_address.packed
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def _from_file(path: Path, spec: MapSpec) -> list[tuple[bytes, bytes]]:
    """The entries of a dump: a list of keys and values as lists of bytes; or a document with all maps."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path}: this is no JSON: {error}") from error
    if isinstance(document, dict):
        document = document.get("maps", document).get(spec.name)
    if not isinstance(document, list):
        raise UsageError(f"{path}: there are no entries of map '{spec.name}': a list of key and value is expected")
    entries = []
    for number, row in enumerate(document, 1):
        if not isinstance(row, dict) or "value" not in row:
            raise UsageError(f"{path}: entry {number} has no value")
        key, value = (_dumped(path, number, row.get(name, [])) for name in ("key", "value"))
        if len(key) != spec.key_size:
            raise UsageError(
                f"{path}: entry {number}: a key of '{spec.name}' has {spec.key_size} bytes, not {len(key)}"
            )
        entries.append((key, value))
    return entries


def _dumped(path: Path, number: int, items: Sequence[Any]) -> bytes:
    try:
        return bytes(int(item, 0) if isinstance(item, str) else item for item in items)
    except (TypeError, ValueError) as error:
        raise UsageError(f'{path}: entry {number}: bytes are a list such as ["0x0a", "0x0b"]: {error}') from error
