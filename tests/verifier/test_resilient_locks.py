# ruff: noqa: E501 - programs in C, one a line
"""Resilient spin locks (kernel functions), in objects that clang made: our verdict and count against the kernel's."""

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
struct bpf_res_spin_lock { u32 val; };
struct guarded { u64 first; struct bpf_res_spin_lock lock; u32 count; u64 more[2]; };
struct bpf_iter_num { u64 opaque[1]; } __attribute__((aligned(8)));
struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, struct guarded); } locks SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, struct guarded); } cellar SEC(".maps");
extern int bpf_res_spin_lock(struct bpf_res_spin_lock *lock) KSYM;
extern void bpf_res_spin_unlock(struct bpf_res_spin_lock *lock) KSYM;
extern int bpf_res_spin_lock_irqsave(struct bpf_res_spin_lock *lock, unsigned long *flags) KSYM;
extern void bpf_res_spin_unlock_irqrestore(struct bpf_res_spin_lock *lock, unsigned long *flags) KSYM;
extern void bpf_local_irq_save(unsigned long *flags) KSYM;
extern void bpf_local_irq_restore(unsigned long *flags) KSYM;
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) KSYM;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) KSYM;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) KSYM;
extern int bpf_map_sum_elem_count(void *map) KSYM;
static u64 (*now)(void) = (void *)5;
#define lock(at) bpf_res_spin_lock(at)
#define unlock(at) bpf_res_spin_unlock(at)
"""
START = 'SEC("xdp") int prog(struct xdp_md *ctx) { u32 k = ctx->rx_queue_index;'
GET = "struct guarded *g = lookup(&locks, &k); if (!g) return 2;"
TWO = "u32 k2 = 3; struct guarded *h = lookup(&cellar, &k2); if (!h) return 2;"
SAME = "u32 k2 = 3; struct guarded *h = lookup(&locks, &k2); if (!h) return 2;"
FLAGS = "unsigned long f1, f2;"

CASES = {
    "taken and dropped": (
        "accept",
        f"{START} {GET} if (lock(&g->lock)) return 1; g->count++; unlock(&g->lock); return 2; }}",
    ),
    "not asked whether it was taken": (
        "reject",
        f"{START} {GET} lock(&g->lock); g->count++; unlock(&g->lock); return 2; }}",
    ),
    "dropped where it was not taken": (
        "reject",
        f"{START} {GET} if (!lock(&g->lock)) return 1; g->count++; unlock(&g->lock); return 2; }}",
    ),
    "never dropped": ("reject", f"{START} {GET} if (lock(&g->lock)) return 1; g->count++; return 2; }}"),
    "dropped without": ("reject", f"{START} {GET} unlock(&g->lock); return 2; }}"),
    "the lock itself": ("reject", f"{START} {GET} return g->lock.val; }}"),
    "beside the lock": ("accept", f"{START} {GET} g->count++; return g->more[1] & 1; }}"),
    "another place": ("reject", f"{START} {GET} if (lock((void *)&g->count)) return 1; unlock(&g->lock); return 2; }}"),
    "a lock on the stack": (
        "reject",
        f"{START} struct bpf_res_spin_lock l = {{}}; asm_hide(k); if (lock(&l)) return 1; unlock(&l); return 2; }}",
    ),
    "a value that may be missing": (
        "reject",
        f"{START} struct guarded *g = lookup(&cellar, &k); if (lock(&g->lock)) return 1; unlock(&g->lock); return 2; }}",
    ),
    "two, in order": (
        "accept",
        f"{START} {GET} {TWO} if (lock(&g->lock)) return 1; if (lock(&h->lock)) {{ unlock(&g->lock); return 1; }} h->count++; unlock(&h->lock); unlock(&g->lock); return 2; }}",
    ),
    "two of one map": (
        "accept",
        f"{START} {GET} {SAME} if (lock(&g->lock)) return 1; if (lock(&h->lock)) {{ unlock(&g->lock); return 1; }} h->count++; unlock(&h->lock); unlock(&g->lock); return 2; }}",
    ),
    "two, out of order": (
        "reject",
        f"{START} {GET} {TWO} if (lock(&g->lock)) return 1; if (lock(&h->lock)) {{ unlock(&g->lock); return 1; }} h->count++; unlock(&g->lock); unlock(&h->lock); return 2; }}",
    ),
    "the same twice": (
        "reject",
        f"{START} {GET} if (lock(&g->lock)) return 1; if (lock(&g->lock)) {{ unlock(&g->lock); return 1; }} unlock(&g->lock); unlock(&g->lock); return 2; }}",
    ),
    "the other is dropped": (
        "reject",
        f"{START} {GET} {TWO} if (lock(&g->lock)) return 1; unlock(&h->lock); return 2; }}",
    ),
    "the second fails and the first stays": (
        "reject",
        f"{START} {GET} {TWO} if (lock(&g->lock)) return 1; if (lock(&h->lock)) return 1; unlock(&h->lock); unlock(&g->lock); return 2; }}",
    ),
    "a helper inside": (
        "reject",
        f"{START} {GET} if (lock(&g->lock)) return 1; g->count = now(); unlock(&g->lock); return 2; }}",
    ),
    "a kernel function inside": (
        "reject",
        f"{START} {GET} if (lock(&g->lock)) return 1; bpf_map_sum_elem_count(&locks); unlock(&g->lock); return 2; }}",
    ),
    "a loop inside": (
        "accept",
        f"{START} {GET} struct bpf_iter_num it; if (lock(&g->lock)) return 1; bpf_iter_num_new(&it, 0, 5); while (bpf_iter_num_next(&it)) g->count++; bpf_iter_num_destroy(&it); unlock(&g->lock); return 2; }}",
    ),
    "a function inside": (
        "accept",
        f"static __attribute__((noinline)) int more(struct guarded *g) {{ g->count++; return 0; }} {START} {GET} if (lock(&g->lock)) return 1; more(g); unlock(&g->lock); return 2; }}",
    ),
    "a function verified apart inside": (
        "reject",
        f"G int more(u32 a) {{ asm_hide(a); return a; }} {START} {GET} if (lock(&g->lock)) return 1; g->count = more(1); unlock(&g->lock); return 2; }}",
    ),
    "with interrupts off": (
        "accept",
        f"{START} {FLAGS} {GET} if (bpf_res_spin_lock_irqsave(&g->lock, &f1)) return 1; g->count++; bpf_res_spin_unlock_irqrestore(&g->lock, &f1); return 2; }}",
    ),
    "interrupts stay off": (
        "reject",
        f"{START} {FLAGS} {GET} if (bpf_res_spin_lock_irqsave(&g->lock, &f1)) return 1; unlock(&g->lock); return 2; }}",
    ),
    "dropped as the other kind": (
        "reject",
        f"{START} {FLAGS} {GET} if (lock(&g->lock)) return 1; bpf_res_spin_unlock_irqrestore(&g->lock, &f1); return 2; }}",
    ),
    "flags of interrupts for a lock": (
        "reject",
        f"{START} {FLAGS} {GET} bpf_local_irq_save(&f2); if (bpf_res_spin_lock_irqsave(&g->lock, &f1)) {{ bpf_local_irq_restore(&f2); return 1; }} bpf_res_spin_unlock_irqrestore(&g->lock, &f2); return 2; }}",
    ),
    "flags of a lock for interrupts": (
        "reject",
        f"{START} {FLAGS} {GET} if (bpf_res_spin_lock_irqsave(&g->lock, &f1)) return 1; bpf_local_irq_restore(&f1); return 2; }}",
    ),
    "two with interrupts off": (
        "accept",
        f"{START} {FLAGS} {GET} {TWO} if (bpf_res_spin_lock_irqsave(&g->lock, &f1)) return 1; if (bpf_res_spin_lock_irqsave(&h->lock, &f2)) {{ bpf_res_spin_unlock_irqrestore(&g->lock, &f1); return 1; }} bpf_res_spin_unlock_irqrestore(&h->lock, &f2); bpf_res_spin_unlock_irqrestore(&g->lock, &f1); return 2; }}",
    ),
    "inside interrupts off": (
        "accept",
        f"{START} {FLAGS} {GET} bpf_local_irq_save(&f2); if (lock(&g->lock)) {{ bpf_local_irq_restore(&f2); return 1; }} unlock(&g->lock); bpf_local_irq_restore(&f2); return 2; }}",
    ),
    "taken in every round of a loop": (
        "accept",
        f"{START} {GET} for (int i = 0; i < 4; i++) {{ if (lock(&g->lock)) return 1; g->count += i; unlock(&g->lock); }} return 2; }}",
    ),
    "the result is an error number": (
        "accept",
        f"{START} {GET} int r = lock(&g->lock); if (r) return r < 0 ? 1 : ((u8 *)g)[200]; unlock(&g->lock); return 2; }}",
    ),
    "programs of probes": (
        "reject",
        f'SEC("kprobe/x") int prog(void *ctx) {{ u32 k = 1; {GET} if (lock(&g->lock)) return 1; unlock(&g->lock); return 2; }}',
    ),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_resilient_locks(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    verdict, source = CASES[name]
    assert_agrees(test_functions.build(tmp_path, MORE + source), verdict, oracle, oracle.types)
