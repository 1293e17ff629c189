#include "bpf.h"

/* Map definitions as aya's macros leave them behind: id and pinning follow the five numbers of libbpf. */
struct definition { __u32 type, key_size, value_size, max_entries, map_flags, id, pinning; };

SEC("maps") struct definition COUNTS = { .type = ARRAY, .key_size = 4, .value_size = 8, .max_entries = 16 };
SEC("maps") struct definition SHARED = { .type = HASH, .key_size = 4, .value_size = 8, .max_entries = 16, .pinning = 1 };

SEC("xdp") int counts(struct xdp_md *ctx)
{
    __u32 key = 0;
    return map_lookup_elem(&COUNTS, &key) && !map_lookup_elem(&SHARED, &key) ? XDP_PASS : XDP_ABORTED;
}

static char _license[] SEC("license") = "GPL";
