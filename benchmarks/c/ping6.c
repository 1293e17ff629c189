/* Answer ICMPv6 echo requests to one address. */
#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ipv6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "checksum.h"

SEC("xdp")
int ping6(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct ipv6hdr *ip = (void *)(eth + 1);
	struct icmp6hdr *icmp = (void *)(ip + 1);
	struct in6_addr mine;
	__u8 mac[ETH_ALEN];

	if ((void *)(icmp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
	mine = ip->daddr; /* 2001:db8::1 */
	if (ip->nexthdr != IPPROTO_ICMPV6 || mine.s6_addr32[0] != bpf_htonl(0x20010db8) || mine.s6_addr32[1] ||
	    mine.s6_addr32[2] || mine.s6_addr32[3] != bpf_htonl(1))
		return XDP_PASS;
	if (icmp->icmp6_type != ICMPV6_ECHO_REQUEST || icmp->icmp6_code)
		return XDP_PASS;
	icmp->icmp6_type = ICMPV6_ECHO_REPLY;
	icmp->icmp6_cksum = csum_replace2(icmp->icmp6_cksum, bpf_htons(ICMPV6_ECHO_REQUEST << 8),
					  bpf_htons(ICMPV6_ECHO_REPLY << 8));
	ip->daddr = ip->saddr;
	ip->saddr = mine;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	ip->hop_limit = 64;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
