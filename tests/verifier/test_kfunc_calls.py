# ruff: noqa: E501 - one program a line
"""Kernel functions of every kind, called from assembly: verdict, reason and count against the kernel's."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from cases import MAPS, kernel_program
from judged import assert_agrees

from ebpfkit.abi.kfunc_table import PROTOTYPES
from ebpfkit.abi.kfuncs import FLAGS, may_call_kfunc
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.verifier import verify_program
from ebpfkit.verifier.kernel_functions import known_function
from ebpfkit.verifier.transfer.graph import CALLS

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

SLEEPS = 1 << 4
BIG = {**MAPS, "big": MapSpec("big", "array", 4, 512, 1, data=bytes(512))}
DYN = "r0 = 0; *(u64 *)(r10 - 64) = r0; r1 = map[data][0]+0 ll; r2 = 64; r3 = 0; r4 = r10; r4 += -16; call 197; "

# name -> (verdict, program type, attach type, target, program)
CASES = {
    "xattr on a cgroup": (
        "accept",
        "syscall",
        None,
        None,
        f"r1=1; kcall bpf_cgroup_from_id; if r0==0 goto out; r7=r0; {DYN}r1=r7; r2 = map[rodata][0]+0 ll; r3=r10; r3+=-16; kcall bpf_cgroup_read_xattr; r1=r7; kcall bpf_cgroup_release; out:; r0=0; exit",
    ),
    "task dynptr": (
        "accept",
        "syscall",
        None,
        None,
        f"call 158; r7=r0; {DYN}r1=r10; r1+=-16; r2=0; r3=8; r4=0; r5=r7; kcall bpf_copy_from_user_task_dynptr; r0=0; exit",
    ),
    "task str dynptr": (
        "accept",
        "syscall",
        None,
        None,
        f"call 158; r7=r0; {DYN}r1=r10; r1+=-16; r2=0; r3=8; r4=0; r5=r7; kcall bpf_copy_from_user_task_str_dynptr; r0=0; exit",
    ),
    "crypto": (
        "accept",
        "syscall",
        None,
        None,
        "r1=map[big][0]+0 ll; r2=408; r3=r10; r3+=-8; *(u64*)(r10-8)=0; kcall bpf_crypto_ctx_create; if r0==0 goto out; r1=r0; kcall bpf_crypto_ctx_release; out:; r0=0; exit",
    ),
    "crypto leak": (
        "reject",
        "syscall",
        None,
        None,
        "r1=map[big][0]+0 ll; r2=408; r3=r10; r3+=-8; *(u64*)(r10-8)=0; kcall bpf_crypto_ctx_create; r0=0; exit",
    ),
    "dmabuf": (
        "accept",
        "syscall",
        None,
        None,
        "r1=r10; r1+=-8; kcall bpf_iter_dmabuf_new; loop:; r1=r10; r1+=-8; kcall bpf_iter_dmabuf_next; if r0==0 goto end; r2=*(u64*)(r0+0); goto loop; end:; r1=r10; r1+=-8; kcall bpf_iter_dmabuf_destroy; r0=0; exit",
    ),
    "css task": (
        "accept",
        "syscall",
        None,
        None,
        "r1=1; kcall bpf_cgroup_from_id; if r0==0 goto out; r7=r0; kcall bpf_rcu_read_lock; r1=r10; r1+=-8; r2=r7; r3=0; kcall bpf_iter_css_task_new; loop:; r1=r10; r1+=-8; kcall bpf_iter_css_task_next; if r0==0 goto end; r2=*(u64*)(r0+0); goto loop; end:; r1=r10; r1+=-8; kcall bpf_iter_css_task_destroy; kcall bpf_rcu_read_unlock; r1=r7; kcall bpf_cgroup_release; out:; r0=0; exit",
    ),
    "css task no rcu": (
        "accept",
        "syscall",
        None,
        None,
        "r1=1; kcall bpf_cgroup_from_id; if r0==0 goto out; r7=r0; r1=r10; r1+=-8; r2=r7; r3=0; kcall bpf_iter_css_task_new; loop:; r1=r10; r1+=-8; kcall bpf_iter_css_task_next; if r0==0 goto end; r2=*(u64*)(r0+0); r1=r0; kcall bpf_task_acquire; if r0==0 goto loop; r1=r0; kcall bpf_task_release; goto loop; end:; r1=r10; r1+=-8; kcall bpf_iter_css_task_destroy; r1=r7; kcall bpf_cgroup_release; out:; r0=0; exit",
    ),
    "nat": (
        "accept",
        "xdp",
        None,
        None,
        "r3=0; *(u64*)(r10-8)=r3; *(u64*)(r10-16)=r3; *(u64*)(r10-24)=r3; *(u64*)(r10-32)=r3; r2=r10; r2+=-16; r3=12; r4=r10; r4+=-32; r5=12; kcall bpf_xdp_ct_alloc; if r0==0 goto out; r7=r0; r1=r0; r2=r10; r2+=-48; r3=7; r4=0; kcall bpf_ct_set_nat_info; r1=r7; kcall bpf_ct_insert_entry; if r0==0 goto out; r1=r0; kcall bpf_ct_release; out:; r0=0; exit",
    ),
    "nat after": (
        "reject",
        "xdp",
        None,
        None,
        "r3=0; *(u64*)(r10-8)=r3; *(u64*)(r10-16)=r3; *(u64*)(r10-24)=r3; *(u64*)(r10-32)=r3; r2=r10; r2+=-16; r3=12; r4=r10; r4+=-32; r5=12; kcall bpf_xdp_ct_lookup; if r0==0 goto out; r7=r0; r1=r0; r2=r10; r2+=-48; r3=7; r4=0; kcall bpf_ct_set_nat_info; r1=r7; kcall bpf_ct_release; out:; r0=0; exit",
    ),
    "reqsk": (
        "reject",
        "sched_cls",
        None,
        None,
        "r6=r1; r0=0; *(u64*)(r10-32)=r0;*(u64*)(r10-24)=r0;*(u64*)(r10-16)=r0;*(u64*)(r10-8)=r0; r2=r10; r2+=-12; r3=12; r4=0; r5=0; call 99; if r0==0 goto out; r7=r0; r1=r6; r2=r7; r3=r10; r3+=-32; r4=20; kcall bpf_sk_assign_tcp_reqsk; r1=r7; call 86; out:; r0=0; exit",
    ),
    "reqsk null": (
        "reject",
        "sched_cls",
        None,
        None,
        "r6=r1; r0=0; *(u64*)(r10-32)=r0;*(u64*)(r10-24)=r0;*(u64*)(r10-16)=r0;*(u64*)(r10-8)=r0; r2=r10; r2+=-12; r3=12; r4=0; r5=0; call 99; r7=r0; r1=r6; r2=r7; r3=r10; r3+=-32; r4=20; kcall bpf_sk_assign_tcp_reqsk; if r7==0 goto out; r1=r7; call 86; out:; r0=0; exit",
    ),
    "sun path": (
        "accept",
        "cgroup_sock_addr",
        "cgroup_unix_connect",
        None,
        "kcall bpf_cast_to_kern_ctx; r1=r0; r2=r10; r2+=-8; *(u64*)(r10-8)=1; r3=8; kcall bpf_sock_addr_set_sun_path; r0=1; exit",
    ),
    "tx tstamp": (
        "accept",
        "sock_ops",
        None,
        None,
        "kcall bpf_cast_to_kern_ctx; r1=r0; r2=0; kcall bpf_sock_ops_enable_tx_tstamp; r0=1; exit",
    ),
    "stream": (
        "reject",
        "xdp",
        None,
        None,
        "r1=1; r2=map[rodata][0]+0 ll; r3=0; r4=0; kcall bpf_stream_vprintk_impl; r0=0; exit",
    ),
    "stream2": (
        "accept",
        "xdp",
        None,
        None,
        "*(u64*)(r10-8)=1; r1=1; r2=map[rodata][0]+0 ll; r3=r10; r3+=-8; r4=8; kcall bpf_stream_vprintk_impl; r0=0; exit",
    ),
    "sock sum": ("accept", "xdp", None, None, "r1=map[hash] ll; kcall bpf_map_sum_elem_count; exit"),
    "session": (
        "accept",
        "kprobe",
        "trace_kprobe_session",
        None,
        "kcall bpf_session_cookie; *(u64*)(r0+0)=1; r1=*(u64*)(r0+0); r0=0; exit",
    ),
    "session beyond": (
        "reject",
        "kprobe",
        "trace_kprobe_session",
        None,
        "kcall bpf_session_cookie; *(u64*)(r0+8)=1; r0=0; exit",
    ),
    "session return": ("reject", "kprobe", "trace_kprobe_session", None, "kcall bpf_session_is_return; exit"),
    "session return2": ("accept", "kprobe", "trace_kprobe_session", None, "kcall bpf_session_is_return; r0&=1; exit"),
    "session elsewhere": ("reject", "kprobe", None, None, "kcall bpf_session_is_return; r0=0; exit"),
    "destroy": (
        "accept",
        "tracing",
        "trace_iter",
        "tcp",
        "r1=*(u64*)(r1+8); if r1==0 goto out; kcall bpf_sock_destroy; out:; r0=0; exit",
    ),
    "destroy elsewhere": (
        "reject",
        "tracing",
        "trace_raw_tp",
        "inet_sock_set_state",
        "r1=*(u64*)(r1+0); kcall bpf_sock_destroy; r0=0; exit",
    ),
    "kmem": (
        "accept",
        "kprobe",
        None,
        None,
        "r1=4096; kcall bpf_get_kmem_cache; if r0==0 goto out; r1=*(u64*)(r0+0); out:; r0=0; exit",
    ),
    "kmem unchecked": (
        "accept",
        "kprobe",
        None,
        None,
        "r1=4096; kcall bpf_get_kmem_cache; r1=*(u64*)(r0+0); r0=0; exit",
    ),
}


def build(name: str) -> ProgramSpec:
    _, prog_type, attach_type, target, text = CASES[name]
    flags = SLEEPS if prog_type == "syscall" else 0
    spec = kernel_program(text, prog_type, attach_type=attach_type, attach_target=target, flags=flags)
    return spec.replace(maps=BIG)


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_calls_of_kernel_functions(name: str, oracle: KernelOracle) -> None:
    assert_agrees(build(name), CASES[name][0], oracle, oracle.types)


# What a register may hold before the call: what must be had first, and the line that sets it.
SOURCES = {
    "number": ("", "r{n} = 7"),
    "zero": ("", "r{n} = 0"),
    "stack": ("", "r{n} = r10; r{n} += -64"),
    "odd stack": ("", "r{n} = r10; r{n} += -61"),
    "context": ("", "r{n} = r6"),
    "nothing": ("", ""),
    "text": ("", "r{n} = map[rodata][0]+0 ll"),
    "map": ("", "r{n} = map[hash] ll"),
    "unknown": ("", "r{n} = *(u64 *)(r10 - 128)"),
    "argument": ("", "r{n} = *(u64 *)(r6 + 0)"),
    "task": ("call 158; r7 = r0", "r{n} = r7"),
    "member": ("call 158; r7 = *(u64 *)(r0 + 0)", "r{n} = r7"),
}
_FITTING = {"task_struct": ["task"], "sock": ["argument"], "tcp_sock": ["argument"], "__sk_buff": ["context"]}
PLACES = {
    "struct_ops": ("struct_ops", "tcp_congestion_ops/ssthresh"),
    "xdp": (None, None), "sched_cls": (None, None), "syscall": (None, None), "perf_event": (None, None),
    "tracing": ("trace_iter", "tcp"), "kprobe": ("trace_kprobe_session", None), "cgroup_skb": (None, None),
}  # fmt: skip


def random_calls(name: str, count: int) -> list[ProgramSpec]:
    """Calls of the function with arguments that mostly are what its prototype asks for."""
    rng = random.Random(name)
    known = known_function(name)
    assert known is not None
    places = [
        place for place, (attach, _) in PLACES.items() if may_call_kfunc(name, place, attach) and place != "syscall"
    ] or ["syscall"]
    found = []
    for _ in range(count):
        chosen = []
        for parameter in known.parameters:
            fitting = ["number", "zero", "unknown"] if not parameter.is_pointer else ["stack", "text", "task"]
            fitting = _FITTING.get(parameter.struct, fitting)
            fitting = ["text"] if parameter.has("__str") else fitting
            chosen.append(rng.choice(fitting if rng.random() < 0.8 else list(SOURCES)))
        before = list(dict.fromkeys(SOURCES[source][0] for source in chosen if SOURCES[source][0]))[:1]
        if any(SOURCES[source][0] and SOURCES[source][0] not in before for source in chosen):
            continue
        lines = ["r6 = r1; r0 = 0; *(u64 *)(r10 - 64) = r0; *(u64 *)(r10 - 56) = r0; *(u64 *)(r10 - 128) = r0", *before]
        lines += [SOURCES[source][1].format(n=number + 1) for number, source in enumerate(chosen) if SOURCES[source][1]]
        text = "; ".join([*lines, f"kcall {name}; r0 = 0; exit"])
        place = rng.choice(places)
        attach, target = PLACES[place]
        flags = SLEEPS if place == "syscall" else 0
        found.append(kernel_program(text, place, attach_type=attach, attach_target=target, flags=flags))
    return found


@pytest.mark.kernel
@pytest.mark.parametrize("name", sorted(set(PROTOTYPES) & set(FLAGS) - set(CALLS)))
def test_arguments_of_kernel_functions(name: str, oracle: KernelOracle) -> None:
    for spec in random_calls(name, 12):
        report = verify_program(spec, kernel_btf=oracle.types)
        if report.verdict != "unsupported":
            assert_agrees(spec, report.verdict, oracle, oracle.types)
