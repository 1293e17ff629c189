"""What a child process does with the AF_XDP sockets it inherits: it lets go of them at once.

Their rings and memory are not mapped there (MADV_DONTFORK); only the copies of the descriptors would hold the queues.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["watch"]


class Inherited(Protocol):
    def abandon_in_child(self) -> None: ...


_OPEN: weakref.WeakSet[Inherited] = weakref.WeakSet()


def watch(socket: Inherited) -> None:
    """From now on, children let go of this socket."""
    _OPEN.add(socket)


def _abandon_all() -> None:
    for socket in list(_OPEN):
        socket.abandon_in_child()


os.register_at_fork(after_in_child=_abandon_all)
