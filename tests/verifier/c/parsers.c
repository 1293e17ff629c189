#include "base.h"

/* Packet parsers: VLANs, IPv4 with options, IPv6 extension headers, TCP options, DNS names. */
struct flow { u32 src[4], dst[4]; u16 sport, dport; u8 proto, family; };
struct counter { u64 packets, bytes; };
struct { __uint(type, 5); __uint(max_entries, 1024); __type(key, struct flow); __type(value, struct counter); } flows SEC(".maps");
struct { __uint(type, 6); __uint(max_entries, 256); __type(key, u32); __type(value, struct counter); } protos SEC(".maps");
struct cursor { void *pos, *end; };

static INLINE int parse_eth(struct cursor *c, u16 *proto)
{
    struct ethhdr *eth = c->pos;
    if ((void *)(eth + 1) > c->end) return -1;
    *proto = eth->proto;
    c->pos = eth + 1;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (*proto != htons(0x8100) && *proto != htons(0x88a8)) break;
        struct vlanhdr *v = c->pos;
        if ((void *)(v + 1) > c->end) return -1;
        *proto = v->proto;
        c->pos = v + 1;
    }
    return 0;
}

static INLINE int parse_ip(struct cursor *c, struct flow *f)
{
    struct iphdr *ip = c->pos;
    if ((void *)(ip + 1) > c->end || ip->version != 4) return -1;
    u32 size = ip->ihl * 4;
    if (size < sizeof(*ip) || c->pos + size > c->end) return -1;
    f->src[0] = ip->saddr;
    f->dst[0] = ip->daddr;
    f->proto = ip->protocol;
    f->family = 4;
    c->pos += size;
    return 0;
}

static INLINE int parse_ip6(struct cursor *c, struct flow *f)
{
    struct ipv6hdr *ip = c->pos;
    if ((void *)(ip + 1) > c->end) return -1;
    __builtin_memcpy(f->src, ip->saddr, 16);
    __builtin_memcpy(f->dst, ip->daddr, 16);
    u8 next = ip->nexthdr;
    c->pos = ip + 1;
    for (int i = 0; i < 4; i++) {
        if (next != 0 && next != 43 && next != 60) break;
        u8 *ext = c->pos;
        if (ext + 2 > (u8 *)c->end) return -1;
        next = ext[0];
        c->pos += (ext[1] + 1) * 8;
        if (c->pos > c->end) return -1;
    }
    f->proto = next;
    f->family = 6;
    return 0;
}

SEC("xdp") int count_flows(struct xdp_md *ctx)
{
    struct cursor c = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
    struct flow f = {};
    u16 proto;
    if (parse_eth(&c, &proto)) return 2;
    if (proto == htons(0x0800)) {
        if (parse_ip(&c, &f)) return 1;
    } else if (proto == htons(0x86dd)) {
        if (parse_ip6(&c, &f)) return 1;
    } else
        return 2;
    if (f.proto == 6 || f.proto == 17) {
        struct udphdr *u = c.pos;
        if ((void *)(u + 1) > c.end) return 1;
        f.sport = u->source;
        f.dport = u->dest;
    }
    u64 bytes = ctx->data_end - ctx->data;
    struct counter *n = lookup(&flows, &f);
    if (n) {
        n->packets++;
        n->bytes += bytes;
    } else {
        struct counter one = { 1, bytes };
        update(&flows, &f, &one, 1);
    }
    u32 key = f.proto;
    n = lookup(&protos, &key);
    if (n) { n->packets++; n->bytes += bytes; }
    return 2;
}

SEC("xdp") int tcp_options(struct xdp_md *ctx)
{
    u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct tcphdr *tcp = (void *)(data + 34);
    if ((u8 *)(tcp + 1) > end) return 2;
    u32 size = (tcp->flags & 0xf0) >> 2;
    if (size < 20) return 1;
    u8 *opt = (u8 *)(tcp + 1), *last = (u8 *)tcp + size;
    if (last > end) return 1;
    u32 mss = 0;
    for (int i = 0; i < 4; i++) {
        if (opt + 1 > end || opt >= last) break;
        u8 kind = opt[0];
        if (kind == 0) break;
        if (kind == 1) { opt++; continue; }
        if (opt + 2 > end) return 1;
        u8 len = opt[1];
        if (len < 2) return 1;
        if (kind == 2 && len == 4) {
            if (opt + 4 > end) return 1;
            mss = opt[2] << 8 | opt[3];
        }
        opt += len;
    }
    return mss > 1400 ? 1 : 2;
}

SEC("tc") int dns_name(struct __sk_buff *skb)
{
    u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    u8 *q = data + 42 + 12;
    u32 labels = 0, hash = 5381;
    for (int i = 0; i < 10; i++) {
        if (q + 1 > end) return 0;
        u8 c = *q++;
        if (!c) break;
        if (c < 64 && labels < 8) labels++;
        hash = hash * 33 + (c | 0x20);
    }
    skb->mark = hash;
    return labels > 5 ? 2 : 0;
}

SEC("xdp") int swap_and_send(struct xdp_md *ctx)
{
    struct ethhdr *eth = (void *)(long)ctx->data;
    if ((void *)(eth + 1) > (void *)(long)ctx->data_end) return 1;
    u8 tmp[6];
    __builtin_memcpy(tmp, eth->dst, 6);
    __builtin_memcpy(eth->dst, eth->src, 6);
    __builtin_memcpy(eth->src, tmp, 6);
    return 3;
}

SEC("xdp") int decap(struct xdp_md *ctx)
{
    struct ethhdr *eth = (void *)(long)ctx->data, copy;
    if ((void *)(eth + 1) + 20 > (void *)(long)ctx->data_end) return 2;
    copy = *eth;
    if (xdp_adjust_head(ctx, 20)) return 1;
    eth = (void *)(long)ctx->data;
    if ((void *)(eth + 1) > (void *)(long)ctx->data_end) return 1;
    *eth = copy;
    return 2;
}
