#include "bpf.h"

/* One program of each type whose target is fixed when it is loaded. */
struct bpf_iter_meta { void *seq; unsigned long long session_id, seq_num; } __attribute__((preserve_access_index));
struct bpf_map { unsigned int id, key_size; } __attribute__((preserve_access_index));
struct bpf_iter__bpf_map { struct bpf_iter_meta *meta; struct bpf_map *map; };

static long (*seq_write)(void *seq, const void *data, __u32 len) = (void *)127;

int hits;

SEC("fentry/bpf_fentry_test1") int enter(__u64 *ctx) { hits++; return 0; }
SEC("fexit/bpf_fentry_test1") int leave(__u64 *ctx) { hits++; return 0; }
SEC("fmod_ret/bpf_modify_return_test") int modify(__u64 *ctx) { hits++; return 0; }
SEC("tp_btf/sched_switch") int switched(__u64 *ctx) { hits++; return 0; }
SEC("raw_tp/sys_enter") int syscalls(__u64 *ctx) { hits++; return 0; }
SEC("lsm/file_open") int opened(__u64 *ctx) { hits++; return 0; }
SEC("lsm.s/bprm_committed_creds") int slowly(__u64 *ctx) { hits++; return 0; }
SEC("fentry/vmlinux:bpf_fentry_test1") int named(__u64 *ctx) { hits++; return 0; }
SEC("?fentry/no_such_function") int missing(__u64 *ctx) { return 0; }
SEC("?fentry/no_such_module:function") int nowhere(__u64 *ctx) { return 0; }
SEC("?fentry") int unsaid(__u64 *ctx) { return 0; }
SEC("?freplace/answer") int other_answer(struct xdp_md *ctx) { hits++; return XDP_DROP; }

SEC("iter/bpf_map")
int maps(struct bpf_iter__bpf_map *ctx)
{
    struct bpf_map *map = ctx->map;
    __u32 id;
    if (!map) return 0;
    id = map->id;
    seq_write(ctx->meta->seq, &id, sizeof(id));
    return 0;
}

__attribute__((noinline)) int answer(struct xdp_md *ctx) { volatile int verdict = XDP_PASS; return verdict; }
SEC("xdp") int asks(struct xdp_md *ctx) { return answer(ctx); }

SEC("syscall") int called(__u64 *ctx) { ctx[0] += 1; return 7; }

static char _license[] SEC("license") = "GPL";
