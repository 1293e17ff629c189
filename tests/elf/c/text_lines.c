#include "bpf.h"

/* No maps, no variables: what is known of it without types is code and lines. */
static __noinline int at(struct xdp_md *ctx, int n)
{
    unsigned char *data = (void *)(long)ctx->data;
    if (data + 64 > (unsigned char *)(long)ctx->data_end)
        return 0;
    return data[n & 63] + 1;
}

SEC("xdp") int sums(struct xdp_md *ctx)
{
    int sum = 0;
    for (int n = 0; n < 64; n++)
        sum += at(ctx, n);
    return sum;
}

static char _license[] SEC("license") = "GPL";
