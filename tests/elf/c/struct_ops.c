#include "bpf.h"

struct sock;
struct tcp_congestion_ops___mine {
    __u32 (*ssthresh)(struct sock *sk);
    __u32 (*undo_cwnd)(struct sock *sk);
    __u32 flags;
    char name[16];
};

SEC("struct_ops/ssthresh") __u32 threshold(__u64 *args) { return 10; }
SEC("struct_ops") __u32 undo(__u64 *args) { return 20; }

SEC(".struct_ops") struct tcp_congestion_ops___mine ops = { (void *)threshold, (void *)undo, 0, "test" };
SEC(".struct_ops.link") struct tcp_congestion_ops___mine linked = { .name = "again" };
SEC("xdp") int good(struct xdp_md *ctx) { return XDP_PASS; }

static char _license[] SEC("license") = "GPL";
