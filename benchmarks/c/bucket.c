/* A token bucket for each destination, shared by all CPUs under a spin lock. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct bucket {
	struct bpf_spin_lock lock;
	__u32 drops;
	__u64 tokens;
	__u64 stamp; /* when tokens were last added, in milliseconds */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __be32);
	__type(value, struct bucket);
} buckets SEC(".maps");

const volatile __u64 RATE = 1000; /* bytes a millisecond */
const volatile __u64 BURST = 100000; /* bytes at once */

SEC("xdp")
int bucket(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	__u64 now, size, tokens, rate = RATE, burst = BURST;
	struct bucket *bucket;
	__be32 dst;
	int verdict = XDP_PASS;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	dst = ip->daddr;
	bucket = bpf_map_lookup_elem(&buckets, &dst);
	if (!bucket)
		return XDP_PASS;
	now = bpf_ktime_get_ns() / 1000000;
	size = end - data;
	bpf_spin_lock(&bucket->lock);
	tokens = bucket->tokens + (now - bucket->stamp) * rate;
	if (tokens > burst)
		tokens = burst;
	bucket->stamp = now;
	if (tokens < size) {
		bucket->drops++;
		verdict = XDP_DROP;
	} else {
		tokens -= size;
	}
	bucket->tokens = tokens;
	bpf_spin_unlock(&bucket->lock);
	return verdict;
}

char LICENSE[] SEC("license") = "GPL";
