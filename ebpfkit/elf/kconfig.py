"""`.kconfig` externs: variables whose values are the target kernel's configuration, laid out as one constant map.

The values are handed in (`parse_config` reads a configuration file's text); where they come from is the caller's
affair. Facts: the types and rules of libbpf's documentation of `__kconfig`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ebpfkit._bits import round_up
from ebpfkit.btf import types as t
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import ObjectError

__all__ = ["ConfigVariable", "config_map", "lay_out", "parse_config"]

MAX_CONFIG = 16 << 20  # bytes of configuration text
BPF_F_RDONLY_PROG = 1 << 7
_TRISTATE = {"n": 0, "y": 1, "m": 2}
_HAS = "LINUX_HAS_"  # what a kernel can do, told by whoever opens the object; unknown counts as no


@dataclass(frozen=True, slots=True)
class ConfigVariable:
    """One extern: its place in the map in bytes, its type, and whether it may be missing (weak: then it is zero)."""

    name: str
    offset: int
    size: int
    type_id: int
    weak: bool


def parse_config(data: bytes) -> dict[str, str]:
    """The values of a kernel configuration by name ("CONFIG_HZ" -> "250"), from its text or that text gzipped.

    >>> parse_config(b'CONFIG_HZ=250\\n# CONFIG_KASAN is not set\\n')
    {'CONFIG_HZ': '250'}

    Raises ObjectError for a broken archive and a text that is too long.
    """
    if data[:2] == b"\x1f\x8b":
        stream = zlib.decompressobj(31)
        try:
            data = stream.decompress(data, MAX_CONFIG)
        except zlib.error as error:
            raise ObjectError(f"the archive is broken: {error}", place="kernel configuration") from None
        if stream.unconsumed_tail:
            raise ObjectError(f"it has more than {MAX_CONFIG >> 20} MiB", place="kernel configuration")
    found = {}
    for line in data.decode(errors="replace").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.startswith("CONFIG_"):
            found[name] = value.strip()
    return found


def lay_out(btf: t.Btf, externs: Iterable[tuple[str, int, bool]]) -> tuple[ConfigVariable, ...]:
    """Places for (name, type id, weak): the widest alignment first, then by size and name. Raises ObjectError."""
    rows = []
    for name, type_id, weak in externs:
        size = btf.size_of(type_id)
        if not 0 < size <= 4096:
            raise ObjectError(f"extern {name!r} has {size} bytes; 1 to 4096 can be", place=".kconfig")
        rows.append((-_alignment(btf, type_id), size, name, type_id, weak))
    found: list[ConfigVariable] = []
    end = 0
    for alignment, size, name, type_id, weak in sorted(rows):
        offset = round_up(end, -alignment)
        found.append(ConfigVariable(name, offset, size, type_id, weak))
        end = offset + size
    return tuple(found)


def _alignment(btf: t.Btf, type_id: int) -> int:
    type_ = btf.resolve(type_id)
    for _ in range(t.MAX_DEPTH):
        if not isinstance(type_, t.Array):
            break
        type_ = btf.resolve(type_.type)
    size = type_.size if isinstance(type_, t.Int | t.Enum) else 8
    return size if size in (1, 2, 4, 8) else 1


def config_map(
    btf: t.Btf, variables: tuple[ConfigVariable, ...], values: Mapping[str, str | int], order: str
) -> tuple[MapSpec, dict[str, str]]:
    """The map of all variables with their values, and for each variable without one the reason.

    `order` is "<" or ">". Values are as a configuration file writes them: y, n, m, a number, or a quoted string.
    """
    size = round_up(max(v.offset + v.size for v in variables), 8)
    data = bytearray(size)
    faults = {}
    for variable in variables:
        value = values.get(variable.name)
        if value is None and variable.name.startswith(_HAS):
            continue
        if value is None:
            # A configuration says nothing of what is off, so only a variable that may be missing has a value then.
            if not variable.weak:
                faults[variable.name] = f"the kernel configuration has no {variable.name}; declare it __weak if it may"
            continue
        try:
            encoded = _encode(btf, variable, value if isinstance(value, str) else str(value), order)
        except ObjectError as error:
            faults[variable.name] = str(error)
            continue
        data[variable.offset : variable.offset + len(encoded)] = encoded
    spec = MapSpec(
        ".kconfig", "array", 4, size, 1, BPF_F_RDONLY_PROG, data=bytes(data), frozen=True, section=".kconfig",
        btf_value_type=btf.find_id(".kconfig", t.Datasec),
    )  # fmt: skip
    return spec, faults


def _encode(btf: t.Btf, variable: ConfigVariable, text: str, order: str) -> bytes:
    type_ = btf.resolve(variable.type_id)
    name, place = variable.name, ".kconfig"
    if isinstance(type_, t.Array):
        element = btf.resolve(type_.type)
        if not isinstance(element, t.Int) or element.size != 1 or not _is_quoted(text):
            raise ObjectError(f"{name} is {text}, which is no text for an array of char", place=place)
        return text[1:-1].encode()[: variable.size - 1]
    if isinstance(type_, t.Enum):
        if type_.name != "libbpf_tristate" or text not in _TRISTATE:
            raise ObjectError(f"{name} is {text}; an enumeration must be libbpf_tristate, for y, n or m", place=place)
        number = _TRISTATE[text]
    elif not isinstance(type_, t.Int):
        raise ObjectError(f"{name} is no integer, bool, char, array of char or libbpf_tristate", place=place)
    elif text in _TRISTATE:
        is_char = type_.size == 1 and type_.name == "char"
        if (not type_.is_bool and not is_char) or (type_.is_bool and text == "m"):
            raise ObjectError(f"{name} is {text}, which {type_.name} cannot hold", place=place)
        number = ord(text) if is_char else _TRISTATE[text]
    else:
        number = _number(name, text)
        if type_.is_bool:
            raise ObjectError(f"{name} is {text}, which bool cannot hold", place=place)
        bits = type_.size * 8
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if type_.is_signed else (0, (1 << bits) - 1)
        if not low <= number <= high:
            raise ObjectError(f"{name} is {text}, which does not fit {type_.name}", place=place)
    mask = (1 << variable.size * 8) - 1
    return (number & mask).to_bytes(variable.size, "little" if order == "<" else "big")


def _is_quoted(text: str) -> bool:
    return len(text) >= 2 and text[0] == text[-1] == '"'


def _number(name: str, text: str) -> int:
    try:
        if len(text) > 32:
            raise ValueError
        return int(text, 0)
    except ValueError:
        raise ObjectError(f"{name} is {text[:64]}, which is no number", place=".kconfig") from None
