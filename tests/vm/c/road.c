/* XDP programs that use what real ones use; each runs on the same packets in the machine and in the kernel. */
#include "../../elf/c/bpf.h"

static long (*for_each_map_elem)(void *map, void *callback, void *ctx, __u64 flags) = (void *)164;
static long (*adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;
static long (*csum_diff)(void *from, __u32 from_size, void *to, __u32 to_size, __u32 seed) = (void *)28;

struct ethernet {
    __u8 dst[6], src[6];
    __u16 type;
} __attribute__((packed));
struct ipv4 {
    __u8 version_ihl, tos;
    __u16 length, id, frag;
    __u8 ttl, protocol;
    __u16 check;
    __u32 src, dst;
} __attribute__((packed));
struct ports {
    __u16 src, dst;
};
struct flow {
    __u32 src, dst;
    __u16 sport, dport;
    __u32 protocol;
};
struct stats {
    __u64 packets, bytes;
};
struct prefix {
    __u32 length, address;
};

struct { __uint(type, HASH); __uint(max_entries, 64); __type(key, struct flow); __type(value, struct stats); } flows SEC(".maps");
struct { __uint(type, ARRAY); __uint(max_entries, 256); __type(key, __u32); __type(value, struct stats); } protocols SEC(".maps");
struct { __uint(type, LPM_TRIE); __uint(max_entries, 16); __uint(map_flags, 1); __type(key, struct prefix); __type(value, __u32); } blocked SEC(".maps");

int firewall_impl(struct xdp_md *ctx);
int answer_impl(struct xdp_md *ctx);
struct {
    __uint(type, PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4);
    __array(values, int(void *));
} steps SEC(".maps") = {.values = {[1] = (void *)&firewall_impl, [2] = (void *)&answer_impl}};

struct inner_map { __uint(type, ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); };
struct inner_map left SEC(".maps"), right SEC(".maps");
struct {
    __uint(type, ARRAY_OF_MAPS); __uint(max_entries, 4); __uint(key_size, 4);
    __array(values, struct inner_map);
} sides SEC(".maps") = {.values = {[0] = (void *)&left, [3] = (void *)&right}};

const volatile __u32 limit = 700;
__u64 seen;
__u64 total_bytes = 1000;
__s64 lowest = 1;

#define HTONS(x) ((__u16)((((x) & 0xff) << 8) | ((x) >> 8)))

static __noinline int classify(__u32 protocol, __u32 size)
{
    switch (protocol) {
    case 1: return size > 80 ? 1 : 2;
    case 6: return 3;
    case 17: return (int)(size % 7);
    case 47: return -5;
    default: return 9;
    }
}

static __noinline __u64 mix(__u64 a, __u64 b)
{
    __s64 s = (__s64)(a ^ (b << 7)) >> 3;
    return (__u64)s * 0x9E3779B97F4A7C15ull / (b | 1) + a % (b | 3);
}

static __always_inline int firewall(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethernet *eth = data;
    if ((void *)(eth + 1) > end || eth->type != HTONS(0x0800)) return XDP_PASS;
    struct ipv4 *ip = (void *)(eth + 1);
    if ((void *)(ip + 1) > end) return XDP_DROP;
    __u32 size = (__u32)(end - data), protocol = ip->protocol;
    struct stats *counter = map_lookup_elem(&protocols, &protocol);
    if (!counter) return XDP_ABORTED;
    __sync_fetch_and_add(&counter->packets, 1);
    __sync_fetch_and_add(&counter->bytes, size);
    struct prefix key = {32, ip->src};
    if (map_lookup_elem(&blocked, &key)) return XDP_DROP;
    __u32 ihl = (ip->version_ihl & 15) * 4;
    struct ports *ports = (void *)ip + ihl;
    if (ihl < 20 || (void *)(ports + 1) > end) return XDP_PASS;
    struct flow flow = {ip->src, ip->dst, ports->src, ports->dst, protocol};
    struct stats first = {1, size}, *known = map_lookup_elem(&flows, &flow);
    if (known) {
        known->packets++;
        known->bytes += size;
    } else if (map_update_elem(&flows, &flow, &first, 1)) {
        return XDP_TX;
    }
    return size > limit ? XDP_DROP : XDP_PASS;
}

SEC("xdp") int firewall_impl(struct xdp_md *ctx) { return firewall(ctx); }

SEC("xdp") int answer_impl(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethernet *eth = data;
    struct ipv4 *ip = (void *)(eth + 1);
    if ((void *)(ip + 1) > end || eth->type != HTONS(0x0800)) return XDP_PASS;
    for (int i = 0; i < 6; i++) {
        __u8 byte = eth->dst[i];
        eth->dst[i] = eth->src[i];
        eth->src[i] = byte;
    }
    __u32 old = *(__u32 *)&ip->ttl;
    ip->ttl--;
    __u32 new = *(__u32 *)&ip->ttl;
    ip->check = (__u16)csum_diff(&old, 4, &new, 4, (__u16)~ip->check);
    return XDP_TX;
}

SEC("xdp") int start(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    seen++;
    if (data + 1 > end) return XDP_ABORTED;
    tail_call(ctx, &steps, *(__u8 *)data & 3);
    return 77;
}

struct walk {
    __u64 sum;
    __u32 calls;
};

static long add(__u64 index, struct walk *walk)
{
    walk->sum += index * index;
    walk->calls++;
    return index == 50;
}

static long visit(void *map, __u32 *key, struct stats *value, struct walk *walk)
{
    walk->sum += *key + value->bytes;
    value->packets++;
    walk->calls++;
    return *key == 100;
}

SEC("xdp") int callbacks(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct walk walk = {};
    if (data + 2 > end) return XDP_ABORTED;
    long looped = loop(*(__u8 *)data, add, &walk, 0);
    long visited = for_each_map_elem(&protocols, visit, &walk, 0);
    total_bytes += walk.sum;
    return (int)(walk.sum * 31 + walk.calls * 7 + looped + visited * 3);
}

SEC("xdp") int nested_maps(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 2 > end) return XDP_ABORTED;
    __u32 side = *(__u8 *)data & 3, slot = *(__u8 *)(data + 1) & 1;
    void *map = map_lookup_elem(&sides, &side);
    if (!map) return XDP_DROP;
    __u64 *value = map_lookup_elem(map, &slot);
    if (!value) return XDP_ABORTED;
    *value += side + 1;
    return XDP_PASS;
}

SEC("xdp") int arithmetic(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 34 > end) return XDP_ABORTED;
    __u64 a = *(__u64 *)data, b = *(__u64 *)(data + 7);
    __u64 mixed = mix(a, b);
    int kind = classify(*(__u8 *)(data + 23), (__u32)(end - data));
    if ((__s64)mixed < lowest) lowest = (__s64)mixed;
    *(__u64 *)(data + 8) = mixed + (__u64)(__s64)kind;
    return (int)(mixed >> 32) ^ (int)mixed ^ kind;
}

SEC("xdp") int strip(struct xdp_md *ctx)
{
    if (adjust_head(ctx, 14)) return XDP_DROP;
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 20 > end) return XDP_PASS;
    *(__u8 *)data = 0x99;
    return adjust_head(ctx, -18) ? XDP_DROP : XDP_TX;
}

char _license[] SEC("license") = "GPL";
