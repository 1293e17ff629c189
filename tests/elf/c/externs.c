#include "bpf.h"

enum libbpf_tristate { TRI_NO, TRI_YES, TRI_MODULE };

extern __u32 LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF __kconfig;
extern enum libbpf_tristate CONFIG_BPF_SYSCALL __kconfig;
extern int CONFIG_HZ __kconfig;
extern char CONFIG_NET __kconfig;
extern char CONFIG_LOCALVERSION[16] __kconfig;
extern __u64 CONFIG_NO_SUCH_OPTION __kconfig __weak;
extern bool CONFIG_MISSING_OPTION __kconfig;

struct rq { int nothing; };
extern const struct rq runqueues __ksym;
extern const int no_such_variable __ksym __weak;
extern const void bpf_prog_put __ksym;
extern const void no_such_symbol __ksym __weak;
extern const void lost_symbol __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern void bpf_no_such_function(void) __ksym __weak;

static void *(*this_cpu_ptr)(const void *percpu) = (void *)154;

volatile __u64 seen[8];

SEC("xdp") int config(struct xdp_md *ctx)
{
    seen[0] = LINUX_KERNEL_VERSION;
    seen[1] = CONFIG_BPF;
    seen[2] = CONFIG_BPF_SYSCALL;
    seen[3] = CONFIG_HZ;
    seen[4] = CONFIG_NET;
    seen[5] = CONFIG_LOCALVERSION[3];
    seen[6] = CONFIG_NO_SUCH_OPTION;
    return XDP_PASS;
}

SEC("xdp") int missing_config(struct xdp_md *ctx) { return CONFIG_MISSING_OPTION; }

SEC("xdp") int kernel_symbols(struct xdp_md *ctx)
{
    seen[0] = (__u64)&bpf_prog_put;
    seen[1] = (__u64)&no_such_symbol;
    seen[2] = &no_such_variable != 0;
    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    if (bpf_no_such_function)
        bpf_no_such_function();
    return XDP_PASS;
}

SEC("xdp") int kernel_variable(struct xdp_md *ctx)
{
    seen[0] = (__u64)this_cpu_ptr(&runqueues) != 0;
    return XDP_PASS;
}

SEC("xdp") int lost(struct xdp_md *ctx) { return (__u64)&lost_symbol; }

static char _license[] SEC("license") = "GPL";
