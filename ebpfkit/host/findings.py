"""A finding of the doctor: what was looked at, how it is, why that matters, and the command that mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Finding", "Fix", "Status", "failed", "passed", "warned"]

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Fix:
    """`command` is what a person types; `apply` does the same from here, and is there only where that is safe."""

    command: str
    apply: Callable[[], None] | None = None

    @property
    def is_safe(self) -> bool:
        return self.apply is not None


@dataclass(frozen=True, slots=True)
class Finding:
    """One row. `check` is a stable name, `found` what is the case, `why` what follows from it."""

    check: str
    status: Status
    found: str
    why: str = ""
    fix: Fix | None = None

    def to_json(self) -> dict[str, Any]:
        row = asdict(self) | {"fix": self.fix.command if self.fix else None}
        row["safe"] = bool(self.fix and self.fix.is_safe)
        return row


def passed(check: str, found: str, why: str = "") -> Finding:
    return Finding(check, "pass", found, why)


def warned(check: str, found: str, why: str, command: str = "", apply: Callable[[], None] | None = None) -> Finding:
    return Finding(check, "warn", found, why, Fix(command, apply) if command else None)


def failed(check: str, found: str, why: str, command: str = "", apply: Callable[[], None] | None = None) -> Finding:
    return Finding(check, "fail", found, why, Fix(command, apply) if command else None)
