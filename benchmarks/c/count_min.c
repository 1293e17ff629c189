/* Heavy hitters by a count-min sketch of four rows; sources above the limit are dropped and reported once. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define LIMIT 20
#define COLUMNS 256
#define ROWS 4

struct row {
	__u32 cells[COLUMNS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ROWS);
	__type(key, __u32);
	__type(value, struct row);
} sketch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} heavy SEC(".maps");

static __always_inline __u32 column(__u32 value, __u32 seed)
{
	value = (value ^ value >> 16) * seed;
	return (value ^ value >> 15) % COLUMNS;
}

SEC("xdp")
int count_min(struct xdp_md *ctx)
{
	static const __u32 seeds[ROWS] = { 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F };
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	__u32 least = ~0U, host;
	__be32 src;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	src = ip->saddr;
	host = bpf_ntohl(src);
#pragma unroll
	for (__u32 i = 0; i < ROWS; i++) {
		__u32 key = i, *cell;
		struct row *row = bpf_map_lookup_elem(&sketch, &key);

		if (!row)
			return XDP_PASS;
		cell = &row->cells[column(host, seeds[i])];
		(*cell)++;
		if (*cell < least)
			least = *cell;
	}
	if (least <= LIMIT)
		return XDP_PASS;
	if (least == LIMIT + 1)
		bpf_ringbuf_output(&heavy, &src, sizeof(src), 0);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
