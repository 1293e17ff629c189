/* What these programs need of BPF in C, without anyone's headers. */
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef _Bool bool;
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define NOINLINE __attribute__((noinline))
#define INLINE inline __attribute__((always_inline))
#define HIDDEN __attribute__((visibility("hidden")))
#define likely(x) __builtin_expect(!!(x), 1)
#define barrier_var(x) asm volatile("" : "+r"(x))
#define NULL ((void *)0)

struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct __sk_buff {
    u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex,
        ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id, family, remote_ip4, local_ip4,
        remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
};
struct ethhdr { u8 dst[6], src[6]; u16 proto; } __attribute__((packed));
struct vlanhdr { u16 tci, proto; };
struct iphdr { u8 ihl : 4, version : 4, tos; u16 tot_len, id, frag_off; u8 ttl, protocol; u16 check; u32 saddr, daddr; };
struct ipv6hdr { u32 first; u16 payload_len; u8 nexthdr, hop_limit; u32 saddr[4], daddr[4]; };
struct tcphdr { u16 source, dest; u32 seq, ack_seq; u16 flags, window, check, urg_ptr; };
struct udphdr { u16 source, dest, len, check; };
#define htons(x) __builtin_bswap16(x)
#define htonl(x) __builtin_bswap32(x)

static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*delete)(void *map, const void *key) = (void *)3;
static long (*probe_read)(void *dst, u32 size, const void *from) = (void *)4;
static u64 (*ktime)(void) = (void *)5;
static u32 (*prandom)(void) = (void *)7;
static u32 (*cpu)(void) = (void *)8;
static long (*tail_call)(void *ctx, void *map, u32 index) = (void *)12;
static u64 (*pid_tgid)(void) = (void *)14;
static u64 (*uid_gid)(void) = (void *)15;
static long (*comm)(void *buf, u32 size) = (void *)16;
static long (*redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*perf_event_output)(void *ctx, void *map, u64 flags, void *data, u64 size) = (void *)25;
static long (*skb_load_bytes)(const void *ctx, u32 off, void *to, u32 len) = (void *)26;
static s64 (*csum_diff)(u32 *from, u32 from_size, u32 *to, u32 to_size, u32 seed) = (void *)28;
static long (*l3_csum_replace)(void *ctx, u32 off, u64 from, u64 to, u64 size) = (void *)10;
static long (*l4_csum_replace)(void *ctx, u32 off, u64 from, u64 to, u64 flags) = (void *)11;
static long (*skb_store_bytes)(void *ctx, u32 off, const void *from, u32 len, u64 flags) = (void *)9;
static long (*skb_pull_data)(void *ctx, u32 len) = (void *)39;
static long (*xdp_adjust_head)(void *ctx, int delta) = (void *)44;
static long (*redirect_map)(void *map, u64 key, u64 flags) = (void *)51;
static long (*probe_read_kernel)(void *dst, u32 size, const void *from) = (void *)113;
static long (*probe_read_user_str)(void *dst, u32 size, const void *from) = (void *)114;
static void *(*ringbuf_reserve)(void *map, u64 size, u64 flags) = (void *)131;
static void (*ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*ringbuf_discard)(void *data, u64 flags) = (void *)133;
static long (*ringbuf_output)(void *map, void *data, u64 size, u64 flags) = (void *)130;
static long (*loop)(u32 count, void *callback, void *ctx, u64 flags) = (void *)181;
static long (*for_each)(void *map, void *callback, void *ctx, u64 flags) = (void *)164;
static void (*spin_lock)(void *lock) = (void *)93;
static void (*spin_unlock)(void *lock) = (void *)94;
static long (*timer_init)(void *timer, void *map, u64 flags) = (void *)169;
static long (*timer_set_callback)(void *timer, void *callback) = (void *)170;
static long (*timer_start)(void *timer, u64 nsecs, u64 flags) = (void *)171;
static u64 (*current_task)(void) = (void *)35;

char LICENSE[] SEC("license") = "GPL";
