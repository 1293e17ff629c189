/* A parser in pieces: the program for each kind of header is in a table, and tail calls lead there. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

enum { PARSE_IPV4, PARSE_IPV6, PARSE_VLAN };

struct vlan_hdr {
	__be16 tci;
	__be16 type;
};

int untag(struct xdp_md *ctx);
int ipv4(struct xdp_md *ctx);
int ipv6(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 8);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct xdp_md *));
} parsers SEC(".maps") = {
	.values = { [PARSE_IPV4] = &ipv4, [PARSE_IPV6] = &ipv6, [PARSE_VLAN] = &untag },
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} protocols SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} tagged SEC(".maps");

static __always_inline int parse(struct xdp_md *ctx, __be16 kind)
{
	switch (kind) {
	case bpf_htons(ETH_P_IP):
		bpf_tail_call(ctx, &parsers, PARSE_IPV4);
		break;
	case bpf_htons(ETH_P_IPV6):
		bpf_tail_call(ctx, &parsers, PARSE_IPV6);
		break;
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		bpf_tail_call(ctx, &parsers, PARSE_VLAN);
		break;
	}
	return XDP_PASS;
}

SEC("xdp")
int tail_parser(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	return parse(ctx, eth->h_proto);
}

/* Take the tag off, so that the next program finds its header where it always is. */
SEC("xdp")
int untag(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, old;
	struct vlan_hdr *tag = (void *)(eth + 1);
	__u32 zero = 0;
	__u64 *count;

	if ((void *)(tag + 1) > end)
		return XDP_DROP;
	old = *eth;
	old.h_proto = tag->type;
	count = bpf_map_lookup_elem(&tagged, &zero);
	if (!count)
		return XDP_DROP;
	(*count)++;
	if (bpf_xdp_adjust_head(ctx, sizeof(*tag)))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	eth = data;
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	*eth = old;
	return parse(ctx, old.h_proto);
}

SEC("xdp")
int ipv4(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	__u32 protocol;
	__u64 *count;

	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	protocol = ip->protocol;
	count = bpf_map_lookup_elem(&protocols, &protocol);
	if (!count)
		return XDP_DROP;
	(*count)++;
	return ip->version == 4 && ip->ttl ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int ipv6(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = data + sizeof(struct ethhdr);
	__u32 protocol;
	__u64 *count;

	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	protocol = ip->nexthdr;
	count = bpf_map_lookup_elem(&protocols, &protocol);
	if (!count)
		return XDP_DROP;
	(*count)++;
	return protocol != IPPROTO_NONE && ip->hop_limit ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
