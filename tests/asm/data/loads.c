/* A program that any kernel takes: maps, data, functions of its own and of others, a branch never taken, a print. */
typedef unsigned int u32; typedef unsigned long long u64;
/* CPU v4 divides signed numbers, older ones do not. */
#ifdef __BPF_FEATURE_SDIV_SMOD
#define DIVIDE(x) ((x) / 7)
#else
#define DIVIDE(x) ((int)((u32)(x) / 7))
#endif
struct value { u64 n; char name[6]; short k; };
struct { int (*type)[1]; u32 *key; struct value *value; int (*max_entries)[16]; } hits __attribute__((section(".maps"), used));
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*print)(const char *, u32, u64) = (void *)6;
const volatile int limit = 5;
int counter = 3; static long total;
__attribute__((noinline)) static int sub(int x) { return x > limit ? x * 3 : DIVIDE(x); }
__attribute__((noinline)) int twice(int x) { return sub(x + 1) + counter; }
struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
__attribute__((section("xdp"))) int prog(struct xdp_md *ctx) {
  u32 key = ctx->ingress_ifindex;
  struct value *found = lookup(&hits, &key);
  if (found) {
    __sync_fetch_and_add(&found->n, 1);
    total += found->k;
  }
  static const char format[] = "seen %d";
  if (limit < 3) print(format, sizeof(format), key);
  return twice(key) > 4 ? 1 : 2;
}
char _license[] __attribute__((section("license"), used)) = "GPL";
