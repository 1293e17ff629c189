/* Spread flows over CPUs (cpumap): packets of one pair of addresses stay together. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define MOST_CPUS 64

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, MOST_CPUS);
	__type(key, __u32);
	__type(value, __u32);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MOST_CPUS);
	__type(key, __u32);
	__type(value, __u64);
} steered SEC(".maps");

const volatile __u32 used = 2; /* how many CPUs take part */

SEC("xdp")
int cpu_steer(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__u32 digest, cpu;
	__u64 *count;

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end)
			return XDP_PASS;
		digest = bpf_ntohl(ip->saddr) + bpf_ntohl(ip->daddr);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip6 = (void *)(eth + 1);

		if ((void *)(ip6 + 1) > end)
			return XDP_PASS;
		digest = bpf_ntohl(*(__be32 *)ip6) & 0xfffff;
	} else {
		return XDP_PASS;
	}
	digest ^= digest >> 16;
	digest *= 0x7FEB352D;
	digest ^= digest >> 15;
	cpu = digest % used;
	count = bpf_map_lookup_elem(&steered, &cpu);
	if (!count)
		return XDP_PASS;
	(*count)++;
	return bpf_redirect_map(&cpus, cpu, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
