"""A memory barrier for rings that are shared with the kernel."""

from __future__ import annotations

import os
import threading

__all__ = ["Barrier"]

_STRONGLY_ORDERED = os.uname().machine in ("x86_64", "i686", "i386", "s390x")


class Barrier:
    """A full memory barrier in plain Python: releasing a lock and taking it again orders every access around it.

    Processors that keep loads in order among themselves, and stores, need none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self) -> None:
        if not _STRONGLY_ORDERED:
            self._lock.release()
            self._lock.acquire()
