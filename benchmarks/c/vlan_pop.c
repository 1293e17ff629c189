/* Take the outer VLAN tag off, and leave its id to later readers in front of the packet (metadata). */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct vlan_hdr {
	__be16 tci;
	__be16 type;
};

SEC("xdp")
int vlan_pop(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, old;
	struct vlan_hdr *tag = (void *)(eth + 1);
	__be16 tci, type;
	__u32 *mark;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_8021Q) && eth->h_proto != bpf_htons(ETH_P_8021AD))
		return XDP_PASS;
	if ((void *)(tag + 1) > end)
		return XDP_DROP;
	old = *eth;
	tci = tag->tci;
	type = tag->type;
	if (bpf_xdp_adjust_head(ctx, sizeof(*tag)))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	eth = data;
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	__builtin_memcpy(eth, &old, 2 * ETH_ALEN);
	eth->h_proto = type;
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*mark)))
		return XDP_DROP;
	mark = (void *)(long)ctx->data_meta;
	if ((void *)(mark + 1) > (void *)(long)ctx->data)
		return XDP_DROP;
	*mark = bpf_ntohs(tci) & 0xfff;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
