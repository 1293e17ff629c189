# ruff: noqa: E501 - programs in C, one a line
"""Functions that helpers call back, in objects that clang made: our verdict, reason and count against the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_functions
from judged import assert_agrees

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

MORE = """
struct bpf_timer { u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_spin_lock { u32 val; };
struct timed { u64 first; struct bpf_timer timer; u64 count; };
struct guarded { u64 first; struct bpf_spin_lock lock; u32 count; };
struct acc { u64 sum; u32 seen; u32 limit; };
struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, struct timed); } timers SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, struct timed); } others SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, struct guarded); } locks SEC(".maps");
struct { __uint(type, 5); __uint(max_entries, 8); __type(key, u32); __type(value, u64); } percpu SEC(".maps");
struct { __uint(type, 22); __uint(max_entries, 8); __uint(value_size, 8); } queue SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");
static long (*loop)(u32, void *, void *, u64) = (void *)181;
static long (*each)(void *, void *, void *, u64) = (void *)164;
static long (*timer_init)(void *, void *, u64) = (void *)169;
static long (*timer_call)(void *, void *) = (void *)170;
static long (*timer_start)(void *, u64, u64) = (void *)171;
static long (*timer_cancel)(void *) = (void *)172;
static void *(*reserve)(void *, u64, u64) = (void *)131;
static void (*discard)(void *, u64) = (void *)133;
static void (*lock)(void *) = (void *)93;
static void (*unlock)(void *) = (void *)94;
static u64 (*now)(void) = (void *)5;
"""
START = 'SEC("xdp") int prog(struct xdp_md *ctx) {'
KEY = f"{START} u32 k = ctx->rx_queue_index;"
TIMED = f"{KEY} struct timed *t = lookup(&timers, &k); if (!t) return 2;"
ADD = "static int body(u32 i, struct acc *a) { a->sum += i; a->seen++; return 0; }"
ACC = "struct acc a = {};"
DATA = "u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;"
LATER = "static int later(void *map, u32 *key, struct timed *t)"
GOOD = f"{LATER} {{ t->count += *key; return 0; }}"


def _loop(body: str, call: str = "loop(10, body, &a, 0)", rest: str = "return a.sum & 1;") -> str:
    return f"{body} {START} {ACC} {call}; {rest} }}"


CASES = {
    # bpf_loop
    "a loop that adds up": ("accept", _loop(ADD)),
    "a loop whose count is not known": ("accept", _loop(ADD, "loop(ctx->rx_queue_index, body, &a, 0)")),
    "a loop that never runs": (
        "accept",
        _loop("static int body(u32 i, void *a) { return 5; }", "loop(0, body, &a, 0)"),
    ),
    "a count used as an index": (
        "accept",
        f"{ADD} {START} {ACC} {DATA} loop(10, body, &a, 0); if (data + 64 > end) return 2; return data[a.seen]; }}",
    ),
    "a counter checked in the body": (
        "accept",
        f"static int body(u32 i, struct acc *a) {{ if (a->seen >= 8) return 1; a->seen++; return 0; }} {START} {ACC} loop(100, body, &a, 0); return 2; }}",
    ),
    "a counter checked behind the loop": (
        "accept",
        f"{ADD} {START} {ACC} {DATA} loop(10, body, &a, 0); if (data + 64 > end) return 2; u32 n = a.seen; asm_hide(n); if (n > 63) return 1; return data[n]; }}",
    ),
    "an index that the loop counts": (
        "reject",
        f"struct io {{ u8 *at, *end; }}; static int body(u32 i, struct io *p) {{ return p->at[i]; }} {START} {DATA} struct io p = {{data, end}}; if (data + 10 > end) return 2; loop(10, body, &p, 0); return 2; }}",
    ),
    "an index that the body checks": (
        "accept",
        f"struct io {{ u64 t[4]; u64 sum; }}; static int body(u32 i, struct io *p) {{ if (i > 3) return 1; asm_hide(i); if (i > 3) return 1; p->sum += p->t[i]; return 0; }} {START} struct io p = {{}}; loop(4, body, &p, 0); return p.sum & 1; }}",
    ),
    "packet pointers in the context": (
        "accept",
        f"struct io {{ u8 *at, *end; u32 n; }}; static int body(u32 i, struct io *p) {{ if (p->at + 2 > p->end) return 1; p->n += p->at[1]; p->at += 2; return 0; }} {START} {DATA} struct io p = {{data, end, 0}}; loop(10, body, &p, 0); return p.n & 1; }}",
    ),
    "a result out of range": ("reject", _loop("static int body(u32 i, void *a) { return 2; }")),
    "a result that is not known": ("reject", _loop("static int body(u32 i, struct acc *a) { return a->sum + now(); }")),
    "a negative result": ("reject", _loop("static int body(u32 i, void *a) { return -1; }")),
    "a pointer as result": ("reject", _loop("static u64 body(u32 i, void *a) { return (u64)a; }")),
    "a result of a bool": (
        "accept",
        _loop("static u64 body(u32 i, struct acc *a) { a->seen += i; return now() & 1; }"),
    ),
    "no context": (
        "accept",
        f"static int body(u32 i, void *c) {{ return 0; }} {START} loop(3, body, 0, 0); return 2; }}",
    ),
    "no context, read": (
        "reject",
        f"static int body(u32 i, u64 *c) {{ return *c & 1; }} {START} loop(3, body, 0, 0); return 2; }}",
    ),
    "a map value as context": (
        "reject",
        f"{ADD} {KEY} void *v = lookup(&table, &k); if (!v) return 2; loop(3, body, v, 0); return 2; }}",
    ),
    "loops in loops": (
        "accept",
        f"static G int inner(u32 i, struct acc *a) {{ a->sum += i; return 0; }} static int body(u32 i, struct acc *a) {{ loop(i, inner, a, 0); a->seen++; return 0; }} {START} {ACC} loop(10, body, &a, 0); return a.sum & 1; }}",
    ),
    "a callback that changes the packet": (
        "reject",
        f"struct io {{ struct xdp_md *ctx; }}; static int body(u32 i, struct io *p) {{ adjust_head(p->ctx, -4); return 0; }} {START} {DATA} struct io p = {{ctx}}; if (data + 4 > end) return 2; loop(3, body, &p, 0); return data[3]; }}",
    ),
    "registers of the caller": (
        "reject",
        f"{ADD} {START} {ACC} {DATA} u32 q = ctx->rx_queue_index; if (q > 7) return 1; loop(q + 1, body, &a, 0); if (data + 16 > end) return 2; return data[q + 8]; }}",
    ),
    "a callback that calls a function": (
        "accept",
        f"static G int half(u32 i) {{ asm_hide(i); return i / 2; }} static int body(u32 i, struct acc *a) {{ a->sum += half(i); return 0; }} {START} {ACC} loop(10, body, &a, 0); return a.sum & 1; }}",
    ),
    "too deep a stack in the callback": (
        "reject",
        f'static int body(u32 i, struct acc *a) {{ u64 b[40]; b[i & 7] = 1; asm volatile("" :: "r"(b) : "memory"); a->sum += b[3]; return 0; }} {START} u64 b[30]; {ACC} asm volatile("" :: "r"(b) : "memory"); loop(10, body, &a, 0); return a.sum & 1; }}',
    ),
    "a record kept over the loop": (
        "accept",
        f"{ADD} {START} {ACC} u64 *p = reserve(&ring, 16, 0); if (!p) return 1; loop(5, body, &a, 0); *p = a.sum; discard(p, 0); return 2; }}",
    ),
    "a record kept by the body": (
        "reject",
        f"static int body(u32 i, struct acc *a) {{ u64 *p = reserve(&ring, 16, 0); if (!p) return 1; *p = i; return 0; }} {START} {ACC} loop(5, body, &a, 0); return 2; }}",
    ),
    "a record in the body": (
        "accept",
        f"static int body(u32 i, struct acc *a) {{ u64 *p = reserve(&ring, 16, 0); if (!p) return 1; *p = i; discard(p, 0); return 0; }} {START} {ACC} loop(5, body, &a, 0); return 2; }}",
    ),
    "a record of the caller dropped by the body": (
        "reject",
        f"struct io {{ u64 *p; }}; static int body(u32 i, struct io *a) {{ if (a->p) discard(a->p, 0); a->p = 0; return 0; }} {START} struct io a = {{reserve(&ring, 16, 0)}}; loop(5, body, &a, 0); return 2; }}",
    ),
    "a lock around the loop": (
        "reject",
        f"{ADD} {KEY} {ACC} struct guarded *g = lookup(&locks, &k); if (!g) return 1; lock(&g->lock); loop(4, body, &a, 0); unlock(&g->lock); return 2; }}",
    ),
    "a lock in the body": (
        "accept",
        f"static int body(u32 i, struct acc *a) {{ struct guarded *g = lookup(&locks, &i); if (!g) return 1; lock(&g->lock); g->count++; unlock(&g->lock); return 0; }} {START} {ACC} loop(4, body, &a, 0); return 2; }}",
    ),
    "a lock kept by the body": (
        "reject",
        f"static int body(u32 i, struct acc *a) {{ struct guarded *g = lookup(&locks, &i); if (!g) return 1; lock(&g->lock); g->count++; return 0; }} {START} {ACC} loop(4, body, &a, 0); return 2; }}",
    ),
    "a tail call in a function": (
        "accept",
        f"static G int f(void *ctx, u32 n) {{ if (n > 5) tail(ctx, &progs, 1); asm_hide(n); return n & 1; }} {START} return f(ctx, ctx->rx_queue_index); }}",
    ),
    "a tail call in a function that returns nothing": (
        "reject",
        f"static G void f(void *ctx, u32 n) {{ if (n > 5) tail(ctx, &progs, 1); asm_hide(n); }} {START} f(ctx, ctx->rx_queue_index); return 2; }}",
    ),
    "a result of a function with a tail call": (
        "reject",
        f"static G int f(void *ctx, u32 n) {{ if (n > 5) tail(ctx, &progs, 1); return 3; }} {START} {DATA} u32 n = f(ctx, ctx->rx_queue_index); if (data + 8 > end) return 1; return data[n]; }}",
    ),
    "the packet after a function with a tail call": (
        "reject",
        f"static G int f(void *ctx, u32 n) {{ if (n > 5) tail(ctx, &progs, 1); return 3; }} {START} {DATA} if (data + 8 > end) return 1; f(ctx, ctx->rx_queue_index); return data[1]; }}",
    ),
    "a tail call in the body": (
        "reject",
        f"struct io {{ void *ctx; }}; static int body(u32 i, struct io *a) {{ now(); tail(a->ctx, &progs, 1); return 0; }} {START} struct io a = {{ctx}}; loop(4, body, &a, 0); return 2; }}",
    ),
    "a global function as callback": (
        "reject",
        f"G int body(u32 i, u64 *a) {{ return 0; }} {START} {ACC} loop(4, body, &a, 0); return 2; }}",
    ),
    "a number as callback": (
        "reject",
        f"{START} {ACC} loop(4, (void *)(long)ctx->rx_queue_index, &a, 0); return 2; }}",
    ),
    "a body that reads its unset arguments": (
        "reject",
        _loop("static u64 body(u32 i, void *a, u64 c) { return c & 1; }"),
    ),
    "two loops with one body": (
        "accept",
        f"{ADD} {START} {ACC} loop(3, body, &a, 0); loop(ctx->rx_queue_index, body, &a, 0); return a.sum & 1; }}",
    ),
    "a loop in a loop over numbers": (
        "accept",
        f"{ADD} {START} {ACC}\n#pragma clang loop unroll(disable)\nfor (u32 i = 0; i < 5; i++) {{ asm_hide(i); loop(i, body, &a, 0); }} return a.sum & 1; }}",
    ),
    "a value counted in every round": (
        "accept",
        f"struct io {{ u64 t[4]; u32 at; }}; static int body(u32 i, struct io *p) {{ p->at++; return 0; }} {START} struct io p = {{}}; loop(2, body, &p, 0); u32 n = p.at; asm_hide(n); return ((u8 *)p.t)[n]; }}",
    ),
    "a value that stays small in every round": (
        "accept",
        f"struct io {{ u64 t[4]; u32 at; }}; static int body(u32 i, struct io *p) {{ p->at = i & 3; return 0; }} {START} struct io p = {{}}; loop(9, body, &p, 0); return ((u8 *)p.t)[p.at & 31]; }}",
    ),
    "a null pointer set by the body": (
        "reject",
        f"struct io {{ u64 *p; u64 n; }}; static int body(u32 i, struct io *p) {{ p->p = 0; return 0; }} {START} u64 x = 1; struct io p = {{&x, 0}}; loop(9, body, &p, 0); return *p.p & 1; }}",
    ),
    "a frame that the body deepens": (
        "accept",
        f'static int body(u32 i, struct acc *a) {{ u64 t = a->seen; asm volatile("" :: "r"(&t) : "memory"); a->seen = t + 1; return 0; }} {START} {ACC} loop(100, body, &a, 0); return 2; }}',
    ),
    "a function that no one runs": (
        "reject",
        f"static int never(u32 i, void *a) {{ return 0; }} {ADD} {START} {ACC} loop(10, body, &a, 0); void *f = never; asm_hide(f); return 2; }}",
    ),
    # bpf_for_each_map_elem
    "each value of an array": (
        "accept",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ a->sum += *k + v[3]; return 0; }} {START} {ACC} each(&table, body, &a, 0); return a.sum & 1; }}",
    ),
    "each value of a hash": (
        "accept",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ v[0]++; a->sum++; return v[1] > 5; }} {START} {ACC} each(&cells, body, &a, 0); return a.sum & 1; }}",
    ),
    "beyond the value": (
        "reject",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ return v[4] & 1; }} {START} {ACC} each(&table, body, &a, 0); return 2; }}",
    ),
    "beyond the key": (
        "reject",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ return k[1] & 1; }} {START} {ACC} each(&table, body, &a, 0); return 2; }}",
    ),
    "the key written": (
        "reject",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ *k = 3; return 0; }} {START} {ACC} each(&table, body, &a, 0); return 2; }}",
    ),
    "the key used as a key": (
        "accept",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ u64 *o = lookup(&cells, k); if (o) *o = 1; return 0; }} {START} {ACC} each(&table, body, &a, 0); return 2; }}",
    ),
    "the key as memory to write": (
        "reject",
        f"static long (*get)(u32 *, u32) = (void *)16; static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ get(k, 4); return 0; }} {START} {ACC} each(&table, body, &a, 0); return 2; }}",
    ),
    "the map used in the body": (
        "accept",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ u32 n = 0; u64 *o = lookup(m, &n); if (o) a->sum += *o; return 0; }} {START} {ACC} each(&table, body, &a, 0); return 2; }}",
    ),
    "each value on each CPU": (
        "accept",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ a->sum += *v; return 0; }} {START} {ACC} each(&percpu, body, &a, 0); return 2; }}",
    ),
    "each of a queue": (
        "reject",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ return 0; }} {START} {ACC} each(&queue, body, &a, 0); return 2; }}",
    ),
    "each with a result out of range": (
        "reject",
        f"static int body(void *m, u32 *k, u64 *v, struct acc *a) {{ return *v; }} {START} {ACC} each(&table, body, &a, 0); return 2; }}",
    ),
    "a lock in each": (
        "accept",
        f"static int body(void *m, u32 *k, struct guarded *g, struct acc *a) {{ lock(&g->lock); g->count++; unlock(&g->lock); return 0; }} {START} {ACC} each(&locks, body, &a, 0); return 2; }}",
    ),
    # timers
    "a timer begun": (
        "accept",
        f"{GOOD} {TIMED} timer_init(&t->timer, &timers, 0); timer_call(&t->timer, later); timer_start(&t->timer, 1000, 0); return 2; }}",
    ),
    "a timer stopped": ("accept", f"{TIMED} timer_cancel(&t->timer); return 2; }}"),
    "a timer's result": ("reject", f"{LATER} {{ return 1; }} {TIMED} timer_call(&t->timer, later); return 2; }}"),
    "a timer's result that is not known": (
        "reject",
        f"{LATER} {{ return t->count; }} {TIMED} timer_call(&t->timer, later); return 2; }}",
    ),
    "a timer's result that is a pointer": (
        "reject",
        f"static u64 later(void *map, u32 *key, struct timed *t) {{ return (u64)t; }} {TIMED} timer_call(&t->timer, later); return 2; }}",
    ),
    "not the timer": ("reject", f"{TIMED} timer_cancel(&t->count); return 2; }}"),
    "a timer in a map without one": (
        "reject",
        f"{KEY} void *t = lookup(&table, &k); if (!t) return 2; timer_cancel(t); return 2; }}",
    ),
    "a timer on the stack": ("reject", f"{START} struct bpf_timer t = {{}}; timer_cancel(&t); return 2; }}"),
    "a timer at a variable place": ("reject", f"{TIMED} timer_cancel((u8 *)t + (k & 8)); return 2; }}"),
    "a timer that may be missing": (
        "reject",
        f"{KEY} struct timed *t = lookup(&timers, &k); timer_cancel(&t->timer); return 2; }}",
    ),
    "another map's timer": ("reject", f"{TIMED} timer_init(&t->timer, &others, 0); return 2; }}"),
    "a timer that starts itself again": (
        "accept",
        f"{LATER} {{ t->count++; timer_start(&t->timer, 1000, 0); return 0; }} {TIMED} timer_init(&t->timer, &timers, 0); timer_call(&t->timer, later); timer_start(&t->timer, 1000, 0); return 2; }}",
    ),
    "a timer that sets itself again": (
        "accept",
        f"{LATER} {{ t->count++; timer_call(&t->timer, later); timer_start(&t->timer, 1000, 0); return 0; }} {TIMED} timer_call(&t->timer, later); return 2; }}",
    ),
    "a timer with a loop": (
        "accept",
        f"{ADD} {LATER} {{ {ACC} loop(10, body, &a, 0); t->count = a.sum; return 0; }} {TIMED} timer_call(&t->timer, later); return 2; }}",
    ),
    "a timer that goes wrong in a loop": (
        "reject",
        f"static int body(u32 i, u64 *a) {{ return a[3]; }} {LATER} {{ {ACC} loop(10, body, &a, 0); t->count = a.sum; return 0; }} {TIMED} timer_call(&t->timer, later); return 2; }}",
    ),
    "a timer's own stack": (
        "accept",
        f'{LATER} {{ u64 b[50]; asm volatile("" :: "r"(b) : "memory"); t->count = b[now() & 15]; return 0; }} {KEY} u64 b[40]; asm volatile("" :: "r"(b) : "memory"); b[now() & 15] = 3; struct timed *t = lookup(&timers, &k); if (!t) return 2; timer_call(&t->timer, later); return b[3] & 1; }}',
    ),
    "a timer that forgets a record": (
        "reject",
        f"{LATER} {{ u64 *p = reserve(&ring, 16, 0); if (!p) return 0; *p = 1; return 0; }} {TIMED} timer_call(&t->timer, later); return 2; }}",
    ),
    "a timer that forgets a lock": (
        "reject",
        f"{LATER} {{ u32 k = 1; struct guarded *g = lookup(&locks, &k); if (!g) return 0; lock(&g->lock); g->count = 1; return 0; }} {TIMED} timer_call(&t->timer, later); return 2; }}",
    ),
    "one timer function at two places": (
        "accept",
        f"{GOOD} {TIMED} u32 n = 3; timer_call(&t->timer, later); struct timed *o = lookup(&others, &n); if (o) timer_call(&o->timer, later); return 2; }}",
    ),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_callbacks(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    verdict, source = CASES[name]
    assert_agrees(test_functions.build(tmp_path, MORE + source), verdict, oracle)
