"""What a program's type, attach type and flags demand before the walk, and what its exit may return.

Rows of `abi/` say most of it; programs that attach by BTF take it from the prototype of their target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfkit.abi.attach_types import BTF_TARGETS, WITHOUT_ATTACH_TYPE
from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.model import ProgTypeSpec
from ebpfkit.abi.struct_ops import MEASURED_ON
from ebpfkit.abi.versions import is_in_force
from ebpfkit.verifier.context import ContextTable
from ebpfkit.verifier.operations import check_operation
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.typed_context import TypedContext

if TYPE_CHECKING:
    from ebpfkit.elf.model import ProgramSpec
    from ebpfkit.verifier.domain.values import Values
    from ebpfkit.verifier.program import Code

__all__ = ["SLEEPABLE", "check_attachment", "make_context", "return_range_of", "returns_nothing"]

SLEEPABLE = 1 << 4
"""BPF_F_SLEEPABLE."""

_MAX_ERRNO = 4095
_MODIFIABLE = ("security_", "bpf_modify_return_test", "bpf_fentry_test1")
_SLEEPABLE_TRACING = frozenset({"trace_fentry", "trace_fexit", "modify_return", "trace_iter", "trace_fsession"})
_BOOL_HOOKS = frozenset({"inode_xattr_skipcap", "audit_rule_known", "xfrm_state_pol_flow_match"})
"""LSM hooks that answer yes or no instead of an error number."""


def check_attachment(spec: ProgramSpec, prog_type: ProgTypeSpec, kernel: str) -> None:
    """The program's flags and target fit its type. Raises Rejection in the kernel's words."""
    sleepable = bool(spec.flags & SLEEPABLE)
    if prog_type.name == "syscall":
        if not sleepable:
            raise Rejection("attach-target", "Syscall programs can only be sleepable")
        return
    may_sleep = prog_type.sleepable and (prog_type.name != "tracing" or spec.attach_type in _SLEEPABLE_TRACING)
    if sleepable and not may_sleep:
        message = "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable"
        raise Rejection("attach-target", message)
    if prog_type.name == "ext":
        raise Unmodelled(f"programs of type {prog_type.name}")
    if prog_type.name == "struct_ops":
        if kernel != MEASURED_ON:
            raise Unmodelled(f"functions of structures of operations on Linux {kernel}")
        check_operation(spec, sleepable)
    if spec.attach_type == "modify_return":
        _check_modifiable(spec.attach_target or "", kernel)
    if sleepable and prog_type.name in ("tracing", "lsm") and spec.attach_type != "trace_iter":
        raise Unmodelled("sleepable programs at functions and hooks, of which few allow it")


def _check_modifiable(target: str, kernel: str) -> None:
    """Which functions may be modified the kernel's types do not tell, but for hooks and the functions of its tests."""
    if not target.startswith(_MODIFIABLE if is_in_force("modifiable-tests", kernel) else _MODIFIABLE[:1]):
        raise Unmodelled(f"a modified return of {target or 'a function'}, which the kernel's configuration decides")


def make_context(
    code: Code, prog_type: ProgTypeSpec, values: Values, whole: bool = True
) -> ContextTable | TypedContext:
    """The context of the program. `whole`: pointers in typed contexts are read as a whole only."""
    spec = code.spec
    if prog_type.context is not None:
        attach_type = spec.attach_type or WITHOUT_ATTACH_TYPE.get(prog_type.name)
        return ContextTable(CONTEXTS[prog_type.context], attach_type)
    if (spec.attach_type or "") not in BTF_TARGETS and prog_type.name != "struct_ops":
        raise Unmodelled(f"programs of type {prog_type.name}")
    if code.kernel_btf is None:
        raise Unmodelled(f"programs of type {prog_type.name} without the kernel's types (give them with --btf)")
    return TypedContext(spec, code.kernel_btf, values, whole)


def returns_nothing(prog_type: ProgTypeSpec, context: ContextTable | TypedContext) -> bool:
    """Whether what the program leaves in R0 is never looked at: functions of structures that have no result."""
    return prog_type.name == "struct_ops" and isinstance(context, TypedContext) and context.returns_nothing


def return_range_of(
    spec: ProgramSpec, prog_type: ProgTypeSpec, context: ContextTable | TypedContext, hooks: bool = True
) -> tuple[int, int] | None:
    """The values that the program may return; None: any. `hooks`: the kernel looks at what LSM hooks return."""
    if not isinstance(context, TypedContext):
        # Attach type 0, which stands for none, is this one's number.
        chosen = spec.attach_type or ("cgroup_inet_ingress" if prog_type.name == "cgroup_skb" else "")
        return prog_type.return_ranges.get(chosen, prog_type.return_range)
    attach = spec.attach_type
    if attach in ("trace_fentry", "trace_fexit", "trace_fsession"):
        return 0, 0
    if attach == "trace_iter":
        return 0, 1
    if attach == "lsm_cgroup":
        return (1, 1) if context.returns_nothing else (0, 1)
    if attach == "lsm_mac" and hooks and not context.returns_nothing:
        return (0, 1) if spec.attach_target in _BOOL_HOOKS else (-_MAX_ERRNO, 0)
    return None
