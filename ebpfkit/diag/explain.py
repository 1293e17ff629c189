"""From a rejection to advice: what happened, why it is refused, how it came about, what to write instead.

Takes a kernel's log (`kernel_log`) or our verifier's finding and makes a `Diagnosis`; renderers turn that into text,
JSON or SARIF. Nothing here decides about safety, reads files or prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from ebpfkit.diag.kernel_log import KernelLog, TraceStep, parse_kernel_log
from ebpfkit.diag.messages import classify
from ebpfkit.diag.rules import RULES, Rule
from ebpfkit.errors import VerifierError
from ebpfkit.span import Span

__all__ = ["Diagnosis", "PathStep", "explain_error", "explain_kernel_log", "explain_rejection"]

_PATH_LENGTH = 8
_WRITES = re.compile(r"^[rw](\d+) (?:[-+*/%&|^]|<<|s?>>|s[/%])?= (.*)$")
_READS = re.compile(r"\b[rw](\d+)\b")


@dataclass(frozen=True, slots=True)
class PathStep:
    """One instruction on the way to the rejection."""

    insn: int
    text: str
    span: Span | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A rejection explained. `message` is the verifier's own line, `what` the same in words for this very case."""

    rule: Rule
    message: str
    what: str
    why: str
    mend: str
    origin: str = "ebpfkit"
    program: str = ""
    kernel: str = ""
    insn: int | None = None
    instruction: str = ""
    span: Span | None = None
    registers: Mapping[str, str] = field(default_factory=dict)
    path: tuple[PathStep, ...] = ()
    details: tuple[str, ...] = ()


def _plural(count: str | int, noun: str) -> str:
    return f"{count} {noun}" if str(count) == "1" else f"{count} {noun}s"


def _packet(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    if not {"off", "size", "state"} <= values.keys():
        return ""
    proven = (
        "nothing of the packet is proven to be there"
        if values["state"] == "0"
        else (f"only {_plural(values['state'], 'byte')} of the packet are proven to be there")
    )
    return f"this accesses {_plural(values['size'], 'byte')} at packet offset {values['off']}, but {proven}"


def _map_value(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    if not {"off", "size", "state"} <= values.keys():
        return ""
    return (
        f"this accesses {_plural(values['size'], 'byte')} at offset {values['off']} of a map value of"
        f" {_plural(values['state'], 'byte')}"
    )


def _memory(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    if not {"off", "size", "state"} <= values.keys():
        return ""
    size, whole = _plural(values["size"], "byte"), _plural(values["state"], "byte")
    return f"this accesses {size} at offset {values['off']} of {whole}"


def _null(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    reg = values.get("reg")
    return (
        f"R{reg} is the result of a look-up or allocation that may be NULL, and it is used without a test"
        if reg
        else ""
    )


def _not_a_pointer(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    reg, state = values.get("reg"), values.get("state", "")
    if reg is None:
        return ""
    if state in ("scalar", "inv"):
        return f"R{reg} holds a number here, not a pointer, and is used as an address"
    return f"R{reg} holds {state!r}, which cannot be accessed like this"


def _uninitialised(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    reg = values.get("reg")
    if reg is None:
        return ""
    if reg == "0":
        return "R0 has no value here: on this path nothing was returned, or the call before returns nothing"
    lost = " (calls destroy R1 to R5)" if reg in "12345" else ""
    return f"R{reg} was never written on this path{lost}"


def _stack(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    off = values.get("off")
    size = f" of {_plural(values['size'], 'byte')}" if "size" in values else ""
    return f"this access{size} at frame offset {off} leaves the frame, which reaches from -512 to -1" if off else ""


def _stack_hole(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    if not {"off", "size", "state"} <= values.keys():
        return ""
    size = _plural(values["size"], "byte")
    return f"of the {size} at frame offset {values['off']}, byte {values['state']} was never written"


def _context(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    if not {"off", "size"} <= values.keys():
        return ""
    size = _plural(values["size"], "byte")
    return (
        f"the context has no field that may be accessed at offset {values['off']} with {size}"
        " (in this direction) in a program of this type"
    )


def _helper(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    name = values.get("helper")
    return f"{name} may not be called by a program of this type" if name else ""


def _argument(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    if not {"reg", "state", "target"} <= values.keys():
        return ""
    return f"argument {values['reg']} (R{values['reg']}) is {values['state']}, but the call takes {values['target']}"


def _size(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    reg = values.get("reg")
    if reg is None:
        return ""
    state = registers.get(f"R{reg}", "")
    return f"R{reg} is a size whose bounds do not fit" + (f": {state}" if state else "")


def _unreachable(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    return f"nothing leads to instruction {values['index']}" if "index" in values else ""


def _leak(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    index = values.get("index")
    return f"what instruction {index} acquired is still held when the program ends" if index else ""


def _returned(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    if not {"reg", "low", "high", "where"} <= values.keys():
        return ""
    who = "a callback" if "callback" in values["where"] else "a program of this type"
    state = registers.get(f"R{values['reg']}", "something else")
    return f"{who} returns {values['low']} to {values['high']}, and R{values['reg']} is {state}"


def _depth(values: Mapping[str, str], registers: Mapping[str, str]) -> str:
    size = values.get("size")
    calls = values.get("state")
    where = f"{calls} nested functions" if calls else "the program"
    return f"{where} need {size} bytes of stack; 512 are allowed" if size else ""


_WHAT: Mapping[str, Callable[[Mapping[str, str], Mapping[str, str]], str]] = {
    "unbounded-packet-access": _packet,
    "map-value-out-of-bounds": _map_value,
    "memory-out-of-bounds": _memory,
    "null-map-value": _null,
    "invalid-memory-access": _not_a_pointer,
    "uninitialised-register": _uninitialised,
    "stack-out-of-bounds": _stack,
    "uninitialised-stack": _stack_hole,
    "invalid-context-access": _context,
    "helper-not-allowed": _helper,
    "helper-argument": _argument,
    "unbounded-size": _size,
    "unreachable-code": _unreachable,
    "reference-leak": _leak,
    "stack-depth": _depth,
    "return-value": _returned,
}


def _rule_row(rule: str) -> Rule:
    return RULES.get(rule, RULES["other"])


def _mend_for(row: Rule, span: Span | None) -> str:
    """What to write instead, in the language of the author's file where there are words for it."""
    from ebpfkit.diag.examples import EXAMPLES

    example = EXAMPLES.get(row.id)
    suffix = span.file.rsplit(".", 1)[-1] if span is not None and span.file else ""
    own = "" if example is None else example.python if suffix == "py" else example.c if suffix in ("c", "h") else ""
    return f"{_sentence(own)} {row.mend}" if own else row.mend


def _sentence(text: str) -> str:
    """With a capital, unless a name of the program stands first, and a full stop."""
    first = text.split()[0]
    is_name = any(mark in first for mark in "_(`")
    return f"{text if is_name else text[0].upper() + text[1:]}."


_CALLED = re.compile(r"^call (\w+)")
_GIVES_BACK = {
    "bpf_ringbuf_reserve": "bpf_ringbuf_submit() or bpf_ringbuf_discard()",
    "bpf_ringbuf_reserve_dynptr": "bpf_ringbuf_submit_dynptr() or bpf_ringbuf_discard_dynptr(), whatever it returned",
    "bpf_task_from_pid": "bpf_task_release()",
    "bpf_task_from_vpid": "bpf_task_release()",
    "bpf_task_acquire": "bpf_task_release()",
    "bpf_cgroup_from_id": "bpf_cgroup_release()",
    "bpf_cgroup_ancestor": "bpf_cgroup_release()",
    "bpf_cgroup_acquire": "bpf_cgroup_release()",
    "bpf_cpumask_create": "bpf_cpumask_release()",
    "bpf_cpumask_acquire": "bpf_cpumask_release()",
    "bpf_obj_new_impl": "bpf_obj_drop(), or put it into a list, tree or map",
    "bpf_refcount_acquire_impl": "bpf_obj_drop(), or put it into a list, tree or map",
    "bpf_list_pop_front": "bpf_obj_drop(), or put it into a list, tree or map",
    "bpf_list_pop_back": "bpf_obj_drop(), or put it into a list, tree or map",
    "bpf_rbtree_remove": "bpf_obj_drop(), or put it into a list, tree or map",
    "bpf_sk_lookup_tcp": "bpf_sk_release()",
    "bpf_sk_lookup_udp": "bpf_sk_release()",
    "bpf_skc_lookup_tcp": "bpf_sk_release()",
    "bpf_map_lookup_elem": "bpf_sk_release()",
    "bpf_xdp_ct_lookup": "bpf_ct_release()",
    "bpf_skb_ct_lookup": "bpf_ct_release()",
    "bpf_kptr_xchg": "the function that releases such an object",
}
"""What ends that which a call begins; iterators say it in their names."""


def _specific(row: Rule, path: tuple[PathStep, ...], values: Mapping[str, str]) -> tuple[str, str]:
    """What happened and what to write, where the call on the path that it is about says more than the rule."""
    match = _CALLED.match(path[-1].text) if path else None
    if match is None:
        return "", ""
    name, insn, reg = match[1], path[-1].insn, values.get("reg", "")
    if row.id == "reference-leak":
        back = _GIVES_BACK.get(name, "")
        if name.endswith("_new") and "_iter_" in name:
            back = f"{name.removesuffix('_new')}_destroy()"
        return (
            f"what {name}() gave at instruction {insn} is still held when the program ends",
            f"Call {back} on every way out, early returns included." if back else "",
        )
    if row.id == "invalid-memory-access" and values.get("state") == "scalar" and name in _moving_helpers():
        return (
            f"R{reg} pointed into the packet until {name}() at instruction {insn}, which may move the packet",
            f"Read data and data_end again from the context behind {name}(), and check the bounds again.",
        )
    if row.id in ("lock", "execution-context"):
        return f"what {name}() began at instruction {insn} is not over here", ""
    return "", ""


@cache
def _moving_helpers() -> frozenset[str]:
    """Names of the helpers after which pointers into the packet are gone."""
    from ebpfkit.abi.helpers import HELPERS
    from ebpfkit.abi.model import Effect

    return frozenset(f"bpf_{row.name}" for row in HELPERS.values() if Effect.CHANGES_PACKET in row.effects)


def _unnumbered(instruction: str) -> str:
    """A call of a kernel function without the number that only loading gives it."""
    return instruction.removesuffix("#0") if instruction.startswith("call ") else instruction


def _interesting(values: Mapping[str, str], instruction: str, registers: Mapping[str, str]) -> dict[str, str]:
    """The registers that the message or the instruction names, with their state."""
    names = [f"R{values['reg']}"] if "reg" in values else []
    names += [f"R{number}" for number in _READS.findall(instruction)]
    if instruction.startswith("call "):
        names += [f"R{number}" for number in range(1, 6)]
    return {name: registers[name] for name in dict.fromkeys(names) if name in registers}


def _path(steps: tuple[TraceStep, ...], register: str | None) -> tuple[PathStep, ...]:
    """How the register got its value: the steps that wrote it or what it was made of, newest last."""
    if register is None or not steps:
        return ()
    wanted = {register}
    found: list[PathStep] = []
    for step in reversed(steps[:-1]):
        match = _WRITES.match(step.text)
        written = match[1] if match else ("0" if step.text.startswith("call ") else None)
        if written in wanted and written is not None:
            found.append(PathStep(step.insn, step.text, step.span, step.state.split("  ")[0]))
            source = match[2] if match else ""
            if match is None or re.match(r"^[rw]\d+ = ", step.text):
                wanted.discard(written)
            if not source.startswith("*("):
                wanted.update(_READS.findall(source))
        elif step.text.startswith("if ") and wanted & set(_READS.findall(step.text)):
            found.append(PathStep(step.insn, step.text, step.span))
        if not wanted or len(found) >= _PATH_LENGTH:
            break
    return tuple(reversed(found))


def explain_rejection(
    rule: str,
    message: str,
    *,
    insn: int | None = None,
    span: Span | None = None,
    instruction: str = "",
    registers: Mapping[str, str] | None = None,
    path: tuple[PathStep, ...] = (),
    program: str = "",
    kernel: str = "",
    origin: str = "ebpfkit",
    details: tuple[str, ...] = (),
) -> Diagnosis:
    """Explain a finding: its rule, its message in the kernel's wording, and what is known about its place and state."""
    row = _rule_row(rule)
    known = classify(message)
    values = known[1] if known is not None else {}
    states = dict(registers or {})
    if row.id == "unbounded-packet-access" and {"reg", "state"} <= values.keys():
        # Comparisons widen the range without printing every register: the message knows better.
        states[f"R{values['reg']}"] = f"pkt(r={values['state']})"
    what, mend = _specific(row, path, values)
    what = what or (_WHAT[row.id](values, states) if row.id in _WHAT else "")
    return Diagnosis(
        rule=row,
        message=message,
        what=what or row.title,
        why=row.why,
        mend=mend or _mend_for(row, span),
        origin=origin,
        program=program,
        kernel=kernel,
        insn=insn,
        instruction=_unnumbered(instruction),
        span=span,
        registers=_interesting(values, instruction, states),
        path=path,
        details=details,
    )


def explain_kernel_log(
    log: KernelLog,
    *,
    program: str = "",
    kernel: str = "",
    span_of: Callable[[int], Span | None] | None = None,
) -> Diagnosis:
    """Explain what a kernel's log says; `span_of` gives the author's place of a slot where the log has none."""

    def place(insn: int | None, span: Span | None) -> Span | None:
        own = span_of(insn) if span_of is not None and insn is not None else None
        return own or span

    path = tuple(
        PathStep(step.insn, step.text, place(step.insn, step.span if step.span and step.span.file else None), step.note)
        for step in _path(log.steps, log.values.get("reg"))
    )
    diagnosis = explain_rejection(
        log.rule or "other",
        log.message,
        insn=log.insn,
        span=place(log.insn, log.span),
        instruction=log.text,
        registers=log.registers,
        path=path,
        program=program,
        kernel=kernel,
        origin="kernel",
        details=log.details,
    )
    if log.structured is None:
        return diagnosis
    # Newer kernels explain themselves: their words are about this case, ours about the rule.
    return Diagnosis(
        rule=diagnosis.rule,
        message=log.message,
        what=log.structured.reason or diagnosis.what,
        why=diagnosis.why,
        mend=log.structured.suggestion or diagnosis.mend,
        origin="kernel",
        program=program,
        kernel=kernel,
        insn=diagnosis.insn,
        instruction=diagnosis.instruction,
        span=diagnosis.span,
        registers=diagnosis.registers,
        path=diagnosis.path,
        details=diagnosis.details,
    )


def explain_error(error: VerifierError, *, kernel: str = "") -> Diagnosis:
    """Explain a VerifierError of either origin, from its log where it has one."""
    if error.origin == "kernel" and error.log:
        log = parse_kernel_log(error.log, rejected=True)
        return explain_kernel_log(log, program=error.program, kernel=kernel, span_of=lambda _: error.span)
    return explain_rejection(
        error.rule,
        error.message,
        insn=error.insn,
        span=error.span,
        program=error.program,
        kernel=kernel,
        origin=error.origin,
    )
