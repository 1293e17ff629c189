"""Arenas: memory shared with user space, behind addresses that the machine keeps inside."""

# ruff: noqa: E501 - programs in C, one a line
from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cases import program
from judged import assert_agrees
from test_allocated_objects import name_of
from test_objects import PRELUDE

from ebpfkit.elf import open_object
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

    from ebpfkit.elf.model import ObjectFile

TYPES = """
#define A __attribute__((address_space(1)))
#define KSYM __attribute__((section(".ksyms")))
#define hide(x) asm volatile("" : "+r"(x))
struct { __uint(type, 33); __uint(map_flags, 1024); __uint(max_entries, 10); enum { place = 1ull << 44 } map_extra; } arena SEC(".maps");
extern void A *bpf_arena_alloc_pages(void *, void A *, u32, int, u64) KSYM; extern void bpf_arena_free_pages(void *, void A *, u32) KSYM;
struct item { struct item A *next; u64 v; };
static u64 (*now)(void) = (void *)5;
"""
PAGE = "struct item A *p = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);"

# name -> (verdict, section, body)
CASES = {
    "pages": ("accept", "syscall", f"{PAGE} if (!p) return 1; p->v = 3; p->next = p; p->next->v++; bpf_arena_free_pages(&arena, p, 1);"),
    "not tested": ("accept", "syscall", f"{PAGE} p->v = 3;"),
    "a list in a loop": ("accept", "syscall", f"{PAGE} for (int i = 0; i < 10 && p; i++) {{ p->v += i; p = p->next; }}"),
    "an atomic": ("accept", "syscall", f"{PAGE} __sync_fetch_and_add(&p->v, 3);"),
    "an exchange": ("accept", "syscall", f"{PAGE} return __sync_val_compare_and_swap(&p->v, 3, 4);"),
    "an atomic that the machine lacks there": ("reject", "syscall", f"{PAGE} return __sync_fetch_and_or(&p->v, 3);"),
    "signed bytes": ("accept", "syscall", f"{PAGE} long x = *(signed char A *)p; return x + 5 > 7;"),
    "any arithmetic": ("accept", "syscall", f"{PAGE} char A *q = (void A *)p; q += now(); q[3] = 1; return q[now()];"),
    "kept on the stack": ("accept", "syscall", f"{PAGE} u64 a[3] = {{}}; a[1] = (u64)p; hide(ctx); char A *q = (void A *)a[1]; q[0] = 1;"),
    "as a helper's memory": ("reject", "syscall", f"{PAGE} update(&table, (void *)p, (void *)p, 0);"),
    "where nothing may sleep": ("reject", "tc", f"{PAGE} return p != 0;"),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> ObjectFile:
    from verifier_kernel import running_types

    pytest.importorskip("ziglang")
    folder = tmp_path_factory.mktemp("arena")
    text = PRELUDE + TYPES
    for name, (_, section, body) in CASES.items():
        text += f'SEC("{section}") int {name_of(name)}(void *ctx) {{ {body} return 0; }}\n'
    (folder / "prog.c").write_text(text)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding", "-O2", "-g", "-w", "-mcpu=v4"]
    subprocess.run([*command, "-c", folder / "prog.c", "-o", folder / "prog.o"], check=True)
    return open_object(folder / "prog.o", target_btf=running_types())


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_arenas(name: str, oracle: KernelOracle, built: ObjectFile) -> None:
    from verifier_kernel import running_types

    assert_agrees(built.programs[name_of(name)], CASES[name][0], oracle, running_types())


def test_a_cast_needs_an_arena() -> None:
    report = verify_program(program("r1 = addr_space_cast(r1, 0, 1); r0 = 0; exit"))
    assert report.rule == "arena-access"
