# ruff: noqa: E501 - programs in C, one a line
"""Kernel functions, iterators and sections, in objects that clang made: verdict, reason and count against the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_functions
from judged import assert_agrees

from ebpfkit.abi.model import HostProfile
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

MORE = """
#define KSYM __attribute__((section(".ksyms")))
typedef long long s64;
struct bpf_iter_num { u64 opaque[1]; } __attribute__((aligned(8)));
struct bpf_iter_bits { u64 opaque[2]; } __attribute__((aligned(8)));
struct __sk_buff { u32 len, type, mark; };
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) KSYM;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) KSYM;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) KSYM;
extern int bpf_iter_bits_new(struct bpf_iter_bits *it, const u64 *p, u32 words) KSYM;
extern int *bpf_iter_bits_next(struct bpf_iter_bits *it) KSYM;
extern void bpf_iter_bits_destroy(struct bpf_iter_bits *it) KSYM;
extern void bpf_rcu_read_lock(void) KSYM;
extern void bpf_rcu_read_unlock(void) KSYM;
extern void bpf_preempt_disable(void) KSYM;
extern void bpf_preempt_enable(void) KSYM;
extern void bpf_local_irq_save(u64 *flags) KSYM;
extern void bpf_local_irq_restore(u64 *flags) KSYM;
extern void bpf_throw(u64 cookie) KSYM;
extern int bpf_strlen(const char *s) KSYM;
extern int bpf_strcmp(const char *a, const char *b) KSYM;
extern int bpf_xdp_pull_data(struct xdp_md *x, u32 len) KSYM;
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, u64 *timestamp) KSYM;
extern int bpf_fentry_test1(int a) KSYM;
struct bpf_wq { u64 opaque[2]; } __attribute__((aligned(8)));
extern int bpf_wq_init(struct bpf_wq *wq, void *map, u32 flags) KSYM;
extern int bpf_wq_start(struct bpf_wq *wq, u32 flags) KSYM;
extern int bpf_wq_set_callback_impl(struct bpf_wq *wq, int (*f)(void *, int *, void *), u32 flags, void *aux) KSYM;
struct worked { u64 first; struct bpf_wq wq; u64 count; };
struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, struct worked); } works SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, struct worked); } others SEC(".maps");
struct bpf_spin_lock { u32 val; };
struct guarded { u64 first; struct bpf_spin_lock lock; u32 count; };
struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, struct guarded); } locks SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");
static void *(*reserve)(void *, u64, u64) = (void *)131;
static void (*discard)(void *, u64) = (void *)133;
static long (*loop)(u32, void *, void *, u64) = (void *)181;
static void (*lock)(void *) = (void *)93;
static void (*unlock)(void *) = (void *)94;
#define NEW(a, b) struct bpf_iter_num it; bpf_iter_num_new(&it, a, b)
#define EACH(p) while ((p = bpf_iter_num_next(&it)))
#define END bpf_iter_num_destroy(&it)
"""
START = 'SEC("xdp") int prog(struct xdp_md *ctx) {'
DATA = "u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;"

CASES = {
    # numbers
    "a loop over numbers": ("accept", f"{START} int *p, s = 0; NEW(0, 10); EACH(p) s += *p; END; return s & 1; }}"),
    "a loop whose ends are not known": (
        "accept",
        f"{START} int *p, s = 0; NEW(0, ctx->rx_queue_index); EACH(p) s += *p; END; return s & 1; }}",
    ),
    "the number is not bounded": (
        "reject",
        f"{START} int *p; u32 s = 0; u8 b[16] = {{1}}; NEW(0, 10); EACH(p) s += b[*p]; END; return s & 1; }}",
    ),
    "the number bounded": (
        "accept",
        f'{START} int *p; u32 s = 0; u64 b[4] = {{1}}; asm volatile("" :: "r"(b) : "memory"); NEW(0, 4); EACH(p) {{ u32 i = *p; if (i < 4) s += b[i]; }} END; return s & 1; }}',
    ),
    "the number used without a test": (
        "reject",
        f"{START} int *p; NEW(0, 10); p = bpf_iter_num_next(&it); int v = *p; END; return v & 1; }}",
    ),
    "the number written": (
        "reject",
        f"{START} int *p; NEW(0, 10); p = bpf_iter_num_next(&it); if (p) *p = 3; END; return 2; }}",
    ),
    "beyond the number": (
        "reject",
        f"{START} int *p, v = 0; NEW(0, 10); p = bpf_iter_num_next(&it); if (p) v = p[1]; END; return v & 1; }}",
    ),
    "the number after the end": (
        "reject",
        f"{START} int *p, v = 0; NEW(0, 10); p = bpf_iter_num_next(&it); END; if (p) v = *p; return v & 1; }}",
    ),
    "never ended": ("reject", f"{START} int *p, s = 0; NEW(0, 10); EACH(p) s += *p; return s & 1; }}"),
    "ended twice": ("reject", f"{START} NEW(0, 10); END; END; return 2; }}"),
    "never begun": ("reject", f"{START} struct bpf_iter_num it; int *p = bpf_iter_num_next(&it); return 2; }}"),
    "begun twice": ("reject", f"{START} NEW(0, 10); bpf_iter_num_new(&it, 0, 3); END; return 2; }}"),
    "begun again after its end": (
        "accept",
        f"{START} int *p, s = 0; NEW(0, 10); EACH(p) s += *p; END; bpf_iter_num_new(&it, 0, 3); EACH(p) s += *p; END; return s & 1; }}",
    ),
    "advanced after its end": (
        "reject",
        f"{START} NEW(0, 10); END; int *p = bpf_iter_num_next(&it); return p != 0; }}",
    ),
    "left early": (
        "accept",
        f"{START} int *p, s = 0; NEW(0, 10); EACH(p) {{ if (*p == 7) break; s++; }} END; return s & 1; }}",
    ),
    "left early without end": (
        "reject",
        f"{START} int *p, s = 0; NEW(0, 10); EACH(p) {{ if (*p == 7) return 1; s++; }} END; return s & 1; }}",
    ),
    "its memory read": ("reject", f"{START} NEW(0, 10); u64 v = *(volatile u64 *)&it; END; return v & 1; }}"),
    "its memory written": ("reject", f"{START} NEW(0, 10); *(volatile u64 *)&it = 5; END; return 2; }}"),
    "its memory written in part": ("reject", f"{START} NEW(0, 10); *(volatile u8 *)&it = 5; END; return 2; }}"),
    "its memory as a key": ("reject", f"{START} NEW(0, 10); void *v = lookup(&table, &it); END; return v != 0; }}"),
    "an iterator in a map value": (
        "reject",
        f"{START} u32 k = 1; void *v = lookup(&table, &k); if (!v) return 1; bpf_iter_num_new(v, 0, 3); return 2; }}",
    ),
    "an iterator at an odd place": (
        "reject",
        f"{START} u64 b[3]; bpf_iter_num_new((void *)((u8 *)b + 4), 0, 3); return 2; }}",
    ),
    "an iterator at a variable place": (
        "reject",
        f"{START} u64 b[3]; bpf_iter_num_new((void *)&b[ctx->rx_queue_index & 1], 0, 3); return 2; }}",
    ),
    "a pointer for a number": (
        "reject",
        f"{START} struct bpf_iter_num it; bpf_iter_num_new(&it, 0, (int)(long)ctx); return 2; }}",
    ),
    "loops in loops": (
        "accept",
        f"{START} int *p, *q, s = 0; NEW(0, 10); EACH(p) {{ struct bpf_iter_num in; bpf_iter_num_new(&in, 0, *p); while ((q = bpf_iter_num_next(&in))) s += *q; bpf_iter_num_destroy(&in); }} END; return s & 1; }}",
    ),
    "a sum over a table": (
        "accept",
        f"{START} int *p; u64 s = 0; NEW(0, 64); EACH(p) {{ u32 k = *p; u64 *v = lookup(&table, &k); if (!v) continue; s += v[1]; }} END; return s & 1; }}",
    ),
    "an index that grows": (
        "reject",
        f"{START} {DATA} int *p; u32 s = 0, i = 0; if (data + 20 > end) return 2; NEW(0, 20); EACH(p) {{ s += data[i]; i++; }} END; return s & 1; }}",
    ),
    "an index that grows, checked": (
        "accept",
        f'{START} u64 b[8] = {{1}}; asm volatile("" :: "r"(b) : "memory"); int *p; u32 s = 0, i = 0; NEW(0, 20); EACH(p) {{ if (i >= 8) break; s += b[i]; i++; }} END; return s & 1; }}',
    ),
    "a pointer lost in the loop": (
        "reject",
        f'{START} u64 x = 1, *q = &x; int *p; u32 s = 0; asm volatile("" :: "r"(&x) : "memory"); NEW(0, 20); EACH(p) {{ s += *q; if (*p == 3) q = (void *)0; asm_hide(q); }} END; return s & 1; }}',
    ),
    "in a function": (
        "accept",
        f"static G int sum(u32 n) {{ int *p, s = 0; NEW(0, n); EACH(p) s += *p; END; return s; }} {START} return sum(ctx->rx_queue_index) & 1; }}",
    ),
    "in a function that gets it": (
        "accept",
        f"static G int sum(struct bpf_iter_num *it) {{ int *p, s = 0; while ((p = bpf_iter_num_next(it))) s += *p; return s; }} {START} NEW(0, 3); int s = sum(&it); END; return s & 1; }}",
    ),
    "in a global function": (
        "accept",
        f"G int sum(u32 n) {{ int *p, s = 0; NEW(0, n); EACH(p) s += *p; END; return s; }} {START} return sum(ctx->rx_queue_index) & 1; }}",
    ),
    "in a callback": (
        "accept",
        f"static int body(u32 n, u64 *c) {{ int *p, s = 0; NEW(0, n); EACH(p) s += *p; END; *c += s; return 0; }} {START} u64 c = 0; loop(5, body, &c, 0); return c & 1; }}",
    ),
    "a callback in it": (
        "accept",
        f"static int body(u32 n, u64 *c) {{ *c += n; return 0; }} {START} u64 c = 0; int *p; NEW(0, 4); EACH(p) loop(*p, body, &c, 0); END; return c & 1; }}",
    ),
    "under a lock": (
        "accept",
        f"{START} u32 k = 1; struct guarded *g = lookup(&locks, &k); if (!g) return 1; int *p; lock(&g->lock); NEW(0, 4); EACH(p) g->count += *p; END; unlock(&g->lock); return 2; }}",
    ),
    "a record over the loop": (
        "accept",
        f"{START} int *p, s = 0; u64 *r = reserve(&ring, 16, 0); if (!r) return 1; NEW(0, 4); EACH(p) s += *p; END; *r = s; discard(r, 0); return 2; }}",
    ),
    "a record in each round": (
        "accept",
        f"{START} int *p; NEW(0, 4); EACH(p) {{ u64 *r = reserve(&ring, 16, 0); if (!r) break; *r = *p; discard(r, 0); }} END; return 2; }}",
    ),
    "a record forgotten in a round": (
        "reject",
        f"{START} int *p; NEW(0, 4); EACH(p) {{ u64 *r = reserve(&ring, 16, 0); if (!r) break; *r = *p; }} END; return 2; }}",
    ),
    "bits": (
        "accept",
        f"{START} u64 m[1] = {{ctx->rx_queue_index}}; int *p, s = 0; struct bpf_iter_bits it; bpf_iter_bits_new(&it, m, 1); while ((p = bpf_iter_bits_next(&it))) s += *p; bpf_iter_bits_destroy(&it); return s & 1; }}",
    ),
    "one iterator for another": (
        "reject",
        f"{START} struct bpf_iter_bits it; bpf_iter_bits_new(&it, 0, 1); bpf_iter_num_next((void *)&it); return 2; }}",
    ),
    # sections
    "an RCU section": (
        "accept",
        f"{START} bpf_rcu_read_lock(); u32 n = ctx->rx_queue_index; bpf_rcu_read_unlock(); return n & 1; }}",
    ),
    "RCU sections in each other": (
        "reject",
        f"{START} bpf_rcu_read_lock(); bpf_rcu_read_lock(); bpf_rcu_read_unlock(); bpf_rcu_read_unlock(); return 1; }}",
    ),
    "an RCU section left open": ("reject", f"{START} bpf_rcu_read_lock(); return 1; }}"),
    "an RCU section left open on one path": (
        "reject",
        f"{START} bpf_rcu_read_lock(); if (ctx->rx_queue_index) return 1; bpf_rcu_read_unlock(); return 1; }}",
    ),
    "an RCU section that was not entered": ("reject", f"{START} bpf_rcu_read_unlock(); return 1; }}"),
    "no preemption": (
        "accept",
        f"{START} bpf_preempt_disable(); u64 t = ktime(); bpf_preempt_enable(); return t & 1; }}",
    ),
    "no preemption twice": (
        "accept",
        f"{START} bpf_preempt_disable(); bpf_preempt_disable(); bpf_preempt_enable(); bpf_preempt_enable(); return 1; }}",
    ),
    "no preemption left": (
        "reject",
        f"{START} bpf_preempt_disable(); bpf_preempt_disable(); bpf_preempt_enable(); return 1; }}",
    ),
    "preemption that was not off": ("reject", f"{START} bpf_preempt_enable(); return 1; }}"),
    "no preemption in a function": (
        "accept",
        f"static G int f(int a) {{ bpf_preempt_enable(); return a; }} {START} bpf_preempt_disable(); f(3); return 1; }}",
    ),
    "interrupts": (
        "accept",
        f"{START} u64 flags; bpf_local_irq_save(&flags); u64 t = ktime(); bpf_local_irq_restore(&flags); return t & 1; }}",
    ),
    "interrupts in each other": (
        "accept",
        f"{START} u64 a, b; bpf_local_irq_save(&a); bpf_local_irq_save(&b); bpf_local_irq_restore(&b); bpf_local_irq_restore(&a); return 1; }}",
    ),
    "interrupts out of order": (
        "reject",
        f"{START} u64 a, b; bpf_local_irq_save(&a); bpf_local_irq_save(&b); bpf_local_irq_restore(&a); bpf_local_irq_restore(&b); return 1; }}",
    ),
    "interrupts left off": ("reject", f"{START} u64 a; bpf_local_irq_save(&a); return 1; }}"),
    "interrupts never off": ("reject", f"{START} u64 a = 1; bpf_local_irq_restore(&a); return 1; }}"),
    "the same flags twice": ("reject", f"{START} u64 a; bpf_local_irq_save(&a); bpf_local_irq_save(&a); return 1; }}"),
    "flags overwritten": (
        "reject",
        f"{START} u64 a; bpf_local_irq_save(&a); *(volatile u64 *)&a = 1; bpf_local_irq_restore(&a); return 1; }}",
    ),
    "flags read": (
        "reject",
        f"{START} u64 a; bpf_local_irq_save(&a); u64 b = *(volatile u64 *)&a; bpf_local_irq_restore(&a); return b & 1; }}",
    ),
    "flags in a map": (
        "reject",
        f"{START} u32 k = 1; u64 *v = lookup(&table, &k); if (!v) return 1; bpf_local_irq_save(v); return 1; }}",
    ),
    "a tail call in a section": (
        "reject",
        f"{START} bpf_rcu_read_lock(); tail(ctx, &progs, 1); bpf_rcu_read_unlock(); return 1; }}",
    ),
    # exceptions
    "thrown": ("accept", f"{START} if (ctx->rx_queue_index) bpf_throw(1); return 2; }}"),
    "a value out of range thrown": (
        "reject",
        'SEC("cgroup_skb/ingress") int prog(struct __sk_buff *skb) { if (skb->mark) bpf_throw(77); return 1; }',
    ),
    "a value in range thrown": (
        "accept",
        'SEC("cgroup_skb/ingress") int prog(struct __sk_buff *skb) { if (skb->mark) bpf_throw(1); return 1; }',
    ),
    "thrown in a function": (
        "accept",
        f"static G int f(int a) {{ if (a) bpf_throw(a); return a; }} {START} return f(ctx->rx_queue_index); }}",
    ),
    "thrown with a record": (
        "reject",
        f"{START} u64 *r = reserve(&ring, 16, 0); if (!r) return 1; if (ctx->rx_queue_index) bpf_throw(1); discard(r, 0); return 2; }}",
    ),
    "thrown with a caller's record": (
        "reject",
        f"static G int f(int a) {{ if (a) bpf_throw(a); return a; }} {START} u64 *r = reserve(&ring, 16, 0); if (!r) return 1; f(ctx->rx_queue_index); discard(r, 0); return 2; }}",
    ),
    "thrown in a section": (
        "reject",
        f"{START} bpf_rcu_read_lock(); if (ctx->rx_queue_index) bpf_throw(1); bpf_rcu_read_unlock(); return 2; }}",
    ),
    "thrown in a callback": (
        "reject",
        f"static int body(u32 n, u64 *c) {{ if (*c > 3) bpf_throw(2); return 0; }} {START} u64 c = ctx->rx_queue_index; loop(5, body, &c, 0); return 2; }}",
    ),
    # calls
    "a string": ("accept", f'{START} return bpf_strlen("four") & 1; }}'),
    "any pointer as a string": (
        "accept",
        f"{START} return bpf_strcmp((void *)(long)ctx->rx_queue_index, (void *)ctx) & 1; }}",
    ),
    "the result is any number": (
        "reject",
        f'{START} {DATA} if (data + 4 > end) return 1; return data[bpf_strlen("ab")]; }}',
    ),
    "not for this type": ("reject", f"{START} return bpf_fentry_test1(3) & 1; }}"),
    "a function of programs for a device": (
        "reject",
        f"{START} u64 t; return bpf_xdp_metadata_rx_timestamp(ctx, &t) & 1; }}",
    ),
    "data pulled": (
        "reject",
        f"{START} {DATA} if (data + 4 > end) return 1; bpf_xdp_pull_data(ctx, 10); return data[2]; }}",
    ),
    "data pulled and taken anew": (
        "accept",
        f"{START} bpf_xdp_pull_data(ctx, 10); {DATA} if (data + 4 > end) return 1; return data[2]; }}",
    ),
    "data pulled in a global function": (
        "reject",
        f"G int f(struct xdp_md *ctx) {{ return bpf_xdp_pull_data(ctx, 4); }} {START} {DATA} if (data + 4 > end) return 1; f(ctx); return data[2]; }}",
    ),
    "something else for the context": ("reject", f"{START} u64 x = 0; return bpf_xdp_pull_data((void *)&x, 10); }}"),
    "under a lock, another": (
        "reject",
        f'{START} u32 k = 1; struct guarded *g = lookup(&locks, &k); if (!g) return 1; lock(&g->lock); int n = bpf_strlen("a"); unlock(&g->lock); return n & 1; }}',
    ),
    # work queues
    "work": (
        "accept",
        f"static int later(void *map, int *key, void *v) {{ struct worked *w = v; w->count += *key; return 0; }} {START} u32 k = 1; struct worked *w = lookup(&works, &k); if (!w) return 1; bpf_wq_init(&w->wq, &works, 0); bpf_wq_set_callback_impl(&w->wq, later, 0, 0); bpf_wq_start(&w->wq, 0); return 2; }}",
    ),
    "work of another map": (
        "reject",
        f"{START} u32 k = 1; struct worked *w = lookup(&works, &k); if (!w) return 1; bpf_wq_init(&w->wq, &others, 0); return 2; }}",
    ),
    "not the work": (
        "reject",
        f"{START} u32 k = 1; struct worked *w = lookup(&works, &k); if (!w) return 1; bpf_wq_start((void *)&w->first, 0); return 2; }}",
    ),
    "the work itself": (
        "reject",
        f"{START} u32 k = 1; struct worked *w = lookup(&works, &k); if (!w) return 1; return w->wq.opaque[0] & 1; }}",
    ),
    "work with another result": (
        "reject",
        f"static int later(void *map, int *key, void *v) {{ return 1; }} {START} u32 k = 1; struct worked *w = lookup(&works, &k); if (!w) return 1; bpf_wq_set_callback_impl(&w->wq, later, 0, 0); return 2; }}",
    ),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_kernel_functions(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    verdict, source = CASES[name]
    assert_agrees(test_functions.build(tmp_path, MORE + source), verdict, oracle)


@pytest.mark.kernel
def test_kernel_functions_are_for_gpl_programs(oracle: KernelOracle, tmp_path: Path) -> None:
    spec = test_functions.build(tmp_path, MORE + CASES["a string"][1]).replace(license="Apache-2.0")
    assert_agrees(spec, "reject", oracle)


def test_other_kernels_have_other_functions(tmp_path: Path) -> None:
    spec = test_functions.build(tmp_path, MORE + CASES["a string"][1])
    assert verify_program(spec, HostProfile(kernel="6.12")).rule == "not-in-kernel"
    assert (
        verify_program(spec, HostProfile(kernel="6.6")).verdict == "unsupported"
    )  # which functions it has is not known
