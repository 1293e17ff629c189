"""Examples of the rules that need types: maps with locks in them, kernel functions, functions verified apart.

Rows of text only, as `examples` has them in assembly; these are in C, as people write it with vmlinux.h and libbpf's
headers. Tests compile every one and hold the verifier, and the running kernel, to it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["C_ROWS"]

_HEAD = """\
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

"""
_ACCOUNTS = (
    _HEAD
    + """\
struct account { struct bpf_spin_lock lock; __u32 limit; __u64 packets; };
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct account);
} accounts SEC(".maps");

SEC("xdp") int prog(struct xdp_md *ctx)
{
    __u32 key = 0;
    struct account *a = bpf_map_lookup_elem(&accounts, &key);
    if (!a)
        return XDP_PASS;
"""
)
_TASK = (
    _HEAD
    + """\
extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

"""
)
_NUMBERS = (
    _HEAD
    + """\
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

SEC("xdp") int prog(struct xdp_md *ctx)
{
    struct bpf_iter_num it;
    int *i, sum = 0;
"""
)
_LOOP = (
    _HEAD
    + """\
extern void bpf_throw(u64 cookie) __ksym;

"""
)
_TABLE = (
    _HEAD
    + """\
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 4);
    __uint(map_flags, BPF_F_WRONLY_PROG); /* programs only write it */
    __type(key, __u32);
    __type(value, __u64);
} results SEC(".maps");

SEC("xdp") int prog(struct xdp_md *ctx)
{
    __u32 key = 1;
    __u64 *result = bpf_map_lookup_elem(&results, &key);
    if (!result)
        return XDP_PASS;
"""
)

# rule: (failing, mended, program type, the mend in words of C)
C_ROWS: Final[dict[str, tuple[str, str, str, str]]] = {
    "lock": (
        _ACCOUNTS
        + """\
    bpf_spin_lock(&a->lock);
    a->packets++;
    if (a->packets > a->limit)
        return XDP_DROP; /* still locked */
    bpf_spin_unlock(&a->lock);
    return XDP_PASS;
}
""",
        _ACCOUNTS
        + """\
    int verdict = XDP_PASS;
    bpf_spin_lock(&a->lock);
    a->packets++;
    if (a->packets > a->limit)
        verdict = XDP_DROP;
    bpf_spin_unlock(&a->lock);
    return verdict;
}
""",
        "xdp",
        "write bpf_spin_unlock() before every return, and call nothing between lock and unlock",
    ),
    "special-field": (
        _ACCOUNTS
        + """\
    return a->lock.val ? XDP_DROP : XDP_PASS; /* whether it is held */
}
""",
        _ACCOUNTS
        + """\
    return a->packets > a->limit ? XDP_DROP : XDP_PASS;
}
""",
        "xdp",
        "hand the address of the lock, timer or kptr to its helpers, and read and write only the members beside it",
    ),
    "iterator": (
        _NUMBERS
        + """\
    while ((i = bpf_iter_num_next(&it))) /* of which iterator? */
        sum += *i;
    return sum > 9 ? XDP_DROP : XDP_PASS;
}
""",
        _NUMBERS
        + """\
    bpf_iter_num_new(&it, 0, 10);
    while ((i = bpf_iter_num_next(&it)))
        sum += *i;
    bpf_iter_num_destroy(&it);
    return sum > 9 ? XDP_DROP : XDP_PASS;
}
""",
        "xdp",
        "call the iterator's _new() before the loop and its _destroy() behind it, on every path (bpf_for() does both)",
    ),
    "kfunc-argument": (
        _TASK
        + """\
SEC("tc") int prog(struct __sk_buff *skb)
{
    struct task_struct *task = bpf_task_from_pid(1);
    bpf_task_release(task); /* there may be no such task */
    return 0;
}
""",
        _TASK
        + """\
SEC("tc") int prog(struct __sk_buff *skb)
{
    struct task_struct *task = bpf_task_from_pid(1);
    if (task)
        bpf_task_release(task);
    return 0;
}
""",
        "sched_cls",
        "pass what the prototype in vmlinux.h names, tested for NULL before the call",
    ),
    "kfunc-not-allowed": (
        _TASK
        + """\
SEC("socket") int prog(struct __sk_buff *skb) /* socket filters may not */
{
    struct task_struct *task = bpf_task_from_pid(1);
    if (task)
        bpf_task_release(task);
    return 0;
}
""",
        _TASK
        + """\
SEC("tc") int prog(struct __sk_buff *skb)
{
    struct task_struct *task = bpf_task_from_pid(1);
    if (task)
        bpf_task_release(task);
    return 0;
}
""",
        "socket_filter",
        "",
    ),
    "callback": (
        _LOOP
        + """\
static long each(__u32 i, void *ctx)
{
    if (i == 3)
        bpf_throw(1); /* from inside of bpf_loop() */
    return 0;
}

SEC("tc") int prog(struct __sk_buff *skb)
{
    bpf_loop(skb->len, each, 0, 0);
    return 0;
}
""",
        _LOOP
        + """\
static long each(__u32 i, void *ctx)
{
    return i == 3; /* 1 ends the loop */
}

SEC("tc") int prog(struct __sk_buff *skb)
{
    if (bpf_loop(skb->len, each, 0, 0) == 4)
        bpf_throw(1);
    return 0;
}
""",
        "sched_cls",
        "return 1 from the callback to end the loop, and do what it forbids behind the call",
    ),
    "global-function-argument": (
        _HEAD
        + """\
__attribute__((noinline)) int first(void *bytes) /* how many? */
{
    return bytes ? *(__u8 *)bytes : 0;
}

SEC("xdp") int prog(struct xdp_md *ctx)
{
    __u8 bytes[4] = { 1 };
    return first(bytes);
}
""",
        _HEAD
        + """\
struct four { __u8 bytes[4]; };

__attribute__((noinline)) int first(struct four *four)
{
    return four ? four->bytes[0] : 0;
}

SEC("xdp") int prog(struct xdp_md *ctx)
{
    struct four four = { { 1 } };
    return first(&four);
}
""",
        "xdp",
        "make the function static, or give it pointers to structures of a known size (and tag them __arg_nonnull)",
    ),
    "write-only-memory": (
        _TABLE
        + """\
    *result += 1; /* reads it first */
    return XDP_PASS;
}
""",
        _TABLE
        + """\
    *result = 1;
    return XDP_PASS;
}
""",
        "xdp",
        "",
    ),
}
