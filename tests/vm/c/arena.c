/* Programs over an arena: pages, pointers in both forms, accesses where no page is. Results go to the context. */
#include "../../elf/c/bpf.h"

#define __arena __attribute__((address_space(1)))
#define IMPORT extern __attribute__((section(".ksyms")))

IMPORT void __arena *bpf_arena_alloc_pages(void *map, void __arena *at, __u32 count, int node, __u64 flags);
IMPORT void bpf_arena_free_pages(void *map, void __arena *at, __u32 count);

struct {
    __uint(type, 33);
    __uint(map_flags, 1024);
    __uint(max_entries, 8);
    __ulong(map_extra, 0x100000008000);
} arena SEC(".maps");

struct node {
    struct node __arena *next;
    __u64 value;
};
struct results { __u64 word[32]; };

#define PUT(x) out->word[at++] = (__u64)(x)

SEC("syscall")
int pages(struct results *out)
{
    __u32 at = 0;
    struct node __arena *head = 0, *node;
    char __arena *page = bpf_arena_alloc_pages(&arena, 0, 2, -1, 0);
    if (!page)
        return 1;
    PUT(page);
    for (int i = 0; i < 5; i++) {
        node = (struct node __arena *)(page + i * 1000);
        node->next = head;
        node->value = i * 7;
        head = node;
    }
    __u64 sum = 0;
    for (int i = 0; i < 10 && head; i++) {
        sum = sum * 10 + head->value;
        head = head->next;
    }
    PUT(sum);
    PUT(page + 4000 - (char __arena *)0);
    char __arena *far = page + 3 * 4096;
    *(__u32 __arena *)far = 5;
    PUT(*(__u32 __arena *)far);
    *(__u64 __arena *)(page + 8190) = 0x1122334455667788;
    PUT(*(__u64 __arena *)(page + 8190));
    PUT(*(__u16 __arena *)(page + 8190));
    *(__u64 __arena *)(page + 4094) = 0x1122334455667788;
    PUT(*(__u64 __arena *)(page + 4094));
    PUT(*(__u8 __arena *)(page + 4096));
    __u64 __arena *counter = (__u64 __arena *)(page + 64);
    *counter = 40;
    PUT(__sync_fetch_and_add(counter, 2));
    PUT(*counter);
    PUT(__sync_val_compare_and_swap(counter, 42, 50));
    PUT(*counter);
    counter = (__u64 __arena *)far;
    PUT(*counter);
    char __arena *other = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);
    PUT(other);
    PUT(bpf_arena_alloc_pages(&arena, page, 1, -1, 0));
    PUT(bpf_arena_alloc_pages(&arena, page + 1, 1, -1, 0));
    PUT(bpf_arena_alloc_pages(&arena, page + 5 * 4096, 2, -1, 0));
    PUT(bpf_arena_alloc_pages(&arena, 0, 9, -1, 0));
    PUT(bpf_arena_alloc_pages(&arena, 0, 1, -1, 1));
    bpf_arena_free_pages(&arena, page, 1);
    PUT(*(__u64 __arena *)(page + 64));
    PUT(*(__u8 __arena *)(page + 4096));
    char __arena *again = bpf_arena_alloc_pages(&arena, page, 1, -1, 0);
    PUT(again);
    PUT(*(__u64 __arena *)(page + 64));
    bpf_arena_free_pages(&arena, page, 8);
    return 0;
}
char _license[] SEC("license") = "GPL";
