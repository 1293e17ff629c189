#!/usr/bin/env python3
"""Ask the running kernel what programs may do with their context, and print ebpfkit/abi/contexts.py.

    sudo python tools/probe_contexts.py > ebpfkit/abi/contexts.py

For each program type and attach type it loads one access of every size at every offset, reads and writes, and takes the
kind of the result from the verifier's log. Member names and offsets come from the public headers.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from gen_uapi import default_headers
from probe_helpers import insn, load

from ebpfkit.abi import uapi

SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
TYPES = uapi.ENUMS["bpf_prog_type"]
ATTACH = uapi.ENUMS["bpf_attach_type"]
# context name, structure, program type, attach types
CASES = (
    ("xdp_md", "xdp_md", "XDP", ("XDP", "XDP_DEVMAP", "XDP_CPUMAP")),
    ("__sk_buff", "__sk_buff", "SCHED_CLS", ()),
    ("__sk_buff/socket_filter", "__sk_buff", "SOCKET_FILTER", ()),
    ("__sk_buff/cgroup_skb", "__sk_buff", "CGROUP_SKB", ("CGROUP_INET_INGRESS", "CGROUP_INET_EGRESS")),
    ("__sk_buff/lwt", "__sk_buff", "LWT_IN", ()),
    ("__sk_buff/lwt_xmit", "__sk_buff", "LWT_XMIT", ()),
    ("__sk_buff/sk_skb", "__sk_buff", "SK_SKB", ("SK_SKB_STREAM_PARSER", "SK_SKB_STREAM_VERDICT", "SK_SKB_VERDICT")),
    ("__sk_buff/flow_dissector", "__sk_buff", "FLOW_DISSECTOR", ("FLOW_DISSECTOR",)),
    ("bpf_sock", "bpf_sock", "CGROUP_SOCK", (
        "CGROUP_INET_SOCK_CREATE", "CGROUP_INET_SOCK_RELEASE", "CGROUP_INET4_POST_BIND", "CGROUP_INET6_POST_BIND",
    )),
    ("bpf_sock_addr", "bpf_sock_addr", "CGROUP_SOCK_ADDR", tuple(
        name.removeprefix("BPF_") for name in ATTACH
        if re.match(r"BPF_CGROUP_(INET[46]_(BIND|CONNECT|GETPEERNAME|GETSOCKNAME)|UDP[46]_|UNIX_)", name)
    )),
    ("bpf_sock_ops", "bpf_sock_ops", "SOCK_OPS", ("CGROUP_SOCK_OPS",)),
    ("sk_msg_md", "sk_msg_md", "SK_MSG", ("SK_MSG_VERDICT",)),
    ("bpf_cgroup_dev_ctx", "bpf_cgroup_dev_ctx", "CGROUP_DEVICE", ("CGROUP_DEVICE",)),
    ("bpf_sysctl", "bpf_sysctl", "CGROUP_SYSCTL", ("CGROUP_SYSCTL",)),
    ("bpf_sockopt", "bpf_sockopt", "CGROUP_SOCKOPT", ("CGROUP_GETSOCKOPT", "CGROUP_SETSOCKOPT")),
    ("sk_reuseport_md", "sk_reuseport_md", "SK_REUSEPORT", ("SK_REUSEPORT_SELECT", "SK_REUSEPORT_SELECT_OR_MIGRATE")),
    ("bpf_sk_lookup", "bpf_sk_lookup", "SK_LOOKUP", ("SK_LOOKUP",)),
)  # fmt: skip
# Fields younger than their structure, by documentation.
SINCE = {
    "xdp_md": {"data_meta": "4.15", "ingress_ifindex": "4.16", "rx_queue_index": "4.16", "egress_ifindex": "5.8"},
    "__sk_buff": {
        "tc_index": "", "cb": "", "hash": "", "tc_classid": "", "data": "4.7", "data_end": "4.7", "napi_id": "4.12",
        "family": "4.14", "remote_ip4": "4.14", "local_ip4": "4.14", "remote_ip6": "4.14", "local_ip6": "4.14",
        "remote_port": "4.14", "local_port": "4.14", "data_meta": "4.15", "flow_keys": "4.20", "tstamp": "5.0",
        "wire_len": "5.0", "gso_segs": "5.1", "sk": "5.1", "gso_size": "5.7", "tstamp_type": "5.18", "hwtstamp": "5.16",
    },
}  # fmt: skip


@dataclass
class Member:
    name: str
    offset: int
    size: int
    count: int = 1


@dataclass
class Access:
    """What the kernel answered for one attach type: sizes by offset, and kinds of results."""

    reads: dict[int, set[int]] = field(default_factory=dict)
    writes: dict[int, set[int]] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)


def members(name: str) -> tuple[list[Member], int]:
    """The members of a structure of linux/bpf.h (bit-field padding is skipped), and its size."""
    text = (default_headers() / "linux/bpf.h").read_text()
    body = re.search(rf"^struct {name} \{{(.*?)^\}};", text, re.MULTILINE | re.DOTALL)
    if body is None:
        raise SystemExit(f"no structure {name}")
    source = re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)
    # Unions of names for one place: the longest stands for all.
    source = re.sub(r"union \{([^}]*)\};", lambda m: max(m[1].split(";"), key=lambda s: "[" in s) + ";", source)
    widths = {"__u8": 1, "__u16": 2, "__be16": 2, "__u32": 4, "__s32": 4, "__u64": 8}
    found, offset, align = [], 0, 4
    for item in (part.strip() for part in source.split(";")):
        if match := re.match(r"__bpf_md_ptr\(.*, (\w+)\)", item):
            width, word, count = 8, match[1], 1
        elif match := re.match(r"(__\w+)\s*:(\d+)", item):
            # Padding behind a port number may be read like the rest of the word.
            found.append(Member("padding", offset, int(match[2]) // 8))
            offset += int(match[2]) // 8
            continue
        elif match := re.match(r"(__\w+)\s+(\w+)(?:\[(\d+)\])?$", item):
            width, word, count = widths[match[1]], match[2], int(match[3] or 1)
        else:
            continue
        align = max(align, width)
        offset = -(-offset // width) * width
        found.append(Member(word, offset, width, count))
        offset += width * count
    return found, -(-offset // align) * align


def accepted(code: bytes, prog_type: int, attach_type: int) -> tuple[bool, str]:
    for verdict in (1, 0, 2):
        ok, log = load(code + insn(0xB7, imm=verdict) + insn(0x95), prog_type, attach_type=attach_type, level=2)
        if ok:
            return ok, log
    return False, log


def measure(prog_type: int, attach_type: int, size: int) -> Access:
    access = Access()
    for offset in range(size):
        for width, code in SIZES.items():
            ok, log = accepted(insn(0x61 | code, 2, 1, offset), prog_type, attach_type)
            if ok:
                access.reads.setdefault(offset, set()).add(width)
                if kind := re.search(r"R2(?:_w)?=([a-z_]+)", log):
                    access.kinds[offset] = kind[1]
            if accepted(insn(0xB7, 2) + insn(0x63 | code, 1, 2, offset), prog_type, attach_type)[0]:
                access.writes.setdefault(offset, set()).add(width)
    return access


KINDS = {
    "pkt": "PACKET", "pkt_end": "PACKET_END", "pkt_meta": "PACKET_META", "sock_common_or_null": "SOCK_COMMON_OR_NULL",
    "sock_or_null": "SOCKET_OR_NULL", "sock": "SOCKET", "flow_keys": "FLOW_KEYS",
}  # fmt: skip


def row(name: str, member: Member, by_attach: dict[str, Access]) -> str | None:
    readable = {
        a for a, x in by_attach.items() if any(o in x.reads for o in range(member.offset, member.offset + member.size))
    }
    writable = {
        a
        for a, x in by_attach.items()
        if member.size in x.writes.get(member.offset, ()) or 8 in x.writes.get(member.offset, ())
    }
    if (not readable and not writable) or member.size not in SIZES:
        return None
    sample = by_attach[sorted(readable or writable)[0]]
    parts = [repr(member.name), str(member.offset), str(member.size)]
    if not readable:
        parts.append("readable=False")
    if writable:
        parts.append("writable=True")
    sizes = sample.reads.get(member.offset, set())
    narrow = sorted(size for size in sizes if size < member.size)
    if (
        sizes
        and not narrow
        and not any(o in sample.reads for o in range(member.offset + 1, member.offset + member.size))
    ):
        parts.append("narrow=False")
    elif narrow and 1 not in narrow:
        parts.append(f"narrow_sizes={tuple(narrow)!r}")
    elif narrow and member.offset + 1 not in sample.reads:
        parts.append("narrow_at_start=True")
    if wider := sorted(size for size in sizes if size > member.size and size != 8):
        parts.append(f"wider_sizes={tuple(wider)!r}")
    kind = sample.kinds.get(member.offset, "scalar")
    if kind in KINDS:
        parts.append(f"result=FieldResult.{KINDS[kind]}")
    elif kind != "scalar":
        parts.append("result=FieldResult.BTF")
    if member.count > 1:
        parts.append(f"count={member.count}")
    if member.size == 4 and any(
        8 in sample.reads.get(o, ()) for o in range(member.offset, member.offset + 4 * member.count)
    ):
        parts.append("wide=True")
    if since := SINCE.get(name.split("/")[0], {}).get(member.name, ""):
        parts.append(f"since={since!r}")
    if readable != set(by_attach):
        parts.append(f"attach_types=frozenset({sorted(a.lower() for a in readable)!r})")
    if writable and 1 in by_attach[sorted(writable)[0]].writes.get(member.offset, ()):
        parts.append("write_narrow=True")
    if writable and member.count > 1 and member.offset + member.size not in by_attach[sorted(writable)[0]].writes:
        parts.append("write_first_only=True")
    if writable and writable != readable:
        parts.append(f"write_attach_types=frozenset({sorted(a.lower() for a in writable)!r})")
    return f"ContextField({', '.join(parts)})"


HEADER = '''"""Context structures as programs see them: offsets, widths, access, results. Generated: do not edit.

Made by tools/probe_contexts.py by loading every access of every width into Linux {release}. A context is named after
its C structure; where program types see one structure differently, the program type follows a slash.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ebpfkit.abi.model import ContextField, ContextSpec, FieldResult

__all__ = ["CONTEXTS", "SOCKETS"]

_ROWS = (
'''
# Plain memory: registers, tracepoint records and arguments. Found by the same experiment, written by hand.
RAW = """    ContextSpec("pt_regs", 168, raw=True, struct="pt_regs"),
    ContextSpec("tracepoint", 8192, raw=True, start=8),
    ContextSpec("bpf_raw_tracepoint_args", 96, raw=True, struct="bpf_raw_tracepoint_args"),
    ContextSpec(
        "bpf_perf_event_data",
        184,
        (
            ContextField("regs", 0, 8, narrow=False, count=21),
            ContextField("sample_period", 168, 8),
            ContextField("addr", 176, 8),
        ),
        struct="bpf_perf_event_data",
    ),
    ContextSpec(
        "bpf_raw_tracepoint_args/writable",
        96,
        (ContextField("record", 0, 8, narrow=False, result=FieldResult.RECORD),),
        raw=True,
        struct="bpf_raw_tracepoint_args",
    ),
    ContextSpec(
        "bpf_nf_ctx",
        16,
        (
            ContextField("state", 0, 8, narrow=False, result=FieldResult.BTF, btf_type="nf_hook_state"),
            ContextField("skb", 8, 8, narrow=False, result=FieldResult.BTF, btf_type="sk_buff"),
        ),
        struct="bpf_nf_ctx",
    ),
    ContextSpec("syscall", 65536, raw=True, writable=True),
    ContextSpec("lirc_mode2", 4, (ContextField("sample", 0, 4, narrow=False),), struct="__u32"),
"""

# Behind pointers to sockets; by the same experiment.
SOCKETS = """    ContextSpec(
        "bpf_sock/socket",
        80,
        (
            ContextField("bound_dev_if", 0, 4, narrow=False),
            ContextField("family", 4, 4, narrow_at_start=True),
            ContextField("type", 8, 4, narrow_at_start=True),
            ContextField("protocol", 12, 4, narrow_at_start=True),
            ContextField("mark", 16, 4, narrow=False),
            ContextField("priority", 20, 4, narrow=False),
            ContextField("src_ip4", 24, 4),
            ContextField("src_ip6", 28, 4, count=4),
            ContextField("src_port", 44, 4, narrow_at_start=True),
            ContextField("dst_port", 48, 2, wider_sizes=(4,)),
            ContextField("dst_ip4", 52, 4),
            ContextField("dst_ip6", 56, 4, count=4),
            ContextField("state", 72, 4, narrow_at_start=True),
            ContextField("rx_queue_mapping", 76, 4, narrow_at_start=True),
        ),
        struct="bpf_sock",
    ),
    ContextSpec(
        "bpf_sock/common",
        80,
        (
            ContextField("bound_dev_if", 0, 4, narrow=False),
            ContextField("family", 4, 4, narrow_at_start=True),
            ContextField("src_ip4", 24, 4),
            ContextField("src_ip6", 28, 4, count=4),
            ContextField("src_port", 44, 4, narrow_at_start=True),
            ContextField("dst_port", 48, 2, wider_sizes=(4,)),
            ContextField("dst_ip4", 52, 4),
            ContextField("dst_ip6", 56, 4, count=4),
            ContextField("state", 72, 4, narrow_at_start=True),
            ContextField("rx_queue_mapping", 76, 4, narrow_at_start=True),
        ),
        struct="bpf_sock",
    ),
    ContextSpec(
        "bpf_tcp_sock",
        112,
        (
            ContextField("snd_cwnd", 0, 4, narrow=False),
            ContextField("srtt_us", 4, 4, narrow=False),
            ContextField("rtt_min", 8, 4, narrow=False),
            ContextField("snd_ssthresh", 12, 4, narrow=False),
            ContextField("rcv_nxt", 16, 4, narrow=False),
            ContextField("snd_nxt", 20, 4, narrow=False),
            ContextField("snd_una", 24, 4, narrow=False),
            ContextField("mss_cache", 28, 4, narrow=False),
            ContextField("ecn_flags", 32, 4, narrow=False),
            ContextField("rate_delivered", 36, 4, narrow=False),
            ContextField("rate_interval_us", 40, 4, narrow=False),
            ContextField("packets_out", 44, 4, narrow=False),
            ContextField("retrans_out", 48, 4, narrow=False),
            ContextField("total_retrans", 52, 4, narrow=False),
            ContextField("segs_in", 56, 4, narrow=False),
            ContextField("data_segs_in", 60, 4, narrow=False),
            ContextField("segs_out", 64, 4, narrow=False),
            ContextField("data_segs_out", 68, 4, narrow=False),
            ContextField("lost_out", 72, 4, narrow=False),
            ContextField("sacked_out", 76, 4, narrow=False),
            ContextField("bytes_received", 80, 8, narrow=False),
            ContextField("bytes_acked", 88, 8, narrow=False),
            ContextField("dsack_dups", 96, 4, narrow=False),
            ContextField("delivered", 100, 4, narrow=False),
            ContextField("delivered_ce", 104, 4, narrow=False),
            ContextField("icsk_retransmits", 108, 4, narrow=False),
        ),
        struct="bpf_tcp_sock",
    ),
    ContextSpec("bpf_xdp_sock", 4, (ContextField("queue_id", 0, 4, narrow=False),), struct="bpf_xdp_sock"),
"""


def main() -> None:
    import platform

    release = ".".join(platform.release().split("-")[0].split(".")[:2])
    print(HEADER.format(release=release), end="")
    for name, structure, prog_type, attach in CASES:
        layout, size = members(structure)
        number = TYPES[f"BPF_PROG_TYPE_{prog_type}"]
        by_attach = {a: measure(number, ATTACH[f"BPF_{a}"], size) for a in attach} or {"": measure(number, 0, size)}
        rows = [text for member in layout if (text := row(name, member, by_attach))]
        if not rows:
            print(f"{name}: nothing is accessible", file=sys.stderr)
            continue
        print(f'    ContextSpec(\n        "{name}",\n        {size},\n        (')
        for text in rows:
            print(f"            {text},")
        print(f'        ),\n        struct="{structure}",\n    ),')
    print(RAW, end="")
    print(")\n\n_SOCKETS = (")
    print(SOCKETS, end="")
    print(")\n\nCONTEXTS: Mapping[str, ContextSpec] = MappingProxyType({row.name: row for row in _ROWS})")
    print('"""Every modelled context by name; program types name theirs."""')
    print("\nSOCKETS: Mapping[str, ContextSpec] = MappingProxyType({row.name: row for row in _SOCKETS})")
    print('"""What programs see behind pointers to sockets: read only."""')


if __name__ == "__main__":
    main()
