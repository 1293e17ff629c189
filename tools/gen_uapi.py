#!/usr/bin/env python3
"""Generate ebpfkit/abi/uapi.py: names and numbers of the kernel's user interface, from its public headers.

    python tools/gen_uapi.py [--headers DIR] [--cc "clang"] > ebpfkit/abi/uapi.py

DIR holds linux/bpf.h and its siblings, the newer the better; without it those that the ziglang package carries, else
/usr/include. The test suite compares the result with the running kernel's BTF.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

HEADERS = ("bpf.h", "bpf_common.h", "btf.h", "if_link.h", "if_xdp.h", "netdev.h")
# Headers of which only some names are wanted: the rest belongs to other subsystems.
WANTED = {
    "if_link.h": re.compile(r"^(XDP_|IFLA_XDP|__IFLA_XDP|NETKIT_)"),
    "netdev.h": re.compile(r"^NETDEV_"),
}
WANTED_ENUMS = {"if_link.h": {"netkit_action", "netkit_mode"}}
SKIP_MACROS = re.compile(r"^(_|__.*|.*_H__?|BPF_SOCK_OPS_.*_OFFSET)$")
OPERATORS = {
    ast.LShift: lambda a, b: a << b,
    ast.RShift: lambda a, b: a >> b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitAnd: lambda a, b: a & b,
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
}


def evaluate(text: str, names: dict[str, int]) -> int:
    """The value of a C integer constant expression; raises ValueError when it is none."""
    text = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", " ".join(text.split()))
    text = re.sub(r"\((__u64|__u32|__u16|__s32|int)\)", "", text)
    text = re.sub(r"\b0+(\d)", r"\1", text) if re.fullmatch(r"0\d+", text) else text

    def walk(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -walk(operand)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return ~walk(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return int(OPERATORS[type(op)](walk(left), walk(right)))
        raise ValueError(text)

    try:
        return walk(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise ValueError(text) from error


def preprocess(cc: str, directory: Path, header: str, flags: list[str]) -> str:
    command = [*cc.split(), "-nostdinc", "-I", str(directory), "-E", *flags, "-"]
    arch = directory.parent / "x86_64-linux-any"
    for extra in (arch, Path("/usr/include/x86_64-linux-gnu")):
        if extra.is_dir():
            command[-1:-1] = ["-I", str(extra)]
    # if_link.h of some distributions pulls in the C library's sockaddr; the kernel's own is enough.
    source = f"#include <linux/{header}>\n"
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


def read_enums(text: str, header: str) -> dict[str, list[tuple[str, int]]]:
    """Enums of one header with member values; anonymous ones are called '<first member>'."""
    own, inside = [], False
    for line in text.splitlines():
        if marker := re.match(r'# \d+ "([^"]+)"', line):
            inside = marker[1].endswith(f"linux/{header}")
        elif inside:
            own.append(line)
    enums: dict[str, list[tuple[str, int]]] = {}
    names: dict[str, int] = {}
    for match in re.finditer(r"\benum\s*(\w*)\s*\{([^}]*)\}", "\n".join(own)):
        members, value = [], -1
        for item in match[2].split(","):
            if not (item := item.strip()):
                continue
            name, _, expression = (part.strip() for part in item.partition("="))
            value = evaluate(expression, names) if expression else value + 1
            names[name] = value
            members.append((name, value))
        enums[match[1] or f"<{members[0][0]}>"] = members
    return enums


def read_macros(text: str, own_text: str, names: dict[str, int]) -> list[tuple[str, int]]:
    """Object-like macros of one header that are integers, in the header's own order."""
    bodies = dict(re.findall(r"^#define (\w+) (.+)$", text, re.MULTILINE))
    result: dict[str, int] = {}
    order = [name for name in re.findall(r"^\s*#\s*define\s+(\w+)(?!\()", own_text, re.MULTILINE) if name in bodies]
    for _ in range(4):  # macros may use later ones
        for name in order:
            if name in result or name in names or SKIP_MACROS.match(name):
                continue
            try:
                result[name] = evaluate(bodies[name], {**names, **result})
            except ValueError:
                continue
    return [(name, result[name]) for name in dict.fromkeys(order) if name in result]


def default_headers() -> Path:
    try:
        import ziglang
    except ImportError:
        return Path("/usr/include")
    return Path(ziglang.__file__).parent / "lib/libc/include/any-linux-any"


def headers_version(directory: Path) -> str:
    text = (directory / "linux/version.h").read_text()
    major, patch = (re.search(rf"{name} (\d+)", text) for name in ("VERSION_MAJOR", "VERSION_PATCHLEVEL"))
    return f"{major[1]}.{patch[1]}" if major and patch else "?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headers", type=Path, default=default_headers())
    parser.add_argument("--cc", default="clang")
    options = parser.parse_args()
    out = sys.stdout
    out.write(
        '"""Enums and constants of the kernel\'s user interface, by their own names. Generated: do not edit.\n\n'
        f"Made by tools/gen_uapi.py from the Linux {headers_version(options.headers)} headers"
        f" linux/{{{','.join(HEADERS)}}}.\n"
        'Names and numbers only; what they mean is in the rows of this package.\n"""\n\n'
        "from __future__ import annotations\n\nfrom collections.abc import Mapping\nfrom typing import Final\n\n"
        f"HEADERS_VERSION: Final = {headers_version(options.headers)!r}\n"
    )
    names: dict[str, int] = {}
    enums: dict[str, list[tuple[str, int]]] = {}
    for header in HEADERS:
        wanted = WANTED.get(header)
        own_text = (options.headers / "linux" / header).read_text()
        out.write(f"\n# --- linux/{header} ---\n")
        for enum, members in read_enums(preprocess(options.cc, options.headers, header, []), header).items():
            kept = [(n, v) for n, v in members if wanted is None or wanted.match(n)]
            if not kept or any(n in names for n, _ in kept):
                continue
            out.write(f"\n# enum {enum}\n" if not enum.startswith("<") else "\n# enum\n")
            for name, value in kept:
                out.write(f"{name} = {value:#x}\n" if value > 0xFFFF else f"{name} = {value}\n")
            names.update(kept)
            if not enum.startswith("<"):
                enums[enum] = kept
        macros = read_macros(preprocess(options.cc, options.headers, header, ["-dM"]), own_text, names)
        macros = [(n, v) for n, v in macros if wanted is None or wanted.match(n)]
        if macros:
            out.write("\n# macros\n")
            for name, value in macros:
                out.write(f"{name} = {value:#x}\n" if value > 0xFFFF else f"{name} = {value}\n")
            names.update(macros)
    out.write("\nENUMS: Final[Mapping[str, Mapping[str, int]]] = {\n")
    for enum, members in enums.items():
        out.write(f'    "{enum}": {{\n')
        for name, _ in members:
            out.write(f'        "{name}": {name},\n')
        out.write("    },\n")
    out.write('}\n"""Members of every named enum above, aliases and end marks included."""\n')


if __name__ == "__main__":
    main()
