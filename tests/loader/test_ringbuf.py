"""Ring buffers: what programs send arrives whole, in order, and only once."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator

import pytest

from ebpfkit.errors import MapError, UsageError
from ebpfkit.loader import Collection, Map, RingBuffer
from tests.loader import objects

pytestmark = pytest.mark.kernel
PACKET = bytes(64)


@pytest.fixture
def live() -> Iterator[Collection]:
    with Collection.load(objects.object_of(objects.sends())) as loaded:
        yield loaded


def test_records_arrive_in_order_and_once(live: Collection) -> None:
    with RingBuffer(live.maps["events"]) as ring:
        assert ring.poll(0) == []
        live.programs["sender"].test_run(PACKET, repeat=3)
        assert ring.pending == 3 * 16
        assert ring.poll(1) == [(0x1122334455667788).to_bytes(8, "little")] * 3
        assert ring.poll(0) == []
        assert ring.pending == 0


def test_a_full_ring_loses_the_newest_and_goes_on_after_wrapping(live: Collection) -> None:
    with RingBuffer(live.maps["events"]) as ring:
        for _ in range(5):
            live.programs["sender"].test_run(PACKET, repeat=300)
            assert len(ring.poll(0)) == 4096 // 16 - 1
        live.programs["sender"].test_run(PACKET, repeat=7)
        assert len(ring.poll(0)) == 7


def test_a_limit_leaves_the_rest(live: Collection) -> None:
    with RingBuffer(live.maps["events"]) as ring:
        live.programs["sender"].test_run(PACKET, repeat=10)
        assert [len(ring.poll(0, limit=4)) for _ in range(4)] == [4, 4, 2, 0]


def test_waiting_ends_with_a_record_or_the_timeout(live: Collection) -> None:
    with RingBuffer(live.maps["events"]) as ring:
        start = time.monotonic()
        assert ring.poll(0.05) == []
        assert time.monotonic() - start >= 0.05
        later = threading.Timer(0.05, live.programs["sender"].test_run, [PACKET])
        later.start()
        assert len(ring.poll(10)) == 1
        later.join()


def test_it_can_be_selected_on(live: Collection) -> None:
    with RingBuffer(live.maps["events"]) as ring:
        poller = select.epoll()
        poller.register(ring, select.EPOLLIN)
        assert poller.poll(0) == []
        live.programs["sender"].test_run(PACKET)
        assert poller.poll(1) != []
        poller.close()


def test_iterating_gives_single_records(live: Collection) -> None:
    with RingBuffer(live.maps["events"]) as ring:
        live.programs["sender"].test_run(PACKET, repeat=2)
        records = iter(ring)
        assert next(records) == next(records) == (0x1122334455667788).to_bytes(8, "little")


def test_another_map_or_a_closed_ring(live: Collection) -> None:
    with Map.create(objects.COUNTS) as counts, pytest.raises(UsageError, match="is of type array, not a ringbuf"):
        RingBuffer(counts)
    ring = RingBuffer(live.maps["events"])
    ring.close()
    ring.close()
    with pytest.raises(MapError, match="is closed"):
        ring.poll(0)


def test_a_map_reads_itself(live: Collection) -> None:
    events = live.maps["events"]
    assert events.poll(0) == []
    live.programs["sender"].test_run(PACKET, repeat=2)
    assert len(events.poll(1)) == 2
    with Map.create(objects.COUNTS) as counts, pytest.raises(UsageError, match="not a ringbuf"):
        counts.poll(0)
