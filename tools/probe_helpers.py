#!/usr/bin/env python3
"""Ask the running kernel which helper each program type may call; print ebpfkit/abi/helper_permissions.py.

    sudo python tools/probe_helpers.py > ebpfkit/abi/helper_permissions.py

For each program type (with each of its attach types, without and with BPF_F_SLEEPABLE where that is allowed) it loads
`r1 = ... = r5 = 0; call N; r0 = 1; exit`, once more with the context in r1, and reads the verifier's answer: "cannot
use helper" or "unknown func" is no, everything else is yes. Nothing is attached and nothing stays loaded.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
import subprocess
import sys
from collections.abc import Iterator

from ebpfkit.abi import uapi

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]


def load(
    code: bytes,
    prog_type: int,
    *,
    attach_type: int = 0,
    licence: bytes = b"GPL",
    flags: int = 0,
    btf_id: int = 0,
    level: int = 1,
) -> tuple[bool, str]:
    """Load raw instructions; whether the kernel took them, and its log."""
    log = ctypes.create_string_buffer(1 << 16)
    insns = ctypes.create_string_buffer(code, len(code))
    text = ctypes.create_string_buffer(licence)
    # union bpf_attr of BPF_PROG_LOAD, byte by byte: name at 48, attach type at 68, attach_btf_id at 108.
    attr = struct.pack(
        "<IIQQIIQII16sIIIIQIIQII",
        prog_type, len(code) // 8, ctypes.addressof(insns), ctypes.addressof(text), level, len(log),
        ctypes.addressof(log), 0, flags, b"", 0, attach_type, 0, 0, 0, 0, 0, 0, 0, btf_id,
    ).ljust(144, b"\0")  # fmt: skip
    buffer = ctypes.create_string_buffer(attr, len(attr))
    fd = _LIBC.syscall(_SYS_BPF, uapi.BPF_PROG_LOAD, buffer, len(attr))
    if fd < 0:
        message = log.value.decode(errors="replace") or os.strerror(ctypes.get_errno())
        return False, message
    os.close(fd)
    return True, log.value.decode(errors="replace")


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


def call_program(helper: int, result: int, first: int = 1) -> bytes:
    """A call with zeroes from R`first` on; from R2 on, the context stays in R1."""
    zeros = b"".join(insn(0xB7, reg, 0, 0, 0) for reg in range(first, 6))
    return zeros + insn(0x85, imm=helper) + insn(0xB7, 0, 0, 0, result) + insn(0x95)


def btf_ids(*names: str) -> dict[str, int]:
    """Type ids in the kernel's BTF by name (functions, typedefs and structures)."""
    text = subprocess.run(
        ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux"], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for match in re.finditer(r"^\[(\d+)\] (?:FUNC|TYPEDEF|STRUCT) '(\w+)'", text, re.MULTILINE):
        if match[2] in names:
            found.setdefault(match[2], int(match[1]))
    return found


ATTACH = {
    "cgroup_sock": ("CGROUP_INET_SOCK_CREATE", "CGROUP_INET4_POST_BIND", "CGROUP_INET_SOCK_RELEASE"),
    "cgroup_sock_addr": (
        "CGROUP_INET4_CONNECT", "CGROUP_INET6_CONNECT", "CGROUP_INET4_BIND", "CGROUP_UDP4_SENDMSG",
        "CGROUP_UDP4_RECVMSG",
        "CGROUP_INET4_GETPEERNAME", "CGROUP_INET4_GETSOCKNAME", "CGROUP_UNIX_CONNECT", "CGROUP_UNIX_SENDMSG",
    ),
    "cgroup_skb": ("CGROUP_INET_INGRESS", "CGROUP_INET_EGRESS"),
    "cgroup_sockopt": ("CGROUP_GETSOCKOPT", "CGROUP_SETSOCKOPT"),
    "cgroup_device": ("CGROUP_DEVICE",),
    "cgroup_sysctl": ("CGROUP_SYSCTL",),
    "sock_ops": ("CGROUP_SOCK_OPS",),
    "sk_lookup": ("SK_LOOKUP",),
    "sk_reuseport": ("SK_REUSEPORT_SELECT", "SK_REUSEPORT_SELECT_OR_MIGRATE"),
    "netfilter": ("NETFILTER",),
    "tracing": ("TRACE_RAW_TP", "TRACE_FENTRY", "TRACE_FEXIT", "TRACE_ITER", "MODIFY_RETURN"),
    "lsm": ("LSM_MAC", "LSM_CGROUP"),
}  # fmt: skip
TARGETS = {
    "TRACE_RAW_TP": "btf_trace_sched_switch", "TRACE_FENTRY": "bpf_fentry_test1", "TRACE_FEXIT": "bpf_fentry_test1",
    "TRACE_ITER": "bpf_iter_task", "MODIFY_RETURN": "bpf_modify_return_test", "LSM_MAC": "bpf_lsm_file_open",
    "LSM_CGROUP": "bpf_lsm_socket_bind", "STRUCT_OPS": "tcp_congestion_ops",
}  # fmt: skip
SLEEPABLE = {"kprobe", "lsm", "tracing", "syscall", "struct_ops"}
_DENIED = re.compile(
    r"cannot use helper|unknown func|invalid func unknown|not supported (in|for program type)|call is not allowed"
)


def variants(name: str, targets: dict[str, int]) -> Iterator[dict[str, int]]:
    for attach in ATTACH.get(name, ("STRUCT_OPS",) if name == "struct_ops" else ("",)):
        keys: dict[str, int] = {}
        if attach and attach != "STRUCT_OPS":
            keys["attach_type"] = uapi.ENUMS["bpf_attach_type"]["BPF_" + attach]
        if attach in TARGETS:
            if TARGETS[attach] not in targets:
                continue
            keys["btf_id"] = targets[TARGETS[attach]]
        if name != "syscall":
            yield keys
        if name in SLEEPABLE:
            yield {**keys, "flags": uapi.BPF_F_SLEEPABLE}


def works(name: str, number: int, keys: dict[str, int]) -> bool:
    """Whether the kernel loads any program of this kind at all (some are refused before verification)."""
    plain = insn(0xB7, 0, 0, 0, 1) + insn(0x95)
    return load(plain, number, **keys)[0] or load(insn(0xB7) + insn(0x95), number, **keys)[0]


def probe() -> tuple[dict[str, dict[int, str]], list[str], set[int]]:
    helpers = {
        value: key.removeprefix("BPF_FUNC_")
        for key, value in uapi.ENUMS["bpf_func_id"].items()
        if key.startswith("BPF_FUNC")
    }
    targets = btf_ids(*TARGETS.values())
    allowed: dict[str, dict[int, str]] = {}
    unmeasured: list[str] = []
    gpl: set[int] = set()
    for key, number in uapi.ENUMS["bpf_prog_type"].items():
        name = key.removeprefix("BPF_PROG_TYPE_").lower()
        if not key.startswith("BPF_") or number == 0:
            continue
        usable = [keys for keys in variants(name, targets) if works(name, number, keys)]
        if not usable:
            unmeasured.append(name)
            continue
        rows = allowed[name] = {}
        for helper, helper_name in helpers.items():
            if helper == 0:
                continue
            for keys in usable:
                answers = [load(call_program(helper, 1, first), number, **keys) for first in (1, 2)]
                if all(taken or not _DENIED.search(log) for taken, log in answers):
                    rows[helper] = helper_name
                    if (
                        helper not in gpl
                        and "GPL-restricted" in load(call_program(helper, 1), number, licence=b"Apache-2.0", **keys)[1]
                    ):
                        gpl.add(helper)
                    break
    return allowed, unmeasured, gpl


def main() -> None:
    allowed, unmeasured, gpl = probe()
    base = set.intersection(*(set(rows) for rows in allowed.values()))
    names = {helper: name for rows in allowed.values() for helper, name in rows.items()}

    def block(label: str, helpers: set[int]) -> None:
        print(f"    {label}: (")
        line = ""
        for helper in sorted(helpers):
            word = names[helper]
            if len(line) + len(word) > 104:
                print(f'        "{line.strip()} "')
                line = ""
            line += word + " "
        print(f'        "{line.strip()}"\n    ),')

    release = ".".join(platform.release().split("-")[0].split(".")[:2])
    print(
        '"""Which helpers each program type may call. Generated: do not edit.\n\n'
        f"Made by tools/probe_helpers.py by loading one call of each helper into Linux {release} for each program\n"
        'type, with all its attach types and every privilege. Rows only; `helpers` joins them with prototypes.\n"""\n\n'
        "from __future__ import annotations\n\nfrom collections.abc import Mapping\nfrom typing import Final\n\n"
        f"MEASURED_ON: Final = {release!r}\n\n"
        "# Program types that the measured kernel refused before verification: nothing is known by experiment.\n"
        f"UNMEASURED: Final[tuple[str, ...]] = {tuple(unmeasured)!r}\n\n"
        'ALLOWED: Final[Mapping[str, str]] = {\n    # "*": in every measured program type; the others list the rest.'
    )
    block('"*"', base)
    for name, rows in allowed.items():
        block(f'"{name}"', set(rows) - base)
    print("}\n\nGPL_ONLY: Final[Mapping[str, str]] = {")
    block('"*"', gpl)
    print("}")
    print(f"{len(names)} helpers, {len(allowed)} program types", file=sys.stderr)


if __name__ == "__main__":
    main()
