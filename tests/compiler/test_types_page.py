"""docs/program-types.md: its tables are the compiler's own, and its programs build, verify and run."""

from __future__ import annotations

import re
from pathlib import Path

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.compiler.packet import packet_methods
from ebpfkit.dsl.kinds import KINDS, Kind
from ebpfkit.dsl.program import Program, TracingProgram
from ebpfkit.dsl.skbuff import FIELDS, SkBuff
from tests.compiler.support import load_module

PAGE = Path(__file__).parents[2] / "docs" / "program-types.md"
SECTIONS = {"kprobe": "kprobe/NAME", "kretprobe": "kretprobe/NAME", "tracepoint": "tracepoint/GROUP/NAME",
            "raw_tracepoint": "raw_tp/NAME", "tp_btf": "tp_btf/NAME", "fentry": "fentry/NAME", "fexit": "fexit/NAME",
            "cgroup_skb": "cgroup_skb/ingress", "xdp": "xdp"}  # fmt: skip
ACCESS = {"write": "in place, to change", "read": "in place", "": "by copies"}


def row(kind: Kind) -> str:
    """A type of program: decorator, section, type, how it sees the packet, what it may answer."""
    section = SECTIONS.get(kind.decorator, kind.section)
    sees = ACCESS[kind.access] if kind.has_packet else "no packet"
    runs = "yes" if kind.test_run else "no"
    answer = (
        kind.answer if kind.highest < 1 << 30 else "any number, or nothing" if not kind.has_packet else "any number"
    )
    return f"| `@bpf.{kind.decorator}` | `{section}` | {kind.prog_type} | {sees} | {answer} | {runs} |"


def fields(kind: Kind) -> str:
    rows = {field.name: field for field in CONTEXTS[kind.layout].fields}
    read = [name for name in FIELDS if name in rows]
    write = [name for name in read if rows[name].writable]
    methods = ", ".join(f"`{name}`" for name in packet_methods(kind))
    reads, writes = (", ".join(f"`{name}`" for name in names) for names in (read, write))
    return f"| `@bpf.{kind.decorator}` | {reads} | {writes} | {methods} |"


def test_the_tables_are_the_compilers():
    text = PAGE.read_text()
    for kind in KINDS.values():
        assert row(kind) in text, row(kind)
        if kind.context is SkBuff:
            assert fields(kind) in text, fields(kind)


def test_each_type_says_on_which_kernel_it_was_proved():
    proved = PAGE.read_text().split("## Proved")[1]
    for name in KINDS:
        found = re.search(rf"^\| `@bpf.{name}` \|(.*)\|$", proved, re.MULTILINE)
        assert found and re.search(r"6\.\d+", found[1]), name


def test_its_programs_hold(tmp_path: Path):
    found = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    seen = set()
    for text in found:
        for program in vars(load_module(text, tmp_path)).values():
            if not isinstance(program, Program):
                continue
            seen.add(program.kind.decorator)
            options = {"btf": "/sys/kernel/btf/vmlinux"} if program.kind.prog_type == "tracing" else {}
            if not options or Path(options["btf"]).exists():
                assert [(one.verdict, one.message) for one in program.verify(**options)] == [("accept", "")]
            if not isinstance(program, TracingProgram):
                for size in (14, 34, 60, 100):
                    frame = (bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x11").ljust(size, b"\1")
                    results = [program.run(frame, on=on) for on in ("python", "interpreter", "jit")]
                    assert len({(one.action, one.data) for one in results}) == 1
    assert {"tc", "socket_filter", "cgroup_skb", "kprobe", "tracepoint", "fexit", "perf_event"} <= seen
