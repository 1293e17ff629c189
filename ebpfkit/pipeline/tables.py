"""What surrounds a program, written in a file: routes, devices, sockets, the current task. As TOML, one table a row.

    hz = 250
    [[routes]]
    destination = "192.0.2.0/24"
    ifindex = 2
    gateway = "198.51.100.1"
    [[neighbours]]
    address = "198.51.100.1"
    ifindex = 2
    mac = "02:00:00:00:00:01"
    [[devices]]
    ifindex = 2
    [[sockets]]
    protocol = "tcp"
    local = "192.0.2.1"
    local_port = 80
    [task]
    pid = 12

The fields of each table are those of the class in `ebpfkit.vm.network` and `ebpfkit.vm.objects`; what they mean is said
there.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.vm.surroundings import Around

__all__ = ["read_tables"]

_ROWS = ("routes", "neighbours", "devices", "sockets", "xfrm", "user_memory")
_NUMBERS = ("hz", "cgroup_id")
_OTHERS = ("task", "cookie_secret")


def read_tables(path: str | os.PathLike[str]) -> Around:
    """Read such a file: the arguments of Machine. Raises UsageError for what is none, by the name of its table."""
    import tomllib

    name = os.fspath(path)
    try:
        with open(path, "rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}: this is no TOML: {error}") from error
    unknown = [key for key in document if key not in (*_ROWS, *_NUMBERS, *_OTHERS)]
    if unknown:
        there = ", ".join((*_ROWS, *_NUMBERS, *_OTHERS))
        raise UsageError(f"{name}: there is no table {unknown[0]!r}; there are {there}")
    return _arguments(name, document)


def _arguments(name: str, document: Mapping[str, Any]) -> Around:
    from ebpfkit.vm.network import Device, Fib, Neighbour, Route, Socket, XfrmState

    around: Around = {}
    if "routes" in document or "neighbours" in document:
        routes, neighbours = _rows(name, document, "routes", Route), _rows(name, document, "neighbours", Neighbour)
        try:
            around["fib"] = Fib(routes, neighbours)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error
    if "devices" in document:
        around["devices"] = _rows(name, document, "devices", Device)
    if "sockets" in document:
        around["sockets"] = _rows(name, document, "sockets", Socket)
    if "xfrm" in document:
        around["xfrm"] = _rows(name, document, "xfrm", XfrmState)
    if "hz" in document:
        around["hz"] = _number(name, document, "hz")
    if "cgroup_id" in document:
        around["cgroup_id"] = _number(name, document, "cgroup_id")
    if "cookie_secret" in document:
        around["cookie_secret"] = str(document["cookie_secret"]).encode()
    if "task" in document:
        around["task"] = _task(name, document["task"])
    if "user_memory" in document:
        around["user_memory"] = dict(_memory(name, row) for row in _list(name, document, "user_memory"))
    return around


def _list(name: str, document: Mapping[str, Any], table: str) -> list[Mapping[str, Any]]:
    rows = document.get(table, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{name}: {table} are rows: write [[{table}]] above each")
    return rows


def _rows(name: str, document: Mapping[str, Any], table: str, kind: type[Any]) -> list[Any]:
    return [
        _row(f"{name}: {table}, row {number}", row, kind) for number, row in enumerate(_list(name, document, table), 1)
    ]


def _row(where: str, row: Mapping[str, Any], kind: type[Any]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = [key for key in row if key not in fields]
    if unknown:
        raise UsageError(f"{where}: there is no {unknown[0]!r}; there are {', '.join(fields)}")
    absent = dataclasses.MISSING
    for field in fields.values():
        if field.name not in row and field.default is absent and field.default_factory is absent:
            raise UsageError(f"{where}: {field.name} is missing")
    values = {key: _plain(where, key, value, str(fields[key].type)) for key, value in row.items()}
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _plain(where: str, key: str, value: Any, kind: str) -> Any:
    """A value of TOML as the field takes it: lists are tuples, bytes are hexadecimal digits."""
    wanted: dict[str, type | tuple[type, ...]] = {
        "int": int, "bool": bool, "str": str, "bytes": str, "str | None": str, "tuple[int, ...]": list,
        "Mapping[str, int]": dict,
    }  # fmt: skip
    expected = wanted.get(kind)
    fits = expected is None or (isinstance(value, expected) and (kind == "bool" or not isinstance(value, bool)))
    if not fits:
        raise UsageError(f"{where}: {key} is {value!r}, not {kind}")
    if kind == "bytes":
        return _hex(where, key, value)
    return tuple(value) if isinstance(value, list) else value


def _hex(where: str, key: str, value: Any) -> bytes:
    try:
        return bytes.fromhex(str(value))
    except ValueError as error:
        raise UsageError(f"{where}: {key} takes hex digits, two a byte: {error}") from error


def _number(name: str, document: Mapping[str, Any], key: str) -> int:
    value = document[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{name}: {key} is {value!r}, not a number")
    return value


def _task(name: str, row: Any) -> Any:
    from ebpfkit.vm.objects import PidNamespace, Task

    if not isinstance(row, dict):
        raise UsageError(f"{name}: the task is one table: write [task] above it")
    values = dict(row)
    if "pid_namespace" in values:
        values["pid_namespace"] = _row(f"{name}: task.pid_namespace", values["pid_namespace"], PidNamespace)
    return _row(f"{name}: task", values, Task)


def _memory(name: str, row: Mapping[str, Any]) -> tuple[int, bytes]:
    if set(row) != {"address", "hex"} or not isinstance(row["address"], int):
        raise UsageError(f"{name}: user_memory: each row has an address (a number) and hex (its bytes)")
    return row["address"], _hex(f"{name}: user_memory", "hex", row["hex"])
