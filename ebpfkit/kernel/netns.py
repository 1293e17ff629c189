"""Network namespaces and veth pairs: anonymous, owned by this process, gone with it.

A namespace made here has no name under /run/netns: its descriptor is all that keeps it, so that a killed process leaves
nothing behind. Addresses and links inside go through pyroute2. Nothing here touches a device it did not make.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from ebpfkit.errors import KernelError
from ebpfkit.kernel.fd import Fd

__all__ = [
    "Namespace",
    "NamespaceHandle",
    "add_address",
    "create_veth_pair",
    "namespace_cookie",
    "namespace_inode",
]

_CLONE_NEWNET = 0x4000_0000
_SO_NETNS_COOKIE = 71
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise KernelError(f"{what}: {os.strerror(number)}; run as root or with CAP_SYS_ADMIN", errno=number)


class Namespace:
    """A network namespace of its own, alive as long as this object (or a process or socket inside it)."""

    def __init__(self) -> None:
        self._fd = -1
        failure: list[BaseException] = []

        def create() -> None:
            try:
                _check(_libc.unshare(_CLONE_NEWNET), "cannot create a network namespace")
                self._fd = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except (KernelError, OSError) as error:
                failure.append(error)

        maker = threading.Thread(target=create, name="ebpfkit-netns")
        maker.start()
        maker.join()
        if failure:
            raise failure[0]

    def fileno(self) -> int:
        """The descriptor of the namespace, as setns(2) takes it."""
        if self._fd < 0:
            raise ValueError("the namespace is closed")
        return self._fd

    @property
    def path(self) -> str:
        """A path by which other programs of this user can enter it: `nsenter --net=PATH`."""
        return f"/proc/{os.getpid()}/fd/{self.fileno()}"

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Move the calling thread into the namespace for the length of the block."""
        home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fileno(), _CLONE_NEWNET), "cannot enter the network namespace")
            try:
                yield
            finally:
                _check(_libc.setns(home, _CLONE_NEWNET), "cannot return to the former network namespace")
        finally:
            os.close(home)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create_veth_pair(
    near: Namespace,
    near_name: str,
    far: Namespace,
    far_name: str,
    *,
    near_address: str = "",
    far_address: str = "",
    queues: int = 1,
    mtu: int = 1500,
) -> None:
    """A veth pair with one end in each namespace, both ends and both loopbacks up, IPv6 autoconfiguration off.

    Addresses are "10.0.0.1/24"; `queues` RX and TX queues on each end.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with near.enter(), IPRoute() as route:
            route.link(
                "add",
                ifname=near_name,
                kind="veth",
                num_rx_queues=queues,
                num_tx_queues=queues,
                mtu=mtu,
                peer={
                    "ifname": far_name,
                    "net_ns_fd": far.fileno(),
                    "num_rx_queues": queues,
                    "num_tx_queues": queues,
                    "mtu": mtu,
                },
            )
        for namespace, name, address in ((near, near_name, near_address), (far, far_name, far_address)):
            with namespace.enter(), IPRoute() as route:
                _write_sysctl(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "1")
                index = route.link_lookup(ifname=name)[0]
                if address:
                    ip, _, prefix = address.partition("/")
                    route.addr("add", index=index, address=ip, prefixlen=int(prefix or 32))
                route.link("set", index=index, state="up")
                route.link("set", index=route.link_lookup(ifname="lo")[0], state="up")
    except NetlinkError as error:
        raise KernelError(
            f"cannot create the veth pair {near_name} and {far_name}: {error.args[-1]}", errno=error.code
        ) from error


def _write_sysctl(path: str, value: str) -> None:
    """Best effort: /proc/sys may be read-only in a container, and then neighbour discovery is only noise."""
    try:
        with open(path, "w") as handle:
            handle.write(value)
    except OSError:
        return


def add_address(namespace: Namespace, device: str, address: str) -> None:
    """Give a device inside the namespace another address ("192.0.2.9/32")."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    ip, _, prefix = address.partition("/")
    try:
        with namespace.enter(), IPRoute() as route:
            route.addr("add", index=route.link_lookup(ifname=device)[0], address=ip, prefixlen=int(prefix or 32))
    except NetlinkError as error:
        raise KernelError(f"cannot add {address} to {device}: {error.args[-1]}", errno=error.code) from error


class NamespaceHandle:
    """The network namespace that the calling thread was in, to come back to: interface indices mean nothing elsewhere.

    It keeps the namespace alive until closed.
    """

    def __init__(self) -> None:
        self._fd = Fd(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), "network namespace")

    @property
    def inode(self) -> int:
        """The number that `ls -i /proc/PID/ns/net` shows."""
        return os.fstat(self._fd.fileno()).st_ino

    @contextmanager
    def visit(self) -> Iterator[None]:
        """The calling thread is in that namespace for the block; nothing happens when it is there already.

        Raises KernelError (EPERM without CAP_SYS_ADMIN).
        """
        if namespace_inode() == self.inode:
            yield
            return
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self._fd.fileno(), _CLONE_NEWNET), "cannot enter the network namespace of the device")
            try:
                yield
            finally:
                _check(_libc.setns(home, _CLONE_NEWNET), "cannot return to the former network namespace")
        finally:
            os.close(home)

    def close(self) -> None:
        self._fd.close()


def namespace_inode() -> int:
    """The inode of the calling thread's network namespace; used again once the namespace is gone."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def namespace_cookie() -> int:
    """A number of the calling thread's network namespace that is never used again (0 before Linux 5.14)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            return int(struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0])
        except OSError:
            return 0
