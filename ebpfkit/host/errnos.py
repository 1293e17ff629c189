"""What an errno of the kernel means for maps and programs: the cause, and what to do about it, in one line.

Attaching and binding have their own page (`attach`). Nothing here raises; callers put the text into their error.
"""

from __future__ import annotations

import errno
import os

from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.kernel.caps import effective_capabilities

__all__ = ["describe_errno", "explain_map_access", "explain_map_create", "explain_program_load", "missing_capabilities"]

ENOTSUPP = 524  # the kernel's own, without a name in errno.h

_POLICY = (
    "not permitted by this system's policy "
    "(lockdown, an LSM, or RLIMIT_MEMLOCK before Linux 5.11: `ulimit -l unlimited`)"
)
_TRACING_TYPES = frozenset(
    {"kprobe", "tracepoint", "perf_event", "raw_tracepoint", "raw_tracepoint_writable", "tracing", "lsm", "ext"}
)
_NETWORK_TYPES = frozenset(
    {
        "xdp", "sched_cls", "sched_act", "cgroup_skb", "cgroup_sock", "cgroup_sock_addr", "cgroup_sockopt",
        "cgroup_sysctl",
        "sock_ops", "sk_skb", "sk_msg", "sk_lookup", "sk_reuseport", "flow_dissector", "lwt_in", "lwt_out", "lwt_xmit",
        "lwt_seg6local", "netfilter", "cgroup_device", "struct_ops", "ext",
    }
)  # fmt: skip
_NETWORK_MAPS = frozenset({"devmap", "devmap_hash", "cpumap", "xskmap", "sockmap", "sockhash", "reuseport_sockarray"})


def describe_errno(number: int) -> str:
    """The errno's own name and text: "EBUSY (Device or resource busy)"."""
    if number == ENOTSUPP:
        return "ENOTSUPP (Operation not supported by this map type or kernel)"
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"


def missing_capabilities(*wanted: str, through_bpf: bool = True) -> tuple[str, ...]:
    """Those of the capabilities that this process lacks. In bpf(2) CAP_SYS_ADMIN stands in for each of them."""
    have = effective_capabilities()
    if through_bpf and "CAP_SYS_ADMIN" in have:
        return ()
    return tuple(name for name in wanted if name not in have)


def explain_permission(wanted: tuple[str, ...], otherwise: str, *, through_bpf: bool = True) -> str:
    """The cause of an EPERM: the capabilities that are missing, or `otherwise` when none is."""
    missing = missing_capabilities(*wanted, through_bpf=through_bpf)
    if missing:
        return f"this process lacks {' and '.join(missing)}; run it as root (sudo), or give it those capabilities"
    return otherwise


def explain_map_create(spec: MapSpec, number: int) -> str:
    """Why BPF_MAP_CREATE refused the map."""
    head = f"cannot create map {spec.name!r} ({spec.type}): "
    if number == errno.EPERM:
        wanted = ("CAP_BPF", "CAP_NET_ADMIN") if spec.type in _NETWORK_MAPS else ("CAP_BPF",)
        return head + explain_permission(
            wanted,
            _POLICY,
        )
    if number == errno.E2BIG:
        return f"{head}too big for the kernel: {_map_shape(spec)}; make max_entries or value_size smaller"
    if number == errno.ENOMEM:
        shape = _map_shape(spec)
        return (
            f"{head}the kernel has no memory for it: {shape}; make it smaller, or add BPF_F_NO_PREALLOC to a hash map"
        )
    if number == errno.EINVAL:
        return f"{head}the kernel does not accept its shape or does not know this type or flag: {_map_shape(spec)}"
    if number in (ENOTSUPP, errno.EOPNOTSUPP):
        return f"{head}not supported by this kernel: {_map_shape(spec)}"
    return head + describe_errno(number)


def _map_shape(spec: MapSpec) -> str:
    flags = f", flags {spec.flags:#x}" if spec.flags else ""
    return f"key {spec.key_size} bytes, value {spec.value_size} bytes, max_entries {spec.max_entries}{flags}"


_VALUE_IS = {
    "xskmap": "AF_XDP sockets", "sockmap": "sockets", "sockhash": "sockets", "reuseport_sockarray": "sockets",
    "prog_array": "programs", "perf_event_array": "perf events", "cgroup_array": "cgroups",
    "array_of_maps": "maps", "hash_of_maps": "maps",
}  # fmt: skip


def explain_map_access(spec: MapSpec, number: int, action: str, key: bytes) -> str:
    """Why the kernel refused to "read", "write", "delete", "take", "walk" or "freeze" an entry or a whole map."""
    where = f"key {key.hex()} of " if key else ""
    head = f"cannot {action} {where}map {spec.name!r} ({spec.type}): "
    unsupported = number in (ENOTSUPP, errno.EOPNOTSUPP)
    if number == errno.E2BIG:
        return f"{head}it is full or the index is beyond it ({spec.max_entries} entries); give it more max_entries"
    if number == errno.EEXIST:
        return f"{head}the key is already there"
    if number == errno.ENOENT:
        return f"{head}the key is not there"
    if number == errno.EPERM:
        return head + explain_permission(("CAP_BPF",), "the map is frozen or its flags do not allow it")
    if number in (errno.EBADF, errno.ENOTSOCK) and spec.type in _VALUE_IS:
        kind = _VALUE_IS[spec.type]
        return f"{head}its values are descriptors of {kind}, and this one is not ({describe_errno(number)})"
    if number == errno.ENOSPC and action in ("read", "walk") and spec.type in ("sockmap", "sockhash"):
        return f"{head}user space can read it only if it was made with values of 8 bytes"
    if unsupported and action in ("read", "walk", "take"):
        return f"{head}user space cannot {action} entries of this type ({describe_errno(number)})"
    if unsupported or (number == errno.EINVAL and action == "delete"):
        return f"{head}entries of this type cannot be changed so, or the key is not valid ({describe_errno(number)})"
    if number == errno.EINVAL:
        return f"{head}this map type does not allow it, or key, value or flags are not valid ({describe_errno(number)})"
    return head + describe_errno(number)


def explain_program_load(spec: ProgramSpec, number: int) -> str:
    """Why BPF_PROG_LOAD refused the program before its verifier said anything."""
    head = f"cannot load program {spec.name!r} ({spec.prog_type}): "
    if number == errno.EPERM:
        wanted = ["CAP_BPF"]
        if spec.prog_type in _NETWORK_TYPES:
            wanted.append("CAP_NET_ADMIN")
        if spec.prog_type in _TRACING_TYPES:
            wanted.append("CAP_PERFMON")
        return head + explain_permission(
            tuple(wanted),
            _POLICY,
        )
    if number == errno.E2BIG:
        slots = sum(insn.slots for insn in spec.instructions)
        return f"{head}{slots} instructions are more than this kernel takes (1,000,000 with CAP_BPF, 4,096 without)"
    if number == errno.EINVAL:
        attach = f" with attach type {spec.attach_type}" if spec.attach_type else ""
        what = f"a {spec.prog_type} program{attach} and flags {spec.flags:#x}"
        return f"{head}this kernel does not take {what}, or its licence or BTF"
    if number == errno.ENOMEM:
        return f"{head}the kernel has no memory for it"
    if number in (ENOTSUPP, errno.EOPNOTSUPP):
        return f"{head}not supported by this kernel (JIT off, or a feature it was built without)"
    return head + describe_errno(number)


def explain_test_run(name: str, prog_type: str, number: int, *, data_size: int) -> str:
    """Why BPF_PROG_TEST_RUN did not run."""
    head = f"cannot run program {name!r} in the kernel: "
    if number == errno.EPERM:
        return head + explain_permission(("CAP_BPF", "CAP_NET_ADMIN"), _POLICY)
    if number == errno.EINVAL:
        what = f"a packet of {data_size} bytes (14 at least) or the context"
        return f"{head}{what} does not suit a {prog_type} program"
    if number in (ENOTSUPP, errno.EOPNOTSUPP):
        return f"{head}this kernel has no test run for {prog_type} programs"
    if number == errno.ENOSPC:
        return f"{head}the packet that came back does not fit"
    return head + describe_errno(number)
