#include "base.h"

/* Functions, static and global, with pointers to memory, contexts and numbers. */
struct stats { u64 a, b; u32 c[4]; };
struct { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, struct stats); } all SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 4096); } events SEC(".maps");
struct event { u64 when; u32 kind, size; u8 head[16]; };

NOINLINE int note(struct stats *s, u32 kind)
{
    if (!s) return -1;
    if (kind < 4) s->c[kind]++;
    s->a += kind;
    barrier_var(kind);
    return kind & 1;
}

NOINLINE int checksum(struct xdp_md *ctx, u32 from)
{
    u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    u32 sum = 0;
    if (from > 64) return 0;
    data += from;
    for (int i = 0; i < 16; i++) {
        if (data + i + 1 > end) break;
        sum += data[i];
    }
    return sum;
}

static NOINLINE u64 gcd(u64 a, u64 b)
{
    for (int i = 0; i < 20 && b; i++) {
        u64 t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static NOINLINE int emit(struct xdp_md *ctx, u32 kind)
{
    u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct event *e = ringbuf_reserve(&events, sizeof(*e), 0);
    if (!e) return 1;
    e->when = ktime();
    e->kind = kind;
    e->size = end - data;
    if (data + 16 <= end)
        __builtin_memcpy(e->head, data, 16);
    else
        __builtin_memset(e->head, 0, 16);
    if (kind > 3) ringbuf_discard(e, 0); else ringbuf_submit(e, 0);
    return 0;
}

SEC("xdp") int with_functions(struct xdp_md *ctx)
{
    u32 k = 1;
    struct stats *s = lookup(&all, &k);
    int r = note(s, ctx->rx_queue_index);
    struct stats mine = { 1, 2, { 3 } };
    r += note(&mine, 2);
    r += checksum(ctx, r & 31);
    return r > 100 ? 1 : 2;
}

SEC("xdp") int with_static(struct xdp_md *ctx)
{
    u64 g = gcd(ctx->rx_queue_index, 36);
    if (emit(ctx, g)) return 1;
    return g > 6 ? 1 : 2;
}

struct node { struct node *next; u32 v; };
SEC("xdp") int list_on_stack(struct xdp_md *ctx)
{
    struct node n[4] = { { 0, 1 }, { 0, 2 }, { 0, 3 }, { 0, 4 } };
    u32 i = ctx->rx_queue_index & 3, sum = 0;
    for (int j = 0; j < 4; j++) sum += n[(i + j) & 3].v << j;
    return sum > 20 ? 1 : 2;
}

NOINLINE int flags_of(u64 a, u64 b, u64 c, u64 d, u64 e)
{
    barrier_var(a);
    return (a & 1) | (b & 2) | (c & 4) | (d & 8) | (e & 16);
}
SEC("tc") int five_arguments(struct __sk_buff *skb)
{
    return flags_of(skb->len, skb->mark, skb->hash, skb->ifindex, skb->priority) > 30 ? 2 : 0;
}
