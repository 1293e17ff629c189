"""A file descriptor with one owner: closed with its object, and a warning when that object was simply dropped.

Every descriptor that bpf(2) returns is close-on-exec already; descriptors made here by duplication are so too.
"""

from __future__ import annotations

import os
import warnings
from types import TracebackType
from typing import Self

__all__ = ["Fd"]


class Fd:
    """Owns the descriptor `number`; `what` names it in the warning of a leak.

    `fileno()` of a closed one raises ValueError, as files do.
    """

    __slots__ = ("_number", "_what")

    def __init__(self, number: int, what: str = "descriptor") -> None:
        self._number = number
        self._what = what

    def fileno(self) -> int:
        """The number, still owned by this object."""
        if self._number < 0:
            raise ValueError(f"the {self._what} is closed")
        return self._number

    @property
    def closed(self) -> bool:
        return self._number < 0

    def close(self) -> None:
        """Close it; a second call does nothing."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    def release(self) -> int:
        """Give the number away: the caller closes it from now on."""
        number = self.fileno()
        self._number = -1
        return number

    def duplicate(self) -> Fd:
        """A second descriptor of the same object, with its own life."""
        return Fd(os.dup(self.fileno()), self._what)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            warnings.warn(f"unclosed {self._what} {self._number}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        return f"<{self._what} {'closed' if self._number < 0 else self._number}>"
