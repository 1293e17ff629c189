#include "bpf.h"

/* Functions of a kernel module: connection tracking's look-up, called and traced. */
struct nf_conn;
struct tuple { __u32 source, target; __u16 source_port, target_port; };
struct bpf_ct_opts { __s32 netns_id, error; __u8 l4proto, dir, reserved[2]; };

extern struct nf_conn *bpf_xdp_ct_lookup(
    struct xdp_md *ctx, struct tuple *tuple, __u32 tuple_size, struct bpf_ct_opts *opts, __u32 opts_size) __ksym;
extern void bpf_ct_release(struct nf_conn *conn) __ksym;

int error;

SEC("xdp") int looks(struct xdp_md *ctx)
{
    struct tuple tuple = { .source = 0x0100007f, .target = 0x0100007f, .source_port = 1, .target_port = 1 };
    struct bpf_ct_opts opts = { .netns_id = -1, .l4proto = 6 };
    struct nf_conn *found = bpf_xdp_ct_lookup(ctx, &tuple, sizeof(tuple), &opts, sizeof(opts));
    error = opts.error;
    if (found) {
        bpf_ct_release(found);
        return XDP_DROP;
    }
    return XDP_PASS;
}

SEC("fentry/nf_conntrack_in") int enters(__u64 *ctx) { return 0; }
SEC("fentry/nf_conntrack:nf_conntrack_in") int enters_there(__u64 *ctx) { return 0; }

static char _license[] SEC("license") = "GPL";
