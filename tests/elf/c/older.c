#include "bpf.h"

/* iproute2's map definition: an id, pinning and an inner map by id. */
struct bpf_elf_map { __u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx; };

struct bpf_elf_map SEC("maps") jumps = { PROG_ARRAY, 4, 4, 4, 0, 1, 0, 0, 0 };
struct bpf_elf_map SEC("maps") template = { ARRAY, 4, 8, 2, 0, 7, 0, 0, 1 };
struct bpf_elf_map SEC("maps") outer = { ARRAY_OF_MAPS, 4, 4, 2, 0, 0, 0, 7, 0 };

SEC("xdp_main") int start(struct xdp_md *ctx) { tail_call(ctx, &jumps, 2); return XDP_PASS; }
SEC("1/2") int second(struct xdp_md *ctx) { return XDP_DROP; }
SEC("1/0x3") int third(struct xdp_md *ctx) { __u32 key = 0; return map_lookup_elem(&outer, &key) ? XDP_TX : XDP_DROP; }
SEC("9/0") int lost(struct xdp_md *ctx) { return XDP_DROP; }
SEC("classifier/x") int classify(struct xdp_md *ctx) { return 0; }
SEC("prog") int plain(struct xdp_md *ctx) { return XDP_PASS; }

static char _license[] SEC("license") = "GPL";
