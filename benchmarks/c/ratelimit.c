/* A token bucket for each source address; the oldest sources are forgotten. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define RATE 1000ULL /* packets a second */
#define BURST 100ULL /* packets at once */
#define SECOND 1000000000ULL

struct bucket {
	__u64 tokens;
	__u64 filled;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __be32);
	__type(value, struct bucket);
} buckets SEC(".maps");

SEC("xdp")
int ratelimit(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct bucket *bucket;
	__u64 now, fresh;
	__be32 src;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	src = ip->saddr;
	now = bpf_ktime_get_ns();
	bucket = bpf_map_lookup_elem(&buckets, &src);
	if (!bucket) {
		struct bucket first = { .tokens = BURST - 1, .filled = now };

		bpf_map_update_elem(&buckets, &src, &first, BPF_ANY);
		return XDP_PASS;
	}
	fresh = (now - bucket->filled) * RATE / SECOND;
	if (fresh) {
		__u64 tokens = bucket->tokens + fresh;

		bucket->filled = now;
		bucket->tokens = tokens < BURST ? tokens : BURST;
	}
	if (!bucket->tokens)
		return XDP_DROP;
	bucket->tokens--;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
