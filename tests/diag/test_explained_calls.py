"""Advice that depends on the call it is about: what gives back, what moves the packet, what is still open."""

from __future__ import annotations

import pytest

from ebpfkit.diag.explain import PathStep, explain_rejection

LEAK = "Unreleased reference id=1 alloc_insn=5; BPF_EXIT instruction in main prog would lead to reference leak"

# name -> (rule, message, the call on the path, part of what happened, part of the mend)
CASES = {
    "an iterator": ("reference-leak", LEAK, "call bpf_iter_num_new", "bpf_iter_num_new()", "bpf_iter_num_destroy()"),
    "a record": ("reference-leak", LEAK, "call bpf_ringbuf_reserve#131", "still held", "bpf_ringbuf_discard()"),
    "a task": ("reference-leak", LEAK, "call bpf_task_from_pid", "still held", "bpf_task_release()"),
    "something unknown": ("reference-leak", LEAK, "call bpf_brand_new", "bpf_brand_new()", "on every path"),
    "a moved packet": (
        "invalid-memory-access", "R6 invalid mem access 'scalar'", "call bpf_xdp_adjust_head#44",
        "R6 pointed into the packet until bpf_xdp_adjust_head()", "Read data and data_end again",
    ),
    "a lock": (
        "lock", "function calls are not allowed while holding a lock", "call bpf_spin_lock#93",
        "what bpf_spin_lock() began at instruction 5 is not over here", "Unlock before",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_advice_names_the_call(name: str) -> None:
    rule, message, call, what, mend = CASES[name]
    diagnosis = explain_rejection(rule, message, path=(PathStep(5, call, None, "begun here"),))
    assert what in diagnosis.what and mend in diagnosis.mend, diagnosis


def test_a_callback_is_told_what_it_returns() -> None:
    message = "At callback return the register R0 has smin=0 smax=7 should have been in [0, 1]"
    diagnosis = explain_rejection("return-value", message, registers={"R0": "0..7"})
    assert diagnosis.what == "a callback returns 0 to 1, and R0 is 0..7"
