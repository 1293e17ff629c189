#include "bpf.h"

/* A program that throws, and the function that a declaration tag names for that: nothing calls it. */
#if !__has_attribute(btf_decl_tag)
#error "declaration tags came with clang 14"
#endif
#define __exception_cb(name) __attribute__((btf_decl_tag("exception_callback:" #name)))

extern void bpf_throw(__u64 cookie) __ksym;

static __noinline int deep(int n)
{
    if (n == 0)
        bpf_throw(7);
    return n;
}

__noinline int handler(__u64 cookie) { return cookie + 40; }

SEC("tc") __exception_cb(handler) int throws(void *ctx) { return deep(*(int *)ctx == 0x7fffffff); }

SEC("?tc") __exception_cb(nowhere) int lost(void *ctx) { return 0; }

static char _license[] SEC("license") = "GPL";
