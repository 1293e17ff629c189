#include "../bpf.h"

/* For clang 19 and later. Memory that programs and user space share: an arena map, and variables that live in it. */
#define __arena __attribute__((address_space(1)))

struct {
    int (*type)[33];
    int (*map_flags)[1 << 10];
    int (*max_entries)[16];
} arena SEC(".maps");

struct node { __u64 value; struct node __arena *next; };
__u64 __arena total = 5;
__u64 __arena other;
struct node __arena first = {.value = 30};

SEC("syscall") int adds(void *ctx)
{
    total += first.value;
    other = total * 2;
    return total;
}

static char _license[] SEC("license") = "GPL";
