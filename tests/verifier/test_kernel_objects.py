"""Structures of the kernel behind pointers, in programs that clang made: our verdict and count against the kernel's."""

# ruff: noqa: E501 - programs in C, one a line
from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cases import program
from judged import assert_agrees
from test_objects import PRELUDE

from ebpfkit.elf import open_object
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier import verify_program
from tests.conftest import require_tool

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

MORE = """
#define CORE __attribute__((preserve_access_index))
#define hide(x) asm volatile("" : "+r"(x))
struct pair { u64 a, b; };
struct inode { u64 i_ino; } CORE;
struct file { struct inode *f_inode; } CORE;
struct mm_struct { u64 total_vm; } CORE;
struct cgroup { int level; } CORE;
struct css_set { struct cgroup *dfl_cgrp; } CORE;
struct list_head { struct list_head *next; } CORE;
struct robust_list_head { u64 futex_offset; } CORE;
typedef struct { u32 val; } kgid_t;
struct group_info { int ngroups; kgid_t gid[0]; } CORE;
struct cred { struct group_info *group_info; } CORE;
struct task_struct { int pid, tgid; char comm[16]; struct task_struct *real_parent, *last_wakee; struct mm_struct *mm; struct css_set *cgroups; struct list_head children; struct robust_list_head *robust_list; const struct cred *cred; } CORE;
struct sock_common { u16 skc_family; } CORE;
struct sock { struct sock_common __sk_common; } CORE;
struct net_device { int ifindex; int *pcpu_refcnt; } CORE;
struct sk_buff { struct net_device *dev; struct sock *sk; u32 len; u8 *head; u16 mac_header; } CORE;
struct tcp_sock { u32 snd_cwnd; } CORE;
struct seq_file;
struct __sk_buff { u32 all[42]; u64 sk; };
struct bpf_iter_meta { struct seq_file *seq; u64 session_id, seq_num; };
struct task_context { struct bpf_iter_meta *meta; struct task_struct *task; };
struct element_context { struct bpf_iter_meta *meta; void *map; u32 *key; struct pair *value; };
struct { __uint(type, 29); __uint(map_flags, 1); __type(key, int); __type(value, struct pair); } tasks SEC(".maps");
struct { __uint(type, 24); __uint(map_flags, 1); __type(key, int); __type(value, struct pair); } socks SEC(".maps");
struct { __uint(type, 32); __uint(map_flags, 1); __type(key, int); __type(value, struct pair); } groups SEC(".maps");
static struct task_struct *(*current)(void) = (void *)158;
static struct pair *(*task_storage)(void *, struct task_struct *, void *, u64) = (void *)156;
static struct pair *(*sk_storage)(void *, void *, void *, u64) = (void *)107;
static struct pair *(*group_storage)(void *, void *, void *, u64) = (void *)210;
static long (*seq_write)(void *, const void *, u32) = (void *)127;
static struct tcp_sock *(*to_tcp)(void *) = (void *)137;
static void *(*this_cpu_ptr)(const void *) = (void *)154;
"""
SWITCH = 'SEC("tp_btf/sched_switch") int prog(u64 *ctx) { struct task_struct *p = (void *)ctx[1];'
FREED = 'SEC("tp_btf/kfree_skb") int prog(u64 *ctx) { struct sk_buff *s = (void *)ctx[0];'
TASKS = 'SEC("iter/task") int prog(struct task_context *ctx) {'
COUNT = "if (v) v->a++; return 0; }"

# name -> (verdict, source)
CASES = {
    "members of members": (
        "accept",
        f"{SWITCH} struct task_struct *q = p->real_parent; return q->pid + p->comm[3]; }}",
    ),
    "a member that may be null": ("accept", f"{SWITCH} struct mm_struct *m = p->mm; return m ? m->total_vm : 0; }}"),
    "a member protected by RCU": ("accept", f"{SWITCH} return p->cgroups->dfl_cgrp->level; }}"),
    "an RCU member that may be null": ("reject", f"{FREED} return s->len + s->sk->__sk_common.skc_family; }}"),
    "the same, tested": ("accept", f"{FREED} struct sock *k = s->sk; return k ? k->__sk_common.skc_family : 0; }}"),
    "a pointer to bytes": ("accept", f"{FREED} u8 *h = s->head; return h[s->mac_header] + h[5]; }}"),
    "per-CPU memory by itself": ("accept", f"{FREED} return *s->dev->pcpu_refcnt; }}"),
    "memory of user space": ("accept", f"{SWITCH} return p->robust_list->futex_offset; }}"),
    "an array of unknown length": ("accept", f"{SWITCH} return p->cred->group_info->gid[3].val; }}"),
    "parents in a loop": (
        "accept",
        f"{SWITCH} for (int i = 0; i < 10; i++) {{ if (p->pid == 1) return i; p = p->real_parent; }} return 0; }}",
    ),
    "a list in a loop": (
        "accept",
        f"{SWITCH} struct list_head *h = p->children.next;\n#pragma clang loop unroll(disable)\nfor (int i = 0; i < 20; i++) {{ if (h == &p->children) return i; h = h->next; }} return 0; }}",
    ),
    "writing": ("reject", f"{SWITCH} p->pid = 3; return 0; }}"),
    "a task's storage": ("accept", f"{SWITCH} struct pair *v = task_storage(&tasks, p, 0, 1); {COUNT}"),
    "its parent's": ("accept", f"{SWITCH} struct pair *v = task_storage(&tasks, p->real_parent, 0, 1); {COUNT}"),
    "that of no task": ("accept", f"{SWITCH} struct pair *v = task_storage(&tasks, 0, 0, 1); {COUNT}"),
    "that of the current task": (
        "accept",
        f'SEC("kprobe/x") int prog(void *ctx) {{ struct pair w = {{}}, *v = task_storage(&tasks, current(), &w, 1); {COUNT}',
    ),
    "storage of another kind": ("reject", f"{SWITCH} struct pair *v = task_storage(&socks, p, 0, 1); {COUNT}"),
    "an object of another kind": ("reject", f"{FREED} struct pair *v = task_storage(&tasks, (void *)s, 0, 1); {COUNT}"),
    "a member inside the object": (
        "reject",
        f"{SWITCH} struct pair *v = task_storage(&tasks, (void *)&p->children, 0, 1); {COUNT}",
    ),
    "a control group's": (
        "accept",
        f"{SWITCH} struct pair *v = group_storage(&groups, p->cgroups->dfl_cgrp, 0, 1); {COUNT}",
    ),
    "a socket's": (
        "accept",
        f"{FREED} struct sock *k = s->sk; struct pair *v = k ? sk_storage(&socks, k, 0, 0) : 0; {COUNT}",
    ),
    "a socket's, in a classifier": (
        "accept",
        f'SEC("tc") int prog(struct __sk_buff *ctx) {{ void *k = (void *)ctx->sk; struct pair *v = k ? sk_storage(&socks, k, 0, 0) : 0; {COUNT}',
    ),
    "a socket seen as TCP's": (
        "accept",
        'SEC("tc") int prog(struct __sk_buff *ctx) { void *k = (void *)ctx->sk; if (!k) return 0; struct tcp_sock *t = to_tcp(k); return t ? t->snd_cwnd : 0; }',
    ),
    "a socket seen as TCP's, not tested": (
        "reject",
        'SEC("tc") int prog(struct __sk_buff *ctx) { void *k = (void *)ctx->sk; if (!k) return 0; return to_tcp(k)->snd_cwnd; }',
    ),
    "an iterator's task": (
        "accept",
        f"{TASKS} struct task_struct *t = ctx->task; if (!t) return 0; struct pair p = {{t->pid, t->tgid}}; seq_write(ctx->meta->seq, &p, sizeof(p)); return 0; }}",
    ),
    "an iterator's task, not tested": ("reject", f"{TASKS} return ctx->task->pid & 1; }}"),
    "an iterator over a map": (
        "accept",
        'SEC("iter/bpf_map_elem") int prog(struct element_context *ctx) { u32 *k = ctx->key; struct pair *v = ctx->value; if (!k || !v) return 0; v->a += *k; return 0; }',
    ),
    "no per-CPU variable": ("reject", 'SEC("tc") int prog(void *ctx) { return *(int *)this_cpu_ptr(ctx); }'),
    "a kernel function's address": (
        "accept",
        'extern void bpf_task_release(struct task_struct *) __attribute__((section(".ksyms"), weak)); SEC("tc") int prog(void *ctx) { return bpf_task_release != 0; }',
    ),
}


def build(folder: Path, text: str) -> ProgramSpec:
    from verifier_kernel import running_types

    clang = require_tool("clang")
    source, built = folder / "prog.c", folder / "prog.o"
    source.write_text(PRELUDE + MORE + text)
    subprocess.run([clang, "-target", "bpf", "-O2", "-g", "-w", "-mcpu=v3", "-c", source, "-o", built], check=True)
    return open_object(built, target_btf=running_types()).programs["prog"]


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_kernel_objects(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    from verifier_kernel import running_types

    verdict, source = CASES[name]
    assert_agrees(build(tmp_path, source), verdict, oracle, running_types())


SOCKET = "r1 = *(u64 *)(r1 + 168); if r1 == 0 goto +"
LOOKUP = "r2 = 0; *(u64 *)(r10 - 16) = r2; *(u64 *)(r10 - 8) = r2; r2 = r10; r2 += -16; r3 = 12; r4 = 0; r5 = 0; call 84; r7 = r0; if r0 == 0 goto +"

# name -> (verdict, program of a classifier)
SOCKETS = {
    "a field": ("accept", f"{SOCKET}1; r2 = *(u32 *)(r1 + 4); r0 = 0; exit"),
    "a field of the full view": ("reject", f"{SOCKET}1; r2 = *(u32 *)(r1 + 16); r0 = 0; exit"),
    "the full view": ("accept", f"{SOCKET}3; call 95; if r0 == 0 goto +1; r2 = *(u32 *)(r0 + 16); r0 = 0; exit"),
    "TCP's view": ("accept", f"{SOCKET}3; call 96; if r0 == 0 goto +1; r2 = *(u64 *)(r0 + 80); r0 = 0; exit"),
    "half a field": ("reject", f"{SOCKET}3; call 96; if r0 == 0 goto +1; r2 = *(u16 *)(r0 + 4); r0 = 0; exit"),
    "writing": ("reject", f"{SOCKET}1; *(u32 *)(r1 + 4) = 1; r0 = 0; exit"),
    "moving": ("reject", f"{SOCKET}1; r1 += 4; r0 = 0; exit"),
    "an atomic": ("reject", f"{SOCKET}2; r2 = 1; lock *(u32 *)(r1 + 4) += r2; r0 = 0; exit"),
    "not tested": ("reject", "r1 = *(u64 *)(r1 + 168); r1 = *(u32 *)(r1 + 4); r0 = 0; exit"),
    "found and released": ("accept", f"{LOOKUP}2; r1 = r0; call 86; r0 = 0; exit"),
    "found and kept": ("reject", f"{LOOKUP}0; r0 = 0; exit"),
    "released through a view": ("reject", f"{LOOKUP}4; r1 = r0; call 137; r1 = r0; call 86; r0 = 0; exit"),
    "released through a view that was tested": (
        "accept",
        f"{LOOKUP}10; r1 = r0; call 137; r6 = r0; if r6 == 0 goto +4; r1 = r6; call 86; r1 = r6; goto +2; r1 = r7; call 86; r0 = 0; exit",
    ),
    "a view after the release": (
        "reject",
        f"{LOOKUP}7; r1 = r0; call 137; r6 = r0; r1 = r7; call 86; if r6 == 0 goto +1; r1 = *(u32 *)(r6 + 0); r0 = 0; exit",
    ),
    "released twice": ("reject", f"{LOOKUP}4; r1 = r0; call 86; r1 = r7; call 86; r0 = 0; exit"),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", SOCKETS)
def test_sockets(name: str, oracle: KernelOracle) -> None:
    from verifier_kernel import running_types

    verdict, text = SOCKETS[name]
    assert_agrees(program(text, "sched_cls"), verdict, oracle, running_types())


def test_objects_of_the_kernel_need_its_types() -> None:
    report = verify_program(program("call 158; r1 = *(u64 *)(r0 + 0); r0 = 0; exit", "xdp"))
    assert report.verdict == "unsupported" and "--btf" in report.message
