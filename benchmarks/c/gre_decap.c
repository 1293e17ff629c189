/* Take GRE off packets of known tunnels: the inner IPv4 or IPv6 packet goes on in an Ethernet header of its own. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define GRE_CSUM 0x8000
#define GRE_KEY 0x2000
#define GRE_SEQ 0x1000
#define GRE_VERSION 0x0007

struct gre {
	__be16 flags;
	__be16 protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, __u64);
} tunnels SEC(".maps");

SEC("xdp")
int gre_decap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, old;
	struct iphdr *ip = (void *)(eth + 1);
	struct gre *gre;
	__u64 *packets;
	__be32 src;
	int size;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	if (ip->protocol != IPPROTO_GRE)
		return XDP_PASS;
	src = ip->saddr;
	packets = bpf_map_lookup_elem(&tunnels, &src);
	if (!packets)
		return XDP_PASS;
	size = ip->ihl * 4;
	gre = (void *)ip + size;
	if ((void *)(gre + 1) > end)
		return XDP_DROP;
	if (gre->flags & bpf_htons(GRE_VERSION))
		return XDP_DROP;
	if (gre->protocol != bpf_htons(ETH_P_IP) && gre->protocol != bpf_htons(ETH_P_IPV6))
		return XDP_DROP;
	__sync_fetch_and_add(packets, 1);
	size += sizeof(*gre);
	if (gre->flags & bpf_htons(GRE_CSUM))
		size += 4;
	if (gre->flags & bpf_htons(GRE_KEY))
		size += 4;
	if (gre->flags & bpf_htons(GRE_SEQ))
		size += 4;
	old = *eth;
	old.h_proto = gre->protocol;
	if (bpf_xdp_adjust_head(ctx, size))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	eth = data;
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	*eth = old;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
