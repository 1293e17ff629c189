#include "bpf.h"

/* Operations that the kernel has for tests: BPF_PROG_TEST_RUN calls them with the arguments of the context. */
struct bpf_dummy_ops_state { int val; };
struct bpf_dummy_ops___here {
    int (*test_1)(struct bpf_dummy_ops_state *state);
    int (*test_2)(struct bpf_dummy_ops_state *state, int a1, unsigned short a2, char a3, unsigned long a4);
    int (*not_in_the_kernel)(void);
};

int calls;

SEC("struct_ops/test_1")
int first(__u64 *args)
{
    struct bpf_dummy_ops_state *state = (void *)args[0];
    calls++;
    if (!state) return 0x1234;
    state->val += 5;
    return state->val;
}

SEC("struct_ops/test_2")
int second(__u64 *args)
{
    return (int)args[1] + (unsigned short)args[2] + (char)args[3] + (int)args[4];
}

SEC(".struct_ops") struct bpf_dummy_ops___here dummy = { .test_1 = (void *)first, .test_2 = (void *)second };

static char _license[] SEC("license") = "GPL";
