/* Open port 22 to those who knocked at 7000, 8000 and 9000 in this order. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define OPEN 3

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __be32);
	__type(value, __u8);
} state SEC(".maps");

SEC("xdp")
int port_knock(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp;
	__u8 *step, now, next;
	__u16 port;
	__be32 src;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	if (ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	tcp = (void *)ip + ip->ihl * 4;
	if ((void *)(tcp + 1) > end)
		return XDP_DROP;
	port = bpf_ntohs(tcp->dest);
	src = ip->saddr;
	step = bpf_map_lookup_elem(&state, &src);
	now = step ? *step : 0;
	if (port == 22)
		return now == OPEN ? XDP_PASS : XDP_DROP;
	if (now >= OPEN || (port != 7000 && port != 8000 && port != 9000))
		return XDP_PASS;
	if (port == 7000 + now * 1000) {
		next = now + 1;
		bpf_map_update_elem(&state, &src, &next, BPF_ANY);
	} else {
		bpf_map_delete_elem(&state, &src);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
