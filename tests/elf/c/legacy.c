#include "bpf.h"

struct bpf_map_def { __u32 type, key_size, value_size, max_entries, map_flags; };

struct bpf_map_def first_map SEC("maps") = { ARRAY, 4, 8, 16, 0 };
struct bpf_map_def second_map SEC("maps") = { LPM_TRIE, 8, 4, 32, 1 };

SEC("xdp") int old(struct xdp_md *ctx)
{
    __u32 key = 3;
    __u64 *value = map_lookup_elem(&first_map, &key);

    if (value)
        *value += 1;
    return map_lookup_elem(&second_map, &(__u64){ 1 }) ? XDP_DROP : XDP_PASS;
}

static char _license[] SEC("license") = "GPL";
