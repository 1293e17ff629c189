"""Global variables of programs: `config` is set before the load and constant in the kernel, `var` lives as long as it.

The names are those of the module's globals. In the object they are ordinary variables in `.rodata`, `.data` and
`.bss`, which libbpf and bpftool know too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import caller_span, refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.types import Integer, encode, info_of
from ebpfkit.errors import UsageError
from ebpfkit.span import Span

__all__ = ["Config", "Var", "config", "var"]

T = TypeVar("T")
N = TypeVar("N", bound=Integer)


class Storage(Protocol):
    """The bytes of a variable where it lives: in a loaded program's data."""

    def read(self) -> bytes: ...

    def write(self, data: bytes) -> None: ...


class _Global:
    """A global of the module that belongs to programs. `name` is that of the module's global."""

    def __init__(self, kind: Any, initial: bytes, module: Mapping[str, object]) -> None:
        self.kind = kind
        self.initial = initial
        self.span: Span | None = caller_span()
        self._module = module
        self._name = ""

    def stands_for(self) -> object:
        """The object that the module's global refers to."""
        return self

    @property
    def name(self) -> str:
        """The variable's name. Raises UsageError when no global of its module refers to it."""
        if not self._name:
            wanted = self.stands_for()
            self._name = next((name for name, value in self._module.items() if value is wanted), "")
        if not self._name:
            raise UsageError(f"this {type(self).__name__.lower()}() is no global of its module: write NAME = ...")
        return self._name


class Config(_Global):
    """What `config()` notes beside its value: type, name, and the value that the object carries."""

    value: Integer

    def stands_for(self) -> object:
        """The number itself: it is what the module's global refers to."""
        return self.value


def config(kind: type[N], default: int, /) -> N:
    """A number that is set before the load and constant from then on (`.rodata`).

        RATE = bpf.config(u32, 1000)

    In a program and in Python `RATE` is a u32. `program.load(RATE=5)` and `ebpfkit load --set RATE=5` give another
    value; the verifier knows it, so branches that it rules out cost nothing.
    """
    given: object = kind
    if not isinstance(given, type) or not issubclass(given, Integer):
        refuse("bad-variable", f"config() is for integers such as u32, not {getattr(given, '__name__', given)}")
    noted = Config(kind, encode(kind, default), _module_of_caller())
    value = kind(default)
    value._config = noted
    noted.value = value
    return value


class Var(_Global, Generic[T]):
    """A variable that programs share with user space (`.bss`, or `.data` where it begins with other than zeros).

        hits = bpf.var(u64)

    `hits.value` reads and writes it, in programs and from user space: a view for a structure in a program, a copy
    outside. There is one for all CPUs: count with `hits.value.atomic_add(1)`.
    """

    def __init__(self, kind: Any, initial: bytes, module: Mapping[str, object]) -> None:
        super().__init__(kind, initial, module)
        self.memory = bytearray(initial)
        self._bound: list[Storage] = []

    @property
    def value(self) -> T:
        """What it holds now."""
        if current_run() is not None:
            return cast(T, self.kind.__ebpf_load__(self._region(), 0))
        return self.decode(self._bound[-1].read() if self._bound else bytes(self.memory))

    @value.setter
    def value(self, value: T | int) -> None:
        if current_run() is not None:
            self.kind.__ebpf_store__(self._region(), 0, value)
        elif self._bound:
            self._bound[-1].write(encode(self.kind, value))
        else:
            self.memory[:] = encode(self.kind, value)

    def decode(self, data: bytes) -> T:
        """Its bytes as a value of its type: a copy."""
        return cast(T, self.kind.__ebpf_load__(Region(bytearray(data), RegionKind.SNAPSHOT, self.name), 0))

    def _region(self) -> Region:
        if self._bound:
            raise UsageError(
                f"'{self.name}' is bound to a variable in the kernel, on which plain Python cannot run: "
                "close the load first"
            )
        return Region(self.memory, RegionKind.MAP, self.name)

    @property
    def is_bound(self) -> bool:
        """Whether it lives in a loaded program's data."""
        return bool(self._bound)

    def bind(self, storage: Storage) -> None:
        """Make `storage` what user space reads and writes (a load does this)."""
        self._bound.append(storage)

    def unbind(self, storage: Storage) -> None:
        """Let go of it; with none left the variable is in memory again."""
        self._bound = [bound for bound in self._bound if bound is not storage]

    def __repr__(self) -> str:
        return f"<var {self._name or self.kind.__name__}>"


def var(kind: type[T], initial: T | int | None = None, /) -> Var[T]:
    """A global variable of programs, zero at first or `initial`."""
    size = info_of(kind).size
    return Var(kind, bytes(size) if initial is None else encode(kind, initial), _module_of_caller())


def _module_of_caller() -> Mapping[str, object]:
    frame = sys._getframe(2)
    return frame.f_globals
