"""What native code has of the kernel's helpers, as LLVM text: packet bounds, maps on native stores, clocks, chance.

Belongs here: one row for each helper that runs in user space without Python, the functions behind the rows, and why the
others do not. Each function takes the context's words first. Semantics and error numbers are the kernel's.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ebpfkit.abi.limits import ETHERNET_HEADER, MAX_XDP_META
from ebpfkit.errors import NotSupported
from ebpfkit.maps.native import Layout, layout_of, store_code
from ebpfkit.maps.store import BPF_EXIST, BPF_NOEXIST

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade

__all__ = ["CONTEXT", "PREAMBLE", "map_functions", "supports"]

CONTEXT: Final[Mapping[str, int]] = MappingProxyType(
    {
        name: place
        for place, name in enumerate(
            ("data", "end", "meta", "low", "high", "ifindex", "queue", "cpu", "target", "seed")
        )
    }
)
"""The words of the native context: where the packet starts and ends, the room around it, what `xdp_md` tells, the
worker's number (in place of the CPU's), the socket that a redirect chose, and the address of the state of chance."""

_MAP_HELPERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "map_lookup_elem": ("array", "percpu_array", "hash", "lru_hash", "lpm_trie"),
        "map_update_elem": ("array", "percpu_array", "hash", "lru_hash", "lpm_trie"),
        "map_delete_elem": ("hash", "lru_hash", "lpm_trie"),
        "redirect_map": ("xskmap",),
    }
)
_CLOCKS: Final = MappingProxyType(
    {"ktime_get_ns": 1, "ktime_get_boot_ns": 7, "ktime_get_coarse_ns": 6, "ktime_get_tai_ns": 11}
)
_PLAIN: Final = frozenset(
    (
        "xdp_adjust_head", "xdp_adjust_tail", "xdp_adjust_meta", "xdp_get_buff_len", "xdp_load_bytes",
        "xdp_store_bytes", "get_prandom_u32", "get_smp_processor_id", "csum_diff", *_CLOCKS,
    )
)  # fmt: skip
_INSTEAD: Final = MappingProxyType(
    {
        "percpu_hash": "use a PerCpuArray, or a Hash",
        "lru_percpu_hash": "use a PerCpuArray, or an LruHash",
        "ringbuf": "hand the packet up with XDP_PASS",
        "devmap": "redirect to an XskMap of sockets",
        "devmap_hash": "redirect to an XskMap of sockets",
        "cpumap": "redirect to an XskMap of sockets",
    }
)


def supports(name: str, facade: MapFacade | None) -> str:
    """Why native code does not have this helper, on this map where it takes one; empty when it has."""
    if facade is None:
        return "" if name in _PLAIN else f"the helper {name} cannot run in native code: only the kernel has it"
    kinds = _MAP_HELPERS.get(name)
    if kinds is None or facade.map_type not in kinds:
        what = f"the {type(facade).__name__} '{facade.name}' cannot be used in native code"
        return f"{what}: {_INSTEAD.get(facade.map_type, f'it has no {name} of it')}"
    return ""


_EINVAL: Final = -errno.EINVAL


def _word(name: str) -> str:
    return f"getelementptr i64, ptr %ctx, i64 {CONTEXT[name]}"


def _load(*names: str) -> str:
    lines = [f"  %p.{name} = {_word(name)}\n  %{name} = load i64, ptr %p.{name}, align 8" for name in names]
    return "\n".join(lines)


_PACKET = f"""
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.assume(i1)
declare i16 @llvm.bswap.i16(i16)
declare i32 @llvm.bswap.i32(i32)
declare i64 @llvm.bswap.i64(i64)
declare i32 @clock_gettime(i32, ptr)

define internal i64 @helper_xdp_adjust_head(ptr %ctx, i64 %by) alwaysinline nounwind {{
{_load("data", "end", "meta", "low")}
  %narrow = trunc i64 %by to i32
  %delta = sext i32 %narrow to i64
  %size = sub i64 %data, %meta
  %new = add i64 %data, %delta
  %room = add i64 %low, %size
  %before = icmp ult i64 %new, %room
  %last = sub i64 %end, {ETHERNET_HEADER}
  %behind = icmp ugt i64 %new, %last
  %bad = or i1 %before, %behind
  br i1 %bad, label %refused, label %move
refused:
  ret i64 {_EINVAL}
move:
  %start = sub i64 %new, %size
  %some = icmp ne i64 %size, 0
  br i1 %some, label %carry, label %done
carry:
  %to = inttoptr i64 %start to ptr
  %from = inttoptr i64 %meta to ptr
  call void @llvm.memmove.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  br label %done
done:
  store i64 %new, ptr %p.data, align 8
  store i64 %start, ptr %p.meta, align 8
  ret i64 0
}}

define internal i64 @helper_xdp_adjust_tail(ptr %ctx, i64 %by) alwaysinline nounwind {{
{_load("data", "end", "high")}
  %narrow = trunc i64 %by to i32
  %delta = sext i32 %narrow to i64
  %new = add i64 %end, %delta
  %outside = icmp ugt i64 %new, %high
  %least = add i64 %data, {ETHERNET_HEADER}
  %small = icmp ult i64 %new, %least
  %bad = or i1 %outside, %small
  br i1 %bad, label %refused, label %move
refused:
  ret i64 {_EINVAL}
move:
  store i64 %new, ptr %p.end, align 8
  %grows = icmp sgt i64 %delta, 0
  br i1 %grows, label %clear, label %done
clear:
  %to = inttoptr i64 %end to ptr
  call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 %delta, i1 false)
  br label %done
done:
  ret i64 0
}}

define internal i64 @helper_xdp_adjust_meta(ptr %ctx, i64 %by) alwaysinline nounwind {{
{_load("data", "meta", "low")}
  %narrow = trunc i64 %by to i32
  %delta = sext i32 %narrow to i64
  %new = add i64 %meta, %delta
  %outside = icmp ult i64 %new, %low
  %behind = icmp ugt i64 %new, %data
  %bad = or i1 %outside, %behind
  br i1 %bad, label %refused, label %sized
refused:
  ret i64 {_EINVAL}
sized:
  %size = sub i64 %data, %new
  %odd = and i64 %size, 3
  %uneven = icmp ne i64 %odd, 0
  %large = icmp ugt i64 %size, {MAX_XDP_META}
  %wrong = or i1 %uneven, %large
  br i1 %wrong, label %denied, label %move
denied:
  ret i64 {-errno.EACCES}
move:
  store i64 %new, ptr %p.meta, align 8
  ret i64 0
}}

define internal i64 @helper_xdp_get_buff_len(ptr %ctx) alwaysinline nounwind {{
{_load("data", "end")}
  %length = sub i64 %end, %data
  ret i64 %length
}}

define internal i64 @packet_part(ptr %ctx, i64 %at, i64 %count) alwaysinline nounwind {{
{_load("data", "end")}
  %offset = and i64 %at, 4294967295
  %size = and i64 %count, 4294967295
  %length = sub i64 %end, %data
  %last = add i64 %offset, %size
  %outside = icmp ugt i64 %last, %length
  %place = add i64 %data, %offset
  %found = select i1 %outside, i64 0, i64 %place
  ret i64 %found
}}

define internal i64 @helper_xdp_load_bytes(ptr %ctx, i64 %at, ptr %to, i64 %count) alwaysinline nounwind {{
  %part = call i64 @packet_part(ptr %ctx, i64 %at, i64 %count)
  %none = icmp eq i64 %part, 0
  br i1 %none, label %refused, label %copy
refused:
  ret i64 {_EINVAL}
copy:
  %from = inttoptr i64 %part to ptr
  %size = and i64 %count, 4294967295
  call void @llvm.memmove.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  ret i64 0
}}

define internal i64 @helper_xdp_store_bytes(ptr %ctx, i64 %at, ptr %from, i64 %count) alwaysinline nounwind {{
  %part = call i64 @packet_part(ptr %ctx, i64 %at, i64 %count)
  %none = icmp eq i64 %part, 0
  br i1 %none, label %refused, label %copy
refused:
  ret i64 {_EINVAL}
copy:
  %to = inttoptr i64 %part to ptr
  %size = and i64 %count, 4294967295
  call void @llvm.memmove.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  ret i64 0
}}

define internal i64 @helper_get_smp_processor_id(ptr %ctx) alwaysinline nounwind {{
{_load("cpu")}
  ret i64 %cpu
}}

define internal i64 @helper_get_prandom_u32(ptr %ctx) alwaysinline nounwind {{
{_load("seed")}
  %state = inttoptr i64 %seed to ptr
  %a = load i64, ptr %state, align 8
  %b = shl i64 %a, 13
  %c = xor i64 %a, %b
  %d = lshr i64 %c, 7
  %e = xor i64 %c, %d
  %f = shl i64 %e, 17
  %g = xor i64 %e, %f
  store i64 %g, ptr %state, align 8
  %h = mul i64 %g, 2685821657736338717
  %number = lshr i64 %h, 32
  ret i64 %number
}}

define internal i64 @clock(i32 %which) noinline nounwind {{
  %time = alloca [2 x i64], align 8
  call i32 @clock_gettime(i32 %which, ptr %time)
  %seconds = load i64, ptr %time, align 8
  %place = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %place, align 8
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}}

define internal i64 @csum_words(ptr %from, i64 %bytes) nounwind {{
begin:
  br label %loop
loop:
  %at = phi i64 [ 0, %begin ], [ %next, %whole ], [ %next, %part ]
  %total = phi i64 [ 0, %begin ], [ %more, %whole ], [ %most, %part ]
  %left = sub i64 %bytes, %at
  %place = getelementptr i8, ptr %from, i64 %at
  %next = add i64 %at, 4
  %end = icmp sle i64 %left, 0
  br i1 %end, label %out, label %some
some:
  %full = icmp sge i64 %left, 4
  br i1 %full, label %whole, label %part
whole:
  %word = load i32, ptr %place, align 1
  %wide = zext i32 %word to i64
  %more = add i64 %total, %wide
  br label %loop
part:
  %rest = alloca i32, align 4
  store i32 0, ptr %rest, align 4
  call void @llvm.memcpy.p0.p0.i64(ptr %rest, ptr %place, i64 %left, i1 false)
  %tail = load i32, ptr %rest, align 4
  %few = zext i32 %tail to i64
  %most = add i64 %total, %few
  br label %loop
out:
  ret i64 %total
}}

define internal i64 @fold(i64 %sum) alwaysinline nounwind {{
  %high = lshr i64 %sum, 32
  %low = and i64 %sum, 4294967295
  %once = add i64 %high, %low
  %carry = lshr i64 %once, 32
  %part = and i64 %once, 4294967295
  %folded = add i64 %carry, %part
  ret i64 %folded
}}

; as since Linux 6.13: sizes need not be multiples of 4, the sum is folded to 16 bits
define internal i64 @helper_csum_diff(ptr %ctx, ptr %old, i64 %old_size, ptr %new, i64 %new_size, i64 %seed)
  alwaysinline nounwind {{
  %first = and i64 %seed, 4294967295
  %olds = and i64 %old_size, 4294967295
  %news = and i64 %new_size, 4294967295
  %before = call i64 @csum_words(ptr %old, i64 %olds)
  %after = call i64 @csum_words(ptr %new, i64 %news)
  %added = add i64 %after, %first
  %gained = call i64 @fold(i64 %added)
  %lost = call i64 @fold(i64 %before)
  %inverse = sub i64 4294967295, %lost
  %change = add i64 %gained, %inverse
  %both = call i64 @fold(i64 %change)
  %flipped = sub i64 4294967295, %first
  %less = add i64 %before, %flipped
  %taken = call i64 @fold(i64 %less)
  %only_old = sub i64 4294967295, %taken
  %no_new = icmp eq i64 %news, 0
  %with_old = select i1 %no_new, i64 %only_old, i64 %both
  %no_old = icmp eq i64 %olds, 0
  %total = select i1 %no_old, i64 %gained, i64 %with_old
  %up = lshr i64 %total, 16
  %down = shl i64 %total, 16
  %swapped = or i64 %up, %down
  %turned = and i64 %swapped, 4294967295
  %sum = add i64 %total, %turned
  %shifted = lshr i64 %sum, 16
  %result = and i64 %shifted, 65535
  ret i64 %result
}}
"""
_CLOCK_FUNCTIONS = "".join(
    f"""
define internal i64 @helper_{name}(ptr %ctx) alwaysinline nounwind {{
  %now = call i64 @clock(i32 {number})
  ret i64 %now
}}
"""
    for name, number in _CLOCKS.items()
)

PREAMBLE: Final = (_PACKET + _CLOCK_FUNCTIONS, '!0 = !{!"branch_weights", i32 2000, i32 1}',
                   '!1 = !{!"branch_weights", i32 1, i32 2000}')  # fmt: skip
"""What every handler's module starts with."""


def map_functions(name: str, number: int, facade: MapFacade, targets: Any) -> list[str]:
    """The functions of a map, called NAME.HELPER; `targets` is the table of a socket map."""
    if targets is not None:
        return [_redirect(name, facade.max_entries, ctypes.addressof(targets))]
    layout = layout_of(facade.store)  # type: ignore[arg-type]
    if layout is None:
        raise NotSupported(
            f"the map '{facade.name}' in native code",
            why="it has values with a lock, or is too large for a native store",
        )
    if layout.kind in ("array", "percpu_array"):
        return _array(name, layout)
    prefix = f"table{number}"
    return [store_code(layout, facade.spec.key_size, prefix), *_table(name, prefix, layout)]


def _redirect(name: str, count: int, table: int) -> str:
    return f"""
define internal i64 @"{name}.redirect_map"(ptr %ctx, i64 %key, i64 %otherwise) alwaysinline nounwind {{
{_load("target")}
  %inside = icmp ult i64 %key, {count}
  br i1 %inside, label %look, label %none
look:
  %place = getelementptr i64, ptr inttoptr (i64 {table} to ptr), i64 %key
  %chosen = load i64, ptr %place, align 8
  %there = icmp ne i64 %chosen, 0
  br i1 %there, label %found, label %none
found:
  store i64 %chosen, ptr %p.target, align 8
  ret i64 4
none:
  %action = and i64 %otherwise, 3
  ret i64 %action
}}
"""


def _array(name: str, layout: Layout) -> list[str]:
    count = len(layout.addresses)
    table = ", ".join(f"i64 {address}" for address in layout.addresses)
    block = f"""
  %cells = getelementptr [{count} x i64], ptr @"{name}.blocks", i64 0, i64 %cpu
  %block = load i64, ptr %cells, align 8"""
    if count == 1:
        block = f"\n  %block = add i64 {layout.addresses[0]}, 0"
    place = f"""
  %short = load i32, ptr %key, align 4
  %index = zext i32 %short to i64
  %inside = icmp ult i64 %index, {layout.count}{block}
  %offset = mul i64 %index, {layout.stride}
  %address = add i64 %block, %offset"""
    return [
        f'@"{name}.blocks" = internal constant [{count} x i64] [{table}]',
        f"""
define internal ptr @"{name}.map_lookup_elem"(ptr %ctx, ptr %key) alwaysinline nounwind {{
{_load("cpu")}{place}
  %chosen = select i1 %inside, i64 %address, i64 0
  %cell = inttoptr i64 %chosen to ptr
  ret ptr %cell
}}

define internal i64 @"{name}.map_update_elem"(ptr %ctx, ptr %key, ptr %value, i64 %flags) alwaysinline nounwind {{
{_load("cpu")}{place}
  %known = icmp ule i64 %flags, {BPF_EXIST}
  br i1 %known, label %flagged, label %invalid
invalid:
  ret i64 {_EINVAL}
flagged:
  br i1 %inside, label %present, label %absent
absent:
  ret i64 {-errno.E2BIG}
present:
  %fresh = icmp eq i64 %flags, {BPF_NOEXIST}
  br i1 %fresh, label %exists, label %write
exists:
  ret i64 {-errno.EEXIST}
write:
  %cell = inttoptr i64 %address to ptr
  call void @llvm.memmove.p0.p0.i64(ptr align 8 %cell, ptr %value, i64 {layout.value_size}, i1 false)
  ret i64 0
}}
""",
    ]


def _table(name: str, prefix: str, layout: Layout) -> list[str]:
    return [
        f"""
define internal ptr @"{name}.map_lookup_elem"(ptr %ctx, ptr %key) alwaysinline nounwind {{
  %index = call i64 @{prefix}_lookup(ptr %key)
  %none = icmp eq i64 %index, 0
  %number = sub i64 %index, 1
  %offset = mul i64 %number, {layout.stride}
  %address = add i64 %offset, {layout.addresses[0]}
  %chosen = select i1 %none, i64 0, i64 %address
  %cell = inttoptr i64 %chosen to ptr
  ret ptr %cell
}}

define internal i64 @"{name}.map_update_elem"(ptr %ctx, ptr %key, ptr %value, i64 %flags) alwaysinline nounwind {{
  %code = call i64 @{prefix}_update(ptr %key, ptr %value, i64 %flags)
  ret i64 %code
}}

define internal i64 @"{name}.map_delete_elem"(ptr %ctx, ptr %key) alwaysinline nounwind {{
  %code = call i64 @{prefix}_delete(ptr %key)
  ret i64 %code
}}
"""
    ]
