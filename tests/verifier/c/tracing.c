#include "base.h"

/* Probes, tracepoints, typed tracepoints and iterators, system calls. */
struct pt_regs { u64 r[21]; };
struct task_struct { int pid, tgid; char comm[16]; struct task_struct *real_parent; } __attribute__((preserve_access_index));
struct file { u64 f_pos; } __attribute__((preserve_access_index));
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; u64 session_id, seq_num; } __attribute__((preserve_access_index));
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; } __attribute__((preserve_access_index));
struct event { u64 when; u32 pid, uid; char comm[16]; char path[64]; };
struct { __uint(type, 27); __uint(max_entries, 4096); } events SEC(".maps");
struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); __uint(max_entries, 8); } perf SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 1024); __type(key, u64); __type(value, u64); } starts SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 64); __type(key, u32); __type(value, u64); } hist SEC(".maps");
struct { __uint(type, 7); __uint(key_size, 4); __uint(value_size, 256); __uint(max_entries, 64); } stacks SEC(".maps");
static long (*get_stackid)(void *ctx, void *map, u64 flags) = (void *)27;
static long (*seq_write)(void *seq, const void *data, u32 len) = (void *)127;
static long (*copy_from_user)(void *dst, u32 size, const void *from) = (void *)148;

SEC("tracepoint/syscalls/sys_enter_openat") int open_enter(u64 *ctx)
{
    struct event *e = ringbuf_reserve(&events, sizeof(*e), 0);
    if (!e) return 0;
    e->when = ktime();
    e->pid = pid_tgid() >> 32;
    e->uid = uid_gid();
    comm(e->comm, sizeof(e->comm));
    long n = probe_read_user_str(e->path, sizeof(e->path), (void *)ctx[3]);
    if (n <= 0) { ringbuf_discard(e, 0); return 0; }
    ringbuf_submit(e, 0);
    return 0;
}
SEC("kprobe/vfs_read") int read_enter(struct pt_regs *ctx)
{
    u64 id = pid_tgid(), now = ktime();
    update(&starts, &id, &now, 0);
    return 0;
}
SEC("kretprobe/vfs_read") int read_exit(struct pt_regs *ctx)
{
    u64 id = pid_tgid(), *start = lookup(&starts, &id);
    if (!start) return 0;
    u64 delta = (ktime() - *start) / 1000;
    u32 slot = 0;
#pragma unroll
    for (int i = 0; i < 20; i++)
        if (delta >> i) slot = i;
    u64 *n = lookup(&hist, &slot);
    if (n) __sync_fetch_and_add(n, 1);
    delete(&starts, &id);
    return 0;
}
SEC("perf_event") int sample(void *ctx)
{
    struct { u32 pid; long stack; } out = { pid_tgid(), get_stackid(ctx, &stacks, 0) };
    perf_event_output(ctx, &perf, 0xffffffffULL, &out, sizeof(out));
    return 0;
}
SEC("raw_tp/sched_switch") int raw_switch(u64 *ctx)
{
    u32 pid;
    probe_read_kernel(&pid, 4, &((struct task_struct *)ctx[1])->pid);
    u64 id = pid, now = ktime();
    update(&starts, &id, &now, 0);
    return 0;
}
SEC("tp_btf/sched_switch") int typed_switch(u64 *ctx)
{
    struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
    u32 slot = (prev->pid ^ next->tgid) & 63;
    u64 *n = lookup(&hist, &slot);
    if (n) *n += prev->comm[0];
    return 0;
}
SEC("iter/task") int dump_tasks(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    if (!task) return 0;
    u32 pid = task->pid;
    struct { u32 pid, parent; } row = { pid, 0 };
    struct task_struct *parent = task->real_parent;
    if (parent) row.parent = parent->pid;
    seq_write(ctx->meta->seq, &row, sizeof(row));
    return 0;
}
struct args { u64 ptr; u32 len, sum; };
SEC("syscall") int from_user(struct args *ctx)
{
    u8 buf[64];
    u32 len = ctx->len;
    if (len > sizeof(buf)) return 1;
    if (copy_from_user(buf, len, (void *)ctx->ptr)) return 2;
    u32 sum = 0;
    for (u32 i = 0; i < 64; i++) {
        if (i >= len) break;
        sum += buf[i];
    }
    ctx->sum = sum;
    return 0;
}
