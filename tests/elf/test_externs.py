"""What programs borrow from the kernel: its configuration, its variables, functions and addresses."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import pytest

from ebpfkit.asm.insn import KfuncRef, MapValueRef, VarRef
from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.btf.types import Datasec, Func, Linkage, Var
from ebpfkit.elf import ObjectFile, get_variable, open_object
from ebpfkit.elf.kconfig import parse_config
from ebpfkit.errors import NotSupported, ObjectError, VerifierError
from tests.elf.objects import compile_c

VALUES = {
    "LINUX_KERNEL_VERSION": 6 << 16 | 18 << 8 | 5, "CONFIG_BPF": "y", "CONFIG_BPF_SYSCALL": "m", "CONFIG_HZ": "250",
    "CONFIG_NET": "y", "CONFIG_LOCALVERSION": '"-abc"',
}  # fmt: skip


def opened(**changes: str | int) -> ObjectFile:
    return open_object(compile_c("externs"), kconfig={**VALUES, **changes})


def test_configuration_files() -> None:
    text = b'#\n# Kernel\n#\nCONFIG_A=y\nCONFIG_HZ=1000\nCONFIG_NAME="a=b"\n# CONFIG_B is not set\nOTHER=1\n'
    expected = {"CONFIG_A": "y", "CONFIG_HZ": "1000", "CONFIG_NAME": '"a=b"'}
    assert parse_config(text) == parse_config(gzip.compress(text)) == expected
    with pytest.raises(ObjectError, match="archive is broken"):
        parse_config(b"\x1f\x8b" + bytes(40))
    with pytest.raises(ObjectError, match="more than 16 MiB"):
        parse_config(gzip.compress(bytes(17 << 20)))


def test_values() -> None:
    obj = opened()
    numbers = {name: int.from_bytes(get_variable(obj, name), "little") for name in obj.variables if name.isupper()}
    assert numbers == {
        "LINUX_KERNEL_VERSION": 0x61205, "CONFIG_BPF": 1, "CONFIG_BPF_SYSCALL": 2, "CONFIG_HZ": 250,
        "CONFIG_NET": ord("y"), "CONFIG_LOCALVERSION": int.from_bytes(b"-abc", "little"), "CONFIG_NO_SUCH_OPTION": 0,
        "CONFIG_MISSING_OPTION": 0,
    }  # fmt: skip
    assert {i.ref.name for i in obj.programs["config"].instructions if isinstance(i.ref, MapValueRef)} == {
        ".kconfig", ".bss",
    }  # fmt: skip
    assert obj.maps[".kconfig"].frozen
    assert "has no CONFIG_MISSING_OPTION; declare it __weak" in obj.problems["missing_config"]
    assert obj.btf is not None
    section = obj.btf.find(".kconfig", Datasec)
    assert section is not None and section.size == len(obj.maps[".kconfig"].data or b"")
    for row in section.vars:
        var = obj.btf.types[row.type]
        assert isinstance(var, Var) and var.linkage == Linkage.GLOBAL
        assert obj.variables[var.name].offset == row.offset


def test_without_a_configuration() -> None:
    obj = open_object(compile_c("externs"))
    assert obj.needs_config == {"config", "missing_config"} and ".kconfig" not in obj.maps
    assert "give the configuration (kconfig)" in obj.problems["config"]


BAD_VALUES = [
    ("CONFIG_BPF", "m", "cannot hold"), ("CONFIG_BPF", "7", "cannot hold"), ("CONFIG_HZ", "y", "cannot hold"),
    ("CONFIG_HZ", "99999999999", "does not fit"), ("CONFIG_HZ", "many", "no number"),
    ("CONFIG_BPF_SYSCALL", "5", "y, n or m"), ("CONFIG_LOCALVERSION", "5", "no text"),
    ("CONFIG_HZ", "1" * 9999, "no number"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), BAD_VALUES, ids=[f"{r[0]}-{r[1][:9]}" for r in BAD_VALUES])
def test_values_that_do_not_fit(name: str, value: str, message: str) -> None:
    assert message in opened(**{name: value}).problems["config"]


def test_references() -> None:
    refs = [insn.ref for insn in opened().programs["kernel_symbols"].instructions]
    assert {ref for ref in refs if isinstance(ref, VarRef)} == {
        VarRef("bpf_prog_put", kind="address"), VarRef("no_such_symbol", weak=True, kind="address"),
        VarRef("no_such_variable", weak=True),
        VarRef("bpf_no_such_function", weak=True, kind="func"),
    }  # fmt: skip
    assert {ref for ref in refs if isinstance(ref, KfuncRef)} == {
        KfuncRef("bpf_rcu_read_lock"), KfuncRef("bpf_rcu_read_unlock"), KfuncRef("bpf_no_such_function", weak=True),
    }  # fmt: skip


def running() -> ObjectFile:
    from ebpfkit.kernel.symbols import read_config
    from ebpfkit.kernel.version import kernel_release_code

    text = read_config()
    if text is None:
        pytest.skip("this kernel does not tell its configuration")
    values = {**parse_config(text), "LINUX_KERNEL_VERSION": kernel_release_code()}
    return open_object(compile_c("externs"), kconfig=values)


@pytest.mark.kernel
def test_programs_see_the_running_kernel() -> None:
    from ebpfkit.kernel.symbols import symbol_addresses
    from ebpfkit.loader import Collection

    obj = running()
    with Collection.load(obj, programs=["config", "kernel_symbols"]) as collection:
        bss = collection.maps[".bss"]

        def seen(program: str) -> tuple[int, ...]:
            assert collection.programs[program].test_run(bytes(64)).retval == 2
            offset = obj.variables["seen"].offset
            return struct.unpack_from("8Q", bss.get(bytes(4)) or b"", offset)

        values = seen("config")
        major, minor = os.uname().release.split(".")[:2]
        assert values[0] >> 8 == int(major) << 8 | int(minor)
        assert values[1:3] == (1, 1) and values[4] == ord("y") and values[6] == 0
        assert values[3] == int(parse_config_of_kernel()["CONFIG_HZ"])
        (address,) = symbol_addresses({"bpf_prog_put"})["bpf_prog_put"]
        assert seen("kernel_symbols")[:3] == (address, 0, 0)
    with pytest.raises(NotSupported, match="kernel symbol lost_symbol is not supported: this kernel does not have it"):
        Collection.load(obj, programs=["lost"])


@pytest.mark.kernel
def test_kernel_variables() -> None:
    """The type id is right either way: a kernel without CONFIG_KALLSYMS_ALL then misses the variable's address."""
    from ebpfkit.loader import Collection

    obj = running()
    assert {i.ref for i in obj.programs["kernel_variable"].instructions if isinstance(i.ref, VarRef)} == {
        VarRef("runqueues")
    }
    if parse_config_of_kernel().get("CONFIG_KALLSYMS_ALL") == "y":
        with Collection.load(obj, programs=["kernel_variable"]) as collection:
            assert collection.programs["kernel_variable"].test_run(bytes(64)).retval == 2
    else:
        with pytest.raises(VerifierError, match="failed to find the address for kernel symbol 'runqueues'"):
            Collection.load(obj, programs=["kernel_variable"])


def parse_config_of_kernel() -> dict[str, str]:
    from ebpfkit.kernel.symbols import read_config

    return parse_config(read_config() or b"")


def test_symbols_of_modules() -> None:
    """A module's types extend the kernel's: found there when the kernel itself has no such name."""
    from ebpfkit.loader.externs import Externs, KernelSymbol, find_symbols
    from ebpfkit.loader.kernel_types import KernelTypes

    kernel, module = BtfBuilder(), BtfBuilder()
    proto = kernel.func_proto(0)
    kernel.func("in_kernel", proto)
    base = kernel.build()
    split = Btf.from_bytes(base.to_bytes())
    added = Btf([*split.types, Func("in_module", proto), Func("in_kernel", proto)], b"", base=split)
    module_btf = Btf.from_bytes(added.to_bytes(), base=split)
    assert module_btf.to_bytes() != base.to_bytes() and module
    types = KernelTypes(split, {"mod": module_btf})
    count = len(split.types)
    assert find_symbols(["in_kernel___old", "___x"], Func, types) == {"in_kernel___old": KernelSymbol(count - 1)}
    found = find_symbols(["in_kernel", "in_module", "nowhere"], Func, types)
    assert found == {"in_kernel": KernelSymbol(count - 1), "in_module": KernelSymbol(count, "mod")}
    externs = Externs(functions=found, modules={"mod": _Open(7)})  # type: ignore[dict-item]
    assert externs.place("mod") == 1 and externs.fd_array() == struct.pack("=ii", 0, 7)


class _Open:
    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number


@pytest.mark.kernel
def test_hidden_and_missing_symbol_tables(tmp_path: Path) -> None:
    from ebpfkit.errors import KernelError
    from ebpfkit.kernel.symbols import symbol_addresses

    table = tmp_path / "kallsyms"
    table.write_text("0000000000000000 T one\n0000000000000000 t two\t[mod]\n")
    with pytest.raises(KernelError, match="hides its addresses"):
        symbol_addresses({"one", "two"}, str(table))
    table.write_text("00000000000000ff T one\nfff0000000000001 t two\t[mod]\nfff0000000000002 t two\n")
    assert symbol_addresses({"one", "two", "tw"}, str(table)) == {
        "one": {0xFF}, "two": {0xFFF0000000000001, 0xFFF0000000000002},
    }  # fmt: skip
    with pytest.raises(KernelError, match="cannot read"):
        symbol_addresses({"one"}, str(tmp_path / "none"))
