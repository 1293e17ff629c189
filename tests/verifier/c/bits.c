#include "base.h"

/* Bit tricks, big switches, tables, hashes, string loops, signed arithmetic. */
struct { __uint(type, 2); __uint(max_entries, 64); __type(key, u32); __type(value, u32); } table SEC(".maps");
static const char names[4][8] = { "alpha", "beta", "gamma", "delta" };
static const u32 weights[16] = { 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3 };

static INLINE u32 rol(u32 x, u32 n) { return x << n | x >> (32 - n); }
static INLINE u32 popcount(u32 x)
{
    x -= x >> 1 & 0x55555555;
    x = (x & 0x33333333) + (x >> 2 & 0x33333333);
    return ((x + (x >> 4) & 0xf0f0f0f) * 0x1010101) >> 24;
}
static INLINE u32 log2(u32 v)
{
    u32 r = (v > 0xffff) << 4, s;
    v >>= r;
    s = (v > 0xff) << 3; v >>= s; r |= s;
    s = (v > 0xf) << 2; v >>= s; r |= s;
    s = (v > 3) << 1; v >>= s; r |= s;
    return r | v >> 1;
}

SEC("xdp") int histogram(struct xdp_md *ctx)
{
    u32 slot = log2(ctx->data_end - ctx->data);
    u32 *n = lookup(&table, &slot);
    if (n) *n += popcount(slot);
    return 2;
}

SEC("xdp") int jhash(struct xdp_md *ctx)
{
    u32 *w = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (w + 9 > end) return 2;
    u32 a = 0xdeadbeef, b = a, c = a;
#pragma unroll
    for (int i = 0; i < 9; i += 3) {
        a += w[i]; b += w[i + 1]; c += w[i + 2];
        a -= c; a ^= rol(c, 4); c += b;
        b -= a; b ^= rol(a, 6); a += c;
        c -= b; c ^= rol(b, 8); b += a;
    }
    return weights[c & 15] > 4 ? 1 : 2;
}

SEC("tc") int classify(struct __sk_buff *skb)
{
    switch (skb->protocol) {
    case 0x0008: skb->priority = 1; break;
    case 0xdd86: skb->priority = 2; break;
    case 0x0608: skb->priority = 3; break;
    case 0x0081: skb->priority = 4; break;
    case 0xa888: skb->priority = 5; break;
    case 0x4788: return 2;
    case 0x4888: return 2;
    case 0xcc88: skb->tc_index = 7; break;
    default: skb->priority = skb->protocol & 7;
    }
    return 0;
}

SEC("xdp") int match_name(struct xdp_md *ctx)
{
    char *p = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    u32 which = ctx->rx_queue_index;
    if (which > 3) return 2;
    for (int i = 0; i < 8; i++) {
        if (p + i + 1 > end) return 2;
        if (!names[which][i]) return 1;
        if (p[i] != names[which][i]) return 2;
    }
    return 2;
}

SEC("xdp") int signs(struct xdp_md *ctx)
{
    s32 x = (s32)ctx->rx_queue_index - 100;
    s64 y = x;
    u8 buf[32] = {};
    barrier_var(y);
    if (y < -8 || y > 7) return 2;
    buf[y + 8] = 1;
    s32 z = x < 0 ? -x : x;
    if (z > 31 || z < 0) return 2;
    return buf[z] ? 1 : 2;
}

SEC("tc") int itoa(struct __sk_buff *skb)
{
    char text[16] = {};
    u32 n = skb->len, i;
    for (i = 0; i < 10; i++) {
        text[i & 15] = '0' + n % 10;
        n /= 10;
        if (!n) break;
    }
    if (i > 9) i = 9;
    skb->mark = text[i];
    return 0;
}

SEC("xdp") int masks(struct xdp_md *ctx)
{
    u64 v = ctx->rx_queue_index;
    u64 table[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    u64 *t = table;
    barrier_var(t);
    u64 a = t[v & 7], b = t[(v >> 3) % 8], c = t[(u8)v >> 5];
    u64 d = t[__builtin_bswap32(v) & 7];
    return (a + b + c + d) & 1 ? 1 : 2;
}

struct item { u16 key; u8 value[6]; };
SEC("tc") int sorted(struct __sk_buff *skb)
{
    u32 v[6] = { skb->len, skb->mark, skb->hash, skb->ifindex, skb->priority, 3 };
    for (int i = 0; i < 6; i++)
        for (int j = i + 1; j < 6; j++)
            if (v[i] > v[j]) { u32 t = v[i]; v[i] = v[j]; v[j] = t; }
    return v[0] == 3 ? 2 : 0;
}
