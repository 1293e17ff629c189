/* Every kind of reference that an assembler meets: maps, data, functions, kernel functions, helpers. */
typedef unsigned int u32; typedef unsigned long long u64; typedef unsigned short u16; typedef unsigned char u8;
struct { int (*type)[2]; u32 *key; u64 *value; int (*max_entries)[4]; } counts __attribute__((section(".maps"), used));
static void *(*lookup)(void *, const void *) = (void *)1;
extern int bpf_kfunc_foo(int x) __attribute__((section(".ksyms")));
extern int jiffies_x __attribute__((section(".ksyms")));
int glob = 5; u64 zero; const volatile int cfg = 3; static int tbl[4]={1,2,3,4};
__attribute__((noinline)) static int sub(u64 x, u32 y) { int s = 0; for (u64 i=0;i<x;i++) s += y * i; return s ? s : glob; }
__attribute__((noinline)) int gsub(u64 x) { return sub(x, 3) + tbl[x&3]; }
struct ctx { u32 data, end, meta, a, b, c; };
__attribute__((section("xdp"))) int prog(struct ctx *c) {
  u32 k = 0; u64 *v = lookup(&counts, &k);
  if (v) { __sync_fetch_and_add(v, 1); }
  zero += c->data;
  if ((int)c->a < -5) return (short)c->b;
  u64 z = __builtin_bswap32(c->a);
  return gsub(z) + cfg + bpf_kfunc_foo(c->c);
}
char _license[] __attribute__((section("license"), used)) = "GPL";
