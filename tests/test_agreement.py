"""Plain Python and the virtual machine (and the kernel) compute the same, over programs written at random."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ebpfkit.dsl.execute import run_python
from ebpfkit.maps.memory import create_store
from ebpfkit.pipeline import build
from ebpfkit.vm import Machine
from tests.generated import frames, source

SEEDS = range(40)
KERNEL_SEEDS = range(0, 40, 4)


def load(seed: int, folder: Path) -> ModuleType:
    path = folder / f"generated_{seed}.py"
    path.write_text(source(seed))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def in_python(module: ModuleType, frame: bytes) -> tuple[int, bytes | None]:
    store = create_store(module.out.spec)
    done = run_python(module.prog, frame, maps={module.out: store})
    return int(done.action), store.get(bytes(4))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_virtual_machine_computes_what_python_computes(seed, tmp_path):
    module = load(seed, tmp_path)
    obj = build(module.prog)
    for frame in frames(seed):
        store = create_store(module.out.spec)
        done = Machine(obj, maps=[store]).run(frame)
        assert (done.r0 & 0xFFFF_FFFF, store.get(bytes(4))) == in_python(module, frame), frame.hex()


@pytest.mark.kernel
@pytest.mark.parametrize("seed", KERNEL_SEEDS)
def test_the_kernel_computes_what_python_computes(seed, tmp_path):
    from ebpfkit.loader import Collection

    module = load(seed, tmp_path)
    obj = build(module.prog)
    for frame in frames(seed):
        with Collection.load(obj) as collection:
            done = collection.programs["prog"].test_run(frame)
            value = collection.maps["out"].get(bytes(4))
        assert (done.retval, value) == in_python(module, frame), frame.hex()
