"""The AF_XDP echo example, as a user runs it: a process of its own, real pings and datagrams, Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ebpfkit.kernel import netlink
from ebpfkit.testing import VethLab, ping, udp_exchange

PROGRAM = Path(__file__).parents[2] / "programs" / "xsk_echo.py"


@pytest.mark.kernel
@pytest.mark.parametrize("queues", [1, 2])
def test_it_answers_pings_and_datagrams(queues: int) -> None:
    with VethLab(queues=queues) as lab:
        with lab.near.enter():
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), lab.near_dev], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        assert process.stdout is not None
        try:
            started = process.stdout.readline()
            assert started.startswith("answering on near0, queues 0"), process.communicate()[1]
            payloads = [bytes([number]) * (number + 1) for number in range(20)]
            with lab.far.enter():
                assert ping(lab.near_address, count=5) == 5
                assert udp_exchange(lab.near_address, 7, payloads) == payloads
                assert udp_exchange(lab.near_address, 9, [b"not for us"], timeout=0.2) == []  # the stack refuses it
        finally:
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=20)
        assert (output, errors, process.returncode) == ("25 answered, 0 lost\n", "", 0)
        with lab.near.enter():
            assert not netlink.find_device(lab.near_dev).xdp.program_id
        with lab.far.enter():
            assert ping(lab.near_address, count=1) == 1  # the stack answers again
            assert udp_exchange(lab.near_address, 7, [b"nobody there"], timeout=0.2) == []
