#include "bpf.h"

/* A congestion control that always has the same window, as a structure of TCP's operations. */
struct sock;
struct rate_sample;
struct tcp_congestion_ops {
    __u32 (*ssthresh)(struct sock *sk);
    void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
    void (*set_state)(struct sock *sk, __u8 new_state);
    __u32 (*undo_cwnd)(struct sock *sk);
    __u32 flags;
    char name[16];
};

int calls;

SEC("struct_ops") __u32 threshold(__u64 *args) { calls++; return 10; }
SEC("struct_ops/fixed_avoid") void avoid(__u64 *args) { calls++; }
SEC("struct_ops") __u32 undo(__u64 *args) { return 20; }

SEC(".struct_ops.link") struct tcp_congestion_ops fixed = {
    .ssthresh = (void *)threshold, .cong_avoid = (void *)avoid, .undo_cwnd = (void *)undo, .name = "bpf_fixed",
};
SEC(".struct_ops") struct tcp_congestion_ops stays = {
    .ssthresh = (void *)threshold, .cong_avoid = (void *)avoid, .undo_cwnd = (void *)undo, .name = "bpf_stays",
};
SEC("?.struct_ops.link") struct tcp_congestion_ops lame = { .name = "bpf_lame" };

static char _license[] SEC("license") = "GPL";
