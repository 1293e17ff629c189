"""Programs as plain Python: verdicts, the short exit, functions that are called, `len(pkt)`, what is no program."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ebpfkit.dsl import helpers
from ebpfkit.dsl.decorators import xdp
from ebpfkit.dsl.execute import run_python
from ebpfkit.dsl.maps import Array
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import s32, s64, u8, u16, u32, u64
from ebpfkit.dsl.verdicts import XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, XdpAction
from ebpfkit.errors import CompileError, NotSupported, UsageError
from ebpfkit.net import Ethernet

LICENSE = "GPL"
THRESHOLD = 100
totals = Array[u64](max_entries=4)


@xdp
def passes(pkt: Packet) -> XdpAction:
    """Docstrings stay."""
    return XDP_PASS


@xdp(short=XDP_DROP, frags=True, name="renamed")
def reads(pkt: Packet) -> XdpAction:
    pkt.read(Ethernet)
    return XDP_TX


def test_a_decorated_function_is_a_program():
    assert isinstance(passes, Program)
    assert (passes.name, passes.section, passes.prog_type, passes.short, passes.frags) == (
        "passes", "xdp", "xdp", XDP_ABORTED, False)  # fmt: skip
    assert (reads.name, reads.section, reads.short, reads.frags) == ("renamed", "xdp.frags", XDP_DROP, True)
    assert (passes.license, passes.__doc__, passes.__name__) == ("GPL", "Docstrings stay.", "passes")
    assert passes.function(Packet(bytearray(1))) is XDP_PASS


def test_the_short_exit():
    assert passes(b"") is XDP_PASS
    assert reads(bytes(14)) is XDP_TX
    assert reads(bytearray(13)) is XDP_DROP
    result = run_python(reads, bytes(13))
    assert result.short == "13 bytes are too short for Ethernet at 0"
    assert result.data == bytes(13)


def add(left: u32, right: u32) -> u64:
    totals[0] += 1
    return left + right


def too_short(pkt: Packet) -> u32:
    return u32(len(pkt)) - 20


def test_called_functions_take_and_give_their_annotated_types():
    @xdp
    def program(pkt: Packet) -> XdpAction:
        total = add(u8(200), right=100)
        assert type(total) is u64
        return XDP_DROP if total == 300 else XDP_PASS

    assert program(b"") is XDP_DROP
    assert totals[0] == 1
    assert program.maps == (totals,)

    @xdp
    def narrowing(pkt: Packet) -> XdpAction:
        return XDP_DROP if add(u64(1), 2) else XDP_PASS

    with pytest.raises(CompileError, match="u32 is narrower than u64"):
        narrowing(b"")
    totals.close()


def test_the_length_of_a_packet_is_a_u32_in_a_program():
    @xdp
    def program(pkt: Packet) -> XdpAction:
        length = len(pkt)
        assert type(length) is u32
        if length - 100 > 50:  # wraps below 100, as in the kernel
            return XDP_DROP
        assert len((1, 2)) == 2
        return XDP_PASS

    assert program(bytes(60)) is XDP_DROP
    assert program(bytes(120)) is XDP_PASS

    @xdp
    def mixes(pkt: Packet) -> XdpAction:
        return XDP_DROP if u64(1) + len(pkt) else XDP_PASS

    with pytest.raises(CompileError, match=r"write the cast u64\(...\)") as caught:
        mixes(b"12")
    assert caught.value.span is not None
    assert caught.value.span.file == __file__
    assert caught.value.span.function == "mixes"


def test_functions_in_a_closure_and_their_maps():
    inner = Array[u64](max_entries=1)

    def count(by: u64) -> None:
        inner[0] += by

    @xdp
    def program(pkt: Packet) -> XdpAction:
        count(u8(3))
        assert math.pi > 3
        return XDP_PASS

    program(b"")
    program(b"")
    assert inner.name == "inner"
    assert inner[0] == 6
    assert program.maps == (inner,)


@pytest.mark.parametrize("returned", [5, -1, None, True, "pass", 1.0])
def test_what_is_no_verdict_is_refused(returned):
    @xdp
    def program(pkt: Packet) -> XdpAction:
        return returned

    with pytest.raises(CompileError, match="which is no verdict of XDP"):
        program(b"")


def test_integers_of_the_language_are_verdicts_too():
    @xdp
    def program(pkt: Packet) -> int:
        return u32(1)

    assert program(b"") is XDP_DROP

    @xdp
    def redirected(pkt: Packet) -> int:
        return helpers.redirect(1, 0)

    assert redirected(b"") is XDP_REDIRECT

    @xdp
    def signed(pkt: Packet) -> int:
        return s64(1)

    with pytest.raises(CompileError, match=r"returned a s64, and a verdict is unsigned"):
        signed(b"")


def test_what_is_no_program():
    for action, text in (
        (lambda: xdp(len), "decorates a function"),
        (lambda: xdp(lambda: 1), "takes the packet and nothing else"),
        (lambda: xdp(short=1)(lambda pkt: 1), "short= is a verdict"),
    ):
        with pytest.raises(CompileError, match=text):
            action()
    with pytest.raises(UsageError, match="no identifier"):
        xdp(name="a-b")(lambda pkt: 1)


def test_a_run_provides_clock_random_and_cpu():
    table = Array[u64](max_entries=4)

    @xdp
    def program(pkt: Packet) -> XdpAction:
        table[0] = helpers.ktime_get_ns()
        table[1] = helpers.bpf_get_prandom_u32()
        table[2] = helpers.get_smp_processor_id()
        table[3] = helpers.xdp_get_buff_len(pkt)
        return XDP_PASS

    run_python(program, bytes(9), clock=lambda: 123, random=lambda: 456, cpu=7)
    assert [int(v) for v in table] == [123, 456, 7, 9]
    run_python(program, b"")
    first = table[1]
    run_python(program, b"")
    assert table[1] == first


def test_redirect_helpers():
    @xdp
    def program(pkt: Packet) -> int:
        return helpers.redirect(pkt.ingress_ifindex, 0)

    result = run_python(program, b"", ingress_ifindex=3)
    assert (result.action, result.redirect) == (XDP_REDIRECT, ("", 3))


def test_update_helpers_give_the_error():
    table = Array[u64](max_entries=1)

    @xdp
    def program(pkt: Packet) -> XdpAction:
        assert helpers.map_update_elem(table, 0, u64(4), 0) == 0
        assert helpers.map_update_elem(table, 1, 4, 0) == -7
        assert helpers.map_delete_elem(table, 0) == -22
        return XDP_PASS

    program(b"")
    assert table[0] == 4


def test_helpers_without_a_meaning_here_say_so():
    def call(body):
        @xdp
        def program(pkt: Packet) -> XdpAction:
            body(pkt)
            return XDP_PASS

        return program(b"")

    with pytest.raises(NotSupported, match=r'get_current_cgroup_id in plain Python.*on="kernel"'):
        call(lambda pkt: helpers.get_current_cgroup_id())
    with pytest.raises(CompileError, match=r"ktime_get_ns\(\) takes \(\)"):
        call(lambda pkt: helpers.ktime_get_ns(1))  # type: ignore[call-arg]
    with pytest.raises(CompileError, match=r"redirect\(\) takes \(ifindex, flags\)"):
        call(lambda pkt: helpers.redirect(1))  # type: ignore[call-arg]
    with pytest.raises(CompileError, match="only in a running program"):
        helpers.ktime_get_ns()
    for name, why in (("tail_call", "table.tail_call"), ("loop", r"bpf.loop"), ("map_lookup_elem", r"m.get\(key\)"),
                      ("timer_start", "value.timer.start"), ("ringbuf_reserve", "reserve"), ("this_cpu_ptr", "pointer"),
                      ("sk_redirect_hash", "no program of the language")):  # fmt: skip
        with pytest.raises(NotSupported, match=why):
            getattr(helpers, name)
    with pytest.raises(AttributeError, match="no helper 'nothing'"):
        helpers.nothing  # type: ignore[attr-defined]


def test_gpl_only_helpers_want_a_fitting_license(monkeypatch):
    @xdp
    def program(pkt: Packet) -> XdpAction:
        helpers.fib_lookup(pkt, None, 0, 0)  # type: ignore[arg-type]
        return XDP_PASS

    with pytest.raises(NotSupported, match="only a kernel can answer"):
        program(b"")
    monkeypatch.setitem(globals(), "LICENSE", "Proprietary")
    with pytest.raises(CompileError, match="only for GPL-compatible programs, and LICENSE is 'Proprietary'"):
        program(b"")
    monkeypatch.delitem(globals(), "LICENSE")
    with pytest.raises(CompileError, match="the module has no LICENSE"):
        program(b"")


def test_the_stub_file_is_what_the_rows_say():
    import runpy

    tool = Path(__file__).parents[2] / "tools" / "generate_helper_stubs.py"
    assert runpy.run_path(str(tool))["main"](["--check"]) == 0


def test_every_row_is_offered_or_has_a_reason():
    from ebpfkit.abi.helpers import HELPERS

    offered = helpers.offered()
    assert {"ktime_get_ns", "redirect", "get_prandom_u32", "get_smp_processor_id", "xdp_load_bytes"} <= set(offered)
    for spec in HELPERS.values():
        assert (spec.name in offered) != bool(helpers.reason_against(spec))
        if spec.name in offered:
            assert getattr(helpers, spec.name).__ebpf_helper__ is spec
            assert getattr(helpers, f"bpf_{spec.name}") is getattr(helpers, spec.name)
    assert set(helpers.UNSUPPORTED) <= {spec.name for spec in HELPERS.values()}


def test_bytes_of_the_packet_by_offset():
    from typing import Literal

    from ebpfkit.dsl.arrays import array

    @xdp
    def program(pkt: Packet) -> XdpAction:
        buffer = array[u8, Literal[4]]()
        assert helpers.xdp_load_bytes(pkt, 2, buffer, 4) == 0
        assert helpers.xdp_load_bytes(pkt, 6, buffer, 4) == -22
        buffer[0] = 0xEE
        assert helpers.xdp_store_bytes(pkt, 0, buffer, 4) == 0
        assert helpers.xdp_store_bytes(pkt, 5, buffer, 4) == -22
        assert helpers.csum_diff(None, 0, buffer, 4, 0) == int.from_bytes(bytes(buffer), "little")
        return XDP_PASS

    assert run_python(program, bytes(range(8))).data == bytes([0xEE, 3, 4, 5, 4, 5, 6, 7])


def test_u16_sum_of_a_called_function_wraps():
    @xdp
    def program(pkt: Packet) -> XdpAction:
        assert too_short(pkt) == 2**32 - 20
        assert u16(0xFFFF) + 1 == 0
        return XDP_PASS

    assert program(b"") is XDP_PASS


def test_builtin_names_are_exact_about_widths():
    def call(body):
        @xdp
        def program(pkt: Packet) -> XdpAction:
            return XDP_DROP if body(pkt) else XDP_PASS

        return program(bytes(9))

    assert call(lambda pkt: min(len(pkt), u32(5)) == 5) is XDP_DROP
    assert call(lambda pkt: max(u8(3), u8(5), u8(4)) == 5 and max(1, 2) == 2 and max([1, 3]) == 3) is XDP_DROP
    assert call(lambda pkt: abs(u8(3)) == 3 and abs(-3) == 3 and int("5") == 5) is XDP_DROP
    for body, text in (
        (lambda pkt: min(len(pkt), 5), r"min\(\) of u32 and int mixes types; write u32"),
        (lambda pkt: max(u8(1), u16(2)), "u8 and u16"),
        (lambda pkt: abs(s32(1)), r"write -x if x < 0 else x"),
        (lambda pkt: int(pkt.rx_queue_index), "has no width"),
        (lambda pkt: print(1), "a program cannot print"),
        (lambda pkt: passes(b""), "programs do not call each other"),
    ):
        with pytest.raises(CompileError, match=text):
            call(body)


def test_a_number_in_a_map_that_is_no_verdict_is_refused():
    class Rule(Struct):
        action: XdpAction

    rule = Rule.from_bytes(b"\x09\0\0\0")
    with pytest.raises(CompileError, match="9 is no verdict of XDP"):
        _ = rule.action
