#include "bpf.h"

struct tcp_congestion_ops { char name[16]; };

SEC(".struct_ops") struct tcp_congestion_ops ops = { "test" };
SEC("xdp") int good(struct xdp_md *ctx) { return XDP_PASS; }

static char _license[] SEC("license") = "GPL";
