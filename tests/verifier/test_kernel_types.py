# ruff: noqa: E501 - programs in C, one a line
"""Programs that need the kernel's own types: maps read as structures, iterators over objects, references by kfuncs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_functions
from judged import assert_agrees

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

pytestmark = pytest.mark.kernel

MORE = """
#define KSYM __attribute__((section(".ksyms")))
struct task_struct { int pid; } __attribute__((preserve_access_index));
struct vm_area_struct { u64 vm_start; } __attribute__((preserve_access_index));
struct cpumask; struct bpf_cpumask;
struct bpf_iter_task { u64 opaque[3]; } __attribute__((aligned(8)));
struct bpf_iter_task_vma { u64 opaque[1]; } __attribute__((aligned(8)));
static struct task_struct *(*current)(void) = (void *)158;
static long (*find_vma)(struct task_struct *, u64, void *, void *, u64) = (void *)180;
extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *t, u32 flags) KSYM;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) KSYM;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) KSYM;
extern int bpf_iter_task_vma_new(struct bpf_iter_task_vma *it, struct task_struct *t, u64 addr) KSYM;
extern struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *it) KSYM;
extern void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *it) KSYM;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) KSYM;
extern struct task_struct *bpf_task_from_pid(int pid) KSYM;
extern void bpf_task_release(struct task_struct *p) KSYM;
extern struct bpf_cpumask *bpf_cpumask_create(void) KSYM;
extern void bpf_cpumask_release(struct bpf_cpumask *m) KSYM;
extern void bpf_cpumask_set_cpu(u32 cpu, struct bpf_cpumask *m) KSYM;
extern u32 bpf_cpumask_first(const struct cpumask *m) KSYM;
extern void bpf_rcu_read_lock(void) KSYM;
extern void bpf_rcu_read_unlock(void) KSYM;
"""
KP = 'SEC("kprobe/x") int prog(void *ctx) {'
CALL = 'SEC("syscall") int prog(void *ctx) {'
CASES = {
    "the start of a map": (
        "accept",
        'SEC("xdp") int prog(struct xdp_md *ctx) { return *(volatile u32 *)((u8 *)&table + 24) & 1; }',
    ),
    "before a map": (
        "reject",
        'SEC("xdp") int prog(struct xdp_md *ctx) { u8 *m = (u8 *)&table; asm volatile("%0 = *(u32 *)(%0 - 8)" : "+r"(m)); return (long)m & 1; }',
    ),
    "beyond a map": (
        "reject",
        'SEC("xdp") int prog(struct xdp_md *ctx) { u8 *m = (u8 *)&table; asm volatile("%0 = *(u32 *)(%0 + 30000)" : "+r"(m)); return (long)m & 1; }',
    ),
    "a map written": (
        "reject",
        'SEC("xdp") int prog(struct xdp_md *ctx) { *(volatile u32 *)((u8 *)&table + 0) = 1; return 1; }',
    ),
    "tasks": (
        "accept",
        f"{KP} struct bpf_iter_task it; struct task_struct *t; int n = 0; bpf_iter_task_new(&it, 0, 0); while ((t = bpf_iter_task_next(&it))) n += t->pid; bpf_iter_task_destroy(&it); return n & 1; }}",
    ),
    "tasks, never ended": ("reject", f"{KP} struct bpf_iter_task it; bpf_iter_task_new(&it, 0, 0); return 0; }}"),
    "a task untested": (
        "reject",
        f"{KP} struct bpf_iter_task it; struct task_struct *t; bpf_iter_task_new(&it, 0, 0); t = bpf_iter_task_next(&it); int n = t->pid; bpf_iter_task_destroy(&it); return n & 1; }}",
    ),
    "areas of memory": (
        "accept",
        f"{KP} struct bpf_iter_task_vma it; struct vm_area_struct *v; u64 n = 0; bpf_iter_task_vma_new(&it, current(), 0); while ((v = bpf_iter_task_vma_next(&it))) n += v->vm_start; bpf_iter_task_vma_destroy(&it); return n & 1; }}",
    ),
    "areas of no task": (
        "reject",
        f"{KP} struct bpf_iter_task_vma it; bpf_iter_task_vma_new(&it, 0, 0); bpf_iter_task_vma_destroy(&it); return 0; }}",
    ),
    "an area found": (
        "accept",
        f"static long each(struct task_struct *t, struct vm_area_struct *v, u64 *c) {{ *c = v->vm_start + t->pid; return 0; }} {KP} u64 c = 0; find_vma(current(), 0, each, &c, 0); return c & 1; }}",
    ),
    "an area found, with another result": (
        "reject",
        f"static long each(struct task_struct *t, struct vm_area_struct *v, u64 *c) {{ return 4; }} {KP} u64 c = 0; find_vma(current(), 0, each, &c, 0); return c & 1; }}",
    ),
    "a task taken and given back": (
        "accept",
        f"{CALL} struct task_struct *t = bpf_task_from_pid(1); if (!t) return 0; int n = t->pid; bpf_task_release(t); return n & 1; }}",
    ),
    "a task kept": ("reject", f"{CALL} struct task_struct *t = bpf_task_from_pid(1); return t != 0; }}"),
    "a task given back untested": (
        "reject",
        f"{CALL} struct task_struct *t = bpf_task_from_pid(1); bpf_task_release(t); return 0; }}",
    ),
    "a task given back twice": (
        "reject",
        f"{CALL} struct task_struct *t = bpf_task_from_pid(1); if (!t) return 0; bpf_task_release(t); bpf_task_release(t); return 0; }}",
    ),
    "a task read after it was given back": (
        "reject",
        f"{CALL} struct task_struct *t = bpf_task_from_pid(1); if (!t) return 0; bpf_task_release(t); return t->pid; }}",
    ),
    "the current task taken": (
        "accept",
        f"{CALL} struct task_struct *t = bpf_task_acquire(current()); if (!t) return 0; bpf_task_release(t); return 0; }}",
    ),
    "the current task given back": ("reject", f"{CALL} bpf_task_release(current()); return 0; }}"),
    "a mask": (
        "accept",
        f"{CALL} struct bpf_cpumask *m = bpf_cpumask_create(); if (!m) return 0; bpf_cpumask_set_cpu(1, m); bpf_cpumask_release(m); return 0; }}",
    ),
    "a mask set untested": (
        "reject",
        f"{CALL} struct bpf_cpumask *m = bpf_cpumask_create(); bpf_cpumask_set_cpu(1, m); return 0; }}",
    ),
    "a mask for a task": (
        "reject",
        f"{CALL} struct bpf_cpumask *m = bpf_cpumask_create(); if (!m) return 0; bpf_task_release((void *)m); return 0; }}",
    ),
    "a mask where its part will do": (
        "accept",
        f"{CALL} struct bpf_cpumask *m = bpf_cpumask_create(); if (!m) return 0; int n = bpf_cpumask_first((void *)m); bpf_cpumask_release(m); return n & 1; }}",
    ),
    "a task for a mask": ("reject", f"{CALL} return bpf_cpumask_first((void *)current()) & 1; }}"),
    "a number for a task": ("reject", f"{CALL} bpf_task_release((void *)7); return 0; }}"),
}


@pytest.mark.parametrize("name", CASES)
def test_programs_that_need_the_kernels_types(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    from verifier_kernel import running_types

    verdict, source = CASES[name]
    assert_agrees(test_functions.build(tmp_path, MORE + source, types=True), verdict, oracle, running_types())
