# ruff: noqa: E501 - programs in C, one a line
"""Dynptrs and constant strings, in objects that clang made: our verdict, reason and count against the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_functions
from judged import assert_agrees

from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

MORE = """
#define KSYM __attribute__((section(".ksyms")))
struct bpf_dynptr { u64 opaque[2]; } __attribute__((aligned(8)));
struct __sk_buff { u32 len, type, mark; };
struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, 31); __uint(max_entries, 4096); } user SEC(".maps");
static long (*from_mem)(void *, u64, u64, struct bpf_dynptr *) = (void *)197;
static long (*reserve)(void *, u32, u64, struct bpf_dynptr *) = (void *)198;
static void (*submit)(struct bpf_dynptr *, u64) = (void *)199;
static void (*discard)(struct bpf_dynptr *, u64) = (void *)200;
static long (*rd)(void *, u64, struct bpf_dynptr *, u64, u64) = (void *)201;
static long (*wr)(struct bpf_dynptr *, u64, void *, u64, u64) = (void *)202;
static void *(*data_of)(struct bpf_dynptr *, u64, u64) = (void *)203;
static long (*drain)(void *, void *, void *, u64) = (void *)209;
static long (*snprintf)(void *, u32, const char *, u64 *, u32) = (void *)165;
static long (*strncmp)(const char *, u32, const char *) = (void *)182;
static long (*printk)(const char *, u32, ...) = (void *)6;
static long (*vprintk)(const char *, u32, u64 *, u32) = (void *)177;
static long (*loop)(u32, void *, void *, u64) = (void *)181;
extern int bpf_dynptr_from_xdp(struct xdp_md *x, u64 flags, struct bpf_dynptr *p) KSYM;
extern int bpf_dynptr_from_skb(struct __sk_buff *s, u64 flags, struct bpf_dynptr *p) KSYM;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, u32 offset, void *buffer, u32 size) KSYM;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, u32 offset, void *buffer, u32 size) KSYM;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *p, u32 start, u32 end) KSYM;
extern u8 bpf_dynptr_is_null(const struct bpf_dynptr *p) KSYM;
extern u8 bpf_dynptr_is_rdonly(const struct bpf_dynptr *p) KSYM;
extern u32 bpf_dynptr_size(const struct bpf_dynptr *p) KSYM;
extern int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone) KSYM;
extern int bpf_dynptr_copy(struct bpf_dynptr *d, u32 doff, struct bpf_dynptr *s, u32 soff, u32 size) KSYM;
extern int bpf_dynptr_memset(struct bpf_dynptr *d, u32 off, u32 size, u8 v) KSYM;
"""
START = 'SEC("xdp") int prog(struct xdp_md *ctx) {'
TC = 'SEC("tc") int prog(struct __sk_buff *skb) {'
DATA = "u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;"
VALUE = "u32 k = ctx->rx_queue_index; u64 *v = lookup(&table, &k); if (!v) return 1;"
RES = "struct bpf_dynptr p; reserve(&ring, 16, 0, &p);"
XDP = "struct bpf_dynptr p; bpf_dynptr_from_xdp(ctx, 0, &p);"
SKB = "struct bpf_dynptr p; bpf_dynptr_from_skb(skb, 0, &p);"

CASES = {
    # ring buffer
    "reserved and submitted": ("accept", f"{START} {RES} u64 x = 1; wr(&p, 0, &x, 8, 0); submit(&p, 0); return 2; }}"),
    "reserved and discarded": ("accept", f"{START} {RES} discard(&p, 0); return 2; }}"),
    "reserved and tested": (
        "accept",
        f"{START} struct bpf_dynptr p; if (reserve(&ring, 16, 0, &p)) {{ discard(&p, 0); return 1; }} submit(&p, 0); return 2; }}",
    ),
    "never given back": ("reject", f"{START} {RES} return 2; }}"),
    "given back on one path": (
        "reject",
        f"{START} struct bpf_dynptr p; if (reserve(&ring, 16, 0, &p)) return 1; submit(&p, 0); return 2; }}",
    ),
    "given back twice": ("reject", f"{START} {RES} submit(&p, 0); discard(&p, 0); return 2; }}"),
    "never made": ("reject", f"{START} struct bpf_dynptr p; submit(&p, 0); return 2; }}"),
    "written after it was given back": (
        "reject",
        f"{START} {RES} submit(&p, 0); u64 x = 1; wr(&p, 0, &x, 8, 0); return 2; }}",
    ),
    "made twice": ("reject", f"{START} {RES} reserve(&ring, 16, 0, &p); submit(&p, 0); return 2; }}"),
    "a size that is not known": (
        "accept",
        f"{START} struct bpf_dynptr p; reserve(&ring, ctx->rx_queue_index, 0, &p); submit(&p, 0); return 2; }}",
    ),
    "its memory": (
        "accept",
        f"{START} {RES} u64 *d = data_of(&p, 0, 16); if (d) d[1] = 3; submit(&p, 0); return 2; }}",
    ),
    "beyond its memory": (
        "reject",
        f"{START} {RES} u64 *d = data_of(&p, 0, 16); if (d) d[2] = 3; submit(&p, 0); return 2; }}",
    ),
    "its memory untested": (
        "reject",
        f"{START} {RES} u64 *d = data_of(&p, 0, 16); *d = 3; submit(&p, 0); return 2; }}",
    ),
    "its memory after it was given back": (
        "reject",
        f"{START} {RES} u64 *d = data_of(&p, 0, 16); submit(&p, 0); if (d) d[1] = 3; return 2; }}",
    ),
    "its memory spilled, after it was given back": (
        "reject",
        f"{START} {RES} u64 *volatile d = data_of(&p, 0, 16); submit(&p, 0); u64 *e = d; if (e) e[1] = 3; return 2; }}",
    ),
    "its memory given back": (
        "reject",
        f"{START} {RES} void *d = data_of(&p, 0, 16); if (d) submit(d, 0); submit(&p, 0); return 2; }}",
    ),
    "a size of memory that is not known": (
        "reject",
        f"{START} {RES} u64 *d = data_of(&p, 0, ctx->rx_queue_index); submit(&p, 0); return d != 0; }}",
    ),
    "overwritten": ("reject", f"{START} {RES} *(volatile u64 *)&p = 3; submit(&p, 0); return 2; }}"),
    "its second half overwritten": ("reject", f"{START} {RES} ((volatile u8 *)&p)[9] = 3; submit(&p, 0); return 2; }}"),
    "read as memory": ("reject", f"{START} {RES} u64 x = *(volatile u64 *)&p; submit(&p, 0); return x & 1; }}"),
    "its second half": ("reject", f"{START} {RES} submit((void *)((u64 *)&p + 1), 0); return 2; }}"),
    "at an odd place": ("reject", f"{START} u64 b[4]; reserve(&ring, 16, 0, (void *)((u8 *)b + 4)); return 2; }}"),
    "at a variable place": (
        "reject",
        f"{START} u64 b[6]; reserve(&ring, 16, 0, (void *)&b[ctx->rx_queue_index & 1]); return 2; }}",
    ),
    "in a map value": ("reject", f"{START} {VALUE} reserve(&ring, 16, 0, (void *)v); return 2; }}"),
    "as a key": ("reject", f"{START} {RES} void *o = lookup(&table, &p); submit(&p, 0); return o != 0; }}"),
    "as memory to be written": ("reject", f"{START} {RES} rd(&p, 16, &p, 0, 0); submit(&p, 0); return 2; }}"),
    "in a static function": (
        "accept",
        f"static G void give(struct bpf_dynptr *p) {{ submit(p, 0); }} {START} {RES} give(&p); return 2; }}",
    ),
    "made in a static function": (
        "accept",
        f"static G void take(struct bpf_dynptr *p) {{ reserve(&ring, 16, 0, p); }} {START} struct bpf_dynptr p; take(&p); submit(&p, 0); return 2; }}",
    ),
    "made in each round": (
        "reject",
        f"{START}\n#pragma clang loop unroll(disable)\nfor (u32 i = 0; i < 4; i++) {{ asm_hide(i); {RES} wr(&p, 0, &i, 4, 0); submit(&p, 0); }} return 2; }}",
    ),
    "made in a callback": (
        "accept",
        f"static int body(u32 i, void *c) {{ {RES} wr(&p, 0, &i, 4, 0); submit(&p, 0); return 0; }} {START} loop(4, body, 0, 0); return 2; }}",
    ),
    "given back in a callback": (
        "reject",
        f"static int body(u32 i, struct bpf_dynptr *p) {{ submit(p, 0); return 0; }} {START} {RES} loop(4, body, &p, 0); return 2; }}",
    ),
    "a map of another type": (
        "reject",
        f"{START} struct bpf_dynptr p; reserve(&table, 16, 0, &p); submit(&p, 0); return 2; }}",
    ),
    # memory
    "over a map value": (
        "accept",
        f"{START} {VALUE} struct bpf_dynptr p; from_mem(v, 32, 0, &p); u64 x = 0; rd(&x, 8, &p, 8, 0); return x & 1; }}",
    ),
    "over more than a map value": (
        "reject",
        f"{START} {VALUE} struct bpf_dynptr p; from_mem(v, 33, 0, &p); return 2; }}",
    ),
    "over the stack": ("reject", f"{START} u64 b[2] = {{}}; struct bpf_dynptr p; from_mem(b, 16, 0, &p); return 2; }}"),
    "left where it is": ("accept", f"{START} {VALUE} struct bpf_dynptr p; from_mem(v, 32, 0, &p); return 2; }}"),
    "made anew": (
        "accept",
        f"{START} {VALUE} struct bpf_dynptr p; from_mem(v, 32, 0, &p); from_mem(v, 16, 0, &p); return 2; }}",
    ),
    "overwritten, used": (
        "reject",
        f"{START} {VALUE} struct bpf_dynptr p; from_mem(v, 32, 0, &p); *(volatile u64 *)&p = 3; u64 x; rd(&x, 8, &p, 0, 0); return 2; }}",
    ),
    "overwritten, its memory used": (
        "reject",
        f"{START} {VALUE} struct bpf_dynptr p; from_mem(v, 32, 0, &p); u64 *d = data_of(&p, 0, 8); if (!d) return 1; *(volatile u64 *)&p = 3; return *d & 1; }}",
    ),
    "given back": (
        "reject",
        f"{START} {VALUE} struct bpf_dynptr p; from_mem(v, 32, 0, &p); submit(&p, 0); return 2; }}",
    ),
    "a buffer that is too small": (
        "reject",
        f'{START} {VALUE} struct bpf_dynptr p; from_mem(v, 32, 0, &p); u64 x = 0; asm volatile("" :: "r"(&x)); rd(&x, 800, &p, 8, 0); return 2; }}',
    ),
    # packets
    "over a packet": (
        "accept",
        f"{START} {XDP} u8 b[14]; u8 *h = bpf_dynptr_slice(&p, 0, b, 14); if (!h) return 1; return h[13]; }}",
    ),
    "a slice without a buffer": (
        "accept",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 1; return h[13]; }}",
    ),
    "a slice untested": ("reject", f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); return h[13]; }}"),
    "beyond a slice": (
        "reject",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 1; return h[14]; }}",
    ),
    "a slice written": (
        "reject",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (h) h[1] = 3; return 2; }}",
    ),
    "a slice to write": (
        "accept",
        f"{START} {XDP} u8 b[14]; u8 *h = bpf_dynptr_slice_rdwr(&p, 0, b, 14); if (h) h[1] = 3; return 2; }}",
    ),
    "a buffer smaller than the slice": (
        "reject",
        f'{START} {XDP} u8 b[14]; asm volatile("" :: "r"(b)); u8 *h = bpf_dynptr_slice(&p, 0, b, 600); return h != 0; }}',
    ),
    "a slice of unknown size": (
        "reject",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, ctx->rx_queue_index); return h != 0; }}",
    ),
    "a slice whose size is a pointer": (
        "reject",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, (u32)(long)ctx); return h != 0; }}",
    ),
    "a slice at an unknown place": (
        "accept",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, ctx->rx_queue_index, 0, 4); if (!h) return 1; return h[3]; }}",
    ),
    "a slice after the packet changed": (
        "reject",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 1; adjust_head(ctx, -4); return h[3]; }}",
    ),
    "a slice after something else": (
        "accept",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 1; ktime(); return h[3]; }}",
    ),
    "a slice after the dynptr was overwritten": (
        "accept",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 1; bpf_dynptr_from_xdp(ctx, 0, &p); return h[3]; }}",
    ),
    "another dynptr's slice": (
        "accept",
        f"{START} {XDP} struct bpf_dynptr q; bpf_dynptr_from_xdp(ctx, 0, &q); u8 *h = bpf_dynptr_slice(&q, 0, 0, 14); if (!h) return 1; bpf_dynptr_from_xdp(ctx, 0, &p); return h[3]; }}",
    ),
    "size and kind": (
        "accept",
        f"{START} {XDP} if (bpf_dynptr_is_null(&p) || bpf_dynptr_is_rdonly(&p)) return 1; return bpf_dynptr_size(&p) & 1; }}",
    ),
    "moved": (
        "accept",
        f"{START} {XDP} bpf_dynptr_adjust(&p, 4, 20); u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 1; return h[1]; }}",
    ),
    "a copy": (
        "accept",
        f"{START} {XDP} struct bpf_dynptr q; bpf_dynptr_clone(&p, &q); u8 *h = bpf_dynptr_slice(&q, 0, 0, 14); if (!h) return 1; return h[1]; }}",
    ),
    "a copy of nothing": ("reject", f"{START} struct bpf_dynptr p, q; bpf_dynptr_clone(&p, &q); return 2; }}"),
    "a copy of a record": (
        "accept",
        f"{START} {RES} struct bpf_dynptr q; bpf_dynptr_clone(&p, &q); submit(&q, 0); return 2; }}",
    ),
    "a copy and the record given back": (
        "reject",
        f"{START} {RES} struct bpf_dynptr q; bpf_dynptr_clone(&p, &q); submit(&q, 0); discard(&p, 0); return 2; }}",
    ),
    "a copy used after the record went": (
        "reject",
        f"{START} {RES} struct bpf_dynptr q; bpf_dynptr_clone(&p, &q); submit(&p, 0); u64 x = 1; wr(&q, 0, &x, 8, 0); return 2; }}",
    ),
    "a copy's memory after the record went": (
        "reject",
        f"{START} {RES} struct bpf_dynptr q; bpf_dynptr_clone(&p, &q); u64 *d = data_of(&q, 0, 8); submit(&p, 0); if (d) *d = 1; return 2; }}",
    ),
    "over a socket buffer": (
        "accept",
        f"{TC} {SKB} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 0; return h[13]; }}",
    ),
    "a slice of a socket buffer to write": (
        "accept",
        f"{TC} {SKB} u8 b[14]; u8 *h = bpf_dynptr_slice_rdwr(&p, 0, b, 14); if (h) h[1] = 3; return 0; }}",
    ),
    "a slice after a write": (
        "reject",
        f"{TC} {SKB} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 0; u64 x = 0; wr(&p, 0, &x, 8, 0); return h[13]; }}",
    ),
    "a slice of another packet dynptr after a write": (
        "reject",
        f"{TC} {SKB} struct bpf_dynptr q; bpf_dynptr_from_skb(skb, 0, &q); u8 *h = bpf_dynptr_slice(&q, 0, 0, 14); if (!h) return 0; u64 x = 0; wr(&p, 0, &x, 8, 0); return h[13]; }}",
    ),
    "the packet's type of another program": (
        "reject",
        f"{TC} struct bpf_dynptr p; bpf_dynptr_from_xdp((void *)skb, 0, &p); return 0; }}",
    ),
    "something else for the packet": (
        "reject",
        f"{START} u64 x = 0; struct bpf_dynptr p; bpf_dynptr_from_xdp((void *)&x, 0, &p); return 2; }}",
    ),
    "copied and filled": (
        "accept",
        f"{START} {VALUE} {XDP} struct bpf_dynptr q; from_mem(v, 32, 0, &q); bpf_dynptr_copy(&q, 0, &p, 0, 16); bpf_dynptr_memset(&q, 0, 4, 1); return 2; }}",
    ),
    "a slice kept over a loop": (
        "accept",
        f"{START} {XDP} u8 *h = bpf_dynptr_slice(&p, 0, 0, 14); if (!h) return 1; u32 s = 0;\n#pragma clang loop unroll(disable)\nfor (u32 i = 0; i < 10; i++) {{ asm_hide(i); s += h[i]; }} return s & 1; }}",
    ),
    # user ring buffer
    "drained": (
        "accept",
        f"static long each(struct bpf_dynptr *p, u64 *c) {{ u64 x = 0; rd(&x, 8, p, 0, 0); *c += x; return 0; }} {START} u64 c = 0; drain(&user, each, &c, 0); return c & 1; }}",
    ),
    "its memory in the callback": (
        "accept",
        f"static long each(struct bpf_dynptr *p, u64 *c) {{ u64 *d = data_of(p, 0, 8); if (!d) return 0; *c += *d; return 0; }} {START} u64 c = 0; drain(&user, each, &c, 0); return c & 1; }}",
    ),
    "a callback that gives it back": (
        "reject",
        f"static long each(struct bpf_dynptr *p, u64 *c) {{ submit(p, 0); return 0; }} {START} u64 c = 0; drain(&user, each, &c, 0); return 2; }}",
    ),
    "a callback that makes it anew": (
        "reject",
        f"static long each(struct bpf_dynptr *p, u64 *c) {{ reserve(&ring, 8, 0, p); return 0; }} {START} u64 c = 0; drain(&user, each, &c, 0); return 2; }}",
    ),
    "a callback that reads it": (
        "reject",
        f"static long each(u64 *p, u64 *c) {{ return *p & 1; }} {START} u64 c = 0; drain(&user, each, &c, 0); return 2; }}",
    ),
    "a callback with another result": (
        "reject",
        f"static long each(struct bpf_dynptr *p, u64 *c) {{ return 2; }} {START} u64 c = 0; drain(&user, each, &c, 0); return 2; }}",
    ),
    "drained from a ring of the kernel": (
        "reject",
        f"static long each(struct bpf_dynptr *p, u64 *c) {{ return 0; }} {START} u64 c = 0; drain(&ring, each, &c, 0); return 2; }}",
    ),
    # strings
    "a format": (
        "accept",
        f'{START} char b[16]; u64 a[2] = {{1, 2}}; static const char f[] = "%d %llx"; snprintf(b, 16, f, a, 16); return 2; }}',
    ),
    "a format without arguments": (
        "accept",
        f'{START} char b[16]; static const char f[] = "plain %%"; snprintf(b, 16, f, 0, 0); return 2; }}',
    ),
    "more places than arguments": (
        "reject",
        f'{START} char b[16]; u64 a[1] = {{1}}; static const char f[] = "%d %d"; snprintf(b, 16, f, a, 8); return 2; }}',
    ),
    "fewer places than arguments": (
        "accept",
        f'{START} char b[16]; u64 a[2] = {{1, 2}}; static const char f[] = "%d"; snprintf(b, 16, f, a, 16); return 2; }}',
    ),
    "a place that is not known": (
        "reject",
        f'{START} char b[16]; u64 a[1] = {{1}}; static const char f[] = "%n"; snprintf(b, 16, f, a, 8); return 2; }}',
    ),
    "a width": (
        "accept",
        f'{START} char b[16]; u64 a[3] = {{1, 2, 3}}; static const char f[] = "%-08x|%+5d|%c"; snprintf(b, 16, f, a, 24); return 2; }}',
    ),
    "addresses": (
        "accept",
        f'{START} char b[16]; u64 a[3] = {{1, 2, 3}}; static const char f[] = "%p %pI4 %pks"; snprintf(b, 16, f, a, 24); return 2; }}',
    ),
    "an address of another kind": (
        "reject",
        f'{START} char b[16]; u64 a[1] = {{1}}; static const char f[] = "%pM"; snprintf(b, 16, f, a, 8); return 2; }}',
    ),
    "a string that goes on": (
        "reject",
        f'{START} char b[16]; u64 a[1] = {{1}}; static const char f[] = "%sx"; snprintf(b, 16, f, a, 8); return 2; }}',
    ),
    "a precision": (
        "reject",
        f'{START} char b[16]; u64 a[1] = {{1}}; static const char f[] = "%.3d"; snprintf(b, 16, f, a, 8); return 2; }}',
    ),
    "letters of another alphabet": (
        "accept",
        f'{START} char b[16]; static const char f[] = "\\xc3\\xa9"; snprintf(b, 16, f, 0, 0); return 2; }}',
    ),
    "a control character": (
        "reject",
        f'{START} char b[16]; static const char f[] = "\\x01"; snprintf(b, 16, f, 0, 0); return 2; }}',
    ),
    "a format on the stack": (
        "reject",
        f'{START} char b[16]; char f[4] = "abc"; asm volatile("" :: "r"(f) : "memory"); snprintf(b, 16, f, 0, 0); return 2; }}',
    ),
    "a format in a map": ("reject", f"{START} char b[16]; {VALUE} snprintf(b, 16, (void *)v, 0, 0); return 2; }}"),
    "a format at a variable place": (
        "reject",
        f'{START} char b[16]; static const char f[] = "abcdefgh"; snprintf(b, 16, f + (ctx->rx_queue_index & 3), 0, 0); return 2; }}',
    ),
    "compared": (
        "accept",
        f'{START} char b[8] = "abc"; asm volatile("" :: "r"(b) : "memory"); static const char f[] = "abd"; return strncmp(b, 8, f) & 1; }}',
    ),
    "compared with the stack": (
        "reject",
        f'{START} char b[8] = "abc"; asm volatile("" :: "r"(b) : "memory"); return strncmp(b, 8, b) & 1; }}',
    ),
    "printed": ("accept", f'{START} static const char f[] = "%d"; printk(f, sizeof(f), 3); return 2; }}'),
    "printed from an array": (
        "accept",
        f'{START} u64 a[4] = {{1}}; asm volatile("" :: "r"(a) : "memory"); static const char f[] = "%d %d %d %d"; vprintk(f, sizeof(f), a, 32); return 2; }}',
    ),
    "printed with a size that may be zero": (
        "reject",
        f'{START} static const char f[] = "%d"; printk(f, ctx->rx_queue_index & 3, 3); return 2; }}',
    ),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_dynptrs_and_strings(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    verdict, source = CASES[name]
    assert_agrees(test_functions.build(tmp_path, MORE + source), verdict, oracle)


@pytest.mark.kernel
def test_arguments_of_a_format_are_whole_numbers(oracle: KernelOracle, tmp_path: Path) -> None:
    source = f'{START} char b[16]; u64 a[2] = {{1, 2}}; static const char f[] = "%d"; snprintf(b, 16, f, a, 12); return 2; }}'
    spec = test_functions.build(tmp_path, MORE + source)
    report, kernel = verify_program(spec), oracle.ask(spec)  # the kernel says nothing here
    assert report.verdict == "reject" and not kernel.accepted and report.insns_processed == kernel.processed
