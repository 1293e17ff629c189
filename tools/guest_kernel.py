"""Another kernel as an oracle: boots it under qemu's emulation and loads a batch of programs there.

    python tools/guest_kernel.py --fetch 6.1 6.12          Debian's cloud images, into ~/.cache/ebpfkit-kernels
    python tools/guest_kernel.py 6.1 FILE.o... [--log-level 2]       what that kernel says of an object's programs

From Python, with programs as `ProgramSpec` (the same as `KernelOracle.ask` of verifier_kernel takes):

    guest = Guest("6.1")                         # newest image of that series that was fetched, or a path to a vmlinuz
    verdicts = guest.load([spec, spec, ...])     # one boot (about 10 s) for thousands of programs; a Verdict each
    guest.vmlinux                                # that kernel's own BTF (asked once, then kept beside the image)

A `Load` instead of a spec says more: log level and how much of the log's end comes back, kernel function or LSM hook to
attach to by name, a program of the same batch to replace (freplace), a user without capabilities:

    guest.load([
        Load(fentry, attach_to="tcp_connect"),   # FUNC of vmlinux; for lsm write "bpf_lsm_file_open"
        Load(iterator, attach_to="bpf_iter_task"), Load(tp_btf, attach_to="btf_trace_sched_switch"),
        Load(struct_ops, attach_id=guest.vmlinux.find_id("tcp_congestion_ops", Struct), attach_number=member_index),
        Load(target), Load(freplace, replaces=3, attach_id=function_id_in_its_btf),   # 3: position in this list
        Load(spec, user=65534),                  # setresuid first: no capabilities
    ], modules=["nf_conntrack"])                 # .ko files to load first; their BTF is not resolved by name

A program whose maps or types the kernel refused was not judged: its answer is a `NotSubmitted`. One that the guest
dies or hangs of is found by booting anew from there, named on stderr and answered by a `GuestDied`; the rest goes on.
Needs qemu-system-x86_64 and zig (`python -m ziglang`). Emulation is 10 to 20 times slower than the machine: no timings.
"""

from __future__ import annotations

import argparse
import ctypes
import lzma
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from probe_old_kernels import archive
from verifier_kernel import Verdict, encode_for, kernel_types, needs_types, verdict_of

from ebpfkit.abi.attach_types import ATTACH_TYPES, BTF_TARGETS
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.abi.versions import parse_version
from ebpfkit.btf.types import Btf, Func, Struct, Typedef
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.errors import EbpfError, UsageError
from ebpfkit.kernel import attrs
from ebpfkit.kernel.bpf import Command, kernel_name
from ebpfkit.loader.load import _MAPS_WITHOUT_BTF, effective_max_entries, map_type_number
from ebpfkit.verifier.program import has_function_types

FOLDER = Path(os.environ.get("EBPFKIT_KERNELS", Path.home() / ".cache" / "ebpfkit-kernels"))
MEMORY_MB = 4096
MAX_MAP_BYTES = 1 << 24
_SEND_FILE, _LOAD_MODULE = 1001, 1002
_HEADER = struct.Struct("=IIIIIiiIIIII")
_MAGIC = 0x42464245
_END = struct.pack("=4I", _MAGIC, 0, 3, 3) + b"END"
_DIED = -9999  # instead of an errno: the guest did not survive the call
_WATCHED = 300  # calls after a restart whose answers are awaited on the wire one by one


class NotSubmitted(Verdict):
    """The kernel took the program's maps or types not, so that it never saw the program; `log` says which."""


class GuestDied(NotSubmitted):
    """The kernel panicked or hung while it loaded the program; `log` is the end of its console."""


@dataclass(frozen=True)
class Load:
    """A program to load and how. See the module's docstring."""

    spec: ProgramSpec
    log_level: int = 1
    log_tail: int = 2048
    log_room: int = 0  # 0: 64 MiB
    attach_to: str = ""
    attach_id: int = 0
    attach_number: int | None = None
    replaces: int | None = None
    user: int = 0


@dataclass(frozen=True)
class _Record:
    """A call for the guest. `again`: a guest that is booted anew must repeat it, for what it makes is used later."""

    command: int
    data: bytes
    again: bool
    read: Callable[[int, bytes, int], None]

    def watched(self) -> bytes:
        """The record, with the guest told to wait until its answer is out."""
        head = list(_HEADER.unpack_from(self.data))
        return _HEADER.pack(*head[:-1], 1) + self.data[_HEADER.size :]


@dataclass
class _Batch:
    """The records for the guest, and how to read its answers."""

    records: list[_Record] = field(default_factory=list)
    next_fd: int = 100

    def call(
        self,
        command: int,
        attr: bytes = b"",
        pointers: dict[int, bytes] | None = None,
        *,
        fd: int = 0,
        unless_open: bool = False,
        log: tuple[int, int, int, int] | None = None,
        user: int = 0,
        data: bytes = b"",
        again: bool = True,
        read: Callable[[int, bytes, int], None] | None = None,
    ) -> None:
        """`pointers`: offset in the attr -> what it points to. `log`: two offsets, bytes wanted back, room."""
        fixups = b""
        for at, content in (pointers or {}).items():
            data += b"\0" * (-len(data) % 8)
            fixups += struct.pack("=II", at, len(data))
            data += content
        attr += b"\0" * (-len(attr) % 8)
        log_at, log_size_at, tail, room = log or (-1, -1, 0, 0)
        head = _HEADER.pack(
            command, fd, len(attr), len(fixups) // 8, len(data), log_at, log_size_at, tail, room, user, unless_open, 0
        )
        whole = head + attr + fixups + data + b"\0" * (-len(data) % 8)
        self.records.append(_Record(command, whole, again, read or (lambda result, text, whole: None)))

    def new_fd(self) -> int:
        self.next_fd += 1
        return self.next_fd


def _attr(structure: ctypes.Structure) -> bytes:
    return bytes(structure)


def _offset(structure: type[ctypes.Structure], name: str) -> int:
    found: int = getattr(structure, name).offset
    return found


class Guest:
    """A kernel image that can be booted any number of times; each `load` is one boot."""

    def __init__(self, kernel: str, *, cpus: int = 2) -> None:
        self.image = Path(kernel) if "/" in kernel else find_image(kernel)
        self.cpus = cpus
        self.release = ""

    @cached_property
    def vmlinux(self) -> Btf:
        """The guest kernel's own types."""
        kept = self.image.with_name(self.image.name + ".btf")
        if not kept.exists():
            found: list[bytes] = []
            batch = _Batch()
            batch.call(_SEND_FILE, data=b"/sys/kernel/btf/vmlinux\0", read=lambda _, text, __: found.append(text))
            self._run(batch, ())
            partial = kept.with_suffix(f".{os.getpid()}")
            partial.write_bytes(found[0])
            partial.replace(kept)
        return Btf.from_bytes(kept.read_bytes(), lazy=True)

    def load(self, programs: Iterable[ProgramSpec | Load], *, modules: Sequence[str] = ()) -> list[Verdict]:
        """Load each program and drop it again; one verdict for each, in order."""
        loads = [item if isinstance(item, Load) else Load(item) for item in programs]
        maker = _Maker(self, _Batch(), {load.replaces for load in loads})
        for load in loads:
            maker.add(load)
        self._run(maker.batch, modules)
        return maker.verdicts

    def _module(self, name: str) -> bytes:
        root = self.image.parent.parent / "lib" / "modules"
        for path in root.rglob(f"{name}.ko*"):
            data = path.read_bytes()
            return lzma.decompress(data) if path.suffix == ".xz" else data
        raise UsageError(f"{self.image.name} has no module {name}")

    def _run(self, batch: _Batch, modules: Sequence[str]) -> None:
        before = _Batch()
        for name in modules:
            before.call(_LOAD_MODULE, data=self._module(name), read=_module_answer(name))
        with tempfile.TemporaryDirectory(prefix="guest-") as folder:
            self._finish(Path(folder), before.records + batch.records)

    def _finish(self, place: Path, records: Sequence[_Record]) -> None:
        """Boot until every record is answered, anew behind one that the guest does not survive."""
        answered: set[int] = set()
        suspect, failures = -1, 0
        while True:
            chosen = [number for number, record in enumerate(records) if record.again or number not in answered]
            answers = self._boot(place, self._initrd(records, chosen, suspect))
            found = self._answers(answers)
            if found:
                self.release = found[0][1].decode()
            new = [number for number in chosen[: max(0, len(found) - 1)] if number not in answered]
            for number, answer in zip(chosen, found[1:], strict=False):
                if number not in answered:
                    records[number].read(*answer)
            answered.update(new)
            if answers.endswith(_END):
                return
            failures = 0 if new else failures + 1
            if failures >= 3:
                raise SystemExit(f"{self.image}: the guest did not finish; see its console:\n{self._console(place)}")
            first = next(number for number in chosen if number not in answered)
            if first == suspect and found:
                records[first].read(_DIED, self._console(place).encode(), 0)
                answered.add(first)
                failures = 0
            suspect = first

    @staticmethod
    def _initrd(records: Sequence[_Record], chosen: Sequence[int], suspect: int) -> bytes:
        watched = range(suspect, suspect + _WATCHED if suspect >= 0 else suspect)
        batch = b"".join(records[number].watched() if number in watched else records[number].data for number in chosen)
        return archive(guest_init(), {"batch": batch})

    @staticmethod
    def _answers(answers: bytes) -> list[tuple[int, bytes, int]]:
        """The whole answers that came, the greeting first; the end's own is left out."""
        found: list[tuple[int, bytes, int]] = []
        at, end = 0, len(answers) - (len(_END) if answers.endswith(_END) else 0)
        while at + 16 <= end:
            magic, result, size, whole = struct.unpack_from("=IiII", answers, at)
            if magic != _MAGIC:
                raise SystemExit("the guest's answers are garbled")
            if at + 16 + size > end:
                break
            found.append((result, answers[at + 16 : at + 16 + size], whole))
            at += 16 + size
        return found

    def _boot(self, place: Path, initrd: bytes) -> bytes:
        (place / "initrd").write_bytes(initrd)
        (place / "answers").unlink(missing_ok=True)
        command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(self.cpus),
            "-m", str(MEMORY_MB), "-display", "none", "-no-reboot", "-nic", "none",
            "-serial", f"file:{place / 'console'}", "-serial", f"file:{place / 'answers'}",
            "-kernel", str(self.image), "-initrd", str(place / "initrd"), "-append", "console=ttyS0 quiet panic=-1",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            _watch(process, place / "answers", quiet_seconds=300)
        finally:
            process.kill()
            process.wait()
        found = place / "answers"
        return found.read_bytes() if found.exists() else b""

    @staticmethod
    def _console(place: Path) -> str:
        return (place / "console").read_bytes().decode("utf-8", "replace")[-3000:]


def _watch(process: subprocess.Popen[bytes], answers: Path, quiet_seconds: float) -> None:
    """Wait for the end of the guest; give up when nothing came for a long time."""
    size, since = -1, time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)
        now = answers.stat().st_size if answers.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > quiet_seconds:
            return
        if now >= len(_END):
            with answers.open("rb") as file:
                file.seek(-len(_END), os.SEEK_END)
                if file.read() == _END:
                    return


def _module_answer(name: str) -> Callable[[int, bytes, int], None]:
    def read(result: int, text: bytes, whole: int) -> None:
        if result:
            raise SystemExit(f"the guest refused module {name}: {os.strerror(-result)}")

    return read


def _named_target(spec: ProgramSpec) -> str:
    """What the program itself says it attaches to, as the kernel's types call it."""
    row = BTF_TARGETS.get(spec.attach_type or "")
    return row[0] + spec.attach_target if row is not None and spec.attach_target else ""


class _Maker:
    """Turns programs into records: maps and types once per shape, then the program."""

    def __init__(self, guest: Guest, batch: _Batch, kept: set[int | None]) -> None:
        self.guest = guest
        self.batch = batch
        self.verdicts: list[Any] = []
        self._kept = kept
        self._program_fds: dict[int, int] = {}
        self._maps: dict[Any, int] = {}
        self._types: dict[Any, tuple[Any, int]] = {}
        self._refused: dict[int, str] = {}  # descriptor -> what the kernel did not take

    def add(self, load: Load) -> None:
        number = len(self.verdicts)
        self.verdicts.append(None)
        used: list[int] = []
        try:
            self._add(load, number, used)
        except EbpfError as error:
            self.verdicts[number] = NotSubmitted(False, 22, 0, 0, str(error))

    def _add(self, load: Load, number: int, used: list[int]) -> None:
        spec = load.spec
        btf_fd, func_info = 0, b""
        if needs_types(spec):
            btf_fd = self._btf(spec)
            used.append(btf_fd)
        if has_function_types(spec):
            func_info = b"".join(struct.pack("=II", info.slot, info.type_id) for info in spec.func_infos)

        def map_fd(shape: MapSpec) -> int:
            fd = self._map(shape, btf_fd, spec.prog_type if shape.type == "prog_array" else "")
            used.append(fd)
            return fd

        code = encode_for(spec, map_fd, lambda name: self.guest.vmlinux.find_id(name, Func), self.guest.vmlinux)
        fd = self.batch.new_fd() if number in self._kept else 0
        self._program_fds[number] = fd
        pointers = {
            _offset(attrs.ProgLoad, "insns"): code,
            _offset(attrs.ProgLoad, "license"): spec.license.encode() + b"\0",
        }
        attr = attrs.ProgLoad(
            prog_type=PROG_TYPES[spec.prog_type].id,
            insn_cnt=len(code) // 8,
            log_level=load.log_level,
            prog_flags=spec.flags,
            prog_name=kernel_name(spec.name),
            kern_version=spec.kernel_version,
            expected_attach_type=self._attach_number(load),
            attach_btf_id=load.attach_id or self._find(load.attach_to or _named_target(spec)),
            attach_prog_fd=self._program_fds[load.replaces] if load.replaces is not None else 0,
        )
        if func_info:
            attr.prog_btf_fd, attr.func_info_rec_size, attr.func_info_cnt = btf_fd, 8, len(spec.func_infos)
            pointers[_offset(attrs.ProgLoad, "func_info")] = func_info

        def read(result: int, text: bytes, whole: int) -> None:
            log = text.decode("utf-8", "replace")
            if result == _DIED:
                print(f"Linux {self.guest.release} does not survive {spec.name} (number {number})", file=sys.stderr)
                self.verdicts[number] = GuestDied(False, 5, 0, 0, log)
                return
            refused = next((self._refused[one] for one in used if one in self._refused), None)
            found = verdict_of(result == 0, -result, log)
            self.verdicts[number] = found if refused is None else NotSubmitted(False, -result, 0, 0, refused)

        log = (_offset(attrs.ProgLoad, "log_buf"), _offset(attrs.ProgLoad, "log_size"), load.log_tail, load.log_room)
        self.batch.call(
            Command.PROG_LOAD, _attr(attr), pointers, fd=fd, log=log if load.log_level else None, user=load.user,
            again=bool(fd), read=read,
        )  # fmt: skip

    @staticmethod
    def _attach_number(load: Load) -> int:
        if load.attach_number is not None:
            return load.attach_number
        return ATTACH_TYPES[load.spec.attach_type].id if load.spec.attach_type else 0

    def _find(self, name: str) -> int:
        if not name:
            return 0
        vmlinux = self.guest.vmlinux
        for kind in (Func, Typedef, Struct):
            number = vmlinux.find_id(name, kind)
            if number:
                return number
        raise UsageError(f"{self.guest.image.name} has no type or function called {name}")

    def _btf(self, spec: ProgramSpec) -> int:
        key = (id(spec.btf), spec.func_infos)
        found = self._types.get(key)
        if found is None:
            data = kernel_types(spec).to_bytes()
            fd = self.batch.new_fd()
            found = self._types[key] = (spec.btf, fd)
            attr = attrs.BtfLoad(btf_size=len(data), btf_log_level=1)
            log = (_offset(attrs.BtfLoad, "btf_log_buf"), _offset(attrs.BtfLoad, "btf_log_size"), 400, 0)
            self.batch.call(
                Command.BTF_LOAD, _attr(attr), {0: data}, fd=fd, log=log, read=self._note(fd, "the program's types")
            )
        return found[1]

    def _note(self, fd: int, what: str) -> Callable[[int, bytes, int], None]:
        def read(result: int, text: bytes, whole: int) -> None:
            if result:
                self._refused[fd] = f"{what}: {os.strerror(-result)} {text.decode('utf-8', 'replace')[-200:]}"

        return read

    def _map(self, spec: MapSpec, btf_fd: int, owner: str = "") -> int:
        """The descriptor of a map of this shape; `owner`: the type of programs that a program array binds itself to."""
        typed = bool(btf_fd) and spec.type not in _MAPS_WITHOUT_BTF and bool(spec.btf_value_type)
        key = (
            spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags, spec.frozen, spec.data, spec.inner,
            (spec.btf_value_type, btf_fd) if typed else None, owner,
        )  # fmt: skip
        found = self._maps.get(key)
        if found is not None:
            return found
        inner = self._map(spec.inner, 0) if spec.inner is not None else 0
        fd = self._maps[key] = self.batch.new_fd()
        attr = attrs.MapCreate(
            map_type=map_type_number(spec.type), key_size=spec.key_size, value_size=spec.value_size,
            max_entries=_bounded_entries(spec), map_flags=spec.flags | (0x80 if spec.frozen else 0),
            inner_map_fd=inner, map_name=kernel_name(spec.name), map_extra=spec.map_extra,
        )  # fmt: skip
        if typed:
            attr.btf_fd = btf_fd
            attr.btf_key_type_id, attr.btf_value_type_id = spec.btf_key_type, spec.btf_value_type
            self.batch.call(Command.MAP_CREATE, _attr(attr), fd=fd)
            attr.btf_fd = attr.btf_key_type_id = attr.btf_value_type_id = 0
        self.batch.call(
            Command.MAP_CREATE, _attr(attr), fd=fd, unless_open=typed,
            read=self._note(fd, f"map {spec.name} of type {spec.type}"),
        )  # fmt: skip
        if spec.data is not None:
            pointers = {
                _offset(attrs.Elem, "key"): bytes(4),
                _offset(attrs.Elem, "value"): spec.data.ljust(spec.value_size, b"\0"),
            }
            self.batch.call(Command.MAP_UPDATE_ELEM, _attr(attrs.Elem(map_fd=fd)), pointers)
        if spec.frozen:
            self.batch.call(Command.MAP_FREEZE, _attr(attrs.Elem(map_fd=fd)))
        return fd


def _bounded_entries(spec: MapSpec) -> int:
    """Large maps take minutes to make under emulation; the number of entries beyond a bound changes no verdict."""
    entries = effective_max_entries(spec)
    if spec.type in ("ringbuf", "user_ringbuf", "arena", "perf_event_array") or spec.data is not None:
        return entries
    return min(entries, max(1, MAX_MAP_BYTES // max(8, spec.value_size + spec.key_size)))


_INIT: list[bytes] = []


def guest_init() -> bytes:
    """The guest's first process, compiled once."""
    if not _INIT:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "init"
            source = Path(__file__).with_name("guest_loader.c")
            compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-static", "-O1"]
            subprocess.run([*compiler, str(source), "-o", str(output)], check=True)
            _INIT.append(output.read_bytes())
    return _INIT[0]


def find_image(series: str) -> Path:
    """The newest image of a series ("6.1") among those fetched and in /boot."""
    wanted = parse_version(series)
    found: list[tuple[list[int], Path]] = []
    for path in [*FOLDER.glob("*/boot/vmlinuz-*"), *Path("/boot").glob("vmlinuz-*")]:
        release = path.name.removeprefix("vmlinuz-")
        if path.suffix != ".btf" and parse_version(release) == wanted:
            found.append(([int(number) for number in re.findall(r"\d+", release)], path))
    if not found:
        raise UsageError(f"no image of Linux {series}: python tools/guest_kernel.py --fetch {series}")
    return max(found)[1]


def fetch(series: str) -> Path:
    """Download and unpack Debian's newest cloud image of a series (6.12: needs bookworm-backports in the sources)."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    pattern = rf"^linux-image-{re.escape(series)}\.[^ ]*cloud-amd64$"
    lines = subprocess.run(["apt-cache", "search", "--names-only", pattern], capture_output=True, text=True, check=True)
    names = [line.split()[0] for line in lines.stdout.splitlines()]
    if not names:
        raise UsageError(f"apt knows no cloud image of Linux {series}")
    newest = max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", newest], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(FOLDER / newest)], check=True)
    return find_image(series)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", nargs="?", help="a series that was fetched, or a path to a vmlinuz")
    parser.add_argument("objects", nargs="*", type=Path)
    parser.add_argument("--log-level", type=int, default=1)
    parser.add_argument("--log-tail", type=int, default=2048)
    parser.add_argument("--fetch", nargs="+", metavar="SERIES", default=[])
    options = parser.parse_args()
    for series in options.fetch:
        print(fetch(series))
    if not options.kernel:
        return 0
    from ebpfkit.elf import read_object

    guest = Guest(options.kernel)
    specs = [spec for path in options.objects for spec in read_object(path).programs.values()]
    for spec, verdict in zip(
        specs, guest.load([Load(s, options.log_level, options.log_tail) for s in specs]), strict=True
    ):
        print(f"{spec.name}: {'accepted' if verdict.accepted else 'refused'}, {verdict.processed} walked")
        if not verdict.accepted or options.log_level > 1:
            print(verdict.log)
    print(f"Linux {guest.release}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
