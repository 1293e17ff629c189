"""Every name of the kernel's interface has a row, and the rows agree with each other and with the running kernel."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ebpfkit.abi import limits, uapi, versions
from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.drivers import DRIVERS
from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.abi.kfuncs import KFUNCS, UNSUPPORTED
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.abi.sections import DATA_SECTIONS, METADATA_SECTIONS, SECTIONS
from ebpfkit.errors import UsageError
from tests.abi.loads import create_like_row, exit_with, insn, last_line, load_wide, map_of, verdict
from tests.conftest import require_tool, skip_or_fail


def interface(enum: str, prefix: str) -> dict[str, int]:
    """The members of an enum without end marks and names that were given up, in rows' spelling."""
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in uapi.ENUMS[enum].items()
        if not name.startswith("__") and not name.endswith("_DEPRECATED")
    }


@pytest.mark.parametrize(
    "rows, enum, prefix",
    [
        (MAP_TYPES, "bpf_map_type", "BPF_MAP_TYPE_"),
        (PROG_TYPES, "bpf_prog_type", "BPF_PROG_TYPE_"),
        (ATTACH_TYPES, "bpf_attach_type", "BPF_"),
    ],
    ids=["map types", "program types", "attach types"],
)
def test_every_member_has_a_row(rows: dict[str, object], enum: str, prefix: str) -> None:
    assert {name: row.id for name, row in rows.items()} == interface(enum, prefix)  # type: ignore[attr-defined]
    for row in rows.values():
        assert not row.since or row.since in versions.KNOWN  # type: ignore[attr-defined]


def test_rows_refer_to_each_other() -> None:
    for prog in PROG_TYPES.values():
        assert prog.context is None or prog.context in CONTEXTS
        for attach in prog.attach_types:
            assert prog.name in ATTACH_TYPES[attach].prog_types
        assert set(prog.return_ranges) <= set(prog.attach_types)
        for low, high in prog.return_ranges.values():
            widest = prog.return_range  # None: anything elsewhere
            assert widest is None or widest[0] <= low <= high <= widest[1]
    for attach_row in ATTACH_TYPES.values():
        assert attach_row.prog_types <= set(PROG_TYPES)
    for row in MAP_TYPES.values():
        for flag in row.flags | row.required_flags:
            assert isinstance(getattr(uapi, flag), int)
        assert row.required_flags <= row.flags
    for context in CONTEXTS.values():
        for field in context.fields:
            assert (field.attach_types or frozenset()) | (field.write_attach_types or frozenset()) <= set(ATTACH_TYPES)


def test_sections_are_those_of_libbpf() -> None:
    for name, row in SECTIONS.items():
        assert row.name == name and row.prog_type in PROG_TYPES
        if row.attach_type is not None:
            assert row.prog_type in ATTACH_TYPES[row.attach_type].prog_types, name
        if row.sleepable:
            assert name.endswith(".s") or name == "syscall"
    assert [name for name, row in SECTIONS.items() if row.frags] == [name for name in SECTIONS if "frags" in name]
    assert all(not SECTIONS[name].extra for name in SECTIONS if name.startswith("xdp"))
    assert SECTIONS["xdp/devmap"].attach_type == "xdp_devmap"
    assert not set(SECTIONS) & {*DATA_SECTIONS, *METADATA_SECTIONS}
    assert len(SECTIONS) > 110


@pytest.mark.parametrize(
    "text, parsed",
    [
        ("6.1", (6, 1)),
        ("6.12.117-amd64", (6, 12)),
        ("5.10", (5, 10)),
        (" 6.18.44-amd64 ", (6, 18)),
        ("7.3-rc1", (7, 3)),
    ],
)
def test_versions_are_read(text: str, parsed: tuple[int, int]) -> None:
    assert versions.parse_version(text) == parsed


@pytest.mark.parametrize("text", ["", "6", "six.one", "6.", ".1", "6.x", "99999.1"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no kernel version"):
        versions.parse_version(text)


def test_behaviours_have_known_versions() -> None:
    for row in versions.BEHAVIOURS.values():
        assert row.since in versions.KNOWN and (not row.until or row.until in versions.KNOWN)
        if row.known_between:
            assert versions.is_at_least(row.known_between[1], row.since)
            assert not versions.is_at_least(row.known_between[0], row.since)
    assert versions.is_in_force("cpu-id-range", "6.12") and not versions.is_in_force("cpu-id-range", "6.1")
    assert versions.is_in_force("pointer-zero-32-undecided", "6.12")
    assert not versions.is_in_force("pointer-zero-32-undecided", "6.18")
    assert versions.basis_of("6.18.1") == "measured" and versions.basis_of("6.6") == "documented"
    assert versions.DEFAULT_KERNEL in versions.MEASURED


def test_every_kernel_function_is_modelled_or_says_why_not() -> None:
    for name, row in KFUNCS.items():
        assert row.modelled != bool(UNSUPPORTED.get(name)), name
        assert row.since in versions.KNOWN and row.prog_types <= {*PROG_TYPES, "*"}
        assert not row.device_bound or row.prog_types == {"xdp"}


def test_the_numbers_are_what_the_generator_makes() -> None:
    pytest.importorskip("ziglang", reason="ziglang, whose headers the numbers come from, is not installed")
    require_tool("clang")
    generator = Path(__file__).parents[2] / "tools/gen_uapi.py"
    made = subprocess.run([sys.executable, str(generator)], capture_output=True, text=True, check=True).stdout
    if f"HEADERS_VERSION: Final = '{uapi.HEADERS_VERSION}'" not in made:
        pytest.skip("this ziglang carries the headers of another kernel")
    assert made == Path(uapi.__file__).read_text()


def test_drivers_name_known_versions() -> None:
    for driver in DRIVERS.values():
        for version in (driver.native, driver.frags, driver.zero_copy):
            assert version in ("", "?") or version in versions.KNOWN, driver.name
    assert DRIVERS["veth"].native == "4.19" and DRIVERS["mlx5_core"].zero_copy == "5.3"


# --- against the kernel -----------------------------------------------------------------------------------------------


def kernel_enums() -> dict[str, dict[str, int]]:
    """Named enums of the kernel's own BTF, read here from the bytes so that no other room stands in between."""
    path = Path("/sys/kernel/btf/vmlinux")
    if not path.exists():
        skip_or_fail("the kernel has no BTF")
    data = path.read_bytes()
    header, type_off, _, str_off, str_len = struct.unpack_from("<4x5I", data)
    strings = data[header + str_off : header + str_off + str_len]
    name_of = lambda offset: strings[offset : strings.index(b"\0", offset)].decode()  # noqa: E731
    extra = {1: lambda n: 4, 3: lambda n: 12, 4: lambda n: 12 * n, 5: lambda n: 12 * n, 6: lambda n: 8 * n}
    extra |= {13: lambda n: 8 * n, 14: lambda n: 4, 15: lambda n: 12 * n, 17: lambda n: 4, 19: lambda n: 12 * n}
    enums: dict[str, dict[str, int]] = {}
    at = header + type_off
    while at < header + str_off:
        name, info, _ = struct.unpack_from("<III", data, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        if kind == 6 and name:
            members = struct.iter_unpack("<Ii", data[at + 12 : at + 12 + 8 * count])
            enums[name_of(name)] = {name_of(member): value for member, value in members}
        at += 12 + (extra[kind](count) if kind in extra else 0)
    return enums


@pytest.mark.kernel
def test_numbers_are_the_running_kernels() -> None:
    compared = 0
    for enum, members in kernel_enums().items():
        for name, value in members.items() if enum in uapi.ENUMS else ():
            if name.startswith("__MAX") or name == "__BPF_FUNC_MAX_ID":
                continue  # end marks move
            assert uapi.ENUMS[enum].get(name) == value, f"{enum}.{name}"
            compared += 1
    assert compared > 400


@pytest.mark.kernel
def test_the_kernel_has_the_functions_that_have_rows() -> None:
    data = Path("/sys/kernel/btf/vmlinux").read_bytes()
    release = platform.release()
    for name, row in KFUNCS.items():
        # Connection tracking and IPsec may be modules with BTF of their own.
        if versions.is_at_least(release, row.since) and "_ct_" not in name and "xfrm" not in name:
            assert f"\0{name}\0".encode() in data, name


@pytest.mark.kernel
def test_flags_outside_enums_have_the_running_kernels_numbers() -> None:
    assert (uapi.XDP_DROP, uapi.XDP_PASS, uapi.XDP_TX, uapi.XDP_REDIRECT) == (1, 2, 3, 4)
    taken, _ = verdict(exit_with(2), "xdp", "xdp", flags=uapi.BPF_F_XDP_HAS_FRAGS)
    assert taken
    assert not verdict(exit_with(2), "xdp", "xdp", flags=uapi.BPF_F_SLEEPABLE)[0]


LOADABLE = [
    row.name
    for row in PROG_TYPES.values()
    if row.name not in ("unspec", "tracing", "struct_ops", "ext", "lsm", "lirc_mode2", "syscall")
]


@pytest.mark.kernel
@pytest.mark.parametrize("prog_type", LOADABLE)
def test_return_ranges_are_enforced_as_the_rows_say(prog_type: str) -> None:
    row = PROG_TYPES[prog_type]
    for attach in row.attach_types if prog_type != "sched_cls" else (None,):
        low_high = row.return_ranges.get(attach or "", row.return_range)
        for value in (-1, 0, 1, 2, 3, 4, 100):
            expected = low_high is None or low_high[0] <= value <= low_high[1]
            taken, log = verdict(exit_with(value), prog_type, attach)
            assert taken == expected, (attach, value, last_line(log))


@pytest.mark.kernel
@pytest.mark.parametrize("prog_type", [row.name for row in PROG_TYPES.values() if row.direct_packet_access])
def test_packets_are_written_where_the_rows_allow_it(prog_type: str) -> None:
    row = PROG_TYPES[prog_type]
    fields = {field.result.value: field for field in CONTEXTS[row.context or ""].fields}
    data, end = fields["packet"], fields["packet_end"]
    opcode = 0x79 if data.size == 8 else 0x61
    attach = row.attach_types[0] if row.attach_types and prog_type != "sched_cls" else None
    for access, allowed in (
        (insn(0x71, 0, 2), True),
        (insn(0x72, 2), row.direct_packet_access == "write"),
    ):
        code = (
            insn(opcode, 2, 1, data.offset) + insn(opcode, 3, 1, end.offset) + insn(0xBF, 4, 2) + insn(0x07, 4, imm=1)
        )
        code += insn(0x2D, 4, 3, off=1) + access + exit_with(1)
        taken, log = verdict(code, prog_type, attach)
        assert taken == allowed, last_line(log)


# What the running kernel has, and needs no BTF.
CREATABLE = [row.name for row in MAP_TYPES.values() if 0 < row.id < MAP_TYPES["insn_array"].id and not row.needs_btf]


@pytest.mark.kernel
@pytest.mark.parametrize("name", CREATABLE)
def test_map_sizes_and_flags_are_the_kernels(name: str) -> None:
    row = MAP_TYPES[name]
    assert create_like_row(name) >= 0
    if row.key_size is not None:
        assert create_like_row(name, key_size=row.key_size + 4) < 0
    if row.value_size is not None:
        assert create_like_row(name, value_size=row.value_size + 4) < 0
    for size in row.key_sizes:
        assert create_like_row(name, key_size=size) >= 0
    for size in row.value_sizes:
        assert create_like_row(name, value_size=size) >= 0
    if row.value_sizes:
        assert create_like_row(name, value_size=12) < 0
    if row.max_entries_power_of_two:
        assert create_like_row(name, entries=3 * 4096) < 0
    if row.max_entries_zero:
        assert create_like_row(name, entries=4) < 0
    required = sum(getattr(uapi, flag) for flag in row.required_flags)
    if required:
        assert create_like_row(name, flags=0) < 0
    creation_flags = [f"BPF_F_{flag}" for flag in CREATION_FLAGS.split()]
    for flag in creation_flags:
        sizes = {"value_size": 64} if flag == "BPF_F_STACK_BUILD_ID" else {}  # its entries are larger
        created = create_like_row(name, flags=required | getattr(uapi, flag), **sizes) >= 0
        assert created == (flag in row.flags), flag


CREATION_FLAGS = (
    "NO_PREALLOC NO_COMMON_LRU NUMA_NODE RDONLY WRONLY STACK_BUILD_ID ZERO_SEED RDONLY_PROG WRONLY_PROG CLONE MMAPABLE"
    " PRESERVE_ELEMS INNER_MAP"
)


@pytest.mark.kernel
@pytest.mark.parametrize("name", [name for name in CREATABLE if name != "arena"])
def test_programs_use_maps_as_the_rows_say(name: str) -> None:
    row = MAP_TYPES[name]
    if row.key_size == 0:
        return  # nothing that takes a key can be called: shown by the sizes
    stack = b"".join(insn(0x7A, 10, 0, off) for off in range(-256, 0, 8))
    pointers = b"".join(insn(0xBF, reg, 10) + insn(0x07, reg, imm=-64 * reg) for reg in (2, 3)) + insn(0xB7, 4)
    for helper, allowed in (
        ("map_lookup_elem", row.lookup_from_program),
        ("map_update_elem", row.update_from_program),
        ("map_delete_elem", row.delete_from_program),
    ):
        call = insn(0x85, imm=HELPERS_BY_NAME[helper].id)
        log = verdict(stack + load_wide(1, 1, map_of(name)) + pointers + call + exit_with(1), "sched_cls")[1]
        refused = "cannot pass map_type" in log or "write into map forbidden" in log
        assert refused != allowed, (helper, last_line(log))
        types = HELPERS_BY_NAME[helper].map_types
        assert types is not None and (name in types) == allowed, helper


@pytest.mark.kernel
def test_limits_are_the_kernels() -> None:
    def frame(size: int) -> bytes:
        return insn(0x7A, 10, 0, -size) + exit_with(0)

    assert verdict(frame(limits.MAX_STACK), "xdp")[0]
    assert not verdict(frame(limits.MAX_STACK + 8), "xdp")[0]
    chain = lambda calls: (insn(0x85, 0, 1, 0, 1) + insn(0x95)) * calls + exit_with(0)  # noqa: E731
    assert verdict(chain(limits.MAX_FRAMES - 1), "xdp")[0]
    assert not verdict(chain(limits.MAX_FRAMES), "xdp")[0]
    rounds = lambda count: (  # noqa: E731
        insn(0xB7, 6) + insn(0x07, 6, imm=1) + insn(0xA5, 6, 0, -2, count) + exit_with(0)
    )
    assert verdict(rounds((limits.MAX_PROCESSED - 3) // 2), "xdp", level=0)[0]
    assert not verdict(rounds(limits.MAX_PROCESSED // 2), "xdp", level=0)[0]
