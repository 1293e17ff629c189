"""Every access of every width at every offset: what the rows say is what the kernel says."""

from __future__ import annotations

import itertools
import re

import pytest

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.model import ContextField, ContextSpec, FieldResult
from ebpfkit.abi.prog_types import PROG_TYPES
from tests.abi.loads import SIZE_CODES, exit_with, insn, verdict

# One program type for each context, with all its attach types.
SAMPLES = {row.context: row.name for row in reversed(PROG_TYPES.values()) if row.context}
# Linux here has no infrared receivers.
MEASURED = [name for name in CONTEXTS if not CONTEXTS[name].raw and name != "lirc_mode2"]
PRINTED = {
    FieldResult.BTF: "trusted_ptr_",
    FieldResult.PACKET: "pkt",
    FieldResult.PACKET_END: "pkt_end",
    FieldResult.PACKET_META: "pkt_meta",
    FieldResult.SOCK_COMMON_OR_NULL: "sock_common_or_null",
    FieldResult.SOCKET_OR_NULL: "sock_or_null",
    FieldResult.SOCKET: "sock",
    FieldResult.FLOW_KEYS: "flow_keys",
}


def field_allows(field: ContextField, offset: int, size: int, write: bool, attach_type: str | None) -> bool:
    """Whether this field is the one that makes the access legal."""
    end = field.offset + field.size * field.count
    if not field.offset <= offset < end:
        return False
    if field.attach_types is not None and attach_type not in field.attach_types:
        return False
    if write and field.write_attach_types is not None and attach_type not in field.write_attach_types:
        return False
    if not (field.writable if write else field.readable):
        return False
    inside = (offset - field.offset) % field.size
    if write and field.write_first_only and offset >= field.offset + field.size:
        return False
    if size == field.size:
        return inside == 0
    if not write and size in field.wider_sizes and offset == field.offset:
        return True
    if size > field.size:
        return field.wide and size == 8 and offset % 8 == 0 and offset + 8 <= end
    if not write and ((field.narrow_at_start and inside) or (field.narrow_sizes and size not in field.narrow_sizes)):
        return False
    return (field.write_narrow if write else field.narrow) and offset % size == 0


def allows(spec: ContextSpec, offset: int, size: int, write: bool, attach_type: str | None) -> bool:
    if spec.raw:
        return not write and offset % size == 0 and spec.start <= offset and offset + size <= spec.size
    return any(field_allows(field, offset, size, write, attach_type) for field in spec.fields)


def accepted(code: bytes, prog_type: str, attach_type: str | None) -> tuple[bool, str]:
    for value in (1, 0):
        taken, log = verdict(code + exit_with(value), prog_type, attach_type, level=2)
        if taken:
            return True, log
    return False, log


@pytest.mark.parametrize("context", MEASURED)
@pytest.mark.kernel
def test_every_access_is_judged_as_the_kernel_does(context: str) -> None:
    spec, prog_type = CONTEXTS[context], SAMPLES[context]
    differences = []
    for attach_type in PROG_TYPES[prog_type].attach_types if prog_type != "sched_cls" else (None,):
        for offset in range(spec.size + 8):
            for size, code in SIZE_CODES.items():
                for write in (False, True):
                    access = (
                        insn(0xB7, 2) + insn(0x63 | code, 1, 2, offset) if write else insn(0x61 | code, 2, 1, offset)
                    )
                    kernel = accepted(access, prog_type, attach_type)[0]
                    if kernel != allows(spec, offset, size, write, attach_type):
                        differences.append((attach_type, offset, size, "write" if write else "read", kernel))
    assert not differences


@pytest.mark.parametrize("context", ["pt_regs", "tracepoint", "bpf_raw_tracepoint_args"])
@pytest.mark.kernel
def test_raw_contexts_are_aligned_reads_within_their_size(context: str) -> None:
    spec, prog_type = CONTEXTS[context], SAMPLES[context]
    edges = [*range(24), *range(spec.size - 16, spec.size + 8)]
    for offset in edges:
        for size, code in SIZE_CODES.items():
            kernel = accepted(insn(0x61 | code, 2, 1, offset), prog_type, None)[0]
            assert kernel == allows(spec, offset, size, False, None), (offset, size, kernel)
    assert not accepted(insn(0xB7, 2) + insn(0x7B, 1, 2, 16), prog_type, None)[0]


@pytest.mark.parametrize("context", MEASURED)
@pytest.mark.kernel
def test_fields_yield_what_the_kernel_says(context: str) -> None:
    spec, prog_type = CONTEXTS[context], SAMPLES[context]
    for field in spec.fields:
        attach_types = field.attach_types or PROG_TYPES[prog_type].attach_types
        attach_type = sorted(attach_types)[0] if attach_types and prog_type != "sched_cls" else None
        code = insn(0x61 | SIZE_CODES[field.size], 2, 1, field.offset)
        taken, log = accepted(code, prog_type, attach_type)
        printed = re.search(r"R2(?:_w)?=([a-z_]+)", log)
        assert taken and printed, field.name
        assert printed[1] == PRINTED.get(field.result, "scalar") + field.btf_type, field.name


def test_rows_are_sound() -> None:
    for name, spec in CONTEXTS.items():
        assert spec.name == name
        ends = [(field.offset, field.offset + field.size * field.count, field.name) for field in spec.fields]
        for (_, end, first), (start, _, second) in itertools.pairwise(ends):
            assert end <= start, f"{name}: {first} overlaps {second}"
        assert not ends or ends[-1][1] <= spec.size
    assert set(SAMPLES) == set(CONTEXTS)


def test_the_fields_of_xdp_md_are_where_its_documentation_puts_them() -> None:
    offsets = {field.name: field.offset for field in CONTEXTS["xdp_md"].fields}
    names = ("data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index", "egress_ifindex")
    assert offsets == {name: 4 * number for number, name in enumerate(names)}
