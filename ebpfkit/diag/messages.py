"""The kernel verifier's messages as templates, each with the rule it is about.

The text of these messages is an interface: people search for it and tools read it. A template is a regular expression
over one line; named groups carry what explanations need: `reg`, `off`, `size`, `index`, `helper`, `target`, `state`,
`where`, `low`, `high`.
Rows stand in order of precedence: the first that matches decides. `since` and `until` say which kernels print that
spelling ("": always), as far as known; a parser accepts every spelling from every kernel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

__all__ = ["LOG_LINES", "MESSAGES", "MessageTemplate", "classify"]


@dataclass(frozen=True, slots=True)
class MessageTemplate:
    """One spelling of one message."""

    rule: str
    pattern: str
    since: str = ""
    until: str = ""


_REG = r"R(?P<reg>\d+)"
_M = MessageTemplate

MESSAGES: tuple[MessageTemplate, ...] = (
    # --- what later rows would take for something else --------------------------------------------------------------
    _M(
        "global-function-argument",
        r"^arg#\d+ (?:reference type|expects pointer to ctx|is expected to be|has (?:invalid|unsupported|pointer) )",
    ),
    _M("special-field", r"^direct access to bpf_\w+ is disallowed"),
    _M("kfunc-argument", r"^Possibly NULL pointer passed to trusted arg\d+"),
    _M("kfunc-argument", rf"^{_REG} must be (?:referenced or trusted|a rcu pointer)"),
    _M("kfunc-argument", r"^bpf_(?:list|rb)_\w+ not found at offset"),
    _M("reference-misuse", r"^arg (?P<reg>\d+) is an unacquired reference"),
    _M("untrusted-pointer", r"^(?:cannot access ptr member|access beyond (?:struct|the end of member)) "),
    _M("special-field", r"doesn't point to (?:'struct bpf_(?:timer|wq|task_work)'|kptr)|^invalid kptr access"),
    _M("execution-context", r"cannot be used inside bpf_(?:rcu|preempt|local_irq)\w*-ed region|\birq flag\b"),
    _M("attach-target", r"^attach to (?:unsupported|invalid) member|can only be sleepable$|programs can be sleepable$"),
    _M("btf-mismatch", r"^tail_call is (?:not|only) allowed in"),
    _M("arena-access", rf"^BPF_ATOMIC stores into {_REG} arena|^Only one arena per program"),
    _M("helper-map-type", r"^callback function not allowed for map"),
    _M("helper-argument", rf"^(?:timer|workqueue) pointer in {_REG} "),
    _M("stack-out-of-bounds", r"^invalid (?:unbounded )?variable-offset (?:read from|write to) stack"),
    _M("memory-out-of-bounds", r"^invalid access to map key, key_size="),
    _M("empty-program", r"^a program has at least one instruction"),
    # --- structure, found before the walk ---------------------------------------------------------------------------
    _M("unreachable-code", r"^unreachable insn (?P<index>\d+)"),
    _M("jump-out-of-range", r"^jump out of range from insn (?P<index>\d+) to (?P<target>-?\d+)"),
    _M("jump-out-of-range", r"^jump into the middle of ldimm64 insn (?P<index>\d+)"),
    _M("fall-through", r"^last insn is not an exit or jmp"),
    _M("fall-through", r"^not an exit$"),
    _M("back-edge", r"^back-edge from insn (?P<index>\d+) to (?P<target>\d+)"),
    _M("back-edge", r"^loop detected"),
    _M("infinite-loop", r"infinite loop detected(?: at insn (?P<index>\d+))?"),
    _M("invalid-call", r"^call to invalid destination"),
    _M("invalid-call", r"^invalid destination"),
    _M("too-many-functions", r"^too many subprograms"),
    _M("too-many-maps", r"^The total number of maps per program has reached the limit of"),
    _M("invalid-wide-load", r"^invalid bpf_ld_imm64 insn"),
    _M("invalid-wide-load", r"^unrecognized bpf_ld_imm64 insn"),
    _M("invalid-map", r"^fd -?\d+ is not pointing to valid bpf_map"),
    _M("invalid-wide-load", r"^direct value offset of \d+ is not allowed"),
    _M("invalid-wide-load", r"^invalid access to map value pointer"),
    _M("invalid-wide-load", r"^ldimm64 (?:failed|unable)"),
    _M("unknown-opcode", r"^unknown opcode (?P<state>[0-9a-f]+)"),
    _M("unknown-opcode", r"^(?:unknown|invalid) (?:insn class|BPF_ALU opcode|BPF_ALU opcode) "),
    _M("invalid-memory-access", rf"^BPF_ATOMIC (?:stores into|loads from) {_REG} (?P<state>\S+) is not allowed"),
    _M("unknown-opcode", r"^invalid atomic operand size|^BPF_ATOMIC uses invalid atomic opcode"),
    _M("reserved-field", r"\buses? reserved fields?"),
    _M("reserved-field", r"^(?:BPF_\w+ )?(?:insn )?uses? invalid (?:insn )?(?:fields|reserved)"),
    _M("invalid-register", rf"^{_REG} is invalid$"),
    _M("invalid-immediate", r"^div by zero"),
    _M("invalid-immediate", r"^invalid shift (?P<state>-?\d+)"),
    _M("empty-program", r"^empty program"),
    # --- limits -----------------------------------------------------------------------------------------------------
    _M("too-complex", r"^BPF program is too large\. Processed (?P<state>\d+) insn"),
    _M("too-complex", r"^The sequence of (?P<state>\d+) jumps is too complex"),
    _M("too-complex", r"^BPF program is too complex"),
    _M("call-depth", r"^the call stack of (?P<state>\d+) frames is too deep"),
    _M("call-depth", r"^recursive call from "),
    _M("stack-depth", r"^combined stack size of (?P<state>\d+) calls is (?P<size>\d+)\. Too large"),
    _M("stack-depth", r"^stack size of subprog \d+ is (?P<size>\d+)\. Too large"),
    _M("stack-depth", r"^stack depth (?P<size>\d+) exceeds limit"),
    _M("stack-depth", r"^tail_calls are not allowed when call stack of previous frames is (?P<size>\d+) bytes"),
    _M(
        "value-out-of-range",
        rf"^value (?:-?\d+|out of range).*{_REG} pointer|^value -?\d+ makes .* pointer be out of bounds",
    ),
    _M("value-out-of-range", r"^math between .* pointer and (?P<state>-?\d+) is not allowed"),
    _M("value-out-of-range", r" pointer offset (?P<off>-?\d+) is not allowed"),
    # --- context ----------------------------------------------------------------------------------------------------
    _M("invalid-context-access", r"^invalid bpf_context access off=(?P<off>-?\d+) size=(?P<size>\d+)"),
    _M("invalid-context-access", r"^invalid bpf_context access"),
    _M(
        "invalid-context-access",
        rf"^{_REG} invalid (?:\w+_)?sock(?:_common)? access off=(?P<off>-?\d+) size=(?P<size>\d+)",
    ),
    _M("modified-context", r"^variable ctx access var_off=(?P<state>\S+)"),
    _M("modified-context", rf"^dereference of modified ctx ptr {_REG} off=(?P<off>-?\d+) disallowed"),
    _M("modified-context", rf"^negative offset ctx ptr {_REG} off=(?P<off>-?\d+) disallowed"),
    _M("modified-context", r"^dereference of modified ctx ptr"),
    # --- packet -----------------------------------------------------------------------------------------------------
    _M(
        "unbounded-packet-access",
        rf"^invalid access to packet, off=(?P<off>-?\d+) size=(?P<size>\d+), {_REG}"
        r"\(id=\d+,off=-?\d+,r=(?P<state>\d+)\)",
    ),
    _M("unbounded-packet-access", rf"^{_REG} offset is outside of the packet"),
    _M("helper-argument", r"^helper access to the packet is not allowed"),
    _M("read-only-memory", r"^cannot write into packet"),
    # --- map values and other memory ---------------------------------------------------------------------------------
    _M(
        "map-value-out-of-bounds",
        r"^invalid access to map value, value_size=(?P<state>\d+) off=(?P<off>-?\d+) size=(?P<size>\d+)",
    ),
    _M("map-value-out-of-bounds", r"^invalid access to map key, "),
    _M(
        "memory-out-of-bounds",
        r"^invalid access to memory, mem_size=(?P<state>\d+) off=(?P<off>-?\d+) size=(?P<size>\d+)",
    ),
    _M("memory-out-of-bounds", r"^invalid access to (?:map ptr|flow keys|sock|buffer|rdonly buf|rdwr buf)"),
    _M(
        "memory-out-of-bounds",
        rf"^{_REG} invalid \S* ?(?:tracepoint|rdonly|rdwr)? ?buffer access: off=(?P<off>-?\d+), size=(?P<size>\d+)",
    ),
    _M("memory-out-of-bounds", rf"^{_REG} invalid .* buffer access"),
    _M("memory-out-of-bounds", rf"^{_REG} is outside of the allowed memory range"),
    _M("unbounded-size", rf"^{_REG} (?:invalid zero-sized read|unbounded memory access, use )"),
    _M("unbounded-size", rf"^{_REG} min value is negative, either use unsigned or "),
    _M("unbounded-size", r"^invalid zero-sized read"),
    _M("unbounded-variable-offset", rf"^{_REG} (?:unbounded memory access|unbounded variable-offset)"),
    _M("unbounded-variable-offset", rf"^{_REG} max value is outside of the (?:allowed memory range|array range)"),
    _M("unbounded-variable-offset", rf"^{_REG} min value is (?:outside of the|negative.*)"),
    _M(
        "unbounded-variable-offset",
        r"^math between .* pointer and register with unbounded (?:min|max) value is not allowed",
    ),
    _M("unbounded-variable-offset", rf"^{_REG} variable offset"),
    _M("unbounded-variable-offset", rf"^{_REG} invalid variable buffer offset"),
    _M("special-field", r"^(?P<state>\w+) cannot be accessed (?:directly|indirectly)"),
    _M(
        "special-field",
        r"(?:access|store|load).* to (?:kptr|referenced kptr|uptr) |^kptr access|^\w+ field .* cannot be accessed",
    ),
    _M("write-only-memory", r"^read from map forbidden"),
    _M("read-only-memory", r"^write into map forbidden"),
    _M("read-only-memory", rf"^{_REG} cannot write into (?P<state>\S+)"),
    _M("read-only-memory", r"^cannot write into|only read (?:is|from .* is) supported"),
    _M("arena-access", r"\barena\b(?!'s user address)"),
    # --- stack ------------------------------------------------------------------------------------------------------
    _M("stack-misaligned", r"^misaligned stack access off (?P<state>.+) size (?P<size>\d+)"),
    _M("misaligned-access", r"^misaligned (?P<state>[\w ]*?)access off (?P<off>.+) size (?P<size>\d+)"),
    _M("misaligned-access", r"^misaligned "),
    _M(
        "uninitialised-stack",
        rf"^invalid (?:indirect )?(?:read from|access to) stack (?:{_REG} )?"
        r"off (?P<off>-?\d+)\+(?P<state>-?\d+) size (?P<size>\d+)",
    ),
    _M("uninitialised-stack", rf"^invalid (?:indirect )?read from stack (?:{_REG} )?var_off "),
    _M("uninitialised-stack", r"^invalid read from stack off (?P<off>-?\d+)\+(?P<state>-?\d+) size (?P<size>\d+)"),
    _M(
        "stack-out-of-bounds",
        r"^invalid (?:(?:indirect|variable-offset|zero-size|unbounded) )*(?:access|read|write)(?: to| from)? stack"
        rf" {_REG} (?:off=(?P<off>-?\d+))?",
    ),
    _M(
        "stack-out-of-bounds", rf"^invalid stack type {_REG} off=(?P<off>-?\d+) access_size=(?P<size>-?\d+)", "", "5.13"
    ),
    _M(
        "stack-out-of-bounds",
        rf"^invalid (?:indirect )?(?:variable-offset |unbounded )*(?:read|write|access).* stack.*{_REG}",
    ),
    _M("stack-out-of-bounds", r"^invalid stack off=(?P<off>-?\d+) size=(?P<size>\d+)", "", "5.13"),
    _M("stack-pointer-corruption", r"^attempt to corrupt spilled pointer on stack"),
    _M("stack-pointer-corruption", r"^corrupted spill memory|^invalid size of register (?:spill|fill)"),
    _M(
        "pointer-leak",
        r"^cannot (?:spill pointers to stack into stack frame of the caller|return stack pointer to the caller)",
    ),
    # --- registers --------------------------------------------------------------------------------------------------
    _M("uninitialised-register", rf"^{_REG} !read_ok"),
    _M("frame-pointer-write", r"^frame pointer is read only"),
    _M("null-map-value", rf"^{_REG} invalid mem access '(?P<state>map_value(?:_or_null))'"),
    _M("null-map-value", rf"^{_REG} invalid mem access '(?P<state>\w+_or_null_?\w*)'"),
    _M("invalid-memory-access", rf"^{_REG} invalid mem access '(?P<state>[^']+)'"),
    _M("null-map-value", rf"^{_REG} pointer arithmetic on (?P<state>\w*_or_null_?\w*) prohibited, null-check it first"),
    _M("pointer-arithmetic", rf"^{_REG} pointer arithmetic on (?P<state>\S+) prohibited"),
    _M("pointer-arithmetic", rf"^{_REG} pointer (?:\+=|-=) pointer prohibited"),
    _M(
        "pointer-arithmetic",
        rf"^{_REG} (?:32-bit pointer arithmetic prohibited|bitwise operator .* on pointer prohibited)",
    ),
    _M(
        "pointer-arithmetic",
        rf"^{_REG} (?:pointer arithmetic with .* operator prohibited|tried to subtract pointer from scalar)",
    ),
    _M("pointer-arithmetic", rf"^{_REG} (?:sign-extension part of pointer|partial copy of pointer|byte swap)"),
    _M("pointer-arithmetic", r"^(?:R\d+ )?(?:sign-extension|pointer arithmetic|subtraction from stack pointer)"),
    _M("pointer-arithmetic", r"^R\d+ has pointer with unsupported alu operation|^R\d+ tried to "),
    _M("pointer-comparison", rf"^{_REG} pointer comparison prohibited"),
    _M("pointer-leak", rf"^(?:{_REG} leaks addr|leaking pointer from stack off)"),
    _M("mixed-pointer-types", r"^same insn cannot be used with different pointers"),
    _M(
        "untrusted-pointer",
        rf"^{_REG} (?:is \w*ptr_|must be (?:referenced or trusted|referenced$|a rcu pointer))",
    ),
    _M("untrusted-pointer", rf"^(?:access beyond struct|invalid kernel type|{_REG} is a pointer to)"),
    # --- calls ------------------------------------------------------------------------------------------------------
    _M("helper-not-allowed", r"^(?:program of this type cannot use helper|unknown func) (?P<helper>\S+)"),
    _M("unknown-helper", r"^invalid func (?P<helper>\S+)"),
    _M("missing-licence", r"^cannot call GPL-restricted function"),
    _M("missing-licence", r"GPL compatible|GPL-compatible"),
    _M("helper-not-allowed", r"^helper call is not allowed|^func (?P<helper>\S+) not supported (?:for|in)"),
    _M(
        "execution-context",
        r"might sleep|sleepable|(?:rcu|preempt|irq)[- _](?:read )?(?:lock|disabled|section|restore)",
    ),
    _M("helper-map-type", r"^cannot pass map_type (?P<state>\d+) into func (?P<helper>\S+)"),
    _M("helper-map-type", r"^expected prog array map for tail call"),
    _M("helper-map-type", r"^(?:map type \d+|map has to have|invalid map_ptr|func \S+ .* map)"),
    _M("kfunc-not-allowed", r"^calling kernel function (?P<helper>\S+) is not allowed"),
    _M(
        "kfunc-not-allowed",
        r"^(?:kernel function btf_id|calling kernel functions? |metadata kfuncs)|to find BTF for kernel function",
    ),
    _M("reference-misuse", r"^R\d+ must (?:be referenced|have zero offset) when passed to release"),
    _M("execution-context", r"^at the time of BPF_LD_ABS\|IND R6 != pointer to skb"),
    _M("kfunc-argument", r"^(?:arg#\d+ |R\d+ must be |kernel function (?P<helper>\S+) args#?)"),
    _M(
        "return-value",
        r"^At (?P<where>program exit|async callback return|callback return|subprogram exit) the register R(?P<reg>\d+) "
        r"(?:.* should have been in \[(?P<low>-?\d+), (?P<high>-?\d+)\])?",
    ),
    _M("return-value", r"^The register R(?P<reg>\d+) .*should have been in"),
    _M("null-map-value", rf"^{_REG} type=(?P<state>\w+_or_null_?) expected=(?P<target>map_ptr)"),
    _M("helper-argument", rf"^{_REG} type=(?P<state>\S+) expected=(?P<target>.+)"),
    _M(
        "helper-argument",
        rf"^{_REG} (?:must be a known constant|is not a known constant|doesn't have constant|is not a (?:const|known))",
    ),
    _M("helper-argument", rf"^{_REG} (?:has no valid kptr|doesn't point to|is not)"),
    _M("helper-argument", r"^(?:invalid arg_type|Unsupported reg type|verifier bug. Unsupported arg)"),
    _M(
        "global-function-argument",
        r"^(?:Caller passes invalid args into func|arg#\d+ reference type|Global function |func '.*' (?:is|has))",
    ),
    _M("callback", r"callback"),
    # --- resources --------------------------------------------------------------------------------------------------
    _M("reference-leak", r"^Unreleased reference id=(?P<state>\d+) alloc_insn=(?P<index>\d+)"),
    _M("reference-leak", r"would lead to reference leak"),
    _M(
        "lock",
        r"would lead to .*(?:lock|spin)|(?:bpf_)?(?:res_)?spin_(?:un)?lock|^bpf_spin|holding a lock|inside bpf_.*lock",
    ),
    _M("execution-context", r"would lead to|(?:is|are) not allowed (?:in|inside|while)"),
    _M(
        "reference-misuse",
        r"^(?:release function|release kernel function|release helper)",
    ),
    _M("reference-misuse", r"more than one arg with ref_obj_id|^reference has not been acquired before"),
    _M("dynptr", r"dynptr"),
    _M("iterator", r"\biter(?:ator)?\b|expected (?:an )?(?:un)?initialized iter"),
    _M("lock", r"\block\b"),
    # --- maps, BTF, attaching, policy --------------------------------------------------------------------------------
    _M(
        "invalid-map",
        r"^(?:tracing progs cannot use|socket filter progs cannot use|offload device mismatch|trace type programs)",
    ),
    _M("invalid-map", r"^(?:Sleepable programs can only|perf_event programs)"),
    _M("invalid-map", r"^arena's user address must be set"),
    _M(
        "attach-target",
        r"^(?:attach_btf_id|Attaching|Tracing programs must provide btf_id|FENTRY/FEXIT|Cannot (?:attach|extend))",
    ),
    _M(
        "attach-target",
        r"^(?:Cannot replace|Extension programs|kernel subsystem misconfigured|func_proto|LSM )",
    ),
    _M("attach-target", r"(?:is not|not) (?:modifiable|attachable)|struct ops"),
    _M("btf-mismatch", r"BTF|func_info|line_info|^Invalid (?:insn_off|name|core_relo)"),
    _M("missing-licence", r"licen[cs]e"),
    _M("unprivileged", r"unprivileged|CAP_|not allowed for !root|prohibited for !root|for unpriv"),
    _M("verifier-bug", r"^(?:verifier (?:bug|internal error)|BUG|REG INVARIANTS VIOLATION|kernel bug)"),
)
"""Every known template, most specific first."""


# The lines of a log of level 2, as Linux 6.18 prints them.
LOG_LINES: Mapping[str, str] = {
    "insn": "{slot}: ({code:02x}) {text}",
    "state": "{slot}: {state}",
    "from": "\nfrom {previous} to {slot}: {state}",
    "safe": "{slot}: safe",
    "from-safe": "\nfrom {previous} to {slot}: safe",
    "call": "caller:\n {caller}\ncallee:\n {callee}",
    "return": "returning from callee:\n {callee}\nto caller at {slot}:\n {caller}",
    "validating": "Validating {name}() func#{number}...",
    "function-safe": "Func#{number} ('{name}') is safe for any args that match its prototype",
    "processed": "processed {processed} insns (limit {limit})",
}


@cache
def _compiled() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((row.rule, re.compile(row.pattern)) for row in MESSAGES)


def classify(line: str) -> tuple[str, Mapping[str, str]] | None:
    """The rule of one line of a verifier's text and the values in it, or None when no template knows the line.

    >>> classify("R2 invalid mem access 'scalar'")
    ('invalid-memory-access', {'reg': '2', 'state': 'scalar'})
    """
    for rule, pattern in _compiled():
        if match := pattern.search(line):
            return rule, {key: value for key, value in match.groupdict().items() if value is not None}
    return None
