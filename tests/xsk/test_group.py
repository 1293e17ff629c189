"""Groups: every queue, own programs, closing in order."""

from __future__ import annotations

import struct

import pytest

from ebpfkit.abi import uapi
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import AttachError, UsageError, XskError
from ebpfkit.loader.collection import Collection
from ebpfkit.testing import VethLab, ping
from ebpfkit.xsk import XskGroup, XskSocket
from ebpfkit.xsk.redirect import redirect_object

from .conftest import ETHERTYPE, Far

pytestmark = pytest.mark.kernel
SMALL = {"rx_size": 64, "tx_size": 64, "fill_size": 64, "completion_size": 64, "frame_count": 256, "frame_size": 2048}

# Only our own EtherType goes to the socket; the rest goes up the stack.
STEER = f"""
r2 = *(u32 *)(r1 +4)
r3 = *(u32 *)(r1 +0)
r4 = r3
r4 += 14
r0 = 2
if r4 > r2 goto out
r5 = *(u16 *)(r3 +12)
if r5 != {int.from_bytes(ETHERTYPE.to_bytes(2, "little"), "big")} goto out
r2 = *(u32 *)(r1 +16)
r1 = map[steered] ll
r3 = 1
call bpf_redirect_map
out:
exit
"""


def steering(entries: int = 4) -> ObjectFile:
    steered = MapSpec("steered", "xskmap", 4, 4, entries)
    program = ProgramSpec(
        "steer", "xdp", "xdp", tuple(parse(STEER)), license="Apache-2.0", attach_type="xdp", maps={"steered": steered}
    )
    return ObjectFile({"steer": program}, {"steered": steered})


def test_every_queue_has_its_socket() -> None:
    with VethLab(queues=3) as lab:
        far = Far(lab)
        with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
            assert [sock.queue for sock in group] == [0, 1, 2] and len(group) == 3
            received: list[bytes] = []
            for number in range(60):
                far.send(bytes([number]) + bytes(60))
                ready = group.wait(5)
                assert ready
                for sock in ready:
                    received += [bytes(frame)[14:15] for frame in sock.receive(0)]
            assert received == [bytes([number]) for number in range(60)]
            assert group.wait(0) == []
            assert sum(sock.counters.received for sock in group) == 60
            assert group.statistics().lost == 0
            with pytest.raises(UsageError, match="queue 3 is not in this group; it has 0, 1, 2"):
                group[3]
        far.close()


def test_a_chosen_queue_leaves_the_others_to_the_stack() -> None:
    with VethLab(queues=2) as lab, lab.near.enter(), XskGroup(lab.near_dev, [1], **SMALL) as group:
        assert [sock.queue for sock in group] == [1]
        verdicts = [
            group.program.test_run(bytes(64), ctx=struct.pack("=6I", 0, 64, 0, group.device.index, queue, 0)).retval
            for queue in (0, 1)
        ]
        assert verdicts == [uapi.XDP_PASS, uapi.XDP_REDIRECT]


def test_an_own_program_steers_what_it_wants(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, program=steering(), attach_mode="native", **SMALL) as group:
        with lab.far.enter():
            assert ping(lab.near_address, count=1) == 1
        far.send(b"ours")
        assert [bytes(frame)[14:18] for frame in group[0].receive(5)] == [b"ours"]
        assert (group.program.name, group.map.spec.name) == ("steer", "steered")


def test_a_collection_stays_the_callers(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), Collection.load(redirect_object()) as collection:
        for _ in range(2):
            with XskGroup(lab.near_dev, program=collection, attach_mode="skb", **SMALL) as group:
                far.send(b"skb mode")
                assert [bytes(frame)[14:22] for frame in group[0].receive(5)] == [b"skb mode"]
        assert collection.programs["xsk_def_prog"].info.id > 0


def test_what_cannot_be_leaves_nothing_behind(lab: VethLab) -> None:
    with lab.near.enter():
        with pytest.raises(UsageError, match="one is named twice"):
            XskGroup(lab.near_dev, [0, 0])
        with pytest.raises(UsageError, match=r"no program 'other' among steer"):
            XskGroup(lab.near_dev, program=steering(), program_name="other")
        with pytest.raises(UsageError, match=r"no XSK map 'xs' \(of steered\)"):
            XskGroup(lab.near_dev, program=steering(), map_name="xs")
        with pytest.raises(UsageError, match="is no XDP program"):
            XskGroup(lab.near_dev, program=7)  # type: ignore[arg-type]
        with pytest.raises(XskError, match="cannot bind to queue 5"):
            XskGroup(lab.near_dev, [5])
        with pytest.raises(AttachError, match="nosuch0"):
            XskGroup("nosuch0")
        with XskGroup(lab.near_dev, **SMALL):
            with pytest.raises(XskError, match="owns this queue"):
                XskGroup(lab.near_dev, bind_timeout=0.05)
        XskSocket(lab.near_dev, **SMALL).close()


def test_a_slot_too_few_is_named() -> None:
    with VethLab(queues=2) as lab, lab.near.enter():
        with pytest.raises(UsageError, match="queue 1 has no slot in map 'steered' of 1 entries"):
            XskGroup(lab.near_dev, program=steering(1), **SMALL)


def test_a_device_that_goes_away_ends_the_waiting(lab: VethLab) -> None:
    from pyroute2 import IPRoute

    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        with IPRoute() as route:
            route.link("del", index=group.device.index)
        with pytest.raises(XskError, match="the device has gone"):
            group.wait(5)


def test_large_mtu_takes_a_program_with_frags() -> None:
    with VethLab(mtu=9000) as lab:
        far = Far(lab)
        with lab.near.enter(), XskGroup(lab.near_dev, attach_mode="native", **SMALL) as group:
            far.send(bytes(1000))
            assert sum(len(frame) for frame in group[0].receive(5)) == 1014
        far.close()
