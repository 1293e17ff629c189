"""Helpers: the machine and the kernel give the same return value, packet and maps."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MachineFault
from ebpfkit.maps.memory import PerfEventArrayStore, QueueStore, RingBufferStore
from ebpfkit.vm.helpers import IMPLEMENTED, arity
from ebpfkit.vm.machine import Machine

from .both import in_kernel, in_machine, object_of

PACKET = bytes(range(64))


@pytest.mark.parametrize("name", sorted(IMPLEMENTED))
def test_a_helper_reads_the_arguments_of_its_row(name: str) -> None:
    row = HELPERS_BY_NAME[name]
    assert row.args is not None and arity(IMPLEMENTED[name]) == len(row.args)


@dataclass(frozen=True)
class Case:
    asm: str
    maps: tuple[MapSpec, ...] = ()
    packets: tuple[bytes, ...] = (PACKET,)
    r0: int | None = None
    data: bytes | None = None
    contents: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)


def spec(name: str, type: str, key: int = 4, value: int = 8, entries: int = 4, **more: object) -> MapSpec:
    return MapSpec(name, type, key, value, entries, **more)  # type: ignore[arg-type]


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def negative(value: int) -> int:
    return -value & 0xFFFF_FFFF


def update(name: str, key: int, value: int, flags: int) -> str:
    """Store `value` under `key`; r0 is the helper's result."""
    return f"""
        *(u32 *)(r10 -4) = {key}
        *(u64 *)(r10 -16) = {value}
        r1 = map[{name}] ll
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -16
        r4 = {flags}
        call bpf_map_update_elem#2
    """


def lookup(name: str, key: int) -> str:
    return f"""
        *(u32 *)(r10 -4) = {key}
        r1 = map[{name}] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem#1
    """


def delete(name: str, key: int) -> str:
    return f"""
        *(u32 *)(r10 -4) = {key}
        r1 = map[{name}] ll
        r2 = r10
        r2 += -4
        call bpf_map_delete_elem#3
    """


COUNT = lookup("m", 1) + "if r0 == 0 goto pc+2\nr1 = 1\nlock *(u64 *)(r0 +0) += r1\nr0 = 2\nexit"
HASH, ARRAY = spec("m", "hash", entries=2), spec("m", "array")


def text(words: bytes) -> str:
    """Put a string of up to 32 bytes, with its zero, at r10 - 32."""
    padded = words.ljust(32, b"\0")
    parts = [int.from_bytes(padded[i : i + 4], "little", signed=True) for i in range(0, 32, 4)]
    return "\n".join(f"*(u32 *)(r10 {-32 + 4 * i}) = {part}" for i, part in enumerate(parts)) + "\n"


def parse_number(words: bytes, size: int, flags: int, helper: str) -> str:
    """strtol or strtoul of `words`; r0 is the result, the number is stored in the map m."""
    return (
        text(words)
        + "*(u64 *)(r10 -40) = 0\nr1 = r10\nr1 += -32\n"
        + f"r2 = {size}\nr3 = {flags}\nr4 = r10\nr4 += -40\ncall bpf_{helper}\nr6 = r0\nr7 = *(u64 *)(r10 -40)\n"
        + "*(u32 *)(r10 -44) = 0\nr1 = map[m] ll\nr2 = r10\nr2 += -44\ncall bpf_map_lookup_elem#1\n"
        + "if r0 == 0 goto pc+1\n"
        + "*(u64 *)(r0 +0) = r7\nr0 = r6\nexit"
    )


def checksum(source: int, target: int, seed: int) -> str:
    """csum_diff over the packet's first bytes at r10 - 64 (old) and r10 - 32 (new)."""
    words = "".join(f"*(u32 *)(r10 {-64 + 4 * i}) = {(0x1234567 * (i + 3)) % (1 << 31)}\n" for i in range(16))
    first = "r1 = r10\nr1 += -64\n" if source else "r1 = 0\n"
    second = "r3 = r10\nr3 += -32\n" if target else "r3 = 0\n"
    return f"{words}{first}r2 = {source}\n{second}r4 = {target}\nr5 = {seed}\ncall bpf_csum_diff#28\nexit"


def adjust(helper: str, delta: int, then: str = "") -> str:
    """Move an edge of the packet; r0 is the result."""
    return f"r6 = r1\nr2 = {delta}\ncall bpf_{helper}\n{then}exit"


CASES: dict[str, Case] = {
    "look-up that fails": Case(lookup("m", 1) + "exit", (HASH,), r0=0),
    "count in an array": Case(
        COUNT, (ARRAY,), (PACKET,) * 5, 2, None, {"m": [(u32(i), u64(5 if i == 1 else 0)) for i in range(4)]}
    ),
    "count in a hash with contents": Case(
        COUNT, (spec("m", "hash", contents=((u32(1), u64(40)),)),), (PACKET,) * 2, 2, None, {"m": [(u32(1), u64(42))]}
    ),
    "update": Case(update("m", 7, 9, 0) + "exit", (HASH,), r0=0, contents={"m": [(u32(7), u64(9))]}),
    "update that must not exist": Case(
        update("m", 7, 9, 0) + update("m", 7, 8, 1) + "exit",
        (HASH,),
        r0=negative(17),
        contents={"m": [(u32(7), u64(9))]},
    ),
    "update that must exist": Case(update("m", 7, 9, 2) + "exit", (HASH,), r0=negative(2), contents={"m": []}),
    "update of a full hash": Case(
        "".join(update("m", k, k, 0) for k in (1, 2, 3)) + "exit",
        (HASH,),
        r0=negative(7),
        contents={"m": [(u32(1), u64(1)), (u32(2), u64(2))]},
    ),
    "update of an array behind its end": Case(update("m", 4, 9, 0) + "exit", (ARRAY,), r0=negative(7)),
    "update with wrong flags": Case(update("m", 1, 9, 77) + "exit", (HASH,), r0=negative(22)),
    "delete": Case(update("m", 7, 9, 0) + delete("m", 7) + "exit", (HASH,), r0=0, contents={"m": []}),
    "delete what is not there": Case(delete("m", 7) + "exit", (HASH,), r0=negative(2)),
    "delete from an array": Case(delete("m", 1) + "exit", (ARRAY,), r0=negative(22)),
    "a value keeps what was written after its deletion": Case(
        update("m", 7, 9, 0) + lookup("m", 7) + "if r0 == 0 goto pc+1\n*(u64 *)(r0 +0) = 5\nr0 = 1\nexit",
        (HASH,),
        r0=1,
        contents={"m": [(u32(7), u64(5))]},
    ),
    **{
        f"an update puts a new value in place of the one held: {type}": Case(
            update("m", 1, 9, 0)
            + lookup("m", 1)
            + "if r0 == 0 goto out\nr6 = r0\n"
            + update("m", 1, 1, 0)
            + "*(u64 *)(r6 +0) = 5\n"
            + lookup("m", 1)
            + "if r0 == 0 goto out\nr0 = *(u64 *)(r0 +0)\nout:\nexit",
            (spec("m", type, flags=flags),),
            r0=kept,
        )
        for type, flags, kept in [("hash", 0, 1), ("hash", 1, 1), ("lru_hash", 0, 1), ("array", 0, 5)]
    },
    "a ring buffer fills up": Case(
        "*(u64 *)(r10 -8) = 7\nr1 = map[m] ll\nr2 = r10\nr2 += -8\nr3 = 5\nr4 = 0\n"
        "call bpf_ringbuf_output#130\nr6 = r0\nr1 = map[m] ll\nr2 = 0\ncall bpf_ringbuf_query#134\nr7 = r0\n"
        "r1 = map[m] ll\nr2 = 3\ncall bpf_ringbuf_query#134\n"
        "r7 += r0\nr0 = r6\nr0 <<= 16\nr0 += r7\nexit",
        (spec("m", "ringbuf", key=0, value=0, entries=4096),),
        (PACKET,) * 260,
    ),
    "longest prefix": Case(
        "*(u32 *)(r10 -8) = 32\n*(u32 *)(r10 -4) = 0x302010a\nr1 = map[m] ll\nr2 = r10\nr2 += -8\n"
        "call bpf_map_lookup_elem#1\n"
        "if r0 == 0 goto pc+1\nr0 = *(u64 *)(r0 +0)\nexit",
        (
            spec(
                "m",
                "lpm_trie",
                key=8,
                flags=1,
                contents=(
                    (u32(8) + b"\x0a\0\0\0", u64(8)),
                    (u32(16) + b"\x0a\1\0\0", u64(16)),
                    (u32(24) + b"\x0a\1\2\0", u64(24)),
                ),
            ),
        ),
        r0=24,
    ),
    "push and pop": Case(
        "".join(
            f"*(u64 *)(r10 -8) = {v}\nr1 = map[m] ll\nr2 = r10\nr2 += -8\nr3 = {flags}\n"
            f"call bpf_map_push_elem#87\nr7 = r0\n"
            for v, flags in ((5, 0), (6, 0), (7, 2))
        )
        + "r1 = map[m] ll\nr2 = r10\nr2 += -8\ncall bpf_map_pop_elem#88\nr0 = *(u64 *)(r10 -8)\nexit",
        (spec("m", "queue", key=0, entries=2),),
        r0=6,
    ),
    "peek of an empty stack": Case(
        "*(u64 *)(r10 -8) = 77\nr1 = map[m] ll\nr2 = r10\nr2 += -8\ncall bpf_map_peek_elem#89\nr6 = r0\n"
        "r0 = *(u64 *)(r10 -8)\n"
        "if r0 != 0 goto pc+1\nr0 = r6\nexit",
        (spec("m", "stack", key=0),),
        r0=negative(2),
    ),
    **{
        f"{helper} by {delta}": Case(adjust(helper, delta), r0=result, data=data)
        for helper, delta, result, data in [
            ("xdp_adjust_head#44", 14, 0, PACKET[14:]),
            ("xdp_adjust_head#44", 50, 0, PACKET[50:]),
            ("xdp_adjust_head#44", 51, negative(22), PACKET),
            ("xdp_adjust_head#44", -217, negative(22), PACKET),
            ("xdp_adjust_tail#65", -50, 0, PACKET[:14]),
            ("xdp_adjust_tail#65", -51, negative(22), PACKET),
            ("xdp_adjust_tail#65", 100, 0, PACKET + bytes(100)),
            ("xdp_adjust_tail#65", 4096 - 320 - 256 - 64, 0, PACKET + bytes(4096 - 320 - 256 - 64)),
            ("xdp_adjust_tail#65", 4096 - 320 - 256 - 63, negative(22), PACKET),
            ("xdp_adjust_meta#54", -4, 0, PACKET),
            ("xdp_adjust_meta#54", -3, negative(13), PACKET),
            ("xdp_adjust_meta#54", -32, 0, PACKET),
            ("xdp_adjust_meta#54", -252, negative(22), PACKET),
            ("xdp_adjust_meta#54", -216, 0, PACKET),
            ("xdp_adjust_meta#54", -220, negative(22), PACKET),
            ("xdp_adjust_meta#54", 4, negative(22), PACKET),
        ]
    },
    "grow at the head as far as it goes": Case(
        "r6 = r1\nr2 = -216\ncall bpf_xdp_adjust_head#44\nif r0 != 0 goto pc+2\nr1 = r6\n"
        "call bpf_xdp_get_buff_len#188\nexit",
        r0=280,
    ),
    "grow and write": Case(
        "r6 = r1\nr2 = -4\ncall bpf_xdp_adjust_head#44\nr2 = *(u32 *)(r6 +0)\nr3 = *(u32 *)(r6 +4)\nr1 = r2\nr1 += 4\n"
        "if r1 > r3 goto pc+1\n*(u32 *)(r2 +0) = 0x64636261\nr0 = 2\nexit",
        r0=2,
        data=b"abcd" + PACKET,
    ),
    "metadata moves with the head": Case(
        "r6 = r1\nr2 = -4\ncall bpf_xdp_adjust_meta#54\nr2 = *(u32 *)(r6 +8)\nr3 = *(u32 *)(r6 +0)\nr1 = r2\nr1 += 4\n"
        "if r1 > r3 goto pc+10\n*(u32 *)(r2 +0) = 77\nr1 = r6\nr2 = 8\ncall bpf_xdp_adjust_head#44\n"
        "r2 = *(u32 *)(r6 +8)\n"
        "r3 = *(u32 *)(r6 +0)\nr1 = r2\nr1 += 4\nif r1 > r3 goto pc+1\nr0 = *(u32 *)(r2 +0)\nexit",
        r0=77,
        data=PACKET[8:],
    ),
    "xdp_load_bytes": Case(
        "r2 = 10\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_xdp_load_bytes#189\nr0 = *(u32 *)(r10 -8)\nexit", r0=0x0D0C0B0A
    ),
    "xdp_load_bytes behind the end": Case(
        "r2 = 61\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_xdp_load_bytes#189\nexit", r0=negative(22)
    ),
    "xdp_load_bytes far away": Case(
        "r2 = 70000\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_xdp_load_bytes#189\nexit", r0=negative(14)
    ),
    "xdp_store_bytes": Case(
        "*(u32 *)(r10 -8) = 0x7a7a7a7a\nr2 = 60\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_xdp_store_bytes#190\nexit",
        r0=0,
        data=PACKET[:60] + b"zzzz",
    ),
    "redirect": Case("r1 = 1\nr2 = 0\ncall bpf_redirect#23\nexit", r0=4),
    "redirect with flags": Case("r1 = 1\nr2 = 1\ncall bpf_redirect#23\nexit", r0=0),
    "redirect through an empty slot": Case(
        "r1 = map[m] ll\nr2 = 1\nr3 = 2\ncall bpf_redirect_map#51\nexit", (spec("m", "xskmap", value=4),), r0=2
    ),
    "redirect_map with wrong flags": Case(
        "r1 = map[m] ll\nr2 = 1\nr3 = 8\ncall bpf_redirect_map#51\nexit", (spec("m", "xskmap", value=4),), r0=0
    ),
    "redirect to a device of a map": Case(
        "r1 = map[m] ll\nr2 = 1\nr3 = 2\ncall bpf_redirect_map#51\nexit",
        (spec("m", "devmap", value=4, contents=((u32(1), u32(1)),)),),
        r0=4,
    ),
    "broadcast to an empty map": Case(
        "r1 = map[m] ll\nr2 = 3\nr3 = 8\ncall bpf_redirect_map#51\nexit", (spec("m", "devmap", value=4),), r0=4
    ),
    **{
        f"csum_diff {source} {target} {seed}": Case(checksum(source, target, seed))
        for source, target, seed in [
            (0, 0, 0),
            (0, 0, 0x12345),
            (0, 20, 0),
            (0, 32, -1),
            (20, 0, 0),
            (20, 0, 7),
            (32, 32, 0),
            (16, 4, 99),
            (4, 16, -5),
            (3, 4, 0),
            (4, 6, 0),
        ]
    },
    **{
        f"{helper} of {words!r}, {size}, {flags}": Case(parse_number(words, size, flags, helper), (ARRAY,))
        for helper in ("strtol#105", "strtoul#106")
        for words, size, flags in [
            (b"123", 4, 0),
            (b"123", 2, 10),
            (b"-17 ", 5, 0),
            (b" \t 0x1fZ", 9, 0),
            (b"0777", 5, 0),
            (b"0x1f", 5, 16),
            (b"1f", 3, 16),
            (b"1f", 3, 10),
            (b"", 4, 0),
            (b"abc", 4, 0),
            (b"-", 2, 0),
            (b"0x", 3, 0),
            (b"+5", 3, 0),
            (b"9223372036854775807", 20, 0),
            (b"9223372036854775808", 20, 0),
            (b"-9223372036854775808", 21, 0),
            (b"18446744073709551615", 21, 0),
            (b"18446744073709551616", 21, 0),
            (b"12", 3, 7),
            (b"12", 3, 0x100),
            (b"08", 3, 0),
        ]
    },
}


@pytest.mark.parametrize("name", CASES)
def test_in_the_machine(name: str) -> None:
    case = CASES[name]
    runs, held = in_machine(object_of(case.asm, case.maps), case.packets)
    if case.r0 is not None:
        assert runs[-1][0] == case.r0
    if case.data is not None:
        assert runs[-1][1].endswith(case.data)
    for map_name, contents in case.contents.items():
        assert held[map_name] == contents


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_agrees(name: str) -> None:
    case = CASES[name]
    obj = object_of(case.asm, case.maps)
    ours, our_maps = in_machine(obj, case.packets)
    theirs, their_maps = in_kernel(obj, case.packets)
    assert ours == theirs
    assert our_maps == their_maps


# --- what TEST_RUN does not show --------------------------------------------------------------------------------------


def test_redirects_record_their_target() -> None:
    asm = "r1 = map[m] ll\nr2 = 3\nr3 = 0\ncall bpf_redirect_map#51\nexit"
    machine = Machine(object_of(asm, [spec("m", "xskmap", value=4, contents=((u32(3), u32(9)),))]))
    result = machine.run(PACKET)
    assert (result.r0, result.redirect) == (4, ("m", 3, 9))
    plain = Machine(parse("r1 = 7\nr2 = 0\ncall bpf_redirect#23\nexit")).run(PACKET)
    assert plain.redirect == ("", 7, 7)


def test_clock_random_and_cpu_come_from_the_caller() -> None:
    asm = "call bpf_ktime_get_ns#5\nr6 = r0\ncall bpf_get_smp_processor_id#8\nr6 += r0\nr0 = r6\nexit"
    machine = Machine(parse(asm), clock=lambda: 1000, cpus=4)
    assert machine.run(PACKET).r0 == 1000
    assert machine.run(PACKET, cpu=3).r0 == 1003
    assert machine.run(PACKET, time_ns=5).r0 == 5
    dice = "call bpf_get_prandom_u32#7\nexit"
    first, second = Machine(parse(dice), seed=1), Machine(parse(dice), seed=1)
    assert [first.run(PACKET).r0 for _ in range(3)] == [second.run(PACKET).r0 for _ in range(3)]
    assert Machine(parse(dice), seed=2).run(PACKET).r0 != Machine(parse(dice), seed=1).run(PACKET).r0


@pytest.mark.parametrize(
    ("line", "values", "printed"),
    [
        (b"plain", (), "plain"),
        (b"%d %u %x", (-5 & 0xFFFFFFFF, 7, 255), "-5 7 ff"),
        (b"%lld|%llx|%lu", (2**64 - 1, 2**64 - 1, 5), "-1|ffffffffffffffff|5"),
        (b"%5d|%-5d|%05d", (42, 42, 42), "   42|42   |00042"),
        (b"100%% %c", (65,), "100% A"),
    ],
)
def test_trace_printk(line: bytes, values: tuple[int, ...], printed: str) -> None:
    numbers = "".join(f"r{3 + i} = {value:#x} ll\n" for i, value in enumerate(values))
    asm = text(line) + f"r1 = r10\nr1 += -32\nr2 = {len(line) + 1}\n{numbers}call bpf_trace_printk#6\nexit"
    result = Machine(parse(asm)).run(PACKET)
    assert result.printed == (printed,)
    assert result.r0 == len(printed)


def test_trace_printk_refuses_what_the_kernel_refuses() -> None:
    asm = text(b"%f") + "r1 = r10\nr1 += -32\nr2 = 3\ncall bpf_trace_printk#6\nexit"
    result = Machine(parse(asm)).run(PACKET)
    assert result.printed == () and result.r0 == 2**64 - 22


@pytest.mark.kernel
@pytest.mark.parametrize(
    "line", [b"%d %u %x", b"%lld %llx", b"%5d|%-5d|", b"%05d %X", b"%%%d", b"%f", b"%q", b"plain", b"%d%d%d%d", b"%"]
)
def test_snprintf_agrees(line: bytes) -> None:
    """The text goes into the packet: format in read-only data, four values on the stack."""
    values = "".join(f"r1 = {v:#x} ll\n*(u64 *)(r10 {-32 + 8 * i}) = r1\n" for i, v in enumerate((5, 2**64 - 3, 255)))
    asm = f"""
        r6 = r1
        {values}
        r1 = r10
        r1 += -64
        r2 = 32
        r3 = map[fmt][0]+0 ll
        r4 = r10
        r4 += -32
        r5 = 24
        call bpf_snprintf#165
        r7 = r0
        if r0 s< 0 goto out
        r1 = r6
        r2 = 0
        r3 = r10
        r3 += -64
        r4 = 24
        call bpf_xdp_store_bytes#190
        out:
        r0 = r7
        exit
    """
    asm = asm.replace(
        "r1 = r10\n        r1 += -64\n        r2",
        "\n".join(f"*(u64 *)(r10 {-64 + 8 * i}) = 0" for i in range(4)) + "\nr1 = r10\n        r1 += -64\n        r2",
        1,
    )
    fmt = MapSpec("fmt", "array", 4, 32, 1, data=line.ljust(32, b"\0"), frozen=True)
    obj = object_of(asm, [fmt])
    try:
        theirs = in_kernel(obj, [PACKET])[0]
    except Exception as refusal:
        assert "invalid" in str(refusal).lower() or "Invalid" in str(refusal), (
            refusal
        )  # a bad format is refused at load
        assert in_machine(obj, [PACKET])[0][0][0] == negative(22)
        return
    assert in_machine(obj, [PACKET])[0] == theirs


def test_ring_buffer_helpers() -> None:
    ring = spec("ring", "ringbuf", key=0, value=0, entries=4096)
    asm = """
        r1 = map[ring] ll
        r2 = 8
        r3 = 0
        call bpf_ringbuf_reserve#131
        if r0 == 0 goto out
        *(u64 *)(r0 +0) = 1234
        r1 = r0
        r2 = 0
        call bpf_ringbuf_submit#132
        *(u32 *)(r10 -4) = 5
        r1 = map[ring] ll
        r2 = r10
        r2 += -4
        r3 = 4
        r4 = 0
        call bpf_ringbuf_output#130
        r1 = map[ring] ll
        r2 = 0
        call bpf_ringbuf_query#134
        out:
        exit
    """
    machine = Machine(object_of(asm, [ring]))
    assert machine.run(PACKET).r0 == 32
    store = machine.maps["ring"]
    assert isinstance(store, RingBufferStore) and store.read() == [u64(1234), u32(5)]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("r1 = r6\nr2 = 0\ncall bpf_ringbuf_submit#132\nr0 = *(u64 *)(r6 +0)\nexit", "no memory there"),
        (
            "r1 = r6\nr2 = 0\ncall bpf_ringbuf_submit#132\nr1 = r6\nr2 = 0\ncall bpf_ringbuf_discard#133\nexit",
            "no reserved",
        ),
        ("r1 = r6\nr1 += 1\nr2 = 0\ncall bpf_ringbuf_submit#132\nexit", "no reserved"),
        ("*(u64 *)(r6 +1) = 1\nexit", "record of ring buffer 'ring', which has 8 bytes"),
    ],
)  # fmt: skip
def test_wrong_use_of_records_faults(after: str, message: str) -> None:
    asm = f"r1 = map[ring] ll\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve#131\nr6 = r0\n{after}"
    machine = Machine(object_of(asm, [spec("ring", "ringbuf", key=0, value=0, entries=4096)]))
    with pytest.raises(MachineFault) as caught:
        machine.run(PACKET)
    assert message in caught.value.message


def test_perf_events_are_kept() -> None:
    asm = """
        *(u32 *)(r10 -4) = 5
        r2 = map[events] ll
        r3 = 0x2ffffffff ll
        r4 = r10
        r4 += -4
        r5 = 4
        call bpf_perf_event_output#25
        exit
    """
    machine = Machine(object_of(asm, [spec("events", "perf_event_array", value=4, entries=0)]), cpus=2)
    assert machine.run(PACKET, cpu=0).r0 == 0
    store = machine.maps["events"]
    assert isinstance(store, PerfEventArrayStore) and store.events == [(0, u32(5) + PACKET[:2])]


def test_bloom_filter_from_a_program() -> None:
    asm = """
        *(u32 *)(r10 -4) = 5
        r1 = map[seen] ll
        r2 = r10
        r2 += -4
        call bpf_map_peek_elem#89
        r6 = r0
        r1 = map[seen] ll
        r2 = r10
        r2 += -4
        r3 = 0
        call bpf_map_push_elem#87
        r0 = r6
        exit
    """
    machine = Machine(object_of(asm, [spec("seen", "bloom_filter", key=0, value=4, entries=10)]))
    assert [machine.run(PACKET).r0 for _ in range(2)] == [2**64 - 2, 0]


def test_queue_is_seen_from_user_space() -> None:
    asm = "*(u64 *)(r10 -8) = 5\nr1 = map[q] ll\nr2 = r10\nr2 += -8\nr3 = 0\ncall bpf_map_push_elem#87\nexit"
    machine = Machine(object_of(asm, [spec("q", "queue", key=0)]))
    machine.run(PACKET)
    store = machine.maps["q"]
    assert isinstance(store, QueueStore) and store.values() == [u64(5)]


def test_per_cpu_maps_use_the_cpu_of_the_run() -> None:
    machine = Machine(object_of(COUNT, [spec("m", "percpu_array")]), cpus=3)
    for cpu in (0, 2, 2):
        machine.run(PACKET, cpu=cpu)
    assert machine.maps["m"].get(u32(1)) == u64(1) + u64(0) + u64(2)


SKB_PACKET = bytes.fromhex("020000000001 020000000002 0800".replace(" ", "")) + bytes(range(50))
CLEARED = "r1 = *(u32 *)(r10 -8)\nif r1 != 0 goto pc+1\nr0 += 1000\nexit"
SKB = {
    "load": (
        "r2 = 12\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_skb_load_bytes#26\nr0 = *(u32 *)(r10 -8)\nexit",
        0x01000008,
    ),
    "load behind the end": (
        "*(u64 *)(r10 -8) = -1\nr2 = 62\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_skb_load_bytes#26\n" + CLEARED,
        1000 - 14,
    ),
    "load from far away": ("r2 = -1\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_skb_load_bytes#26\nexit", -14),
    "store": (
        "*(u32 *)(r10 -8) = 0x7a7a7a7a\nr2 = 60\nr3 = r10\nr3 += -8\nr4 = 4\nr5 = 0\ncall bpf_skb_store_bytes#9\nexit",
        0,
    ),
    "store with wrong flags": (
        "*(u32 *)(r10 -8) = 0\nr2 = 60\nr3 = r10\nr3 += -8\nr4 = 4\nr5 = 64\ncall bpf_skb_store_bytes#9\nexit",
        -22,
    ),
    "store behind the end": (
        "*(u32 *)(r10 -8) = 0\nr2 = 61\nr3 = r10\nr3 += -8\nr4 = 4\nr5 = 0\ncall bpf_skb_store_bytes#9\nexit",
        -14,
    ),
    "redirect": ("r1 = 1\nr2 = 0\ncall bpf_redirect#23\nexit", 7),
    "redirect with wrong flags": ("r1 = 1\nr2 = 8\ncall bpf_redirect#23\nexit", 2),
    "length and protocol": ("r0 = *(u32 *)(r1 +0)\nr0 <<= 16\nr2 = *(u32 *)(r1 +16)\nr0 |= r2\nexit", 64 << 16 | 8),
    "data": ("r2 = *(u32 *)(r1 +76)\nr3 = *(u32 *)(r1 +80)\nr0 = r3\nr0 -= r2\nexit", 64),
}


@pytest.mark.parametrize("name", SKB)
def test_classifiers(name: str) -> None:
    asm, expected = SKB[name]
    assert in_machine(object_of(asm, prog_type="sched_cls"), [SKB_PACKET])[0][0][0] == expected & 0xFFFF_FFFF


@pytest.mark.kernel
@pytest.mark.parametrize("name", SKB)
def test_classifiers_in_the_kernel(name: str) -> None:
    obj = object_of(SKB[name][0], prog_type="sched_cls")
    assert in_machine(obj, [SKB_PACKET]) == in_kernel(obj, [SKB_PACKET])
