#include "base.h"

/* Programs of sockets and control groups. */
struct bpf_sock_addr { u32 user_family, user_ip4, user_ip6[4], user_port, family, type, protocol, msg_src_ip4, msg_src_ip6[4]; };
struct bpf_sock_ops { u32 op, args[4], family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port, is_fullsock, snd_cwnd, srtt_us, flags; };
struct sk_msg_md { void *data, *data_end; u32 family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port, size; };
struct bpf_sk_lookup { u64 sk; u32 family, protocol, remote_ip4, remote_ip6[4]; u16 remote_port, zero; u32 local_ip4, local_ip6[4], local_port, ingress_ifindex; };
struct bpf_sysctl { u32 write, file_pos; };
struct bpf_sockopt { u64 sk, optval, optval_end; s32 level, optname, optlen, retval; };
struct bpf_cgroup_dev_ctx { u32 access_type, major, minor; };
struct { __uint(type, 15); __uint(max_entries, 16); __type(key, u32); __type(value, u64); } socks SEC(".maps");
struct { __uint(type, 18); __uint(max_entries, 16); __type(key, u32); __type(value, u64); } by_port SEC(".maps");
struct { __uint(type, 9); __uint(max_entries, 128); __type(key, u64); __type(value, u64); } starts SEC(".maps");
static long (*sk_redirect_map)(void *skb, void *map, u32 key, u64 flags) = (void *)52;
static long (*sock_map_update)(void *ctx, void *map, void *key, u64 flags) = (void *)53;
static long (*msg_redirect_map)(void *msg, void *map, u32 key, u64 flags) = (void *)60;
static long (*msg_pull_data)(void *msg, u32 start, u32 end, u64 flags) = (void *)63;
static long (*sk_assign)(void *ctx, void *sk, u64 flags) = (void *)124;
static long (*sk_release)(void *sk) = (void *)86;
static u64 (*socket_cookie)(void *ctx) = (void *)46;
static long (*sock_ops_cb_flags_set)(void *ctx, int flags) = (void *)59;

SEC("cgroup/connect4") int redirect_connect(struct bpf_sock_addr *ctx)
{
    if (ctx->user_port == htons(80) && ctx->protocol == 6) {
        ctx->user_ip4 = htonl(0x7f000001);
        ctx->user_port = htons(8080);
    }
    return 1;
}
SEC("cgroup/sendmsg6") int no_sendmsg(struct bpf_sock_addr *ctx)
{
    if (ctx->user_ip6[0] == 0 && ctx->user_ip6[3] == htonl(1)) return 0;
    ctx->user_ip6[3] = htonl(2);
    return 1;
}
SEC("sockops") int established(struct bpf_sock_ops *ctx)
{
    u64 cookie, now;
    u32 key;
    switch (ctx->op) {
    case 3: case 4: case 5:
        cookie = socket_cookie(ctx);
        now = ktime();
        update(&starts, &cookie, &now, 0);
        sock_ops_cb_flags_set(ctx, 4);
        key = ctx->local_port & 15;
        sock_map_update(ctx, &socks, &key, 0);
        break;
    case 10:
        if (ctx->args[1] == 7) { cookie = socket_cookie(ctx); delete(&starts, &cookie); }
    }
    return 1;
}
SEC("sk_msg") int send_on(struct sk_msg_md *msg)
{
    if (msg_pull_data(msg, 0, 8, 0)) return 1;
    u8 *data = msg->data, *end = msg->data_end;
    if (data + 8 > end) return 1;
    if (data[0] == 'G' && data[1] == 'E') return msg_redirect_map(msg, &socks, data[7] & 15, 0);
    return 1;
}
SEC("sk_skb/stream_verdict") int verdict(struct __sk_buff *skb)
{
    u32 port = skb->local_port;
    return sk_redirect_map(skb, &socks, port & 15, 0);
}
SEC("sk_lookup") int steer(struct bpf_sk_lookup *ctx)
{
    u32 key = 0;
    if (ctx->local_port < 1000 || ctx->local_port > 2000) return 1;
    void *sk = lookup(&by_port, &key);
    if (!sk) return 1;
    long err = sk_assign(ctx, sk, 0);
    sk_release(sk);
    return err ? 0 : 1;
}
SEC("cgroup/sysctl") int sysctl(struct bpf_sysctl *ctx) { return ctx->write ? 0 : 1; }
SEC("cgroup/getsockopt") int getsockopt(struct bpf_sockopt *ctx)
{
    u8 *val = (void *)(long)ctx->optval, *end = (void *)(long)ctx->optval_end;
    if (ctx->level != 6 || val + 4 > end) return 1;
    val[0] = 7;
    ctx->retval = 0;
    ctx->optlen = 4;
    return 1;
}
SEC("cgroup/dev") int device(struct bpf_cgroup_dev_ctx *ctx) { return ctx->major == 1 && (ctx->access_type & 0xffff) == 2; }
SEC("cgroup_skb/egress") int egress(struct __sk_buff *skb)
{
    struct iphdr *ip = (void *)(long)skb->data;
    if ((void *)(ip + 1) > (void *)(long)skb->data_end) return 1;
    return ip->daddr != htonl(0x08080808);
}
SEC("socket") int filter(struct __sk_buff *skb)
{
    u8 proto;
    if (skb_load_bytes(skb, 23, &proto, 1)) return 0;
    return proto == 17 ? skb->len : 0;
}
