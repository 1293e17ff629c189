// The C side of benchmarks/xsk_rings.py: ring loops with libxdp's inline functions over rings in plain memory, the
// kernel's side played by `kernel_turn`. Built by the benchmark: gcc -O2 -shared -fPIC xsk_rings.c -o xsk_rings.so
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <arpa/inet.h>
#include <xdp/xsk.h>

#define BATCH 64
#define HEADROOM 256

// One ring in memory: where its parts are, and how many entries it has.
struct place { __u32 *producer, *consumer, *flags; void *entries; __u32 size; };
struct places { struct place rx, fill, tx, comp; char *umem; __u32 frame_size, length; };

struct node { __u32 next, key; __u64 value; };
struct state {
    struct xsk_ring_cons rx, comp;
    struct xsk_ring_prod fill, tx;
    char *umem;
    __u64 mask, *spare, total;
    __u32 spares, outstanding, count;
    __u32 *buckets, bucket_mask;
    struct node *nodes;
};

static void set_prod(struct xsk_ring_prod *ring, const struct place *at)
{
    ring->producer = at->producer, ring->consumer = at->consumer, ring->flags = at->flags, ring->ring = at->entries;
    ring->size = at->size, ring->mask = at->size - 1;
    ring->cached_prod = *at->producer, ring->cached_cons = *at->consumer + at->size;
}

static void set_cons(struct xsk_ring_cons *ring, const struct place *at)
{
    ring->producer = at->producer, ring->consumer = at->consumer, ring->flags = at->flags, ring->ring = at->entries;
    ring->size = at->size, ring->mask = at->size - 1;
    ring->cached_prod = *at->producer, ring->cached_cons = *at->consumer;
}

// The first half of the frames is in the fill ring, the others are spare.
struct state *state_new(const struct places *at, __u32 frames, __u32 count, __u32 entries)
{
    struct state *s = calloc(1, sizeof(*s));
    __u32 i, index;

    set_cons(&s->rx, &at->rx), set_cons(&s->comp, &at->comp), set_prod(&s->fill, &at->fill), set_prod(&s->tx, &at->tx);
    s->umem = at->umem, s->mask = ~(__u64)(at->frame_size - 1), s->count = count;
    s->spare = calloc(frames, 8);
    xsk_ring_prod__reserve(&s->fill, frames / 2, &index);
    for (i = 0; i < frames / 2; i++)
        *xsk_ring_prod__fill_addr(&s->fill, index + i) = (__u64)i * at->frame_size;
    xsk_ring_prod__submit(&s->fill, frames / 2);
    for (; i < frames; i++)
        s->spare[s->spares++] = (__u64)i * at->frame_size;
    for (s->bucket_mask = 1; s->bucket_mask < entries; s->bucket_mask *= 2)
        ;
    s->buckets = calloc(s->bucket_mask, 4), s->nodes = calloc(entries + 1, sizeof(struct node)), s->bucket_mask--;
    return s;
}

static inline __u32 hash(const struct state *s, __u32 key)
{
    __u64 value = (key ^ 0x243F6A8885A308D3ull) * 0x9E3779B97F4A7C15ull;
    return (value ^ value >> 32) & s->bucket_mask;
}

void state_insert(struct state *s, __u32 number, __u32 key)
{
    __u32 slot = hash(s, key);
    s->nodes[number + 1] = (struct node){.next = s->buckets[slot], .key = key};
    s->buckets[slot] = number + 1;
}

__u64 state_total(const struct state *s, __u32 entries)
{
    __u64 total = 0;
    for (__u32 i = 1; i <= entries; i++)
        total += s->nodes[i].value;
    return total;
}

// What the kernel does between two calls: sent frames complete, and packets arrive in the frames of the fill ring.
void kernel_turn(const struct places *at, __u32 count)
{
    const struct xdp_desc *tx = at->tx.entries;
    const __u64 *fill = at->fill.entries;
    struct xdp_desc *rx = at->rx.entries;
    __u64 *comp = at->comp.entries;
    __u32 i, sent = *at->tx.producer - *at->tx.consumer, filled = *at->fill.producer - *at->fill.consumer;

    for (i = 0; i < sent; i++)
        comp[(*at->comp.producer)++ & (at->comp.size - 1)] = tx[(*at->tx.consumer)++ & (at->tx.size - 1)].addr;
    for (i = 0; i < count && i < filled; i++) {
        __u64 addr = fill[(*at->fill.consumer)++ & (at->fill.size - 1)];
        rx[(*at->rx.producer)++ & (at->rx.size - 1)] = (struct xdp_desc){addr + HEADROOM, at->length, 0};
    }
}

long ring_drop(struct state *s)
{
    __u32 count = s->count;
    while (count) {
        __u32 rx, fill, i, found = xsk_ring_cons__peek(&s->rx, BATCH, &rx);
        if (!found)
            return -1;
        while (xsk_ring_prod__reserve(&s->fill, found, &fill) != found)
            ;
        for (i = 0; i < found; i++) {
            const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&s->rx, rx + i);
            s->total += desc->len;
            *xsk_ring_prod__fill_addr(&s->fill, fill + i) = desc->addr & s->mask;
        }
        xsk_ring_prod__submit(&s->fill, found);
        xsk_ring_cons__release(&s->rx, found);
        count -= found;
    }
    return 0;
}

long ring_lookup(struct state *s)
{
    __u32 count = s->count;
    while (count) {
        __u32 rx, fill, i, found = xsk_ring_cons__peek(&s->rx, BATCH, &rx);
        if (!found)
            return -1;
        while (xsk_ring_prod__reserve(&s->fill, found, &fill) != found)
            ;
        for (i = 0; i < found; i++) {
            const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&s->rx, rx + i);
            const char *data = xsk_umem__get_data(s->umem, desc->addr);
            s->total += desc->len;
            if (desc->len >= 34 && *(const __u16 *)(data + 12) == htons(0x0800)) {
                __u32 key = *(const __u32 *)(data + 26), at;
                for (at = s->buckets[hash(s, key)]; at; at = s->nodes[at].next)
                    if (s->nodes[at].key == key) {
                        s->nodes[at].value++;
                        break;
                    }
            }
            *xsk_ring_prod__fill_addr(&s->fill, fill + i) = desc->addr & s->mask;
        }
        xsk_ring_prod__submit(&s->fill, found);
        xsk_ring_cons__release(&s->rx, found);
        count -= found;
    }
    return 0;
}

static inline void complete(struct state *s)
{
    __u32 index, i, found = xsk_ring_cons__peek(&s->comp, BATCH, &index);
    for (i = 0; i < found; i++)
        s->spare[s->spares++] = *xsk_ring_cons__comp_addr(&s->comp, index + i) & s->mask;
    if (found)
        xsk_ring_cons__release(&s->comp, found);
    s->outstanding -= found;
}

long ring_forward(struct state *s)
{
    __u32 count = s->count;
    while (count) {
        __u32 rx, tx, fill, i, refill, found = xsk_ring_cons__peek(&s->rx, BATCH, &rx);
        if (!found)
            return -1;
        while (xsk_ring_prod__reserve(&s->tx, found, &tx) != found)
            complete(s);
        for (i = 0; i < found; i++) {
            const struct xdp_desc *in = xsk_ring_cons__rx_desc(&s->rx, rx + i);
            char *data = xsk_umem__get_data(s->umem, in->addr), kept[6];
            memcpy(kept, data, 6);
            memcpy(data, data + 6, 6);
            memcpy(data + 6, kept, 6);
            *xsk_ring_prod__tx_desc(&s->tx, tx + i) = *in;
            s->total += in->len;
        }
        xsk_ring_prod__submit(&s->tx, found);
        xsk_ring_cons__release(&s->rx, found);
        s->outstanding += found;
        count -= found;
        complete(s);
        refill = found < s->spares ? found : s->spares;
        if (refill && xsk_ring_prod__reserve(&s->fill, refill, &fill) == refill) {
            for (i = 0; i < refill; i++)
                *xsk_ring_prod__fill_addr(&s->fill, fill + i) = s->spare[--s->spares];
            xsk_ring_prod__submit(&s->fill, refill);
        }
    }
    return 0;
}

// Nanoseconds of one call a round, the kernel's turn left out; `done` is a count to be set to zero before each.
void measure(long (*loop)(void *), void *argument, const struct places *at, __u32 count, __u64 *done, __u32 rounds,
             double *result)
{
    struct timespec begin, end;
    __u64 none;

    for (__u32 i = 0; i < rounds; i++) {
        kernel_turn(at, count);
        *(done ? done : &none) = 0;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        loop(argument);
        clock_gettime(CLOCK_MONOTONIC, &end);
        result[i] = (end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec);
    }
}
