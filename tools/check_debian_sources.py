"""Build the eBPF programs of Debian source packages, and hold ours against the running kernel and libbpf.

    python tools/check_debian_sources.py OBJECT...      # objects that were built already
    python tools/check_debian_sources.py --fetch DIR    # fetch PACKAGES with apt-get source, build, check

Fetching brings its own `deb-src` line and package lists, in DIR; a package that the mirror does not give is named and
left out. Building needs clang and the headers of libbpf and Linux. Nothing of the packages is kept in the project. For
each object: every program linked or its reason, loaded as root, and where bpftool loads the object too, whether the
kernel's program tags are the same. One line each; exit status 1 when something differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

# source package -> its eBPF programs, and folders of headers in it
PACKAGES = {
    "iproute2": (("examples/bpf/**/*.c",), ("include", "include/uapi")),
    "systemd": (("src/**/*.bpf.c",), ()),
    "knot": (("src/libknot/xdp/bpf-kernel.c",), ()),
    "xdp-tools": (("xdp-filter/*_*.c", "xdp-dump/*bpf.c", "lib/libxdp/xsk_def_*.c"), ("headers", "lib/libbpf/src")),
    "bpfcc": (("libbpf-tools/*.bpf.c",), ("libbpf-tools/x86",)),
    "v4l-utils": (("utils/keytable/bpf_protocols/*.c",), ()),
}
SHORT = 15  # of a name the kernel keeps so much; bpftool shows more where types have it
SOURCES = "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {} main\n"
SCRIPT = """
mount -t bpf bpf /sys/fs/bpf || exit 1
bpftool prog loadall "$0" /sys/fs/bpf/programs >/dev/null 2>&1 ||
    bpftool prog loadall "$0" /sys/fs/bpf/programs type classifier >/dev/null 2>&1 || exit 1
for pin in /sys/fs/bpf/programs/*; do bpftool -j prog show pinned "$pin"; echo; done
"""


def fetch(folder: Path) -> dict[str, Path]:
    """The unpacked sources of each package that the mirror gives."""
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    sources = folder / "sources.list"
    sources.write_text(SOURCES.format(release["VERSION_CODENAME"].strip('"')))
    apt = ["apt-get", "-qq"]
    for option in (f"Dir::Etc::SourceList={sources}", "Dir::Etc::SourceParts=/dev/null",
                   f"Dir::State::Lists={folder / 'lists'}", "APT::Sandbox::User=root"):  # fmt: skip
        apt += ["-o", option]
    subprocess.run([*apt, "update"], check=True)
    found = {}
    for package in PACKAGES:
        if not any(folder.glob(f"{package}-*/")):
            subprocess.run([*apt, "source", package], cwd=folder, check=False, capture_output=True)
        roots = [path for path in folder.glob(f"{package}-*") if path.is_dir()]
        if roots:
            found[package] = roots[0]
        else:
            print(f"{package}: the mirror does not give its source")
    return found


def build(folder: Path) -> list[Path]:
    """Fetch the packages, and compile what in them is eBPF."""
    folder = folder.resolve()
    roots = fetch(folder)
    header = folder / "vmlinux.h"
    subprocess.run([sys.executable, "-m", "ebpfkit", "btf", "dump", "--c", "vmlinux", "-o", str(header)], check=True)
    made = []
    for package, root in roots.items():
        patterns, folders = PACKAGES[package]
        for source in sorted(path for pattern in patterns for path in root.glob(pattern)):
            out = folder / f"{package}_{source.parent.name}_{source.stem}.o"
            command = [
                "clang", "--target=bpf", "-O2", "-g", "-mcpu=v3", "-w", "-D__x86_64__", "-D__TARGET_ARCH_x86",
                *(f"-I{root / name}" for name in folders), f"-I{folder}", "-I/usr/include/x86_64-linux-gnu",
                "-c", str(source), "-o", str(out),
            ]  # fmt: skip
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:
                made.append(out)
            else:
                print(f"{package}: {source.name} does not compile here")
    return made


def libbpf_tags(path: Path) -> dict[str, str] | None:
    """The tags of the programs as bpftool loads them, in a bpffs of its own; None when it does not."""
    command = ["unshare", "-m", "sh", "-c", SCRIPT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["name"][:SHORT]: row["tag"] for row in rows}


def check(path: Path) -> bool:
    """Whether an object is what it should be; says so in a line."""
    from ebpfkit.btf.vmlinux import read_btf_file
    from ebpfkit.elf import open_object
    from ebpfkit.errors import EbpfError
    from ebpfkit.loader import Collection

    try:
        obj = open_object(path, target_btf=read_btf_file(), legacy_sections=True, prog_type="sched_cls")
        # Pins by name are left aside, and user space is to give a size where the object gives none.
        maps = {
            name: spec.replace(pin_by_name=False, max_entries=spec.max_entries or 1) for name, spec in obj.maps.items()
        }
        if any(spec.type.endswith("_of_maps") and spec.inner is None for spec in maps.values()):
            print(f"{path.name}: {len(obj.programs)} programs linked; its user space must say what a map of maps holds")
            return not obj.problems
        with Collection.load(obj.replace(maps=maps)) as collection:
            ours = {name[:SHORT]: program.info.tag for name, program in collection.programs.items()}
    except EbpfError as error:
        print(f"{path.name}: {error}")
        return False
    theirs = libbpf_tags(path)
    same = theirs is None or theirs == ours
    verdict = "bpftool does not load it" if theirs is None else "as libbpf" if same else f"libbpf has {theirs}"
    print(f"{path.name}: {len(ours)} programs, {len(obj.maps)} maps, problems {dict(obj.problems)}; {verdict}")
    return same and not obj.problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", nargs="*", type=Path)
    parser.add_argument("--fetch", type=Path, metavar="DIR")
    options = parser.parse_args()
    objects = options.objects + (build(options.fetch) if options.fetch else [])
    results = [check(path) for path in objects]
    print(f"{sum(results)} of {len(results)} objects are right")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
