"""One page of HTML about a verification: source and instructions with how often each was walked, states, the path.

The page is one file without links to anything: styles, script and data are in it. It is made from plain values
(`PageProgram`); who walked what is the verifier's business, and reading source files the caller's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ebpfkit.diag.explain import Diagnosis
from ebpfkit.diag.render_text import render_text
from ebpfkit.span import Span

__all__ = ["PageInsn", "PageProgram", "to_html"]

_HEAT_STEPS = 6


@dataclass(frozen=True, slots=True)
class PageInsn:
    """An instruction: slot, text, source place, how often it was walked, and states there, by register in words."""

    slot: int
    text: str
    span: Span | None = None
    visits: int = 0
    states: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class PageProgram:
    """A program and its verdict; `path` holds the slots of the path that was rejected, in the order walked."""

    name: str
    verdict: str
    summary: str
    insns: Sequence[PageInsn]
    diagnosis: Diagnosis | None = None
    path: Sequence[int] = ()


def _heat(visits: int, most: int) -> int:
    """0 for what was never walked, else 1 to 6 by the logarithm."""
    if not visits:
        return 0
    return 1 + int((_HEAT_STEPS - 1) * math.log(visits) / math.log(most)) if most > 1 else 1


def to_html(programs: Sequence[PageProgram], *, title: str, sources: Mapping[str, str]) -> str:
    """The page. `sources` are the texts of source files by the name that spans give them; missing ones are left out."""
    body = [_program(number, program, sources) for number, program in enumerate(programs)]
    data = {
        str(number): {str(insn.slot): [dict(state) for state in insn.states] for insn in program.insns if insn.states}
        for number, program in enumerate(programs)
    }
    links = "".join(
        f'<a class="{escape(program.verdict)}" href="#p{number}">{escape(program.name)}</a>'
        for number, program in enumerate(programs)
    )
    encoded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head><body>\n<header><h1>{escape(title)}</h1><nav>{links}</nav></header>\n<main>\n"
        + "\n".join(body)
        + f'\n</main>\n<script type="application/json" id="states">{encoded}</script>\n'
        f"<script>{_SCRIPT}</script>\n</body></html>\n"
    )


def _program(number: int, program: PageProgram, sources: Mapping[str, str]) -> str:
    place = program.diagnosis.insn if program.diagnosis is not None else None
    report = f"<pre class=report>{escape(render_text(program.diagnosis))}</pre>" if program.diagnosis else ""
    return (
        f'<section id="p{number}" data-program="{number}">\n'
        f'<h2>{escape(program.name)} <span class="verdict {escape(program.verdict)}">{escape(program.verdict)}</span>'
        f"</h2>\n<p>{escape(program.summary)}</p>\n{report}\n{_LEGEND}\n<div class=columns>\n"
        f"{_source(program, sources)}\n{_listing(program, place)}\n"
        "<aside><h3>State</h3><div class=state>Click a walked instruction to see what was known before it.</div>"
        "</aside>\n</div></section>"
    )


def _source(program: PageProgram, sources: Mapping[str, str]) -> str:
    """The lines of source that have instructions, with some around, each with its walks and instructions."""
    path = set(program.path)
    visits: dict[tuple[str, int], int] = {}
    slots: dict[tuple[str, int], list[int]] = {}
    walked: set[tuple[str, int]] = set()
    for insn in program.insns:
        if insn.span is None or not insn.span.file:
            continue
        key = (insn.span.file, insn.span.line)
        visits[key] = visits.get(key, 0) + insn.visits
        slots.setdefault(key, []).append(insn.slot)
        if insn.slot in path:
            walked.add(key)
    if not visits:
        return ""
    most = max(visits.values())
    failed = program.diagnosis.span if program.diagnosis is not None else None
    parts = ["<div class=source><h3>Source</h3>"]
    for file in dict.fromkeys(file for file, _ in visits):
        parts.append(f"<h4>{escape(file)}</h4><ol class=lines>")
        lines = sources.get(file, "").splitlines()
        numbers = [line for name, line in visits if name == file]
        known = {insn.span.line: insn.span.text or "" for insn in program.insns if insn.span and insn.span.file == file}
        last = max(numbers) if not lines else min(max(numbers) + 2, len(lines))
        for line in range(max(min(numbers) - 2, 1), last + 1):
            key = (file, line)
            text = lines[line - 1] if line <= len(lines) else known.get(line, "")
            marks = [f"h{_heat(visits.get(key, 0), most)}"]
            marks += ["on-path"] if key in walked else []
            marks += ["failed"] if failed is not None and (failed.file, failed.line) == key else []
            own = " ".join(str(slot) for slot in slots.get(key, ()))
            count = str(visits[key]) if key in visits else ""
            parts.append(
                f'<li class="{" ".join(marks)}" data-slots="{own}"><i>{line}</i><b>{count}</b>'
                f"<code>{escape(text) or ' '}</code></li>"
            )
        parts.append("</ol>")
    return "\n".join([*parts, "</div>"])


def _listing(program: PageProgram, failed: int | None) -> str:
    most = max((insn.visits for insn in program.insns), default=0)
    path = set(program.path)
    rows = []
    for insn in program.insns:
        marks = [f"h{_heat(insn.visits, most)}"]
        marks += ["on-path"] if insn.slot in path else []
        marks += ["failed"] if insn.slot == failed else []
        tab = ' tabindex="0"' if insn.states else ""
        rows.append(
            f'<li class="{" ".join(marks)}" data-slot="{insn.slot}"{tab}><i>{insn.slot}</i>'
            f"<b>{insn.visits or ''}</b><code>{escape(insn.text)}</code></li>"
        )
    return "<div class=insns><h3>Instructions</h3><ol class=lines>\n" + "\n".join(rows) + "\n</ol></div>"


_LEGEND = (
    "<p class=legend>walked <span class=h0>never</span>"
    + "".join(f"<span class=h{step}>&nbsp;</span>" for step in range(1, _HEAT_STEPS + 1))
    + "<span>most</span><span class=on-path>on the path that failed</span></p>"
)

_STYLE = """
:root { color-scheme: light dark; --bg: #fff; --fg: #1c2024; --dim: #667; --line: #d8dce2; --panel: #f6f7f9;
  --bad: #c4232b; --good: #1a7f37; --other: #9a6700; --heat: 217 119 6; --pick: #dbeafe; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171b; --fg: #e3e6ea; --dim: #98a2b0; --line: #343a43;
  --panel: #1d2127; --bad: #ff7b78; --good: #56d364; --other: #e3b341; --heat: 245 158 11; --pick: #1f3a5f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--fg); font: 15px/1.5 system-ui, sans-serif; }
header { position: sticky; top: 0; z-index: 1; background: var(--panel); border-bottom: 1px solid var(--line);
  padding: .5rem 1.2rem; display: flex; gap: 1.5rem; align-items: baseline; flex-wrap: wrap; }
h1 { font-size: 1.1rem; margin: 0; } h2 { margin: 1.5rem 0 .2rem; } h4 { margin: .6rem 0 .2rem; font-weight: 600; }
h3 { margin: 0 0 .4rem; font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; color: var(--dim); }
nav a { margin-right: 1rem; color: inherit; } nav a.reject { color: var(--bad); } main { padding: 0 1.2rem 3rem; }
section { scroll-margin-top: 3.5rem; } p { margin: .2rem 0 .6rem; }
.verdict { font-size: .8rem; padding: .1rem .6rem; border-radius: 1rem; border: 1px solid; vertical-align: middle; }
.verdict.accept { color: var(--good); } .verdict.reject { color: var(--bad); }
.verdict.unsupported { color: var(--other); }
.report { background: var(--panel); border-left: 4px solid var(--bad); padding: .7rem 1rem; overflow-x: auto; }
pre, code { font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
.columns { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 4fr) minmax(0, 3fr); gap: 1.2rem; }
.columns > :first-child:nth-last-child(2) { grid-column: span 2; }
.lines { list-style: none; margin: 0; padding: 0; border: 1px solid var(--line); overflow-x: auto; }
.lines li { display: grid; grid-template-columns: 3.2rem 4.6rem 1fr; border-left: 4px solid transparent;
  white-space: pre; }
.lines li[tabindex], .source li:not([data-slots=""]) { cursor: pointer; }
.lines i, .lines b { font: 12px/1.7 ui-monospace, monospace; color: var(--dim); text-align: right;
  padding-right: .7rem; }
.lines li.on-path, .legend .on-path { border-left: 4px solid var(--bad); }
.lines li.failed { outline: 2px solid var(--bad); outline-offset: -2px; }
.lines li.picked { background: var(--pick); }
.h0 code { color: var(--dim); } .h1 { background: rgb(var(--heat) / .06); } .h2 { background: rgb(var(--heat) / .14); }
.h3 { background: rgb(var(--heat) / .22); } .h4 { background: rgb(var(--heat) / .32); }
.h5 { background: rgb(var(--heat) / .43); } .h6 { background: rgb(var(--heat) / .56); }
.legend { color: var(--dim); font-size: .85rem; } .legend span { padding: .1rem .6rem; display: inline-block; }
aside { position: sticky; top: 3.5rem; align-self: start; max-height: 85vh; overflow: auto; }
.state { background: var(--panel); border: 1px solid var(--line); padding: .6rem .8rem; }
.state table { border-collapse: collapse; width: 100%; margin-bottom: .8rem; } .state caption { text-align: left; }
.state td { border-top: 1px solid var(--line); padding: .1rem .3rem; vertical-align: top; overflow-wrap: anywhere; }
.state td:first-child { white-space: nowrap; font-family: ui-monospace, monospace; color: var(--dim); }
@media (max-width: 900px) { .columns { display: block; } aside { position: static; margin-top: 1rem; } }
"""

_SCRIPT = """
const states = JSON.parse(document.getElementById("states").textContent);
function show(section, slot) {
  const box = section.querySelector(".state"), found = (states[section.dataset.program] || {})[slot] || [];
  box.replaceChildren();
  const head = document.createElement("p");
  head.textContent = found.length ? `before instruction ${slot}` : `instruction ${slot} was never walked`;
  box.append(head);
  found.forEach((state, number) => {
    const table = document.createElement("table");
    table.createCaption().textContent = found.length > 1 ? `visit with a state of its own, ${number + 1}` : "";
    for (const [name, words] of Object.entries(state)) {
      const row = table.insertRow();
      row.insertCell().textContent = name;
      row.insertCell().textContent = words;
    }
    box.append(table);
  });
}
for (const section of document.querySelectorAll("section")) {
  const pick = slots => {
    section.querySelectorAll(".picked").forEach(item => item.classList.remove("picked"));
    slots.forEach(slot => {
      const item = section.querySelector(`.insns [data-slot="${slot}"]`);
      if (item) item.classList.add("picked");
    });
    for (const line of section.querySelectorAll(".source li"))
      if (line.dataset.slots.split(" ").some(slot => slots.includes(slot))) line.classList.add("picked");
  };
  const react = event => {
    const item = event.target.closest("li");
    if (!item || (event.type === "keydown" && event.key !== "Enter")) return;
    const slots = item.dataset.slot ? [item.dataset.slot] : item.dataset.slots.split(" ").filter(Boolean);
    if (!slots.length) return;
    pick(slots);
    show(section, slots[0]);
    if (!item.dataset.slot)
      section.querySelector(`.insns [data-slot="${slots[0]}"]`).scrollIntoView({ block: "nearest" });
  };
  section.addEventListener("click", react);
  section.addEventListener("keydown", react);
  const failed = section.querySelector(".insns .failed");
  if (failed) { pick([failed.dataset.slot]); show(section, failed.dataset.slot); }
}
"""
