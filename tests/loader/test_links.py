"""Attaching XDP programs over veth pairs of the test's own: links and netlink, replacing, letting go, dying."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebpfkit.asm import isa
from ebpfkit.asm.insn import R0, R2, R10, KfuncRef
from ebpfkit.errors import AttachError, UsageError
from ebpfkit.kernel import netlink
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.loader import Collection, Link, Map, Program
from ebpfkit.loader.links.xdp import NetlinkAttachment, XdpLink, query
from ebpfkit.testing.lab import VethLab, ping
from tests.loader import objects
from tests.loader.objects import I

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lab() -> Iterator[VethLab]:
    with VethLab() as made:
        yield made


@pytest.fixture
def inside(lab: VethLab) -> Iterator[str]:
    """The near end's name, with the test inside its namespace; nothing may stay attached."""
    with lab.near.enter():
        yield lab.near_dev
        assert query(lab.near_dev).mode == ""


@pytest.fixture
def live() -> Iterator[Program]:
    with Program.load(objects.returns(2, "first")) as program:
        yield program


@pytest.fixture
def other() -> Iterator[Program]:
    with Program.load(objects.returns(2, "second")) as program:
        yield program


def is_free_soon(dev: str) -> bool:
    """Whether nothing is attached any more; the kernel lets go of files and dead processes late."""
    for _ in range(500):
        if query(dev).mode == "":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("via", ["link", "netlink"])
@pytest.mark.parametrize(("mode", "in_force"), [(None, "native"), ("native", "native"), ("skb", "skb")])
def test_attach_and_detach(inside: str, live: Program, via: str, mode: str | None, in_force: str) -> None:
    with live.attach_xdp(inside, mode, via=via) as link:
        assert isinstance(link, XdpLink if via == "link" else NetlinkAttachment)
        assert query(inside) == netlink.XdpState(in_force, ((in_force, live.id),))
        assert (link.mode, link.device, link.program_id) == (in_force, inside, live.id)
        assert link.attached


@pytest.mark.parametrize("via", ["link", "netlink"])
def test_packets_meet_the_program(lab: VethLab, via: str) -> None:
    drop = objects.counts("drops", verdict=1)
    with Map.create(objects.COUNTS) as counts, Program.load(drop, {"counts": counts}) as program:
        with lab.far.enter():
            link = program.attach_xdp(lab.far_dev, via=via)
        with lab.near.enter():
            assert ping(lab.far_address, count=1, timeout=0.2) == 0
        assert int.from_bytes(counts.get(b"\1\0\0\0") or b"", "little") > 0
        link.close()  # from outside the namespace
    with lab.near.enter():
        assert ping(lab.far_address, count=1) == 1


@pytest.mark.parametrize("via", ["link", "netlink"])
def test_the_device_by_index(inside: str, live: Program, via: str) -> None:
    with live.attach_xdp(netlink.find_device(inside).index, via=via) as link:
        assert isinstance(link, XdpLink | NetlinkAttachment)
        assert link.device == inside


class TestReplacing:
    @pytest.mark.parametrize("via", ["link", "netlink"])
    def test_in_place(self, inside: str, live: Program, other: Program, via: str) -> None:
        with live.attach_xdp(inside, via=via) as link:
            link.update(other)
            assert query(inside).program_id == link.program_id == other.id
            link.update(live)
            assert query(inside).program_id == live.id

    def test_a_link_only_if_the_expected_program_is_there(self, inside: str, live: Program, other: Program) -> None:
        with live.attach_xdp(inside) as link:
            assert isinstance(link, XdpLink)
            with pytest.raises(AttachError, match="is not the one expected") as refused:
                link.update(other, expected=other)
            assert refused.value.errno == errno.EPERM
            link.update(other, expected=live)
            assert link.program_id == other.id

    def test_netlink_takes_over_on_request_only(self, inside: str, live: Program, other: Program) -> None:
        first = live.attach_xdp(inside, via="netlink")
        with pytest.raises(AttachError, match="replace=True") as refused:
            other.attach_xdp(inside, via="netlink")
        assert refused.value.errno == errno.EBUSY
        assert query(inside).program_id == live.id
        with other.attach_xdp(inside, via="netlink", replace=live):
            assert query(inside).program_id == other.id
            first.close()  # it no longer answers for what is there
            assert query(inside).program_id == other.id

    def test_netlink_replaces_whatever_is_there(self, inside: str, live: Program, other: Program) -> None:
        live.attach_xdp(inside, via="netlink", keep=True).close()
        with other.attach_xdp(inside, via="netlink", replace=True):
            assert query(inside).program_id == other.id

    def test_replacing_goes_where_the_program_is(self, inside: str, live: Program, other: Program) -> None:
        live.attach_xdp(inside, "skb", via="netlink", keep=True).close()
        with other.attach_xdp(inside, via="netlink", replace=True) as link:
            assert isinstance(link, NetlinkAttachment)
            assert link.mode == "skb"
            assert query(inside).id_of("skb") == other.id

    def test_the_wrong_expected_program(self, inside: str, live: Program, other: Program) -> None:
        with live.attach_xdp(inside, via="netlink"):
            with pytest.raises(AttachError) as refused:
                other.attach_xdp(inside, via="netlink", replace=other)
            assert refused.value.errno == errno.EEXIST


class TestLettingGo:
    def test_a_detached_link_stays_an_object(self, inside: str, live: Program, other: Program) -> None:
        with live.attach_xdp(inside) as link:
            assert isinstance(link, XdpLink)
            link.detach()
            assert query(inside).mode == ""
            assert not link.attached
            with pytest.raises(AttachError, match="the link is detached"):
                link.update(other)

    def test_netlink_keeps_what_it_was_asked_to_keep(self, inside: str, live: Program) -> None:
        link = live.attach_xdp(inside, via="netlink", keep=True)
        link.close()
        assert query(inside).program_id == live.id
        with live.attach_xdp(inside, via="netlink", replace=live) as again:
            assert again.program_id == live.id

    def test_twice_is_once(self, inside: str, live: Program) -> None:
        for via in ("link", "netlink"):
            link = live.attach_xdp(inside, via=via)
            link.close()
            link.close()

    def test_pinned_links_stay_and_come_back(self, inside: str, live: Program, other: Program) -> None:
        path = Path(f"{find_bpffs()}/ebpfkit_test_link_{os.getpid()}")
        link = live.attach_xdp(inside)
        link.pin(path)
        try:
            link.close()
            assert query(inside).program_id == live.id
            with pytest.raises(AttachError, match="held by link"):
                other.attach_xdp(inside)
            with Link.open_pinned(path) as again:
                assert isinstance(again, XdpLink)
                assert (again.device, again.mode, again.program_id) == (inside, "native", live.id)
                again.update(other)
            assert query(inside).program_id == other.id
        finally:
            path.unlink()
        assert is_free_soon(inside)

    def test_netlink_cannot_be_pinned(self, inside: str, live: Program) -> None:
        with live.attach_xdp(inside, via="netlink") as link:
            with pytest.raises(UsageError, match="keep=True"):
                link.pin("/sys/fs/bpf/nope")

    def test_a_pinned_program_is_no_link(self, live: Program) -> None:
        path = Path(f"{find_bpffs()}/ebpfkit_test_nolink_{os.getpid()}")
        live.pin(path)
        try:
            with pytest.raises(AttachError, match="is not a BPF link"):
                Link.open_pinned(path)
        finally:
            path.unlink()
        with pytest.raises(AttachError, match="nothing is pinned there"):
            Link.open_pinned(path)


def test_a_killed_process_leaves_nothing_attached(inside: str) -> None:
    source = (
        "import sys, time\n"
        "from ebpfkit.loader import Program\n"
        "from tests.loader import objects\n"
        f"link = Program.load(objects.returns(2)).attach_xdp({inside!r})\n"
        "print('attached', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "attached\n"
        assert query(inside).mode == "native"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert is_free_soon(inside)


REFUSALS = [
    # device, mode, errno, words
    ("near", "native", errno.ENODEV, "did you mean near0?"),
    ("eth77", None, errno.ENODEV, "there are: lo, near0"),
    (4711, None, errno.ENODEV, "no device with index 4711"),
    ("lo", "native", errno.EOPNOTSUPP, "its driver has no native XDP; use mode skb"),
    ("near0", "hw", errno.EINVAL, "use mode native or skb"),
]


@pytest.mark.parametrize(("dev", "mode", "number", "words"), REFUSALS, ids=[r[3] for r in REFUSALS])
@pytest.mark.parametrize("via", ["link", "netlink"])
def test_refusals_say_why(
    inside: str, live: Program, dev: str | int, mode: str | None, number: int, words: str, via: str
) -> None:
    with pytest.raises(AttachError) as refused:
        live.attach_xdp(dev, mode, via=via)
    assert refused.value.errno == number
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("via", ["link", "netlink"])
@pytest.mark.parametrize("held", ["link", "netlink"])
def test_an_occupied_device_names_the_owner(inside: str, live: Program, other: Program, held: str, via: str) -> None:
    with live.attach_xdp(inside, via=held) as link:
        for mode in ("native", "skb"):
            with pytest.raises(AttachError) as refused:
                other.attach_xdp(inside, mode, via=via)
            assert refused.value.errno in (errno.EBUSY, errno.EEXIST)
            text = str(refused.value)
            assert f"program {live.id} 'first' (native, " in text
            assert (f"held by link {link.id}" if isinstance(link, XdpLink) else "attached through netlink") in text
            assert (f"`kill {os.getpid()}`" if held == "link" else f"`ip link set dev {inside} xdpdrv off`") in text


def test_a_pin_that_occupies_a_device_is_named(inside: str, live: Program, other: Program) -> None:
    path = Path(f"{find_bpffs()}/ebpfkit_test_owner_{os.getpid()}")
    with live.attach_xdp(inside) as link:
        link.pin(path)
    try:
        with pytest.raises(AttachError) as refused:
            other.attach_xdp(inside)
        assert f"of the pin {path}" in str(refused.value)
        assert f"`rm {path}`" in str(refused.value)
    finally:
        path.unlink()
    assert is_free_soon(inside)


def test_a_large_mtu_asks_for_fragments(live: Program) -> None:
    with VethLab(mtu=9000) as jumbo, jumbo.near.enter():
        for via in ("link", "netlink"):
            with pytest.raises(AttachError) as refused:
                live.attach_xdp(jumbo.near_dev, "native", via=via)
            assert "its MTU of 9000 needs a program that takes fragments" in str(refused.value)
        frags = objects.returns(2).replace(flags=1 << 5)  # BPF_F_XDP_HAS_FRAGS
        with Program.load(frags) as program, program.attach_xdp(jumbo.near_dev, "native"):
            assert query(jumbo.near_dev).mode == "native"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "generic"}, "none of native, skb, hw"),
        ({"via": "tc"}, "neither link nor netlink"),
        ({"replace": True}, "update() the link in place instead"),
        ({"keep": True}, "pin the link instead"),
    ],
)
def test_arguments_that_make_no_sense(inside: str, live: Program, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        live.attach_xdp(inside, **options)  # type: ignore[arg-type]
    assert words in str(refused.value)


def test_kernels_without_links_get_netlink(inside: str, live: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebpfkit.loader.links.xdp.kernel_version", lambda: (5, 8))
    with live.attach_xdp(inside) as link:
        assert isinstance(link, NetlinkAttachment)
        assert query(inside).program_id == live.id


def test_a_link_opened_elsewhere_does_not_name_somebody_elses_device(lab: VethLab, live: Program) -> None:
    path = Path(f"{find_bpffs()}/ebpfkit_test_elsewhere_{os.getpid()}")
    with lab.near.enter(), live.attach_xdp(lab.near_dev) as link:
        link.pin(path)
    try:
        with lab.far.enter(), Link.open_pinned(path) as again:
            assert isinstance(again, XdpLink)
            assert netlink.find_device(again.ifindex).name == lab.far_dev  # the same index, another device
            assert (again.device, again.mode, again.attached) == ("", "", True)
            again.detach()
    finally:
        path.unlink()


def test_metadata_functions_for_a_program_bound_to_its_device(inside: str) -> None:
    spec = objects.program(
        "reads_time",
        I(isa.MOV64_REG, dst=R2, src=R10),
        I(isa.ADD64_IMM, dst=R2, imm=-8),
        I(isa.STDW, dst=R10, off=-8),
        I(isa.CALL_KFUNC, ref=KfuncRef("bpf_xdp_metadata_rx_timestamp")),
        I(isa.MOV64_IMM, dst=R0, imm=2),
        flags=1 << 6,  # BPF_F_XDP_DEV_BOUND_ONLY
    )
    index = netlink.find_device(inside).index
    with Collection.load(objects.object_of(spec), ifindex=index) as loaded:
        with loaded.programs["reads_time"].attach_xdp(inside, "native"):
            assert query(inside).mode == "native"
        with pytest.raises(AttachError):
            loaded.programs["reads_time"].attach_xdp("lo", "skb")


def test_other_program_types_do_not_attach_here(inside: str) -> None:
    spec = objects.returns(0).replace(prog_type="socket_filter")
    with Program.load(spec) as program, pytest.raises(UsageError, match="only xdp programs"):
        program.attach_xdp(inside)
