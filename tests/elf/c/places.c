// One program for each kind of place that `ebpfkit load` knows or refuses.
#include "bpf.h"

struct __sk_buff { __u32 len; };

int hits;

SEC("tcx/ingress") int arrives(struct __sk_buff *skb) { __sync_fetch_and_add(&hits, 1); return 0; }
SEC("tc/egress") int departs(struct __sk_buff *skb) { __sync_fetch_and_add(&hits, 1); return 0; }
SEC("classifier") int either(struct __sk_buff *skb) { __sync_fetch_and_add(&hits, 1); return 0; }
SEC("netkit/primary") int primary(struct __sk_buff *skb) { return 0; }
SEC("cgroup_skb/egress") int sends(struct __sk_buff *skb) { __sync_fetch_and_add(&hits, 1); return 1; }
SEC("socket") int keeps(struct __sk_buff *skb) { return skb->len; }
SEC("kprobe/do_unlinkat") int unlinks(void *ctx) { return 0; }
SEC("uprobe//bin/true:main") int elsewhere(void *ctx) { return 0; }
SEC("raw_tp/sys_enter") int calls(void *ctx) { __sync_fetch_and_add(&hits, 1); return 0; }
SEC("perf_event") int ticks(void *ctx) { __sync_fetch_and_add(&hits, 1); return 0; }
SEC("sk_lookup") int looks(void *ctx) { return 1; }
char _license[] SEC("license") = "GPL";
