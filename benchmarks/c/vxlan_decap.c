/* Take VXLAN off packets of known networks: the inner frame goes on, its network's mark in front (metadata). */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define VXLAN_PORT 4789
#define VXLAN_VALID 0x08000000

struct vxlan {
	__be32 flags;
	__be32 vni;
};

struct network {
	__u32 mark;
	__u32 packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct network);
} networks SEC(".maps");

SEC("xdp")
int vxlan_decap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct network *network, *meta;
	struct vxlan *vxlan;
	struct udphdr *udp;
	__u32 vni;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	if (ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > end)
		return XDP_DROP;
	if (udp->dest != bpf_htons(VXLAN_PORT))
		return XDP_PASS;
	vxlan = (void *)(udp + 1);
	if ((void *)(vxlan + 1) > end || !(vxlan->flags & bpf_htonl(VXLAN_VALID)))
		return XDP_DROP;
	vni = bpf_ntohl(vxlan->vni) >> 8;
	network = bpf_map_lookup_elem(&networks, &vni);
	if (!network)
		return XDP_DROP;
	__sync_fetch_and_add(&network->packets, 1);
	if (bpf_xdp_adjust_head(ctx, ip->ihl * 4 + sizeof(*eth) + sizeof(*udp) + sizeof(*vxlan)))
		return XDP_DROP;
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return XDP_DROP;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_DROP;
	meta->mark = network->mark;
	meta->packets = 0;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
