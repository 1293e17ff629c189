/* Lower the MSS of TCP SYNs to 1400, with the checksum kept right. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "checksum.h"

#define MSS 1400
#define IP_OFFSET 0x1fff
#define MOST 12

struct option {
	__u8 kind;
	__u8 size;
	__be16 value;
};

SEC("xdp")
int mss_clamp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp;
	void *at;
	__u32 left;
	__u8 odd = 0;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->protocol != IPPROTO_TCP || ip->frag_off & bpf_htons(IP_OFFSET))
		return XDP_PASS;
	tcp = (void *)ip + ip->ihl * 4;
	if ((void *)(tcp + 1) > end || !tcp->syn)
		return XDP_PASS;
	at = tcp + 1;
	left = tcp->doff > 5 ? (tcp->doff - 5) * 4 : 0;
	for (int i = 0; i < MOST && left >= 4; i++) {
		struct option *option = at;

		if ((void *)(option + 1) > end || option->kind == 0)
			break;
		if (option->kind == 1) {
			at++;
			left--;
			odd ^= 1;
			continue;
		}
		if (option->kind == 2 && option->size == 4) {
			if (bpf_ntohs(option->value) > MSS && !odd) {
				tcp->check = csum_replace2(tcp->check, option->value, bpf_htons(MSS));
				option->value = bpf_htons(MSS);
			}
			return XDP_PASS;
		}
		if (option->size < 2 || option->size > left)
			break;
		odd ^= option->size & 1;
		left -= option->size;
		at += option->size;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
