/* Report one packet in some to user space, through a ring buffer. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define ONE_IN 4

struct sample {
	__u64 time;
	__be32 src;
	__be32 dst;
	__u32 length;
	__u16 protocol;
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} packets SEC(".maps");

SEC("xdp")
int sample(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	__u32 zero = 0, *count;
	struct sample *record;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	count = bpf_map_lookup_elem(&packets, &zero);
	if (!count || __sync_fetch_and_add(count, 1) % ONE_IN)
		return XDP_PASS;
	record = bpf_ringbuf_reserve(&samples, sizeof(*record), 0);
	if (!record)
		return XDP_PASS;
	record->time = bpf_ktime_get_ns();
	record->src = ip->saddr;
	record->dst = ip->daddr;
	record->length = end - data;
	record->protocol = ip->protocol;
	record->pad = 0;
	bpf_ringbuf_submit(record, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
