/* A list of rules walked in order: the first that matches decides. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define MOST 16

struct rule {
	__u32 network;
	__u32 mask;
	__u16 low;
	__u16 high;
	__u8 protocol;
	_Bool enabled;
	__u32 action;
	__u64 hits;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MOST);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

SEC("xdp")
int acl(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	void *next;
	__u32 src;
	__u16 port = 0;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	next = (void *)ip + ip->ihl * 4;
	if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = next;

		if ((void *)(tcp + 1) > end)
			return XDP_DROP;
		port = bpf_ntohs(tcp->dest);
	} else if (ip->protocol == IPPROTO_UDP) {
		struct udphdr *udp = next;

		if ((void *)(udp + 1) > end)
			return XDP_DROP;
		port = bpf_ntohs(udp->dest);
	}
	src = bpf_ntohl(ip->saddr);
	for (__u32 i = 0; i < MOST; i++) {
		__u32 key = i;
		struct rule *rule = bpf_map_lookup_elem(&rules, &key);

		if (!rule)
			return XDP_DROP;
		if (rule->enabled && (src & rule->mask) == rule->network && rule->low <= port && port <= rule->high &&
		    (!rule->protocol || rule->protocol == ip->protocol)) {
			rule->hits++;
			return rule->action;
		}
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
