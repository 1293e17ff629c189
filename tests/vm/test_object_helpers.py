"""Dynptrs, timers, locks, memory by address, samples of user space: with the kernel where it can run it."""

from __future__ import annotations

import pytest

from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MachineFault
from ebpfkit.maps.memory import RingBufferStore, UserRingBufferStore
from ebpfkit.vm.machine import Machine

from .both import in_kernel, in_machine, object_of

PACKET = bytes(range(64))
VALUES = MapSpec("m", "array", 4, 64, 2)
RING = MapSpec("ring", "ringbuf", 0, 0, 4096)
LOOKUP = """
    *(u32 *)(r10 -4) = 1
    r1 = map[m] ll
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    if r0 == 0 goto out
    r6 = r0
"""
DYNPTR = "r9 = r10\nr9 += -32\n"


def from_mem(size: int, flags: int = 0) -> str:
    return f"{LOOKUP}r1 = r6\nr2 = {size}\nr3 = {flags}\nr4 = r10\nr4 += -32\ncall bpf_dynptr_from_mem#197\nr7 = r0\n"


def read(length: int, offset: int, flags: int = 0) -> str:
    return (
        f"*(u64 *)(r10 -16) = 0\nr1 = r10\nr1 += -16\nr2 = {length}\nr3 = r10\nr3 += -32\nr4 = {offset}\n"
        f"r5 = {flags}\ncall bpf_dynptr_read#201\nr8 = *(u64 *)(r10 -16)\n"
    )


def write(length: int, offset: int, flags: int = 0) -> str:
    return (
        f"*(u64 *)(r10 -16) = 0x64636261\nr1 = r10\nr1 += -32\nr2 = {offset}\nr3 = r10\nr3 += -16\nr4 = {length}\n"
        f"r5 = {flags}\ncall bpf_dynptr_write#202\n"
    )


def data(offset: int, length: int) -> str:
    return (
        f"r1 = r10\nr1 += -32\nr2 = {offset}\nr3 = {length}\ncall bpf_dynptr_data#203\nif r0 == 0 goto none\n"
        "*(u8 *)(r0 +0) = 90\nr0 = 1\nnone:\n"
    )


def reserve(size: int, flags: int = 0) -> str:
    return (
        f"r1 = map[ring] ll\nr2 = {size}\nr3 = {flags}\nr4 = r10\nr4 += -32\ncall bpf_ringbuf_reserve_dynptr#198\n"
        "r7 = r0\n"
    )


END = "r1 = r10\nr1 += -32\nr2 = 0\ncall bpf_ringbuf_{}#{}\nr0 = r7\nexit"
SUBMIT, DISCARD = END.format("submit_dynptr", 199), END.format("discard_dynptr", 200)
OUT = "out:\nexit"
DYNPTRS = {
    "of a value": from_mem(64) + "r0 = r7\n" + OUT,
    "with flags": from_mem(64, 1) + "r0 = r7\n" + OUT,
    "write and read": from_mem(64) + write(4, 60) + read(4, 60) + "r0 <<= 32\nr0 += r8\n" + OUT,
    "read behind the end": from_mem(64) + read(8, 57) + OUT,
    "read far behind the end": from_mem(64) + read(8, -1) + OUT,
    "read the last byte": from_mem(64) + read(1, 63) + OUT,
    "read nothing at the end": from_mem(64) + read(1, 64) + OUT,
    "read with flags": from_mem(64) + read(4, 0, 1) + OUT,
    "write behind the end": from_mem(64) + write(8, 57) + OUT,
    "write with flags": from_mem(64) + write(4, 0, 1) + OUT,
    "a slice": from_mem(64) + data(8, 8) + OUT,
    "a slice behind the end": from_mem(64) + data(60, 8) + OUT,
    "of an invalid one": from_mem(64, 1) + read(4, 0) + OUT,
    "a slice of an invalid one": from_mem(64, 1) + data(0, 4) + OUT,
    "ring buffer": reserve(16) + write(4, 12) + SUBMIT,
    "ring buffer, thrown away": reserve(16) + DISCARD,
    "ring buffer that is too small": reserve(5000) + SUBMIT,
    "ring buffer with flags": reserve(16, 1) + SUBMIT,
    "ring buffer far too small": reserve(1 << 24) + DISCARD,
    "probe our own stack": "*(u64 *)(r10 -8) = 77\nr1 = r10\nr1 += -16\nr2 = 8\nr3 = r10\nr3 += -8\n"
    "call bpf_probe_read_kernel#113\nr0 <<= 16\nr1 = *(u64 *)(r10 -16)\nr0 += r1\nexit",
    "probe nothing": "*(u64 *)(r10 -16) = 77\nr1 = r10\nr1 += -16\nr2 = 8\nr3 = 0\n"
    "call bpf_probe_read_kernel#113\nr0 <<= 16\nr1 = *(u64 *)(r10 -16)\nr0 += r1\nexit",
    "probe a string": "*(u64 *)(r10 -8) = 0x636261\nr1 = r10\nr1 += -16\nr2 = 8\nr3 = r10\nr3 += -8\n"
    "call bpf_probe_read_kernel_str#115\nr0 <<= 24\nr1 = *(u32 *)(r10 -16)\nr0 += r1\nexit",
    "probe a string that is cut": "*(u64 *)(r10 -8) = 0x636261\nr1 = r10\nr1 += -16\nr2 = 3\nr3 = r10\nr3 += -8\n"
    "call bpf_probe_read_kernel_str#115\nr0 <<= 24\nr1 = *(u16 *)(r10 -16)\nr0 += r1\nexit",
    "probe no string": "r1 = r10\nr1 += -16\nr2 = 8\nr3 = 0\ncall bpf_probe_read_kernel_str#115\nexit",
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", DYNPTRS)
def test_the_kernel_agrees(name: str) -> None:
    obj = object_of(DYNPTRS[name], [VALUES, RING])
    theirs, their_maps = in_kernel(obj, [PACKET])
    ours, our_maps = in_machine(obj, [PACKET])
    assert ours == theirs
    assert our_maps["m"] == their_maps["m"]


@pytest.mark.parametrize("name", list(DYNPTRS)[::3])
def test_native_code_says_the_same(name: str) -> None:
    obj = object_of(DYNPTRS[name], [VALUES, RING])
    native, plain = Machine(obj, jit="safe").run(PACKET), Machine(obj).run(PACKET)
    assert (native.r0, native.data, native.insns) == (plain.r0, plain.data, plain.insns)


def test_timers_fire_into_native_code() -> None:
    machine = Machine(object_of(TIMERS, [VALUES]), clock=lambda: 5000, jit="safe")
    machine.run(PACKET)
    assert (machine.fire_timers(5999), machine.fire_timers(6000)) == (0, 1)
    value = machine.maps["m"].get(b"\x01\0\0\0")
    assert value is not None and int.from_bytes(value[16:24], "little") == 1


def test_a_ring_buffer_record_by_dynptr() -> None:
    machine = Machine(object_of(DYNPTRS["ring buffer"], [VALUES, RING]))
    assert machine.run(PACKET).r0 == 0
    store = machine.maps["ring"]
    assert isinstance(store, RingBufferStore) and store.read() == [bytes(12) + b"abcd"]


@pytest.mark.parametrize(
    ("asm", "message"),
    [
        (read(4, 0) + OUT, "no dynptr"),
        (reserve(16) + SUBMIT.replace("exit", "") + read(4, 0) + OUT, "no dynptr"),
        (from_mem(64) + SUBMIT + "\n" + OUT, "no reserved ring buffer record"),
        (from_mem(65) + OUT, "which has 64 bytes"),
    ],
)
def test_wrong_dynptrs_fault(asm: str, message: str) -> None:
    with pytest.raises(MachineFault, match=message):
        Machine(object_of(asm, [VALUES, RING])).run(PACKET)


# --- timers -----------------------------------------------------------------------------------------------------------

TIMERS = f"""
    {LOOKUP}
    r1 = r6
    r2 = map[m] ll
    r3 = 1
    call bpf_timer_init#169
    r1 = r6
    r2 = fired ll
    call bpf_timer_set_callback#170
    r1 = r6
    r2 = 1000
    r3 = 0
    call bpf_timer_start#171
    out:
    exit
    fired:
    r4 = *(u32 *)(r2 +0)
    r5 = *(u64 *)(r3 +16)
    r5 += r4
    *(u64 *)(r3 +16) = r5
    r0 = 0
    exit
"""


def timer(steps: str) -> str:
    return f"{LOOKUP}{steps}out:\nexit\nfired:\nr0 = 0\nexit"


INIT = "r1 = r6\nr2 = map[m] ll\nr3 = 1\ncall bpf_timer_init#169\n"
SET = "r1 = r6\nr2 = fired ll\ncall bpf_timer_set_callback#170\n"
START = "r1 = r6\nr2 = 1000\nr3 = 0\ncall bpf_timer_start#171\n"
CANCEL = "r1 = r6\ncall bpf_timer_cancel#172\n"


def test_timers_fire_when_the_caller_says_so() -> None:
    machine = Machine(object_of(TIMERS, [VALUES]), clock=lambda: 5000)
    assert machine.run(PACKET).r0 == 0
    assert machine.fire_timers(5999) == 0
    assert machine.fire_timers(6000) == 1
    assert machine.fire_timers(9999) == 0
    value = machine.maps["m"].get(b"\x01\0\0\0")
    assert value is not None and int.from_bytes(value[16:24], "little") == 1


def test_a_timer_that_starts_itself_again() -> None:
    asm = TIMERS.replace(
        "    r0 = 0\n    exit\n",
        "    r1 = r3\n    r2 = 10\n    r3 = 0\n    call bpf_timer_start#171\n    r0 = 0\n    exit\n",
    )
    now = [0]
    machine = Machine(object_of(asm, [VALUES]), clock=lambda: now[0])
    machine.run(PACKET)
    for now[0] in (1000, 1010, 1011, 1020):
        machine.fire_timers()
    value = machine.maps["m"].get(b"\x01\0\0\0")
    assert value is not None and int.from_bytes(value[16:24], "little") == 3


@pytest.mark.parametrize(
    ("steps", "result"),
    [
        (INIT, 0),
        (INIT + INIT, -16),
        (INIT.replace("r3 = 1", "r3 = 2"), -22),
        (SET, -22),
        (INIT + START, -22),
        (INIT + SET + START, 0),
        (INIT + SET + START + CANCEL, 1),
        (INIT + SET + CANCEL, 0),
        (CANCEL, -22),
        (INIT + SET + START.replace("r3 = 0", "r3 = 4"), -22),
        (INIT + SET + START + CANCEL + START, -22),
    ],
)
def test_results_of_timer_helpers(steps: str, result: int) -> None:
    assert Machine(object_of(timer(steps), [VALUES])).run(PACKET).r0 == result & (1 << 64) - 1


def test_a_timer_of_a_deleted_entry_never_fires() -> None:
    table = MapSpec("m", "hash", 4, 64, 2, contents=((b"\x01\0\0\0", bytes(64)),))
    machine = Machine(object_of(TIMERS, [table]), clock=lambda: 0)
    machine.run(PACKET)
    machine.maps["m"].delete(b"\x01\0\0\0")
    assert machine.fire_timers(10_000) == 0


# --- locks -----------------------------------------------------------------------------------------------------------

LOCK, UNLOCK = "r1 = r6\ncall bpf_spin_lock#93\n", "r1 = r6\ncall bpf_spin_unlock#94\n"


def test_locks_are_taken_one_at_a_time() -> None:
    def run(steps: str) -> int:
        return Machine(object_of(f"{LOOKUP}{steps}r0 = 7\nout:\nexit", [VALUES])).run(PACKET).r0

    assert run(LOCK + UNLOCK + LOCK + UNLOCK) == 7
    with pytest.raises(MachineFault, match="while another is held"):
        run(LOCK + LOCK)
    with pytest.raises(MachineFault, match="not held"):
        run(UNLOCK)


# --- samples of user space, kept pointers -----------------------------------------------------------------------------

SAMPLES = MapSpec("samples", "user_ringbuf", 0, 0, 4096)
DRAIN = """
    *(u64 *)(r10 -8) = 0
    r1 = map[samples] ll
    r2 = sample ll
    r3 = r10
    r3 += -8
    r4 = {flags}
    call bpf_user_ringbuf_drain#209
    r7 = *(u64 *)(r10 -8)
    r7 <<= 32
    r7 |= r0
    r0 = r7
    exit
    sample:
    r6 = r2
    *(u64 *)(r10 -8) = 0
    r3 = r1
    r1 = r10
    r1 += -8
    r2 = 1
    r4 = 0
    r5 = 0
    call bpf_dynptr_read#201
    r1 = *(u64 *)(r10 -8)
    r2 = *(u64 *)(r6 +0)
    r2 += r1
    *(u64 *)(r6 +0) = r2
    r0 = 0
    if r1 != 9 goto more
    r0 = 1
    more:
    exit
"""


def test_samples_of_user_space_are_drained() -> None:
    """The callback sees every sample until it says stop; what it did not see waits for the next time."""
    machine = Machine(object_of(DRAIN.format(flags=1), [SAMPLES]))
    ring = machine.maps["samples"]
    assert isinstance(ring, UserRingBufferStore)
    for first in (5, 6, 9, 7):
        ring.write(bytes([first, 0, 0]))
    assert machine.run(PACKET).r0 == 20 << 32 | 3
    assert machine.run(PACKET).r0 == 7 << 32 | 1
    assert machine.run(PACKET).r0 == 0 and ring.available == 0
    wrong = Machine(object_of(DRAIN.format(flags=4), [SAMPLES])).run(PACKET).r0
    assert wrong & 0xFFFF_FFFF == 2**32 - 22


def test_a_pointer_is_kept_in_a_map_value() -> None:
    exchange = "r1 = r6\nr2 = {0}\ncall bpf_kptr_xchg#194\n"
    asm = f"{LOOKUP}{exchange.format(7)}r8 = r0\n{exchange.format(9)}r0 <<= 8\nr0 |= r8\nout:\nexit"
    machine = Machine(object_of(asm, [VALUES]))
    assert [machine.run(PACKET).r0 for _ in range(2)] == [7 << 8, 7 << 8 | 9]
