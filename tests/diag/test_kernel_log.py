"""Logs: what this kernel says to small wrong programs, and samples of other layouts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.abi import uapi
from ebpfkit.asm.codec import encode
from ebpfkit.asm.parser import parse
from ebpfkit.diag.kernel_log import parse_kernel_log, parse_registers
from ebpfkit.diag.messages import MESSAGES, classify
from ebpfkit.diag.rules import CATEGORIES, RULES
from ebpfkit.kernel import bpf

PACKET = "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\n"

# program, rule, slot, message (None: differs between kernels)
REJECTED = {
    "register never written": ("r0 = r7\nexit", "uninitialised-register", 0, "R7 !read_ok"),
    "no return value": ("exit", "uninitialised-register", 0, "R0 !read_ok"),
    "packet without a check": (PACKET + "r0 = *(u8 *)(r2 +0)\nexit", "unbounded-packet-access", 2, None),
    "one byte too far": (
        PACKET + "r4 = r2\nr4 += 14\nif r4 > r3 goto +1\nr0 = *(u8 *)(r2 +14)\nr0 = 0\nexit",
        "unbounded-packet-access",
        5,
        "invalid access to packet, off=14 size=1, R2(id=0,off=14,r=14)",
    ),
    "below the frame": ("r0 = *(u64 *)(r10 -520)\nexit", "stack-out-of-bounds", 0, None),
    "misaligned on the stack": ("r0 = *(u64 *)(r10 -12)\nexit", "stack-misaligned", 0, None),
    "number as address": ("r1 = 5\nr0 = *(u64 *)(r1 +0)\nexit", "invalid-memory-access", 1, None),
    "no such context field": (
        "r0 = *(u64 *)(r1 +0)\nexit",
        "invalid-context-access",
        0,
        "invalid bpf_context access off=0 size=8",
    ),
    "moved context": ("r1 += 4\nr0 = *(u32 *)(r1 +0)\nexit", "modified-context", 1, None),
    "dead code": ("r0 = 0\nexit\nr0 = 1\nexit", "unreachable-code", 2, "unreachable insn 2"),
    "end without exit": ("r0 = 0\nr0 = 1", "fall-through", None, "last insn is not an exit or jmp"),
    "jump too far": ("if r1 == 0 goto +5\nr0 = 0\nexit", "jump-out-of-range", 0, "jump out of range from insn 0 to 6"),
    "endless": ("r0 = 0\ngoto -1", "infinite-loop", 1, "infinite loop detected at insn 1"),
    "endless by re-reading": (
        "r6 = r1\nl:\nr0 = *(u32 *)(r6 +12)\nif r0 == 0 goto l\nr0 = 0\nexit",
        "infinite-loop",
        1,
        "infinite loop detected at insn 1",
    ),
    "sum of pointers": (PACKET + "r2 += r3\nr0 = 0\nexit", "pointer-arithmetic", 2, "R2 pointer += pointer prohibited"),
    "mask of a pointer": (PACKET + "r2 &= 7\nr0 = 0\nexit", "pointer-arithmetic", 2, None),
    "frame pointer written": ("r10 = 1\nr0 = 0\nexit", "frame-pointer-write", 0, "frame pointer is read only"),
    "helper of another type": ("call 9\nr0 = 0\nexit", "helper-not-allowed", 0, None),
    "no such helper": ("call 5000\nr0 = 0\nexit", "unknown-helper", 0, "invalid func unknown#5000"),
    "number for a map": (
        "r1 = 0\nr2 = r10\ncall 1\nr0 = 0\nexit",
        "helper-argument",
        2,
        "R1 type=scalar expected=map_ptr",
    ),
    "division by the constant 0": ("r0 = 1\nr0 /= 0\nexit", "invalid-immediate", 1, "div by zero"),
    "shift by the width": ("r0 = 1\nr0 <<= 64\nexit", "invalid-immediate", 1, "invalid shift 64"),
    "buffer too small": (
        "r1 = r10\nr1 += -8\nr2 = 100\ncall 16\nr0 = 0\nexit", "stack-out-of-bounds", 3, None
    ),
    "size zero": ("r1 = r10\nr1 += -8\nr2 = 0\ncall 16\nr0 = 0\nexit", "unbounded-size", 3, None),
    "size unknown": (
        "call 7\nr2 = r0\nr1 = r10\nr1 += -8\ncall 16\nr0 = 0\nexit",
        "unbounded-size",
        4,
        "R2 min value is negative, either use unsigned or 'var &= const'",
    ),
    "too many rounds": (
        "r6 = 0\nl:\nr6 += 1\nif r6 < 2000000 goto l\nr0 = 0\nexit",
        "too-complex",
        None,
        "BPF program is too large. Processed 1000001 insn",
    ),
    "too many open branches": (
        "call 7\n" + "".join(f"if r0 == {i} goto out\n" for i in range(9000)) + "out:\nr0 = 0\nexit",
        "too-complex",
        None,
        "The sequence of 8193 jumps is too complex.",
    ),
    "call into nowhere": ("r0 = 0\ncall +20\nexit", "invalid-call", None, "call to invalid destination"),
    "socket kept": (
        "*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = 0\nr2 = r10\nr2 += -16\nr3 = 12\nr4 = -1\nr5 = 0\ncall 84\nexit",
        "reference-leak",
        8,
        "Unreleased reference id=2 alloc_insn=7",
    ),
    "frames too large": (
        "call +2\nr0 = 0\nexit\n*(u64 *)(r10 -480) = 0\ncall +2\nr0 = 0\nexit\n*(u64 *)(r10 -480) = 0\nr0 = 0\nexit",
        "stack-depth",
        None,
        None,
    ),
}  # fmt: skip


def kernel_says(source: str, level: int) -> tuple[bool, str]:
    result = bpf.prog_load(uapi.BPF_PROG_TYPE_XDP, encode(parse(source)), "GPL", log_level=level, log_size=1 << 20)
    if result.fd is not None:
        result.fd.close()
    return result.fd is not None, result.log


@pytest.mark.kernel
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("case", REJECTED)
def test_rejections_are_understood(case: str, level: int) -> None:
    source, rule, slot, message = REJECTED[case]
    if level == 2 and rule == "too-complex":
        return  # hundreds of megabytes
    taken, text = kernel_says(source, level)
    log = parse_kernel_log(text, rejected=not taken)
    assert not taken
    assert (log.rule, log.insn) == (rule, slot), text[-400:]
    assert message is None or log.message == message
    assert log.complete and log.limit == 1_000_000
    if rule in ("unreachable-code", "fall-through", "jump-out-of-range", "invalid-call"):
        assert log.processed == 0
    elif slot is not None:
        assert log.text and log.steps[-1].insn >= slot


@pytest.mark.kernel
def test_the_state_and_counts_are_there() -> None:
    source = PACKET + "r4 = r2\nr4 += 14\nif r4 > r3 goto +2\nr5 = *(u8 *)(r2 +13)\n*(u64 *)(r10 -8) = 7\nr0 = r9\nexit"
    taken, text = kernel_says(source, 2)
    log = parse_kernel_log(text, rejected=not taken)
    assert log.rule == "uninitialised-register" and log.values == {"reg": "9"}
    assert log.registers["R1"] == "ctx()" and log.registers["R4"].startswith("pkt(off=14")
    assert log.registers["fp-8"] == "7"
    assert log.registers["R5"].startswith("scalar(") and "0xff)" in log.registers["R5"]
    assert [step.insn for step in log.steps] == list(range(8))
    assert log.processed == 8 and log.total_states == 0 and log.mark_read is not None


@pytest.mark.kernel
def test_an_accepted_program_has_no_message() -> None:
    taken, text = kernel_says("r0 = 2\nexit", 2)
    log = parse_kernel_log(text)
    assert taken and log.message == log.rule == "" and log.insn is None
    assert log.processed == 2 and len(log.steps) == 2


# --- other layouts ----------------------------------------------------------------------------------------------------

OLD = """\
; int x(struct xdp_md *ctx)
0: (bf) r6 = r1
; return *(long *)(8 + lookup(ctx));
1: (85) call pc+2
caller:
 R6_w=ctx(off=0,imm=0) R10=fp0
callee:
 frame1: R1_w=ctx(off=0,imm=0) R10=fp0
3: (b7) r0 = 0                        ; frame1: R0_w=0
4: (95) exit
returning from callee:
 frame1: R0_w=0 R1_w=ctx(off=0,imm=0) R10=fp0
to caller at 2:
 R0_w=0 R6_w=ctx(off=0,imm=0) R10=fp0
last_idx 4 first_idx 0
regs=1 stack=0 before 3: (b7) r0 = 0
2: (79) r0 = *(u64 *)(r0 +8)
R0 invalid mem access 'inv'
verification time 71 usec
stack depth 0+0
processed 5 insns (limit 1000000) max_states_per_insn 1 total_states 2 peak_states 3 mark_read 4
"""

PLACED = """\
0: R1=ctx() R10=fp0
; if (data + 1 > end) @ prog.c:12
0: (61) r2 = *(u32 *)(r1 +0)          ; R1=ctx() R2_w=pkt(r=0)
; return *data; @ prog.c:14
1: (71) r0 = *(u8 *)(r2 +0)
invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0)
R2 offset is outside of the packet
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""

SECTIONS = """\
0: R1=ctx() R10=fp0
0: (95) exit
R0 !read_ok

Verification failed: Register Type Safety: Unreadable register

Reason:
  R0 holds nothing here,
  so it cannot be used.

At:
  main @ prog.c:7:3
  Source context:
  >>> 7 |   return;
        |   ^-- error: R0 is not readable
  Instruction context:
  >>> 0 | (95) exit

Causal path:
  no retained diagnostic events on this path

Suggestion:
  Set R0 first.

processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def test_the_layout_of_older_kernels() -> None:
    log = parse_kernel_log(OLD)
    assert (log.message, log.rule, log.insn) == ("R0 invalid mem access 'inv'", "invalid-memory-access", 2)
    assert log.text == "r0 = *(u64 *)(r0 +8)" and log.seconds == 71e-6 and log.stack_depth == (0, 0)
    assert (log.processed, log.max_states_per_insn, log.total_states, log.peak_states, log.mark_read) == (5, 1, 2, 3, 4)
    assert log.span is None and log.steps[0].span is not None and log.steps[0].span.text == "int x(struct xdp_md *ctx)"


def test_source_places() -> None:
    log = parse_kernel_log(PLACED)
    assert log.span is not None and (log.span.file, log.span.line, log.span.text) == ("prog.c", 14, "return *data;")
    assert log.details == ("R2 offset is outside of the packet",)
    assert log.values == {"off": "0", "size": "1", "reg": "2", "state": "0"}


def test_the_layout_with_sections() -> None:
    log = parse_kernel_log(SECTIONS)
    assert (log.message, log.rule, log.insn, log.processed) == ("R0 !read_ok", "uninitialised-register", 0, 1)
    assert log.structured is not None
    assert (log.structured.category, log.structured.problem) == ("Register Type Safety", "Unreadable register")
    assert log.structured.reason == "R0 holds nothing here, so it cannot be used."
    assert log.structured.suggestion == "Set R0 first."
    assert log.structured.causal_path == ("no retained diagnostic events on this path",)
    assert log.span is not None and str(log.span) == "prog.c:7:3" and log.span.function == "main"


def test_lines_that_the_kernel_runs_together() -> None:
    text = (
        "1: (15) if r0 == 0x0 goto pc-2 1: R0=0 R1=ctx()\n"
        "2: (15) if r0 == 0x0 goto pc-2 infinite loop detected at insn 1\n"
        "expected prog array map for tail callprocessed 21 insns (limit 1000000)"
    )
    log = parse_kernel_log(text)
    assert [step.text for step in log.steps] == ["if r0 == 0x0 goto pc-2"] * 2
    assert log.rule == "infinite-loop" and log.processed == 21 and log.registers == {"R0": "0", "R1": "ctx()"}


def test_a_cut_log_says_so() -> None:
    log = parse_kernel_log(PLACED[:-120])
    assert not log.complete and log.processed is None and log.rule == "unbounded-packet-access"


# Spellings of one complaint in different kernels.
SPELLINGS = {
    "uninitialised-stack": (
        "invalid indirect read from stack R2 off -8+4 size 8",
        "invalid read from stack R2 off -8+4 size 8",
        "invalid indirect read from stack off -8+4 size 8",
    ),
    "stack-out-of-bounds": (
        "invalid indirect access to stack R2 off=-8 size=16",
        "invalid write to stack R1 off=-8 size=100",
        "invalid stack type R2 off=-8 access_size=16",
        "invalid variable-offset read from stack R2 var_off=(0x0; 0xf) off=-8",
    ),
    "reference-leak": (
        "Unreleased reference id=2 alloc_insn=8",
        "BPF_EXIT instruction in main prog would lead to reference leak",
    ),
    "return-value": (
        "At program exit the register R0 has value (0x64; 0x0) should have been in (0x0; 0x1)",
        "At program exit the register R0 has smin=100 smax=100 should have been in [0, 1]",
    ),
    "stack-misaligned": (
        "misaligned stack access off (0x0; 0x0)+0+-12 size 8",
        "misaligned stack access off 0+0+-12 size 8",
    ),
    "null-map-value": (
        "R0 invalid mem access 'map_value_or_null'",
        "R1 pointer arithmetic on map_value_or_null prohibited, null-check it first",
    ),
    "helper-not-allowed": (
        "unknown func bpf_skb_store_bytes#9",
        "program of this type cannot use helper bpf_skb_store_bytes#9",
    ),
    "unbounded-variable-offset": (
        "R0 unbounded memory access, make sure to bounds check any such access",
        "R2 min value is negative, either use unsigned index or do a if (index >=0) check.",
        "math between pkt pointer and register with unbounded min value is not allowed",
    ),
    "unknown-opcode": ("unknown opcode d7",),
    "reserved-field": ("BPF_ALU uses reserved fields", "BPF_MOV uses reserved fields", "BPF_LDX uses reserved fields"),
    "missing-licence": ("cannot call GPL-restricted function from non-GPL compatible program",),
    "back-edge": ("back-edge from insn 4 to 2",),
    "call-depth": ("the call stack of 9 frames is too deep !",),
    "stack-depth": ("combined stack size of 2 calls is 608. Too large",),
    "too-complex": ("The sequence of 8193 jumps is too complex.",),
}


@pytest.mark.parametrize("rule, line", [(rule, line) for rule, lines in SPELLINGS.items() for line in lines])
def test_spellings(rule: str, line: str) -> None:
    known = classify(line)
    assert known is not None and known[0] == rule


def test_rows_are_sound() -> None:
    for row in MESSAGES:
        assert row.rule in RULES, row
    for rule in RULES.values():
        assert rule.category in CATEGORIES
        assert rule.title and rule.why.endswith(".") and rule.mend.endswith(".")
        assert len(rule.title) < 80


def test_registers_with_nested_values() -> None:
    state = "R0_w=map_value(map=a,ks=4,vs=8,imm=0) R1=scalar(umax=15,var_off=(0x0; 0xf)) R10=fp0 fp-8_w=mmmm???? refs=2"
    assert parse_registers(state) == {
        "R0": "map_value(map=a,ks=4,vs=8,imm=0)",
        "R1": "scalar(umax=15,var_off=(0x0; 0xf))",
        "R10": "fp0",
        "fp-8": "mmmm????",
        "refs": "2",
    }


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from((*OLD.splitlines(), *PLACED.splitlines(), *SECTIONS.splitlines(), "", "x" * 50)), max_size=40
    )
)
def test_lines_in_any_order_are_read(lines: list[str]) -> None:
    log = parse_kernel_log("\n".join(lines))
    assert log.rule == "" or log.rule in RULES
    assert bool(log.message) == bool(log.rule)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    log = parse_kernel_log(text, rejected=True)
    assert log.rule == "" or log.rule in RULES
