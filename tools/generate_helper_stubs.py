"""Write `ebpfkit/dsl/helpers.pyi`, the signatures of the helpers for type checkers, from the rows in `ebpfkit.abi`.

python tools/generate_helper_stubs.py          # write the file
python tools/generate_helper_stubs.py --check  # exit status 1 when it is out of date
"""

from __future__ import annotations

import keyword
import sys
from pathlib import Path

from ebpfkit.abi.model import HelperSpec, RetKind
from ebpfkit.dsl import helpers

TARGET = Path(__file__).resolve().parent.parent / "ebpfkit" / "dsl" / "helpers.pyi"
HEADER = '''"""Signatures of the helpers; tools/generate_helper_stubs.py writes this file from ebpfkit.abi.helpers."""

from enum import IntEnum
from typing import Any

from ebpfkit.abi.model import ArgKind, HelperSpec, RetKind
from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.kernel_structs import Kernel
from ebpfkit.dsl.kfuncs import Dynptr
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.packet import Reader
from ebpfkit.dsl.sockets import Socket
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.trace_context import Context, TraceEvent
from ebpfkit.dsl.types import Integer, s64, u32, u64
from ebpfkit.dsl.verdicts import XdpAction

POINTERS: dict[RetKind, str]
PYTHON_TYPES: dict[ArgKind, str]
RESULT_TYPES: dict[str, type[Integer]]
UNSUPPORTED: dict[str, str]

class Helper:
    __ebpf_helper__: HelperSpec
    __name__: str
    names: tuple[str, ...]
    def __init__(self, spec: HelperSpec) -> None: ...
    def __call__(self, *args: Any, **named: Any) -> Any: ...

def offered() -> dict[str, HelperSpec]: ...
def reason_against(spec: HelperSpec) -> str: ...
def result_type(spec: HelperSpec, verdict: type[IntEnum] | None = ...) -> type[Integer] | type[IntEnum]: ...
'''


def signature(spec: HelperSpec) -> str:
    """One `def`; where a parameter has a name that is a keyword of Python, all are positional."""
    parameters = []
    for argument in spec.args or ():
        name = f"{argument.name}_" if keyword.iskeyword(argument.name) else argument.name
        parameters.append(f"{name}: {helpers.PYTHON_TYPES[argument.kind]}")
    if any(keyword.iskeyword(argument.name) for argument in spec.args or ()):
        parameters.append("/")
    result = helpers.POINTERS.get(spec.ret, "")
    if not result:
        result = "None" if spec.ret is RetKind.VOID else helpers.result_type(spec).__name__
    line = f"def {spec.name}({', '.join(parameters)}) -> {result}: ..."
    if len(line) <= 120:
        return line
    rows = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"def {spec.name}(\n{rows}) -> {result}: ..."


def render() -> str:
    """The whole file."""
    specs = [spec for _, spec in sorted(helpers.offered().items())]
    lines = [signature(spec) for spec in specs]
    aliases = [f"bpf_{spec.name} = {spec.name}" for spec in specs]
    return HEADER + "\n".join(lines) + "\n\n" + "\n".join(aliases) + "\n"


def main(arguments: list[str]) -> int:
    text = render()
    if arguments == ["--check"]:
        current = TARGET.read_text() == text
        if not current:
            print(f"{TARGET} is out of date: run python tools/generate_helper_stubs.py", file=sys.stderr)
        return 0 if current else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
