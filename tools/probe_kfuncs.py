#!/usr/bin/env python3
"""Ask the running kernel which of its functions each program type may call; print ebpfkit/abi/kfunc_table.py.

    sudo python tools/probe_kfuncs.py > ebpfkit/abi/kfunc_table.py

Names and prototypes are those of the kernel's BTF (functions tagged bpf_kfunc). For each program type, with its attach
types, it loads a program that calls the function with zeroes and reads the verifier's answer: "is not allowed" is no,
everything else is yes; "must be sleepable" marks those that sleep. Nothing is attached and nothing stays loaded.
"""

from __future__ import annotations

import platform

from probe_helpers import TARGETS, btf_ids, insn, load, variants

from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.btf.types import Array, Btf, DeclTag, Enum, Func, FuncProto, Int, Ptr, Struct, Union
from ebpfkit.btf.vmlinux import read_btf_file

HEAD = '''# ruff: noqa: E501, ISC004 - one prototype a line
"""Kernel functions that programs may call: prototypes, and which program types may. Generated: do not edit.

Made by tools/probe_kfuncs.py from the BTF of Linux {kernel} and by loading one call of each for each program type.
Rows only; flags and what the rows mean are `kfuncs`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEASURED_ON: Final = "{kernel}"

# Program types that the measured kernel refused before verification.
UNMEASURED: Final[tuple[str, ...]] = ({unmeasured})
'''


def spell(btf: Btf, number: int) -> str:
    """A type as the table has it: v, sN, uN, s32-like sizes in bytes, *TARGET."""
    type_ = btf.resolve(number)
    if isinstance(type_, Int | Enum):
        signed = isinstance(type_, Int) and type_.is_signed
        return f"{'s' if signed else 'u'}{type_.size}"
    if isinstance(type_, Ptr):
        target = btf.resolve(type_.type)
        if isinstance(target, Struct):
            plain = "" if _is_plain(btf, type_.type, 4) else "!"
            kind = "union" if isinstance(target, Union) else "struct"
            return f"*{kind} {target.name} {target.size}{plain}"
        if isinstance(target, FuncProto):
            return "*func"
        return "*" + spell(btf, type_.type)
    if isinstance(type_, FuncProto):
        return "func"
    if type_.__class__.__name__ == "Fwd":
        return f"struct {btf.name(type_)} 0!"
    return "v"


def _is_plain(btf: Btf, number: int, depth: int) -> bool:
    """Whether the structure holds nothing but numbers, the kernel's condition for taking it as memory."""
    type_ = btf.resolve(number)
    if isinstance(type_, Int | Enum):
        return True
    if isinstance(type_, Array):
        element = btf.resolve(type_.type)
        return isinstance(element, Int | Enum) or _is_plain(btf, type_.type, depth - 1)
    if isinstance(type_, Struct) and depth:
        return all(_is_plain(btf, member.type, depth - 1) for member in type_.members)
    return False


def main() -> None:
    btf = read_btf_file()
    numbers = sorted({tag.type for _, tag in btf.iter_kind(DeclTag) if tag.name == "bpf_kfunc" and tag.component < 0})
    functions: dict[str, tuple[int, str]] = {}
    for number in numbers:
        func = btf.get(number)
        assert isinstance(func, Func)
        proto = btf.get(func.type)
        assert isinstance(proto, FuncProto)
        params = "".join(f"|{param.name}:{spell(btf, param.type)}" for param in proto.params)
        functions[func.name] = (number, spell(btf, proto.ret) + params)
    targets = btf_ids(*TARGETS.values())
    allowed: dict[str, set[str]] = {}
    sleeping: set[str] = set()
    unmeasured: list[str] = []
    for prog_type in PROG_TYPES.values():
        if not prog_type.id:
            continue
        usable = [
            keys
            for keys in variants(prog_type.name, targets)
            if load(insn(0xB7) + insn(0x95), prog_type.id, **keys)[0] or prog_type.name not in ("lsm", "ext")
        ]
        answers = 0
        for name, (number, _) in functions.items():
            code = b"".join(insn(0xB7, register) for register in range(1, 6))
            code += insn(0x85, src=2, imm=number) + insn(0xB7) + insn(0x95)
            for keys in usable:
                log = load(code, prog_type.id, **keys)[1]
                if "must be sleepable" in log:
                    sleeping.add(name)
                if "processed 0 insns" in log and "device-bound" not in log:
                    continue  # refused for another reason before the call was looked at
                if "processed" not in log and "kernel function" not in log:
                    continue
                answers += 1
                if f"{name} is not allowed" not in log:
                    allowed.setdefault(name, set()).add(prog_type.name)
        if not answers:
            unmeasured.append(prog_type.name)
    everywhere = {t.name for t in PROG_TYPES.values() if t.id} - set(unmeasured)
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in functions:
        types = allowed.get(name, set())
        key = ("*",) if types >= everywhere else tuple(sorted(types))
        groups.setdefault(key, []).append(name)
    kernel = ".".join(platform.release().split(".")[:2])
    print(HEAD.format(kernel=kernel, unmeasured="".join(f'"{name}", ' for name in unmeasured).rstrip(" ")), end="")
    print("\n# They sleep: the verifier asked for a sleepable program.")
    print("SLEEPS: Final = (")
    print("".join(f'    "{name} "\n' for name in sorted(sleeping)) + ")\n")
    print("# (program types that may call them; *: every measured one, names)")
    print("ALLOWED: Final[tuple[tuple[str, str], ...]] = (")
    for key, names in sorted(groups.items()):
        print(f'    (\n        "{" ".join(key)}",')
        ordered = sorted(names)
        body = "\n".join(f'        "{name} "' for name in ordered)
        print(body + ",\n    ),")
    print(")\n")
    print(
        "# Result, then parameters: u4 a 4-byte number, v nothing, *TYPE a pointer; a structure has its size in bytes,"
    )
    print("# and ! where it holds more than numbers.")
    print("PROTOTYPES: Final[Mapping[str, str]] = {")
    for name, (_, prototype) in sorted(functions.items()):
        print(f'    "{name}": "{prototype}",')
    print("}")


if __name__ == "__main__":
    main()
