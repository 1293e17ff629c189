#include "bpf.h"

struct bpf_map_def { __u32 type, key_size, value_size, max_entries, map_flags, more, still_more; };

struct bpf_map_def SEC("maps/one") one = { HASH, 4, 8, 10 };
struct bpf_map_def SEC("maps/two") two = { ARRAY, 4, 4, 3 };

SEC("xdp") int reader(struct xdp_md *ctx)
{
    __u32 key = 0;

    return map_lookup_elem(&one, &key) && map_lookup_elem(&two, &key) ? XDP_PASS : XDP_DROP;
}

static char _license[] SEC("license") = "GPL";
