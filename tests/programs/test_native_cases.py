"""The realistic programs as native code for user space: what plain Python does, or a located refusal."""

from __future__ import annotations

import pytest

from ebpfkit.compiler.native import NativeRun
from ebpfkit.dsl.program import Program
from ebpfkit.errors import CompileError
from tests.programs.packets import frames_of
from tests.programs.test_cases import NAMES, Outcome, differ, entries, in_python, load_case

REFUSED = {
    "count_min": "RingBuf",
    "mac_learn": "RingBuf",
    "router": "PerCpuHash",
    "sample_payload": "RingBuf",
    "vxlan_inner": "LruPerCpuHash",
}
"""Cases with something that only the kernel has, and what it is."""


def in_native_code(prog: Program, frames: list[bytes]) -> Outcome:
    run = NativeRun(prog)
    run.fill_targets()
    ran = [run.run(frame) for frame in frames]
    maps = {f.name: entries(f, f.memory_store.items()) for f in prog.maps if f.map_type != "xskmap"}
    return ran, maps


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_native_code_does_what_python_does(name: str) -> None:
    frames = frames_of(name)
    wanted = in_python(getattr(load_case(name), name), frames)
    differ(in_native_code(getattr(load_case(name), name), frames), wanted, frames, "native")


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_the_kernel_has_is_refused_at_its_place(name: str) -> None:
    with pytest.raises(CompileError, match=f"{REFUSED[name]}.* cannot .*native code") as caught:
        NativeRun(getattr(load_case(name), name))
    assert caught.value.code == "not-native" and caught.value.span is not None and name in caught.value.span.file
