"""Helper rows: consistent in themselves, and what the kernel checks is what they say."""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Callable

import pytest

from ebpfkit.abi import uapi
from ebpfkit.abi.helper_history import LATER
from ebpfkit.abi.helper_permissions import ALLOWED, GPL_ONLY, MEASURED_ON
from ebpfkit.abi.helpers import HELPERS, HELPERS_BY_NAME, is_allowed
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.abi.model import ArgKind, ArgSpec, Effect, HelperSpec, RetKind
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.abi.versions import KNOWN, MEASURED_RELEASES, is_at_least, parse_version
from tests.abi.loads import create_like_row, exit_with, insn, last_line, load_wide, map_of, raw_map_create, verdict
from tests.conftest import skip_or_fail

SCALARS = {
    ArgKind.SCALAR,
    ArgKind.ANYTHING,
    ArgKind.UNCHECKED,
    ArgKind.SIZE,
    ArgKind.SIZE_OR_ZERO,
    ArgKind.ALLOC_SIZE_OR_ZERO,
    ArgKind.CONST,
}
SIZES = {ArgKind.SIZE, ArgKind.SIZE_OR_ZERO}
WRITTEN = {
    ArgKind.MEM_UNINIT,
    ArgKind.MEM_UNINIT_OR_NULL,
    ArgKind.MEM_RW,
    ArgKind.MEM_FIXED_RW,
    ArgKind.MEM_FIXED_UNINIT,
    ArgKind.MAP_VALUE_UNINIT,
}
READ = {ArgKind.MEM, ArgKind.MEM_OR_NULL, ArgKind.MEM_FIXED, ArgKind.MAP_KEY, ArgKind.MAP_VALUE}
PAIRED = {ArgKind.MEM, ArgKind.MEM_OR_NULL, ArgKind.MEM_UNINIT, ArgKind.MEM_UNINIT_OR_NULL, ArgKind.MEM_RW}
MEMORY = WRITTEN | READ
NULLABLE = {ArgKind.MEM_OR_NULL, ArgKind.MEM_UNINIT_OR_NULL}

# Program types whose helpers must be modelled completely.
MODELLED = ("xdp", "sched_cls", "socket_filter", "kprobe", "tracepoint", "raw_tracepoint", "perf_event")
# Loadable with nothing but a type (and attach type), so that every call can be tried.
TRIED = (
    *MODELLED, "cgroup_skb", "lwt_xmit", "lwt_in", "sk_skb", "sk_msg", "sock_ops", "cgroup_sock_addr", "cgroup_sock",
    "cgroup_sysctl", "cgroup_sockopt", "sk_reuseport", "sk_lookup", "flow_dissector", "lwt_seg6local", "cgroup_device",
)  # fmt: skip
# Where packet pointers come from: offsets of data and data_end, and the load's opcode.
PACKETS = {
    "xdp": (0, 4, 0x61), "sched_cls": (76, 80, 0x61), "lwt_xmit": (76, 80, 0x61), "sk_skb": (76, 80, 0x61),
    "cgroup_skb": (76, 80, 0x61), "sk_msg": (0, 8, 0x79), "sk_reuseport": (0, 8, 0x79), "lwt_seg6local": (76, 80, 0x61),
    "flow_dissector": (76, 80, 0x61),
}  # fmt: skip
# Calls that need more than their arguments.
SPECIAL = {
    "probe_write_user": "locked down or not built in",
    "override_return": "not built in",
    "copy_from_user": "only in sleepable programs",
    "dynptr_from_mem": "takes map values only",
}
Setup = Callable[[int], bytes]


def arguments(spec: HelperSpec, args: tuple[ArgSpec, ...], **instead: Setup) -> bytes | None:
    """Code that gives each argument a value of its kind, behind a saved context (R6) and a written stack; or None."""
    code = b""
    for number, arg in enumerate(args, 1):
        if replacement := instead.get(f"r{number}"):
            code += replacement(number)
        elif arg.kind in (ArgKind.CTX, ArgKind.CTX_OR_NULL):
            code += insn(0xBF, number, 6)
        elif arg.kind is ArgKind.CONST_MAP_PTR:
            fitting = sorted(spec.map_types or {"array"}, key=lambda name: (name not in ("array", "hash"), name))
            if MAP_TYPES[fitting[0]].needs_btf:
                return None
            code += load_wide(
                number, 1, create_like_row("prog_array") if spec.name == "tail_call" else map_of(fitting[0])
            )
        elif arg.kind in SCALARS:
            code += insn(0xB7, number, imm=16 if arg.kind in SIZES or arg.kind is ArgKind.ALLOC_SIZE_OR_ZERO else 0)
        elif arg.kind is ArgKind.DYNPTR_UNINIT:
            code += insn(0xBF, number, 10) + insn(0x07, number, imm=-256)
        elif arg.kind in MEMORY or arg.kind is ArgKind.MAP_VALUE_OR_NULL:
            code += insn(0xBF, number, 10) + insn(0x07, number, imm=-32 * number - 32)
        elif arg.kind is ArgKind.STACK_OR_NULL:
            code += insn(0xB7, number)
        else:
            return None  # sockets, tasks, callbacks: need more than a line of code
    return code


PROLOGUE = insn(0xBF, 6, 1) + b"".join(insn(0x7A, 10, 0, off) for off in range(-256, 0, 8))


def try_call(
    spec: HelperSpec, prog_type: str, body: bytes, prologue: bytes = PROLOGUE, level: int = 1
) -> tuple[bool, str]:
    """Load the call; a leak or a type's own attach type is no answer about the arguments."""
    attach_types = PROG_TYPES[prog_type].attach_types if prog_type not in ("sched_cls", "xdp") else ()
    for attach_type in attach_types or (None,):
        taken, log = verdict(
            prologue + body + insn(0x85, imm=spec.id) + exit_with(1), prog_type, attach_type, level=level
        )
        if taken or "reference leak" in log or "Unreleased reference" in log:
            return True, log
        if "cannot use helper" not in log:
            break
    return False, log


def tried_types(spec: HelperSpec) -> list[str]:
    return [name for name in TRIED if name in spec.prog_types]


def best_type(spec: HelperSpec) -> str | None:
    """A program type to try it in, one with packets if there is one."""
    names = tried_types(spec)
    return next((name for name in names if name in PACKETS), names[0] if names else None)


# --- the rows by themselves -------------------------------------------------------------------------------------------


def test_every_helper_of_the_interface_has_a_row() -> None:
    names = {
        number: name.removeprefix("BPF_FUNC_")
        for name, number in uapi.ENUMS["bpf_func_id"].items()
        if name.startswith("BPF_FUNC_") and number
    }
    assert {spec.id: spec.name for spec in HELPERS.values()} == names
    assert set(HELPERS_BY_NAME) == set(names.values())


def test_helpers_of_the_common_program_types_are_complete() -> None:
    missing = [spec.name for spec in HELPERS.values() if spec.args is None and spec.prog_types & set(MODELLED)]
    assert not missing


@pytest.mark.parametrize("spec", HELPERS.values(), ids=lambda spec: spec.name)
def test_row_is_sound(spec: HelperSpec) -> None:
    assert spec.prog_types and spec.prog_types <= set(PROG_TYPES)
    assert not spec.since or spec.since in KNOWN
    assert spec.map_types is None or spec.map_types <= set(MAP_TYPES)
    assert set(spec.variants) <= spec.prog_types
    for args in (spec.args or (), *spec.variants.values(), *spec.variants_by_map.values()):
        assert len(args) <= 5
        assert len({arg.name for arg in args}) == len(args)
        for number, arg in enumerate(args):
            following = args[number + 1].kind if number + 1 < len(args) else None
            if arg.kind in SIZES:
                assert args[number - 1].kind in PAIRED, f"{arg.name} is the size of nothing"
            if arg.kind in PAIRED and following not in SIZES:
                assert spec.name.startswith("tcp_raw_gen_syncookie"), f"{arg.name} has no size"
            if arg.kind in (ArgKind.MAP_KEY, ArgKind.MAP_VALUE, ArgKind.MAP_VALUE_UNINIT):
                assert any(other.kind is ArgKind.CONST_MAP_PTR for other in args[:number])
            if arg.kind in (ArgKind.MEM_FIXED, ArgKind.MEM_FIXED_RW, ArgKind.MEM_FIXED_UNINIT):
                assert arg.size > 0
            if arg.kind is ArgKind.BTF_ID:
                assert arg.btf_type or spec.name == "kptr_xchg"


def test_first_kernels_follow_the_numbers() -> None:
    rows = [HELPERS[number] for number in sorted(HELPERS)]
    for before, after in itertools.pairwise(rows):
        assert is_at_least(after.since or "4.4", before.since or "4.4"), (before.name, after.name)


def test_helpers_came_to_program_types_with_kernels() -> None:
    row = HELPERS_BY_NAME["get_current_uid_gid"]
    assert [is_allowed(row, "xdp", kernel) for kernel in ("6.1", "6.12", "6.18")] == [False, False, True]
    assert is_allowed(row, "kprobe", "5.4") and not is_allowed(HELPERS_BY_NAME["redirect"], "kprobe", "6.18")
    assert not is_allowed(HELPERS_BY_NAME["xdp_load_bytes"], "xdp", "5.15")
    for prog_type, by_release in LATER.items():
        assert prog_type in PROG_TYPES
        for release, names in by_release.items():
            assert release in MEASURED_RELEASES
            for name in names.split():
                assert prog_type in HELPERS_BY_NAME[name].prog_types


def test_permissions_name_known_things() -> None:
    assert set(ALLOWED) - {"*"} <= set(PROG_TYPES)
    for names in (*ALLOWED.values(), *GPL_ONLY.values()):
        assert set(names.split()) <= set(HELPERS_BY_NAME)


# --- the rows against the kernel --------------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.parametrize("prog_type", ["xdp", "sched_cls", "socket_filter", "kprobe", "tracepoint"])
def test_permissions_are_the_kernels(prog_type: str) -> None:
    skip_unless_measured()
    wrong = []
    for spec in HELPERS.values():
        if spec.name in SPECIAL and SPECIAL[spec.name].endswith("not built in"):
            continue
        answers = [
            verdict(start + insn(0x85, imm=spec.id) + exit_with(1), prog_type)
            for start in (
                b"".join(insn(0xB7, reg) for reg in range(1, 6)),
                b"".join(insn(0xB7, reg) for reg in range(2, 6)),
            )
        ]
        refused = any(
            not taken and re.search(r"cannot use helper|unknown func|invalid func|not supported for program type", log)
            for taken, log in answers
        )
        if refused == (prog_type in spec.prog_types):
            wrong.append(spec.name)
    assert not wrong


@pytest.mark.kernel
@pytest.mark.parametrize("prog_type", ["xdp", "sched_cls", "kprobe"])
def test_licences_are_asked_for_as_the_rows_say(prog_type: str) -> None:
    skip_unless_measured()
    zeroes = b"".join(insn(0xB7, reg) for reg in range(1, 6))
    wrong = []
    for spec in HELPERS.values():
        if prog_type in spec.prog_types and not SPECIAL.get(spec.name, "").endswith("not built in"):
            log = verdict(zeroes + insn(0x85, imm=spec.id) + exit_with(1), prog_type, license="Apache-2.0")[1]
            if ("GPL-restricted" in log) != spec.gpl_only:
                wrong.append(spec.name)
    assert not wrong


@pytest.mark.kernel
def test_calls_that_follow_the_rows_are_accepted() -> None:
    refused, built = {}, set()
    for spec in HELPERS.values():
        if spec.name in SPECIAL:
            continue
        for prog_type in tried_types(spec):
            args = spec.args_in(prog_type)
            body = arguments(spec, args) if args is not None else None
            if body is None:
                continue
            built.add(spec.name)
            taken, log = try_call(spec, prog_type, body)
            if not taken:
                refused[spec.name, prog_type] = last_line(log)
    assert not refused
    assert len(built) > 110


@pytest.mark.kernel
def test_arguments_of_another_kind_are_refused_as_the_rows_say() -> None:
    read_only = raw_map_create(MAP_TYPES["array"].id, 4, 128, 1, uapi.BPF_F_RDONLY_PROG)
    wrong = []
    for spec in HELPERS.values():
        prog_type = best_type(spec)
        args = spec.args_in(prog_type) if prog_type else None
        if prog_type is None or args is None or spec.name in SPECIAL or arguments(spec, args) is None:
            continue
        if spec.variants_by_map or spec.name == "get_local_storage":
            continue  # depends on the map that the probe picks; takes no flags but 0

        def accepts(**instead: Setup) -> bool:
            body = arguments(spec, args, **instead)  # noqa: B023
            assert body is not None
            return try_call(spec, prog_type, body)[0]  # noqa: B023

        for number, arg in enumerate(args, 1):
            register = f"r{number}"
            size = f"r{number + 1}"
            if accepts(**{register: lambda n: insn(0xB7, n, imm=5)}) != (arg.kind in SCALARS):
                wrong.append((spec.name, number, "a number"))
            if arg.kind in MEMORY:
                if accepts(**{register: lambda n: load_wide(n, 2, read_only)}) != (arg.kind not in WRITTEN):
                    wrong.append((spec.name, number, "read-only memory"))
                sized = number < len(args) and args[number].kind in SIZES
                zero = {size: lambda n: insn(0xB7, n)} if sized else {}
                if accepts(**{register: lambda n: insn(0xB7, n)}, **zero) != (arg.kind in NULLABLE):
                    wrong.append((spec.name, number, "NULL"))
                if sized and accepts(**zero) != (args[number].kind is ArgKind.SIZE_OR_ZERO):
                    wrong.append((spec.name, number + 1, "size zero"))
            if arg.size:
                for bytes_, fits in ((arg.size, True), (arg.size - 1, False)):
                    values = raw_map_create(MAP_TYPES["array"].id, 4, bytes_, 1)
                    if accepts(**{register: lambda n, fd=values: load_wide(n, 2, fd)}) != fits:  # type: ignore[misc]
                        wrong.append((spec.name, number, f"{bytes_} bytes"))
    assert not wrong


def packet_prologue(prog_type: str, skipped: bytes) -> bytes:
    """R7 is a packet pointer with 128 bytes proven; `skipped` is jumped over when they are not there."""
    data, end, opcode = PACKETS[prog_type]
    check = insn(0xBF, 9, 7) + insn(0x07, 9, imm=128) + insn(0x2D, 9, 8, off=len(skipped) // 8)
    return PROLOGUE + insn(opcode, 7, 6, data) + insn(opcode, 8, 6, end) + check


@pytest.mark.kernel
def test_packet_memory_goes_where_the_rows_allow_it() -> None:
    wrong = []
    for spec in HELPERS.values():
        for prog_type in set(tried_types(spec)) & set(PACKETS):
            args = spec.args_in(prog_type)
            if args is None or spec.name in SPECIAL or arguments(spec, args) is None:
                continue
            for number, arg in enumerate(args, 1):
                if arg.kind not in READ:
                    continue
                body = arguments(spec, args, **{f"r{number}": lambda n: insn(0xBF, n, 7)})
                assert body is not None
                prologue = packet_prologue(prog_type, body + insn(0x85))
                if try_call(spec, prog_type, body, prologue)[0] != spec.packet_access:
                    wrong.append((spec.name, prog_type, arg.name))
    assert not wrong


@pytest.mark.kernel
def test_packet_pointers_die_where_the_rows_say() -> None:
    wrong = []
    for spec in HELPERS.values():
        for prog_type in set(tried_types(spec)) & set(PACKETS):
            args = spec.args_in(prog_type)
            body = arguments(spec, args) if args is not None and spec.name not in SPECIAL else None
            if body is None or not try_call(spec, prog_type, body)[0] or spec.name == "tail_call":
                continue
            code = body + insn(0x85, imm=spec.id) + insn(0x71, 2, 7)
            attach = PROG_TYPES[prog_type].attach_types
            log = verdict(
                packet_prologue(prog_type, code) + code + exit_with(1),
                prog_type,
                attach[0] if attach and prog_type not in ("xdp", "sched_cls") else None,
            )[1]
            if ("R7 invalid mem access" in log) != (Effect.CHANGES_PACKET in spec.effects):
                wrong.append((spec.name, prog_type))
    assert not wrong


@pytest.mark.kernel
def test_results_are_what_the_rows_say() -> None:
    printed = {
        RetKind.INTEGER: r"scalar\(\)",
        RetKind.MAP_VALUE_OR_NULL: r"map_value_or_null\(",
        RetKind.SOCKET_OR_NULL: r"sock_or_null\(",
        RetKind.SOCK_COMMON_OR_NULL: r"sock_common_or_null\(",
        RetKind.RINGBUF_MEM_OR_NULL: r"ringbuf_mem_or_null\(",
        RetKind.BTF_ID: r"trusted_ptr_",
        RetKind.MAP_VALUE: r"map_value\(",
    }
    bounds = {"size": r"scalar\(smin=smin32=-4095,smax=smax32=16\)", "cpus": r"scalar\(smin=smin32=0,"}
    wrong, seen = {}, set()
    for spec in HELPERS.values():
        prog_type = best_type(spec)
        args = spec.args_in(prog_type) if prog_type else None
        body = arguments(spec, args) if args is not None and spec.name not in SPECIAL else None
        if prog_type is None or body is None or spec.ret is RetKind.VOID:
            continue
        log = try_call(spec, prog_type, body, level=2)[1]
        found = re.search(rf"\n\d+: \(85\) call bpf_\w+#{spec.id}\b.*?R0(?:_w)?=(\S+)", log, re.DOTALL)
        assert found, spec.name
        seen.add(spec.ret)
        if not re.match(bounds.get(spec.ret_bound) or printed[spec.ret], found[1]):
            wrong[spec.name] = found[1]
    assert not wrong
    assert RetKind.MAP_VALUE_OR_NULL in seen and RetKind.RINGBUF_MEM_OR_NULL in seen


def skip_unless_measured() -> None:
    """Permissions are those of one kernel series; others differ, and say so in their own rows."""
    if parse_version(platform.release()) != parse_version(MEASURED_ON):
        skip_or_fail(f"permissions were measured on {MEASURED_ON}, this is {platform.release()}")
