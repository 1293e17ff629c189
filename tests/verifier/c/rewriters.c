#include "base.h"

/* Programs that change packets: NAT, encapsulation, TTL, checksums, sampling. */
struct nat { u32 addr; u16 port, pad; };
struct { __uint(type, 9); __uint(max_entries, 1024); __type(key, struct nat); __type(value, struct nat); } nats SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); } seen SEC(".maps");
static long (*skb_change_head)(void *skb, u32 len, u64 flags) = (void *)43;
static long (*skb_vlan_push)(void *skb, u16 proto, u16 tci) = (void *)18;
static long (*clone_redirect)(void *skb, u32 ifindex, u64 flags) = (void *)13;
static long (*fib_lookup)(void *ctx, void *params, int size, u32 flags) = (void *)69;
struct fib { u8 family, l4; u16 sport, dport, tot_len; u32 ifindex; u32 flow, src[4], dst[4]; u16 vproto, vtci; u8 smac[6], dmac[6]; };

static INLINE u16 fold(u64 sum)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

SEC("xdp") int forward(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    struct iphdr *ip = data + sizeof(*eth);
    if ((void *)(ip + 1) > end || eth->proto != htons(0x0800) || ip->ttl <= 1) return 2;
    struct fib f = { .family = 2, .l4 = ip->protocol, .tot_len = htons(ip->tot_len), .ifindex = ctx->ingress_ifindex };
    f.src[0] = ip->saddr;
    f.dst[0] = ip->daddr;
    if (fib_lookup(ctx, &f, sizeof(f), 0)) return 2;
    u32 check = ip->check + htons(0x0100);
    ip->check = check + (check >= 0xffff);
    ip->ttl--;
    __builtin_memcpy(eth->dst, f.dmac, 6);
    __builtin_memcpy(eth->src, f.smac, 6);
    return redirect(f.ifindex, 0);
}
SEC("xdp") int encap(struct xdp_md *ctx)
{
    if (xdp_adjust_head(ctx, 0 - (int)sizeof(struct iphdr))) return 1;
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data, *old = data + sizeof(struct iphdr);
    struct iphdr *ip = data + sizeof(*eth);
    if ((void *)(old + 1) > end || (void *)(ip + 1) > end) return 1;
    __builtin_memmove(eth, old, sizeof(*eth));
    __builtin_memset(ip, 0, sizeof(*ip));
    ip->version = 4; ip->ihl = 5; ip->ttl = 64; ip->protocol = 4;
    ip->tot_len = htons(end - (void *)ip);
    ip->check = fold(csum_diff(0, 0, (void *)ip, sizeof(*ip), 0));
    return 3;
}
SEC("tc") int nat(struct __sk_buff *skb)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct iphdr *ip = data + 14;
    struct tcphdr *tcp = data + 34;
    if ((void *)(tcp + 1) > end || ip->protocol != 6 || ip->ihl != 5) return 0;
    struct nat key = { ip->daddr, tcp->dest }, *to = lookup(&nats, &key);
    if (!to) return 0;
    u32 old = ip->daddr, fresh = to->addr;
    u16 port = tcp->dest, other = to->port;
    l4_csum_replace(skb, 34 + 16, old, fresh, 0x10 | 4);
    l3_csum_replace(skb, 14 + 10, old, fresh, 4);
    skb_store_bytes(skb, 14 + 16, &fresh, 4, 0);
    l4_csum_replace(skb, 34 + 16, port, other, 2);
    skb_store_bytes(skb, 34 + 2, &other, 2, 0);
    return 0;
}
SEC("tc") int sample(struct __sk_buff *skb)
{
    u32 zero = 0;
    u64 *n = lookup(&seen, &zero);
    if (!n) return 0;
    if (__sync_fetch_and_add(n, 1) % 100 == 0) clone_redirect(skb, 1, 0);
    if (skb->vlan_present == 0 && (prandom() & 1)) skb_vlan_push(skb, htons(0x8100), 5);
    return 0;
}
SEC("tc") int linear(struct __sk_buff *skb)
{
    u32 want = 14 + 20 + 8;
    if (skb->data + want > skb->data_end) {
        if (skb_pull_data(skb, want)) return 2;
    }
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    if (data + want > end) return 2;
    struct udphdr *udp = data + 34;
    return udp->dest == htons(53) ? 2 : 0;
}
