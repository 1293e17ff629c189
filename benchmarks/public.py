"""Public XDP programs: C from a Debian package, fetched when the benchmark runs, and what is theirs in `public/`.

The C is that of `linux-source-6.1` (samples/bpf and tools/testing/selftests/bpf). Nothing of it is kept in the project:
it is unpacked into a cache. The text of the programs in `public/` is our own.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from twins import HERE, Twin

__all__ = ["find_public"]

PACKAGE = "linux-source-6.1"
SAMPLES = "samples/bpf"
TESTS = "tools/testing/selftests/bpf"
PROGRAMS = {
    "tail_too_big": (f"{SAMPLES}/xdp_adjust_tail_kern.c", "_xdp_icmp"),
    "fwd": (f"{SAMPLES}/xdp_fwd_kern.c", "xdp_fwd_prog"),
    "rxq_info": (f"{SAMPLES}/xdp_rxq_info_kern.c", "xdp_prognum0"),
    "iptunnel": (f"{SAMPLES}/xdp_tx_iptunnel_kern.c", "_xdp_tx_iptunnel"),
    "meta_mark": (f"{SAMPLES}/xdp2skb_meta_kern.c", "_xdp_mark"),
    "meta_mac": (f"{TESTS}/progs/test_xdp_meta.c", "ing_xdp"),
    "vlan4011.drop_vlan": (f"{TESTS}/progs/test_xdp_vlan.c", "xdp_prognum0"),
    "vlan4011.change_vlan": (f"{TESTS}/progs/test_xdp_vlan.c", "xdp_prognum1"),
    "vlan4011.remove_vlan": (f"{TESTS}/progs/test_xdp_vlan.c", "xdp_prognum3"),
    "xdping.xdping_client": (f"{TESTS}/progs/xdping_kern.c", "xdping_client"),
    "xdping.xdping_server": (f"{TESTS}/progs/xdping_kern.c", "xdping_server"),
    "tail_shrink": (f"{TESTS}/progs/test_xdp_adjust_tail_shrink.c", "_xdp_adjust_tail_shrink"),
}
"""Ours (a module, or module.program) -> the C source in the package and its program."""
WHOLE = {"tail_too_big", "rxq_info", "iptunnel", "xdping.xdping_client", "tail_shrink"}
"""Where all of the C source has its counterpart, so that lines can be compared."""


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "ebpfkit-twins" / PACKAGE
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch() -> Path:
    """The unpacked folders of the package's tree, from Debian's mirror the first time."""
    folder = _cache()
    root = folder / PACKAGE
    if not root.exists():
        subprocess.run(["apt-get", "-qq", "download", PACKAGE], cwd=folder, check=True)
        package = next(folder.glob(f"{PACKAGE}_*.deb"))
        wanted = [f"{PACKAGE}/{SAMPLES}", f"{PACKAGE}/{TESTS}"]
        unpack = f"dpkg-deb --fsys-tarfile {package} | tar xO ./usr/src/{PACKAGE}.tar.xz | tar xJ {' '.join(wanted)}"
        subprocess.run(unpack, shell=True, cwd=folder, check=True)
        package.unlink()
    uapi = folder / "include" / "uapi"
    if not uapi.is_symlink():
        uapi.parent.mkdir(exist_ok=True)
        uapi.symlink_to("/usr/include")
    return root


def find_public() -> list[Twin]:
    """The public programs, each with its source."""
    root = fetch()
    shim = ("-include", str(HERE / "public" / "shim.h"), f"-I{root.parent / 'include'}")
    out = []
    for name, (source, program) in PROGRAMS.items():
        flags = (*(shim if source.startswith(SAMPLES) else ()), f"-I{root / TESTS}", "-w")
        module = name.partition(".")[0]
        out.append(Twin(name, HERE / "public" / f"{module}.py", root / source, flags, program, name in WHOLE))
    return out
