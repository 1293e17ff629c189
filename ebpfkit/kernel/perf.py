"""Perf events as places for programs: probes of kernel functions, tracepoints, and clocks that tick so often a second.

Packing `struct perf_event_attr` and opening; what is done with the descriptor is the caller's. Reading samples is not
here.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from pathlib import Path

from ebpfkit.errors import KernelError
from ebpfkit.kernel.bpf import HasFileno
from ebpfkit.kernel.fd import Fd

__all__ = ["open_bpf_output", "open_clock", "open_probe", "open_tracepoint", "set_bpf"]

_NUMBERS = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
_SOURCES = Path("/sys/bus/event_source/devices")
_TRACING = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_TYPE_SOFTWARE, _TYPE_TRACEPOINT = 1, 2
_COUNT_CPU_CLOCK, _COUNT_BPF_OUTPUT = 0, 10
_SAMPLE_RAW = 1 << 10
_FLAG_FREQUENCY = 1 << 10
_FLAG_FD_CLOEXEC = 8
_SIZE = 112
_ATTR = struct.Struct("=IIQQQQQIIQQ")  # up to config2; the rest is zero
_IOC_ENABLE, _IOC_SET_BPF = 0x2400, 0x4004_2408


def _open(attr: bytes, pid: int, cpu: int, what: str) -> Fd:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise KernelError(f"{what}: perf_event_open is not known on {platform.machine()}", errno=38)
    buffer = ctypes.create_string_buffer(attr.ljust(_SIZE, b"\0"), _SIZE)
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    fd = library.syscall(
        ctypes.c_long(number), buffer, ctypes.c_int(pid), ctypes.c_int(cpu), ctypes.c_int(-1),
        ctypes.c_ulong(_FLAG_FD_CLOEXEC),
    )  # fmt: skip
    if fd < 0:
        error = ctypes.get_errno()
        raise KernelError(f"{what}: {os.strerror(error)}", errno=error)
    return Fd(int(fd), "perf event")


def _attr(kind: int, config: int, *, sample: int = 0, flags: int = 0, config1: int = 0, config2: int = 0) -> bytes:
    return _ATTR.pack(kind, _SIZE, config, sample, 0, 0, flags, 0, 0, config1, config2)


def open_probe(function: str, *, at_return: bool = False, offset: int = 0) -> Fd:
    """A probe of a kernel function, where it begins or returns. Raises KernelError (ENOENT: no such function)."""
    source = _SOURCES / "kprobe"
    try:
        kind = int((source / "type").read_text())
    except OSError as error:
        raise KernelError("this kernel has no probes of functions (CONFIG_KPROBE_EVENTS)", errno=95) from error
    config = 0
    if at_return:
        config = 1 << int((source / "format" / "retprobe").read_text().partition(":")[2])
    name = ctypes.create_string_buffer(function.encode() + b"\0")
    attr = _attr(kind, config, config1=ctypes.addressof(name), config2=offset)
    return _open(attr, -1, 0, f"probing {function!r}")


def open_tracepoint(group: str, name: str) -> Fd:
    """A tracepoint by its group and name. Raises KernelError (ENOENT: no such tracepoint)."""
    for folder in _TRACING:
        path = folder / "events" / group / name / "id"
        if path.is_file():
            attr = _attr(_TYPE_TRACEPOINT, int(path.read_text()), sample=1)
            return _open(attr, -1, 0, f"tracepoint {group}:{name}")
    known = any((folder / "events").is_dir() for folder in _TRACING)
    why = (
        "there is no such tracepoint"
        if known
        else "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing"
    )
    raise KernelError(f"tracepoint {group}:{name}: {why}", errno=2)


def open_clock(hz: int, *, pid: int = -1, cpu: int = -1) -> Fd:
    """A clock that ticks `hz` times a second, of a process (`pid`; 0: this one) or a CPU. Raises KernelError."""
    attr = _attr(_TYPE_SOFTWARE, _COUNT_CPU_CLOCK, sample=hz, flags=_FLAG_FREQUENCY)
    return _open(attr, pid, cpu, f"a clock of {hz} Hz")


def open_bpf_output(cpu: int) -> Fd:
    """An event of that CPU which BPF programs output to; `perf_ring` reads it. Raises KernelError."""
    attr = _ATTR.pack(_TYPE_SOFTWARE, _SIZE, _COUNT_BPF_OUTPUT, 1, _SAMPLE_RAW, 0, 0, 1, 0, 0, 0)  # wake for each one
    return _open(attr, -1, cpu, f"a channel of CPU {cpu}")


def set_bpf(event: HasFileno, program: HasFileno) -> None:
    """Attach as kernels before 5.15 do: the program goes with the event's descriptor. Raises KernelError."""
    try:
        fcntl.ioctl(event.fileno(), _IOC_SET_BPF, program.fileno())
        fcntl.ioctl(event.fileno(), _IOC_ENABLE, 0)
    except OSError as error:
        raise KernelError(f"attaching to a perf event: {error.strerror}", errno=error.errno or 0) from error
