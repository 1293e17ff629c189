/* Bit-fields read through CO-RE: laid out in one way here, in another by the kernel that `MOVED` makes. */
#include "bpf.h"

struct place {
#ifdef MOVED
    __u64 before;
    __u32 other : 9, c : 12, b : 7, a : 3;
    __s32 gap : 9, d : 17;
    __u8 more : 2, e : 5;
    __u16 plain;
#else
    __u32 a : 3, b : 7, c : 12;
    __s32 d : 17;
    __u8 e : 5;
    __u16 plain;
#endif
} __attribute__((preserve_access_index));

#ifdef MOVED
struct place place = {.before = -1, .other = 0x155, .a = 5, .b = 100, .c = 3000, .d = -54321, .e = 21, .plain = 777};
#else
__s64 a, b, c, d, e, plain;

#define INFO(field, what) __builtin_preserve_field_info(from->field, what)
#define READ(field)                                                                                                    \
    ({                                                                                                                 \
        const void *at = (const void *)from + INFO(field, 0);                                                          \
        __u64 value = 0;                                                                                               \
        switch (INFO(field, 1)) {                                                                                      \
        case 1: value = *(__u8 *)at; break;                                                                            \
        case 2: value = *(__u16 *)at; break;                                                                           \
        case 4: value = *(__u32 *)at; break;                                                                           \
        case 8: value = *(__u64 *)at; break;                                                                           \
        }                                                                                                              \
        value <<= INFO(field, 4);                                                                                      \
        INFO(field, 3) ? (__s64)value >> INFO(field, 5) : (__s64)(value >> INFO(field, 5));                            \
    })

SEC("xdp") int bits(struct xdp_md *ctx) {
    struct place *from = (void *)(long)ctx->data;
    if ((void *)from + 32 > (void *)(long)ctx->data_end)
        return XDP_DROP;
    a = READ(a), b = READ(b), c = READ(c), d = READ(d), e = READ(e), plain = from->plain;
    return XDP_PASS;
}
#endif

char _license[] SEC("license") = "GPL";
