"""Limits of the kernel's verifier and loader, each with what it counts."""

from __future__ import annotations

from typing import Final

MAX_INSNS: Final = 1_000_000
"""Instructions of a program that a privileged user may load (since 5.2; before that 4,096 for everyone)."""

MAX_INSNS_UNPRIVILEGED: Final = 4_096
"""Instructions of a program that an unprivileged user may load."""

LARGE_PROGRAMS_SINCE: Final = "5.2"
"""The kernel that raised the limit of 4,096 instructions, and walked instructions from 131,072, to 1,000,000."""

MAX_PROCESSED: Final = 1_000_000
"""Instructions that the verifier walks before it gives up."""

MAX_PENDING: Final = 8_192
"""Branches that may wait to be walked."""

MAX_FRAMES: Final = 8
"""Nested calls, the main program included."""

MAX_STACK: Final = 512
"""Bytes of stack, for one frame and for a whole chain of calls."""

MAX_STACK_BEFORE_TAIL_CALL: Final = 256
"""Bytes of stack of the callers of a function that makes tail calls."""

STACK_ROUNDING: Final = 16
"""Bytes to which each frame is rounded up with the x86-64 JIT (32 without a JIT)."""

STACK_ROUNDING_INTERPRETER: Final = 32

MAX_SUBPROGRAMS: Final = 256
"""Functions of a program."""

MAX_USED_MAPS: Final = 64
"""Maps that a program refers to."""

MAX_STATES_PER_INSN_UNPRIVILEGED: Final = 64
"""Stored states at one instruction for an unprivileged user."""

MAX_VARIABLE_OFFSET: Final = 1 << 29
"""Magnitude below which offsets and sizes are followed."""

MAX_PACKET_OFFSET: Final = 0xFFFF
"""Largest offset into a packet that a comparison can prove."""

MAX_CALL_ARGS: Final = 5
"""Arguments of a helper or function."""

MAX_TAIL_CALLS: Final = 33
"""Tail calls in a row at run time."""

MAX_LOOP_ITERATIONS: Final = 1 << 23
"""Rounds of bpf_loop; may_goto loops too."""

MAX_LOG_SIZE: Final = (1 << 30) - 1
"""Bytes of a verifier log buffer (since 5.18 or so; 16 MiB - 1 before)."""

MAX_LOG_SIZE_OLD: Final = (1 << 24) - 1

MAX_NAME: Final = 16
"""Bytes of a program or map name, with the final zero."""

MAX_KEY_SIZE: Final = 512
"""Bytes of a key that a program passes on its stack."""

MAX_LPM_DATA: Final = 256
"""Bytes of address in a key of an lpm_trie."""

ERRNO_RANGE: Final = 4_095
"""Helpers that return errors return them within -ERRNO_RANGE .. -1."""

PAGE_SIZE: Final = 4_096
"""Bytes of a page, and of the buffer of an XDP packet, on x86-64 and on arm64 with small pages."""

ETHERNET_HEADER: Final = 14
"""Bytes that XDP programs must leave of a packet."""

XDP_FRAME_BYTES: Final = 40
"""Bytes at the start of the headroom that the kernel keeps (struct xdp_frame): nothing grows there."""

XDP_TAILROOM: Final = 320
"""Bytes at the end of the buffer that the kernel keeps (struct skb_shared_info on 64-bit machines)."""

MAX_XDP_META: Final = 255
"""Bytes of metadata in front of an XDP packet (32 in older kernels)."""

DATA_MAPPED_SINCE: Final = "5.5"
"""The kernel from which on arrays can be mapped (BPF_F_MMAPABLE), so that user space shares global variables."""

XDP_TEST_CONTEXT_SINCE: Final = "5.15"
"""The kernel from which on BPF_PROG_TEST_RUN takes and gives a context of XDP programs."""
