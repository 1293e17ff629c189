"""What programs find around them and only a kernel would know: the caller of the machine gives it, as tables.

Rows of the network are in `network`, tasks in `objects`; the helpers that ask are in the `helpers_` modules. A helper
that asks for what was not given raises NotSupported and says what to give.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from ebpfkit.errors import NotSupported, UsageError
from ebpfkit.vm.network import Device, Fib, Socket, XfrmState
from ebpfkit.vm.objects import Task

__all__ = ["Around", "RxMetadata", "Surroundings", "missing"]


def missing(what: str, argument: str) -> NotSupported:
    """The refusal of something that nobody gave, with the argument of Machine to give it by."""
    return NotSupported(what, why=f"give the machine its {argument}, or --tables on the command line")


class Around(TypedDict, total=False):
    """The keyword arguments of Machine that say what there is around the programs.

    `fib` and `devices` are for routes and MTUs, `sockets` for look-ups and maps of sockets, `task` is the current task,
    `xfrm` the IPsec states that every packet came through. `hz` is how often jiffies tick in a second, `cookie_secret`
    what SYN cookies depend on. `user_memory` is what there is in user space, bytes by address. `cgroup_id` is the
    control group that a cgroup program is attached to. `kernel_symbols` are kernel variables that programs refer to
    (`__ksym`): the bytes of each, a tuple of them for each CPU, or its address where the program takes that alone.
    `rx_metadata` is for the
    bpf_xdp_metadata_rx functions.
    """

    fib: Fib | None
    devices: Iterable[Device] | None
    sockets: Iterable[Socket] | None
    task: Task | None
    xfrm: Iterable[XfrmState] | None
    hz: int | None
    cookie_secret: bytes
    user_memory: Mapping[int, bytes] | None
    cgroup_id: int
    kernel_symbols: Mapping[str, bytes | int | tuple[bytes, ...]]
    rx_metadata: RxMetadata


@dataclass(frozen=True, slots=True)
class RxMetadata:
    """What the card says about the packets: the time in nanoseconds, the hash and its type, the VLAN tag that it took
    off as (EtherType, TCI). None is a card that cannot say it."""

    timestamp: int | None = None
    hash: int | None = None
    hash_type: int = 0
    vlan_tag: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The tables of one machine; None where nothing was given."""

    fib: Fib | None = None
    devices: Mapping[int, Device] | None = None
    sockets: tuple[Socket, ...] | None = None
    task: Task | None = None
    xfrm: tuple[XfrmState, ...] | None = None
    hz: int | None = None
    cookie_secret: bytes = b""
    user_memory: Mapping[int, bytes] | None = None
    cgroup_id: int = 1
    kernel_symbols: Mapping[str, bytes | int | tuple[bytes, ...]] = field(default_factory=dict)
    rx_metadata: RxMetadata = RxMetadata()

    @classmethod
    def of(cls, around: Around) -> Surroundings:
        """The tables of a machine's arguments. Raises UsageError for what cannot be."""
        devices, sockets, xfrm = around.get("devices"), around.get("sockets"), around.get("xfrm")
        hz = around.get("hz")
        if hz is not None and hz < 1:
            raise UsageError(f"jiffies tick once a second or more often, not {hz} times: hz=250")
        return cls(
            around.get("fib"),
            None if devices is None else {device.ifindex: device for device in devices},
            None if sockets is None else tuple(sockets),
            around.get("task"),
            None if xfrm is None else tuple(xfrm),
            hz,
            around.get("cookie_secret", b""),
            around.get("user_memory"),
            around.get("cgroup_id", 1),
            around.get("kernel_symbols", {}),
            around.get("rx_metadata", RxMetadata()),
        )

    def socket_with(self, cookie: int) -> Socket:
        """The socket that a map names by its cookie. Raises NotSupported when the table has none."""
        found = next((socket for socket in self.sockets or () if socket.cookie == cookie), None)
        if found is None:
            what = f"a map with the socket of cookie {cookie}, which is in no table"
            raise missing(what, f"sockets=[Socket(..., cookie={cookie}), ...]")
        return found

    def task_for(self, helper: str) -> Task:
        """The current task. Raises NotSupported without one."""
        if self.task is None:
            raise missing(f"helper bpf_{helper} without a task", "task=Task(...)")
        return self.task

    def user_bytes(self, helper: str, address: int, size: int) -> bytes | None:
        """`size` bytes of user space, None where nothing is. Raises NotSupported when no memory was given."""
        if self.user_memory is None:
            raise missing(f"helper bpf_{helper} without user memory", "user_memory={address: bytes, ...}")
        for start, data in self.user_memory.items():
            if start <= address and address + size <= start + len(data):
                return bytes(data[address - start : address - start + size])
        return None
