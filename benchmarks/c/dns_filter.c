/* Drop DNS queries for blocked names: the name in lower case, hashed label by label. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define FNV_OFFSET 0xCBF29CE484222325ULL
#define FNV_PRIME 0x100000001B3ULL
#define LONGEST 96
#define DNS_QUERY_MASK 0xf800 /* QR and opcode */

struct dns {
	__be16 id;
	__be16 flags;
	__be16 questions;
	__be16 answers;
	__be16 authorities;
	__be16 additional;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} blocked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} types SEC(".maps");

SEC("xdp")
int dns_filter(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp;
	struct dns *dns;
	__u64 digest = FNV_OFFSET, *count;
	__u32 *hit, type;
	__u8 *at, left = 0;
	__be16 *qtype;
	int i;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	if (ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	udp = (void *)ip + ip->ihl * 4;
	if ((void *)(udp + 1) > end)
		return XDP_DROP;
	if (udp->dest != bpf_htons(53))
		return XDP_PASS;
	dns = (void *)(udp + 1);
	if ((void *)(dns + 1) > end)
		return XDP_DROP;
	if (dns->flags & bpf_htons(DNS_QUERY_MASK) || !dns->questions)
		return XDP_PASS;
	at = (void *)(dns + 1);
	for (i = 0; i < LONGEST; i++, at++) {
		__u8 c;

		if ((void *)(at + 1) > end)
			return XDP_DROP;
		c = *at;
		if (!left) {
			if (!c)
				break;
			if (c > 63)
				return XDP_DROP;
			left = c;
		} else {
			if (c >= 'A' && c <= 'Z')
				c += 'a' - 'A';
			left--;
		}
		digest = (digest ^ c) * FNV_PRIME;
	}
	if (i == LONGEST)
		return XDP_DROP;
	barrier_var(at); /* or clang loses what the check below says */
	qtype = (void *)(at + 1);
	if ((void *)(qtype + 1) > end)
		return XDP_DROP;
	type = bpf_ntohs(*qtype);
	if (type < 256) {
		count = bpf_map_lookup_elem(&types, &type);
		if (!count)
			return XDP_DROP;
		(*count)++;
	}
	hit = bpf_map_lookup_elem(&blocked, &digest);
	if (hit) {
		__sync_fetch_and_add(hit, 1);
		return XDP_DROP;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
