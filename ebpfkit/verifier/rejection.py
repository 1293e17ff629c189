"""How a verification ends early: the program breaks a rule, or uses what is not modelled.

Internal to this room: `report` turns both into what users see. Neither crosses the public API.
"""

from __future__ import annotations

__all__ = ["Rejection", "Unmodelled"]


class Rejection(Exception):
    """The program breaks `rule` at the instruction with logical index `index` (None: the program as a whole).

    `message` is in the kernel's wording. `register` is the register that matters, when one does.
    """

    def __init__(self, rule: str, message: str, *, index: int | None = None, register: int | None = None) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.index = index
        self.register = register


class Unmodelled(Exception):
    """The program uses `feature`, of which this verifier has no model: no verdict."""

    def __init__(self, feature: str, *, index: int | None = None) -> None:
        super().__init__(feature)
        self.feature = feature
        self.index = index
