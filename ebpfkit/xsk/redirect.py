"""The default program: every packet of a queue to the AF_XDP socket bound to it, or up the stack when there is none.

Written with the assembler, so that no compiler is needed; libxdp's names for map and program are kept. A program of
the user's own does the same with an XSK map of its own.
"""

from __future__ import annotations

from ebpfkit.abi import uapi
from ebpfkit.asm.builder import Builder
from ebpfkit.asm.insn import R1, R2, R3
from ebpfkit.btf.build import BtfBuilder
from ebpfkit.btf.types import Btf
from ebpfkit.elf.model import FuncInfo, MapSpec, ObjectFile, ProgramSpec
from ebpfkit.elf.run_config import RunConfig, add_run_config

__all__ = ["DEFAULT_SLOTS", "MAP_NAME", "PROGRAM_NAME", "redirect_object"]

MAP_NAME = "xsks_map"
PROGRAM_NAME = "xsk_def_prog"
DEFAULT_SLOTS = 64

_PRIORITY = 20
_RX_QUEUE_INDEX = 16  # byte offset of xdp_md.rx_queue_index


def redirect_object(slots: int = DEFAULT_SLOTS, *, frags: bool = False) -> ObjectFile:
    """The program and its map of `slots` sockets, indexed by queue.

    `frags` lets the program see packets of several buffers, which native mode needs at large MTUs (Linux 5.18).
    """
    xsks = MapSpec(MAP_NAME, "xskmap", key_size=4, value_size=4, max_entries=slots)
    # The action for an empty slot rides in the flags of redirect_map (Linux 5.3).
    instructions = (
        Builder()
        .load(4, R2, R1, _RX_QUEUE_INDEX)
        .load_map(R1, MAP_NAME)
        .mov(R3, uapi.XDP_PASS)
        .call("bpf_redirect_map")
        .exit()
        .build()
    )
    types, function = _types()
    program = ProgramSpec(
        name=PROGRAM_NAME,
        section="xdp.frags" if frags else "xdp",
        prog_type="xdp",
        instructions=tuple(instructions),
        license="Apache-2.0",
        attach_type="xdp",
        maps={MAP_NAME: xsks},
        func_infos=(FuncInfo(0, PROGRAM_NAME, function, True),),
        btf=types,
        flags=uapi.BPF_F_XDP_HAS_FRAGS if frags else 0,
        origin="ebpfkit",
    )
    return ObjectFile(
        programs={PROGRAM_NAME: program}, maps={MAP_NAME: xsks}, license="Apache-2.0", btf=types, path="<ebpfkit>"
    )


def _types() -> tuple[Btf, int]:
    """The function's type, which a dispatcher needs, with libxdp's priority for it; and its id."""
    builder = BtfBuilder()
    context = builder.struct("xdp_md", 0, ())
    integer = builder.integer("int", 4, signed=True)
    function = builder.func(PROGRAM_NAME, builder.func_proto(integer, [("ctx", builder.pointer(context))]))
    add_run_config(builder, {PROGRAM_NAME: RunConfig(_PRIORITY)})
    return builder.build(), function
