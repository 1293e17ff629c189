"""The kernel's own table of verifier tests as an exam: its cases through the kernel and through ours.

    apt install linux-source-6.1 libbpf-dev libelf-dev gcc
    python tools/verifier_exam.py [--kernel 6.1] [--write docs/verifier-exam.md] [--case NUMBER] [--list]
        [--unprivileged]

Reads tools/testing/selftests/bpf/verifier out of /usr/src/linux-source-6.1.tar.xz (or --source), compiles its
test program with tools/verifier_exam.c, which prints the table, and makes the maps that each case asks for. With
--kernel the oracle is that kernel under qemu (see guest_kernel.py), otherwise the running one; with
--unprivileged it is the running one for a user without capabilities, on the cases whose program types such a user may
load. Exit status 1 if we
accepted a program that the kernel rejects. Needs CAP_BPF; nothing of the package's text is kept.
"""

from __future__ import annotations

import argparse
import errno
import json
import platform
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from guest_kernel import Guest, Load, NotSubmitted
from unprivileged_kernel import ask_unprivileged, unprivileged_bpf
from verifier_kernel import KernelOracle, Verdict

from ebpfkit.abi import uapi
from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.model import HostProfile
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.codec import decode
from ebpfkit.asm.insn import KfuncRef, MapRef, MapValueRef
from ebpfkit.btf.types import Btf, Func, Linkage
from ebpfkit.diag.kernel_log import parse_kernel_log
from ebpfkit.elf.model import FuncInfo, MapSpec, ProgramSpec
from ebpfkit.errors import EbpfError, UsageError
from ebpfkit.verifier import verify_program
from ebpfkit.verifier.report import ProgramReport
from ebpfkit.verifier.unprivileged import PROGRAM_TYPES

SOURCE = Path("/usr/src/linux-source-6.1.tar.xz")
_REJECT = 2
_SECTIONS = ("tools/testing/selftests/bpf", "tools/include", "tools/arch/x86/include")
_NO_PREALLOC, _RDONLY_PROG, _WRONLY_PROG = uapi.BPF_F_NO_PREALLOC, uapi.BPF_F_RDONLY_PROG, uapi.BPF_F_WRONLY_PROG
# The type ids of map values in the table's own types.
_LOCK_VALUE, _TIMER_VALUE, _KPTR_VALUE = 3, 5, 14
_PLAIN_SIZE = 16 + 24 + 36 + 12 + 24  # bytes of the first five


def _map(name: str, kind: str, key: int, value: int, entries: int = 1, flags: int = 0, **more: Any) -> MapSpec:
    return MapSpec(name, kind, key, value, entries, flags | (_NO_PREALLOC if kind == "hash" else 0), **more)


_INNER = _map("inner", "array", 4, 4)
_MAPS = {
    spec.name: spec
    for spec in (
        _map("map_hash_8b", "hash", 8, 8),
        _map("map_hash_48b", "hash", 8, 48),
        _map("map_hash_16b", "hash", 8, 16),
        _map("map_array_48b", "array", 4, 48),
        _map("map_sockmap", "sockmap", 4, 4),
        _map("map_sockhash", "sockhash", 4, 4),
        _map("map_xskmap", "xskmap", 4, 4),
        _map("map_stacktrace", "stack_trace", 4, 8),
        _map("prog1", "prog_array", 4, 4, 4),
        _map("prog2", "prog_array", 4, 4, 8),
        _map("map_in_map", "array_of_maps", 4, 4, inner=_INNER),
        _map("cgroup_storage", "cgroup_storage", 16, 64, 0),
        _map("percpu_cgroup_storage", "percpu_cgroup_storage", 16, 64, 0),
        _map("map_spin_lock", "array", 4, 8, btf_key_type=1, btf_value_type=_LOCK_VALUE),
        _map("map_array_ro", "array", 4, 48, flags=_RDONLY_PROG),
        _map("map_array_wo", "array", 4, 48, flags=_WRONLY_PROG),
        _map("map_array_small", "array", 4, 1),
        _map("sk_storage_map", "sk_storage", 4, 8, 0, _NO_PREALLOC, btf_key_type=1, btf_value_type=_LOCK_VALUE),
        _map("map_event_output", "perf_event_array", 4, 4),
        _map("map_reuseport_array", "reuseport_sockarray", 4, 8),
        _map("map_ringbuf", "ringbuf", 0, 0, 4096),
        _map("map_timer", "array", 4, 16, btf_key_type=1, btf_value_type=_TIMER_VALUE),
        _map("map_kptr", "array", 4, 24, btf_key_type=1, btf_value_type=_KPTR_VALUE),
    )
}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    number: int
    name: str
    spec: ProgramSpec
    expected: str  # what the table says of a privileged load


def unpack(source: Path, folder: Path) -> Path:
    """The parts of the kernel's source that the table needs; `source` may be an unpacked tree."""
    if source.is_dir():
        return source
    if not source.exists():
        raise UsageError(f"{source} is not there: apt install linux-source-6.1")
    patterns = [f"*/{section}/*" for section in _SECTIONS]
    subprocess.run(["tar", "xJf", str(source), "-C", str(folder), "--wildcards", *patterns], check=True)
    (root,) = folder.glob("linux-source-*")
    return root


def table(source: Path) -> list[dict[str, Any]]:
    """The rows as the compiled table prints them."""
    with tempfile.TemporaryDirectory() as place:
        root = unpack(source, Path(place))
        tests = root / "tools/testing/selftests/bpf"
        generated = Path(place) / "generated/verifier"
        generated.mkdir(parents=True)
        files = sorted((tests / "verifier").glob("*.c"))
        text = "".join(f'#include "{path}"\n' for path in files)
        (generated / "tests.h").write_text(f"#ifdef FILL_ARRAY\n{text}#endif\n")
        includes = [generated.parent, tests, root / "tools/include", root / "tools/include/uapi"]
        program = Path(place) / "table"
        subprocess.run(
            [
                "gcc", "-O0", "-w", "-o", str(program), *(f"-I{folder}" for folder in includes),
                str(Path(__file__).with_suffix(".c")), str(tests / "cap_helpers.c"), "-lbpf", "-lelf",
            ],
            check=True,
        )  # fmt: skip
        printed = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def _btf(types: str, strings: str) -> Btf:
    data, names = bytes.fromhex(types), bytes.fromhex(strings)
    head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(data), len(data), len(names))
    return Btf.from_bytes(head + data + names)


def cases(rows: list[dict[str, Any]]) -> Iterator[Case]:
    """The rows as programs."""
    (values,) = (row for row in rows if row["number"] < 0)
    # Kernels refuse the pointers of other kernels' spelling: only who asks for them gets them.
    plain_types = _btf(values["types"][: 2 * _PLAIN_SIZE], values["strings"])
    pointer_types = _btf(values["types"], values["strings"])
    for row in rows:
        if row["number"] >= 0:
            yield _case(row, pointer_types if "map_kptr" in row["maps"] else plain_types)


@cache
def _attach_names() -> dict[int, str]:
    return {row.id: name for name, row in ATTACH_TYPES.items()}


def _case(row: dict[str, Any], value_types: Btf) -> Case:
    data = bytearray.fromhex(row["insns"])
    places = {at: name for name, ats in row["maps"].items() for at in ats}
    for at in places:
        data[at * 8 + 4 : at * 8 + 8] = bytes(4)
    insns = []
    slot = 0
    for insn in decode(bytes(data), strict=False):
        if insn.op.name.startswith("LDDW_MAP"):
            # What no fix-up names is no descriptor.
            if slot not in places:
                insn = insn.replace(imm=insn.imm | 1 << 20)
            elif insn.op.operation == "map_value":
                insn = insn.replace(ref=MapValueRef(places[slot], insn.imm >> 32 & 0xFFFF_FFFF))
            else:
                insn = insn.replace(ref=MapRef(places[slot]), imm=0)
        elif str(slot) in row["kfuncs"]:
            insn = insn.replace(ref=KfuncRef(row["kfuncs"][str(slot)]))
        insns.append(insn)
        slot += insn.slots
    typed = any(_MAPS[name].btf_value_type for name in row["maps"])
    btf = _btf(row["types"], row["strings"]) if "types" in row else value_types if typed else None
    name = bytes.fromhex(row["name"]).decode()
    spec = ProgramSpec(
        name,
        "",
        next(kind for kind, known in PROG_TYPES.items() if known.id == row["type"]),
        tuple(insns),
        "GPL",
        attach_type=_attach_names()[row["attach"]] if row["attach"] else None,
        attach_target=bytes.fromhex(row["target"]).decode() or None,
        maps={name: _MAPS[name] for name in row["maps"]},
        func_infos=tuple(_functions(row["functions"], btf)),
        btf=btf,
        # Bit 2 makes the kernel scramble upper halves, which its test asks for and no verdict depends on.
        flags=_flags(row["flags"]),
    )
    expected = "reject" if row["result"] == _REJECT else "accept"
    return Case(row["number"], name, spec, expected)


def _flags(flags: int) -> int:
    strict = uapi.BPF_F_STRICT_ALIGNMENT if flags & 2 else 0
    return uapi.BPF_F_TEST_RND_HI32 | strict | (uapi.BPF_F_ANY_ALIGNMENT if flags & 1 else 0) | flags & ~3


def _functions(packed: str, btf: Btf | None) -> Iterator[FuncInfo]:
    for slot, type_id in struct.iter_unpack("=II", bytes.fromhex(packed)):
        found = btf.get(type_id) if btf is not None else None
        name = found.name if isinstance(found, Func) else f"f{slot}"
        yield FuncInfo(slot, name, type_id, isinstance(found, Func) and found.linkage == Linkage.GLOBAL)


def ask_kernel(chosen: list[Case], kernel: str) -> tuple[str, Btf, list[Verdict]]:
    """The oracle's name, its own types, and its verdicts, in order."""
    if kernel:
        guest = Guest(kernel)
        verdicts = guest.load([Load(case.spec, log_tail=1 << 14) for case in chosen])
        return guest.release, guest.vmlinux, verdicts
    oracle = KernelOracle()
    found: list[Verdict] = []
    for case in chosen:
        try:
            found.append(oracle.ask(case.spec))
        except EbpfError as error:
            found.append(NotSubmitted(False, 0, 0, 0, str(error)))
    oracle.close()
    return platform.release(), oracle.types, found


def ask_for_nobody(chosen: list[Case]) -> tuple[str, Btf, list[Verdict]]:
    """The same for a user without capabilities on the running kernel; maps and types are made with privilege."""
    oracle = KernelOracle()
    found: dict[int, Verdict] = {}
    for case in chosen:
        try:
            oracle.prepare(case.spec)
        except EbpfError as error:
            found[case.number] = NotSubmitted(False, 0, 0, 0, str(error))
    asked = [case for case in chosen if case.number not in found]
    with unprivileged_bpf():
        verdicts = ask_unprivileged(oracle, [case.spec for case in asked])
    found |= {case.number: verdict for case, verdict in zip(asked, verdicts, strict=True)}
    types = oracle.types
    oracle.close()
    return f"{platform.release()}, without privilege", types, [found[case.number] for case in chosen]


@dataclass(frozen=True)
class Answer:
    """Both verdicts on one case."""

    case: Case
    kernel: Verdict
    ours: ProgramReport

    @property
    def judged(self) -> bool:
        """Whether the kernel's verifier saw the program: its types, maps and attach target were taken."""
        if isinstance(self.kernel, NotSubmitted):
            return False
        return self.kernel.accepted or bool(self.kernel.log) or self.kernel.errno != errno.EPERM

    @property
    def kind(self) -> str:
        if not self.judged:
            return "not judged"
        if self.ours.verdict == "unsupported":
            return "unsupported"
        if self.kernel.accepted:
            return "both accept" if self.ours.verdict == "accept" else "false reject"
        return "both reject" if self.ours.verdict == "reject" else "false accept"

    @property
    def same_reason(self) -> bool:
        read = parse_kernel_log(self.kernel.log, rejected=True)
        if read.message == self.ours.message:
            return True  # where the kernel does not say which instruction it is at, the words do
        return read.rule == self.ours.rule and (read.insn is None or read.insn == self.ours.insn)

    def line(self) -> str:
        theirs = "accepts" if self.kernel.accepted else self.kernel.reason.strip()
        read = parse_kernel_log(self.kernel.log, rejected=True)
        place = "" if self.kernel.accepted else f" [{read.rule} at {read.insn}]"
        mine = self.ours.message or "accepts"
        mine = mine if self.ours.verdict == "accept" else f"{mine} [{self.ours.rule} at {self.ours.insn}]"
        return f"case {self.case.number}: kernel: {theirs}{place}; we: {mine}"


def text_of(answers: list[Answer], release: str, listed: Iterable[str]) -> str:
    """The result as Markdown."""
    kinds = Counter(answer.kind for answer in answers)
    both = kinds["both accept"] + kinds["both reject"]
    wrong = kinds["false accept"] + kinds["false reject"]
    rejected = [answer for answer in answers if answer.kind == "both reject"]
    same = sum(answer.same_reason for answer in rejected)
    accepted = [answer for answer in answers if answer.kind == "both accept"]
    walked = sum(answer.ours.insns_processed for answer in accepted)
    kernel_walked = sum(answer.kernel.processed for answer in accepted)
    lines = [
        f"## Linux {release}",
        "",
        (
            f"{len(answers)} cases; {both + wrong} judged by both, {kinds['unsupported']} unsupported by us, "
            f"{kinds['not judged']} not judged by this kernel (maps, types or attach targets that it does not take)."
        ),
        "",
        "| both accept | both reject | false accepts | false rejects | agreement | same reason in rejections |",
        "|---|---|---|---|---|---|",
        (
            f"| {kinds['both accept']} | {kinds['both reject']} | {kinds['false accept']} | {kinds['false reject']} "
            f"| {both / max(1, both + wrong):.2%} | {same} of {len(rejected)} ({same / max(1, len(rejected)):.1%}) |"
        ),
        "",
        (
            f"Instructions walked where both accept: {walked} by us, {kernel_walked} by the kernel "
            f"({walked / max(1, kernel_walked):.4f})."
        ),
        "",
    ]
    unsupported = Counter(answer.ours.message for answer in answers if answer.kind == "unsupported")
    if unsupported:
        named = ", ".join(
            f"{what.removeprefix('ebpfkit does not model ')} ({n})" for what, n in unsupported.most_common()
        )
        lines += [f"Unsupported: {named}.", ""]
    for kind in listed:
        chosen = [answer for answer in answers if answer.kind == kind]
        if kind == "both reject":
            chosen = [answer for answer in chosen if not answer.same_reason]
            kind = "other reason"
        if chosen:
            lines += [f"{kind.capitalize()}:", "", *(f"- {answer.line()}" for answer in chosen), ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help="the package's archive, or a tree")
    parser.add_argument("--kernel", default="", help="a series for guest_kernel.py instead of the running kernel")
    parser.add_argument("--unprivileged", action="store_true", help="as a user without capabilities; running kernel")
    parser.add_argument("--case", type=int, nargs="*", default=[])
    parser.add_argument("--list", action="store_true", help="also the rejections with another reason")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    chosen = [case for case in cases(table(options.source)) if not options.case or case.number in options.case]
    if options.unprivileged:
        if options.kernel:
            parser.error("--unprivileged asks the running kernel: leave --kernel out")
        chosen = [case for case in chosen if case.spec.prog_type in PROGRAM_TYPES]
        release, types, verdicts = ask_for_nobody(chosen)
        profile = HostProfile(privileged=False)
    else:
        release, types, verdicts = ask_kernel(chosen, options.kernel)
        profile = HostProfile(kernel=options.kernel) if options.kernel else HostProfile()
    reports = [verify_program(case.spec, profile, kernel_btf=types) for case in chosen]
    answers = [Answer(*both) for both in zip(chosen, verdicts, reports, strict=True)]
    if options.case:
        for answer in answers:
            print(answer.kernel.log)
    shown = ["false accept", "false reject", *(["unsupported", "both reject", "not judged"] if options.list else [])]
    text = text_of(answers, release, shown)
    print(text)
    if options.write:
        head = "# The kernel's own verifier tests\n\nWritten by `tools/verifier_exam.py`.\n\n"
        before = options.write.read_text() if options.write.exists() else head
        options.write.write_text(replace_section(before, text))
    return any(answer.kind == "false accept" for answer in answers)


def replace_section(document: str, section: str) -> str:
    """The document with the section of the same heading replaced, or added."""

    def key(part: str) -> tuple[str, str]:
        heading = part.split("\n", 1)[0]
        release, _, user = heading.partition(", ")
        return ".".join(release.split(".")[:2]), user

    parts = document.split("\n## ")
    kept = [part for part in parts[1:] if key(part) != key(section.removeprefix("## "))]
    return "\n## ".join([parts[0].rstrip() + "\n", *kept, section.removeprefix("## ")]).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
