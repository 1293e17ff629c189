"""Functions verified apart (global ones), in objects that clang made: our verdict and count against the kernel's."""

# ruff: noqa: E501, ISC004 - programs in C, one a line
from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_objects import PRELUDE

from ebpfkit.abi.model import HostProfile
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf import open_object
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier import verify_program
from tests.conftest import require_tool

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

MORE = """
#define G __attribute__((noinline))
#define TAG(t) __attribute__((btf_decl_tag("arg:" #t)))
#define HIDDEN __attribute__((visibility("hidden")))
#define asm_hide(x) asm volatile("" : "+r"(x))
struct pair { u64 a, b; };
static long (*adjust_head)(void *, int) = (void *)44;
static void (*tail)(void *, void *, u32) = (void *)12;
static int (*redirect)(u32, u64) = (void *)23;
struct { __uint(type, 3); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4); } progs SEC(".maps");
static u32 (*smp)(void) = (void *)8;
"""

XDP = 'SEC("xdp") int prog(struct xdp_md *ctx) {'
DATA = "u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;"
MEMORY = "G int f(struct pair *p) { if (!p) return 1; p->b++; asm_hide(p); return p->a; }"
BLIND = "G int f(struct pair *p) { asm_hide(p); return p->a; }"
TAGGED = "G int f(struct pair *p TAG(nonnull)) { asm_hide(p); return p->a; }"
CHANGES = "G int f(struct xdp_md *ctx) { return adjust_head(ctx, -8); }"
LOOKUP = "u32 k = 1; struct pair *v = lookup(&table, &k);"
AFTER = f"{XDP} {DATA} if (data + 4 > end) return 2; int r = f(ctx); return data[0] + r; }}"

# name -> (verdict, source)
CASES = {
    "numbers": ("accept", f"G int f(int a, u64 b) {{ return a + b; }} {XDP} return f(ctx->rx_queue_index, 7) & 1; }}"),
    "a pointer for a number": ("reject", f"G int f(u64 a) {{ return a; }} {XDP} return f((u64)ctx); }}"),
    "the result is any number": (
        "reject",
        f"G int f(int a) {{ asm_hide(a); return a; }} {XDP} {DATA} if (data + 4 > end) return 2; return data[f(0)]; }}",
    ),
    "the context": ("accept", f"G int f(struct xdp_md *ctx) {{ return ctx->rx_queue_index; }} {XDP} return f(ctx); }}"),
    "something else for the context": (
        "reject",
        f"G int f(struct xdp_md *c) {{ return c->rx_queue_index; }} {XDP} struct pair p = {{}}; return f((void *)&p); }}",
    ),
    "packet access in the function": (
        "accept",
        f"G int f(struct xdp_md *ctx) {{ {DATA} if (data + 4 > end) return 2; return data[3]; }} {XDP} return f(ctx); }}",
    ),
    "unchecked packet access in the function": (
        "reject",
        f"G int f(struct xdp_md *ctx) {{ {DATA} return data[3]; }} {XDP} return f(ctx); }}",
    ),
    "memory on the stack": ("accept", f"{MEMORY} {XDP} struct pair p = {{1, 2}}; return f(&p); }}"),
    "no memory": ("accept", f"{MEMORY} {XDP} return f(0); }}"),
    "memory that may be null, not looked at": ("reject", f"{BLIND} {XDP} struct pair p = {{1, 2}}; return f(&p); }}"),
    "tagged nonnull": ("accept", f"{TAGGED} {XDP} struct pair p = {{1, 2}}; return f(&p); }}"),
    "a value that may be null": ("accept", f"{MEMORY} {XDP} {LOOKUP} return f(v); }}"),
    "a value that may be null, tagged nonnull": (
        "reject",
        f"{TAGGED} {XDP} u32 k = ctx->rx_queue_index; struct pair *v = lookup(&table, &k); return f(v); }}",
    ),
    "too little memory": (
        "reject",
        f"{MEMORY} {XDP} u32 k = 1; u64 *v = lookup(&table, &k); if (!v) return 1; return f((void *)(v + 3)); }}",
    ),
    "packet memory": (
        "accept",
        f"{MEMORY} {XDP} {DATA} if (data + 16 > end) return 2; return f((void *)data); }}",
    ),
    "too little packet memory": (
        "reject",
        f"{MEMORY} {XDP} {DATA} if (data + 15 > end) return 2; return f((void *)data); }}",
    ),
    "beyond the memory": (
        "reject",
        f"G int f(u64 *p) {{ if (!p) return 1; asm_hide(p); return p[1]; }} {XDP} struct pair p = {{1, 2}}; return f(&p.a); }}",
    ),
    "spilled numbers do not survive": (
        "reject",
        f"{MEMORY} {XDP} {DATA} struct pair p = {{1, 2}}; f(&p); if (data + 8 > end) return 2; return data[p.a]; }}",
    ),
    "the packet may have moved": ("reject", f"{CHANGES} {AFTER}"),
    "the packet may have moved, two deep": (
        "reject",
        f"G int g(struct xdp_md *ctx) {{ return adjust_head(ctx, -8); }} G int f(struct xdp_md *ctx) {{ return g(ctx) + 1; }} {AFTER}",
    ),
    "the packet stays": ("accept", f"G int f(struct xdp_md *ctx) {{ return ctx->rx_queue_index; }} {AFTER}"),
    "a tail call in the function": (
        "reject",
        f"G int f(struct xdp_md *ctx) {{ tail(ctx, &progs, 1); return 1; }} {AFTER}",
    ),
    "global functions call each other": (
        "accept",
        f"G int g(int a) {{ return a + smp(); }} G int f(int a) {{ return g(a) + g(a + 1); }} {XDP} return f(3) & 1; }}",
    ),
    "only reached in code that is not walked": (
        "accept",
        f"G int f(int a) {{ u8 *p = 0; asm_hide(p); return *p; }} {XDP} int a = 0; asm_hide(a); a = 0; "
        'asm volatile("%0 = 0\\n" : "=r"(a)); if (a) return f(1); return 2; }',
    ),
    "static below global": (
        "accept",
        f"static G int h(u8 *d, u8 *e) {{ if (d + 2 > e) return 0; return d[1]; }} "
        f"G int f(struct xdp_md *ctx) {{ {DATA} return h(data, end); }} {XDP} return f(ctx); }}",
    ),
    "hidden functions are walked in place": (
        "accept",
        f"HIDDEN G int f(u8 *d, u8 *e) {{ if (d + 2 > e) return 0; return d[1]; }} {XDP} {DATA} return f(data, end); }}",
    ),
    "an array": (
        "accept",
        f"G int f(u32 (*p)[4]) {{ if (!p) return 1; asm_hide(p); return (*p)[3]; }} {XDP} u32 a[4] = {{1}}; return f(&a); }}",
    ),
    "memory without a size": (
        "reject",
        f"G int f(void *p) {{ return p != 0; }} {XDP} struct pair p = {{1, 2}}; return f(&p); }}",
    ),
    "tagged ctx": (
        "accept",
        f"G int f(void *c TAG(ctx)) {{ return ((struct xdp_md *)c)->rx_queue_index; }} {XDP} return f(ctx); }}",
    ),
    "loops in the function": (
        "accept",
        f"G int f(u32 n) {{ u32 s = 0; if (n > 9) n = 9; for (u32 i = 0; i < n; i++) {{ asm_hide(s); s += i; }} return s; }} "
        f"{XDP} return f(ctx->rx_queue_index); }}",
    ),
    "a null constant, tagged nonnull": ("accept", f"{TAGGED} {XDP} return f(0); }}"),
    "tagged nullable": (
        "reject",
        f"G int f(struct pair *p TAG(nullable)) {{ if (!p) return 1; asm_hide(p); return p->a; }} {XDP} return f(0); }}",
    ),
    "a tag nobody knows": ("reject", f"G int f(struct pair *p TAG(odd)) {{ return !p; }} {XDP} return f(0); }}"),
    "a tagged number": ("reject", f"G int f(u64 p TAG(nonnull)) {{ return p; }} {XDP} return f(0); }}"),
    "tagged ctx, another type": (
        "reject",
        f"G int f(struct pair *c TAG(ctx)) {{ return ((struct xdp_md *)c)->rx_queue_index; }} {XDP} return f((void *)ctx); }}",
    ),
    "two tags": ("reject", f"G int f(void *c TAG(ctx) TAG(nonnull)) {{ return c != 0; }} {XDP} return f(ctx); }}"),
    "a ring buffer record": (
        "accept",
        'struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");'
        "static void *(*reserve)(void *, u64, u64) = (void *)131; static void (*discard)(void *, u64) = (void *)133;"
        f"{MEMORY} {XDP} struct pair *p = reserve(&ring, 16, 0); if (!p) return 1; p->b = 3; int r = f(p); discard(p, 0); return r; }}",
    ),
    "reference leaked in the function": (
        "reject",
        'struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");'
        "static void *(*reserve)(void *, u64, u64) = (void *)131;"
        f"G int f(int a) {{ void *p = reserve(&ring, 16, 0); return p != 0; }} {XDP} return f(1); }}",
    ),
    "a function returning nothing": (
        "reject",
        f"G void f(int a) {{ asm_hide(a); }} {XDP} f(1); return 2; }}",
    ),
    "stack over the chain": (
        "reject",
        f'G int f(int a) {{ u64 b[40]; b[a & 7] = 1; asm volatile("" :: "r"(b) : "memory"); return b[3]; }} '
        f'{XDP} u64 b[40]; b[0] = ctx->rx_queue_index; asm volatile("" :: "r"(b) : "memory"); return f(b[0]); }}',
    ),
}


def build(folder: Path, text: str, name: str = "prog", *, types: bool = False) -> ProgramSpec:
    """The program that clang makes of the text; `types`: relocated against the running kernel's."""
    clang = require_tool("clang")
    source, built = folder / "prog.c", folder / "prog.o"
    source.write_text(PRELUDE + MORE + text)
    subprocess.run([clang, "-target", "bpf", "-O2", "-g", "-mcpu=v3", "-c", source, "-o", built], check=True)
    return open_object(built, target_btf=read_btf_file() if types else None).programs[name]


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_global_functions(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    verdict, source = CASES[name]
    spec = build(tmp_path, source)
    report, kernel = verify_program(spec), oracle.ask(spec)
    assert ("accept" if kernel.accepted else "reject") == verdict, kernel.log
    assert report.verdict == verdict, f"{report}\n{kernel.log[-600:]}"
    if verdict == "accept":
        assert report.insns_processed == kernel.processed, kernel.log


def test_older_kernels_verify_every_global_function(tmp_path: Path) -> None:
    spec = build(tmp_path, CASES["only reached in code that is not walked"][1])
    assert verify_program(spec).ok
    assert verify_program(spec, HostProfile(kernel="6.1")).verdict == "reject"


def test_tags_before_their_time_are_unsupported(tmp_path: Path) -> None:
    spec = build(tmp_path, CASES["tagged nonnull"][1])
    report = verify_program(spec, HostProfile(kernel="6.1"))
    assert report.verdict == "unsupported" and "6.8" in report.message
