"""Kernel functions of strings in memory: what they find is a place, or a negative errno.

A string ends with a zero, is in one piece of memory, and has at most 64 KiB; the kernel's errors for one that does not
are -E2BIG, and -EFAULT where its memory ends (-ERANGE for addresses of user space).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from ebpfkit._bits import U32_MAX
from ebpfkit.vm.kfuncs_registry import kfunc
from ebpfkit.vm.memory import MemoryFault

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

_LIMIT = 1 << 16
_USER_END = 1 << 47


class _Failed(Exception):
    """A string cannot be read; with the errno."""


def _string(vm: Machine, address: int, limit: int = _LIMIT) -> bytes:
    """The bytes of a string, without its zero, or `limit` of them when it is longer."""
    try:
        data = vm.memory.read_string(address, limit)
    except MemoryFault:
        raise _Failed(errno.ERANGE if address < _USER_END else errno.EFAULT) from None
    if len(data) == limit:
        if limit == _LIMIT:
            raise _Failed(errno.E2BIG)
        return data
    try:
        vm.memory.read(address + len(data), 1)
    except MemoryFault:
        raise _Failed(errno.EFAULT) from None
    return data


def _answers(function: Callable[..., int]) -> Callable[..., int]:
    """The errno of a string that cannot be read becomes the answer."""

    @wraps(function)
    def answer(*arguments: int) -> int:
        try:
            return function(*arguments)
        except _Failed as failed:
            return -int(failed.args[0])

    return answer


def _found(place: int) -> int:
    return -errno.ENOENT if place < 0 else place


def _compare(one: bytes, two: bytes) -> int:
    return (one > two) - (one < two)


@kfunc("bpf_strcmp")
@_answers
def strcmp(vm: Machine, one: int, two: int) -> int:
    return _compare(_string(vm, one), _string(vm, two))


@kfunc("bpf_strcasecmp")
@_answers
def strcasecmp(vm: Machine, one: int, two: int) -> int:
    return _compare(_string(vm, one).lower(), _string(vm, two).lower())


@kfunc("bpf_strlen")
@_answers
def strlen(vm: Machine, text: int) -> int:
    return len(_string(vm, text))


@kfunc("bpf_strnlen")
@_answers
def strnlen(vm: Machine, text: int, count: int) -> int:
    return len(_string(vm, text, min(count, _LIMIT))) if count else 0


@kfunc("bpf_strchr")
@_answers
def strchr(vm: Machine, text: int, character: int) -> int:
    return _found((_string(vm, text) + b"\0").find(character & 0xFF))


@kfunc("bpf_strchrnul")
@_answers
def strchrnul(vm: Machine, text: int, character: int) -> int:
    data = _string(vm, text)
    place = data.find(character & 0xFF)
    return len(data) if place < 0 else place


@kfunc("bpf_strnchr")
@_answers
def strnchr(vm: Machine, text: int, count: int, character: int) -> int:
    data = _string(vm, text, min(count, _LIMIT)) if count else b""
    return _found((data + b"\0")[: min(count, len(data) + 1)].find(character & 0xFF))


@kfunc("bpf_strrchr")
@_answers
def strrchr(vm: Machine, text: int, character: int) -> int:
    return _found((_string(vm, text) + b"\0").rfind(character & U32_MAX & 0xFF))


@kfunc("bpf_strspn")
@_answers
def strspn(vm: Machine, text: int, accepted: int) -> int:
    data, wanted = _string(vm, text), _string(vm, accepted)
    return next((at for at, byte in enumerate(data) if byte not in wanted), len(data))


@kfunc("bpf_strcspn")
@_answers
def strcspn(vm: Machine, text: int, rejected: int) -> int:
    data, wanted = _string(vm, text), _string(vm, rejected)
    return next((at for at, byte in enumerate(data) if byte in wanted), len(data))


@kfunc("bpf_strstr")
@_answers
def strstr(vm: Machine, text: int, part: int) -> int:
    return _found(_string(vm, text).find(_string(vm, part)))


@kfunc("bpf_strnstr")
@_answers
def strnstr(vm: Machine, text: int, part: int, count: int) -> int:
    wanted = _string(vm, part)
    if not wanted:
        return 0
    return _found(_string(vm, text, min(count, _LIMIT)).find(wanted)) if count else -errno.ENOENT
