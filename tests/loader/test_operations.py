"""Structures of kernel operations: TCP's own test operations, and congestion controls that connections use."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebpfkit.elf import ObjectFile, set_operation
from ebpfkit.errors import AttachError, KernelError, NotSupported, UsageError
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.kernel.version import kernel_version
from ebpfkit.loader import Collection
from ebpfkit.loader.operations import open_registration
from ebpfkit.testing.lab import VethLab
from tests.elf.objects import open_c

pytestmark = pytest.mark.kernel

LINKS = kernel_version() >= (6, 4)
with_links = pytest.mark.skipif(not LINKS, reason="this kernel registers operations without links only")
AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


def available() -> list[str]:
    return AVAILABLE.read_text().split()


@pytest.fixture
def congestion() -> ObjectFile:
    return open_c("congestion")


@pytest.fixture
def live(congestion: ObjectFile) -> Iterator[Collection]:
    with Collection.load(congestion, programs=None if LINKS else ["stays"]) as collection:
        yield collection
    assert not {"bpf_fixed", "bpf_stays", "bpf_else"}.intersection(available())


def test_test_runs_of_operations() -> None:
    """The kernel's operations for tests take their arguments from the context, and change what those point to."""
    obj = open_c("dummy_ops")
    state = ctypes.c_int(37)
    with Collection.load(obj) as collection:
        first, second = collection.programs["first"], collection.programs["second"]
        assert first.test_run(b"", ctx=struct.pack("=Q", ctypes.addressof(state))).retval == state.value == 42
        assert first.test_run(b"", ctx=bytes(8)).retval == 0x1234
        arguments = struct.pack("=5Q", ctypes.addressof(state), 1, 2, 3, 4)
        assert second.test_run(b"", ctx=arguments).retval == 10
        counter = collection.maps[".bss"].get(bytes(4))
        assert counter is not None and int.from_bytes(counter, "little") == 2
        with pytest.raises(KernelError, match="does not suit a struct_ops program"):
            first.test_run(b"", ctx=bytes(3))


def test_connections_use_a_registered_control(live: Collection) -> None:
    name = "fixed" if LINKS else "stays"
    with VethLab() as lab, live.operations[name].register() as registration:
        assert registration.is_link == LINKS and f"bpf_{name}" in available()
        with lab.near.enter(), socket.create_server(("127.0.0.1", 0)) as server:
            with socket.create_connection(server.getsockname()) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, f"bpf_{name}".encode())
                there, _ = server.accept()
                with there:
                    for _ in range(50):
                        client.sendall(bytes(1000))
                        there.recv(1000)
        calls = live.maps[".bss"].get(bytes(4))
        assert calls is not None and int.from_bytes(calls[:4], "little") > 0
    assert "bpf_fixed" not in available()


def test_without_a_link_it_stays_until_it_is_taken_back(live: Collection) -> None:
    registration = live.operations["stays"].register()
    assert not registration.is_link and "bpf_stays" in available()
    with pytest.raises(UsageError, match=r"without a link and cannot be replaced; use \.struct_ops\.link"):
        registration.replace(live.operations["stays"])
    registration.close()
    assert "bpf_stays" not in available()


@with_links
def test_the_same_name_twice(live: Collection, congestion: ObjectFile) -> None:
    with live.operations["fixed"].register(), Collection.load(congestion, programs=["fixed"]) as again:
        with pytest.raises(AttachError, match="operations of that name are registered already") as caught:
            again.operations["fixed"].register()
        assert caught.value.errno == errno.EEXIST


@with_links
def test_replacing_operations_in_place(live: Collection, congestion: ObjectFile) -> None:
    changed = set_operation(congestion, "fixed", "flags", 0)
    with live.operations["fixed"].register() as registration:
        with Collection.load(changed, programs=["fixed"]) as newer:
            registration.replace(newer.operations["fixed"])
            assert available().count("bpf_fixed") == 1


def test_pinned_registrations(live: Collection, tmp_path: Path) -> None:
    root = find_bpffs()
    if root is None:
        pytest.skip("no bpffs")
    path = Path(root) / f"ops-{tmp_path.name[-8:].replace('-', '_')}"
    for name, shown in (("fixed", "bpf_fixed"), ("stays", "bpf_stays"))[0 if LINKS else 1 :]:
        try:
            with live.operations[name].register() as registration:
                registration.pin(path)
            assert shown in available()
            with open_registration(path) as again:
                again.detach()
        finally:
            path.unlink()
        assert shown not in available()


@with_links
def test_members_are_set_before_the_load(congestion: ObjectFile) -> None:
    renamed = set_operation(congestion, "fixed", "name", "bpf_else")
    swapped = set_operation(renamed, "fixed", "undo_cwnd", "threshold")
    with pytest.raises(NotSupported, match="program 'threshold' as two members of 'fixed'"):
        Collection.load(swapped, programs=["fixed"])
    with Collection.load(renamed, programs=["fixed"]) as collection:
        assert set(collection.programs) == {"threshold", "avoid", "undo"} and set(collection.operations) == {"fixed"}
        with collection.operations["fixed"].register():
            assert "bpf_else" in available()


@with_links
def test_what_a_subsystem_refuses(congestion: ObjectFile) -> None:
    """A congestion control must have its functions."""
    with Collection.load(congestion, programs=["lame"]) as collection:
        with pytest.raises(AttachError, match=r"cannot register 'lame' \(tcp_congestion_ops\): its subsystem refuses"):
            collection.operations["lame"].register()


@pytest.mark.skipif(LINKS, reason="this kernel has links")
def test_kernels_without_links_say_so(congestion: ObjectFile) -> None:
    with pytest.raises(NotSupported, match=r"Linux 6\.4 brought links of kernel operations; put it into \.struct_ops"):
        Collection.load(congestion, programs=["fixed"])


def test_functions_without_their_structure(congestion: ObjectFile) -> None:
    with pytest.raises(UsageError, match="'undo' is no function of a structure that is registered"):
        Collection.load(congestion, programs=["undo"])
