"""Runs Python, with this package and its tests, on another kernel: Debian's, under qemu's emulation.

    python tools/guest_kernel.py --fetch 6.1 6.12                  Debian's cloud images, once
    python tools/guest_python.py 6.12 -m pytest tests/loader/test_targets.py
    python tools/guest_python.py --module nf_conntrack 6.12 -c "..."
    python tools/guest_python.py --tool xdp-loader ...             with a program of this machine as /bin/xdp-loader

What a container's kernel refuses (fentry, LSM, freplace, modules and their types) is tried so, through the very loader
that users call. The interpreter that runs this is copied into the guest's initial file system, with its standard
library, the packages that the tests need, and the C programs of `tests/elf/c` compiled beforehand, since there is no
compiler in the guest. Needs qemu-system-x86_64. Emulation is 10 to 20 times slower than the machine: no timings.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from guest_kernel import Guest

ROOT = Path(__file__).parents[1]
MEMORY_MB = 6144
PACKAGES = (
    "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "click", "elftools", "hypothesis",
    "sortedcontainers", "pyroute2", "py.py", "pytest_timeout.py",
    "_hypothesis_ftz_detector.py", "_hypothesis_globals.py",
)  # fmt: skip
LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"}
PYTEST = ["-p", "guest_objects", "-p", "pytest_timeout", "-p", "no:cacheprovider", "--color=no"]

INIT = """#!{python} -IS
import ctypes, os, sys, traceback
libc = ctypes.CDLL(None, use_errno=True)
for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp"), ("tmpfs", "/run"),
                    ("bpf", "/sys/fs/bpf"), ("securityfs", "/sys/kernel/security"),
                    ("tracefs", "/sys/kernel/tracing"), ("cgroup2", "/sys/fs/cgroup")):
    os.makedirs(place, exist_ok=True)
    libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None)
out = os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)
import tty; tty.setraw(out)
for number in (1, 2):
    os.dup2(out, number)
import json, resource
plan = json.load(open("/plan.json"))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
for module in plan["modules"]:
    data = open(module, "rb").read()
    if libc.syscall(175, data, ctypes.c_ulong(len(data)), b"") < 0:
        print("module", module, os.strerror(ctypes.get_errno()))
child = os.fork()
if not child:
    os.chdir(plan["root"])
    os.environ.update(HOME="/tmp", PATH="/bin:/usr/bin", PYTHONPATH=plan["path"], PYTHONHOME=plan["home"],
                      PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1", EBPFKIT_CACHE="", LANG="C.UTF-8")
    try:
        os.execv(plan["python"], [plan["python"], *plan["arguments"]])
    finally:
        os._exit(127)
print("\\nGUEST ENDS", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.uname().release)
sys.stdout.flush()
import termios; termios.tcdrain(out)
libc.reboot(0x01234567)
"""

# The guest has no clang: what tests compile comes from a folder.
PLUGIN = """
import pathlib, sys
sys.path.insert(0, "{root}")
import tests.conftest
tests.conftest.require_tool = lambda name: "/bin/" + name
import tests.elf.objects as objects
objects.compile_c = lambda name, *flags: pathlib.Path("/objects", "-".join([name, *flags]) + ".o").read_bytes()
"""


def libraries(binaries: Iterable[Path]) -> set[Path]:
    """The shared libraries of some binaries, and the loader."""
    names = [str(path) for path in binaries]
    text = subprocess.run(["ldd", *names], capture_output=True, text=True, check=False).stdout
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", text)}


def tree(folder: Path) -> Iterator[Path]:
    """The files below a folder that the guest needs."""
    for path in sorted(folder.iterdir()):
        if path.name in LEFT_OUT and not path.is_relative_to(ROOT):
            continue
        if path.is_dir() and path.name not in ("__pycache__", ".git"):
            yield from tree(path)
        elif path.is_file():
            yield path


def module_files(guest: Guest, names: Iterable[str]) -> dict[str, bytes]:
    """Kernel modules with those that they depend on, in the order in which they load."""
    found: dict[str, bytes] = {}
    for name in names:
        data = guest._module(name)
        at = data.find(b"depends=")
        wanted = data[at + 8 : data.index(b"\0", at)].decode() if at >= 0 else ""
        found |= module_files(guest, [each for each in wanted.split(",") if each])
        found[f"/modules/{name}.ko"] = data
    return found


def compiled_objects() -> dict[str, bytes]:
    """Every program of tests/elf/c that compiles by itself, as the tests name it."""
    from tests.elf.objects import compile_c

    found = {}
    for source in sorted((ROOT / "tests/elf/c").glob("*.c")):
        try:
            found[f"/objects/{source.stem}.o"] = compile_c(source.stem)
        except AssertionError:
            continue
    return found


def initial_files(
    guest: Guest, arguments: list[str], modules: list[str], tools: list[str], more: list[str]
) -> dict[str, Path | bytes]:
    """What is in the guest's file system, by path."""
    python = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}))
    packages = Path(sysconfig.get_path("purelib"))
    files: list[Path] = [python, ROOT / "pyproject.toml"]
    for folder in (library, ROOT / "ebpfkit", ROOT / "tests"):
        files += tree(folder)
    for name in (*PACKAGES, *more):
        path = packages / name
        files += tree(path) if path.is_dir() else [path]
    for path in packages.glob("pytest-*.dist-info"):
        files += tree(path)
    files += Path("/usr/lib").glob("*/bpf/*.o")
    programs = {f"/bin/{name}": Path(shutil.which(name) or name) for name in tools}
    shared = [path for path in files if ".so" in path.name or path == python]
    found: dict[str, Path | bytes] = {**{str(path): path for path in files}, **programs}
    found |= {str(each): each for each in libraries([*shared, *programs.values()])}
    kernel_modules = module_files(guest, modules)
    search = f"/plugin:{ROOT}:{packages}"
    plan = {
        "modules": list(kernel_modules), "root": str(ROOT), "path": search, "python": str(python),
        "home": sys.base_prefix, "arguments": arguments,
    }  # fmt: skip
    init = INIT.replace("{python}", str(python))
    found |= {"/init": init.encode(), "/plan.json": json.dumps(plan).encode()}
    found |= {"/plugin/guest_objects.py": PLUGIN.replace("{root}", str(ROOT)).encode()}
    return {**found, **kernel_modules, **compiled_objects()}


def archive(files: dict[str, Path | bytes]) -> bytes:
    """The initial file system (cpio "newc")."""
    rows: list[bytes] = []

    def add(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        path = name.encode() + b"\0"
        numbers = (len(rows) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers) + path
        rows.append(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    folders: set[str] = set()
    add("dev", 0o40755)
    add("dev/console", 0o20600, device=(5, 1))
    for name, content in files.items():
        for parent in reversed(Path(name.lstrip("/")).parents[:-1]):
            if str(parent) not in folders:
                folders.add(str(parent))
                add(str(parent), 0o40755)
        add(name.lstrip("/"), 0o100755, content if isinstance(content, bytes) else content.read_bytes())
    add("TRAILER!!!", 0)
    return b"".join(rows)


def run(kernel: str, arguments: list[str], modules: list[str], tools: list[str], more: list[str]) -> int:
    """Boot, run, show what is said; the exit status of the interpreter in the guest."""
    guest = Guest(kernel)
    if arguments[:2] == ["-m", "pytest"]:
        arguments = ["-m", "pytest", *PYTEST, *arguments[2:]]
    with tempfile.TemporaryDirectory(prefix="guest-") as folder:
        initrd = Path(folder) / "initrd"
        initrd.write_bytes(archive(initial_files(guest, arguments, modules, tools, more)))
        command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB),
            "-display", "none", "-no-reboot", "-nic", "none", "-serial", f"file:{folder}/console", "-serial", "stdio",
            "-kernel", str(guest.image), "-initrd", str(initrd),
            "-append", "console=ttyS0 quiet panic=-1 lsm=landlock,lockdown,yama,bpf",
        ]  # fmt: skip
        for _ in range(3):  # a boot now and then dies in the emulator
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=1800, check=False)
            text = done.stdout.decode(errors="replace").replace("\r", "")
            ended = re.search(r"GUEST ENDS (-?\d+)", text)
            if ended is not None:
                print(text)
                return int(ended[1])
        print(text, (Path(folder) / "console").read_text(errors="replace")[-3000:], file=sys.stderr)
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", help="a series that was fetched, or a path to a vmlinuz")
    parser.add_argument("--module", action="append", default=[], help="a kernel module to load, with what it needs")
    parser.add_argument("--tool", action="append", default=[], help="a program of this machine to have in the guest")
    parser.add_argument("--package", action="append", default=[], help="another installed package to have in the guest")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the interpreter in the guest")
    options = parser.parse_args()
    return run(options.kernel, options.arguments, options.module, options.tool, options.package)


if __name__ == "__main__":
    sys.exit(main())
