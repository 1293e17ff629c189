#include "bpf.h"

struct stats { __u64 packets, bytes; struct stats *next; };

extern int shared_verdict(struct stats *stats, int base);
extern __u32 limit;
extern volatile __u64 both;

struct {
    __uint(type, HASH);
    __uint(max_entries, 16);
    __type(key, __u32);
    __type(value, struct stats);
} counts SEC(".maps");

struct {
    __uint(type, ARRAY);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, __u64);
} only_a SEC(".maps");

volatile __u64 in_a = 5;
static volatile __u32 hidden_number = 7;
const volatile __u32 tunable = 3;

__weak __noinline int overridden(int x) { return x + 1000; }
__weak __noinline int first_of_two(int x) { return x + 1; }
static __noinline int local_helper(int x) { return x * 3 + hidden_number; }
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

SEC("xdp") int in_first(struct xdp_md *ctx)
{
    __u32 key = 1;
    struct stats *found = map_lookup_elem(&counts, &key);

    if (!found)
        return local_helper(ctx->data_end - ctx->data) & 1 ? XDP_PASS : XDP_DROP;
    found->packets += limit + both + tunable;
    return shared_verdict(found, overridden(1)) + first_of_two(2);
}

SEC("xdp") int locked(struct xdp_md *ctx)
{
    __u32 key = 0;

    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    in_a++;
    return map_lookup_elem(&only_a, &key) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
