#!/usr/bin/env python3
"""The running kernel's verdict for users without any capability, as an oracle like `verifier_kernel`'s.

Wants root, to let others use bpf(2) for a while: `kernel.unprivileged_bpf_disabled` is 0 inside the `with` block, and
what it was before afterwards. A child process gives up every capability and loads one program after the other; maps are
made by the parent and inherited.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verifier_kernel import KernelOracle, Verdict

SYSCTL = Path("/proc/sys/kernel/unprivileged_bpf_disabled")
NOBODY = 65534


@contextmanager
def unprivileged_bpf() -> Iterator[None]:
    """bpf(2) is open to everyone inside."""
    before = SYSCTL.read_text()
    SYSCTL.write_text("0")
    try:
        yield
    finally:
        SYSCTL.write_text(before)


def ask_unprivileged(oracle: KernelOracle, specs: list[Any], **options: Any) -> list[Verdict]:
    """The verdicts on programs whose maps are made first, with privilege; raises RuntimeError when the child fails."""
    for spec in specs:
        oracle.prepare(spec)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            with os.fdopen(writer, "wb") as stream:
                pickle.dump([oracle.ask(spec, **options) for spec in specs], stream)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the child that asks the kernel failed")
    found: list[Verdict] = pickle.loads(data)
    return found


def main() -> int:
    """Print which helpers programs of unprivileged users may call, one line for each program type."""
    from ebpfkit.abi.helpers import HELPERS
    from ebpfkit.asm.parser import parse
    from ebpfkit.elf.model import ProgramSpec

    oracle = KernelOracle()
    with unprivileged_bpf():
        for prog_type in ("socket_filter", "cgroup_skb"):
            specs = [
                ProgramSpec("p", prog_type, prog_type, tuple(parse(f"call {number}\nr0 = 0\nexit")), "GPL")
                for number in HELPERS
            ]
            verdicts = ask_unprivileged(oracle, specs)
            names = [
                row.name
                for row, verdict in zip(HELPERS.values(), verdicts, strict=True)
                if "cannot use helper" not in verdict.log and "invalid func" not in verdict.log and verdict.log
            ]
            print(f"{prog_type}: {' '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
