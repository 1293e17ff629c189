#include "bpf.h"

struct inner { __uint(type, ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); };
struct inner inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
    __uint(type, ARRAY_OF_MAPS);
    __uint(max_entries, 4);
    __type(key, __u32);
    __array(values, struct inner);
} outer SEC(".maps") = { .values = { [0] = &inner_a, [2] = &inner_b } };

SEC("xdp") int drop(struct xdp_md *ctx) { return XDP_DROP; }
SEC("xdp") int bounce(struct xdp_md *ctx) { return XDP_TX; }

struct {
    __uint(type, PROG_ARRAY);
    __uint(max_entries, 8);
    __uint(key_size, 4);
    __array(values, int(void *));
} jumps SEC(".maps") = { .values = { [1] = (void *)&drop, [3] = (void *)&bounce } };

SEC("xdp") int entry(struct xdp_md *ctx)
{
    __u32 key = 0;
    void *map = map_lookup_elem(&outer, &key);
    __u64 *value = map ? map_lookup_elem(map, &key) : 0;

    if (value)
        *value += 1;
    tail_call(ctx, &jumps, ctx->rx_queue_index);
    return XDP_PASS;
}

static char _license[] SEC("license") = "GPL";
