# ruff: noqa: E501 - programs in C, one a line
"""Spin locks and timers in map values, in objects that clang made: our verdict and count against the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_functions

from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

MORE = """
struct bpf_spin_lock { u32 val; };
struct bpf_timer { u64 opaque[2]; } __attribute__((aligned(8)));
struct guarded { u64 first; struct bpf_spin_lock lock; u32 count; u64 more[2]; };
struct timed { struct bpf_timer timer; u64 count; };
struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, struct guarded); } locks SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, struct guarded); } cellar SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, struct timed); } timers SEC(".maps");
static void (*lock)(void *) = (void *)93;
static void (*unlock)(void *) = (void *)94;
"""
START = 'SEC("xdp") int prog(struct xdp_md *ctx) { u32 k = ctx->rx_queue_index;'
GET = "struct guarded *g = lookup(&locks, &k); if (!g) return 2;"
TWO = "u32 k2 = 3; struct guarded *h = lookup(&cellar, &k2); if (!h) return 2;"

CASES = {
    "taken and dropped": ("accept", f"{START} {GET} lock(&g->lock); g->count++; unlock(&g->lock); return 2; }}"),
    "beside the lock": ("accept", f"{START} {GET} g->first++; g->count++; return 2; }}"),
    "the lock itself": ("reject", f"{START} {GET} return g->lock.val; }}"),
    "over the lock": ("reject", f"{START} {GET} return *(u64 *)&g->lock; }}"),
    "an index that may reach the lock": ("reject", f"{START} {GET} return ((u8 *)g)[k & 15]; }}"),
    "an index that stays before it": ("accept", f"{START} {GET} return ((u8 *)g)[k & 7]; }}"),
    "never dropped": ("reject", f"{START} {GET} lock(&g->lock); g->count++; return 2; }}"),
    "dropped on one path": (
        "reject",
        f"{START} {GET} lock(&g->lock); if (g->count) return 1; unlock(&g->lock); return 2; }}",
    ),
    "dropped on both": (
        "accept",
        f"{START} {GET} lock(&g->lock); if (g->count) {{ unlock(&g->lock); return 1; }} unlock(&g->lock); return 2; }}",
    ),
    "taken twice": ("reject", f"{START} {GET} lock(&g->lock); lock(&g->lock); unlock(&g->lock); return 2; }}"),
    "dropped without": ("reject", f"{START} {GET} unlock(&g->lock); return 2; }}"),
    "not the lock": ("reject", f"{START} {GET} lock(&g->count); unlock(&g->count); return 2; }}"),
    "another value's": ("reject", f"{START} {GET} {TWO} lock(&g->lock); unlock(&h->lock); return 2; }}"),
    "one after the other": (
        "accept",
        f"{START} {GET} {TWO} lock(&g->lock); g->count++; unlock(&g->lock); lock(&h->lock); h->count++; unlock(&h->lock); return 2; }}",
    ),
    "two look-ups of one map": (
        "reject",
        f"{START} {GET} struct guarded *h = lookup(&locks, &k); if (!h) return 1; lock(&g->lock); unlock(&h->lock); return 2; }}",
    ),
    "a constant key": ("accept", f"{START} {TWO} lock(&h->lock); h->count++; unlock(&h->lock); return 2; }}"),
    "two constant keys": (
        "reject",
        f"{START} {TWO} u32 k3 = 4; struct guarded *i = lookup(&cellar, &k3); if (!i) return 1; lock(&h->lock); unlock(&i->lock); return 2; }}",
    ),
    "a helper under the lock": (
        "reject",
        f"{START} {GET} lock(&g->lock); g->first = ktime(); unlock(&g->lock); return 2; }}",
    ),
    "a static function under the lock": (
        "accept",
        f"static G void h(struct guarded *g) {{ g->count += 3; asm_hide(g); g->first++; }} {START} {GET} lock(&g->lock); h(g); unlock(&g->lock); return 2; }}",
    ),
    "a static function that unlocks": (
        "accept",
        f"static G void h(struct guarded *g) {{ g->count += 3; unlock(&g->lock); }} {START} {GET} lock(&g->lock); h(g); return 2; }}",
    ),
    "a global function under the lock": (
        "reject",
        f"G int f(int a) {{ asm_hide(a); return a; }} {START} {GET} lock(&g->lock); g->count += f(3); unlock(&g->lock); return 2; }}",
    ),
    "a global function that gets the value": (
        "reject",
        f"G int f(struct guarded *g) {{ if (!g) return 1; return g->first; }} {START} {GET} return f(g); }}",
    ),
    "no null check": (
        "reject",
        f"{START} struct guarded *g = lookup(&locks, &k); lock(&g->lock); unlock(&g->lock); return 2; }}",
    ),
    "a loop under the lock": (
        "accept",
        f"{START} {GET} lock(&g->lock);\n#pragma clang loop unroll(disable)\nfor (int i = 0; i < 20; i++) {{ asm_hide(i); if (g->count > 5) g->first += i; }} unlock(&g->lock); return 2; }}",
    ),
    "updated as a whole": ("accept", f"{START} struct guarded g = {{}}; update(&locks, &k, &g, 0); return 2; }}"),
    "a timer's neighbour": (
        "accept",
        f"{START} struct timed *t = lookup(&timers, &k); if (t) t->count++; return 2; }}",
    ),
    "a timer itself": (
        "reject",
        f"{START} struct timed *t = lookup(&timers, &k); if (t) return t->timer.opaque[0]; return 2; }}",
    ),
    "in a socket filter": (
        "reject",
        'SEC("socket") int prog(void *ctx) { u32 k = 1; struct guarded g = {}; update(&locks, &k, &g, 0); return 2; }',
    ),
    "a timer in a socket filter": (
        "accept",
        'SEC("socket") int prog(void *ctx) { u32 k = 1; struct timed g = {}; update(&timers, &k, &g, 0); return 2; }',
    ),
    "a timer in a tracing program": (
        "reject",
        'SEC("kprobe/x") int prog(void *ctx) { u32 k = 1; struct timed g = {}; update(&timers, &k, &g, 0); return 0; }',
    ),
}


def build(folder: Path, text: str) -> ProgramSpec:
    return test_functions.build(folder, MORE + text)


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_locks(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    verdict, source = CASES[name]
    spec = build(tmp_path, source)
    report, kernel = verify_program(spec), oracle.ask(spec)
    assert ("accept" if kernel.accepted else "reject") == verdict, kernel.log
    assert report.verdict == verdict, f"{report}\n{kernel.log[-600:]}"
    if verdict == "accept":
        assert report.insns_processed == kernel.processed, kernel.log
