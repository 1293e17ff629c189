/* Let only allowed VLANs pass, behind up to two tags. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define MAX_TAGS 2

struct vlan_hdr {
	__be16 tci;
	__be16 type;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u16);
	__type(value, __u8);
} allowed SEC(".maps");

SEC("xdp")
int vlan(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct vlan_hdr *tag = (void *)(eth + 1);
	__be16 type;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	type = eth->h_proto;
#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++, tag++) {
		__u16 id;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return XDP_DROP;
		id = bpf_ntohs(tag->tci) & 0xfff;
		if (!bpf_map_lookup_elem(&allowed, &id))
			return XDP_DROP;
		type = tag->type;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
