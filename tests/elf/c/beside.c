/* Programs that run one behind the other, as libxdp's run configuration says. Each counts its packets. */
#include "bpf.h"

struct { __uint(priority, 10); __uint(XDP_DROP, 1); } _early SEC(".xdp_run_config");
struct { __uint(priority, 60); __uint(XDP_PASS, 0); } _late SEC(".xdp_run_config");

struct {
    __uint(type, ARRAY);
    __uint(max_entries, 3);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

static __always_inline int count(__u32 key, int verdict)
{
    __u64 *value = map_lookup_elem(&counts, &key);
    if (value)
        __sync_fetch_and_add(value, 1);
    return verdict;
}

SEC("xdp") int early(struct xdp_md *ctx) { return count(0, XDP_DROP); }
SEC("xdp") int late(struct xdp_md *ctx) { return count(1, XDP_TX); }
SEC("xdp") int plain(struct xdp_md *ctx) { return count(2, XDP_PASS); }
