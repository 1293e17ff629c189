"""LLVM behind a fence: the only room that touches llvmlite.

Belongs here: optimising LLVM IR text, emitting objects and assembly, and the fence that keeps LLVM's `exit(1)` and
`abort()` away from the user's interpreter. Does not belong here: anything about Python functions, types or maps; text
comes in, bytes go out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfkit.llvm.emit import emit_assembly, optimise, optimise_and_emit
    from ebpfkit.llvm.fence import LlvmError

__all__ = ["LlvmError", "emit_assembly", "optimise", "optimise_and_emit"]

_HOMES = {
    "LlvmError": "ebpfkit.llvm.fence",
    "emit_assembly": "ebpfkit.llvm.emit",
    "optimise": "ebpfkit.llvm.emit",
    "optimise_and_emit": "ebpfkit.llvm.emit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
