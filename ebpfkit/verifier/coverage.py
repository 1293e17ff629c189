"""What the verifier has no model of, read from its own tables and sources: what `verify --coverage` prints.

Program types are tried, helpers and kernel functions compared with the tables that calls are judged by, and the
features are those that the code names when it gives up. Nothing is listed by hand.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ebpfkit.abi.helpers import HELPERS
from ebpfkit.abi.kfunc_table import PROTOTYPES
from ebpfkit.abi.kfuncs import FLAGS
from ebpfkit.abi.model import ArgKind, HelperSpec
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.insn import R0, Instruction
from ebpfkit.asm.isa import OPCODES
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier.arguments import MODELLED_KINDS
from ebpfkit.verifier.transfer.calls import UNMODELLED_HELPERS
from ebpfkit.verifier.transfer.graph import CALLS
from ebpfkit.verifier.verify import verify_program

__all__ = ["Gap", "gaps", "render"]

_EVEN_THEN = {"lsm": "lsm_mac"}
_TARGETS = {"struct_ops": "tcp_congestion_ops/ssthresh"}


@dataclass(frozen=True, slots=True)
class Gap:
    """One thing without a model. `kind`: "program type", "helper", "kernel function" or "feature"; `why` may be ""."""

    kind: str
    name: str
    why: str = ""


def gaps() -> list[Gap]:
    """Everything that has no model, in the order of the kinds."""
    return [*_program_types(), *_helpers(), *_kernel_functions(), *_features()]


def counts() -> dict[str, int]:
    """How many of each kind there are in all, where that is a number."""
    return {"program type": len(PROG_TYPES), "helper": len(HELPERS), "kernel function": len(PROTOTYPES)}


def render(found: list[Gap]) -> str:
    """The table as text: one line per thing, after the number of each kind."""
    lines = []
    known = counts()
    for kind in ("program type", "helper", "kernel function", "feature"):
        mine = [gap for gap in found if gap.kind == kind]
        of = f" of {known[kind]}" if kind in known else ""
        lines.append(f"{kind}s without a model: {len(mine)}{of}")
        lines += [f"  {gap.name}" + (f": {gap.why}" if gap.why else "") for gap in mine]
    return "\n".join(lines)


def _program_types() -> Iterator[Gap]:
    insns = (Instruction(OPCODES["MOV64_IMM"], R0), Instruction(OPCODES["EXIT"]))
    for name, row in PROG_TYPES.items():
        attach = _EVEN_THEN.get(name) or (row.attach_types[0] if row.needs_attach_type else None)
        spec = ProgramSpec(name, name, name, insns, "GPL", attach_type=attach, attach_target=_TARGETS.get(name))
        report = verify_program(spec)
        if report.verdict == "unsupported" and "--btf" not in report.message:
            yield Gap("program type", name, report.message.removeprefix("ebpfkit does not model "))


def _helpers() -> Iterator[Gap]:
    for row in HELPERS.values():
        why = _why_not(row)
        if why:
            yield Gap("helper", row.name, why)


def _why_not(row: HelperSpec) -> str:
    if row.name in UNMODELLED_HELPERS:
        return UNMODELLED_HELPERS[row.name]
    if row.args is None:
        return "its arguments are not known"
    unknown = {arg.kind for arg in row.args} - MODELLED_KINDS - {ArgKind.UNCHECKED}
    return ", ".join(sorted(f"arguments of kind {kind.value}" for kind in unknown))


def _kernel_functions() -> Iterator[Gap]:
    for name in PROTOTYPES:
        if name not in FLAGS and name not in CALLS:
            yield Gap("kernel function", name)


def _features() -> Iterator[Gap]:
    """What the sources of this room raise `Unmodelled` with; a part that depends on the program is an ellipsis."""
    seen: set[str] = set()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if isinstance(node.func, ast.Name) and node.func.id == "Unmodelled":
                text = _text_of(node.args[0])
                if text and text not in seen:
                    seen.add(text)
                    yield Gap("feature", text)


def _text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
    return ""
