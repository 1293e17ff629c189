#include "bpf.h"

#ifdef PIN
#define PINNING __uint(pinning, 1);
#else
#define PINNING
#endif

struct hits { __u64 packets; __u64 bytes; };
struct prefix { __u32 length; __u8 address[4]; };

struct { __uint(type, HASH); __uint(max_entries, 100); __type(key, __u32); __type(value, struct hits); PINNING } seen SEC(".maps");
struct { __uint(type, LPM_TRIE); __uint(max_entries, 10000); __type(key, struct prefix); __type(value, struct hits); __uint(map_flags, 1); } blocked SEC(".maps");
struct { __uint(type, PERCPU_ARRAY); __uint(max_entries, 256); __type(key, __u32); __type(value, __u64); } per_cpu SEC(".maps");
struct { __uint(type, XSKMAP); __uint(max_entries, 64); __uint(key_size, 4); __uint(value_size, 4); } xsks SEC(".maps");
struct { __uint(type, RINGBUF); __uint(max_entries, 4096); __uint(numa_node, 0); } events SEC(".maps");
struct { __uint(type, BLOOM_FILTER); __uint(max_entries, 16); __type(value, __u32); __uint(map_extra, 3); } bloom SEC(".maps");

SEC("xdp") int firewall(struct xdp_md *ctx)
{
    __u32 key = ctx->rx_queue_index;
    struct prefix prefix = { 32, { 192, 0, 2, 1 } };
    struct hits *hit = map_lookup_elem(&seen, &key);
    __u64 *count = map_lookup_elem(&per_cpu, &key);

    if (hit)
        hit->packets += 1;
    if (count)
        *count += 1;
    if (map_lookup_elem(&blocked, &prefix))
        return XDP_DROP;
    return redirect_map(&xsks, key, XDP_PASS);
}

static char _license[] SEC("license") = "Dual MIT/GPL";
__u32 _version SEC("version") = 0x60000;
