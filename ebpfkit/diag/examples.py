"""For each rule a small program that breaks it and the same program mended; `ebpfkit explain RULE` prints them.

Rows of text only. The programs are assembly in the kernel's spelling, so that each shows the rule and nothing else, or
C where a rule needs types (`examples_c`). Tests assemble or compile every one and hold the verifier to it: the first is
rejected with this very rule, the second accepted.
`python` and `c` say the mend in the author's language where it has words of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ebpfkit.diag.examples_c import C_ROWS

__all__ = ["EXAMPLES", "EXAMPLE_MAPS", "Example"]

# name: (type, key bytes, value bytes, entries). `settings` is constant: its contents are known and cannot be written.
EXAMPLE_MAPS: Mapping[str, tuple[str, int, int, int]] = MappingProxyType(
    {
        "counters": ("hash", 4, 16, 8),
        "table": ("array", 4, 16, 4),
        "next": ("prog_array", 4, 4, 4),
        "events": ("ringbuf", 0, 0, 4096),
        "settings": ("array", 4, 64, 1),
        "state": ("array", 4, 64, 1),
    }
)


@dataclass(frozen=True, slots=True)
class Example:
    """A rule shown: `failing` breaks it, `mended` does not. `python` and `c` are the mend in those languages.

    `language`: of the two programs, "assembly" or "C".
    """

    rule: str
    failing: str
    mended: str
    prog_type: str = "xdp"
    license: str = "GPL"
    strict_alignment: bool = False
    python: str = ""
    c: str = ""
    language: str = "assembly"


_PACKET = """\
r2 = *(u32 *)(r1 +0)      ; data
r3 = *(u32 *)(r1 +4)      ; data_end
"""
_LOOKUP = """\
*(u32 *)(r10 -4) = 0      ; the key
r2 = r10
r2 += -4
r1 = map[counters] ll
call bpf_map_lookup_elem#1
"""
_DONE = "r0 = 2\nexit"


def _lines(*parts: str) -> str:
    return "\n".join(part.rstrip("\n") for part in parts)


_ROWS = (
    Example(
        "unbounded-packet-access",
        _lines(_PACKET, "r0 = *(u8 *)(r2 +13)      ; is byte 13 there?", "exit"),
        _lines(
            _PACKET, "r4 = r2", "r4 += 14", "if r4 > r3 goto short", "r0 = *(u8 *)(r2 +13)", "exit", "short:", _DONE
        ),
        python="read the header with pkt.read(T), which checks first and leaves by short= when the packet ends",
        c="write `if (data + sizeof(*eth) > data_end) return XDP_PASS;` before the access, with the same pointer",
    ),
    Example(
        "null-map-value",
        _lines(_LOOKUP, "r0 = *(u64 *)(r0 +0)      ; the key may be missing", "exit"),
        _lines(_LOOKUP, "if r0 == 0 goto missing", "r0 = *(u64 *)(r0 +0)", "exit", "missing:", _DONE),
        python="test the result of get() with `is not None` before its use",
        c="write `if (!value) return XDP_PASS;` directly after bpf_map_lookup_elem()",
    ),
    Example(
        "map-value-out-of-bounds",
        _lines(
            _LOOKUP,
            "if r0 == 0 goto missing",
            "r0 = *(u64 *)(r0 +12)     ; bytes 12 to 19 of 16",
            "exit",
            "missing:",
            _DONE,
        ),
        _lines(_LOOKUP, "if r0 == 0 goto missing", "r0 = *(u64 *)(r0 +8)", "exit", "missing:", _DONE),
        python="index arrays with a mask (`a[i & 15]`), or test the index against the length first",
        c="bound the index in the same variable that is added: `if (i >= ARRAY_SIZE(v->a)) return XDP_PASS;`",
    ),
    Example(
        "memory-out-of-bounds",
        "r1 = map[events] ll\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve#131\nif r0 == 0 goto full\n"
        "*(u64 *)(r0 +4) = 1       ; bytes 4 to 11 of 8\nr1 = r0\nr2 = 0\n"
        "call bpf_ringbuf_submit#132\nfull:\nr0 = 2\nexit",
        "r1 = map[events] ll\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve#131\nif r0 == 0 goto full\n"
        "*(u64 *)(r0 +0) = 1\nr1 = r0\nr2 = 0\ncall bpf_ringbuf_submit#132\nfull:\nr0 = 2\nexit",
        c="reserve as many bytes as are written: `bpf_ringbuf_reserve(&events, sizeof(*record), 0)`",
    ),
    Example(
        "unbounded-variable-offset",
        _lines(
            "call bpf_ktime_get_ns#5",
            "r6 = r0                   ; any number",
            _LOOKUP,
            "if r0 == 0 goto missing",
            "r0 += r6",
            "r0 = *(u8 *)(r0 +0)       ; where does it point?",
            "exit",
            "missing:",
            _DONE,
        ),
        _lines(
            "call bpf_ktime_get_ns#5",
            "r6 = r0",
            "r6 &= 15",
            _LOOKUP,
            "if r0 == 0 goto missing",
            "r0 += r6",
            "r0 = *(u8 *)(r0 +0)",
            "exit",
            "missing:",
            _DONE,
        ),
        python="mask the index (`i & 15`) or test it before it is used",
        c="mask the index: `buf[i & (sizeof(buf) - 1)]`, or test an unsigned index first",
    ),
    Example(
        "stack-out-of-bounds",
        "*(u64 *)(r10 -520) = 1    ; the frame has 512 bytes\nr0 = 2\nexit",
        "*(u64 *)(r10 -512) = 1\nr0 = 2\nexit",
        python="put large structures into a PerCpuArray",
        c="put large buffers into a BPF_MAP_TYPE_PERCPU_ARRAY of one entry",
    ),
    Example("stack-misaligned", "*(u64 *)(r10 -12) = 1\nr0 = 2\nexit", "*(u64 *)(r10 -16) = 1\nr0 = 2\nexit"),
    Example(
        "misaligned-access",
        _lines(_PACKET, "r4 = r2", "r4 += 8", "if r4 > r3 goto short", "r0 = *(u32 *)(r2 +1)", "exit", "short:", _DONE),
        _lines(_PACKET, "r4 = r2", "r4 += 8", "if r4 > r3 goto short", "r0 = *(u32 *)(r2 +2)", "exit", "short:", _DONE),
        strict_alignment=True,
    ),
    Example(
        "stack-pointer-corruption",
        "*(u64 *)(r10 -8) = r1     ; a pointer is saved\nr0 = *(u32 *)(r10 -8)     ; and half of it read\nexit",
        "*(u64 *)(r10 -8) = r1\nr1 = *(u64 *)(r10 -8)\nr0 = 2\nexit",
    ),
    Example(
        "invalid-context-access",
        "r0 = *(u64 *)(r1 +0)      ; the field has 4 bytes\nexit",
        "r0 = *(u32 *)(r1 +12)\nexit",
        python="use the fields of the context, such as pkt.ingress_ifindex",
        c="read the field itself: `ctx->ingress_ifindex`",
    ),
    Example(
        "modified-context",
        "r1 += 4\nr0 = *(u32 *)(r1 +8)\nexit",
        "r0 = *(u32 *)(r1 +12)\nexit",
    ),
    Example(
        "read-only-memory",
        "r1 = map[settings][0]+0 ll\n*(u64 *)(r1 +0) = 1       ; constant data\nr0 = 2\nexit",
        "r1 = map[state][0]+0 ll\n*(u64 *)(r1 +0) = 1\nr0 = 2\nexit",
        c="drop the `const`: constant globals live in a map that no one may write",
    ),
    Example("uninitialised-register", "exit                      ; R0 is the verdict", "r0 = 2\nexit"),
    Example(
        "invalid-memory-access",
        "r2 = 4096\nr0 = *(u32 *)(r2 +0)      ; a number is no address\nexit",
        "r2 = r1\nr0 = *(u32 *)(r2 +12)\nexit",
        c="bpf_probe_read_kernel() reads from addresses that are only numbers, where the program type has it",
    ),
    Example("pointer-arithmetic", "r1 *= 2\nr0 = 2\nexit", "r2 = *(u32 *)(r1 +12)\nr2 *= 2\nr0 = 2\nexit"),
    Example("frame-pointer-write", "r10 += -8\nr0 = 2\nexit", "r2 = r10\nr2 += -8\nr0 = 2\nexit"),
    Example(
        "mixed-pointer-types",
        "r3 = *(u32 *)(r1 +12)\n*(u64 *)(r10 -8) = 0\nr2 = r10\nr2 += -8\nif r3 == 0 goto load\nr2 = r1\n"
        "load:\nr0 = *(u32 *)(r2 +0)      ; of the stack, or of the context\nexit",
        "r3 = *(u32 *)(r1 +12)\n*(u64 *)(r10 -8) = 0\nif r3 == 0 goto load\nr0 = *(u32 *)(r1 +12)\nexit\n"
        "load:\nr0 = *(u32 *)(r10 -8)\nexit",
    ),
    Example(
        "helper-argument",
        "r1 = 7                    ; not a map\nr2 = r10\nr2 += -8\n*(u64 *)(r10 -8) = 0\n"
        "call bpf_map_lookup_elem#1\nr0 = 2\nexit",
        "r1 = map[counters] ll\nr2 = r10\nr2 += -8\n*(u64 *)(r10 -8) = 0\ncall bpf_map_lookup_elem#1\nr0 = 2\nexit",
    ),
    Example(
        "unbounded-size",
        "r6 = r1\n*(u64 *)(r10 -8) = 0\nr5 = *(u32 *)(r1 +12)     ; any number\nr1 = r10\n"
        "r1 += -8\nr2 = 4\nr3 = r10\n"
        "r3 += -8\nr4 = r5\nr4 <<= 32\nr4 s>>= 32                 ; may be negative\nr5 = 0\n"
        "call bpf_csum_diff#28\nr0 = 2\nexit",
        "r6 = r1\n*(u64 *)(r10 -8) = 0\nr5 = *(u32 *)(r1 +12)\nr1 = r10\nr1 += -8\nr2 = 4\nr3 = r10\n"
        "r3 += -8\nr4 = r5\nr4 &= 4\nr5 = 0\ncall bpf_csum_diff#28\nr0 = 2\nexit",
        c="bound the size from both sides; an unsigned variable and `size &= MASK` do both",
    ),
    Example(
        "helper-not-allowed",
        "r1 = 0\nr2 = 0\ncall bpf_override_return#58\nr0 = 2\nexit",
        "call bpf_ktime_get_ns#5\nr0 = 2\nexit",
    ),
    Example("unknown-helper", "call 9999\nr0 = 2\nexit", "call bpf_ktime_get_ns#5\nr0 = 2\nexit"),
    Example(
        "helper-map-type",
        "r2 = map[counters] ll     ; not a map of programs\nr3 = 0\ncall bpf_tail_call#12\nr0 = 2\nexit",
        "r2 = map[next] ll\nr3 = 0\ncall bpf_tail_call#12\nr0 = 2\nexit",
    ),
    Example(
        "return-value",
        "r0 = 2\nexit",
        "r0 = 1\nexit",
        prog_type="cgroup_sock",
    ),
    Example(
        "reference-leak",
        "r1 = map[events] ll\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve#131\nr0 = 2\n"
        "exit                      ; still reserved",
        "r1 = map[events] ll\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve#131\nif r0 == 0 goto full\n"
        "r1 = r0\nr2 = 0\ncall bpf_ringbuf_discard#133\nfull:\nr0 = 2\nexit",
        c="call bpf_ringbuf_submit() or bpf_ringbuf_discard() on every way out",
    ),
    Example(
        "reference-misuse",
        "r1 = *(u64 *)(r1 +168)    ; the packet's own socket\nif r1 == 0 goto none\n"
        "call bpf_sk_release#86\nnone:\nr0 = 0\nexit",
        "r1 = *(u64 *)(r1 +168)\nif r1 == 0 goto none\nr2 = *(u32 *)(r1 +4)\nnone:\nr0 = 0\nexit",
        prog_type="sched_cls",
    ),
    Example("unreachable-code", "r0 = 2\nexit\nr0 = 1\nexit", "r0 = 2\nexit"),
    Example("jump-out-of-range", "r0 = 2\nif r0 == 1 goto pc+9\nexit", "r0 = 2\nif r0 == 1 goto pc+0\nexit"),
    Example("fall-through", "r0 = 2", "r0 = 2\nexit"),
    Example(
        "infinite-loop",
        "again:\nr2 = *(u32 *)(r1 +12)\nif r2 != 0 goto again     ; nothing changes from round to round\nr0 = 2\nexit",
        "r3 = 0\nagain:\nr3 += 1\nif r3 == 8 goto done\nr2 = *(u32 *)(r1 +12)\n"
        "if r2 != 0 goto again\ndone:\nr0 = 2\nexit",
        python="write `for _ in range(8)` with a break",
        c="give the loop a constant bound: `for (int i = 0; i < 8; i++)`, or use bpf_loop()",
    ),
    Example("invalid-immediate", "r0 = 2\nr0 <<= 64\nexit", "r0 = 2\nr0 <<= 63\nexit"),
    Example(
        "invalid-map",
        "r1 = map[fd:99] ll\nr0 = 2\nexit",
        "r1 = map[counters] ll\nr0 = 2\nexit",
    ),
    Example("empty-program", "", "r0 = 2\nexit"),
    Example(
        "invalid-wide-load",
        "r1 = map[state][0]+64 ll  ; behind the 64 bytes\nr0 = 2\nexit",
        "r1 = map[state][0]+56 ll\nr0 = 2\nexit",
    ),
    Example(
        "dynptr",
        "r1 = r10\nr1 += -16                 ; nothing was made there\ncall bpf_dynptr_data#203\nr0 = 2\nexit",
        "r1 = map[state][0]+0 ll\nr2 = 64\nr3 = 0\nr4 = r10\nr4 += -16\ncall bpf_dynptr_from_mem#197\n"
        "r1 = r10\nr1 += -16\nr2 = 0\nr3 = 8\ncall bpf_dynptr_data#203\nr0 = 2\nexit",
    ),
    Example("invalid-call", "call pc+9\nr0 = 2\nexit", "call pc+1\nexit\nr0 = 2\nexit"),
    Example(
        "missing-licence",
        "r1 = r10\nr1 += -8\n*(u64 *)(r10 -8) = 0\nr2 = 8\ncall bpf_trace_printk#6\nr0 = 2\nexit",
        "call bpf_ktime_get_ns#5\nr0 = 2\nexit",
        license="Proprietary",
        python='say `LICENSE = "GPL"` in the module',
        c='say `char LICENSE[] SEC("license") = "GPL";`',
    ),
    Example(
        "too-complex",
        "r2 = *(u32 *)(r1 +12)\nr3 = 0\nagain:\nr3 += 1\n"
        "if r3 < r2 goto again     ; up to 4 thousand million rounds\nr0 = 2\nexit",
        "r2 = *(u32 *)(r1 +12)\nr2 &= 255\nr3 = 0\nagain:\nr3 += 1\nif r3 < r2 goto again\nr0 = 2\nexit",
        python="bound the loop: `for i in range(256)` with a break",
        c="bound the loop by a constant, or use bpf_loop(), whose body is walked once",
    ),
    Example(
        "stack-depth",
        "*(u64 *)(r10 -304) = 0\ncall pc+1\nexit\n*(u64 *)(r10 -304) = 0\nr0 = 2\nexit",
        "*(u64 *)(r10 -256) = 0\ncall pc+1\nexit\n*(u64 *)(r10 -256) = 0\nr0 = 2\nexit",
    ),
    Example(
        "call-depth",
        _lines(*(["call pc+1\nexit"] * 8), "r0 = 2\nexit"),
        _lines(*(["call pc+1\nexit"] * 7), "r0 = 2\nexit"),
    ),
    Example(
        "value-out-of-range",
        "r2 = r10\nr2 += 1073741824\nr0 = 2\nexit",
        "r2 = r10\nr2 += -512\nr0 = 2\nexit",
    ),
    Example(
        "execution-context",
        "r6 = 0                    ; not the context\nr0 = *(u8 *)skb[0]\nexit",
        "r6 = r1\nr0 = *(u8 *)skb[0]\nexit",
        prog_type="socket_filter",
    ),
    Example("arena-access", "r2 = 0\nr2 = addr_space_cast(r2, 0, 1)\nr0 = 2\nexit", "r2 = 0\nr0 = 2\nexit"),
    Example(
        "pointer-leak",
        "r1 = r10\nr1 += -8\n*(u64 *)(r10 -8) = 0\ncall pc+2\nr0 = 2\nexit\nr2 = r10\n"
        "*(u64 *)(r1 +0) = r2     ; its frame ends\nr0 = 0\nexit",
        "r1 = r10\nr1 += -8\n*(u64 *)(r10 -8) = 0\ncall pc+2\nr0 = 2\nexit\n*(u64 *)(r1 +0) = 7\nr0 = 0\nexit",
    ),
)

_IN_C = tuple(
    Example(rule, failing, mended, prog_type, c=words, language="C")
    for rule, (failing, mended, prog_type, words) in C_ROWS.items()
)

EXAMPLES: Mapping[str, Example] = MappingProxyType({row.rule: row for row in (*_ROWS, *_IN_C)})
