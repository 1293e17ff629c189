/* XDP programs that call kernel functions; each leaves what they answered in `results`. */
#include "../../elf/c/bpf.h"

#define IMPORT extern __attribute__((section(".ksyms")))
#define contains(kind, node) __attribute__((btf_decl_tag("contains:" #kind ":" #node)))

struct bpf_dynptr { __u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_iter_num { __u64 opaque; } __attribute__((aligned(8)));
struct bpf_iter_bits { __u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_spin_lock { __u32 value; };
struct bpf_list_head { __u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_list_node { __u64 opaque[3]; } __attribute__((aligned(8)));
struct bpf_rb_root { __u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_rb_node { __u64 opaque[4]; } __attribute__((aligned(8)));
struct bpf_refcount { __u32 opaque[1]; } __attribute__((aligned(4)));

IMPORT int bpf_dynptr_from_xdp(struct xdp_md *ctx, __u64 flags, struct bpf_dynptr *to);
IMPORT void *bpf_dynptr_slice(const struct bpf_dynptr *p, __u32 offset, void *buffer, __u32 size);
IMPORT void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, __u32 offset, void *buffer, __u32 size);
IMPORT int bpf_dynptr_adjust(const struct bpf_dynptr *p, __u32 start, __u32 end);
IMPORT bool bpf_dynptr_is_null(const struct bpf_dynptr *p);
IMPORT bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *p);
IMPORT __u32 bpf_dynptr_size(const struct bpf_dynptr *p);
IMPORT int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *to);
IMPORT int bpf_dynptr_copy(struct bpf_dynptr *to, __u32 to_off, struct bpf_dynptr *from, __u32 from_off, __u32 size);
IMPORT int bpf_dynptr_memset(struct bpf_dynptr *p, __u32 offset, __u32 size, __u8 value);
IMPORT int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end);
IMPORT int *bpf_iter_num_next(struct bpf_iter_num *it);
IMPORT void bpf_iter_num_destroy(struct bpf_iter_num *it);
IMPORT int bpf_iter_bits_new(struct bpf_iter_bits *it, const __u64 *words, __u32 count);
IMPORT int *bpf_iter_bits_next(struct bpf_iter_bits *it);
IMPORT void bpf_iter_bits_destroy(struct bpf_iter_bits *it);
IMPORT void bpf_rcu_read_lock(void);
IMPORT void bpf_rcu_read_unlock(void);
IMPORT void bpf_preempt_disable(void);
IMPORT void bpf_preempt_enable(void);
IMPORT void bpf_local_irq_save(unsigned long *flags);
IMPORT void bpf_local_irq_restore(unsigned long *flags);
IMPORT void bpf_throw(__u64 cookie);
IMPORT int bpf_strcmp(const char *a, const char *b);
IMPORT int bpf_strcasecmp(const char *a, const char *b);
IMPORT int bpf_strchr(const char *s, char c);
IMPORT int bpf_strchrnul(const char *s, char c);
IMPORT int bpf_strnchr(const char *s, unsigned long count, char c);
IMPORT int bpf_strrchr(const char *s, int c);
IMPORT int bpf_strlen(const char *s);
IMPORT int bpf_strnlen(const char *s, unsigned long count);
IMPORT int bpf_strspn(const char *s, const char *accept);
IMPORT int bpf_strcspn(const char *s, const char *reject);
IMPORT int bpf_strstr(const char *a, const char *b);
IMPORT int bpf_strnstr(const char *a, const char *b, unsigned long size);
IMPORT __s64 bpf_map_sum_elem_count(const void *map);
IMPORT int bpf_xdp_pull_data(struct xdp_md *ctx, __u32 size);
IMPORT int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *stamp);
IMPORT void *bpf_obj_new_impl(__u64 type, void *meta);
IMPORT void bpf_obj_drop_impl(void *object, void *meta);
IMPORT void *bpf_refcount_acquire_impl(void *object, void *meta);
IMPORT int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, __u64 off);
IMPORT int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, __u64 off);
IMPORT struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head);
IMPORT struct bpf_list_node *bpf_list_pop_back(struct bpf_list_head *head);
IMPORT struct bpf_list_node *bpf_list_front(struct bpf_list_head *head);
IMPORT int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node, bool(less)(struct bpf_rb_node *, const struct bpf_rb_node *), void *meta, __u64 off);
IMPORT struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root);
IMPORT struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root, struct bpf_rb_node *node);

static long (*dynptr_read)(void *to, __u32 size, const struct bpf_dynptr *from, __u32 offset, __u64 flags) = (void *)201;
static long (*dynptr_write)(const struct bpf_dynptr *to, __u32 offset, void *from, __u32 size, __u64 flags) = (void *)202;
static long (*spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*adjust_tail)(struct xdp_md *ctx, int delta) = (void *)65;

struct { __uint(type, ARRAY); __uint(max_entries, 40); __type(key, __u32); __type(value, __s64); } results SEC(".maps");

static __always_inline void put(__u32 index, __s64 value)
{
    map_update_elem(&results, &index, &value, 0);
}

SEC("xdp")
int views(struct xdp_md *ctx)
{
    struct bpf_dynptr p, q, bad;
    char buffer[8] = {}, *seen;
    __u64 word = 0x1122334455667788;
    __u32 at = 0;
#define PUT(call) put(at++, (__s64)(__s32)(call))
    PUT(bpf_dynptr_from_xdp(ctx, 1, &bad));
    PUT(bpf_dynptr_is_null(&bad));
    PUT(bpf_dynptr_is_rdonly(&bad));
    PUT(bpf_dynptr_size(&bad));
    PUT(bpf_dynptr_adjust(&bad, 0, 0));
    PUT(bpf_dynptr_from_xdp(ctx, 0, &p));
    PUT(bpf_dynptr_is_null(&p));
    PUT(bpf_dynptr_is_rdonly(&p));
    PUT(bpf_dynptr_size(&p));
    PUT(bpf_dynptr_clone(&p, &q));
    PUT(bpf_dynptr_adjust(&q, 20, 10));
    PUT(bpf_dynptr_adjust(&q, 4, 2000));
    PUT(bpf_dynptr_adjust(&q, 4, 30));
    PUT(bpf_dynptr_size(&q));
    PUT(dynptr_read(buffer, 4, &q, 2, 0));
    PUT(*(__u32 *)buffer);
    PUT(dynptr_read(buffer, 4, &q, 23, 0));
    PUT(dynptr_read(buffer, 4, &q, 2, 1));
    PUT(dynptr_write(&q, 1, &word, 8, 0));
    PUT(dynptr_write(&q, 1, &word, 8, 1));
    PUT(dynptr_write(&q, 20, &word, 8, 0));
    seen = bpf_dynptr_slice(&q, 0, buffer, 8);
    PUT(seen ? *(__u32 *)(seen + 2) : -1);
    seen = bpf_dynptr_slice(&q, 19, buffer, 8);
    PUT(seen ? *(__u32 *)(seen + 2) : -1);
    seen = bpf_dynptr_slice_rdwr(&q, 12, buffer, 8);
    if (seen)
        seen[1] = 77;
    PUT(bpf_dynptr_copy(&p, 0, &q, 1, 6));
    PUT(bpf_dynptr_copy(&p, 60, &q, 1, 6));
    PUT(bpf_dynptr_copy(&p, 0, &q, 24, 6));
    PUT(bpf_dynptr_copy(&bad, 0, &q, 0, 6));
    PUT(bpf_dynptr_copy(&p, 0, &bad, 0, 6));
    PUT(bpf_dynptr_memset(&q, 20, 4, 9));
    PUT(bpf_dynptr_memset(&q, 24, 4, 9));
    PUT(bpf_dynptr_memset(&bad, 0, 4, 9));
    PUT(bpf_dynptr_clone(&bad, &q));
    PUT(bpf_xdp_pull_data(ctx, 20));
    PUT(bpf_xdp_pull_data(ctx, 2000));
    return 2;
}

SEC("xdp")
int shrunken(struct xdp_md *ctx)
{
    struct bpf_dynptr p;
    char buffer[8] = {};
    __u32 at = 0;
    PUT(bpf_dynptr_from_xdp(ctx, 0, &p));
    PUT(adjust_tail(ctx, -20));
    PUT(bpf_dynptr_size(&p));
    PUT(dynptr_read(buffer, 8, &p, 20, 0));
    PUT(dynptr_read(buffer, 8, &p, 50, 0));
    PUT(dynptr_write(&p, 50, buffer, 8, 0));
    PUT(bpf_dynptr_slice(&p, 50, buffer, 8) != 0);
    return 2;
}

SEC("xdp")
int loops(struct xdp_md *ctx)
{
    struct bpf_iter_num it;
    struct bpf_iter_bits bits;
    __u64 words[2] = {0x8000000000000011, 6};
    int *n;
    __u32 at = 0;
    __s32 sum = 0;
    PUT(bpf_iter_num_new(&it, -3, 5));
    while ((n = bpf_iter_num_next(&it)))
        sum = sum * 3 + *n;
    bpf_iter_num_destroy(&it);
    PUT(sum);
    PUT(bpf_iter_num_new(&it, 5, 4));
    PUT(bpf_iter_num_next(&it) != 0);
    bpf_iter_num_destroy(&it);
    PUT(bpf_iter_num_new(&it, 0, 8388609));
    PUT(bpf_iter_num_next(&it) != 0);
    bpf_iter_num_destroy(&it);
    PUT(bpf_iter_num_new(&it, 7, 7));
    PUT(bpf_iter_num_next(&it) != 0);
    bpf_iter_num_destroy(&it);
    PUT(bpf_iter_bits_new(&bits, words, 2));
    sum = 0;
    while ((n = bpf_iter_bits_next(&bits)))
        sum = sum * 5 + *n;
    bpf_iter_bits_destroy(&bits);
    PUT(sum);
    PUT(bpf_iter_bits_new(&bits, words, 1));
    sum = 0;
    while ((n = bpf_iter_bits_next(&bits)))
        sum = sum * 5 + *n;
    bpf_iter_bits_destroy(&bits);
    PUT(sum);
    PUT(bpf_iter_bits_new(&bits, words, 0));
    PUT(bpf_iter_bits_next(&bits) != 0);
    bpf_iter_bits_destroy(&bits);
    PUT(bpf_iter_bits_new(&bits, words, 512));
    bpf_iter_bits_destroy(&bits);
    PUT(bpf_iter_bits_new(&bits, 0, 1));
    bpf_iter_bits_destroy(&bits);
    return 2;
}

SEC("xdp")
int sections(struct xdp_md *ctx)
{
    unsigned long flags;
    __u32 at = 0;
    __u64 stamp = 5;
    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    bpf_preempt_disable();
    bpf_preempt_enable();
    bpf_local_irq_save(&flags);
    bpf_local_irq_restore(&flags);
    PUT(bpf_map_sum_elem_count(&results));
    return 2;
}

static __noinline int deep(int value)
{
    if (value == 3)
        bpf_throw(value + 100);
    return value;
}

SEC("xdp")
int thrower(struct xdp_md *ctx)
{
    __u32 at = 0;
    PUT(1);
    int back = deep((ctx->data_end - ctx->data) & 3);
    PUT(2);
    return back;
}

char text[32] = "hello World, hello", part[8] = "World", other[8] = "HELLO", empty[1] = "", small[4] = "lo";

SEC("xdp")
int strings(struct xdp_md *ctx)
{
    __u32 at = 0;
    PUT(bpf_strcmp(text, part));
    PUT(bpf_strcmp(part, text));
    PUT(bpf_strcmp(part, part));
    PUT(bpf_strcasecmp(text, other));
    PUT(bpf_strcasecmp(other, text));
    PUT(bpf_strchr(text, 'o'));
    PUT(bpf_strchr(text, 'z'));
    PUT(bpf_strchr(text, 0));
    PUT(bpf_strchrnul(text, 'z'));
    PUT(bpf_strchrnul(text, 'W'));
    PUT(bpf_strnchr(text, 4, 'o'));
    PUT(bpf_strnchr(text, 5, 'o'));
    PUT(bpf_strnchr(part, 6, 0));
    PUT(bpf_strnchr(part, 5, 0));
    PUT(bpf_strnchr(part, 100, 'x'));
    PUT(bpf_strrchr(text, 'l'));
    PUT(bpf_strrchr(text, 'z'));
    PUT(bpf_strrchr(text, 0));
    PUT(bpf_strlen(text));
    PUT(bpf_strlen(empty));
    PUT(bpf_strnlen(text, 3));
    PUT(bpf_strnlen(text, 100));
    PUT(bpf_strspn(text, "leh"));
    PUT(bpf_strspn(text, ""));
    PUT(bpf_strcspn(text, " W"));
    PUT(bpf_strcspn(text, "z"));
    PUT(bpf_strstr(text, part));
    PUT(bpf_strstr(text, empty));
    PUT(bpf_strstr(part, text));
    PUT(bpf_strnstr(text, part, 11));
    PUT(bpf_strnstr(text, part, 10));
    PUT(bpf_strnstr(text, small, 5));
    PUT(bpf_strnstr(text, empty, 0));
    PUT(bpf_strnstr(part, small, 0));
    PUT(bpf_strlen((char *)8));
    PUT(bpf_strcmp(0, text));
    return 2;
}

struct item {
    __u32 value;
    struct bpf_list_node list;
    struct bpf_rb_node tree;
    struct bpf_refcount uses;
};
struct leaf {
    __u32 value;
    struct bpf_rb_node tree;
};

#define private(name) __attribute__((section(".bss." #name), aligned(8)))
private(lists) struct bpf_spin_lock lock;
private(lists) struct bpf_list_head head contains(item, list);
private(trees) struct bpf_spin_lock tree_lock;
private(trees) struct bpf_rb_root root contains(leaf, tree);

static __always_inline struct item *make(__u32 value)
{
    struct item *item = bpf_obj_new_impl(__builtin_btf_type_id(*item, 0), 0);
    if (item)
        item->value = value;
    return item;
}

static bool before(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
    struct leaf *one = (void *)a - __builtin_offsetof(struct leaf, tree);
    struct leaf *two = (void *)b - __builtin_offsetof(struct leaf, tree);
    return one->value < two->value;
}

SEC("xdp")
int lists(struct xdp_md *ctx)
{
    __u32 at = 0;
    struct bpf_list_node *node;
    struct item *item;
    for (int i = 0; i < 4; i++) {
        item = make(10 + i);
        if (!item)
            return 0;
        spin_lock(&lock);
        int code = i & 1 ? bpf_list_push_front_impl(&head, &item->list, 0, 0) : bpf_list_push_back_impl(&head, &item->list, 0, 0);
        spin_unlock(&lock);
        PUT(code);
    }
    for (int i = 0; i < 5; i++) {
        spin_lock(&lock);
        node = i & 1 ? bpf_list_pop_back(&head) : bpf_list_pop_front(&head);
        spin_unlock(&lock);
        if (!node) {
            PUT(-1);
            continue;
        }
        item = (void *)node - __builtin_offsetof(struct item, list);
        PUT(item->value);
        bpf_obj_drop_impl(item, 0);
    }
    return 2;
}

SEC("xdp")
int trees(struct xdp_md *ctx)
{
    __u32 at = 0;
    struct bpf_rb_node *node;
    struct leaf *leaf;
    for (__u32 i = 0; i < 6; i++) {
        leaf = bpf_obj_new_impl(__builtin_btf_type_id(*leaf, 0), 0);
        if (!leaf)
            return 0;
        leaf->value = (i * 7) % 5;
        spin_lock(&tree_lock);
        int code = bpf_rbtree_add_impl(&root, &leaf->tree, before, 0, 0);
        spin_unlock(&tree_lock);
        PUT(code);
    }
    for (int i = 0; i < 7; i++) {
        spin_lock(&tree_lock);
        node = bpf_rbtree_first(&root);
        if (!node) {
            spin_unlock(&tree_lock);
            PUT(-1);
            continue;
        }
        node = bpf_rbtree_remove(&root, node);
        spin_unlock(&tree_lock);
        if (!node)
            continue;
        leaf = (void *)node - __builtin_offsetof(struct leaf, tree);
        PUT(leaf->value);
        bpf_obj_drop_impl(leaf, 0);
    }
    return 2;
}
char _license[] SEC("license") = "GPL";
