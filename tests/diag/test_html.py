"""The page about a verification: complete in one file, everything escaped, heat, path and states where they belong."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from ebpfkit.diag.explain import explain_rejection
from ebpfkit.diag.render_html import PageInsn, PageProgram, to_html
from ebpfkit.span import Span

EVIL = "</script><b>&"


def page() -> str:
    spans = [Span("x.c", 2, 1), Span("x.c", 2, 5), Span("x.c", 4, 1)]
    insns = [
        PageInsn(0, "r0 = 0", spans[0], 1, [{"R1": "the context"}]),
        PageInsn(1, f"r2 = {EVIL}", spans[1], 40, [{"R1": EVIL}, {"R1": "7"}]),
        PageInsn(2, "exit", spans[2]),
    ]
    diagnosis = explain_rejection("uninitialised-register", f"R9 !read_ok {EVIL}", insn=1, span=spans[1])
    program = PageProgram("prog", "reject", f"summary {EVIL}", insns, diagnosis, path=(0, 1))
    return to_html([program], title="t", sources={"x.c": "one\ntwo <b>\nthree\nfour\nfive\nsix\nseven\n"})


class Rows(HTMLParser):
    """Collects the attributes of list items and every address in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "li":
            self.items.append(found)
        self.addresses += [str(found[name]) for name in ("href", "src") if name in found]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(text: str) -> Rows:
    rows = Rows()
    rows.feed(text)
    assert not rows.open
    return rows


def test_the_page_needs_nothing_from_anywhere() -> None:
    rows = read(page())
    assert rows.addresses and all(address.startswith("#") for address in rows.addresses)
    assert "http" not in page() and "@import" not in page() and "url(" not in page()


def test_text_from_outside_cannot_break_out() -> None:
    assert EVIL not in page()
    assert "two &lt;b&gt;" in page()


def test_heat_path_and_failure_are_marked() -> None:
    items = read(page()).items
    insns = {item["data-slot"]: str(item["class"]).split() for item in items if "data-slot" in item}
    assert insns == {"0": ["h1", "on-path"], "1": ["h6", "on-path", "failed"], "2": ["h0"]}
    lines = [str(item["class"]) for item in items if "data-slots" in item]
    assert lines == ["h0", "h6 on-path failed", "h0", "h0", "h0", "h0"]


def test_states_are_data_of_the_page() -> None:
    found = re.search(r'<script type="application/json" id="states">(.*?)</script>', page(), re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == {"0": {"0": [{"R1": "the context"}], "1": [{"R1": EVIL}, {"R1": "7"}]}}


def test_a_program_without_source_has_its_instructions() -> None:
    program = PageProgram("raw", "accept", "", [PageInsn(0, "exit", None, 3)])
    assert "Source" not in to_html([program], title="t", sources={})
