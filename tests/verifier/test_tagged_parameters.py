# ruff: noqa: E501 - programs in C, one a line
"""Dynptrs, objects of the kernel and arenas as parameters of global functions: ours against the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_functions
from judged import assert_agrees

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

MORE = """
struct bpf_dynptr { u64 opaque[2]; } __attribute__((aligned(8)));
struct task_struct___mine { int pid; } __attribute__((preserve_access_index));
struct task_struct { int pid; struct task_struct *real_parent; } __attribute__((preserve_access_index));
struct nowhere_at_all { int a; };
struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");
static long (*from_mem)(void *, u32, u64, struct bpf_dynptr *) = (void *)197;
static long (*reserve)(void *, u32, u64, struct bpf_dynptr *) = (void *)198;
static void (*submit)(struct bpf_dynptr *, u64) = (void *)199;
static long (*dread)(void *, u32, const struct bpf_dynptr *, u32, u64) = (void *)201;
static long (*dwrite)(const struct bpf_dynptr *, u32, void *, u32, u64) = (void *)202;
static void *(*ddata)(const struct bpf_dynptr *, u32, u32) = (void *)203;
static struct task_struct *(*current)(void) = (void *)158;
static long (*probe)(void *, u32, const void *) = (void *)113;
"""
PROG = 'SEC("tc") int prog(void *ctx) {'
KEY = "u32 k = 1; u64 *v = lookup(&table, &k); if (!v) return 0;"
READ = "G int f(struct bpf_dynptr *d) { u64 x = 0; if (dread(&x, 8, d, 0, 0)) return 1; return x; }"
TASK = "G int f(struct task_struct *t TAG(trusted)) { return t->pid; }"
MAYBE = "G int f(struct task_struct *t TAG(trusted) TAG(nullable)) { if (!t) return 0; return t->pid; }"
LOOSE = "G int f(struct task_struct *t TAG(untrusted)) { return t->pid; }"
BYTES = "G int f(const char *p TAG(untrusted)) { asm_hide(p); return p[3]; }"

CASES = {
    "a dynptr": ("accept", f"{READ} {PROG} {KEY} struct bpf_dynptr d; from_mem(v, 16, 0, &d); return f(&d); }}"),
    "a dynptr of a record": ("accept", f"{READ} {PROG} struct bpf_dynptr d; reserve(&ring, 8, 0, &d); f(&d); submit(&d, 0); return 0; }}"),
    "something that is no dynptr": ("reject", f"{READ} {PROG} {KEY} struct bpf_dynptr d = {{}}; asm_hide(k); return f(&d); }}"),
    "memory for a dynptr": ("reject", f"{READ} {PROG} {KEY} return f((void *)v); }}"),
    "a dynptr given away inside": ("reject", f"G int f(struct bpf_dynptr *d) {{ submit(d, 0); return 0; }} {PROG} struct bpf_dynptr d; reserve(&ring, 8, 0, &d); f(&d); return 0; }}"),
    "a dynptr made inside": ("reject", f"G int f(struct bpf_dynptr *d) {{ u32 k = 1; u64 *v = lookup(&table, &k); if (v) from_mem(v, 8, 0, d); return 0; }} {PROG} struct bpf_dynptr d; f(&d); return 0; }}"),
    "a dynptr written inside": ("accept", f"G int f(struct bpf_dynptr *d) {{ u64 x = 1; return dwrite(d, 0, &x, 8, 0); }} {PROG} {KEY} struct bpf_dynptr d; from_mem(v, 16, 0, &d); return f(&d); }}"),
    "the memory of a dynptr inside": ("accept", f"G int f(struct bpf_dynptr *d) {{ u64 *p = ddata(d, 0, 8); if (!p) return 1; *p = 3; return 0; }} {PROG} {KEY} struct bpf_dynptr d; from_mem(v, 16, 0, &d); return f(&d); }}"),
    "the inside of a dynptr": ("reject", f"G int f(struct bpf_dynptr *d) {{ asm_hide(d); return d->opaque[0]; }} {PROG} {KEY} struct bpf_dynptr d; from_mem(v, 16, 0, &d); return f(&d); }}"),
    "an object": ("accept", f'{TASK} SEC("kprobe/x") int prog(void *ctx) {{ return f(current()); }}'),
    "an object that RCU keeps": ("accept", f'{TASK} SEC("kprobe/x") int prog(void *ctx) {{ return f(current()->real_parent->real_parent); }}'),
    "a number for an object": ("reject", f'{TASK} SEC("kprobe/x") int prog(void *ctx) {{ return f((void *)77); }}'),
    "nothing for an object": ("reject", f'{TASK} SEC("kprobe/x") int prog(void *ctx) {{ return f(0); }}'),
    "nothing for an object that may be missing": ("accept", f'{MAYBE} SEC("kprobe/x") int prog(void *ctx) {{ return f(0) + f(current()); }}'),
    "an object that may be missing, not tested": ("reject", f'{MAYBE.replace("if (!t) return 0;", "")} SEC("kprobe/x") int prog(void *ctx) {{ return f(current()); }}'),
    "an object by another flavour": ("accept", f'{TASK.replace("task_struct", "task_struct___mine")} SEC("kprobe/x") int prog(void *ctx) {{ return f((void *)current()); }}'),
    "an object that the kernel lacks": ("reject", 'G int f(struct nowhere_at_all *t TAG(trusted)) { asm_hide(t); return t->a; } SEC("kprobe/x") int prog(void *ctx) { return f((void *)current()); }'),
    "written through": ("reject", f'{TASK.replace("return t->pid;", "t->pid = 1; return 0;")} SEC("kprobe/x") int prog(void *ctx) {{ return f(current()); }}'),
    "an object read with care": ("accept", f'{LOOSE} SEC("kprobe/x") int prog(void *ctx) {{ return f(current()->real_parent) + f((void *)5); }}'),
    "bytes read with care": ("accept", f'{BYTES} SEC("kprobe/x") int prog(void *ctx) {{ return f((void *)ctx) + f((void *)5); }}'),
    "bytes read with care, written": ("reject", f'{BYTES.replace("return p[3];", "((char *)p)[3] = 1; return 0;")} SEC("kprobe/x") int prog(void *ctx) {{ return f((void *)5); }}'),
    "tags that do not go together": ("reject", 'G int f(struct task_struct *t TAG(trusted) TAG(nonnull)) { return t->pid; } SEC("kprobe/x") int prog(void *ctx) { return f(current()); }'),
    "untrusted and missing": ("reject", 'G int f(struct task_struct *t TAG(untrusted) TAG(nullable)) { return t->pid; } SEC("kprobe/x") int prog(void *ctx) { return f(current()); }'),
    "a tagged dynptr": ("reject", f"{READ.replace('*d)', '*d TAG(nonnull))')} {PROG} {KEY} struct bpf_dynptr d; from_mem(v, 16, 0, &d); return f(&d); }}"),
    "an arena's address": ("accept", f"G int f(void *p TAG(arena)) {{ asm_hide(p); return (u64)p & 1; }} {PROG} {KEY} return f((void *)(v[0])); }}"),
    "another address for an arena's": ("reject", f"G int f(void *p TAG(arena)) {{ asm_hide(p); return (u64)p & 1; }} {PROG} {KEY} return f(v); }}"),
}  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_tagged_parameters(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    verdict, source = CASES[name]
    spec = test_functions.build(tmp_path, MORE + source, types=True)
    assert_agrees(spec, verdict, oracle, oracle.types)
