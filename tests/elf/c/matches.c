#include "bpf.h"

/* Needs clang 15: the question whether a type matches. */
#define CORE __attribute__((preserve_access_index))
#define matches(type) __builtin_preserve_type_info(*(type *)0, 2)

struct xdp_rxq_info;
struct xdp_buff { void *data; struct xdp_rxq_info *rxq; __u32 frame_sz; } CORE;
struct xdp_buff___other_size { __u64 frame_sz; } CORE;
struct xdp_buff___other_member { __u32 nothing_like_it; } CORE;
struct xdp_buff___other_pointee { struct task_struct *rxq; } CORE;
struct list_head { struct list_head *next, *prev; } CORE;
struct task_struct { int pid; char comm[16]; struct list_head tasks; } CORE;
struct task_struct___longer { char comm[17]; } CORE;
struct no_such_struct { int x; } CORE;
union bpf_attr { __u32 map_type; } CORE;
struct bpf_attr___struct { __u32 map_type; } CORE;
enum bpf_prog_type { BPF_PROG_TYPE_XDP = 99 };
enum bpf_prog_type___strange { BPF_PROG_TYPE_STRANGE = 1 };
typedef __u32 u32;
typedef __s32 u32___signed;
typedef int (*bpf_func_t)(int);
typedef struct { int counter; } atomic_t;
typedef struct { __u64 counter; } atomic_t___wide;

volatile __u64 sink;

SEC("xdp") int match(struct xdp_md *ctx)
{
    sink = matches(struct xdp_buff);
    sink = matches(struct xdp_buff___other_size);
    sink = matches(struct xdp_buff___other_member);
    sink = matches(struct xdp_buff___other_pointee);
    sink = matches(struct list_head);
    sink = matches(struct task_struct);
    sink = matches(struct task_struct___longer);
    sink = matches(struct no_such_struct);
    sink = matches(union bpf_attr);
    sink = matches(struct bpf_attr___struct);
    sink = matches(enum bpf_prog_type);
    sink = matches(enum bpf_prog_type___strange);
    sink = matches(u32);
    sink = matches(u32___signed);
    sink = matches(atomic_t);
    sink = matches(atomic_t___wide);
    return 0;
}

static char _license[] SEC("license") = "GPL";
