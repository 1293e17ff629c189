"""A worker for each queue: threads and processes, pinned, ended under load, restarted; and every packet counted."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from ebpfkit.errors import UsageError, XskError
from ebpfkit.kernel import ethtool, netlink
from ebpfkit.testing import VethLab
from ebpfkit.xsk import FrameOwner, Umem, XskGroup, XskSocket

from .conftest import HEADER, Far

pytestmark = pytest.mark.kernel
SMALL = {"rx_size": 64, "tx_size": 64, "fill_size": 64, "completion_size": 64, "frame_count": 256, "frame_size": 2048}


def echo(sock, stop) -> int:  # type: ignore[no-untyped-def]
    count = 0
    while not stop.is_set():
        for frame in sock.receive(0.02):
            frame.data[14:18] = f"c{min(os.sched_getaffinity(0)):03d}".encode()
            frame.send()
            count += 1
    sock.drain(5)
    return count


def crash(sock, stop) -> None:  # type: ignore[no-untyped-def]
    raise ZeroDivisionError(sock.queue)


@pytest.fixture
def pair():  # type: ignore[no-untyped-def]
    with VethLab(queues=2) as lab:
        far = Far(lab)
        yield lab, far
        far.close()


def test_threads_are_pinned_and_end_with_the_block(pair) -> None:  # type: ignore[no-untyped-def]
    lab, far = pair
    cpus = sorted(os.sched_getaffinity(0))
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        with group.threads(echo, cpus=cpus[-1:]) as workers:
            assert workers.cpus == {0: cpus[-1], 1: cpus[-1]}
            for _ in range(50):
                far.send(b"----")
                assert far.receive() == f"c{cpus[-1]:03d}".encode()
        assert sum(workers.results.values()) == 50  # type: ignore[arg-type]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("xsk-")]
        assert all(sock.umem.count(FrameOwner.USER) == 0 for sock in group)


def test_what_a_thread_raises_is_raised_at_the_end(pair) -> None:  # type: ignore[no-untyped-def]
    lab, _ = pair
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        with pytest.raises(ZeroDivisionError), group.threads(crash):
            pass
        with pytest.raises(UsageError, match="CPU 9999 is not among those"):
            group.threads(echo, cpus=[9999])
    umem = Umem(256, 2048)
    with lab.near.enter(), XskGroup(lab.near_dev, umem=umem, **{**SMALL, "fill_size": 64}) as group:
        with pytest.raises(UsageError, match="belong to one thread"):
            group.threads(echo)


def test_processes_are_pinned_and_restarted(pair) -> None:  # type: ignore[no-untyped-def]
    lab, far = pair
    with lab.near.enter(), XskGroup(lab.near_dev, [0], shareable=True, **SMALL) as group:
        with group.processes(echo, cpus=[0]) as workers:
            for _ in range(20):
                far.send(b"----")
            with pytest.raises(UsageError, match="is still running"):
                workers_restart_now(workers)
            workers.processes[0].kill()
            workers.restart(0)
            assert workers.statistics().lost == 0
        assert workers.processes[0].exitcode == 0
    with lab.near.enter(), XskGroup(lab.near_dev, [0], shareable=True, **SMALL) as group:
        with pytest.raises(XskError, match=r"workers ended with an error \(queue: exit status\): \{0: 1\}"):
            with group.processes(crash) as workers:
                workers.processes[0].join(10)


def workers_restart_now(workers) -> None:  # type: ignore[no-untyped-def]
    from ebpfkit.xsk import workers as module

    patience, module._PATIENCE = module._PATIENCE, 0.01
    try:
        workers.restart(0)
    finally:
        module._PATIENCE = patience


def test_closing_under_load_is_clean() -> None:
    with VethLab() as lab:
        stop = threading.Event()

        def flood() -> None:
            with lab.far.enter(), XskSocket(lab.far_dev, frame_size=2048) as sender:
                while not stop.is_set():
                    for _ in range(64):
                        sender.send(HEADER + bytes(46), flush=False)
                    sender.flush()

        flooder = threading.Thread(target=flood)
        flooder.start()
        try:
            with lab.near.enter():
                for _ in range(10):
                    with XskGroup(lab.near_dev, **SMALL) as group:
                        sock = group[0]
                        for _ in range(5):
                            for frame in sock.receive(1):
                                frame.send()
                    assert len(sock.umem) == sock.umem.frame_count
                    assert not netlink.find_device(lab.near_dev).xdp.program_id
        finally:
            stop.set()
            flooder.join()


def test_the_number_of_queues_is_that_of_the_channels() -> None:
    with VethLab(queues=4) as lab, lab.near.enter():
        ethtool.set_channels(lab.near_dev, rx=2)
        with lab.far.enter():
            ethtool.set_channels(lab.far_dev, tx=2)
        with XskGroup(lab.near_dev, **SMALL) as group:
            assert group.queues == (0, 1)


def rig() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "xsk_conservation.py"
    spec = importlib.util.spec_from_file_location("xsk_conservation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["xsk_conservation"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("queues", [1, 2])
def test_every_packet_is_accounted_for_whatever_happens(queues: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stalled, program replaced, each end down and up, a process killed: injected = received + counted drops."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    conservation = rig()
    start = time.monotonic()
    found = conservation.run(40_000, queues)
    assert conservation.check(found) == [], found
    assert len(found["disturbances"]) == 4 and found["received"] > 20_000
    assert found["dropped_at_the_socket"] > 0, "the stall was too short to see drops counted"
    assert time.monotonic() - start < 60
