"""Objects that were compiled before, kept in the user's cache folder.

The front end always runs: what it hands to LLVM is the key, so whatever a program refers to (constants, types, maps,
functions of other modules, options) is in it by construction. Beside it stand what LLVM reads or is by itself: the text
of the source files, whose lines go into the BTF, and the versions of llvmlite and of the back end here. A hit is used
only when it is whole and belongs to the user. `EBPFKIT_CACHE=` (empty) switches the cache off, `EBPFKIT_CACHE=FOLDER`
moves it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ebpfkit import llvm
from ebpfkit.btf.index import cache_folder

__all__ = ["fetch", "key_of"]

_MAGIC = b"ebpfkit object 1\n"
_DIGEST = 32
MOST_OBJECTS = 2000
"""How many objects are kept; beyond that the half that was used longest ago goes."""
_FILE = re.compile(r'!DIFile\(filename: "((?:[^"\\]|\\[0-9A-F]{2})*)", directory: "((?:[^"\\]|\\[0-9A-F]{2})*)"\)')
_ESCAPED = re.compile(r"\\([0-9A-F]{2})")


@lru_cache(maxsize=1)
def back_end() -> bytes:
    """What turns the text into an object: this package's own back end, and llvmlite, by the state of their files."""
    found = find_spec("llvmlite")
    folders = [Path(path) for path in llvm.__path__]
    if found is not None and found.origin is not None:
        folders += [Path(found.origin).parent, Path(found.origin).parent / "binding"]
    states = []
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix in (".py", ".so", ".dylib", ".dll"):
                state = path.stat()
                states.append(f"{path} {state.st_size} {state.st_mtime_ns}")
    return "\n".join(states).encode()


def _unquote(text: str) -> bytes:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1")


def _source_text(directory: str, name: str) -> bytes:
    """The file from which LLVM takes lines, or nothing where there is none."""
    path = os.path.join(_unquote(directory), _unquote(name))
    try:
        with open(path, "rb") as file:
            return b"+" + file.read()
    except (OSError, ValueError):
        return b"-"


def key_of(text: str, cpu: str) -> str:
    """The key of what LLVM makes of a module's text for a CPU."""
    digest = hashlib.sha256()
    parts = [_MAGIC, back_end(), sys.byteorder.encode(), cpu.encode(), text.encode(errors="surrogateescape")]
    parts += [_source_text(directory, name) for name, directory in dict.fromkeys(_FILE.findall(text))]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def fetch(text: str, cpu: str, make: Callable[[], bytes]) -> bytes:
    """The object of a module's text: the one that was kept, or what `make` gives, which is kept from now on."""
    base = cache_folder()
    if base is None:
        return make()
    folder = base / "objects"
    path = folder / key_of(text, cpu)
    found = _load(path)
    if found is None:
        found = make()
        with contextlib.suppress(OSError):  # a full or read-only disk: the next time compiles again
            _keep(folder, path, found)
    return found


def _load(path: Path) -> bytes | None:
    """What is kept there, if it is whole and nobody else could have written it."""
    try:
        with open(path, "rb") as file:
            owner = os.fstat(file.fileno())
            data = file.read()
    except OSError:
        return None
    foreign = hasattr(os, "geteuid") and (owner.st_uid != os.geteuid() or owner.st_mode & 0o022)
    payload = data[len(_MAGIC) + _DIGEST :]
    if foreign or data[: len(_MAGIC) + _DIGEST] != _MAGIC + hashlib.sha256(payload).digest():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return payload


def _keep(folder: Path, path: Path, data: bytes) -> None:
    """Write beside it and rename, so that no reader ever sees half an object."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(data).digest() + data)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _trim(folder)


def _trim(folder: Path) -> None:
    names = os.listdir(folder)
    if len(names) <= MOST_OBJECTS:
        return
    used = []
    for name in names:
        with contextlib.suppress(OSError):
            used.append((os.stat(folder / name).st_mtime_ns, name))
    for _, name in sorted(used)[: len(used) // 2]:
        with contextlib.suppress(OSError):
            os.unlink(folder / name)
