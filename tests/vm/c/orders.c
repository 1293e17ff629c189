/* An XDP program whose results do not depend on the byte order that it is compiled for. */
#include "../../elf/c/bpf.h"

static long (*csum_diff)(void *from, __u32 from_size, void *to, __u32 to_size, __u32 seed) = (void *)28;
static long (*load_bytes)(struct xdp_md *ctx, __u32 offset, void *to, __u32 size) = (void *)189;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define NTOHS(x) ((__u16)(x))
#define NTOHL(x) ((__u32)(x))
#else
#define NTOHS(x) __builtin_bswap16(x)
#define NTOHL(x) __builtin_bswap32(x)
#endif

struct key { __u32 protocol; __u16 port; __u16 pad; };
struct value { __u64 packets; __u32 bytes; __u16 last; __u8 bits : 3, more : 5; __u8 rest; };
struct prefix { __u32 length; __u32 address; };

struct { __uint(type, HASH); __uint(max_entries, 64); __type(key, struct key); __type(value, struct value); } flows SEC(".maps");
struct { __uint(type, ARRAY); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
struct { __uint(type, PERCPU_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); } sizes SEC(".maps");
struct { __uint(type, LPM_TRIE); __uint(max_entries, 16); __uint(map_flags, 1); __type(key, struct prefix); __type(value, __u32); } nets SEC(".maps");
int second(struct xdp_md *ctx);
struct {
    __uint(type, PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4);
    __array(values, int(void *));
} steps SEC(".maps") = {.values = {[2] = (void *)&second}};

const volatile __u32 table[4] = {0x01020304, 7, 0xfffffff0, 99};
__u64 total = 0x1122334455667788;
short lowest = -5;
__u32 turns;

static __noinline __u64 mix(__u64 a, __s32 b)
{
    return a * 31 + (__u64)(__s64)b;
}

static int each(__u32 index, void *ctx)
{
    *(__u32 *)ctx += index * table[index & 3];
    return index == 5;
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
    __u32 key = 3;
    __u32 *size = map_lookup_elem(&sizes, &key);
    if (size)
        *size += (__u32)(ctx->data_end - ctx->data) + 1;
    return (int)(ctx->rx_queue_index + 40);
}

SEC("xdp")
int first(struct xdp_md *ctx)
{
    __u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 42 > end)
        return 1;
    __u32 index = NTOHS(*(__u16 *)(data + 12)) == 0x0800 ? 1 : 2;
    __u64 *count = map_lookup_elem(&counts, &index);
    if (count)
        __sync_fetch_and_add(count, 1);
    struct key key = {.protocol = data[23], .port = NTOHS(*(__u16 *)(data + 36))};
    struct value *seen = map_lookup_elem(&flows, &key);
    if (!seen) {
        struct value fresh = {.packets = 1, .bytes = (__u32)(end - data), .last = key.port, .bits = 5, .more = 17, .rest = 200};
        map_update_elem(&flows, &key, &fresh, 0);
    } else {
        seen->packets++;
        seen->bytes += (__u32)(end - data);
        seen->more++;
        __sync_fetch_and_add(&seen->packets, 256);
    }
    __u32 address = *(__u32 *)(data + 26);
    struct prefix prefix = {.length = 32, .address = address};
    __u32 *net = map_lookup_elem(&nets, &prefix);
    __u32 sum = 0;
    loop(9, each, &sum, 0);
    __u32 copy = 0;
    load_bytes(ctx, 30, &copy, 4);
    total = mix(total, (__s32)NTOHL(copy));
    lowest -= (signed char)data[40];
    turns ^= sum + NTOHS((__u16)csum_diff(0, 0, data + 14, 20, 0));
    *(__u32 *)data = NTOHL(turns);
    *(__u16 *)(data + 4) = NTOHS((__u16)total);
    if (net && *net == 3)
        tail_call(ctx, &steps, 2);
    return net ? (int)*net : 2;
}
char _license[] SEC("license") = "GPL";
