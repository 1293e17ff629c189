/* Answer SYNs with the kernel's SYN cookies, and let ACKs through only with a cookie that is right. */
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "checksum.h"

struct mss_option {
	__u8 kind;
	__u8 size;
	__be16 mss;
};

struct segment {
	struct tcphdr tcp;
	struct mss_option option;
};

#define SIZE sizeof(struct segment)

SEC("xdp")
int syn_cookie(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	struct mss_option *option = (void *)(tcp + 1);
	struct segment head;
	__u8 mac[ETH_ALEN];
	__be32 address, seq;
	__be16 port;
	__u32 sum = 0, pseudo;
	__u16 *words;
	__s64 cookie;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP || ip->ihl != 5)
		return XDP_PASS;
	if ((void *)(option + 1) > end) /* every SYN in use has an option */
		return XDP_DROP;
	if (tcp->ack && !tcp->syn)
		return bpf_tcp_raw_check_syncookie_ipv4(ip, tcp) ? XDP_DROP : XDP_PASS;
	if (!tcp->syn || tcp->ack || tcp->rst || tcp->fin)
		return XDP_DROP;
	head = *(struct segment *)tcp;
	head.tcp.doff = SIZE / 4; /* the first option is that of the segment size */
	cookie = bpf_tcp_raw_gen_syncookie_ipv4(ip, &head.tcp, SIZE);
	if (cookie < 0)
		return XDP_DROP;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	ip->tot_len = bpf_htons(sizeof(*ip) + SIZE);
	ip->ttl = 64;
	ip->tos = 0;
	ip->id = 0;
	address = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = address;
	ip->check = 0;
	words = (void *)ip;
#pragma unroll
	for (int i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += words[i];
	ip->check = csum_fold(sum);
	port = tcp->source;
	seq = tcp->seq;
	*tcp = (struct tcphdr){
		.source = tcp->dest,
		.dest = port,
		.seq = bpf_htonl(cookie),
		.ack_seq = bpf_htonl(bpf_ntohl(seq) + 1),
		.doff = SIZE / 4,
		.syn = 1,
		.ack = 1,
		.window = bpf_htons(0xffff),
	};
	option->kind = 2;
	option->size = sizeof(*option);
	option->mss = bpf_htons(cookie >> 32);
	pseudo = (ip->saddr >> 16) + (ip->saddr & 0xffff) + (ip->daddr >> 16) + (ip->daddr & 0xffff) +
		 bpf_htons(IPPROTO_TCP) + bpf_htons(SIZE);
	tcp->check = csum_fold(bpf_csum_diff(NULL, 0, (void *)tcp, SIZE, pseudo));
	if (bpf_xdp_adjust_tail(ctx, (int)(sizeof(*eth) + sizeof(*ip) + SIZE) - (int)(end - data)))
		return XDP_DROP;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
