"""Several XDP programs on one device, as libxdp runs them: a dispatcher calls each, and both tools can add and take.

What is kept on the bpffs is what libxdp keeps: `xdp/dispatch-IFINDEX-PROGID/prog<N>-prog` and `prog<N>-link`, under a
lock on `xdp/`. A change builds a new dispatcher, moves the programs into it, and swaps it in atomically: a packet meets
all of the old ones or all of the new ones. Needs Linux 5.10, and a system that lets programs replace functions
(BPF_PROG_TYPE_EXT). The program that calls is `dispatcher_program`'s.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ebpfkit.abi import uapi
from ebpfkit.elf.model import ObjectFile, ProgramSpec
from ebpfkit.elf.run_config import RunConfig, read_run_config
from ebpfkit.errors import AttachError, KernelError, LoadError, UsageError
from ebpfkit.host.attach import dispatchers_folder, explain_xdp_attach
from ebpfkit.host.errnos import describe_errno
from ebpfkit.host.pins import explain_no_bpffs, explain_pin
from ebpfkit.kernel import bpf, netlink
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.netlink import Device, NetlinkError
from ebpfkit.kernel.netns import NamespaceHandle
from ebpfkit.loader.collection import Collection
from ebpfkit.loader.dispatcher_program import MAX_COMPONENTS, NAME, DispatcherConfig, build_dispatcher, slot_name
from ebpfkit.loader.links.base import Link
from ebpfkit.loader.links.xdp import MODES, find_device
from ebpfkit.loader.maps import Map
from ebpfkit.loader.program import Program
from ebpfkit.loader.targets import find_function

__all__ = ["Component", "Joined", "add", "components", "remove"]

_PATIENCE = 10.0  # seconds for another tool to let go of the lock
_KEY = bytes(4)


@dataclass(frozen=True, slots=True)
class Component:
    """A program behind a dispatcher: its place (0 runs first), the kernel's id and name, and how it wants to run."""

    place: int
    program_id: int
    name: str
    config: RunConfig


@dataclass(slots=True)
class _Member:
    """A program that is to be behind a dispatcher: loaded, or still to be loaded for its place."""

    name: str
    config: RunConfig
    flags: int
    program: Program | None = None
    loaded_at: int = 0


class Joined(Link):
    """A program behind a device's dispatcher; closing takes it away. Should the process die first, it stays."""

    def __init__(self, dev: str | int, program: Program, *, bpffs: str | Path | None = None) -> None:
        self.device = find_device(dev).name
        self._program_id = program.id
        self._name = program.name
        self._bpffs = bpffs
        self._namespace = NamespaceHandle()
        self._there = True

    @property
    def mode(self) -> str:
        """ "native" or "skb", the dispatcher's; "" when it is gone."""
        with self._namespace.visit():
            return next((mode for mode, _ in find_device(self.device).xdp.program_ids), "")

    @property
    def program_id(self) -> int:
        return self._program_id if self._there else 0

    def update(self, program: Program) -> None:
        raise UsageError(f"{self._name!r} stands behind a dispatcher: `add` the other program, then `remove` this one")

    def detach(self) -> None:
        if not self._there:
            return
        with self._namespace.visit():
            remove(self.device, self._program_id, bpffs=self._bpffs)
        self._there = False
        self._namespace.close()

    def pin(self, path: str | Path) -> None:
        raise UsageError(f"{self._name!r} stands behind a dispatcher, which pins it: leave it open instead")

    def close(self) -> None:
        try:
            self.detach()
        except AttachError as error:  # another tool has taken it away, or the device is gone: nothing is left to do
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EBUSY):
                raise


def components(dev: str | int, *, bpffs: str | Path | None = None) -> tuple[Component, ...]:
    """The programs behind the device's dispatcher, in the order in which they run; empty when nothing is attached.

    Raises AttachError when what is attached is no dispatcher.
    """
    device = find_device(dev)
    with ExitStack() as stack:
        members = _members(device, _root(bpffs), stack)
        return tuple(
            Component(i, member.program.id, member.name, member.config)
            for i, member in enumerate(members)
            if member.program is not None
        )


def add(
    dev: str | int,
    obj: ObjectFile,
    name: str,
    *,
    mode: str | None = None,
    config: RunConfig | None = None,
    variables: Mapping[str, int | bytes] | None = None,
    bpffs: str | Path | None = None,
) -> Collection:
    """Load a program of an object and put it among those of a device, where it stays until `remove`.

    `config` says its priority and after which verdicts the next one runs (default: what the object says in
    `.xdp_run_config`, else 50 and XDP_PASS); `mode` is "native", "skb" or None (the kernel's choice, or that of the
    dispatcher in place). The collection is the program with its maps. Raises AttachError, VerifierError, LoadError,
    UsageError; then everything is as it was.
    """
    spec = obj.programs.get(name)
    if spec is None:
        raise UsageError(f"the object has no program {name!r}; it has: {', '.join(obj.programs) or 'none'}")
    if spec.prog_type != "xdp" or spec.attach_type not in (None, "xdp"):
        kind = spec.attach_type or spec.prog_type
        raise UsageError(f"program {name!r} is for {kind}; only XDP programs run behind a dispatcher")
    if spec.btf is None or not spec.func_infos:
        raise UsageError(f"program {name!r} has no types, which a dispatcher needs; compile it with -g")
    if mode not in (None, "native", "skb"):
        raise UsageError(f"mode {mode!r} is neither native nor skb")
    new = _Member(name, config or read_run_config(spec.btf, name), spec.flags)
    root = _root(bpffs)
    with _lock(root), ExitStack() as stack:
        device = find_device(dev)
        in_force = device.xdp.program_ids[0][0] if device.xdp.program_ids else mode
        if mode not in (None, in_force):
            raise UsageError(
                f"the program on {device.name} runs in mode {in_force}; others join it there, not in {mode}"
            )
        members = _members(device, root, stack)
        if len(members) == MAX_COMPONENTS:
            raise AttachError(
                f"the dispatcher of {device.name} holds ten programs; that is all it can", errno=errno.ENOSPC
            )
        members.append(new)
        members.sort(key=lambda member: (member.config.priority, member.name, member.program is None, member.loaded_at))
        collection = _replace(device, root, members, in_force, (new, obj, variables or {}), stack)
        assert collection is not None  # a new member was given
        return collection


def remove(dev: str | int, program: int | str, *, bpffs: str | Path | None = None) -> Component:
    """Take a program, by id or name, out from behind a device's dispatcher; with the last one the dispatcher goes.

    Raises AttachError when it is not there.
    """
    root = _root(bpffs)
    with _lock(root), ExitStack() as stack:
        device = find_device(dev)
        mode = device.xdp.program_ids[0][0] if device.xdp.program_ids else None
        members = _members(device, root, stack)
        there = [
            i for i, member in enumerate(members) if program in (member.name, member.program and member.program.id)
        ]
        if len(there) != 1:
            names = ", ".join(f"{m.name} ({m.program.id})" for m in members if m.program) or "nothing"
            why = "several have that name, say its id" if there else "it is not there"
            raise AttachError(
                f"cannot take {program!r} from {device.name}: {why}; there is {names}", errno=errno.ENOENT
            )
        gone = members.pop(there[0])
        assert gone.program is not None  # those in place are loaded
        shown = Component(there[0], gone.program.id, gone.name, gone.config)
        if members:
            _replace(device, root, members, mode, None, stack)
        else:
            _swap(device, None, mode)
            _unpin(_folder(root, device))
        return shown


def _root(bpffs: str | Path | None) -> Path:
    root = Path(bpffs, "xdp") if bpffs is not None else dispatchers_folder()
    if root is None:
        raise AttachError(explain_no_bpffs(), errno=errno.ENODEV)
    return root


def _folder(root: Path, device: Device, program_id: int = 0) -> Path:
    return root / f"dispatch-{device.index}-{program_id or device.xdp.program_id}"


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Libxdp's lock: one tool at a time changes what is behind dispatchers."""
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        number = os.open(root, os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AttachError(explain_pin("open", "link", str(root), error.errno or 0), errno=error.errno or 0) from error
    with Fd(number, "lock of dispatchers"):
        ends = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    why = f"another tool has held the lock on {root} for {_PATIENCE:.0f} seconds"
                    raise AttachError(f"cannot change what is attached: {why}", errno=errno.EBUSY) from None
                time.sleep(0.02)
        yield


def _members(device: Device, root: Path, stack: ExitStack) -> list[_Member]:
    """The programs in place, opened; raises AttachError when the program in place is no dispatcher."""
    if not device.xdp.program_id:
        return []
    folder = _folder(root, device)
    try:
        there = sorted(folder.iterdir())
    except FileNotFoundError:
        raise AttachError(
            f"program {device.xdp.program_id} on {device.name} is no dispatcher of {root.parent}: nothing can run "
            "beside it; detach it, or attach it through a dispatcher too",
            errno=errno.EBUSY,
        ) from None
    except OSError as error:
        raise AttachError(explain_pin("open", "link", str(folder), error.errno or 0), errno=error.errno or 0) from error
    config = _read_config(device)
    names = {path.name for path in there}
    members = []
    for i, (run_config, flags) in enumerate(zip(config.components, config.flags, strict=True)):
        if f"{slot_name(i)}-prog" not in names:
            raise AttachError(
                f"the dispatcher of {device.name} runs {len(config.components)} programs, but {folder} lacks number {i}"
            )
        program = stack.enter_context(Program.open_pinned(folder / f"{slot_name(i)}-prog"))
        members.append(_Member(program.name, run_config, flags, program, program.info.loaded_at_ns))
    return members


def _read_config(device: Device) -> DispatcherConfig:
    with Program.open_id(device.xdp.program_id) as dispatcher:
        ids = dispatcher.info.map_ids
    if len(ids) != 1:
        raise AttachError(f"program {device.xdp.program_id} on {device.name} has {len(ids)} maps; a dispatcher has one")
    with Map.open_id(ids[0]) as live:
        return DispatcherConfig.from_bytes(live.get(_KEY) or b"")


def _replace(
    device: Device,
    root: Path,
    members: Sequence[_Member],
    mode: str | None,
    new: tuple[_Member, ObjectFile, Mapping[str, int | bytes]] | None,
    stack: ExitStack,
) -> Collection | None:
    """Build a dispatcher of these members, pin it, put it in the place of the old one, and unpin that."""
    config = DispatcherConfig(tuple(m.config for m in members), tuple(m.flags for m in members))
    spec = build_dispatcher(config)
    made = stack.enter_context(Collection.load(ObjectFile({spec.name: spec}, spec.maps, btf=spec.btf)))
    dispatcher = made.programs[spec.name]
    collection: Collection | None = None
    folder = _folder(root, device, dispatcher.id)
    try:
        folder.mkdir(mode=0o700)
        for i, member in enumerate(members):
            if new is not None and member is new[0]:
                collection = _load(new[1], member, slot_name(i), new[2], dispatcher)
                member.program = collection.programs[member.name]
            assert member.program is not None  # only the new one was not loaded
            with _join(member.program, dispatcher, slot_name(i)) as link:
                member.program.pin(folder / f"{slot_name(i)}-prog")
                bpf.obj_pin(str(folder / f"{slot_name(i)}-link"), link)
        _swap(device, dispatcher, mode)
    except BaseException as error:
        if collection is not None:
            collection.close()
        _unpin(folder)
        if isinstance(error, OSError) and not isinstance(error, KernelError):
            raise AttachError(
                explain_pin("pin", "link", str(folder), error.errno or 0), errno=error.errno or 0
            ) from error
        raise
    if device.xdp.program_id:
        _unpin(_folder(root, device))
    return collection


def _load(
    obj: ObjectFile, member: _Member, slot: str, variables: Mapping[str, int | bytes], dispatcher: Program
) -> Collection:
    """The program with its maps, as one that replaces the function `slot` of the dispatcher."""
    as_replacement = _as_replacement(obj.programs[member.name], slot)
    try:
        return Collection.load(
            obj.replace(programs={**obj.programs, member.name: as_replacement}),
            programs=[member.name],
            variables=variables,
            targets={member.name: dispatcher},
        )
    except LoadError as error:
        if error.errno == errno.EPERM:
            why = "this system does not let programs replace functions of others (BPF_PROG_TYPE_EXT)"
            raise LoadError(
                f"cannot run {member.name!r} behind a dispatcher: {why}; attach it alone", errno=errno.EPERM
            ) from error
        raise


def _as_replacement(spec: ProgramSpec, slot: str) -> ProgramSpec:
    flags = spec.flags & ~uapi.BPF_F_XDP_HAS_FRAGS
    return spec.replace(prog_type="ext", attach_type=None, attach_target=slot, flags=flags)


def _join(program: Program, dispatcher: Program, slot: str) -> Fd:
    """The link by which a program takes the place of a function of the dispatcher."""
    try:
        target = find_function(dispatcher, slot)
        return bpf.link_create(program, dispatcher.fileno(), 0, target_btf_id=target)
    except KernelError as error:
        number = error.errno or 0
        raise AttachError(
            f"cannot put {program.name!r} behind a dispatcher: {describe_errno(number)}", errno=number
        ) from error


def _swap(device: Device, dispatcher: Program | None, mode: str | None) -> None:
    """Put the dispatcher (None: nothing) where the one that was found is, atomically."""
    old = device.xdp.program_id
    try:
        if not old:
            netlink.set_xdp(device.index, dispatcher, MODES[mode] | uapi.XDP_FLAGS_UPDATE_IF_NOEXIST)
            return
        with bpf.prog_fd_by_id(old) as expected:
            netlink.set_xdp(device.index, dispatcher, MODES[mode] | uapi.XDP_FLAGS_REPLACE, expected=expected)
    except KernelError as error:
        number = error.errno or 0
        extack = error.extack if isinstance(error, NetlinkError) else ""
        action = "detach" if dispatcher is None else "replace" if old else "attach"
        text = explain_xdp_attach(NAME, device, number, mode=mode, via="netlink", extack=extack, action=action)
        raise AttachError(text, errno=number) from error


def _unpin(folder: Path) -> None:
    """Remove the pins of a dispatcher: its programs leave it with their links."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
