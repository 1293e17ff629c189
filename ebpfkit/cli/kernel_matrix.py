"""`ebpfkit verify --kernel all`: every program against every long-term kernel, and the oldest one that takes it.

A program in Python is compiled for each kernel anew; an object stays as it is. Judging one kernel is `cli/verify.py`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ebpfkit.cli.status import print_json, worst_verdict

if TYPE_CHECKING:
    from ebpfkit.verifier.report import ProgramReport

__all__ = ["oldest_taker", "print_matrix"]

_SIGNS = {"accept": "yes", "reject": "no", "unsupported": "?"}
Matrix = dict[str, dict[str, "ProgramReport | str"]]


def print_matrix(
    files: tuple[Path, ...],
    names: tuple[str, ...],
    host: Path | None,
    unprivileged: bool,
    btf: Path | None,
    legacy: bool,
    max_insns: int,
    as_json: bool,
) -> int:
    """Judge for every long-term series and print the matrix. The exit status is that of the newest kernel."""
    from ebpfkit.abi.versions import LONGTERM

    matrix: Matrix = {}
    for file in files:
        matrix |= _judge(file, names, host, unprivileged, btf, legacy, max_insns)
    newest = [_verdict(row[LONGTERM[-1]]) for row in matrix.values()]
    if as_json:
        print_json([_to_json(name, row) for name, row in matrix.items()])
        return worst_verdict(newest)
    for name, row in matrix.items():
        click.echo(_render(name, row))
    return worst_verdict(newest)


def _judge(
    file: Path,
    names: tuple[str, ...],
    host: Path | None,
    unprivileged: bool,
    btf: Path | None,
    legacy: bool,
    max_insns: int,
) -> Matrix:
    """Program -> kernel -> report, or the reason why there is none."""
    from ebpfkit import pipeline
    from ebpfkit.abi.versions import LONGTERM
    from ebpfkit.errors import EbpfError
    from ebpfkit.pipeline.profiles import chosen_profile
    from ebpfkit.verifier import verify_program

    matrix: Matrix = {}
    types = pipeline.open_kernel_btf(btf)
    for kernel in LONGTERM:
        profile = chosen_profile(kernel, host, unprivileged)
        try:
            source = pipeline.open_source(file, kernel=kernel, btf=btf, legacy=legacy)
        except EbpfError as error:
            if kernel == LONGTERM[-1]:
                raise
            for row in matrix.values():
                row[kernel] = str(error)
            continue
        for spec in source.select(names):
            report = verify_program(spec, profile, max_insns=max_insns, kernel_btf=types)
            matrix.setdefault(spec.name, {})[kernel] = report
        for name, why in ({} if names else source.object.problems).items():
            matrix.setdefault(name, {})[kernel] = why
    for row in matrix.values():
        for kernel in LONGTERM:
            row.setdefault(kernel, "the program is not built for it")
    return matrix


def _verdict(cell: ProgramReport | str) -> str:
    return "unsupported" if isinstance(cell, str) else cell.verdict


def _reason(cell: ProgramReport | str) -> str:
    if isinstance(cell, str):
        return cell
    place = "" if cell.insn is None else f" at instruction {cell.insn}"
    return f"{cell.message} ({cell.rule}{place})"


def oldest_taker(row: dict[str, ProgramReport | str]) -> str | None:
    """The oldest kernel from which on every one takes the program; None when the newest does not."""
    from ebpfkit.abi.versions import LONGTERM

    oldest = None
    for kernel in reversed(LONGTERM):
        if _verdict(row[kernel]) != "accept":
            break
        oldest = kernel
    return oldest


def _render(name: str, row: dict[str, ProgramReport | str]) -> str:
    from ebpfkit.abi.versions import LONGTERM, basis_of

    oldest = oldest_taker(row)
    head = f"{name}: from Linux {oldest} on" if oldest else f"{name}: not on Linux {LONGTERM[-1]}"
    width = max(len(kernel) for kernel in LONGTERM) + 2
    lines = [
        head,
        "  " + "".join(kernel.ljust(width) for kernel in LONGTERM),
        "  " + "".join(_SIGNS[_verdict(row[kernel])].ljust(width) for kernel in LONGTERM),
    ]
    reasons: dict[str, list[str]] = {}
    for kernel in LONGTERM:
        if _verdict(row[kernel]) != "accept":
            reasons.setdefault(_reason(row[kernel]), []).append(kernel)
    lines += [f"  {', '.join(kernels)}: {reason}" for reason, kernels in reasons.items()]
    measured = [kernel for kernel in LONGTERM if basis_of(kernel) == "measured"]
    lines.append(f"  measured: {', '.join(measured)}; the others by documentation")
    return "\n".join(lines)


def _to_json(name: str, row: dict[str, ProgramReport | str]) -> dict[str, object]:
    from ebpfkit.abi.versions import LONGTERM, basis_of

    kernels = [
        {
            "kernel": kernel,
            "verdict": _verdict(row[kernel]),
            "basis": basis_of(kernel),
            "reason": None if _verdict(row[kernel]) == "accept" else _reason(row[kernel]),
        }
        for kernel in LONGTERM
    ]
    return {"name": name, "oldest": oldest_taker(row), "kernels": kernels}
