#include "base.h"

/* Maps of maps, per-CPU values, LPM, queues, tail calls, loops with callbacks, timers, locks. */
struct inner { __uint(type, 2); __uint(max_entries, 16); __type(key, u32); __type(value, u64); };
struct inner one SEC(".maps");
struct {
    __uint(type, 12); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4); __array(values, struct inner);
} outer SEC(".maps") = { .values = { [0] = &one } };
struct bpf_spin_lock { u32 val; };
struct bpf_timer { u64 opaque[2]; } __attribute__((aligned(8)));
struct bucket { struct bpf_spin_lock lock; u32 pad; u64 tokens, last; };
struct { __uint(type, 1); __uint(max_entries, 256); __type(key, u32); __type(value, struct bucket); } buckets SEC(".maps");
struct session { struct bpf_timer timer; u64 seen; };
struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, struct session); } sessions SEC(".maps");
struct lpm_key { u32 bits, addr; };
struct { __uint(type, 11); __uint(max_entries, 16); __uint(map_flags, 1); __type(key, struct lpm_key); __type(value, u32); } routes SEC(".maps");
struct { __uint(type, 3); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4); } progs SEC(".maps");
struct { __uint(type, 6); __uint(max_entries, 1); __type(key, u32); __type(value, u8[256]); } scratch SEC(".maps");
struct { __uint(type, 14); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4); } devs SEC(".maps");
static u64 limits[4] = { 10, 20, 30, 40 };
const volatile u32 threshold = 100;
u64 total;

SEC("xdp") int nested(struct xdp_md *ctx)
{
    u32 k = ctx->rx_queue_index & 3, i = 3;
    void *inner = lookup(&outer, &k);
    if (!inner) return 2;
    u64 *v = lookup(inner, &i);
    if (v) __sync_fetch_and_add(v, 1);
    u64 fresh = 5;
    update(inner, &i, &fresh, 0);
    return 2;
}

SEC("xdp") int token_bucket(struct xdp_md *ctx)
{
    u32 key = ctx->ingress_ifindex;
    struct bucket *b = lookup(&buckets, &key);
    if (!b) {
        struct bucket fresh = { .tokens = 10 };
        update(&buckets, &key, &fresh, 1);
        return 2;
    }
    u64 now = ktime();
    int verdict = 2;
    spin_lock(&b->lock);
    u64 gained = (now - b->last) >> 20;
    if (gained) { b->tokens += gained; b->last = now; }
    if (b->tokens > 100) b->tokens = 100;
    if (b->tokens) b->tokens--; else verdict = 1;
    spin_unlock(&b->lock);
    return verdict;
}

static int expired(void *map, u32 *key, struct session *s)
{
    if (s->seen < 5) timer_start(&s->timer, 1000000, 0);
    s->seen++;
    return 0;
}

SEC("tc") int start_timer(struct __sk_buff *skb)
{
    u32 k = skb->mark & 7;
    struct session *s = lookup(&sessions, &k);
    if (!s) return 0;
    if (timer_init(&s->timer, &sessions, 1)) return 0;
    timer_set_callback(&s->timer, expired);
    timer_start(&s->timer, 1000, 0);
    return 0;
}

SEC("xdp") int route(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct iphdr *ip = data + 14;
    if ((void *)(ip + 1) > end) return 2;
    struct lpm_key k = { 32, ip->daddr };
    u32 *port = lookup(&routes, &k);
    if (!port) return 2;
    if (*port < 4) tail_call(ctx, &progs, *port);
    return redirect_map(&devs, *port, 2);
}

struct sum { u64 n; u32 start; };
static int add(u32 i, struct sum *s)
{
    s->n += limits[(s->start + i) & 3];
    return s->n > 1000;
}
SEC("xdp") int loops(struct xdp_md *ctx)
{
    struct sum s = { 0, ctx->rx_queue_index };
    loop(ctx->data_end - ctx->data, add, &s, 0);
    total += s.n;
    return s.n > threshold ? 1 : 2;
}

static long each(void *map, u32 *key, u64 *value, u64 *sum)
{
    *sum += *value + *key;
    return *sum > 100;
}
SEC("tc") int walk(struct __sk_buff *skb)
{
    u64 sum = 0;
    for_each(&one, each, &sum, 0);
    skb->mark = sum;
    return 0;
}

SEC("tc") int big_scratch(struct __sk_buff *skb)
{
    u32 zero = 0;
    u8 *buf = lookup(&scratch, &zero);
    if (!buf) return 0;
    u32 len = skb->len;
    if (len > 200) len = 200;
    if (len < 1) return 0;
    if (skb_load_bytes(skb, 0, buf, len)) return 0;
    u32 sum = 0;
    for (u32 i = 0; i < 200; i++) {
        if (i >= len) break;
        sum += buf[i];
    }
    skb->mark = sum;
    return 0;
}
