"""A linked program before the verifier: for which kernel, and what its verdict means."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ebpfkit.abi.model import HostProfile
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import UsageError
from ebpfkit.pipeline.sources import RUNNING_BTF, build

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf
    from ebpfkit.diag.explain import Diagnosis
    from ebpfkit.diag.render_html import PageProgram
    from ebpfkit.verifier.report import ProgramReport, Report

__all__ = ["diagnose", "open_kernel_btf", "page_program", "profile_for", "running_kernel", "verify", "verify_specs"]


def profile_for(kernel: str | None) -> HostProfile:
    """The profile of a named kernel (None: 6.18 on every machine; "current": the running one), for privileged users."""
    from ebpfkit.abi.versions import DEFAULT_KERNEL, KNOWN, basis_of, parse_version

    if kernel == "current":
        from ebpfkit.host.probe import host_profile

        return replace(host_profile(), privileged=True)
    major, minor = parse_version(DEFAULT_KERNEL if kernel is None else kernel)
    if f"{major}.{minor}" not in KNOWN:
        raise UsageError(f"nothing is known of Linux {major}.{minor}: there are {KNOWN[0]} to {KNOWN[-1]}")
    return HostProfile(kernel=f"{major}.{minor}", basis=basis_of(f"{major}.{minor}"))


def open_kernel_btf(path: str | os.PathLike[str] | None) -> Btf | None:
    """The types in a BTF or vmlinux file; None without a file, and where the running kernel has none."""
    from ebpfkit.btf.vmlinux import read_btf_file

    if path is None or (os.fspath(path) == RUNNING_BTF and not os.path.exists(path)):
        return None
    return read_btf_file(path)


def running_kernel() -> str:
    """The running kernel's series, such as "6.18"."""
    return profile_for("current").kernel


Verifiable = Any  # a decorated function, ObjectFile, ProgramSpec, list of Instruction, raw instruction bytes


def verify(
    x: Verifiable,
    prog_type: str = "xdp",
    maps: Sequence[MapSpec] = (),
    kernel: str | None = None,
    *,
    profile: HostProfile | None = None,
    max_insns: int = 1_000_000,
    btf: str | os.PathLike[str] | None = None,
) -> Report:
    """Predict the verdict of the kernel's verifier, without a kernel.

    `x` is a decorated function, an `ObjectFile`, a `ProgramSpec`, a list of `Instruction` or raw instruction bytes
    (whose wide map loads then refer to `maps` by index); `prog_type` and `maps` count for the last two. `kernel` is a
    version such as "6.6"; without one it means 6.18 on every machine. `max_insns` bounds the walk, as the kernel's
    million does. `btf` is a file with that kernel's types (BTF or vmlinux), which "current" finds by itself.
    """
    from ebpfkit.verifier import Report, verify_program

    chosen = profile or profile_for(kernel)
    specs = _specs_of(x, prog_type, maps, kernel)
    types = open_kernel_btf(RUNNING_BTF if btf is None and kernel == "current" else btf)
    return Report(tuple(verify_program(spec, chosen, max_insns=max_insns, kernel_btf=types) for spec in specs))


def _specs_of(x: Verifiable, prog_type: str, maps: Sequence[MapSpec], kernel: str | None) -> list[ProgramSpec]:
    from ebpfkit.dsl.program import Program
    from ebpfkit.elf.raw import program_from_code

    if isinstance(x, Program):
        return list(build(x, kernel=kernel).programs.values())
    if isinstance(x, ObjectFile):
        return list(x.programs.values())
    if isinstance(x, ProgramSpec):
        return [x]
    return [program_from_code(x, prog_type=prog_type, maps=maps)]


def verify_specs(
    specs: Sequence[ProgramSpec],
    profile: HostProfile,
    *,
    max_insns: int = 1_000_000,
    btf: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    done: Callable[[ProgramReport], None] | None = None,
) -> list[ProgramReport]:
    """The verdicts on many programs, in their order, from `jobs` processes; `done` hears of each as it comes."""
    reports: dict[int, ProgramReport] = {}

    def note(number: int, report: ProgramReport) -> None:
        reports[number] = report
        if done is not None:
            done(report)

    if jobs == 1 or len(specs) < 2:
        from ebpfkit.verifier import verify_program

        types = open_kernel_btf(btf)
        for number, spec in enumerate(specs):
            note(number, verify_program(spec, profile, max_insns=max_insns, kernel_btf=types))
    else:
        from concurrent.futures import ProcessPoolExecutor, as_completed

        workers = min(jobs, len(specs))
        with ProcessPoolExecutor(workers, initializer=_begin_worker, initargs=(profile, max_insns, btf)) as pool:
            waiting = {pool.submit(_judge, spec): number for number, spec in enumerate(specs)}
            for future in as_completed(waiting):
                note(waiting[future], future.result())
    return [reports[number] for number in range(len(specs))]


_worker: list[Any] = []  # in a worker process: profile, budget, types of the kernel


def _begin_worker(profile: HostProfile, max_insns: int, btf: str | os.PathLike[str] | None) -> None:
    _worker[:] = [profile, max_insns, open_kernel_btf(btf)]


def _judge(spec: ProgramSpec) -> ProgramReport:
    from ebpfkit.verifier import verify_program

    profile, max_insns, types = _worker
    return verify_program(spec, profile, max_insns=max_insns, kernel_btf=types)


def page_program(
    spec: ProgramSpec,
    profile: HostProfile,
    *,
    max_insns: int = 1_000_000,
    btf: str | os.PathLike[str] | None = None,
) -> PageProgram:
    """Verify once more with the walk watched, for a page of HTML about it."""
    from ebpfkit.asm.codec import slot_starts
    from ebpfkit.asm.printer import format_instruction
    from ebpfkit.diag.render_html import PageInsn, PageProgram
    from ebpfkit.verifier import verify_program
    from ebpfkit.verifier.trace import Trace

    trace = Trace()
    report = verify_program(spec, profile, max_insns=max_insns, kernel_btf=open_kernel_btf(btf), observe=trace)
    insns = [
        PageInsn(
            slot,
            format_instruction(insn, slot),
            insn.span,
            trace.visits.get(slot, 0),
            [snapshot.words() for snapshot in trace.states.get(slot, ())],
        )
        for slot, insn in zip(slot_starts(spec.instructions), spec.instructions)
    ]
    summary = (
        f"{spec.prog_type} program for Linux {report.kernel} ({report.basis}): {report.insns_processed} instructions"
        f" walked, {report.total_states} states stored, {report.stack_depth} bytes of stack"
    )
    diagnosis = None if report.verdict == "accept" else diagnose(report, spec)
    return PageProgram(spec.name, report.verdict, summary, insns, diagnosis, report.walked)


def diagnose(report: ProgramReport, spec: ProgramSpec | None = None) -> Diagnosis:
    """A verdict that is no acceptance, explained: what, why, and what to write instead.

    `spec`, the program it is about, gives the text of the instruction.
    """
    from ebpfkit.diag.explain import explain_rejection

    return explain_rejection(
        report.rule,
        report.message,
        insn=report.insn,
        span=report.span,
        instruction=_instruction_text(spec, report.insn),
        registers={report.register: report.state} if report.register else {},
        path=report.path,
        program=report.name,
        kernel=report.kernel,
    )


def _instruction_text(spec: ProgramSpec | None, slot: int | None) -> str:
    from ebpfkit.asm.codec import slot_starts
    from ebpfkit.asm.printer import format_instruction

    if spec is None or slot is None:
        return ""
    found = dict(zip(slot_starts(spec.instructions), spec.instructions))
    return format_instruction(found[slot], slot) if slot in found else ""
