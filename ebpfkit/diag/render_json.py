"""A diagnosis as plain values for JSON. The keys are a contract: they may grow, and keep their meaning."""

from __future__ import annotations

from typing import Any

from ebpfkit.diag.explain import Diagnosis
from ebpfkit.span import Span

__all__ = ["to_json"]


def _span(span: Span | None) -> dict[str, Any]:
    return {
        "file": span.file if span and span.file else None,
        "line": span.line if span and span.line else None,
        "column": span.column if span and span.column else None,
    }


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as a dictionary of strings, numbers, lists and None."""
    return {
        "rule": diagnosis.rule.id,
        "category": diagnosis.rule.category,
        "title": diagnosis.rule.title,
        "message": diagnosis.message,
        "what": diagnosis.what,
        "why": diagnosis.why,
        "mend": diagnosis.mend,
        "origin": diagnosis.origin,
        "program": diagnosis.program,
        "kernel": diagnosis.kernel or None,
        "insn": diagnosis.insn,
        "instruction": diagnosis.instruction or None,
        **_span(diagnosis.span),
        "registers": dict(diagnosis.registers),
        "path": [
            {"insn": step.insn, "instruction": step.text, "note": step.note or None, **_span(step.span)}
            for step in diagnosis.path
        ],
        "details": list(diagnosis.details),
    }
