#include "bpf.h"

struct limits { __u32 low, high; };

volatile __u32 port = 80;
volatile __s32 signed_value = -1;
volatile __u64 total;
static volatile __u32 calls;
const volatile __u16 threshold = 7;
const volatile bool enabled = 1;
const volatile struct limits limits = { 1, 2 };
volatile __u32 extra SEC(".data.extra") = 9;
const volatile __u32 table[4] SEC(".rodata.table") = { 1, 2, 3, 4 };

SEC("xdp") int count(struct xdp_md *ctx)
{
    static volatile __u32 inner;

    inner += 1;
    calls += 1;
    total += port + signed_value + threshold + limits.high + extra + table[2];
    return enabled ? XDP_PASS : XDP_DROP;
}

static char _license[] SEC("license") = "GPL";
