"""The verifier: predicts the verdict of Linux's verifier in pure Python.

`verify_program` takes a linked `ProgramSpec` and a host profile and returns a `ProgramReport`. `domain/` knows values,
`obligations` says what must hold at an instruction, `check` and `arguments` prove it, `transfer/` moves the state,
`explore` walks the paths with `states` (comparison), `liveness` and `precision`. No kernel is needed, none is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfkit.verifier.report import ProgramReport as ProgramReport
    from ebpfkit.verifier.report import Report as Report
    from ebpfkit.verifier.verify import verify_program as verify_program

__all__ = ["ProgramReport", "Report", "verify_program"]

_HOMES = {
    "ProgramReport": "ebpfkit.verifier.report",
    "Report": "ebpfkit.verifier.report",
    "verify_program": "ebpfkit.verifier.verify",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
