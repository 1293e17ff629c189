#include "bpf.h"

struct stats { __u64 packets, bytes; struct stats *next; };

extern struct {
    __uint(type, HASH);
    __uint(max_entries, 16);
    __type(key, __u32);
    __type(value, struct stats);
} counts SEC(".maps");

extern volatile __u64 in_a;

__u32 limit = 100;
volatile __u64 both;
static volatile __u32 hidden_number = 9;
volatile __u64 in_b = 6;

__noinline int overridden(int x) { return x + 1; }
__weak __noinline int first_of_two(int x) { return x + 2000; }
static __noinline int local_helper(int x) { return x * 5 + hidden_number; }

__noinline int shared_verdict(struct stats *stats, int base)
{
    if (!stats)
        return 0;
    stats->bytes += base;
    return local_helper(base) > (int)limit;
}

SEC("xdp") int in_second(struct xdp_md *ctx)
{
    __u32 key = 1;
    struct stats fresh = { 1, 2 };

    in_b += in_a + both;
    map_update_elem(&counts, &key, &fresh, 0);
    return local_helper(2) == 19 ? overridden(XDP_DROP) : XDP_ABORTED;
}

char _license[] SEC("license") = "GPL";
