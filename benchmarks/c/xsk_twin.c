// The C twin of benchmarks/xsk.py: receive, send and echo on libxdp, as its own examples do it. Built by the benchmark:
//   gcc -O2 -shared -fPIC xsk_twin.c -o xsk_twin.so -lxdp -lbpf
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <xdp/xsk.h>

#define FRAMES 4096
#define FRAME_SIZE 2048
#define RING 2048
#define BATCH 64

struct twin {
    struct xsk_umem *umem;
    struct xsk_socket *xsk;
    struct xsk_ring_prod fill, tx;
    struct xsk_ring_cons comp, rx;
    void *memory;
    __u64 spare[FRAMES];
    __u32 spares;
    __u32 outstanding;
    __u32 frame; // the next one of `twin_send_cycling`
    __u32 length;
    char packet[FRAME_SIZE];
};

struct twin *twin_open(const char *device, int queue, int map_fd)
{
    struct xsk_umem_config umem_config = {RING, RING, FRAME_SIZE, 0, 0};
    struct xsk_socket_config config = {.rx_size = RING, .tx_size = RING,
                                       .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
                                       .bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP};
    struct twin *t = calloc(1, sizeof(*t));
    __u32 index, i;

    t->memory = mmap(NULL, FRAMES * FRAME_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (t->memory == MAP_FAILED)
        return NULL;
    if (xsk_umem__create(&t->umem, t->memory, FRAMES * FRAME_SIZE, &t->fill, &t->comp, &umem_config))
        return NULL;
    if (xsk_socket__create(&t->xsk, device, queue, t->umem, &t->rx, &t->tx, &config))
        return NULL;
    if (map_fd >= 0 && xsk_socket__update_xskmap(t->xsk, map_fd))
        return NULL;
    if (xsk_ring_prod__reserve(&t->fill, RING, &index) != RING)
        return NULL;
    for (i = 0; i < RING; i++)
        *xsk_ring_prod__fill_addr(&t->fill, index + i) = (__u64)i * FRAME_SIZE;
    xsk_ring_prod__submit(&t->fill, RING);
    for (i = RING; i < FRAMES; i++)
        t->spare[t->spares++] = (__u64)i * FRAME_SIZE;
    return t;
}

void twin_close(struct twin *t)
{
    xsk_socket__delete(t->xsk);
    xsk_umem__delete(t->umem);
    munmap(t->memory, FRAMES * FRAME_SIZE);
    free(t);
}

static void reap(struct twin *t)
{
    __u32 index, i, found = xsk_ring_cons__peek(&t->comp, BATCH, &index);
    for (i = 0; i < found; i++)
        t->spare[t->spares++] = *xsk_ring_cons__comp_addr(&t->comp, index + i) & ~(__u64)(FRAME_SIZE - 1);
    if (found)
        xsk_ring_cons__release(&t->comp, found);
    t->outstanding -= found;
}

static void kick(struct twin *t)
{
    if (xsk_ring_prod__needs_wakeup(&t->tx))
        sendto(xsk_socket__fd(t->xsk), NULL, 0, MSG_DONTWAIT, NULL, 0);
}

static void drain(struct twin *t)
{
    while (t->outstanding) {
        kick(t);
        reap(t);
    }
}

// The packet to be sent, into every frame and apart.
void twin_fill(struct twin *t, const void *packet, unsigned length)
{
    t->length = length;
    memcpy(t->packet, packet, length);
    for (__u32 i = 0; i < FRAMES; i++)
        memcpy(xsk_umem__get_data(t->memory, (__u64)i * FRAME_SIZE), packet, length);
}

unsigned twin_available(struct twin *t)
{
    return *(volatile __u32 *)t->rx.producer - t->rx.cached_cons;
}

// Reads `count` packets that are there and gives their frames back; a sum of their lengths.
unsigned long twin_receive(struct twin *t, unsigned count)
{
    unsigned long total = 0;
    while (count) {
        __u32 rx, fill, i, found = xsk_ring_cons__peek(&t->rx, BATCH, &rx);
        if (!found)
            continue;
        while (xsk_ring_prod__reserve(&t->fill, found, &fill) != found)
            ;
        for (i = 0; i < found; i++) {
            const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&t->rx, rx + i);
            total += desc->len;
            *xsk_ring_prod__fill_addr(&t->fill, fill + i) = desc->addr & ~(__u64)(FRAME_SIZE - 1);
        }
        xsk_ring_prod__submit(&t->fill, found);
        xsk_ring_cons__release(&t->rx, found);
        count -= found < count ? found : count;
    }
    return total;
}

// Sends `count` copies of a packet, and waits until all have left.
void twin_send(struct twin *t, unsigned count)
{
    while (count) {
        __u32 index, i, batch = count < BATCH ? count : BATCH;
        while (t->spares < batch || xsk_ring_prod__reserve(&t->tx, batch, &index) != batch) {
            kick(t);
            reap(t);
        }
        for (i = 0; i < batch; i++) {
            struct xdp_desc *desc = xsk_ring_prod__tx_desc(&t->tx, index + i);
            desc->addr = t->spare[--t->spares];
            desc->len = t->length;
            desc->options = 0;
            memcpy(xsk_umem__get_data(t->memory, desc->addr), t->packet, t->length);
        }
        xsk_ring_prod__submit(&t->tx, batch);
        t->outstanding += batch;
        count -= batch;
        kick(t);
        reap(t);
    }
    drain(t);
}

// Sends `count` packets that are there back, addresses swapped, and waits until all have left.
void twin_echo(struct twin *t, unsigned count)
{
    while (count) {
        __u32 rx, tx, fill, i, refill, found = xsk_ring_cons__peek(&t->rx, BATCH, &rx);
        if (!found)
            continue;
        while (xsk_ring_prod__reserve(&t->tx, found, &tx) != found) {
            kick(t);
            reap(t);
        }
        for (i = 0; i < found; i++) {
            const struct xdp_desc *in = xsk_ring_cons__rx_desc(&t->rx, rx + i);
            char *data = xsk_umem__get_data(t->memory, in->addr), kept[6];
            memcpy(kept, data, 6);
            memcpy(data, data + 6, 6);
            memcpy(data + 6, kept, 6);
            *xsk_ring_prod__tx_desc(&t->tx, tx + i) = *in;
        }
        xsk_ring_cons__release(&t->rx, found);
        xsk_ring_prod__submit(&t->tx, found);
        t->outstanding += found;
        count -= found < count ? found : count;
        kick(t);
        reap(t);
        refill = found < t->spares ? found : t->spares;
        if (refill && xsk_ring_prod__reserve(&t->fill, refill, &fill) == refill) {
            for (i = 0; i < refill; i++)
                *xsk_ring_prod__fill_addr(&t->fill, fill + i) = t->spare[--t->spares];
            xsk_ring_prod__submit(&t->fill, refill);
        }
    }
    drain(t);
}

// Sends `count` packets as xdpsock's txonly does: every frame holds the packet, and all of them take their turn.
void twin_send_cycling(struct twin *t, unsigned count)
{
    while (count || t->outstanding) {
        __u32 index, i, found, batch = count < BATCH ? count : BATCH;
        if (batch && xsk_ring_prod__reserve(&t->tx, batch, &index) == batch) {
            for (i = 0; i < batch; i++) {
                struct xdp_desc *desc = xsk_ring_prod__tx_desc(&t->tx, index + i);
                desc->addr = (__u64)((t->frame + i) % FRAMES) * FRAME_SIZE;
                desc->len = t->length;
                desc->options = 0;
            }
            t->frame = (t->frame + batch) % FRAMES;
            xsk_ring_prod__submit(&t->tx, batch);
            t->outstanding += batch;
            count -= batch;
        }
        kick(t);
        found = xsk_ring_cons__peek(&t->comp, BATCH, &index);
        if (found)
            xsk_ring_cons__release(&t->comp, found);
        t->outstanding -= found;
    }
}

static double now(clockid_t which)
{
    struct timespec at;
    clock_gettime(which, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

struct call {
    void (*function)(void *, void *, unsigned long, unsigned long);
    void *first, *second;
    unsigned long third, fourth;
};

// Seconds by the clock and of CPU time of some calls, one after the other.
void twin_clock(const struct call *calls, unsigned count, double *result)
{
    double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    for (; count; count--, calls++)
        calls->function(calls->first, calls->second, calls->third, calls->fourth);
    result[0] = now(CLOCK_MONOTONIC) - wall;
    result[1] = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
}
