/* Built for both byte orders: the same results, though constants, bit-fields and parts of numbers lie elsewhere. */
#include "bpf.h"

const volatile __u16 port = 0x1234;
const volatile __u64 big = 0x0102030405060708ull;
const volatile __s32 below = -2;
static const __u8 table[8] = {9, 8, 7, 6, 5, 4, 3, 2};
struct bits {
    __u32 a : 3, b : 7, c : 12;
    __u64 d : 40, e : 20;
};
struct bits flags = {5, 100, 3000, 0x123456789aull, 0xfffff};
__u64 seen;

struct {
    __uint(type, ARRAY);
    __uint(max_entries, 8);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

static __noinline __u64 parts(__u64 value) {
    union { __u64 whole; __u32 half[2]; __u8 byte[8]; } split = {value};
    __u64 sum = 0;
    for (int i = 0; i < 8; i++)
        sum += split.byte[i];
    return sum + split.half[0] + split.half[1];
}

SEC("xdp") int orders(struct xdp_md *ctx) {
    __u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 14 > end)
        return XDP_DROP;
    __u16 proto = *(__u16 *)(data + 12);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    proto = __builtin_bswap16(proto);
#endif
    if (proto == 0x0800)
        seen += 1;
    __u32 key = (__u8)port & 7;
    __u64 *count = map_lookup_elem(&counts, &key);
    if (count)
        __sync_fetch_and_add(count, table[big & 7]);
    if (flags.a == 5 && flags.b == 100 && flags.c == 3000 && flags.d == 0x123456789aull && flags.e == 0xfffff)
        seen += 16;
    seen += parts(big);
    /* Only a verifier that reads the constants as this machine does sees that it is never so. */
    if ((__u8)big != 8 || below >= 0 || port != 0x1234)
        return *(volatile __u64 *)(data - 4096);
    return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
