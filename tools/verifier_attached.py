#!/usr/bin/env python3
"""Programs that attach by BTF, which this machine's kernel refuses: our verdicts against a guest kernel's.

    python tools/verifier_attached.py 6.12

Function entry and exit, modified returns, LSM hooks, typed tracepoints and iterators: each argument read in each width,
members of what it points to, every kind of returned value. One boot under qemu (`guest_kernel.py`) judges them all.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "verifier"))
from cases import program
from guest_kernel import Guest, Load

from ebpfkit.abi.attach_types import BTF_TARGETS
from ebpfkit.abi.model import HostProfile
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier import verify_program

FUNCTIONS = ("tcp_connect", "do_unlinkat", "vfs_read", "wake_up_new_task")
HOOKS = ("file_open", "file_free_security", "bprm_check_security", "inode_xattr_skipcap")
GROUP_HOOKS = ("socket_bind", "sk_free_security")
TRACEPOINTS = ("sched_switch", "kfree_skb", "inet_sock_set_state")
ITERATORS = ("task", "bpf_map_elem", "tcp")
RETURNS = (0, 1, -1, -4095, -4096, 5)


def spec_of(text: str, attach_type: str, target: str) -> ProgramSpec:
    prog_type = "lsm" if attach_type.startswith("lsm") else "tracing"
    return program(text, prog_type).replace(attach_type=attach_type, attach_target=target)


def cases() -> Iterator[ProgramSpec]:
    """Every program."""
    places = {
        "trace_fentry": FUNCTIONS,
        "trace_fexit": FUNCTIONS,
        "modify_return": ("security_file_open",),
        "lsm_mac": HOOKS,
        "lsm_cgroup": GROUP_HOOKS,
        "trace_raw_tp": TRACEPOINTS,
        "trace_iter": ITERATORS,
    }
    for attach_type, targets in places.items():
        for target in targets:
            for value in RETURNS:
                yield spec_of(f"r0 = {value}; exit", attach_type, target)
            for number in range(5):
                place = f"(r1 + {8 * number})"
                end = f"r0 = {int(attach_type == 'lsm_cgroup')}; exit"
                yield spec_of(f"r2 = *(u64 *){place}; {end}", attach_type, target)
                yield spec_of(f"r2 = *(u32 *){place}; {end}", attach_type, target)
                for offset in (0, 8, 16, 48):
                    yield spec_of(f"r2 = *(u64 *){place}; r3 = *(u64 *)(r2 + {offset}); {end}", attach_type, target)
                    text = (
                        f"r2 = *(u64 *){place}; if r2 == 0 goto +2; r3 = *(u64 *)(r2 + {offset}); r4 = *(u64 *)(r3 + 8)"
                    )
                    yield spec_of(f"{text}; {end}", attach_type, target)
                yield spec_of(f"r1 = *(u64 *){place}; call 175; {end}", attach_type, target)


def main() -> int:
    series = sys.argv[1] if len(sys.argv) > 1 else "6.12"
    guest = Guest(series)
    specs = list(cases())
    loads = [Load(s, attach_to=BTF_TARGETS[s.attach_type or ""][0] + (s.attach_target or "")) for s in specs]
    counts: collections.Counter[tuple[str, str, bool]] = collections.Counter()
    for spec, kernel in zip(specs, guest.load(loads), strict=True):
        report = verify_program(spec, HostProfile(kernel=series), kernel_btf=guest.vmlinux)
        theirs = "accept" if kernel.accepted else "reject"
        same = kernel.accepted or report.message in kernel.log
        counts[theirs, report.verdict, same] += 1
        if theirs != report.verdict or not same:
            print(f"{spec.attach_type} {spec.attach_target}: {theirs} ({kernel.reason}); {report}")
    for (theirs, ours, same), count in sorted(counts.items()):
        print(f"{count} kernel {theirs}, we {ours}{'' if same else ', for another reason'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
