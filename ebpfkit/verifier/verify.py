"""The entry: one program in, one report out. Prepares, walks, checks what comes after, and words the outcome."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ebpfkit.abi import limits
from ebpfkit.abi.helpers import HELPERS
from ebpfkit.abi.model import HelperSpec, HostProfile, ProgTypeSpec
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.abi.versions import basis_of, is_at_least, is_in_force
from ebpfkit.asm.codec import slot_starts
from ebpfkit.asm.isa import Kind
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import UsageError
from ebpfkit.verifier import unprivileged
from ebpfkit.verifier.availability import check_available
from ebpfkit.verifier.causes import causes_of, path_to
from ebpfkit.verifier.explore import Walk
from ebpfkit.verifier.instruction_set import check_instruction_set, check_loops
from ebpfkit.verifier.program import Code, Subprogram, has_function_types, prepare
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.report import ProgramReport
from ebpfkit.verifier.trace import Observer, watching

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = ["verify_program"]

_MODELLED_KERNEL = "6.18"


def verify_program(
    spec: ProgramSpec,
    profile: HostProfile | None = None,
    *,
    max_insns: int = limits.MAX_PROCESSED,
    kernel_btf: Btf | None = None,
    observe: Observer | None = None,
    log: Callable[[str], None] | None = None,
) -> ProgramReport:
    """Predict the verdict of the kernel that `profile` describes (default: Linux 6.18, two CPUs, privileged).

    `max_insns` bounds the instructions walked; beyond the kernel's million it changes nothing. `kernel_btf` are the
    types of that kernel (its BTF): programs that look into its structures have no verdict without them. `observe` is
    called before every instruction walked, with its slot and the path's state (a `Trace` keeps them); `log` gets the
    walk in the kernel's format of level 2, line by line, and goes without `observe`. Raises UsageError for an unknown
    program type or kernel; whatever the program's bytes are, the outcome is a report.
    """
    profile = profile or HostProfile()
    prog_type = PROG_TYPES.get(spec.prog_type)
    if prog_type is None:
        known = ", ".join(sorted(PROG_TYPES))
        raise UsageError(f"{spec.prog_type!r} is no program type; known are {known}")
    started = time.perf_counter()
    run = _Run(spec, prog_type, profile, max_insns, kernel_btf)
    if observe is not None:
        run.walk_type = watching(observe)
    if log is not None:
        from ebpfkit.verifier.log import logging

        run.walk_type = logging(log)
    was_enabled = gc.isenabled()
    # The walk makes many small objects and no garbage cycles worth looking for while it runs.
    gc.disable()
    try:
        outcome = run.judge()
        report = run.report(outcome, time.perf_counter() - started)
        if log is not None:
            _end_log(log, outcome, report)
        if outcome is not None:
            outcome.__traceback__ = None  # it leads to the walk
        run.release()
    finally:
        if was_enabled:
            gc.enable()
    return report


def _end_log(log: Callable[[str], None], outcome: Rejection | Unmodelled | None, report: ProgramReport) -> None:
    """What the kernel writes last: the complaint, and how much it walked."""
    from ebpfkit.diag.messages import LOG_LINES

    if outcome is not None:
        log(report.message)
    log(LOG_LINES["processed"].format(processed=report.insns_processed, limit=limits.MAX_PROCESSED))


def _check_results(code: Code) -> None:
    """A function that may leave by a tail call returns a number: what was called may return in its place."""
    from ebpfkit.btf.types import Enum, Func, FuncProto, Int

    btf = code.spec.btf
    assert btf is not None
    for sub in code.subprograms[1:]:
        func = btf.get(sub.type_id) if sub.has_tail_call and 0 < sub.type_id < len(btf) else None
        proto = btf.get(func.type) if isinstance(func, Func) else None
        if isinstance(proto, FuncProto) and not isinstance(btf.resolve(proto.ret), Int | Enum):
            message = "tail_call is only allowed in functions that return 'int'."
            raise Rejection("btf-mismatch", message, index=sub.start)


@lru_cache(maxsize=64)
def _helpers_of(kernel: str) -> dict[int, HelperSpec]:
    return {number: row for number, row in HELPERS.items() if is_at_least(kernel, row.since)}


@lru_cache(maxsize=256)
def _allowed(prog_type: str, kernel: str, host: frozenset[str] | None) -> frozenset[int]:
    """The helpers that programs of this type may call."""
    return frozenset(
        number
        for number, row in _helpers_of(kernel).items()
        if ("*" in row.prog_types or prog_type in row.prog_types)
        and is_at_least(kernel, row.prog_types_since.get(prog_type, ""))
        and (host is None or row.name in host)
    )


class _Run:
    """One verification from preparation to report. `walk_type`: tools put a walk that watches itself."""

    walk_type: type[Walk] = Walk

    def __init__(
        self,
        spec: ProgramSpec,
        prog_type: ProgTypeSpec,
        profile: HostProfile,
        max_insns: int,
        kernel_btf: Btf | None = None,
    ) -> None:
        self.spec = spec
        self.prog_type = prog_type
        self.profile = profile
        self.max_insns = max_insns
        self.kernel_btf = kernel_btf
        self.code: Code | None = None
        self.walk: Walk | None = None

    def judge(self) -> Rejection | Unmodelled | None:
        """None when the program is accepted."""
        try:
            if not self.profile.privileged:
                self._check_privilege()
            check_available(self.spec, self.prog_type, self.profile.kernel)
            helpers = _helpers_of(self.profile.kernel)
            size = sum(insn.slots for insn in self.spec.instructions)
            largest = limits.MAX_INSNS if self.profile.privileged else limits.MAX_INSNS_UNPRIVILEGED
            if size > largest:
                raise Rejection("too-large", f"{size} instructions are more than {largest}")
            code = self.code = prepare(self.spec, helpers, self.kernel_btf, self.profile.kernel)
            check_instruction_set(code, self.profile.kernel)
            self._check_functions(code)
            allowed = _allowed(self.prog_type.name, self.profile.kernel, self.profile.helpers)
            if not self.profile.privileged:
                allowed = frozenset(number for number in allowed if helpers[number].unprivileged)
            self.walk = self.walk_type(code, self.prog_type, self.profile, allowed, self.max_insns)
            check_loops(code, self.profile.kernel)
            if not self.profile.privileged:
                unprivileged.check_program(self.walk)
            self.walk.run()
            _check_stack_depth(code, self.profile, self.prog_type)
            _check_followed(code, self.profile.kernel)
            _check_dropped_callbacks(code, self.walk)
        except (Rejection, Unmodelled) as outcome:
            return outcome
        return None

    def release(self) -> None:
        """Let go of the walk, so that its states are freed here and not by the garbage collector later."""
        if self.walk is not None:
            self.walk.release()
            self.walk = None

    def _check_privilege(self) -> None:
        """Users without capabilities load few types of programs."""
        if self.profile.kernel != _MODELLED_KERNEL:
            raise Unmodelled(f"users without privilege on Linux {self.profile.kernel}")
        if self.prog_type.name not in unprivileged.PROGRAM_TYPES:
            message = f"programs of type {self.prog_type.name} are for users with CAP_BPF"
            raise Rejection("execution-context", message)

    def _check_functions(self, code: Code) -> None:
        if has_function_types(self.spec):
            _check_results(code)
            return
        for sub in code.subprograms[1:]:
            if sub.has_tail_call:
                raise Rejection("btf-mismatch", "tail_call is not allowed in subprogs without BTF", index=sub.start)

    def basis(self) -> str:
        """What was compared with a kernel was so on little-endian machines."""
        if self.spec.big_endian:
            return "documented"
        return self.profile.basis if self.profile.kernel == _MODELLED_KERNEL else basis_of(self.profile.kernel)

    def report(self, outcome: Rejection | Unmodelled | None, seconds: float) -> ProgramReport:
        spec, walk = self.spec, self.walk
        common: dict[str, Any] = {
            "name": spec.name,
            "section": spec.section,
            "prog_type": spec.prog_type,
            "kernel": self.profile.kernel,
            "basis": self.basis(),
            "insns_processed": walk.processed if walk else 0,
            "total_states": walk.checkpoints.total if walk else 0,
            "stack_depth": max((sub.depth for sub in self.code.subprograms), default=0) if self.code else 0,
            "seconds": seconds,
        }
        if outcome is None:
            return ProgramReport(verdict="accept", **common)
        place: dict[str, Any] = {}
        if outcome.index is not None:
            slots = self.code.slots if self.code else slot_starts(spec.instructions)
            place = {"insn": slots[outcome.index], "span": spec.instructions[outcome.index].span}
        if isinstance(outcome, Unmodelled):
            message = f"ebpfkit does not model {outcome.feature}"
            return ProgramReport(verdict="unsupported", rule="not-modelled", message=message, **place, **common)
        register, state = self._describe(outcome)
        return ProgramReport(
            verdict="reject",
            rule=outcome.rule,
            message=outcome.message,
            register=register,
            state=state,
            mend=_mend(outcome.rule),
            path=causes_of(walk, outcome) if walk else (),
            walked=self._walked(outcome),
            **place,
            **common,
        )

    def _walked(self, outcome: Rejection) -> tuple[int, ...]:
        """The slots of the path that failed."""
        if self.walk is None or self.code is None or outcome.index is None:
            return ()
        slots = self.code.slots
        return tuple(slots[index] for index in path_to(self.walk, outcome.index) or ())

    def _describe(self, outcome: Rejection) -> tuple[str, str]:
        if outcome.register is None or self.walk is None or not 0 <= outcome.register <= 10:
            return "", ""
        value = self.walk.vals[outcome.register]
        words = "not written yet" if value is None else value.describe()
        return f"R{outcome.register}", words


def _mend(rule: str) -> str:
    from ebpfkit.diag.rules import RULES

    row = RULES.get(rule)
    return row.mend if row else ""


def _check_dropped_callbacks(code: Code, walk: Walk) -> None:
    """The kernel drops what was never walked, then stumbles over addresses of dropped functions in code that was."""
    kept = [any(walk.walked[sub.start : sub.end]) for sub in code.subprograms]
    if all(kept) or sum(kept) < 2:
        return
    for index, insn in enumerate(code.insns):
        target = code.targets[index]
        if insn.op.kind is not Kind.WIDE or target is None or not walk.walked[index]:
            continue
        # An address into code that goes is left as it is, and means what moves there.
        starts = {code.slots[sub.start] for sub, stays in zip(code.subprograms, kept) if stays}
        if _moved(code, walk, code.slots[index], code.slots[target]) not in {_moved(code, walk, -1, s) for s in starts}:
            message = f"verifier bug: No program to jit at insn {code.slot_of(index)} (subprog < 0)"
            raise Rejection("verifier-bug", message, index=index)


def _moved(code: Code, walk: Walk, site: int, target: int) -> int:
    """Where an address, taken at `site`, points to when what was never walked is gone, run by run."""
    gone = 0
    ends = [*code.slots[1:], code.slot_count]
    index = 0
    while index < len(code.insns):
        if walk.walked[index]:
            index += 1
            continue
        first = code.slots[index]
        while index < len(code.insns) and not walk.walked[index]:
            index += 1
        start, count = first - gone, ends[index - 1] - first
        gone += count
        if site >= start + count:
            site -= count
            target -= count if target >= start else 0
        elif target >= start + count:
            target -= count
    return target


def _check_nothing_thrown(code: Code, sub: Subprogram) -> None:
    """Callbacks, and what they call, do not throw: the kernel could not unwind its own caller."""
    for index in range(sub.start, sub.end):
        kfunc = code.kfunc_of(index)
        if kfunc is not None and kfunc.name == "bpf_throw":
            message = (
                f"bpf_throw kfunc (insn {code.slot_of(index)}) cannot be called from callback subprog {sub.number}"
            )
            raise Rejection("callback", message, index=index)


_YOUNG = frozenset(
    {
        "kptr_xchg",
    }
)  # fmt: skip


def _check_followed(code: Code, kernel: str) -> None:
    """Where a helper has other rules since 6.12, and those are what is followed, an acceptance is no verdict."""
    if is_in_force("dynptr-rules", kernel):
        return
    calls_back = any(sub.is_callback for sub in code.subprograms)
    for index in range(len(code.insns)):
        helper = code.helper_of(index)
        locked = helper is not None and helper.name == "spin_lock" and calls_back
        if helper is not None and (helper.name in _YOUNG or locked):
            raise Unmodelled(f"bpf_{helper.name} as Linux {kernel} checks it", index=index)


def _check_stack_depth(code: Code, profile: HostProfile, prog_type: ProgTypeSpec) -> None:
    """After a successful walk: the deepest call chain fits the stack (or each function alone, with private stacks)."""
    fine = profile.jit and is_in_force("stack-rounding-16", profile.kernel)
    rounding = limits.STACK_ROUNDING if fine else limits.STACK_ROUNDING_INTERPRETER
    private = prog_type.private_stack and profile.jit and is_in_force("private-stacks", profile.kernel)
    tail_calls = any(sub.has_tail_call for sub in code.subprograms)

    def depth_of(sub: Subprogram) -> int:
        return -(-max(sub.depth, 1) // rounding) * rounding

    def descend(sub: Subprogram, above: int, frames: int, called_back: bool = False) -> None:
        called_back = called_back or sub.is_callback
        if called_back:
            _check_nothing_thrown(code, sub)
        if above >= limits.MAX_STACK_BEFORE_TAIL_CALL and sub.number and sub.has_tail_call:
            message = f"tail_calls are not allowed when call stack of previous frames is {above} bytes. Too large"
            raise Rejection("stack-depth", message, index=sub.start)
        depth = depth_of(sub)
        if private and not tail_calls:
            if depth > limits.MAX_STACK:
                message = f"stack size of subprog {sub.number} is {depth}. Too large"
                raise Rejection("stack-depth", message, index=sub.start)
            total = above if depth >= 64 else above + depth
        else:
            total = above + depth
        if total > limits.MAX_STACK:
            message = f"combined stack size of {frames} calls is {total}. Too large"
            raise Rejection("stack-depth", message, index=sub.start)
        for site, number in sub.callees:
            if code.subprograms[number].is_async and code.insns[site].op.kind is Kind.WIDE:
                continue  # only a timer calls it, on a stack of its own
            if code.subprograms[number] is code.handler:
                message = f"insn {code.slot_of(site)} cannot call exception cb directly"
                raise Rejection("callback", message, index=site)
            if frames >= limits.MAX_FRAMES:
                message = f"the call stack of {frames} frames is too deep !"
                raise Rejection("call-depth", message, index=site)
            descend(code.subprograms[number], total, frames + 1, called_back)

    for function in code.subprograms:
        if not function.number or function.is_async:
            descend(function, 0, 1)
