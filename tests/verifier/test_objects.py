"""Objects that clang made: our verdict and count of instructions against the running kernel's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebpfkit.elf import open_object
from ebpfkit.verifier import verify_program
from tests.conftest import require_tool

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

pytestmark = pytest.mark.kernel

PRELUDE = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
#define SEC(n) __attribute__((section(n), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*update)(void *, const void *, const void *, u64) = (void *)2;
static u64 (*ktime)(void) = (void *)5;
static long (*csum_diff)(u32 *, u32, u32 *, u32, u32) = (void *)28;
char LICENSE[] SEC("license") = "GPL";
struct { __uint(type, 1); __uint(max_entries, 64); __type(key, u32); __type(value, u64[4]); } table SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, u64[4]); } cells SEC(".maps");
"""

SOURCES = {
    "headers": """
SEC("xdp") int prog(struct xdp_md *ctx) {
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  if (data + 34 > end) return 2;
  if (*(u16 *)(data + 12) != 8) return 2;
  u32 length = (data[14] & 15) * 4;
  if (length < 20) return 1;
  u8 *next = data + 14 + length;
  if (next + 4 > end) return 1;
  return *(u16 *)(next + 2) == 0x3500 ? 1 : 2;
}""",
    "loop over options": """
SEC("xdp") int prog(struct xdp_md *ctx) {
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  u8 *at = data + 34;
  u32 sum = 0;
#pragma clang loop unroll(disable)
  for (int i = 0; i < 10; i++) {
    if (at + 2 > end) return 2;
    u8 kind = at[0], size = at[1];
    if (kind == 0) break;
    if (kind == 1) { at += 1; continue; }
    if (size < 2) return 1;
    sum += size;
    at += size;
  }
  return sum > 20 ? 1 : 2;
}""",
    "look-up and bounds": """
SEC("xdp") int prog(struct xdp_md *ctx) {
  u32 key = ctx->rx_queue_index;
  u64 *value = lookup(&table, &key);
  if (!value) { u64 fresh[4] = {1, 2, 3, 4}; update(&table, &key, fresh, 0); return 2; }
  u32 index = value[0];
  if (index >= 4) return 1;
  value[index] += ktime();
  u32 one = 1;
  u64 *cell = lookup(&cells, &one);
  if (cell) __sync_fetch_and_add(&cell[2], 1);
  return 2;
}""",
    "functions": """
static __attribute__((noinline)) int classify(u8 *data, u8 *end, u32 offset) {
  if (offset > 60) return 0;
  data += offset;
  if (data + 2 > end) return 0;
  return data[0] + data[1];
}
SEC("xdp") int prog(struct xdp_md *ctx) {
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  int a = classify(data, end, 12), b = classify(data, end, 23);
  return a > b ? 1 : 2;
}""",
    "checksum of a stack buffer": """
SEC("xdp") int prog(struct xdp_md *ctx) {
  u32 words[8] = {0};
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  if (data + 34 > end) return 2;
  for (int i = 0; i < 5; i++) words[i] = *(u32 *)(data + 14 + 4 * i);
  return csum_diff(0, 0, words, 20, 0) & 1 ? 1 : 2;
}""",
    "an unchecked byte": """
SEC("xdp") int prog(struct xdp_md *ctx) {
  u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  if (data + 14 > end) return 2;
  return data[14];
}""",
    "a missing null check": """
SEC("xdp") int prog(struct xdp_md *ctx) {
  u32 key = 0;
  u64 *value = lookup(&table, &key);
  return value[0];
}""",
    "an index that may be too large": """
SEC("xdp") int prog(struct xdp_md *ctx) {
  u32 key = 0;
  u64 *value = lookup(&table, &key);
  if (!value) return 2;
  u32 index = ctx->rx_queue_index & 7;
  return value[index];
}""",
}
REJECTED = {"an unchecked byte", "a missing null check", "an index that may be too large"}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("options", [("-mcpu=v2",), ("-mcpu=v3",)], ids=["v2", "v3"])
def test_clang_objects(name: str, options: tuple[str, ...], oracle: KernelOracle, tmp_path: Path) -> None:
    clang = require_tool("clang")
    source, built = tmp_path / "prog.c", tmp_path / "prog.o"
    source.write_text(PRELUDE + SOURCES[name])
    subprocess.run([clang, "-target", "bpf", "-O2", "-g", *options, "-c", source, "-o", built], check=True)
    spec = open_object(built).programs["prog"]
    report = verify_program(spec)
    verdict = oracle.ask(spec)
    assert report.verdict == ("reject" if name in REJECTED else "accept"), str(report)
    assert verdict.accepted == (report.verdict == "accept"), verdict.log
    assert report.insns_processed == verdict.processed
    if report.verdict == "reject":
        assert report.span is not None and report.span.file.endswith("prog.c")


LOCKED = """
struct bpf_spin_lock { u32 val; };
union inner { struct bpf_spin_lock lock; u32 number; };
struct guarded { union inner inner; u32 count; };
struct { __uint(type, 2); __uint(max_entries, 8); __type(key, u32); __type(value, struct guarded); } locks SEC(".maps");
SEC("xdp") int prog(struct xdp_md *ctx) {
  u32 key = ctx->rx_queue_index;
  struct guarded *g = lookup(&locks, &key);
  if (g) g->count++;
  return 2;
}"""


def test_special_fields_are_unsupported_by_name(tmp_path: Path) -> None:
    clang = require_tool("clang")
    source, built = tmp_path / "prog.c", tmp_path / "prog.o"
    source.write_text(PRELUDE + LOCKED)
    subprocess.run([clang, "-target", "bpf", "-O2", "-g", "-c", source, "-o", built], check=True)
    report = verify_program(open_object(built).programs["prog"])
    assert report.verdict == "unsupported" and "special fields" in report.message


def test_debian_objects(oracle: KernelOracle) -> None:
    folder = Path("/usr/lib/x86_64-linux-gnu/bpf")
    names = (
        "xdp-dispatcher",
        "xdpdump_xdp",
        "xdpfilt_alw_eth",
        "xdpfilt_alw_udp",
        "xsk_def_xdp_prog",
        "xsk_def_xdp_prog_5.3",
    )
    paths = [path for name in names if (path := folder / f"{name}.o").exists()]
    if not paths:
        from tests.conftest import skip_or_fail

        skip_or_fail("xdp-tools is not installed")
    for path in paths:
        for spec in open_object(path).programs.values():
            if spec.prog_type != "xdp":
                continue
            report, verdict = verify_program(spec), oracle.ask(spec)
            assert report.verdict == "accept" and verdict.accepted, (path, spec.name, str(report), verdict.reason)
            assert report.insns_processed == verdict.processed, (path, spec.name)
