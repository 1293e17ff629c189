/* Forward by longest prefix to a next hop: addresses rewritten, time to live lowered, out by its interface. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct prefix {
	__u32 length;
	__be32 address;
};

struct next_hop {
	__u32 ifindex;
	__u8 source[ETH_ALEN];
	__u8 target[ETH_ALEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, struct next_hop);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} sent SEC(".maps");

SEC("xdp")
int router(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct next_hop *hop;
	struct prefix prefix;
	__u64 *count, one = 1;
	__u32 ifindex, check;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ttl <= 1)
		return XDP_PASS;
	prefix.length = 32;
	prefix.address = ip->daddr;
	hop = bpf_map_lookup_elem(&routes, &prefix);
	if (!hop)
		return XDP_PASS;
	ifindex = hop->ifindex;
	if (!ifindex)
		return XDP_DROP;
	check = ip->check + bpf_htons(0x0100);
	ip->check = check + (check >= 0xffff);
	ip->ttl--;
	__builtin_memcpy(eth->h_source, hop->source, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, hop->target, ETH_ALEN);
	count = bpf_map_lookup_elem(&sent, &ifindex);
	if (count)
		(*count)++;
	else
		bpf_map_update_elem(&sent, &ifindex, &one, BPF_ANY);
	return bpf_redirect(ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
