/* Walk IPv6 extension headers to the transport protocol; drop routing headers of type 0 and endless chains. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ipv6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define MOST 6
#define IP6_OFFSET 0xfff8

struct extension {
	__u8 next_header;
	__u8 length;
	__u8 kind;
	__u8 rest;
};

struct fragment {
	__u8 next_header;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} protocols SEC(".maps");

SEC("xdp")
int ext_headers(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct ipv6hdr *ip = (void *)(eth + 1);
	void *at = ip + 1;
	__u32 key;
	__u64 *count;
	__u8 kind;
	int i;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
	if (at > end)
		return XDP_DROP;
	kind = ip->nexthdr;
	for (i = 0; i < MOST; i++) {
		if (kind == IPPROTO_FRAGMENT) {
			struct fragment *fragment = at;

			if ((void *)(fragment + 1) > end)
				return XDP_DROP;
			if (fragment->offset & bpf_htons(IP6_OFFSET))
				return XDP_PASS;
			kind = fragment->next_header;
			at = fragment + 1;
		} else if (kind == IPPROTO_HOPOPTS || kind == IPPROTO_ROUTING || kind == IPPROTO_DSTOPTS) {
			struct extension *extension = at;

			if ((void *)(extension + 1) > end)
				return XDP_DROP;
			if (kind == IPPROTO_ROUTING && !extension->kind)
				return XDP_DROP;
			kind = extension->next_header;
			at += extension->length * 8 + 8;
		} else {
			break;
		}
	}
	if (i == MOST)
		return XDP_DROP;
	key = kind;
	count = bpf_map_lookup_elem(&protocols, &key);
	if (!count)
		return XDP_DROP;
	(*count)++;
	return kind == IPPROTO_NONE ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
