#!/usr/bin/env python3
"""Ask older kernels which helpers each program type may call, and print ebpfkit/abi/helper_history.py.

    python tools/probe_old_kernels.py VMLINUZ... > ebpfkit/abi/helper_history.py

Each VMLINUZ is a kernel image with BPF and a serial console built in (Debian's linux-image-*-cloud-amd64 packages have
one). It is booted under qemu's emulation, without network or disk, with tools/guest_helpers.c as its only process; that
takes about half a minute each. Needs qemu-system-x86_64 and zig (`python -m ziglang`).
"""

from __future__ import annotations

import argparse
import gzip
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

sys.path.insert(0, str(Path(__file__).parent))
from probe_helpers import ATTACH

from ebpfkit.abi import uapi
from ebpfkit.abi.helper_permissions import ALLOWED, MEASURED_ON
from ebpfkit.abi.helpers import HELPERS
from ebpfkit.abi.versions import parse_version

TYPES = {
    number: name.removeprefix("BPF_PROG_TYPE_").lower()
    for name, number in uapi.ENUMS["bpf_prog_type"].items()
    if name.startswith("BPF_") and number
}
# These need BTF ids, which differ from kernel to kernel.
SKIPPED = {"tracing", "lsm", "ext", "struct_ops"}
_CASE = re.compile(r"CASE (\d+) \d+ \d+:([\d g]*)")


def cases() -> str:
    rows = []
    for number, name in TYPES.items():
        if name in SKIPPED:
            continue
        for attach in ATTACH.get(name, ("",)):
            kind = uapi.ENUMS["bpf_attach_type"][f"BPF_{attach}"] if attach else 0
            sleepable = uapi.BPF_F_SLEEPABLE
            for flags in {"syscall": (sleepable,), "kprobe": (0, sleepable)}.get(name, (0,)):
                rows.append(f"{{{number}, {kind}, {flags}}}")
    return f"static const unsigned cases[][3] = {{{', '.join(rows)}}};\n"


def archive(init: bytes, files: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    """An initial file system (cpio "newc") with /init, /dev/console and files at its root."""

    def entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
        path = name.encode() + b"\0"
        numbers = (1, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers) + path
        return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)

    return gzip.compress(
        entry("dev", 0o40755)
        + entry("dev/console", 0o20600, device=(5, 1))
        + entry("init", 0o100755, init)
        + b"".join(entry(name, 0o100644, data) for name, data in files.items())
        + entry("TRAILER!!!", 0),
        compresslevel=1,
    )


def ask(image: Path, initrd: Path) -> tuple[str, dict[str, set[int]]]:
    """The kernel's release, and the helpers of each program type that it could load."""
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-nographic",
        "-no-reboot", "-nic", "none", "-kernel", str(image), "-initrd", str(initrd),
        "-append", "console=ttyS0 quiet panic=-1",
    ]  # fmt: skip
    text = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=True, stdin=subprocess.DEVNULL
    ).stdout
    release = re.search(r"KERNEL (\S+)", text)
    if release is None or "DONE" not in text:
        raise SystemExit(f"{image}: the guest did not finish:\n{text[-2000:]}")
    found: dict[str, set[int]] = {}
    for number, helpers in _CASE.findall(text):
        found.setdefault(TYPES[int(number)], set()).update(int(word.rstrip("g")) for word in helpers.split())
    return release[1], found


def later(answers: dict[str, dict[str, set[int]]]) -> dict[str, dict[str, list[str]]]:
    """Program type -> first kernel -> helpers that were known before but came to this program type with that kernel."""
    base = ALLOWED["*"].split()
    newest = {name: {*base, *names.split()} for name, names in ALLOWED.items() if name != "*"}
    result: dict[str, dict[str, list[str]]] = {}
    for prog_type, names in newest.items():
        measured = [release for release, found in answers.items() if prog_type in found]
        for spec in HELPERS.values():
            if spec.name not in names or not measured:
                continue
            first = next((release for release in measured if spec.id in answers[release][prog_type]), MEASURED_ON)
            # Before its own first kernel a helper is missing anyway.
            known = [release for release in answers if parse_version(release) >= parse_version(spec.since or "4.4")]
            if known and parse_version(first) > parse_version(known[0]):
                result.setdefault(prog_type, {}).setdefault(first, []).append(spec.name)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    options = parser.parse_args()
    answers: dict[str, dict[str, set[int]]] = {}
    releases = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "cases.h").write_text(cases())
        source = Path(__file__).with_name("guest_helpers.c")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-static", "-O1"]
        subprocess.run([*compiler, "-I", folder, str(source), "-o", str(place / "init")], check=True)
        (place / "initrd").write_bytes(archive((place / "init").read_bytes()))
        for image in options.images:
            release, found = ask(image, place / "initrd")
            releases.append(release)
            answers[".".join(str(part) for part in parse_version(release))] = found
    answers = dict(sorted(answers.items(), key=lambda item: parse_version(item[0])))
    print(
        '"""Which kernels opened helpers to more program types. Generated: do not edit.\n\n'
        "Made by tools/probe_old_kernels.py: each helper was called in each program type on the kernels named here\n"
        f"and on {MEASURED_ON}. A helper that is not listed could be called since its own first kernel, as far as\n"
        "these can tell.\n"
        '"""\n\nfrom __future__ import annotations\n\nfrom collections.abc import Mapping\nfrom typing import Final\n\n'
        f"MEASURED: Final = {tuple(sorted(releases))!r}\n\n"
        "# Program type -> first of the measured kernels -> helpers.\n"
        "LATER: Final[Mapping[str, Mapping[str, str]]] = {"
    )
    for prog_type, by_release in later(answers).items():
        print(f'    "{prog_type}": {{')
        for release, names in by_release.items():
            print(f'        "{release}": (')
            line = ""
            for name in names:
                if len(line) + len(name) > 96:
                    print(f'            "{line}"')
                    line = ""
                line += f"{name} "
            print(f'            "{line.strip()}"\n        ),')
        print("    },")
    print("}")


if __name__ == "__main__":
    main()
