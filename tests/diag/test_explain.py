"""From rejections to advice: texts, JSON, SARIF and the layout of newer kernels."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest

from ebpfkit.diag.explain import Diagnosis, explain_error, explain_kernel_log, explain_rejection
from ebpfkit.diag.kernel_log import parse_kernel_log
from ebpfkit.diag.render_json import to_json
from ebpfkit.diag.render_sarif import to_sarif
from ebpfkit.diag.render_text import render_kernel_layout, render_rich, render_text
from ebpfkit.diag.rules import RULES
from ebpfkit.errors import VerifierError
from ebpfkit.span import Span
from tests.diag.test_kernel_log import PACKET, PLACED, SECTIONS, kernel_says

SPAN = Span("fire wall.py", 12, 9, 12, 18, "    x = pkt.read(T)", "firewall")


def packet_diagnosis() -> Diagnosis:
    return explain_rejection(
        "unbounded-packet-access",
        "invalid access to packet, off=14 size=4, R2(id=0,off=14,r=14)",
        insn=5,
        span=SPAN,
        instruction="r0 = *(u32 *)(r2 +14)",
        registers={"R2": "pkt(r=0)", "R3": "pkt_end()"},
        program="firewall",
    )


@pytest.mark.parametrize(("file", "words"), [("a.py", "pkt.read"), ("a.c", "data_end) return"), ("", "Compare `data")])
def test_the_mend_is_in_the_language_of_the_author(file: str, words: str) -> None:
    diagnosis = explain_rejection("unbounded-packet-access", "", span=Span(file, 3) if file else None)
    assert words in diagnosis.mend


def test_the_words_are_about_this_case() -> None:
    diagnosis = packet_diagnosis()
    assert (
        diagnosis.what
        == "this accesses 4 bytes at packet offset 14, but only 14 bytes of the packet are proven to be there"
    )
    assert diagnosis.registers == {"R2": "pkt(r=14)"}
    assert diagnosis.mend.startswith("Read the header with pkt.read(T)")
    assert diagnosis.mend.endswith(RULES["unbounded-packet-access"].mend)


@pytest.mark.parametrize(
    "rule, message, words",
    [
        ("null-map-value", "R0 invalid mem access 'map_value_or_null'", "R0 is the result of a look-up"),
        ("invalid-memory-access", "R1 invalid mem access 'scalar'", "R1 holds a number"),
        ("uninitialised-register", "R3 !read_ok", "R3 was never written on this path (calls destroy R1 to R5)"),
        ("uninitialised-register", "R0 !read_ok", "R0 has no value"),
        ("stack-out-of-bounds", "invalid read from stack R10 off=-520 size=8", "frame offset -520"),
        ("uninitialised-stack", "invalid read from stack R2 off -8+4 size 8", "byte 4 was never written"),
        ("map-value-out-of-bounds", "invalid access to map value, value_size=8 off=8 size=1", "1 byte at offset 8"),
        ("helper-argument", "R1 type=scalar expected=map_ptr", "argument 1 (R1) is scalar, but the call takes map_ptr"),
        ("unreachable-code", "unreachable insn 2", "nothing leads to instruction 2"),
        ("stack-depth", "combined stack size of 2 calls is 608. Too large", "2 nested functions need 608 bytes"),
        ("back-edge", "back-edge from insn 4 to 2", RULES["back-edge"].title),
        ("no-such-rule", "something new", RULES["other"].title),
    ],
)
def test_what_happened(rule: str, message: str, words: str) -> None:
    assert words in explain_rejection(rule, message).what


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_renders(rule: str) -> None:
    diagnosis = explain_rejection(rule, "message", insn=3, span=SPAN)
    text = render_text(diagnosis)
    assert text.startswith(f"error[{rule}]: ") and "write instead:" in text and "fire wall.py:12:9" in text
    assert json.loads(json.dumps(to_json(diagnosis)))["rule"] == rule
    assert "Verification failed: " in render_kernel_layout(diagnosis)


def test_text_with_a_caret() -> None:
    lines = render_text(packet_diagnosis()).splitlines()
    assert lines[:6] == [
        "error[unbounded-packet-access]: packet access outside the proven range",
        "  --> fire wall.py:12:9, program firewall, instruction 5",
        "        x = pkt.read(T)",
        "            ^^^^^^^^^",
        "  5: r0 = *(u32 *)(r2 +14)",
        "      R2 = pkt(r=14)",
    ]
    assert render_rich(packet_diagnosis()).plain.splitlines() == lines


def test_the_layout_of_newer_kernels_is_written_and_read_back() -> None:
    text = render_kernel_layout(packet_diagnosis())
    log = parse_kernel_log(text + "\n\nprocessed 6 insns (limit 1000000)\n")
    assert log.rule == "unbounded-packet-access" and log.insn == 5
    assert log.structured is not None and log.structured.category == "Memory Safety"
    assert log.structured.suggestion == packet_diagnosis().mend
    assert log.structured.reason == packet_diagnosis().what + "."
    assert all(len(line) <= 100 for line in text.splitlines())


def test_newer_kernels_own_words_go_first() -> None:
    diagnosis = explain_kernel_log(parse_kernel_log(SECTIONS))
    assert diagnosis.what == "R0 holds nothing here, so it cannot be used." and diagnosis.mend == "Set R0 first."


def test_sarif_has_the_places_and_the_rules() -> None:
    other = explain_rejection("too-complex", "BPF program is too large. Processed 1000001 insn", program="slow")
    log = to_sarif([packet_diagnosis(), other, packet_diagnosis()], tool_version="0.1.0")
    assert json.loads(json.dumps(log)) == log
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["unbounded-packet-access", "too-complex"]
    assert [(result["ruleId"], result["ruleIndex"], result["level"]) for result in run["results"]] == [
        ("unbounded-packet-access", 0, "error"),
        ("too-complex", 1, "error"),
        ("unbounded-packet-access", 0, "error"),
    ]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert unquote(place["artifactLocation"]["uri"]) == "fire wall.py" and " " not in place["artifactLocation"]["uri"]
    assert place["region"] == {
        "startLine": 12,
        "startColumn": 9,
        "endLine": 12,
        "endColumn": 18,
        "snippet": {"text": "    x = pkt.read(T)"},
    }
    assert "physicalLocation" not in run["results"][1]["locations"][0]


def test_errors_of_both_origins() -> None:
    ours = explain_error(VerifierError("R7 !read_ok", rule="uninitialised-register", insn=0, span=SPAN, program="p"))
    assert (ours.origin, ours.rule.id, ours.span) == ("ebpfkit", "uninitialised-register", SPAN)
    theirs = explain_error(VerifierError("x", log=PLACED, origin="kernel", span=SPAN), kernel="6.18")
    assert (theirs.origin, theirs.rule.id, theirs.insn, theirs.span) == ("kernel", "unbounded-packet-access", 1, SPAN)
    assert "kernel 6.18: invalid access to packet" in render_text(theirs)


@pytest.mark.kernel
def test_the_path_tells_how_the_value_came_about() -> None:
    source = "call 7\nr2 = r0\nr2 <<= 32\nr2 s>>= 32\nr1 = r10\nr1 += -8\ncall 16\nr0 = 0\nexit"
    taken, text = kernel_says(source, 1)
    diagnosis = explain_kernel_log(parse_kernel_log(text, rejected=not taken))
    assert diagnosis.rule.id == "unbounded-size"
    assert [step.insn for step in diagnosis.path] == [0, 1, 2, 3]
    assert diagnosis.path[1].text == "r2 = r0"


@pytest.mark.kernel
def test_places_come_from_the_caller_where_the_log_has_none() -> None:
    taken, text = kernel_says(PACKET + "r0 = *(u8 *)(r2 +0)\nexit", 1)
    log = parse_kernel_log(text, rejected=not taken)
    diagnosis = explain_kernel_log(log, span_of=lambda slot: Span("prog.py", 100 + slot))
    assert str(diagnosis.span) == "prog.py:102"
    assert [str(step.span) for step in diagnosis.path] == ["prog.py:100"]
