/* Steer QUIC by the first bytes of the destination connection id; count versions of long headers. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define LONGEST 20

struct long_header {
	__u8 first;
	__be32 version;
	__u8 dcid_length;
} __attribute__((packed));

struct connection_id {
	__u8 length;
	__u8 data[LONGEST];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __be32);
	__type(value, __u64);
} versions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct connection_id);
	__type(value, __u32);
} connections SEC(".maps");

SEC("xdp")
int quic(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct connection_id cid = {};
	struct long_header *header;
	struct udphdr *udp;
	__u64 *count, one = 1;
	__be32 version;
	__u8 *first, *id;
	__u32 kind;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > end || udp->dest != bpf_htons(443))
		return XDP_PASS;
	first = (void *)(udp + 1);
	if ((void *)(first + 1) > end || !(*first & 0x40))
		return XDP_DROP;
	if (!(*first & 0x80))
		return (void *)(first + 9) <= end && first[1] == 7 ? XDP_TX : XDP_PASS;
	header = (void *)first;
	if ((void *)(header + 1) > end)
		return XDP_PASS;
	if (header->dcid_length > LONGEST)
		return XDP_DROP;
	version = header->version;
	count = bpf_map_lookup_elem(&versions, &version);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&versions, &version, &one, BPF_ANY);
	cid.length = header->dcid_length;
	id = (void *)(header + 1);
	for (int i = 0; i < LONGEST && i < cid.length; i++) {
		if ((void *)(id + i + 1) > end)
			return XDP_PASS;
		cid.data[i] = id[i];
	}
	if (bpf_map_lookup_elem(&connections, &cid))
		return XDP_PASS;
	kind = header->first >> 4 & 3;
	bpf_map_update_elem(&connections, &cid, &kind, BPF_ANY);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
