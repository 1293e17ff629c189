#include "bpf.h"

extern int undefined_function(int x);
extern __u32 undefined_variable;
extern int CONFIG_HZ __kconfig;
extern const int kernel_variable __ksym;
extern const void kernel_address __ksym;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash, __u32 *type) __ksym;

static int number = 3;
static int *volatile pointer = &number;
volatile int beside = 4;
int odd_place SEC("strange") = 5;

SEC("xdp") int good(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp") int calls_undefined(struct xdp_md *ctx) { return undefined_function(1); }
SEC("xdp") int reads_undefined(struct xdp_md *ctx) { return undefined_variable; }
SEC("xdp") int reads_config(struct xdp_md *ctx) { return CONFIG_HZ; }
SEC("xdp") int reads_kernel_variable(struct xdp_md *ctx) { return kernel_variable; }
SEC("xdp") int takes_kernel_address(struct xdp_md *ctx) { return (long)&kernel_address; }
SEC("xdp") int calls_kernel(struct xdp_md *ctx) { __u32 hash = 0, type = 0; return bpf_xdp_metadata_rx_hash(ctx, &hash, &type); }
SEC("xdp") int reads_strange(struct xdp_md *ctx) { return odd_place; }
SEC("xdp") int reads_pointer(struct xdp_md *ctx) { return *pointer; }
SEC("xdp") int reads_number(struct xdp_md *ctx) { return number + beside; }
SEC("xdp_filter") int odd_section(struct xdp_md *ctx) { return XDP_PASS; }
