"""Every helper function of the kernel: number, prototype, what the verifier demands and what the call does.

One row per helper. Numbers and names are the kernel's (`enum bpf_func_id`), prototypes those of its public header's
documentation; which program type may call it was measured (`helper_permissions`), argument kinds were checked by calls
that the kernel accepts or refuses (tests/abi). `args` is None where a call is not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ebpfkit.abi import helper_history, helper_permissions
from ebpfkit.abi.model import ArgKind, ArgSpec, Effect, HelperSpec, RetKind
from ebpfkit.abi.versions import is_at_least

__all__ = ["ATTACH_TYPES_SINCE", "BY_CONFIGURATION", "HELPERS", "HELPERS_BY_NAME", "OLDER_KINDS", "is_allowed"]

_A = ArgKind
_R = RetKind

# --- arguments that many helpers share --------------------------------------------------------------------------------
CTX = ArgSpec("ctx", _A.CTX, "void *")
SKB = ArgSpec("skb", _A.CTX, "struct __sk_buff *")
XDP = ArgSpec("xdp_md", _A.CTX, "struct xdp_md *")
MSG = ArgSpec("msg", _A.CTX, "struct sk_msg_md *")
SKOPS = ArgSpec("skops", _A.CTX, "struct bpf_sock_ops *")
MAP = ArgSpec("map", _A.CONST_MAP_PTR, "struct bpf_map *")
KEY = ArgSpec("key", _A.MAP_KEY, "const void *")
VALUE = ArgSpec("value", _A.MAP_VALUE, "const void *")
VALUE_OUT = ArgSpec("value", _A.MAP_VALUE_UNINIT, "void *")
VALUE_OR_NULL = ArgSpec("value", _A.MAP_VALUE_OR_NULL, "void *")
FLAGS = ArgSpec("flags", _A.SCALAR, "u64")
DST = ArgSpec("dst", _A.MEM_UNINIT, "void *")
BUF_OUT = ArgSpec("buf", _A.MEM_UNINIT, "void *")
BUF_IN = ArgSpec("data", _A.MEM, "const void *")
SIZE = ArgSpec("size", _A.SIZE, "u32")
SIZE0 = ArgSpec("size", _A.SIZE_OR_ZERO, "u32")
LEN = ArgSpec("len", _A.SIZE, "u32")
LEN0 = ArgSpec("len", _A.SIZE_OR_ZERO, "u32")
SOCK = ArgSpec("sk", _A.BTF_SOCK_COMMON, "struct bpf_sock *")
CALLBACK_CTX = ArgSpec("callback_ctx", _A.STACK_OR_NULL, "void *")
TASK = ArgSpec("task", _A.BTF_ID, "struct task_struct *", btf_type="task_struct")
_SOCK0 = ArgSpec("sk", _A.BTF_ID_OR_NULL, "struct bpf_sock *", btf_type="sock_common")
_TASK0 = ArgSpec("task", _A.BTF_ID_OR_NULL, "struct task_struct *", btf_type="task_struct")

_PACKET = frozenset({Effect.CHANGES_PACKET})
_SLEEPS = frozenset({Effect.MAY_SLEEP})
_ACQUIRES = frozenset({Effect.ACQUIRES})
_RELEASES = frozenset({Effect.RELEASES})
_CALLS_BACK = frozenset({Effect.CALLS_BACK})
_CALLS_BACK_LATER = frozenset({Effect.CALLS_BACK_LATER})
_NONE: frozenset[Effect] = frozenset()

_STORAGE = {
    "sk": frozenset({"sk_storage"}),
    "inode": frozenset({"inode_storage"}),
    "task": frozenset({"task_storage"}),
    "cgrp": frozenset({"cgrp_storage"}),
}
_RINGBUF = frozenset({"ringbuf"})
_PERF_ARRAY = frozenset({"perf_event_array"})
_CGROUP_ARRAY = frozenset({"cgroup_array"})
_STACKS = frozenset({"stack_trace"})
_SOCKMAP = frozenset({"sockmap"})
_SOCKHASH = frozenset({"sockhash"})
_QUEUES = frozenset({"queue", "stack"})
_LOOKUPS = frozenset(
    {
        "hash", "array", "percpu_hash", "percpu_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "array_of_maps",
        "hash_of_maps", "xskmap", "sockmap", "sockhash", "devmap", "devmap_hash",
    }
)  # fmt: skip
_UPDATES = frozenset(
    {"hash", "array", "percpu_hash", "percpu_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "sockmap", "sockhash"}
)
_TIMERS = frozenset({"hash", "lru_hash", "array"})
_ITERATED = frozenset({"hash", "array", "percpu_hash", "percpu_array", "lru_hash", "lru_percpu_hash"})


def _scalar(name: str, ctype: str = "u64") -> ArgSpec:
    return ArgSpec(name, _A.SCALAR, ctype)


def _pointer(name: str, kind: ArgKind, ctype: str = "void *", *, size: int = 0, btf: str = "") -> ArgSpec:
    return ArgSpec(name, kind, ctype, size, btf)


_CGROUPS = ArgSpec("cgroup", _A.BTF_ID_OR_NULL, "struct cgroup *", btf_type="cgroup")
_INODE = ArgSpec("inode", _A.BTF_ID_OR_NULL, "struct inode *", btf_type="inode")
_FILE = ArgSpec("file", _A.BTF_ID, "struct file *", btf_type="file")
_TUPLE = ArgSpec("tuple", _A.MEM, "struct bpf_sock_tuple *")
_DYNPTR = ArgSpec("ptr", _A.DYNPTR, "const struct bpf_dynptr *")
_DYNPTR_OUT = ArgSpec("ptr", _A.DYNPTR_UNINIT, "struct bpf_dynptr *")
_RECORD = ArgSpec("data", _A.RINGBUF_MEM, "void *")
_TIMER = ArgSpec("timer", _A.TIMER, "struct bpf_timer *")
_LOCK = ArgSpec("lock", _A.SPIN_LOCK, "struct bpf_spin_lock *")
_PROBE = (DST, SIZE0, ArgSpec("unsafe_ptr", _A.ANYTHING, "const void *"))
_OUTPUT = (CTX, MAP, FLAGS, ArgSpec("data", _A.MEM, "const void *"), SIZE0)
_LOOKUP = (CTX, _TUPLE, ArgSpec("tuple_size", _A.SIZE_OR_ZERO, "u32"), _scalar("netns"), FLAGS)
_SYN = (
    ArgSpec("iph", _A.MEM, "const void *"), ArgSpec("iph_len", _A.SIZE, "u32"),
    ArgSpec("th", _A.MEM, "const struct tcphdr *"), ArgSpec("th_len", _A.SIZE, "u32"),
)  # fmt: skip
_FMT = ArgSpec("fmt", _A.MEM, "const char *")
_FMT_SIZE = ArgSpec("fmt_size", _A.SIZE, "u32")
_DATA0 = ArgSpec("data", _A.MEM_OR_NULL, "const void *")
_PRINT = (_FMT, _FMT_SIZE, *(ArgSpec(f"arg{i}", _A.UNCHECKED) for i in (1, 2, 3)))
_IP4 = ArgSpec("iph", _A.MEM_FIXED, "const struct iphdr *", 20)
_IP6 = ArgSpec("iph", _A.MEM_FIXED, "const struct ipv6hdr *", 40)
_TCP = ArgSpec("th", _A.MEM, "const struct tcphdr *")
_TCP_FIXED = ArgSpec("th", _A.MEM_FIXED, "const struct tcphdr *", 20)
_OPTION = (_scalar("level", "int"), _scalar("optname", "int"))

# id, name, arguments, result, first kernel, then what is special
_Row = tuple[int, str, "tuple[ArgSpec, ...] | None", RetKind, str, dict[str, object]]


def _row(number: int, name: str, args: tuple[ArgSpec, ...] | None, ret: RetKind, since: str, **special: object) -> _Row:
    return number, name, args, ret, since, special


_ROWS: tuple[_Row, ...] = (
    _row(1, "map_lookup_elem", (MAP, KEY), _R.MAP_VALUE_OR_NULL, "", ret_ctype="void *", map_types=_LOOKUPS),
    _row(2, "map_update_elem", (MAP, KEY, VALUE, FLAGS), _R.INTEGER, "", map_types=_UPDATES),
    _row(3, "map_delete_elem", (MAP, KEY), _R.INTEGER, "", map_types=_UPDATES),
    _row(4, "probe_read", _PROBE, _R.INTEGER, ""),
    _row(5, "ktime_get_ns", (), _R.INTEGER, "", ret_ctype="u64"),
    _row(6, "trace_printk", _PRINT, _R.INTEGER, ""),
    _row(7, "get_prandom_u32", (), _R.INTEGER, "", ret_ctype="u32"),
    _row(8, "get_smp_processor_id", (), _R.INTEGER, "", ret_ctype="u32", ret_bound="cpus"),
    _row(
        9,
        "skb_store_bytes",
        (SKB, _scalar("offset", "u32"), ArgSpec("from", _A.MEM, "const void *"), LEN, FLAGS),
        _R.INTEGER,
        "",
        effects=_PACKET,
    ),
    _row(
        10,
        "l3_csum_replace",
        (SKB, _scalar("offset", "u32"), _scalar("from"), _scalar("to"), _scalar("size")),
        _R.INTEGER,
        "",
        effects=_PACKET,
    ),
    _row(
        11,
        "l4_csum_replace",
        (SKB, _scalar("offset", "u32"), _scalar("from"), _scalar("to"), FLAGS),
        _R.INTEGER,
        "",
        effects=_PACKET,
    ),
    _row(
        12,
        "tail_call",
        (CTX, MAP, _scalar("index", "u32")),
        _R.VOID,
        "",
        effects=frozenset({Effect.TAIL_CALL}),
        map_types=frozenset({"prog_array"}),
    ),
    _row(13, "clone_redirect", (SKB, _scalar("ifindex", "u32"), FLAGS), _R.INTEGER, "", effects=_PACKET),
    _row(14, "get_current_pid_tgid", (), _R.INTEGER, "", ret_ctype="u64"),
    _row(15, "get_current_uid_gid", (), _R.INTEGER, "", ret_ctype="u64"),
    _row(16, "get_current_comm", (BUF_OUT, SIZE), _R.INTEGER, ""),
    _row(
        17,
        "get_cgroup_classid",
        (),
        _R.INTEGER,
        "",
        ret_ctype="u32",
        variants=dict.fromkeys(("sched_cls", "sched_act", "lwt_in", "lwt_out", "lwt_xmit", "lwt_seg6local"), (SKB,)),
    ),
    _row(
        18,
        "skb_vlan_push",
        (SKB, _scalar("vlan_proto", "__be16"), _scalar("vlan_tci", "u16")),
        _R.INTEGER,
        "",
        effects=_PACKET,
    ),
    _row(19, "skb_vlan_pop", (SKB,), _R.INTEGER, "", effects=_PACKET),
    _row(
        20,
        "skb_get_tunnel_key",
        (SKB, ArgSpec("key", _A.MEM_UNINIT, "struct bpf_tunnel_key *"), SIZE, FLAGS),
        _R.INTEGER,
        "",
    ),
    _row(
        21,
        "skb_set_tunnel_key",
        (SKB, ArgSpec("key", _A.MEM, "const struct bpf_tunnel_key *"), SIZE, FLAGS),
        _R.INTEGER,
        "",
    ),
    _row(22, "perf_event_read", (MAP, FLAGS), _R.INTEGER, "", ret_ctype="u64", map_types=_PERF_ARRAY),
    _row(23, "redirect", (_scalar("ifindex", "u32"), FLAGS), _R.INTEGER, ""),
    _row(24, "get_route_realm", (SKB,), _R.INTEGER, "", ret_ctype="u32"),
    _row(25, "perf_event_output", _OUTPUT, _R.INTEGER, "", map_types=_PERF_ARRAY),
    _row(
        26,
        "skb_load_bytes",
        (SKB, _scalar("offset", "u32"), ArgSpec("to", _A.MEM_UNINIT, "void *"), LEN),
        _R.INTEGER,
        "4.5",
    ),
    _row(27, "get_stackid", (CTX, MAP, FLAGS), _R.INTEGER, "4.6", map_types=_STACKS),
    _row(
        28,
        "csum_diff",
        (
            ArgSpec("from", _A.MEM_OR_NULL, "const __be32 *"),
            ArgSpec("from_size", _A.SIZE_OR_ZERO, "u32"),
            ArgSpec("to", _A.MEM_OR_NULL, "const __be32 *"),
            ArgSpec("to_size", _A.SIZE_OR_ZERO, "u32"),
            _scalar("seed", "__wsum"),
        ),
        _R.INTEGER,
        "4.6",
    ),
    _row(29, "skb_get_tunnel_opt", (SKB, ArgSpec("opt", _A.MEM_UNINIT, "void *"), SIZE), _R.INTEGER, "4.6"),
    _row(30, "skb_set_tunnel_opt", (SKB, ArgSpec("opt", _A.MEM, "const void *"), SIZE), _R.INTEGER, "4.6"),
    _row(31, "skb_change_proto", (SKB, _scalar("proto", "__be16"), FLAGS), _R.INTEGER, "4.8", effects=_PACKET),
    _row(32, "skb_change_type", (SKB, _scalar("type", "u32")), _R.INTEGER, "4.8"),
    _row(33, "skb_under_cgroup", (SKB, MAP, _scalar("index", "u32")), _R.INTEGER, "4.8", map_types=_CGROUP_ARRAY),
    _row(34, "get_hash_recalc", (SKB,), _R.INTEGER, "4.8", ret_ctype="u32"),
    _row(35, "get_current_task", (), _R.INTEGER, "4.8", ret_ctype="u64"),
    _row(
        36,
        "probe_write_user",
        (ArgSpec("dst", _A.ANYTHING, "void *"), ArgSpec("src", _A.MEM, "const void *"), LEN),
        _R.INTEGER,
        "4.8",
        gpl_only=True,
    ),
    _row(37, "current_task_under_cgroup", (MAP, _scalar("index", "u32")), _R.INTEGER, "4.9", map_types=_CGROUP_ARRAY),
    _row(38, "skb_change_tail", (SKB, _scalar("len", "u32"), FLAGS), _R.INTEGER, "4.9", effects=_PACKET),
    _row(39, "skb_pull_data", (SKB, _scalar("len", "u32")), _R.INTEGER, "4.9", effects=_PACKET),
    _row(40, "csum_update", (SKB, _scalar("csum", "__wsum")), _R.INTEGER, "4.9"),
    _row(41, "set_hash_invalid", (SKB,), _R.INTEGER, "4.9", ret_ctype="void"),
    _row(42, "get_numa_node_id", (), _R.INTEGER, "4.10"),
    _row(43, "skb_change_head", (SKB, _scalar("len", "u32"), FLAGS), _R.INTEGER, "4.10", effects=_PACKET),
    _row(44, "xdp_adjust_head", (XDP, _scalar("delta", "int")), _R.INTEGER, "4.10", effects=_PACKET),
    _row(45, "probe_read_str", _PROBE, _R.INTEGER, "4.11", ret_bound="size"),
    _row(
        46,
        "get_socket_cookie",
        (CTX,),
        _R.INTEGER,
        "4.12",
        ret_ctype="u64",
        variants=dict.fromkeys(("tracing", "syscall", "sk_reuseport"), (SOCK,)),
    ),
    _row(47, "get_socket_uid", (SKB,), _R.INTEGER, "4.12", ret_ctype="u32"),
    _row(48, "set_hash", (SKB, _scalar("hash", "u32")), _R.INTEGER, "4.13"),
    _row(
        49,
        "setsockopt",
        (CTX, *_OPTION, ArgSpec("optval", _A.MEM, "const void *"), ArgSpec("optlen", _A.SIZE, "int")),
        _R.INTEGER,
        "4.13",
        variants={
            t: (SOCK, *_OPTION, ArgSpec("optval", _A.MEM, "const void *"), ArgSpec("optlen", _A.SIZE, "int"))
            for t in ("cgroup_sockopt", "struct_ops")
        },
    ),
    _row(
        50,
        "skb_adjust_room",
        (SKB, _scalar("len_diff", "s32"), _scalar("mode", "u32"), FLAGS),
        _R.INTEGER,
        "4.13",
        effects=_PACKET,
    ),
    _row(
        51,
        "redirect_map",
        (MAP, _scalar("key"), FLAGS),
        _R.INTEGER,
        "4.14",
        map_types=frozenset({"devmap", "devmap_hash", "cpumap", "xskmap"}),
    ),
    _row(52, "sk_redirect_map", (SKB, MAP, _scalar("key", "u32"), FLAGS), _R.INTEGER, "4.14", map_types=_SOCKMAP),
    _row(53, "sock_map_update", (SKOPS, MAP, KEY, FLAGS), _R.INTEGER, "4.14", map_types=_SOCKMAP),
    _row(54, "xdp_adjust_meta", (XDP, _scalar("delta", "int")), _R.INTEGER, "4.15", effects=_PACKET),
    _row(
        55,
        "perf_event_read_value",
        (MAP, FLAGS, ArgSpec("buf", _A.MEM_UNINIT, "struct bpf_perf_event_value *"), SIZE),
        _R.INTEGER,
        "4.15",
        map_types=_PERF_ARRAY,
    ),
    _row(
        56,
        "perf_prog_read_value",
        (CTX, ArgSpec("buf", _A.MEM_UNINIT, "struct bpf_perf_event_value *"), SIZE),
        _R.INTEGER,
        "4.15",
    ),
    _row(
        57,
        "getsockopt",
        (CTX, *_OPTION, ArgSpec("optval", _A.MEM_UNINIT, "void *"), ArgSpec("optlen", _A.SIZE, "int")),
        _R.INTEGER,
        "4.15",
        variants={
            t: (SOCK, *_OPTION, ArgSpec("optval", _A.MEM_UNINIT, "void *"), ArgSpec("optlen", _A.SIZE, "int"))
            for t in ("cgroup_sockopt", "struct_ops")
        },
    ),
    _row(58, "override_return", (CTX, _scalar("rc")), _R.INTEGER, "4.16", gpl_only=True),
    _row(59, "sock_ops_cb_flags_set", (SKOPS, _scalar("argval", "int")), _R.INTEGER, "4.16"),
    _row(60, "msg_redirect_map", (MSG, MAP, _scalar("key", "u32"), FLAGS), _R.INTEGER, "4.17", map_types=_SOCKMAP),
    _row(61, "msg_apply_bytes", (MSG, _scalar("bytes", "u32")), _R.INTEGER, "4.17"),
    _row(62, "msg_cork_bytes", (MSG, _scalar("bytes", "u32")), _R.INTEGER, "4.17"),
    _row(
        63,
        "msg_pull_data",
        (MSG, _scalar("start", "u32"), _scalar("end", "u32"), FLAGS),
        _R.INTEGER,
        "4.17",
        effects=_PACKET,
    ),
    _row(
        64,
        "bind",
        (CTX, ArgSpec("addr", _A.MEM, "const struct sockaddr *"), ArgSpec("addr_len", _A.SIZE, "int")),
        _R.INTEGER,
        "4.17",
    ),
    _row(65, "xdp_adjust_tail", (XDP, _scalar("delta", "int")), _R.INTEGER, "4.18", effects=_PACKET),
    _row(
        66,
        "skb_get_xfrm_state",
        (SKB, _scalar("index", "u32"), ArgSpec("xfrm_state", _A.MEM_UNINIT, "struct bpf_xfrm_state *"), SIZE, FLAGS),
        _R.INTEGER,
        "4.18",
    ),
    _row(67, "get_stack", (CTX, BUF_OUT, SIZE0, FLAGS), _R.INTEGER, "4.18", ret_bound="size"),
    _row(
        68,
        "skb_load_bytes_relative",
        (SKB, _scalar("offset", "u32"), ArgSpec("to", _A.MEM_UNINIT, "void *"), LEN, _scalar("start_header", "u32")),
        _R.INTEGER,
        "4.18",
    ),
    _row(
        69,
        "fib_lookup",
        (
            CTX,
            ArgSpec("params", _A.MEM_RW, "struct bpf_fib_lookup *"),
            ArgSpec("plen", _A.SIZE, "int"),
            _scalar("flags", "u32"),
        ),
        _R.INTEGER,
        "4.18",
    ),
    _row(70, "sock_hash_update", (SKOPS, MAP, KEY, FLAGS), _R.INTEGER, "4.18", map_types=_SOCKHASH),
    _row(71, "msg_redirect_hash", (MSG, MAP, KEY, FLAGS), _R.INTEGER, "4.18", map_types=_SOCKHASH),
    _row(72, "sk_redirect_hash", (SKB, MAP, KEY, FLAGS), _R.INTEGER, "4.18", map_types=_SOCKHASH),
    _row(
        73,
        "lwt_push_encap",
        (SKB, _scalar("type", "u32"), ArgSpec("hdr", _A.MEM, "const void *"), LEN),
        _R.INTEGER,
        "4.18",
        effects=_PACKET,
    ),
    _row(
        74,
        "lwt_seg6_store_bytes",
        (SKB, _scalar("offset", "u32"), ArgSpec("from", _A.MEM, "const void *"), LEN),
        _R.INTEGER,
        "4.18",
        effects=_PACKET,
    ),
    _row(
        75,
        "lwt_seg6_adjust_srh",
        (SKB, _scalar("offset", "u32"), _scalar("delta", "s32")),
        _R.INTEGER,
        "4.18",
        effects=_PACKET,
    ),
    _row(
        76,
        "lwt_seg6_action",
        (SKB, _scalar("action", "u32"), ArgSpec("param", _A.MEM, "const void *"), ArgSpec("param_len", _A.SIZE, "u32")),
        _R.INTEGER,
        "4.18",
        effects=_PACKET,
    ),
    _row(77, "rc_repeat", (CTX,), _R.INTEGER, "4.18", gpl_only=True),
    _row(
        78,
        "rc_keydown",
        (CTX, _scalar("protocol", "u32"), _scalar("scancode"), _scalar("toggle", "u32")),
        _R.INTEGER,
        "4.18",
        gpl_only=True,
    ),
    _row(79, "skb_cgroup_id", (SKB,), _R.INTEGER, "4.18", ret_ctype="u64"),
    _row(80, "get_current_cgroup_id", (), _R.INTEGER, "4.18", ret_ctype="u64"),
    _row(
        81,
        "get_local_storage",
        (MAP, FLAGS),
        _R.MAP_VALUE,
        "4.19",
        ret_ctype="void *",
        map_types=frozenset({"cgroup_storage", "percpu_cgroup_storage"}),
    ),
    _row(
        82,
        "sk_select_reuseport",
        (CTX, MAP, KEY, FLAGS),
        _R.INTEGER,
        "4.19",
        map_types=frozenset({"reuseport_sockarray", "sockmap", "sockhash"}),
    ),
    _row(83, "skb_ancestor_cgroup_id", (SKB, _scalar("ancestor_level", "int")), _R.INTEGER, "4.19", ret_ctype="u64"),
    _row(84, "sk_lookup_tcp", _LOOKUP, _R.SOCKET_OR_NULL, "4.20", effects=_ACQUIRES, ret_ctype="struct bpf_sock *"),
    _row(85, "sk_lookup_udp", _LOOKUP, _R.SOCKET_OR_NULL, "4.20", effects=_ACQUIRES, ret_ctype="struct bpf_sock *"),
    _row(86, "sk_release", (SOCK,), _R.INTEGER, "4.20", effects=_RELEASES),
    _row(87, "map_push_elem", (MAP, VALUE, FLAGS), _R.INTEGER, "4.20", map_types=_QUEUES | {"bloom_filter"}),
    _row(88, "map_pop_elem", (MAP, VALUE_OUT), _R.INTEGER, "4.20", map_types=_QUEUES),
    _row(
        89,
        "map_peek_elem",
        (MAP, VALUE_OUT),
        _R.INTEGER,
        "4.20",
        map_types=_QUEUES | {"bloom_filter"},
        variants_by_map={"bloom_filter": (MAP, VALUE)},
    ),
    _row(
        90,
        "msg_push_data",
        (MSG, _scalar("start", "u32"), _scalar("len", "u32"), FLAGS),
        _R.INTEGER,
        "4.20",
        effects=_PACKET,
    ),
    _row(
        91,
        "msg_pop_data",
        (MSG, _scalar("start", "u32"), _scalar("len", "u32"), FLAGS),
        _R.INTEGER,
        "5.0",
        effects=_PACKET,
    ),
    _row(
        92, "rc_pointer_rel", (CTX, _scalar("rel_x", "s32"), _scalar("rel_y", "s32")), _R.INTEGER, "5.0", gpl_only=True
    ),
    _row(93, "spin_lock", (_LOCK,), _R.VOID, "5.1", effects=frozenset({Effect.LOCKS}), ret_ctype="void"),
    _row(94, "spin_unlock", (_LOCK,), _R.VOID, "5.1", effects=frozenset({Effect.UNLOCKS}), ret_ctype="void"),
    _row(
        95,
        "sk_fullsock",
        (ArgSpec("sk", _A.SOCK_COMMON, "struct bpf_sock *"),),
        _R.SOCKET_OR_NULL,
        "5.1",
        ret_ctype="struct bpf_sock *",
    ),
    _row(
        96,
        "tcp_sock",
        (ArgSpec("sk", _A.SOCK_COMMON, "struct bpf_sock *"),),
        _R.TCP_SOCK_OR_NULL,
        "5.1",
        ret_ctype="struct bpf_tcp_sock *",
    ),
    _row(97, "skb_ecn_set_ce", (SKB,), _R.INTEGER, "5.1"),
    _row(
        98,
        "get_listener_sock",
        (ArgSpec("sk", _A.SOCK_COMMON, "struct bpf_sock *"),),
        _R.SOCKET_OR_NULL,
        "5.1",
        ret_ctype="struct bpf_sock *",
    ),
    _row(
        99, "skc_lookup_tcp", _LOOKUP, _R.SOCK_COMMON_OR_NULL, "5.2", effects=_ACQUIRES, ret_ctype="struct bpf_sock *"
    ),
    _row(100, "tcp_check_syncookie", (SOCK, *_SYN), _R.INTEGER, "5.2"),
    _row(101, "sysctl_get_name", (CTX, BUF_OUT, SIZE, FLAGS), _R.INTEGER, "5.2"),
    _row(102, "sysctl_get_current_value", (CTX, BUF_OUT, SIZE), _R.INTEGER, "5.2"),
    _row(103, "sysctl_get_new_value", (CTX, BUF_OUT, SIZE), _R.INTEGER, "5.2"),
    _row(104, "sysctl_set_new_value", (CTX, ArgSpec("buf", _A.MEM, "const char *"), SIZE), _R.INTEGER, "5.2"),
    _row(
        105,
        "strtol",
        (
            ArgSpec("buf", _A.MEM, "const char *"),
            ArgSpec("buf_len", _A.SIZE, "u64"),
            FLAGS,
            ArgSpec("res", _A.MEM_FIXED_UNINIT, "long *", 8),
        ),
        _R.INTEGER,
        "5.2",
    ),
    _row(
        106,
        "strtoul",
        (
            ArgSpec("buf", _A.MEM, "const char *"),
            ArgSpec("buf_len", _A.SIZE, "u64"),
            FLAGS,
            ArgSpec("res", _A.MEM_FIXED_UNINIT, "unsigned long *", 8),
        ),
        _R.INTEGER,
        "5.2",
    ),
    _row(
        107,
        "sk_storage_get",
        (MAP, SOCK, VALUE_OR_NULL, FLAGS),
        _R.MAP_VALUE_OR_NULL,
        "5.2",
        ret_ctype="void *",
        map_types=_STORAGE["sk"],
        variants={"tracing": (MAP, _SOCK0, VALUE_OR_NULL, FLAGS)},
    ),
    _row(
        108,
        "sk_storage_delete",
        (MAP, SOCK),
        _R.INTEGER,
        "5.2",
        map_types=_STORAGE["sk"],
        variants={"tracing": (MAP, _SOCK0)},
    ),
    _row(109, "send_signal", (_scalar("sig", "u32"),), _R.INTEGER, "5.3"),
    _row(110, "tcp_gen_syncookie", (SOCK, *_SYN), _R.INTEGER, "5.3"),
    _row(
        111,
        "skb_output",
        (ArgSpec("skb", _A.BTF_ID, "struct sk_buff *", btf_type="sk_buff"), *_OUTPUT[1:]),
        _R.INTEGER,
        "5.5",
        map_types=_PERF_ARRAY,
    ),
    _row(112, "probe_read_user", _PROBE, _R.INTEGER, "5.5"),
    _row(113, "probe_read_kernel", _PROBE, _R.INTEGER, "5.5"),
    _row(114, "probe_read_user_str", _PROBE, _R.INTEGER, "5.5", ret_bound="size"),
    _row(115, "probe_read_kernel_str", _PROBE, _R.INTEGER, "5.5", ret_bound="size"),
    _row(
        116,
        "tcp_send_ack",
        (ArgSpec("tp", _A.BTF_ID, "void *", btf_type="tcp_sock"), _scalar("rcv_nxt", "u32")),
        _R.INTEGER,
        "5.6",
    ),
    _row(117, "send_signal_thread", (_scalar("sig", "u32"),), _R.INTEGER, "5.6"),
    _row(118, "jiffies64", (), _R.INTEGER, "5.6", ret_ctype="u64"),
    _row(
        119,
        "read_branch_records",
        (CTX, ArgSpec("buf", _A.MEM_UNINIT_OR_NULL, "void *"), SIZE0, FLAGS),
        _R.INTEGER,
        "5.7",
    ),
    _row(
        120,
        "get_ns_current_pid_tgid",
        (_scalar("dev"), _scalar("ino"), ArgSpec("nsdata", _A.MEM_UNINIT, "struct bpf_pidns_info *"), SIZE),
        _R.INTEGER,
        "5.7",
    ),
    _row(
        121,
        "xdp_output",
        (ArgSpec("xdp", _A.BTF_ID, "struct xdp_buff *", btf_type="xdp_buff"), *_OUTPUT[1:]),
        _R.INTEGER,
        "5.7",
        map_types=_PERF_ARRAY,
    ),
    _row(122, "get_netns_cookie", (ArgSpec("ctx", _A.CTX_OR_NULL, "void *"),), _R.INTEGER, "5.7", ret_ctype="u64"),
    _row(
        123, "get_current_ancestor_cgroup_id", (_scalar("ancestor_level", "int"),), _R.INTEGER, "5.7", ret_ctype="u64"
    ),
    _row(
        124,
        "sk_assign",
        (CTX, SOCK, FLAGS),
        _R.INTEGER,
        "5.7",
        variants={"sk_lookup": (CTX, ArgSpec("sk", _A.SOCKET_OR_NULL, "struct bpf_sock *"), FLAGS)},
    ),
    _row(125, "ktime_get_boot_ns", (), _R.INTEGER, "5.8", ret_ctype="u64"),
    _row(
        126,
        "seq_printf",
        (
            ArgSpec("m", _A.BTF_ID, "struct seq_file *", btf_type="seq_file"),
            _FMT,
            _FMT_SIZE,
            _DATA0,
            ArgSpec("data_len", _A.SIZE_OR_ZERO, "u32"),
        ),
        _R.INTEGER,
        "5.8",
        gpl_only=True,
    ),
    _row(
        127,
        "seq_write",
        (ArgSpec("m", _A.BTF_ID, "struct seq_file *", btf_type="seq_file"), BUF_IN, LEN0),
        _R.INTEGER,
        "5.8",
        gpl_only=True,
    ),
    _row(128, "sk_cgroup_id", (SOCK,), _R.INTEGER, "5.8", ret_ctype="u64"),
    _row(129, "sk_ancestor_cgroup_id", (SOCK, _scalar("ancestor_level", "int")), _R.INTEGER, "5.8", ret_ctype="u64"),
    _row(130, "ringbuf_output", (MAP, BUF_IN, SIZE0, FLAGS), _R.INTEGER, "5.8", map_types=_RINGBUF),
    _row(
        131,
        "ringbuf_reserve",
        (MAP, ArgSpec("size", _A.ALLOC_SIZE_OR_ZERO, "u64"), FLAGS),
        _R.RINGBUF_MEM_OR_NULL,
        "5.8",
        effects=_ACQUIRES,
        ret_ctype="void *",
        map_types=_RINGBUF,
    ),
    _row(132, "ringbuf_submit", (_RECORD, FLAGS), _R.VOID, "5.8", effects=_RELEASES, ret_ctype="void"),
    _row(133, "ringbuf_discard", (_RECORD, FLAGS), _R.VOID, "5.8", effects=_RELEASES, ret_ctype="void"),
    _row(134, "ringbuf_query", (MAP, FLAGS), _R.INTEGER, "5.8", ret_ctype="u64", map_types=_RINGBUF),
    _row(135, "csum_level", (SKB, _scalar("level")), _R.INTEGER, "5.8"),
    *(
        _row(number, f"skc_to_{kind}", (SOCK,), _R.BTF_ID_OR_NULL, "5.9", ret_ctype=f"struct {target} *")
        for number, kind, target in (
            (136, "tcp6_sock", "tcp6_sock"),
            (137, "tcp_sock", "tcp_sock"),
            (138, "tcp_timewait_sock", "tcp_timewait_sock"),
            (139, "tcp_request_sock", "tcp_request_sock"),
            (140, "udp6_sock", "udp6_sock"),
        )
    ),
    _row(141, "get_task_stack", (TASK, BUF_OUT, SIZE0, FLAGS), _R.INTEGER, "5.9", ret_bound="size"),
    _row(142, "load_hdr_opt", (SKOPS, ArgSpec("searchby_res", _A.MEM_RW, "void *"), LEN, FLAGS), _R.INTEGER, "5.10"),
    _row(
        143,
        "store_hdr_opt",
        (SKOPS, ArgSpec("from", _A.MEM, "const void *"), LEN, FLAGS),
        _R.INTEGER,
        "5.10",
        effects=_PACKET,
    ),
    _row(144, "reserve_hdr_opt", (SKOPS, _scalar("len", "u32"), FLAGS), _R.INTEGER, "5.10"),
    _row(
        145,
        "inode_storage_get",
        (MAP, _INODE, VALUE_OR_NULL, FLAGS),
        _R.MAP_VALUE_OR_NULL,
        "5.10",
        ret_ctype="void *",
        map_types=_STORAGE["inode"],
    ),
    _row(146, "inode_storage_delete", (MAP, _INODE), _R.INTEGER, "5.10", map_types=_STORAGE["inode"]),
    _row(
        147,
        "d_path",
        (ArgSpec("path", _A.BTF_ID, "struct path *", btf_type="path"), BUF_OUT, SIZE0),
        _R.INTEGER,
        "5.10",
    ),
    _row(
        148,
        "copy_from_user",
        (DST, SIZE0, ArgSpec("user_ptr", _A.ANYTHING, "const void *")),
        _R.INTEGER,
        "5.10",
        effects=_SLEEPS,
    ),
    _row(
        149,
        "snprintf_btf",
        (
            ArgSpec("str", _A.MEM_UNINIT, "char *"),
            ArgSpec("str_size", _A.SIZE, "u32"),
            ArgSpec("ptr", _A.MEM, "struct btf_ptr *"),
            ArgSpec("btf_ptr_size", _A.SIZE, "u32"),
            FLAGS,
        ),
        _R.INTEGER,
        "5.10",
    ),
    _row(
        150,
        "seq_printf_btf",
        (
            ArgSpec("m", _A.BTF_ID, "struct seq_file *", btf_type="seq_file"),
            ArgSpec("ptr", _A.MEM, "struct btf_ptr *"),
            ArgSpec("ptr_size", _A.SIZE_OR_ZERO, "u32"),
            FLAGS,
        ),
        _R.INTEGER,
        "5.10",
        gpl_only=True,
    ),
    _row(151, "skb_cgroup_classid", (SKB,), _R.INTEGER, "5.10", ret_ctype="u64"),
    _row(
        152,
        "redirect_neigh",
        (
            _scalar("ifindex", "u32"),
            ArgSpec("params", _A.MEM_OR_NULL, "const struct bpf_redir_neigh *"),
            ArgSpec("plen", _A.SIZE_OR_ZERO, "int"),
            FLAGS,
        ),
        _R.INTEGER,
        "5.10",
    ),
    _row(
        153,
        "per_cpu_ptr",
        (ArgSpec("percpu_ptr", _A.PERCPU_BTF_ID, "const void *"), _scalar("cpu", "u32")),
        _R.MEM_OR_BTF_ID_OR_NULL,
        "5.10",
        ret_ctype="void *",
    ),
    _row(
        154,
        "this_cpu_ptr",
        (ArgSpec("percpu_ptr", _A.PERCPU_BTF_ID, "const void *"),),
        _R.MEM_OR_BTF_ID,
        "5.10",
        ret_ctype="void *",
    ),
    _row(155, "redirect_peer", (_scalar("ifindex", "u32"), FLAGS), _R.INTEGER, "5.10"),
    _row(
        156,
        "task_storage_get",
        (MAP, _TASK0, VALUE_OR_NULL, FLAGS),
        _R.MAP_VALUE_OR_NULL,
        "5.11",
        ret_ctype="void *",
        map_types=_STORAGE["task"],
    ),
    _row(157, "task_storage_delete", (MAP, _TASK0), _R.INTEGER, "5.11", map_types=_STORAGE["task"]),
    _row(158, "get_current_task_btf", (), _R.BTF_ID, "5.11", ret_ctype="struct task_struct *"),
    _row(
        159,
        "bprm_opts_set",
        (ArgSpec("bprm", _A.BTF_ID, "struct linux_binprm *", btf_type="linux_binprm"), FLAGS),
        _R.INTEGER,
        "5.11",
    ),
    _row(160, "ktime_get_coarse_ns", (), _R.INTEGER, "5.11", ret_ctype="u64"),
    _row(161, "ima_inode_hash", (_INODE, DST, SIZE), _R.INTEGER, "5.11", effects=_SLEEPS),
    _row(162, "sock_from_file", (_FILE,), _R.BTF_ID_OR_NULL, "5.11", ret_ctype="struct socket *"),
    _row(
        163,
        "check_mtu",
        (
            CTX,
            _scalar("ifindex", "u32"),
            ArgSpec("mtu_len", _A.MEM_FIXED_RW, "u32 *", 4),
            _scalar("len_diff", "s32"),
            FLAGS,
        ),
        _R.INTEGER,
        "5.12",
    ),
    _row(
        164,
        "for_each_map_elem",
        (MAP, ArgSpec("callback_fn", _A.FUNC, "void *"), CALLBACK_CTX, FLAGS),
        _R.INTEGER,
        "5.13",
        effects=_CALLS_BACK,
        map_types=_ITERATED,
    ),
    _row(
        165,
        "snprintf",
        (
            ArgSpec("str", _A.MEM_UNINIT_OR_NULL, "char *"),
            ArgSpec("str_size", _A.SIZE_OR_ZERO, "u32"),
            ArgSpec("fmt", _A.CONST_STR, "const char *"),
            ArgSpec("data", _A.MEM_OR_NULL, "const u64 *"),
            ArgSpec("data_len", _A.SIZE_OR_ZERO, "u32"),
        ),
        _R.INTEGER,
        "5.13",
    ),
    _row(
        166,
        "sys_bpf",
        (_scalar("cmd", "u32"), ArgSpec("attr", _A.MEM, "void *"), ArgSpec("attr_size", _A.SIZE, "u32")),
        _R.INTEGER,
        "5.14",
    ),
    _row(
        167,
        "btf_find_by_name_kind",
        (
            ArgSpec("name", _A.MEM, "const char *"),
            ArgSpec("name_sz", _A.SIZE, "int"),
            _scalar("kind", "u32"),
            _scalar("flags", "int"),
        ),
        _R.INTEGER,
        "5.14",
    ),
    _row(168, "sys_close", (_scalar("fd", "u32"),), _R.INTEGER, "5.14"),
    _row(169, "timer_init", (_TIMER, MAP, FLAGS), _R.INTEGER, "5.15", map_types=_TIMERS),
    _row(
        170,
        "timer_set_callback",
        (_TIMER, ArgSpec("callback_fn", _A.FUNC, "void *")),
        _R.INTEGER,
        "5.15",
        effects=_CALLS_BACK_LATER,
    ),
    _row(171, "timer_start", (_TIMER, _scalar("nsecs"), FLAGS), _R.INTEGER, "5.15"),
    _row(172, "timer_cancel", (_TIMER,), _R.INTEGER, "5.15"),
    _row(173, "get_func_ip", (CTX,), _R.INTEGER, "5.15", ret_ctype="u64"),
    _row(174, "get_attach_cookie", (CTX,), _R.INTEGER, "5.15", ret_ctype="u64"),
    _row(175, "task_pt_regs", (TASK,), _R.BTF_ID, "5.15", ret_ctype="struct pt_regs *"),
    _row(176, "get_branch_snapshot", (ArgSpec("entries", _A.MEM_UNINIT, "void *"), SIZE0, FLAGS), _R.INTEGER, "5.16"),
    _row(
        177, "trace_vprintk", (_FMT, _FMT_SIZE, _DATA0, ArgSpec("data_len", _A.SIZE_OR_ZERO, "u32")), _R.INTEGER, "5.16"
    ),
    _row(178, "skc_to_unix_sock", (SOCK,), _R.BTF_ID_OR_NULL, "5.16", ret_ctype="struct unix_sock *"),
    _row(
        179,
        "kallsyms_lookup_name",
        (
            ArgSpec("name", _A.MEM, "const char *"),
            ArgSpec("name_sz", _A.SIZE_OR_ZERO, "int"),
            _scalar("flags", "int"),
            ArgSpec("res", _A.MEM_FIXED_UNINIT, "u64 *", 8),
        ),
        _R.INTEGER,
        "5.16",
    ),
    _row(
        180,
        "find_vma",
        (TASK, _scalar("addr"), ArgSpec("callback_fn", _A.FUNC, "void *"), CALLBACK_CTX, FLAGS),
        _R.INTEGER,
        "5.17",
        effects=_CALLS_BACK,
    ),
    _row(
        181,
        "loop",
        (_scalar("nr_loops", "u32"), ArgSpec("callback_fn", _A.FUNC, "void *"), CALLBACK_CTX, FLAGS),
        _R.INTEGER,
        "5.17",
        effects=_CALLS_BACK,
    ),
    _row(
        182,
        "strncmp",
        (
            ArgSpec("s1", _A.MEM, "const char *"),
            ArgSpec("s1_sz", _A.SIZE, "u32"),
            ArgSpec("s2", _A.CONST_STR, "const char *"),
        ),
        _R.INTEGER,
        "5.17",
    ),
    _row(
        183,
        "get_func_arg",
        (CTX, _scalar("n", "u32"), ArgSpec("value", _A.MEM_FIXED_UNINIT, "u64 *", 8)),
        _R.INTEGER,
        "5.17",
    ),
    _row(184, "get_func_ret", (CTX, ArgSpec("value", _A.MEM_FIXED_UNINIT, "u64 *", 8)), _R.INTEGER, "5.17"),
    _row(185, "get_func_arg_cnt", (CTX,), _R.INTEGER, "5.17"),
    _row(186, "get_retval", (), _R.INTEGER, "5.18", ret_ctype="int"),
    _row(187, "set_retval", (_scalar("retval", "int"),), _R.INTEGER, "5.18", ret_ctype="int"),
    _row(
        188,
        "xdp_get_buff_len",
        (XDP,),
        _R.INTEGER,
        "5.18",
        ret_ctype="u64",
        variants={
            t: (ArgSpec("xdp", _A.BTF_ID, "struct xdp_buff *", btf_type="xdp_buff"),) for t in ("tracing", "syscall")
        },
    ),
    _row(189, "xdp_load_bytes", (XDP, _scalar("offset", "u32"), BUF_OUT, LEN), _R.INTEGER, "5.18"),
    _row(
        190,
        "xdp_store_bytes",
        (XDP, _scalar("offset", "u32"), ArgSpec("buf", _A.MEM, "const void *"), LEN),
        _R.INTEGER,
        "5.18",
    ),
    _row(
        191,
        "copy_from_user_task",
        (DST, SIZE0, ArgSpec("user_ptr", _A.ANYTHING, "const void *"), TASK, FLAGS),
        _R.INTEGER,
        "5.18",
        effects=_SLEEPS,
    ),
    _row(192, "skb_set_tstamp", (SKB, _scalar("tstamp"), _scalar("tstamp_type", "u32")), _R.INTEGER, "5.18"),
    _row(193, "ima_file_hash", (_FILE, DST, SIZE), _R.INTEGER, "5.18", effects=_SLEEPS),
    _row(
        194,
        "kptr_xchg",
        (ArgSpec("dst", _A.KPTR, "void *"), ArgSpec("ptr", _A.KPTR_VALUE, "void *")),
        _R.KPTR_OR_NULL,
        "5.19",
        effects=frozenset({Effect.ACQUIRES, Effect.RELEASES}),
        ret_ctype="void *",
    ),
    _row(
        195,
        "map_lookup_percpu_elem",
        (MAP, KEY, _scalar("cpu", "u32")),
        _R.MAP_VALUE_OR_NULL,
        "5.19",
        ret_ctype="void *",
        map_types=frozenset({"percpu_array", "percpu_hash", "lru_percpu_hash"}),
    ),
    _row(196, "skc_to_mptcp_sock", (SOCK,), _R.BTF_ID_OR_NULL, "5.19", ret_ctype="struct mptcp_sock *"),
    _row(
        197,
        "dynptr_from_mem",
        (ArgSpec("data", _A.MEM_UNINIT, "void *"), ArgSpec("size", _A.SIZE_OR_ZERO, "u64"), FLAGS, _DYNPTR_OUT),
        _R.INTEGER,
        "5.19",
    ),
    _row(
        198,
        "ringbuf_reserve_dynptr",
        (MAP, _scalar("size", "u32"), FLAGS, _DYNPTR_OUT),
        _R.INTEGER,
        "5.19",
        effects=frozenset({Effect.DYNPTR_ACQUIRES}),
        map_types=_RINGBUF,
    ),
    _row(199, "ringbuf_submit_dynptr", (_DYNPTR, FLAGS), _R.VOID, "5.19", effects=_RELEASES, ret_ctype="void"),
    _row(200, "ringbuf_discard_dynptr", (_DYNPTR, FLAGS), _R.VOID, "5.19", effects=_RELEASES, ret_ctype="void"),
    _row(
        201,
        "dynptr_read",
        (DST, ArgSpec("len", _A.SIZE_OR_ZERO, "u64"), _DYNPTR, _scalar("offset"), FLAGS),
        _R.INTEGER,
        "5.19",
    ),
    _row(
        202,
        "dynptr_write",
        (
            _DYNPTR,
            _scalar("offset"),
            ArgSpec("src", _A.MEM, "const void *"),
            ArgSpec("len", _A.SIZE_OR_ZERO, "u64"),
            FLAGS,
        ),
        _R.INTEGER,
        "5.19",
    ),
    _row(
        203,
        "dynptr_data",
        (_DYNPTR, _scalar("offset"), ArgSpec("len", _A.ALLOC_SIZE_OR_ZERO, "u64")),
        _R.DYNPTR_MEM_OR_NULL,
        "5.19",
        ret_ctype="void *",
    ),
    _row(204, "tcp_raw_gen_syncookie_ipv4", (_IP4, _TCP, ArgSpec("th_len", _A.SIZE_OR_ZERO, "u32")), _R.INTEGER, "6.0"),
    _row(205, "tcp_raw_gen_syncookie_ipv6", (_IP6, _TCP, ArgSpec("th_len", _A.SIZE_OR_ZERO, "u32")), _R.INTEGER, "6.0"),
    _row(206, "tcp_raw_check_syncookie_ipv4", (_IP4, _TCP_FIXED), _R.INTEGER, "6.0"),
    _row(207, "tcp_raw_check_syncookie_ipv6", (_IP6, _TCP_FIXED), _R.INTEGER, "6.0"),
    _row(208, "ktime_get_tai_ns", (), _R.INTEGER, "6.1", ret_ctype="u64"),
    _row(
        209,
        "user_ringbuf_drain",
        (MAP, ArgSpec("callback_fn", _A.FUNC, "void *"), CALLBACK_CTX, FLAGS),
        _R.INTEGER,
        "6.1",
        effects=_CALLS_BACK,
        map_types=frozenset({"user_ringbuf"}),
    ),
    _row(
        210,
        "cgrp_storage_get",
        (MAP, _CGROUPS, VALUE_OR_NULL, FLAGS),
        _R.MAP_VALUE_OR_NULL,
        "6.2",
        ret_ctype="void *",
        map_types=_STORAGE["cgrp"],
    ),
    _row(211, "cgrp_storage_delete", (MAP, _CGROUPS), _R.INTEGER, "6.2", map_types=_STORAGE["cgrp"]),
)

# Helpers for users without capabilities; measured on Linux 6.18 (tools/unprivileged_kernel.py).
_UNPRIVILEGED = frozenset(
    {
        "map_lookup_elem", "map_update_elem", "map_delete_elem", "ktime_get_ns", "get_prandom_u32",
        "get_smp_processor_id", "tail_call", "get_current_pid_tgid", "get_current_uid_gid",
        "perf_event_output", "skb_load_bytes", "get_numa_node_id", "get_socket_cookie", "get_socket_uid",
        "skb_load_bytes_relative", "skb_cgroup_id", "get_local_storage", "skb_ancestor_cgroup_id",
        "sk_lookup_tcp", "sk_lookup_udp", "sk_release", "map_push_elem", "map_pop_elem", "map_peek_elem",
        "sk_fullsock", "tcp_sock", "skb_ecn_set_ce", "get_listener_sock", "skc_lookup_tcp", "strtol",
        "strtoul", "sk_storage_get", "sk_storage_delete", "get_ns_current_pid_tgid", "get_netns_cookie",
        "ktime_get_boot_ns", "sk_cgroup_id", "sk_ancestor_cgroup_id", "ringbuf_output", "ringbuf_reserve",
        "ringbuf_submit", "ringbuf_discard", "ringbuf_query", "ktime_get_coarse_ns", "strncmp",
        "map_lookup_percpu_elem", "ktime_get_tai_ns",
    }
)  # fmt: skip

# Helpers of some attach types only.
_ITERATORS = frozenset({"trace_iter"})
_TRAMPOLINES = frozenset({"trace_fentry", "trace_fexit", "modify_return", "trace_fsession"})
_HOOKS = frozenset({"lsm_mac"})
_ATTACH_TYPES: Mapping[str, Mapping[str, frozenset[str]]] = {
    **{name: {"tracing": _ITERATORS} for name in ("seq_printf", "seq_write", "seq_printf_btf")},
    **{name: {"tracing": _TRAMPOLINES, "lsm": _HOOKS} for name in ("get_func_arg", "get_func_ret", "get_func_arg_cnt")},
    "get_attach_cookie": {"tracing": _TRAMPOLINES | {"trace_raw_tp"}, "lsm": _HOOKS},
    "get_func_ip": {"tracing": _TRAMPOLINES},
    "get_retval": {"lsm": frozenset({"lsm_cgroup"})},
    "set_retval": {"lsm": frozenset({"lsm_cgroup"})},
}

ATTACH_TYPES_SINCE: Mapping[tuple[str, str], str] = {("get_attach_cookie", "trace_raw_tp"): "6.12"}
"""Helper and attach type -> the first measured kernel that allows the one in the other."""

BY_CONFIGURATION: Mapping[str, frozenset[str]] = {
    "override_return": frozenset(),
    "probe_write_user": frozenset({"6.1", "6.12"}),
}
"""Helpers that some kernels leave out by configuration or lockdown, and the measured kernels that have them."""

OLDER_KINDS: Mapping[tuple[str, int], ArgKind] = {
    ("task_storage_get", 1): _A.BTF_ID,
    ("task_storage_delete", 1): _A.BTF_ID,
    ("sk_storage_get", 1): _A.BTF_ID,
    ("sk_storage_delete", 1): _A.BTF_ID,
    ("cgrp_storage_get", 1): _A.BTF_ID,
    ("cgrp_storage_delete", 1): _A.BTF_ID,
    ("tcp_raw_gen_syncookie_ipv4", 2): _A.SIZE,
    ("tcp_raw_gen_syncookie_ipv6", 2): _A.SIZE,
}
"""Helper and number of an argument -> what it had to be before 6.12: neither NULL nor of no bytes."""

# Helpers whose memory arguments may lie in the packet.
_PACKET_ACCESS = frozenset(
    {
        "map_lookup_elem", "map_update_elem", "map_delete_elem", "map_lookup_percpu_elem", "map_push_elem", "csum_diff",
        "sk_lookup_tcp", "sk_lookup_udp", "skc_lookup_tcp", "tcp_check_syncookie", "tcp_gen_syncookie",
        "tcp_raw_gen_syncookie_ipv4", "tcp_raw_gen_syncookie_ipv6", "tcp_raw_check_syncookie_ipv4",
        "tcp_raw_check_syncookie_ipv6",
    }
)  # fmt: skip

# Program types that could not be measured, and helpers that the measured kernel was built or locked down without: from
# the kernel's documentation.
_DOCUMENTED: Mapping[str, str] = {
    "lirc_mode2": (
        "rc_repeat rc_keydown rc_pointer_rel map_lookup_elem map_update_elem map_delete_elem map_push_elem map_pop_elem"
        " map_peek_elem ktime_get_ns ktime_get_boot_ns tail_call get_prandom_u32 trace_printk"
    ),
    "lsm": (
        "inode_storage_get inode_storage_delete sk_storage_get sk_storage_delete spin_lock spin_unlock bprm_opts_set"
        " ima_inode_hash ima_file_hash get_attach_cookie d_path get_socket_cookie perf_event_output"
        " get_retval set_retval get_func_arg get_func_ret get_func_arg_cnt probe_read probe_read_str"
        " get_stackid get_stack"
    ),
    "tracing": "seq_printf seq_write seq_printf_btf d_path get_func_arg get_func_ret get_func_arg_cnt probe_write_user",
    "kprobe": "probe_write_user override_return",
    "tracepoint": "probe_write_user",
    "raw_tracepoint": "probe_write_user",
    "raw_tracepoint_writable": "probe_write_user",
    "perf_event": "probe_write_user",
    "lwt_seg6local": "lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action",
}


def _allowed() -> dict[str, set[str]]:
    """Helper name -> the program types that may call it."""
    result: dict[str, set[str]] = {}
    base = helper_permissions.ALLOWED["*"].split()
    for prog_type, names in helper_permissions.ALLOWED.items():
        for name in names.split() if prog_type == "*" else (*base, *names.split()):
            if prog_type != "*":
                result.setdefault(name, set()).add(prog_type)
    for prog_type, names in _DOCUMENTED.items():
        extra = base if prog_type == "lsm" else []
        for name in (*extra, *names.split()):
            result.setdefault(name, set()).add(prog_type)
    return result


def _later() -> dict[str, dict[str, str]]:
    """Helper name -> program type -> the first measured kernel that allows it there."""
    result: dict[str, dict[str, str]] = {}
    for prog_type, by_release in helper_history.LATER.items():
        for release, names in by_release.items():
            for name in names.split():
                result.setdefault(name, {})[prog_type] = release
    # The probe of older kernels left these types out.
    for prog_type in ("tracing", "lsm"):
        result["get_cgroup_classid"][prog_type] = "6.18"
    return result


def _specs() -> Iterator[HelperSpec]:
    allowed = _allowed()
    later = _later()
    gpl = set(helper_permissions.GPL_ONLY["*"].split())
    for number, name, args, ret, since, special in _ROWS:
        special = {"gpl_only": name in gpl, "packet_access": name in _PACKET_ACCESS, **special}
        special["unprivileged"] = name in _UNPRIVILEGED
        special["attach_types"] = _ATTACH_TYPES.get(name, {})
        special["prog_types_since"] = later.get(name, {})
        yield HelperSpec(number, name, args, ret, since, frozenset(allowed.get(name, ())), **special)  # type: ignore[arg-type]


HELPERS: Mapping[int, HelperSpec] = MappingProxyType({spec.id: spec for spec in _specs()})
"""Every helper by its number."""

HELPERS_BY_NAME: Mapping[str, HelperSpec] = MappingProxyType({spec.name: spec for spec in HELPERS.values()})
"""Every helper by its name without the bpf_ prefix."""


def is_allowed(spec: HelperSpec, prog_type: str, kernel: str) -> bool:
    """Whether a program of this type may call the helper on this kernel, privileges and licence aside.

    >>> is_allowed(HELPERS_BY_NAME["get_current_pid_tgid"], "xdp", "6.1")
    False
    >>> is_allowed(HELPERS_BY_NAME["get_current_pid_tgid"], "xdp", "6.12")
    True
    """
    since = spec.prog_types_since.get(prog_type, spec.since)
    return prog_type in spec.prog_types and is_at_least(kernel, spec.since) and is_at_least(kernel, since)
