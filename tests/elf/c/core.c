#include "bpf.h"

#define CORE __attribute__((preserve_access_index))
#define offset_of(field) __builtin_preserve_field_info(field, 0)
#define size_of(field) __builtin_preserve_field_info(field, 1)
#define exists(field) __builtin_preserve_field_info(field, 2)
#define is_signed(field) __builtin_preserve_field_info(field, 3)
#define left_shift(field) __builtin_preserve_field_info(field, 4)
#define right_shift(field) __builtin_preserve_field_info(field, 5)

struct xdp_rxq_info { __u32 queue_index; } CORE;
struct xdp_buff { void *data; struct xdp_rxq_info *rxq; __u64 frame_sz; } CORE; /* frame_sz has 4 bytes in the kernel */
struct xdp_buff___gone { int nothing_like_this; } CORE;
struct sk_buff___mine { __u32 len; __u8 padding; __u8 pkt_type : 3, ip_summed : 2; char cb[48]; } CORE;
struct no_such_struct { int x; } CORE;
struct list_head { struct list_head *next, *prev; } CORE;
struct task_struct { int pid; char comm[16]; struct list_head tasks; } CORE;
enum bpf_prog_type___short { BPF_PROG_TYPE_XDP = 77, BPF_PROG_TYPE_NEVER = 1234 };
typedef __u32 u32;

volatile __u64 sink;

#define BUFF ((struct xdp_buff *)0)
#define SKB ((struct sk_buff___mine *)0)
#define TASK ((struct task_struct *)0)

SEC("xdp") int trace(__u64 *args)
{
    struct xdp_buff *buff = (void *)args[0];
    struct task_struct *task = (void *)args[1];

    sink = buff->rxq->queue_index;
    sink = buff->frame_sz;
    sink = task->pid;
    sink = task->comm[5];
    sink = (long)task->tasks.prev;
    sink = (long)&task->tasks;
    return 0;
}

SEC("xdp") int fields(struct xdp_md *ctx)
{
    sink = offset_of(BUFF->frame_sz);
    sink = size_of(BUFF->frame_sz);
    sink = exists(((struct xdp_buff___gone *)0)->nothing_like_this);
    sink = exists(BUFF->rxq);
    sink = exists(((struct no_such_struct *)0)->x);
    sink = is_signed(TASK->pid);
    sink = is_signed(SKB->len);
    sink = offset_of(SKB->pkt_type);
    sink = size_of(SKB->pkt_type);
    sink = left_shift(SKB->ip_summed);
    sink = right_shift(SKB->ip_summed);
    sink = left_shift(SKB->len);
    sink = offset_of(SKB->cb[7]);
    sink = offset_of(TASK->tasks.prev);
    return 0;
}

SEC("xdp") int types(struct xdp_md *ctx)
{
    sink = __builtin_preserve_type_info(*(struct xdp_buff *)0, 0);
    sink = __builtin_preserve_type_info(*(struct no_such_struct *)0, 0);
    sink = __builtin_preserve_type_info(*(struct xdp_buff *)0, 1);
    sink = __builtin_preserve_type_info(*(u32 *)0, 1);
    sink = __builtin_btf_type_id(*(struct xdp_buff *)0, 1);
    sink = __builtin_preserve_enum_value(*(typeof(enum bpf_prog_type___short) *)BPF_PROG_TYPE_XDP, 0);
    sink = __builtin_preserve_enum_value(*(typeof(enum bpf_prog_type___short) *)BPF_PROG_TYPE_XDP, 1);
    sink = __builtin_preserve_enum_value(*(typeof(enum bpf_prog_type___short) *)BPF_PROG_TYPE_NEVER, 0);
    return 0;
}

SEC("xdp") int local_id(struct xdp_md *ctx) { return __builtin_btf_type_id(*(struct xdp_buff *)0, 0); }

SEC("xdp") int poisoned(__u64 *args)
{
    struct no_such_struct *none = (void *)args[0];

    if (exists(none->x))
        sink = none->x;
    sink = __builtin_preserve_enum_value(*(typeof(enum bpf_prog_type___short) *)BPF_PROG_TYPE_NEVER, 1);
    return 0;
}

static char _license[] SEC("license") = "GPL";
