"""Types as Python classes: every size and offset as in the BTF, and values that go through them unchanged."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from ebpfkit.btf import Btf
from ebpfkit.btf import types as t
from ebpfkit.btf.python import dump_python
from ebpfkit.dsl import sizeof
from ebpfkit.dsl.structs import offsetof
from ebpfkit.elf import open_object
from ebpfkit.errors import ObjectError
from tests.btf.test_dump import odd_types
from tests.elf.objects import compile_c


def load(text: str, folder: Path, name: str = "generated_types") -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def check(btf: Btf, module: ModuleType) -> int:
    count = 0
    for _, struct_ in btf.iter_kind(t.Struct):
        cls = getattr(module, struct_.name, None) if struct_.name else None
        if cls is None or len(btf.ids(struct_.name)) > 1:
            continue
        assert sizeof(cls) == struct_.size
        for member in struct_.members:
            if (
                member.name
                and hasattr(cls, member.name)
                and not member.bitfield_size
                and btf.size_of(member.type)
                and member.bit_offset % 8 == 0
            ):
                assert offsetof(cls, member.name) == member.offset, (struct_.name, member.name)
                count += 1
    return count


def test_odd_layouts(tmp_path: Path) -> None:
    btf = odd_types(tmp_path)
    module = load(dump_python(btf), tmp_path)
    assert check(btf, module) > 25
    value = module.packed.zero()
    value.b = -5
    value.c = 7
    assert bytes(value) == b"\0" + (-5).to_bytes(4, "little", signed=True) + (7).to_bytes(2, "little")
    assert module.MANY == 200 and module.FAR & 0xFFFF_FFFF == 0x89ABCDEF  # clang 14 writes no 64-bit constants


@pytest.mark.parametrize("name", ["maps", "nested", "core", "link_a"])
def test_objects(name: str, tmp_path: Path) -> None:
    btf = open_object(compile_c(name)).btf
    assert btf is not None
    assert check(btf, load(dump_python(btf), tmp_path)) > 3


def test_the_stub_type_checks(tmp_path: Path) -> None:
    from ebpfkit.cli.main import cli

    path = tmp_path / "odd.o"
    odd_types(tmp_path)
    out = tmp_path / "odd_types.py"
    arguments = ["btf", "dump", "--python", str(path), "--type", "all", "-o", str(out)]
    assert CliRunner().invoke(cli, arguments, standalone_mode=False).exception is None
    assert "class all(Struct, packed=True):" in out.with_suffix(".pyi").read_text()
    use = tmp_path / "use.py"
    use.write_text("from odd_types import packed\n\nvalue = packed.zero()\nvalue.b = 5\nprint(int(value.b) + 1)\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "use.py"]
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kernels_packet(tmp_path: Path) -> None:
    from ebpfkit.btf.vmlinux import KERNEL_BTF, read_btf_file

    if not Path(KERNEL_BTF).exists():
        pytest.skip("this kernel has no BTF")
    btf = read_btf_file()
    roots = [btf.find_id(name, t.Struct) for name in ("xdp_buff", "sk_buff", "ethhdr", "bpf_prog_info")]
    module = load(dump_python(btf, roots), tmp_path)
    assert check(btf, module) > 50


def test_a_circle_is_refused() -> None:
    with pytest.raises(ObjectError):
        dump_python(Btf([t.VOID, t.Struct("s", 8, (t.Member("x", 1, 0),))]))
