#include "bpf.h"

SEC("xdp") int always(struct xdp_md *ctx) { return XDP_PASS; }
SEC("?xdp") int optional(struct xdp_md *ctx) { return XDP_PASS; }

static char _license[] SEC("license") = "GPL";
