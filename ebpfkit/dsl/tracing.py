"""`trace(f"...")`: a line of text for whoever watches a program while it is written.

The kernel's is in /sys/kernel/tracing/trace_pipe, the virtual machine's and plain Python's in the result of the run.
"""

from __future__ import annotations

from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run

__all__ = ["trace"]


def trace(text: str, /) -> None:
    """Print a line (bpf_trace_printk, or bpf_trace_vprintk for more than three values): for finding mistakes, as it is
    slow and the same for all programs of the machine.

    The text is an f-string of integers, MAC and IPv4 addresses, with widths and `x` as Python's: `{n}`, `{n:08x}`.
    """
    run = current_run()
    if run is None:
        refuse("program-only", "trace() has a meaning only in a running program", "write print(...)")
    run.traced.append(text)
