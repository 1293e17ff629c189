/* An L4 load balancer that encapsulates: the packet goes to a backend in an IPv4 header of its own (IPIP). */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "checksum.h"

#define RING 256
#define IP_OFFSET 0x1fff

struct service {
	__be32 address;
	__be16 port;
	__u16 protocol;
};

struct backend {
	__be32 address;
	__be32 source; /* of the outer header */
	__u8 mac[ETH_ALEN];
	__u64 packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct service);
	__type(value, __u32);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16 * RING);
	__type(key, __u32);
	__type(value, __u32);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

static __always_inline __u32 mix(__u32 value)
{
	value = (value ^ value >> 16) * 0x7FEB352D;
	value = (value ^ value >> 15) * 0x846CA68B;
	return value ^ value >> 16;
}

SEC("xdp")
int ipip_lb(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, outer_eth;
	struct iphdr *ip = (void *)(eth + 1);
	struct service service;
	struct backend *backend;
	struct udphdr *ports;
	__u32 *first, *chosen, slot, sum = 0;
	__u16 size, *words;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	if ((ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP) || ip->frag_off & bpf_htons(IP_OFFSET))
		return XDP_PASS;
	ports = (void *)ip + ip->ihl * 4; /* TCP has its ports at the same place */
	if ((void *)(ports + 1) > end)
		return XDP_DROP;
	service.address = ip->daddr;
	service.port = ports->dest;
	service.protocol = ip->protocol;
	first = bpf_map_lookup_elem(&services, &service);
	if (!first)
		return XDP_PASS;
	slot = *first + mix(bpf_ntohl(ip->saddr) ^ bpf_ntohs(ports->source)) % RING;
	chosen = bpf_map_lookup_elem(&ring, &slot);
	if (!chosen)
		return XDP_DROP;
	backend = bpf_map_lookup_elem(&backends, chosen);
	if (!backend)
		return XDP_DROP;
	__sync_fetch_and_add(&backend->packets, 1);
	size = bpf_ntohs(ip->tot_len) + sizeof(*ip);
	__builtin_memcpy(outer_eth.h_source, eth->h_dest, ETH_ALEN);
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	eth = data;
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	__builtin_memcpy(eth->h_dest, backend->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, outer_eth.h_source, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(size);
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = 64;
	ip->protocol = IPPROTO_IPIP;
	ip->check = 0;
	ip->saddr = backend->source;
	ip->daddr = backend->address;
	words = (void *)ip;
#pragma unroll
	for (int i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += words[i];
	ip->check = csum_fold(sum);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
