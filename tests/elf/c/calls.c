#include "bpf.h"

volatile __u32 sink;

static __noinline int deepest(int x) { sink += x; return x + 1; }
static __noinline int middle(int x) { return deepest(x) * 3 + deepest(x + 1); }
__noinline int global_sub(int x) { return middle(x) + 5; }
__hidden __noinline int hidden_sub(int x) { return deepest(x) ^ 1; }
static int callback(__u32 index, void *ctx) { sink += index; return 0; }

SEC("xdp") int first(struct xdp_md *ctx) { return global_sub(ctx->rx_queue_index) ? XDP_PASS : XDP_DROP; }
SEC("xdp") int second(struct xdp_md *ctx) { return hidden_sub(ctx->ingress_ifindex) ? XDP_PASS : XDP_DROP; }
SEC("xdp") int plain(struct xdp_md *ctx) { return XDP_TX; }
SEC("xdp.frags") int third(struct xdp_md *ctx) { return middle(deepest(ctx->rx_queue_index)) ? XDP_PASS : XDP_DROP; }
SEC("xdp/devmap") int looped(struct xdp_md *ctx) { loop(4, callback, 0, 0); return XDP_PASS; }

static char _license[] SEC("license") = "GPL";
