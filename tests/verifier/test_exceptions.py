# ruff: noqa: E501 - programs in C, one a line
"""Exceptions and their handlers, in objects that clang made: our verdict and count against the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_functions
from judged import assert_agrees

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

MORE = """
#define KSYM __attribute__((section(".ksyms")))
#define HANDLER(name) __attribute__((btf_decl_tag("exception_callback:" #name)))
#define STATIC static __attribute__((noinline))
extern void bpf_throw(u64 cookie) KSYM;
struct __sk_buff { u32 len, type, mark; };
static void *(*reserve)(void *, u64, u64) = (void *)131;
struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");
static long (*loop)(u32, void *, void *, u64) = (void *)181;
"""
HANDLE = "G int handler(u64 cookie) { asm_hide(cookie); return cookie & 1; }"
PROG = 'SEC("cgroup/connect4") int prog(struct __sk_buff *ctx)'
THROWS = "HANDLER(handler) int prog(u32 *ctx) { if (ctx[0]) bpf_throw(7); return 1; }"
SIMPLE = f'SEC("cgroup/connect4") {THROWS}'

CASES = {
    "a program with a handler": ("accept", f"{HANDLE} {SIMPLE}"),
    "a handler that is never needed": (
        "accept",
        f'{HANDLE} SEC("xdp") HANDLER(handler) int prog(struct xdp_md *ctx) {{ return 2; }}',
    ),
    "a handler that returns too much": (
        "reject",
        f"G int handler(u64 cookie) {{ asm_hide(cookie); return cookie; }} {SIMPLE}",
    ),
    "a handler that returns too much where all may be returned": (
        "accept",
        'G int handler(u64 cookie) { asm_hide(cookie); return cookie; } SEC("xdp") ' + THROWS,
    ),
    "a static handler": (
        "reject",
        f"STATIC int handler(u64 cookie) {{ asm_hide(cookie); return cookie & 1; }} {SIMPLE.replace('return 1;', 'return handler(3);')}",
    ),
    "a handler of two numbers": (
        "reject",
        f"G int handler(u64 cookie, u64 b) {{ asm_hide(cookie); return cookie & 1; }} {SIMPLE}",
    ),
    "a handler of a pointer": ("reject", f"G int handler(u64 *cookie) {{ asm_hide(cookie); return 1; }} {SIMPLE}"),
    "two handlers": (
        "reject",
        f"{HANDLE} G int other(u64 cookie) {{ asm_hide(cookie); return cookie & 1; }} {SIMPLE.replace('HANDLER(handler)', 'HANDLER(handler) HANDLER(other)')}",
    ),
    "a handler that is called": ("reject", f"{HANDLE} {SIMPLE.replace('return 1;', 'return handler(1) & 1;')}"),
    "a handler that throws": ("reject", f"G int handler(u64 cookie) {{ bpf_throw(cookie); return 0; }} {SIMPLE}"),
    "a handler that calls a function": (
        "accept",
        f"STATIC int more(u64 a) {{ asm_hide(a); return a & 1; }} G int handler(u64 cookie) {{ return more(cookie); }} {SIMPLE}",
    ),
    "a handler with a wrong access": (
        "reject",
        f"G int handler(u64 cookie) {{ asm_hide(cookie); return *(volatile int *)cookie; }} {SIMPLE}",
    ),
    "thrown in a function": (
        "accept",
        f"STATIC int deep(int a) {{ if (a) bpf_throw(a); return 0; }} {HANDLE} {SIMPLE.replace('return 1;', 'return deep(ctx[1]);')}",
    ),
    "thrown while a record is held": (
        "reject",
        f'{HANDLE} SEC("xdp") HANDLER(handler) int prog(u32 *ctx) {{ void *r = reserve(&ring, 8, 0); if (r) bpf_throw(1); return 2; }}',
    ),
    "thrown in a callback": (
        "reject",
        f'{HANDLE} STATIC int each(u32 i, void *x) {{ bpf_throw(1); return 0; }} SEC("xdp") HANDLER(handler) int prog(u32 *ctx) {{ loop(3, each, 0, 0); return 2; }}',
    ),
    "the handler as a callback": (
        "reject",
        f'{HANDLE} SEC("xdp") HANDLER(handler) int prog(u32 *ctx) {{ loop(3, handler, 0, 0); return 2; }}',
    ),
    "the tag at another function": (
        "accept",
        f'{HANDLE} HANDLER(handler) STATIC int other(int a) {{ asm_hide(a); return a & 1; }} SEC("xdp") int prog(u32 *ctx) {{ return handler(other(ctx[0])); }}',
    ),
    "deep below the handler": (
        "accept",
        f"G int handler(u64 cookie) {{ volatile char b[480]; b[3] = cookie; asm_hide(cookie); return b[3] & 1; }} {SIMPLE}",
    ),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_handlers_of_exceptions(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    verdict, source = CASES[name]
    assert_agrees(test_functions.build(tmp_path, MORE + source), verdict, oracle, oracle.types)
