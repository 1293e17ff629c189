"""Programs of users without any capability: our verdict against the kernel's for such a user."""

# ruff: noqa: E501 - programs, one a line
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cases import program

from ebpfkit.abi.model import HostProfile
from ebpfkit.verifier import verify_program
from tests.conftest import skip_or_fail

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle, Verdict

NOBODY = HostProfile(privileged=False)
LOOKUP = "r6 = r1; r2 = 0; *(u32 *)(r10 - 4) = r2; r2 = r10; r2 += -4; r1 = map[array] ll; call 1; if r0 == 0 goto +"

RECORD = "r1 = map[ring] ll; r2 = 8; r3 = 0; call 131; if r0 != 0 goto +1; exit; "

# name -> (verdict, program)
CASES = {
    "a constant": ("accept", "r0 = 0; exit"),
    "an address returned": ("reject", "r0 = r1; exit"),
    "the stack's address returned": ("reject", "r0 = r10; exit"),
    "half an address": ("reject", "w0 = w1; exit"),
    "stack that was never written": ("reject", "r0 = *(u64 *)(r10 - 8); exit"),
    "half of it written": ("reject", "*(u32 *)(r10 - 4) = 0; r0 = *(u64 *)(r10 - 8); exit"),
    "stack that was written": ("accept", "*(u32 *)(r10 - 4) = 0; r0 = *(u32 *)(r10 - 4); exit"),
    "an address on the stack": ("accept", "*(u64 *)(r10 - 8) = r1; r2 = *(u64 *)(r10 - 8); r0 = *(u32 *)(r2 + 0); exit"),
    "an address on the stack, half overwritten": ("reject", "*(u64 *)(r10 - 8) = r1; *(u32 *)(r10 - 4) = 3; r0 = 0; exit"),
    "a spilled number is forgotten": ("reject", f"{LOOKUP}4; r1 = 4; *(u64 *)(r10 - 16) = r1; r1 = *(u64 *)(r10 - 16); r0 += r1; r0 = 0; exit"),
    "packet addresses": ("reject", "r0 = *(u32 *)(r1 + 76); exit"),
    "the context compared with 0": ("reject", "r0 = 0; if r1 == 0 goto +0; exit"),
    "the context compared with the stack": ("reject", "r0 = 0; if r1 == r10 goto +0; exit"),
    "a loop": ("reject", "r0 = 5; r0 += -1; if r0 != 0 goto -2; exit"),
    "a function": ("reject", "call +1; exit; r0 = 0; exit"),
    "a helper for everyone": ("accept", "call 7; exit"),
    "a helper for some": ("reject", "r1 = r10; r2 = 4; call 6; exit"),
    "a key that was never written": ("reject", "r2 = r10; r2 += -8; r1 = map[array] ll; call 1; r0 = 0; exit"),
    "a constant key does not count": ("reject", f"{LOOKUP}0; r0 = *(u32 *)(r0 + 0); exit"),
    "an address in a map": ("reject", f"{LOOKUP}1; *(u64 *)(r0 + 0) = r6; r0 = 0; exit"),
    "an address added to a map": ("reject", f"{LOOKUP}1; lock *(u64 *)(r0 + 0) += r6; r0 = 0; exit"),
    "an address for a helper": ("reject", "r2 = 1; r1 = r10; r3 = r10; r4 = 8; call 26; r0 = 0; exit"),
    "a map value by a constant": ("accept", f"{LOOKUP}3; r1 = 4; r0 += r1; r3 = *(u8 *)(r0 + 0); r0 = 0; exit"),
    "behind a map value": ("reject", f"{LOOKUP}1; r0 += 16; r0 = 0; exit"),
    "by an unbounded variable": ("reject", f"{LOOKUP}2; r1 = *(u32 *)(r6 + 0); r0 += r1; r0 = 0; exit"),
    "by a variable of unknown sign": ("reject", f"{LOOKUP}4; r1 = *(u32 *)(r6 + 0); r1 -= 5; if r1 s> 7 goto +1; r0 += r1; r0 = 0; exit"),
    "behind the stack": ("reject", "r1 = r10; r1 += -600; r0 = 0; exit"),
    "the stack by a variable": ("reject", "*(u64 *)(r10 - 8) = 0; r2 = *(u32 *)(r1 + 0); r2 &= 7; r3 = r10; r3 += -8; r3 += r2; r0 = *(u8 *)(r3 + 0); exit"),
    "the kernel's own map": ("reject", "r1 = map[array] ll; r0 = *(u32 *)(r1 + 0); exit"),
    "fields of the context": ("accept", "r2 = 1; *(u32 *)(r1 + 48) = r2; r0 = *(u32 *)(r1 + 0); exit"),
    "a record that was given back": ("reject", f"{RECORD}r1 = r0; r6 = r0; r2 = 0; call 133; r0 = r6; r0 = 0; exit"),
    "a record that was given back, in a slot": ("accept", f"{RECORD}r1 = r0; *(u64 *)(r10 - 8) = r0; r2 = 0; call 133; r0 = *(u64 *)(r10 - 8); r0 = 0; exit"),
    "a record that was given back, out of a slot": ("reject", f"{RECORD}r1 = r0; *(u64 *)(r10 - 8) = r0; r2 = 0; call 133; r0 = *(u64 *)(r10 - 8); exit"),
    "half of a record that was given back": ("reject", f"{RECORD}r1 = r0; *(u64 *)(r10 - 8) = r0; r2 = 0; call 133; r0 = *(u32 *)(r10 - 8); r0 = 0; exit"),
    "a record that was given back, overwritten": ("accept", f"{RECORD}r1 = r0; *(u64 *)(r10 - 8) = r0; r2 = 0; call 133; *(u64 *)(r10 - 8) = 0; r0 = *(u64 *)(r10 - 8); r0 = 0; exit"),
    "a record that was given back, half overwritten": ("reject", f"{RECORD}r1 = r0; *(u64 *)(r10 - 8) = r0; r2 = 0; call 133; *(u32 *)(r10 - 8) = 0; r0 = 0; exit"),
    "an address in the kernel's own map": ("reject", "r2 = map[array] ll; *(u64 *)(r2 + 0) = r1; r0 = 0; exit"),
    "a pointer moved by different amounts": ("reject", f"{LOOKUP}6; r2 = *(u32 *)(r6 + 0); r1 = 4; if r2 > 7 goto +1; r1 = 8; r0 += r1; r3 = *(u8 *)(r0 + 0); r0 = 0; exit"),
    "a pointer moved there and back": ("accept", f"{LOOKUP}6; r0 += 8; r1 = -8; r0 += r1; r2 = 4; r0 += r2; r3 = *(u8 *)(r0 + 0); r0 = 0; exit"),
    "by a bounded variable": ("accept", f"{LOOKUP}5; r1 = *(u32 *)(r6 + 0); r1 &= 7; r0 += r1; r3 = *(u8 *)(r0 + 0); r0 = 0; exit"),
    "by variables of two ranges": ("reject", f"{LOOKUP}9; r2 = *(u32 *)(r6 + 0); r1 = *(u32 *)(r6 + 4); r1 &= 7; if r2 > 7 goto +1; r1 &= 3; r0 += r1; r3 = *(u8 *)(r0 + 0); r0 = 0; goto +0; exit"),
    "by variables of two ranges, at two places": ("accept", f"{LOOKUP}9; r2 = *(u32 *)(r6 + 0); r1 = *(u32 *)(r6 + 4); r1 &= 7; if r2 > 7 goto +3; r1 &= 3; r0 += r1; goto +1; r0 += r1; r0 = 0; exit"),
    "ranges that differ where nothing relies on them": ("reject", f"{LOOKUP}9; r7 = 0; r2 = *(u32 *)(r6 + 0); r1 = *(u32 *)(r6 + 4); r1 &= 3; if r2 > 7 goto +1; r1 &= 1; r7 += r1; r0 += r1; r0 = 0; exit"),
    "an address in the context": ("reject", "*(u64 *)(r1 + 48) = r1; r0 = 0; exit"),
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(oracle: KernelOracle) -> dict[str, Verdict]:
    """The kernel's, all asked at once; the switch that lets others use bpf(2) is put back."""
    from unprivileged_kernel import SYSCTL, ask_unprivileged, unprivileged_bpf

    if not SYSCTL.exists() or SYSCTL.read_text().strip() == "1":
        skip_or_fail("this kernel is closed to users without privilege for good")
    specs = [program(text, "socket_filter") for _, text in CASES.values()]
    with unprivileged_bpf():
        return dict(zip(CASES, ask_unprivileged(oracle, specs), strict=True))


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_users_without_privilege(name: str, verdicts: dict[str, Verdict]) -> None:
    expected, text = CASES[name]
    kernel = verdicts[name]
    report = verify_program(program(text, "socket_filter"), NOBODY)
    assert ("accept" if kernel.accepted else "reject") == expected, kernel.log
    assert report.verdict == expected, f"{report}\n{kernel.log}"
    assert kernel.accepted or report.message.split("; ")[0].rstrip() in kernel.log, f"{report}\n{kernel.log}"


def test_most_program_types_need_privilege() -> None:
    assert verify_program(program("r0 = 2; exit", "xdp"), NOBODY).verdict == "reject"


def test_barriers_of_speculation_have_no_verdict() -> None:
    # The kernel accepts: the side of the decided branch that only speculation takes fails, and a barrier replaces masks.
    text = f"{LOOKUP}10; r2 = *(u32 *)(r6 + 0); r1 = *(u32 *)(r6 + 4); r1 &= 7; r3 = 1; if r2 > 7 goto +3; r1 &= 3; if r3 == 1 goto +1; r1 = *(u32 *)(r6 + 4); r0 += r1; r0 = 0; exit"
    report = verify_program(program(text, "socket_filter"), NOBODY)
    assert report.verdict == "unsupported" and "decided branch" in report.message


def test_other_kernels_have_no_verdict_for_them() -> None:
    report = verify_program(program("r0 = 0; exit", "socket_filter"), HostProfile(kernel="6.1", privileged=False))
    assert report.verdict == "unsupported"
