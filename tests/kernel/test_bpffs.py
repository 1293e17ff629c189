"""Where pins may be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ebpfkit.kernel import bpf
from ebpfkit.kernel.bpffs import find_bpffs, is_bpffs


@pytest.mark.kernel
def test_bpffs_is_told_from_other_file_systems(tmp_path: Path) -> None:
    root = find_bpffs()
    assert root is not None
    assert is_bpffs(root)
    assert is_bpffs(f"{root}/not/there/yet")
    assert not is_bpffs(tmp_path)
    assert not is_bpffs("/proc/self")


@pytest.mark.kernel
def test_pin_and_get() -> None:
    path = f"{find_bpffs()}/ebpfkit_test_{os.getpid()}"
    with bpf.map_create(1, 4, 4, 3) as created:
        bpf.obj_pin(path, created)
        try:
            with bpf.obj_get(path) as again:
                assert bpf.map_info(again).id == bpf.map_info(created).id
        finally:
            os.unlink(path)
