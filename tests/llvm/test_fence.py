"""The fence: what makes LLVM exit or abort becomes an error, and this process lives on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ebpfkit.errors import CompileError
from ebpfkit.llvm import LlvmError, emit_assembly, optimise, optimise_and_emit
from ebpfkit.llvm.fence import assess, explain

HEAD = 'target triple = "bpfel"\ntarget datalayout = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"\n'
CALL = "call void inttoptr (i64 1 to ptr)(ptr %a, ptr %c)\n"
GOOD = "define i64 @f(i64 %a, i64 %b) {\n  %c = add i64 %a, %b\n  ret i64 %c\n}\n"

FATAL = {
    "too much stack": (
        f"define i32 @f(ptr %c) {{\n%a = alloca [600 x i8], align 8\n{CALL}ret i32 0\n}}\n",
        "stack-too-large",
        "512 bytes of stack",
    ),
    "atomic maximum": (
        "define i64 @f(ptr %c) {\n%a = atomicrmw umax ptr %c, i64 3 seq_cst\nret i64 %a\n}\n",
        "llvm-unsupported",
        "AtomicLoadUMax",
    ),
    "8-bit atomic": (
        "define i8 @f(ptr %c) {\n%a = atomicrmw add ptr %c, i8 3 seq_cst\nret i8 %a\n}\n",
        "llvm-unsupported",
        "unsupported atomic operation",
    ),
    "six arguments": (
        (
            "define i64 @f(ptr %c) {\n%a = call i64 inttoptr (i64 1 to ptr)"
            "(i64 1, i64 2, i64 3, i64 4, i64 5, ptr %c)\nret i64 %a\n}\n"
        ),
        "llvm-unsupported",
        "too many arguments",
    ),
    "inline assembly": (
        'define i64 @f(ptr %c) {\ncall void asm sideeffect "r1 = 1", ""()\nret i64 1\n}\n',
        "llvm-unsupported",
        "asm",
    ),
    "128 bits": (
        (
            "define i64 @f(i64 %c, i64 %d) {\n%a = zext i64 %c to i128\n%e = zext i64 %d to i128\n"
            "%b = mul i128 %a, %e\n%f = lshr i128 %b, 64\n%g = trunc i128 %f to i64\nret i64 %g\n}\n"
        ),
        "llvm-unsupported",
        "__multi3",
    ),
    "floating point": (
        (
            "define i64 @f(i64 %c) {\n%a = uitofp i64 %c to double\n%b = fmul double %a, %a\n"
            "%g = fptoui double %b to i64\nret i64 %g\n}\n"
        ),
        "llvm-unsupported",
        "__floatundidf",
    ),
    "variable memset": (
        (
            "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\ndefine i64 @f(ptr %c, i64 %d) {\n"
            "call void @llvm.memset.p0.i64(ptr %c, i8 0, i64 %d, i1 false)\nret i64 0\n}\n"
        ),
        "llvm-unsupported",
        "memset",
    ),
    "variable stack": (
        f"define i32 @f(ptr %c, i64 %n) {{\n%a = alloca i8, i64 %n, align 8\n{CALL}ret i32 0\n}}\n",
        "llvm-unsupported",
        "dynamic stack",
    ),
}


@pytest.mark.parametrize(("text", "code", "words"), FATAL.values(), ids=FATAL)
def test_what_ends_llvm_is_an_error_here(text: str, code: str, words: str):
    with pytest.raises(LlvmError) as caught:
        optimise_and_emit(HEAD + text)
    assert caught.value.code == code
    assert words in caught.value.message
    assert isinstance(caught.value, CompileError)
    assert optimise(HEAD + text).assessment.risky


def test_six_arguments_really_would_end_the_process():
    """Shows what the fence is for: without it the interpreter is gone."""
    script = (
        "import sys; from ebpfkit.llvm.emit import emit_optimised\n"
        "emit_optimised(sys.stdin.read(), cpu='v3', features='', assembly=False)\nprint('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=HEAD + FATAL["six arguments"][0],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "alive" not in done.stdout


def test_a_full_stack_is_still_compiled():
    text = f"define i32 @f(ptr %c) {{\n%a = alloca [500 x i8], align 8\n{CALL}ret i32 0\n}}\n"
    emission = optimise(HEAD + text)
    assert emission.assessment.stack_bytes == 504 and emission.assessment.risky
    assert emission.emit()[:4] == b"\x7fELF"


def test_many_values_alive_at_once_go_through_the_child():
    """Spills fill the stack too, without any alloca."""
    loads = "".join(
        f"%p{n} = getelementptr i8, ptr %c, i64 {8 * n}\n%v{n} = load volatile i64, ptr %p{n}, align 8\n"
        for n in range(100)
    )
    stores = "".join(f"store volatile i64 %v{n}, ptr %p{99 - n}, align 8\n" for n in range(100))
    text = f"{HEAD}define i64 @f(ptr %c) {{\n{loads}{stores}ret i64 0\n}}\n"
    assert optimise(text).assessment.risky
    with pytest.raises(LlvmError) as caught:
        optimise_and_emit(text)
    assert caught.value.code == "stack-too-large" and caught.value.function == "f"


def test_sums_over_loops_avoid_128_bit_products():
    text = """
define i64 @f(i64 %n) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %sum = phi i64 [ 0, %entry ], [ %more, %body ]
  %go = icmp ult i64 %i, %n
  br i1 %go, label %body, label %done
body:
  %more = add i64 %sum, %i
  %next = add i64 %i, 1
  br label %head
done:
  ret i64 %sum
}
"""
    emission = optimise(HEAD + text)
    assert not emission.assessment.risky
    assert emission.emit()[:4] == b"\x7fELF"


@pytest.mark.parametrize("text", ["", "define", "define i64 @f(", "\0", "ret i32 0", "define void @f() { ret i32 0 }"])
def test_text_that_is_no_module_is_an_error(text: str):
    if text == "":
        assert optimise_and_emit(HEAD)[:4] == b"\x7fELF"
        return
    with pytest.raises(LlvmError) as caught:
        optimise_and_emit(HEAD + text)
    assert caught.value.code == "llvm-invalid"


def test_assembly_is_text():
    assert "r0 += r1\n" in emit_assembly(HEAD + GOOD)


def test_a_cpu_that_is_none():
    with pytest.raises(LlvmError, match="v9"):
        optimise_and_emit(HEAD + GOOD, cpu="v9")


def test_the_same_text_gives_the_same_bytes():
    assert optimise_and_emit(HEAD + GOOD) == optimise_and_emit(HEAD + GOOD)


def test_a_child_that_says_nothing_is_explained():
    assert "status -6" in explain("", -6).message


def test_harmless_code_is_not_suspected():
    assessment = assess(optimise(HEAD + GOOD).text)
    assert not assessment.risky and assessment.doubts == ()


def test_importing_the_room_is_cheap():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, ebpfkit.llvm; print('llvmlite' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    assert done.stdout.strip() == "False"
