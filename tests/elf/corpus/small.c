/* The source of small.o: a little of everything, so that mutations reach every parser. */
#include "../c/bpf.h"

struct inner { __uint(type, ARRAY); __type(key, __u32); __type(value, __u64); __uint(max_entries, 1); };
struct inner one SEC(".maps");
struct {
    __uint(type, ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, __u32);
    __array(values, struct inner);
} outer SEC(".maps") = { .values = { &one } };
extern int CONFIG_HZ __kconfig __weak;
extern void bpf_rcu_read_lock(void) __ksym;
struct task_struct { int pid : 5, tgid; } __attribute__((preserve_access_index));
volatile __u32 counted = 3;

static __noinline int helper(int x) { return x + counted; }

SEC("xdp") int prog(struct xdp_md *ctx)
{
    struct task_struct *task = (void *)(long)ctx->data;
    __u32 key = CONFIG_HZ;

    map_lookup_elem(&outer, &key);
    bpf_rcu_read_lock();
    return helper(task->tgid + __builtin_preserve_field_info(task->pid, 4));
}

char _license[] SEC("license") = "GPL";
