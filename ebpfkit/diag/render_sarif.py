"""Diagnoses as a SARIF 2.1.0 log (OASIS Static Analysis Results Interchange Format), for code hosts and editors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from ebpfkit.diag.explain import Diagnosis
from ebpfkit.span import Span

__all__ = ["to_sarif"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def _location(span: Span | None, diagnosis: Diagnosis) -> list[dict[str, Any]]:
    location: dict[str, Any] = {}
    if span is not None and span.file:
        region: dict[str, Any] = {"startLine": max(span.line, 1)}
        if span.column:
            region["startColumn"] = span.column
        if span.end_line:
            region["endLine"] = span.end_line
        if span.end_column:
            region["endColumn"] = span.end_column
        if span.text:
            region["snippet"] = {"text": span.text}
        uri = quote(span.file.replace("\\", "/"))
        uri = f"file://{uri}" if uri.startswith("/") else uri
        location["physicalLocation"] = {"artifactLocation": {"uri": uri}, "region": region}
    if diagnosis.program:
        location["logicalLocations"] = [{"name": diagnosis.program, "kind": "function"}]
    return [location] if location else []


def to_sarif(diagnoses: Iterable[Diagnosis], *, tool_version: str) -> dict[str, Any]:
    """One run with one result for each diagnosis, and the rules they name."""
    found = list(diagnoses)
    rules = list({diagnosis.rule.id: diagnosis.rule for diagnosis in found}.values())
    index = {rule.id: number for number, rule in enumerate(rules)}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "ebpfkit",
                        "version": tool_version,
                        "rules": [
                            {
                                "id": rule.id,
                                "shortDescription": {"text": rule.title},
                                "fullDescription": {"text": rule.why},
                                "help": {"text": rule.mend},
                                "properties": {"category": rule.category},
                            }
                            for rule in rules
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    {
                        "ruleId": diagnosis.rule.id,
                        "ruleIndex": index[diagnosis.rule.id],
                        "level": "error",
                        "message": {"text": f"{diagnosis.what}. {diagnosis.mend}"},
                        "locations": _location(diagnosis.span, diagnosis),
                        "properties": {
                            "message": diagnosis.message,
                            "origin": diagnosis.origin,
                            "insn": diagnosis.insn,
                            "kernel": diagnosis.kernel,
                        },
                    }
                    for diagnosis in found
                ],
            }
        ],
    }
