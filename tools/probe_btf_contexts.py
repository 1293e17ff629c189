#!/usr/bin/env python3
"""Ask the running kernel what typed tracepoints and iterators get, and print ebpfkit/abi/btf_contexts.py.

    sudo python tools/probe_btf_contexts.py > ebpfkit/abi/btf_contexts.py

Types of the arguments are in the kernel's BTF; what is not there is which of them may be null, may be an error number
or are buffers. One program per argument reads it, and the verifier's log says what it is.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from probe_helpers import insn

from ebpfkit.abi import uapi
from ebpfkit.btf.types import Btf, Func, FuncProto, Ptr, Struct, Typedef
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.kernel import bpf

TRACING = uapi.ENUMS["bpf_prog_type"]["BPF_PROG_TYPE_TRACING"]
RAW_TP = uapi.ENUMS["bpf_attach_type"]["BPF_TRACE_RAW_TP"]
ITER = uapi.ENUMS["bpf_attach_type"]["BPF_TRACE_ITER"]
_RESULT = re.compile(r"\bR2(?:_w)?=([a-z_]+)")

HEADER = '''"""What typed tracepoints and iterators hand to programs beyond what BTF says. Generated: do not edit.

Made by tools/probe_btf_contexts.py on Linux {release}. Rows only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

'''


def argument(btf_id: int, attach_type: int, number: int) -> str:
    """The kernel's word for the type of the argument; "" when it may not be read."""
    code = insn(0x79, 2, 1, 8 * number) + insn(0xB7) + insn(0x95)
    result = bpf.prog_load(
        TRACING, code, "GPL", expected_attach_type=attach_type, attach_btf_id=btf_id, log_level=2, log_size=1 << 15
    )
    if result.fd is None:
        return ""
    result.fd.close()
    found = _RESULT.search(result.log)
    return found[1] if found else ""


def tracepoints(btf: Btf) -> Iterator[tuple[str, int, FuncProto]]:
    for number, row in btf.iter_kind(Typedef):
        if row.name.startswith("btf_trace_"):
            pointer = btf.resolve(number)
            proto = btf.resolve(pointer.type) if isinstance(pointer, Ptr) else None
            if isinstance(proto, FuncProto):
                yield row.name.removeprefix("btf_trace_"), number, proto


def deviations(btf: Btf) -> Iterator[tuple[str, str]]:
    """Tracepoints with structures that may be null ("n") or an error ("e"), one letter for each argument."""
    for name, number, proto in tracepoints(btf):
        letters = ""
        for position, param in enumerate(proto.params[1:]):
            pointer = btf.resolve(param.type)
            if not isinstance(pointer, Ptr) or not isinstance(btf.resolve(pointer.type), Struct):
                letters += "-"
                continue
            word = argument(number, RAW_TP, position)
            letters += "n" if "or_null" in word else "e" if word == "scalar" else "-"
        if letters.strip("-"):
            yield name, letters.rstrip("-")


def iterators(btf: Btf) -> Iterator[tuple[str, tuple[str, ...]]]:
    for number, row in btf.iter_kind(Func):
        proto = btf.get(row.type)
        if not row.name.startswith("bpf_iter_") or not isinstance(proto, FuncProto) or len(proto.params) < 2:
            continue
        words = tuple(argument(number, ITER, position) for position in range(len(proto.params)))
        if any(words):
            # What follows the type is the name of the structure, which BTF knows.
            yield (
                row.name.removeprefix("bpf_iter_"),
                tuple(re.sub(r"(ptr_(?:or_null_)?).*", r"\1", word) for word in words),
            )


def main() -> None:
    btf = read_btf_file()
    print(HEADER.format(release=".".join(platform.release().split(".")[:2])), end="")
    print("RAW_TRACEPOINTS: Final[Mapping[str, str]] = {")
    for name, letters in sorted(deviations(btf)):
        print(f'    "{name}": "{letters}",')
    print("}")
    print('"""Arguments of tracepoints that are no plain trusted structure: "n" may be null, "e" a number."""')
    print("\nITERATORS: Final[Mapping[str, tuple[str, ...]]] = {")
    for name, words in sorted(iterators(btf)):
        print(f'    "{name}": {words!r},'.replace("'", '"'))
    print("}")
    print('"""The type of each argument of an iterator; structures by the type that BTF says."""')


if __name__ == "__main__":
    main()
