/* Answer IPv4 packets above the MTU that must not be fragmented: ICMP "fragmentation needed" with the MTU to use. */
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/icmp.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "checksum.h"

#define IP_DF 0x4000
#define QUOTED (sizeof(struct iphdr) + 8) /* of the packet in question */
#define KEPT (sizeof(struct ethhdr) + QUOTED)
#define ADDED (sizeof(struct iphdr) + sizeof(struct icmphdr))
#define ME 0x0a0000fe

const volatile __u32 MTU = 1400;

SEC("xdp")
int too_big(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, old;
	struct iphdr *ip = (void *)(eth + 1);
	struct icmphdr *icmp;
	__u32 sum = 0;
	__u16 *words;
	__be32 target;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (bpf_ntohs(ip->tot_len) <= MTU || !(ip->frag_off & bpf_htons(IP_DF)))
		return XDP_PASS;
	if (data + KEPT > end)
		return XDP_DROP;
	old = *eth;
	target = ip->saddr;
	if (bpf_xdp_adjust_tail(ctx, (int)KEPT - (int)(end - data)))
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, -(int)ADDED))
		return XDP_PASS;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	eth = data;
	ip = (void *)(eth + 1);
	icmp = (void *)(ip + 1);
	if ((void *)(icmp + 1) + QUOTED > end)
		return XDP_PASS;
	__builtin_memcpy(eth->h_dest, old.h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, old.h_dest, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(ADDED + QUOTED);
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = 64;
	ip->protocol = IPPROTO_ICMP;
	ip->check = 0;
	ip->saddr = bpf_htonl(ME);
	ip->daddr = target;
	words = (void *)ip;
#pragma unroll
	for (int i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += words[i];
	ip->check = csum_fold(sum);
	icmp->type = ICMP_DEST_UNREACH;
	icmp->code = ICMP_FRAG_NEEDED;
	icmp->checksum = 0;
	icmp->un.gateway = bpf_htonl(MTU);
	icmp->checksum = csum_fold(bpf_csum_diff(NULL, 0, (void *)icmp, sizeof(*icmp) + QUOTED, 0));
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
