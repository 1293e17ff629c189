/* Answer ARP requests for the addresses in a table. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define ARPOP_REQUEST 1
#define ARPOP_REPLY 2

struct arp {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_size;
	__u8 protocol_size;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender_ip;
	__u8 target_mac[ETH_ALEN];
	__be32 target_ip;
} __attribute__((packed));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __be32);
	__type(value, __u8[ETH_ALEN]);
} owners SEC(".maps");

SEC("xdp")
int arp_reply(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct arp *arp = (void *)(eth + 1);
	__be32 target;
	__u8 *mac;

	if ((void *)(arp + 1) > end || eth->h_proto != bpf_htons(ETH_P_ARP))
		return XDP_PASS;
	if (arp->operation != bpf_htons(ARPOP_REQUEST))
		return XDP_PASS;
	target = arp->target_ip;
	mac = bpf_map_lookup_elem(&owners, &target);
	if (!mac)
		return XDP_PASS;
	arp->operation = bpf_htons(ARPOP_REPLY);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(arp->sender_mac, mac, ETH_ALEN);
	arp->target_ip = arp->sender_ip;
	arp->sender_ip = target;
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
