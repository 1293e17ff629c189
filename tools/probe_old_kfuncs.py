#!/usr/bin/env python3
"""Ask older kernels which kernel functions each program type may call, and print ebpfkit/abi/kfunc_history.py.

    python tools/probe_old_kfuncs.py 6.1 6.12 > ebpfkit/abi/kfunc_history.py

The kernels are those that guest_kernel.py fetched. Their BTF does not tag the functions, so those that Linux 6.18 has
and those that are known to have gone are called with zeroes in each program type, and the verifier's answer is read as
probe_kfuncs.py reads it. Functions of modules are not seen: none is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from guest_kernel import Guest, Load
from probe_helpers import ATTACH, SLEEPABLE, TARGETS
from probe_kfuncs import spell

from ebpfkit.abi import uapi
from ebpfkit.abi.kfunc_table import PROTOTYPES
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.insn import Instruction, KfuncRef
from ebpfkit.asm.isa import OPCODES
from ebpfkit.btf.types import Btf, Func, FuncProto
from ebpfkit.elf.model import ProgramSpec

HEAD = '''# ruff: noqa: E501 - one prototype a line
"""Kernel functions of older kernels: who may call them, and prototypes unlike 6.18's. Generated: do not edit.

Made by tools/probe_old_kfuncs.py from the BTF of each kernel and by loading one call of each for each program type.
Functions of modules are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

'''
_GONE = ("bpf_kfunc_call_", "bpf_verify_pkcs7_signature", "cgroup_rstat_", "crash_kexec")
_SKIPPED = {"ext", "struct_ops", "lirc_mode2"}


def candidates(btf: Btf) -> dict[str, int]:
    """Functions that could be such, by name."""
    found: dict[str, int] = {}
    for number, func in btf.iter_kind(Func):
        if (func.name.startswith(_GONE) or func.name in PROTOTYPES) and isinstance(btf.get(func.type), FuncProto):
            found.setdefault(func.name, number)
    return found


def prototype(btf: Btf, number: int) -> str:
    func = btf.get(number)
    assert isinstance(func, Func)
    proto = btf.get(func.type)
    assert isinstance(proto, FuncProto)
    return spell(btf, proto.ret) + "".join(f"|{param.name}:{spell(btf, param.type)}" for param in proto.params)


def loads(name: str, number: int, prog_type: str) -> Iterable[Load]:
    """One call in each way that programs of this type are loaded."""
    zeroes = [Instruction(OPCODES["MOV64_IMM"], dst=register) for register in range(1, 6)]
    call = Instruction(OPCODES["CALL_KFUNC"], src=2, ref=KfuncRef(name, number))
    code = (*zeroes, call, Instruction(OPCODES["MOV64_IMM"]), Instruction(OPCODES["EXIT"]))
    for attach in ATTACH.get(prog_type, ("",)):
        for flags in (0, uapi.BPF_F_SLEEPABLE) if prog_type in SLEEPABLE else (0,):
            if prog_type == "syscall" and not flags:
                continue
            spec = ProgramSpec("p", "", prog_type, code, "GPL", attach_type=attach.lower() or None, flags=flags)
            target = TARGETS.get(attach, "")
            yield Load(spec, attach_to=target)


def measure(guest: Guest) -> tuple[dict[str, set[str]], set[str], set[str]]:
    """Program types by function, functions that sleep, program types that the kernel refused before verification."""
    allowed: dict[str, set[str]] = {}
    sleeping: set[str] = set()
    asked: list[tuple[str, str]] = []
    batch: list[Load] = []
    for name, number in candidates(guest.vmlinux).items():
        for prog_type in PROG_TYPES.values():
            if prog_type.id and prog_type.name not in _SKIPPED:
                for load in loads(name, number, prog_type.name):
                    batch.append(load)
                    asked.append((name, prog_type.name))
    judged: set[str] = set()
    for (name, prog_type_name), verdict in zip(asked, guest.load(batch), strict=True):
        if "must be sleepable" in verdict.log:
            sleeping.add(name)
        if "processed" not in verdict.log and "kernel function" not in verdict.log:
            continue
        judged.add(prog_type_name)
        if f"{name} is not allowed" not in verdict.log and "not supported" not in verdict.log:
            allowed.setdefault(name, set()).add(prog_type_name)
    return allowed, sleeping, {t.name for t in PROG_TYPES.values() if t.id} - judged


def main() -> None:
    names: dict[str, list[str]] = {"UNMEASURED": [], "SLEEPS": [], "ALLOWED": [], "PROTOTYPES": []}
    for kernel in sys.argv[1:]:
        guest = Guest(kernel)
        allowed, sleeping, unmeasured = measure(guest)
        everywhere = {t.name for t in PROG_TYPES.values() if t.id} - unmeasured
        groups: dict[str, list[str]] = {}
        for name, types in allowed.items():
            groups.setdefault("*" if types >= everywhere else " ".join(sorted(types)), []).append(name)
        lines = [f"        ({types!r}, {' '.join(sorted(found))!r}),\n" for types, found in sorted(groups.items())]
        names["ALLOWED"].append(f"    {kernel!r}: (\n{''.join(lines)}    ),\n")
        names["UNMEASURED"].append(f"    {kernel!r}: {' '.join(sorted(unmeasured))!r},\n")
        names["SLEEPS"].append(f"    {kernel!r}: {' '.join(sorted(sleeping))!r},\n")
        ids = candidates(guest.vmlinux)
        found_types = {name: prototype(guest.vmlinux, ids[name]) for name in sorted(allowed)}
        rows = [f"        {n!r}: {text!r},\n" for n, text in found_types.items() if PROTOTYPES.get(n) != text]
        names["PROTOTYPES"].append(f"    {kernel!r}: {{\n{''.join(rows)}    }},\n")
    print(HEAD, end="")
    print("# Program types that the kernel refused before verification, or that were not asked.")
    print(f"UNMEASURED: Final[Mapping[str, str]] = {{\n{''.join(names['UNMEASURED'])}}}\n")
    print("# They sleep: the verifier asked for a sleepable program.")
    print(f"SLEEPS: Final[Mapping[str, str]] = {{\n{''.join(names['SLEEPS'])}}}\n")
    print("# (program types that may call them; *: every measured one, names)")
    print(f"ALLOWED: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {{\n{''.join(names['ALLOWED'])}}}\n")
    print("# Prototypes unlike those of the newest kernel measured, spelled as in `kfunc_table`.")
    print(f"PROTOTYPES: Final[Mapping[str, Mapping[str, str]]] = {{\n{''.join(names['PROTOTYPES'])}}}")


if __name__ == "__main__":
    main()
