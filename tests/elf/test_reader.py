"""Our reader of the container against pyelftools, an independent one."""

from __future__ import annotations

import glob
import io
from pathlib import Path

import pytest
from elftools.elf import elffile

from ebpfkit.elf.reader import read_elf
from ebpfkit.elf.sections import nearest_name, parse_section_name
from ebpfkit.errors import ObjectError
from tests.elf.objects import compile_c

SOURCES = ["maps", "globals", "calls", "nested", "legacy", "problems", "core", "text_only"]


def objects() -> list[bytes]:
    packaged = [Path(path).read_bytes() for path in sorted(glob.glob("/usr/lib/*/bpf/*.o"))]
    return [*(compile_c(name) for name in SOURCES), compile_c("calls", "--target=bpfeb"), *packaged]


def test_sections_symbols_and_relocations_agree() -> None:
    for data in objects():
        ours, theirs = read_elf(data), elffile.ELFFile(io.BytesIO(data))
        rows = list(theirs.iter_sections())
        assert [(s.name, s.size, s.flags, s.link, s.info) for s in ours.sections] == [
            (s.name, s["sh_size"], s["sh_flags"], s["sh_link"], s["sh_info"]) for s in rows
        ]
        for section, row in zip(ours.sections, rows):
            if row["sh_type"] not in ("SHT_NOBITS", "SHT_NULL"):
                assert ours.contents(section) == row.data()
        symbols = list(theirs.get_section_by_name(".symtab").iter_symbols())
        assert [(s.name, s.value, s.size) for s in ours.symbols if s.type != 3] == [
            (s.name, s["st_value"], s["st_size"]) for s in symbols if s["st_info"]["type"] != "STT_SECTION"
        ]
        for row in rows:
            if row["sh_type"] == "SHT_REL":
                found = ours.relocations(ours.sections[row["sh_info"]])
                expected = sorted(
                    ((r["r_offset"], r["r_info_type"], r["r_info_sym"]) for r in row.iter_relocations()),
                    key=lambda r: r[0],
                )
                assert [(r.offset, r.type, r.symbol.number) for r in found] == expected


NAMES = [
    # text, program type, attach type, target, loaded by default
    ("xdp", "xdp", "xdp", None, True),
    ("?xdp", "xdp", "xdp", None, False),
    ("xdp.frags", "xdp", "xdp", None, True),
    ("xdp/devmap", "xdp", "xdp_devmap", None, True),
    ("kprobe/do_sys_open", "kprobe", None, "do_sys_open", True),
    ("fentry/func", "tracing", "trace_fentry", "func", True),
    ("tracepoint/syscalls/sys_enter_open", "tracepoint", None, "syscalls/sys_enter_open", True),
]


@pytest.mark.parametrize(("text", "prog_type", "attach", "target", "autoload"), NAMES, ids=[row[0] for row in NAMES])
def test_section_names(text: str, prog_type: str, attach: str | None, target: str | None, autoload: bool) -> None:
    found = parse_section_name(text)
    assert (found.spec.prog_type, found.target, found.autoload) == (prog_type, target, autoload)
    assert found.spec.attach_type == attach
    assert not found.name.startswith("?")


WRONG_NAMES = [
    ("xdp_filter", "xdp"),
    ("xdp/drop", "xdp"),
    ("xdp.frag", "xdp.frags"),
    ("xdp.frags/", "xdp.frags"),
    ("XDP", "xdp"),
    ("xdp/devmaps", "xdp/devmap"),
    ("socket1", "socket"),
    ("kprob/x", "kprobe"),
    ("tcx/ingres", "tcx/ingress"),
]


@pytest.mark.parametrize(("text", "nearest"), WRONG_NAMES)
def test_names_as_strict_as_libbpf(text: str, nearest: str) -> None:
    with pytest.raises(ObjectError, match="is no section name"):
        parse_section_name(text)
    assert nearest_name(text) == nearest
