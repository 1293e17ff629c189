"""The same program in the kernel: memory in a packet, r0 back through it.

The body becomes a local function that is called with the address and length of the memory, from an XDP program that
checks the bounds first and stores r0 at the start of the packet afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ebpfkit.abi import uapi
from ebpfkit.asm.codec import encode
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.parser import parse
from ebpfkit.kernel import bpf

_RESULT = 8
_MINIMUM = 16


class KernelRun(NamedTuple):
    r0: int
    memory: bytes


class Rejected(Exception):
    """The kernel's verifier refused the program."""


def wrap(body: Sequence[Instruction], size: int) -> bytes:
    """The bytes of an XDP program around `body` with `size` bytes of memory."""
    room = max(_MINIMUM, _RESULT + size)
    head = parse(
        f"""
        r6 = r1
        r2 = *(u32 *)(r6 +4)
        r1 = *(u32 *)(r6 +0)
        r3 = r1
        r3 += {room}
        if r3 > r2 goto out
        r1 += {_RESULT}
        r2 = {size}
        call body
        r2 = *(u32 *)(r6 +4)
        r1 = *(u32 *)(r6 +0)
        r3 = r1
        r3 += {room}
        if r3 > r2 goto out
        *(u64 *)(r1 +0) = r0
        out:
        r0 = 2
        exit
        body:
        r0 = 0
        """
    )
    return encode(head)[:-8] + encode(body)


def run_in_kernel(body: Sequence[Instruction], memory: bytes = b"") -> KernelRun:
    """Load and run once. Raises Rejected with the log when the verifier refuses it."""
    data = wrap(body, len(memory))
    result = bpf.prog_load(uapi.BPF_PROG_TYPE_XDP, data, "GPL", log_level=1, log_size=1 << 16)
    if result.fd is None:
        raise Rejected(result.log)
    with result.fd:
        packet = (bytes(_RESULT) + memory).ljust(_MINIMUM, b"\0")
        out = bpf.test_run(result.fd, packet).data
    return KernelRun(int.from_bytes(out[:_RESULT], "little"), out[_RESULT : _RESULT + len(memory)])
