/* The source of ops.o: structures of operations and map definitions of iproute2. */
#include "../c/bpf.h"

struct bpf_elf_map { __u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx; };
struct bpf_elf_map SEC("maps") jumps = { PROG_ARRAY, 4, 4, 4, 0, 1 };
struct ops { int (*call)(void *); char name[8]; };

SEC("struct_ops/call") int call(void *args) { return 1; }
SEC(".struct_ops") struct ops table = { call, "x" };
SEC("1/2") int second(struct xdp_md *ctx) { tail_call(ctx, &jumps, 1); return 0; }
