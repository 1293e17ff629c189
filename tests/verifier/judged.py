"""One program, two verdicts: the assertion that ours and the kernel's agree, in reason and length of the walk too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

    from ebpfkit.btf.types import Btf

_STEP = re.compile(r"^(\d+): (?:R\d.*?)?\([0-9a-f]{2}\) ", re.MULTILINE)
_NAMES = re.compile(r"map '[^']*'")
_NUMBERS = re.compile(r"(map_type|insn|id=|uid=|alloc_insn=|attached to|args#)[ =]?\w+")


def assert_agrees(spec: ProgramSpec, verdict: str, oracle: KernelOracle, kernel_btf: Btf | None = None) -> None:
    """The kernel says `verdict` and we say it too: as many instructions walked, or the same words at the same place."""
    report, kernel = verify_program(spec, kernel_btf=kernel_btf), oracle.ask(spec)
    end = "\n".join(kernel.log.splitlines()[-25:])
    assert ("accept" if kernel.accepted else "reject") == verdict, f"{report}\n{end}"
    assert report.verdict == verdict, f"{report}\n{end}"
    assert report.insns_processed == kernel.processed, f"{report}\n{end}"
    if verdict == "reject":
        ours, theirs = _plain(report.message), _plain(kernel.log)
        for part in ours.split("; "):
            assert part in theirs, f"{report}\n{end}"
        walked = _STEP.findall(kernel.log)
        # A loop is found before its instruction is printed.
        if walked and report.insn is not None and kernel.processed and report.rule != "infinite-loop":
            assert report.insn == int(walked[-1]), f"{report}\n{end}"


def _plain(text: str) -> str:
    # Maps of one shape are made once, and named by whoever came first.
    return _NAMES.sub("map", _NUMBERS.sub(r"\1", " ".join(text.split())))
