/* An L4 load balancer: a backend by consistent hashing, the destination rewritten, checksums updated. */
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "checksum.h"

#define TABLE 64
#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */

struct vip {
	__be32 address;
	__be16 port;
	__u16 protocol;
};

struct backend {
	__be32 address;
	__be16 port;
	__u8 mac[ETH_ALEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct vip);
	__type(value, __u32);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

static __always_inline __u32 mix(__u32 a, __u32 b, __u32 c)
{
	__u32 h = a * 0x9E3779B1 ^ b;

	h = (h << 13 | h >> 19) * 5 + 0xE6546B64;
	h ^= c;
	h = (h ^ h >> 16) * 0x85EBCA6B;
	return h ^ h >> 13;
}

SEC("xdp")
int l4lb(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct backend *backend;
	struct tcphdr *tcp = NULL;
	struct udphdr *udp;
	struct vip vip;
	__u32 *first, *chosen, slot, check;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT))
		return XDP_DROP;
	udp = (void *)ip + ip->ihl * 4; /* TCP has its ports at the same place */
	if (ip->protocol == IPPROTO_TCP) {
		tcp = (void *)udp;
		if ((void *)(tcp + 1) > end)
			return XDP_DROP;
	} else if (ip->protocol != IPPROTO_UDP) {
		return XDP_PASS;
	} else if ((void *)(udp + 1) > end) {
		return XDP_DROP;
	}
	vip.address = ip->daddr;
	vip.port = udp->dest;
	vip.protocol = ip->protocol;
	first = bpf_map_lookup_elem(&vips, &vip);
	if (!first)
		return XDP_PASS;
	slot = *first + mix(bpf_ntohl(ip->saddr), (__u32)bpf_ntohs(udp->source) << 16 | bpf_ntohs(udp->dest),
			    ip->protocol) % TABLE;
	chosen = bpf_map_lookup_elem(&ring, &slot);
	if (!chosen)
		return XDP_DROP;
	backend = bpf_map_lookup_elem(&backends, chosen);
	if (!backend || !backend->port)
		return XDP_DROP;
	if (tcp) {
		tcp->check = csum_replace2(csum_replace4(tcp->check, ip->daddr, backend->address), tcp->dest,
					   backend->port);
		tcp->dest = backend->port;
	} else {
		if (udp->check)
			udp->check = csum_replace2(csum_replace4(udp->check, ip->daddr, backend->address),
						   udp->dest, backend->port);
		udp->dest = backend->port;
	}
	check = csum_replace4(ip->check, ip->daddr, backend->address);
	check += bpf_htons(0x0100); /* for the time to live */
	ip->check = check + (check >= 0xffff);
	ip->ttl--;
	ip->daddr = backend->address;
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, backend->mac, ETH_ALEN);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
