"""Every rule shown by an example: the failing program breaks that very rule, the mended one is accepted."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.diag.examples import EXAMPLE_MAPS, EXAMPLES, Example
from ebpfkit.diag.kernel_log import parse_kernel_log
from ebpfkit.diag.rules import RULES
from ebpfkit.elf import open_object
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.elf.raw import program_from_code
from ebpfkit.verifier import verify_program
from tests.conftest import require_tool

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

_STRICT = 1
# Rules of which no example can be a few lines of assembly or C for a packet program: what they need instead.
WITHOUT = {
    "attach-target": "the BTF of an attach target",
    "back-edge": "a kernel before 5.3, or an unprivileged loader",
    "btf-mismatch": "wrong BTF",
    "invalid-register": "bytes that no assembler writes",
    "not-in-kernel": "a kernel older than the program",
    "not-modelled": "no rule of the kernel",
    "other": "no rule of the kernel",
    "pointer-comparison": "an unprivileged loader",
    "reserved-field": "bytes that no assembler writes",
    "too-large": "a million instructions",
    "too-many-functions": "257 functions",
    "too-many-maps": "65 maps",
    "uninitialised-stack": "an unprivileged loader",
    "unknown-opcode": "bytes that no assembler writes",
    "unprivileged": "an unprivileged loader",
    "untrusted-pointer": "kernel functions and BTF",
    "verifier-bug": "no rule of the kernel",
}


def _maps() -> list[MapSpec]:
    return [
        MapSpec(
            name, kind, key, value, entries,
            data=bytes(value) if name in ("settings", "state") else None, frozen=name == "settings",
        )
        for name, (kind, key, value, entries) in EXAMPLE_MAPS.items()
    ]  # fmt: skip


_HEADERS = {
    "vmlinux.h": """
typedef unsigned char __u8; typedef unsigned int __u32; typedef unsigned long long __u64;
typedef int s32; typedef __u64 u64;
enum { BPF_MAP_TYPE_ARRAY = 2, BPF_F_WRONLY_PROG = 1 << 8 };
enum { XDP_ABORTED, XDP_DROP, XDP_PASS };
struct xdp_md { __u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct __sk_buff { __u32 len, pkt_type, mark; };
struct bpf_spin_lock { __u32 val; };
struct bpf_iter_num { __u64 opaque[1]; } __attribute__((aligned(8)));
struct task_struct;
""",
    "bpf/bpf_helpers.h": """
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __ksym __attribute__((section(".ksyms")))
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*bpf_loop)(__u32 rounds, void *callback, void *ctx, __u64 flags) = (void *)181;
char _license[] SEC("license") = "GPL";
""",
}
"""What the headers that the examples in C include have of it."""


def _compile(text: str) -> ProgramSpec:
    clang = require_tool("clang")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for header, content in _HEADERS.items():
            (folder / header).parent.mkdir(exist_ok=True)
            (folder / header).write_text(content)
        (folder / "prog.c").write_text(text)
        command = [clang, "--target=bpf", "-O2", "-g", "-mcpu=v3", "-I.", "-c", "prog.c", "-o", "prog.o"]
        subprocess.run(command, cwd=folder, check=True)
        return open_object(folder / "prog.o").programs["prog"]


def _program(example: Example, text: str) -> ProgramSpec:
    if example.language == "C":
        return _compile(text)
    spec = program_from_code(parse(text), prog_type=example.prog_type, maps=_maps(), license=example.license)
    return spec.replace(flags=_STRICT) if example.strict_alignment else spec


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_and_is_mended(rule: str) -> None:
    example = EXAMPLES[rule]
    types = read_btf_file() if "task_struct" in example.failing else None
    failing, mended = (
        verify_program(_program(example, text), kernel_btf=types) for text in (example.failing, example.mended)
    )
    assert (failing.verdict, failing.rule) == ("reject", rule), str(failing)
    assert mended.verdict == "accept", str(mended)


@pytest.mark.kernel
@pytest.mark.parametrize("rule", EXAMPLES)
def test_the_running_kernel_sees_the_examples_so(rule: str, oracle: KernelOracle) -> None:
    example = EXAMPLES[rule]
    if rule not in ("empty-program", "invalid-map"):  # refused before there is a verifier, and without a log
        verdict = oracle.ask(_program(example, example.failing))
        assert not verdict.accepted
        assert parse_kernel_log(verdict.log, rejected=True).rule == rule, verdict.log
    assert oracle.ask(_program(example, example.mended)).accepted


def test_every_rule_has_an_example_or_a_reason_why_not() -> None:
    assert set(EXAMPLES) | set(WITHOUT) == set(RULES)
    assert not set(EXAMPLES) & set(WITHOUT)
