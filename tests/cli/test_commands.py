"""Every command on good and on bad input: shapes that are a contract, statuses, and one line when it goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Command

FIREWALL = ROOT / "programs" / "firewall.py"
CAPTURE = ROOT / "ebpfkit" / "cli" / "demo_files" / "packets.pcap"

VERDICT_KEYS = {
    "name", "section", "prog_type", "kernel", "verdict", "basis", "rule", "message", "insn", "file", "line", "column",
    "insns_processed", "seconds",
}  # fmt: skip

UNCHECKED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int reads(struct xdp_md *ctx) {
    unsigned char *data = (void *)(long)ctx->data;
    return data[0];
}
SEC("xdp") int passes(struct xdp_md *ctx) { return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""

TWO_LOADS = """
import ebpfkit as bpf
from ebpfkit import u64

seen = bpf.Array[u64](max_entries=4)

@bpf.xdp
def count(pkt: bpf.Packet) -> bpf.XdpAction:
    seen[1] += 1
    return bpf.XDP_DROP if len(pkt) > 60 else bpf.XDP_PASS
"""


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    path = tmp_path / "counter.py"
    path.write_text(TWO_LOADS)
    return path


def test_verify_accepts_with_the_contract_of_keys(ebpfkit: Command) -> None:
    done = ebpfkit("verify", FIREWALL, "--json")
    assert done.status == 0, done.err
    (verdict,) = done.json
    assert set(verdict) == VERDICT_KEYS
    assert (verdict["name"], verdict["section"], verdict["prog_type"]) == ("firewall", "xdp", "xdp")
    assert (verdict["verdict"], verdict["kernel"]) == ("accept", "6.18")
    assert verdict["insns_processed"] > 10


def test_verify_rejects_at_the_line(ebpfkit: Command, clang_object: Callable[[str], Path]) -> None:
    done = ebpfkit("verify", clang_object(UNCHECKED), "--json")
    assert done.status == 1
    by_name = {verdict["name"]: verdict for verdict in done.json}
    assert by_name["passes"]["verdict"] == "accept"
    bad = by_name["reads"]
    assert bad["verdict"] == "reject" and bad["rule"] and bad["message"]
    assert (bad["line"], Path(bad["file"]).suffix) == (6, ".c")


def test_verify_one_program_alone(ebpfkit: Command, clang_object: Callable[[str], Path]) -> None:
    done = ebpfkit("verify", clang_object(UNCHECKED), "--prog", "passes")
    assert done.status == 0
    assert "passes" in done.out and "reads" not in done.out


def test_verify_for_a_human_shows_the_source_line(ebpfkit: Command, clang_object: Callable[[str], Path]) -> None:
    done = ebpfkit("verify", clang_object(UNCHECKED))
    assert done.status == 1
    assert "return data[0];" in done.out


def test_run_json_shape(ebpfkit: Command, counter: Path) -> None:
    done = ebpfkit("run", counter, "--pcap", CAPTURE, "--json")
    assert done.status == 0, done.err
    packets = done.json["packets"]
    assert len(packets) == 10
    assert {"action", "data_out", "insns"} <= set(packets[0])
    assert [packet["action"] for packet in packets].count("XDP_DROP") == 2
    assert done.json["maps"]["seen"][0]["formatted"] == {"key": 1, "value": 10}


def test_run_jsonl_is_one_line_a_packet(ebpfkit: Command, counter: Path) -> None:
    done = ebpfkit("run", counter, "--packet", "00" * 64, "--repeat", 3, "--jsonl")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line.get("action") for line in lines] == ["XDP_DROP"] * 3 + [None]
    assert "maps" in lines[-1]


def test_run_writes_the_packets(ebpfkit: Command, counter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    assert ebpfkit("run", counter, "--pcap", CAPTURE, "--out", out).status == 0
    again = ebpfkit("run", counter, "--pcap", out, "--json")
    first = ebpfkit("run", counter, "--pcap", CAPTURE, "--json")
    assert [p["data_out"] for p in again.json["packets"]] == [p["data_out"] for p in first.json["packets"]]


@pytest.mark.parametrize("option", ["--jit", "--trusted"])
def test_run_with_the_jit_says_the_same(ebpfkit: Command, counter: Path, option: str) -> None:
    plain = ebpfkit("run", counter, "--pcap", CAPTURE, "--json").json
    done = ebpfkit("run", counter, "--pcap", CAPTURE, "--json", option)
    assert done.status == 0, done.err
    if option == "--trusted":
        plain["packets"] = [{**packet, "insns": None} for packet in plain["packets"]]  # it does not count
    assert done.json == plain


@pytest.mark.parametrize("options", [[], ["--jit"], ["--trusted"]])
def test_run_totals(ebpfkit: Command, counter: Path, tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "out.pcap"
    done = ebpfkit("run", counter, "--pcap", CAPTURE, "--totals", "--json", "--out", out, *options)
    assert done.status == 0, done.err
    assert done.json["totals"]["actions"] == {"XDP_PASS": 8, "XDP_DROP": 2}
    assert (done.json["totals"]["insns"] is None) == ("--trusted" in options)
    assert done.json["maps"]["seen"][0]["formatted"] == {"key": 1, "value": 10}
    again = ebpfkit("run", counter, "--pcap", out, "--json")
    first = ebpfkit("run", counter, "--pcap", CAPTURE, "--json")
    assert [p["data_out"] for p in again.json["packets"]] == [p["data_out"] for p in first.json["packets"]]
    assert "10 packets: 8 XDP_PASS" in ebpfkit("run", counter, "--pcap", CAPTURE, "--totals", *options).out


def test_build_writes_an_object_that_verifies(ebpfkit: Command, counter: Path, tmp_path: Path) -> None:
    target = tmp_path / "counter.o"
    done = ebpfkit("build", counter, "-o", target, "--json")
    assert done.status == 0, done.err
    assert done.json["programs"][0]["name"] == "count"
    assert target.read_bytes()[:4] == b"\x7fELF"
    assert ebpfkit("verify", target).status == 0


def test_build_is_deterministic(ebpfkit: Command, counter: Path, tmp_path: Path) -> None:
    for name in ("a.o", "b.o"):
        assert ebpfkit("build", counter, "-o", tmp_path / name).status == 0
    assert (tmp_path / "a.o").read_bytes() == (tmp_path / "b.o").read_bytes()


@pytest.mark.parametrize("stage", ["ast", "ir", "llvm", "asm", "btf", "elf"])
def test_build_emits_every_stage(ebpfkit: Command, counter: Path, tmp_path: Path, stage: str) -> None:
    out = tmp_path / "stage"
    assert ebpfkit("build", counter, "--emit", stage, "-o", out).status == 0
    assert out.stat().st_size > 20


def test_build_refuses_contents_that_an_object_cannot_carry(ebpfkit: Command, counter: Path, tmp_path: Path) -> None:
    counter.write_text(TWO_LOADS + "\nseen[2] = 7\n")
    done = ebpfkit("build", counter, "-o", tmp_path / "x.o")
    assert done.status == 2
    assert "seen" in done.err


def test_a_compile_error_has_a_caret(ebpfkit: Command, counter: Path) -> None:
    counter.write_text(TWO_LOADS.replace("seen[1] += 1", "seen[1] += 1.5"))
    done = ebpfkit("verify", counter)
    assert done.status == 2
    assert f"{counter}:9:" in done.err and "^" in done.err and "Traceback" not in done.err


def test_asm_and_disasm_are_inverse(ebpfkit: Command, tmp_path: Path) -> None:
    text, raw = tmp_path / "p.s", tmp_path / "p.bin"
    text.write_text("r0 = 2\nif r1 == 0 goto out\nr0 += 40\nout:\nexit\n")
    assert ebpfkit("asm", text, "-o", raw).status == 0
    shown = ebpfkit("disasm", raw, "--raw")
    assert shown.status == 0
    again = tmp_path / "again.s"
    again.write_text("\n".join(line for line in shown.out.splitlines()[1:]))
    assert ebpfkit("asm", again).out == ebpfkit("asm", text).out


def test_disasm_shows_source_lines(ebpfkit: Command, counter: Path) -> None:
    done = ebpfkit("disasm", counter)
    assert done.status == 0
    assert "seen[1] += 1" in done.out and "exit" in done.out
    rows = ebpfkit("disasm", counter, "--json").json[0]["insns"]
    assert all(row["line"] for row in rows)


@pytest.mark.parametrize("style", ["kernel", "llvm", "ubpf"])
def test_what_disasm_prints_assembles(ebpfkit: Command, tmp_path: Path, style: str) -> None:
    text, raw, again = tmp_path / "p.s", tmp_path / "p.bin", tmp_path / "again.s"
    text.write_text("r0 = 2\nif r1 == 0 goto out\nlock *(u64 *)(r10 -8) += r1\ncall f\nout:\nexit\nf: r0 = 1\nexit\n")
    assert ebpfkit("asm", text, "-o", raw).status == 0
    again.write_text(ebpfkit("disasm", raw, "--raw", "--style", style, "--opcodes").out)
    assert "L5:" in again.read_text()
    assert ebpfkit("asm", again).out == ebpfkit("asm", text).out


def test_asm_makes_an_object_of_a_whole_file(ebpfkit: Command, tmp_path: Path) -> None:
    text, target = tmp_path / "p.s", tmp_path / "p.o"
    text.write_text('.section xdp,"ax"\n.globl prog\nprog: w0 = 2\nexit\n.section license,"aw"\n.asciz "GPL"\n')
    assert ebpfkit("asm", text, "-o", target).status == 0
    assert ebpfkit("verify", target, "--json").status == 0
    assert "xdp" in ebpfkit("show", target).out
    assert ebpfkit("asm", text, "-o", target, "--big-endian").status == 0
    assert ebpfkit("show", target, "--json").json["byte_order"] == "big"
    text.write_text("r0 = 2\nexit\n")
    assert ebpfkit("asm", text, "-o", target).status == 2


def test_asm_and_disasm_for_big_endian_machines(ebpfkit: Command, tmp_path: Path) -> None:
    text, raw = tmp_path / "p.s", tmp_path / "p.bin"
    text.write_text("r1 = *(u32 *)(r1 +4)\nr0 = 0x1122334455667788 ll\nexit\n")
    assert ebpfkit("asm", text, "--big-endian", "-o", raw).status == 0
    assert raw.read_bytes()[:8].hex() == "6111000400000000"
    assert "1: r0 = 0x1122334455667788 ll" in ebpfkit("disasm", "--raw", "--big-endian", raw).out
    assert ebpfkit("disasm", "--big-endian", text).status == 2


def test_disasm_names_variables(ebpfkit: Command, tmp_path: Path) -> None:
    text, target = tmp_path / "p.s", tmp_path / "p.o"
    text.write_text(
        '.section xdp,"ax"\n.globl prog\nprog: r1 = limit ll\nw0 = *(u32 *)(r1 + 0)\nexit\n.data\n.globl limit\n'
        'limit: .long 5\n.section license,"aw"\n.asciz "GPL"\n'
    )
    assert ebpfkit("asm", text, "-o", target).status == 0
    shown = ebpfkit("disasm", target).out
    assert "r1 = map[.data][0]+0 ll ; &limit\n" in shown
    text.write_text(shown)
    assert ebpfkit("asm", text).status == 0


def test_disasm_lists_the_instruction_set(ebpfkit: Command) -> None:
    rows = {row["name"]: row for row in ebpfkit("disasm", "--isa", "--json").json}
    assert (rows["SDIV32_REG"]["opcode"], rows["SDIV32_REG"]["fixed"]) == ("0x3c", "off=0x1")
    assert (rows["SDIV32_REG"]["group"], rows["SDIV32_REG"]["kernel"]) == ("divmul32", "6.6")
    assert rows["CALLX"]["kernel"] == "none"
    assert "w1 s/= w2" in ebpfkit("disasm", "--isa").out
    assert ebpfkit("disasm").status == 2


@pytest.mark.parametrize("format", ["svg", "dot", "mermaid"])
def test_disasm_draws_blocks(ebpfkit: Command, counter: Path, tmp_path: Path, format: str) -> None:
    target = tmp_path / "cfg"
    assert ebpfkit("disasm", counter, "--cfg", format, "-o", target).status == 0
    assert "exit" in target.read_text()
    assert ebpfkit("disasm", counter, "--cfg", format).out == target.read_text()
    assert ebpfkit("disasm", counter, "-o", target).status == 2


def test_probe_of_the_kernel(ebpfkit: Command) -> None:
    done = ebpfkit("probe", "--json")
    assert done.status == 0
    assert "release" in done.json


def test_demo_without_the_kernel(ebpfkit: Command) -> None:
    done = ebpfkit("demo", "--no-kernel", "--json")
    assert done.status == 0, done.err
    assert done.json["verify"]["verdict"] == "accept"
    assert [packet["action"] for packet in done.json["packets"]].count("XDP_DROP") == 3


def test_editing_a_rule_changes_the_demo(ebpfkit: Command, tmp_path: Path) -> None:
    edited = tmp_path / "firewall.py"
    original = (ROOT / "ebpfkit" / "cli" / "demo_files" / "firewall.py").read_text()
    edited.write_text(original.replace('"198.51.100.7"', '"198.51.100.0/24"'))
    before, after = (ebpfkit("demo", "--no-kernel", "--json", *more).json for more in ([], ["--firewall", edited]))
    actions = [[packet["action"] for packet in run["packets"]] for run in (before, after)]
    assert actions[0] != actions[1]
    assert actions[1].count("XDP_DROP") == 4


@pytest.mark.kernel
def test_demo_with_real_traffic(ebpfkit: Command) -> None:
    done = ebpfkit("demo", "--json")
    assert done.status == 0, done.err
    live = done.json["kernel"]
    assert (live["ping_answered"], live["blocked_answered"]) == (3, 0)
    assert live["af_xdp_answers"] == [f"PACKET {number}" for number in range(5)]
    assert live["maps"]["blocked"]["192.0.2.0/24"].count("2")


BAD = {
    "not-elf.o": b"this is no object at all",
    "empty.o": b"",
    "cut.o": b"\x7fELF\x02\x01\x01" + bytes(20),
    "random.o": bytes(range(256)) * 8,
    "syntax.py": b"def broken(:\n",
    "nothing.py": b"x = 1\n",
    "raises.py": b"import ebpfkit as bpf\n@bpf.xdp\ndef f(pkt: bpf.Packet) -> bpf.XdpAction:\n    return pkt.nothing\n",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["verify", "disasm", "run"])
def test_bad_files_give_one_error_and_status_2(ebpfkit: Command, tmp_path: Path, name: str, command: str) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name])
    extra = ["--packet", "00" * 64] if command == "run" else []
    done = ebpfkit(command, path, *extra)
    assert done.status == 2, (done.out, done.err)
    assert name in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["verify", "nowhere.o"], "nowhere.o"),
        (["run", FIREWALL], "--pcap"),
        (["run", FIREWALL, "--packet", "xyz"], "--packet"),
        (["run", FIREWALL, "--packet", "00", "--prog", "other"], "other"),
        (["build", FIREWALL], "-o"),
        (["build", CAPTURE, "-o", "x.o"], "packets.pcap"),
        (["verify", FIREWALL, "--kernel", "six"], "six"),
        (["verify", FIREWALL, "--kernel", ""], "''"),
        (["verify", FIREWALL, "--kernel", "7.99"], "7.99"),
        (["nonsense"], "nonsense"),
        (["load", FIREWALL], "--dev"),
    ],
)
def test_wrong_usage_is_status_2_and_names_the_word(ebpfkit: Command, arguments: list[object], named: str) -> None:
    done = ebpfkit(*arguments)
    assert done.status == 2, (done.out, done.err)
    assert named in done.err


@pytest.mark.parametrize("text", ["r0 = ", "r99 = 1", "goto nowhere\nexit", "frobnicate r1", "r0 = 99999999999"])
def test_bad_assembly_names_the_line(ebpfkit: Command, tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.s"
    path.write_text(text)
    done = ebpfkit("asm", path)
    assert done.status == 2
    assert "bad.s:1" in done.err


def test_bad_captures_name_the_offset(ebpfkit: Command, counter: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(CAPTURE.read_bytes()[:100])
    done = ebpfkit("run", counter, "--pcap", cut)
    assert done.status == 2
    assert "cut.pcap" in done.err and "offset" in done.err
    as_json = ebpfkit("run", counter, "--pcap", cut, "--json")
    assert as_json.status == 2
    assert "offset" in as_json.json["error"] and len(as_json.json["packets"]) == 1


SENDER = """
import ebpfkit as bpf
from ebpfkit.net import Ethernet

@bpf.xdp(short=bpf.XDP_DROP)
def send(pkt: bpf.Packet) -> bpf.XdpAction:
    frame = pkt.read(Ethernet)
    if frame.type == 0x0806:
        return bpf.XDP_TX
    return bpf.XDP_PASS
"""


def test_run_writes_one_file_for_each_action(ebpfkit: Command, tmp_path: Path) -> None:
    """Link type and nanoseconds of the capture stay; the files together hold every packet."""
    from ebpfkit.vm.pcap import PcapWriter, open_pcap

    source = tmp_path / "send.py"
    source.write_text(SENDER)
    capture = tmp_path / "in.pcap"
    frames = [b"\2" * 12 + kind + bytes(46) for kind in (b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x08\x06")]
    with PcapWriter(capture, link_type=228) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, time_ns=1_700_000_000_000_000_001 + number)
        writer.write(b"short", time_ns=5)
    out = tmp_path / "by" / "action"
    assert ebpfkit("run", source, "--pcap", capture, "--out-dir", out).status == 0
    found = {
        file.name: [(p.data, p.time_ns, p.link_type) for p in open_pcap(file.read_bytes())] for file in out.iterdir()
    }
    start = 1_700_000_000_000_000_001
    assert found == {
        "xdp_pass.pcap": [(frames[0], start, 228), (frames[2], start + 2, 228)],
        "xdp_tx.pcap": [(frames[1], start + 1, 228), (frames[3], start + 3, 228)],
        "xdp_drop.pcap": [(b"short", 5, 228)],
    }


def test_run_shows_totals_below_the_table(ebpfkit: Command, counter: Path) -> None:
    lines = ebpfkit("run", counter, "--pcap", CAPTURE).out.splitlines()
    assert lines[0].split() == ["packet", "action", "bytes", "insns"]
    assert lines[1].split()[:2] == ["1", "XDP_PASS"]
    assert any(line.startswith("10 packets: 8 XDP_PASS, 2 XDP_DROP, ") for line in lines)


def test_run_names_the_packet_of_a_fault(ebpfkit: Command, clang_object: Callable[[str], Path]) -> None:
    done = ebpfkit("run", clang_object(UNCHECKED), "--prog", "reads", "--packet", "")
    assert done.status == 1
    assert "packet 1: " in done.err


def test_run_shows_where_a_packet_goes(ebpfkit: Command, clang_object: Callable[[str], Path]) -> None:
    text = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    SEC("xdp") int goes(struct xdp_md *ctx) { return bpf_redirect(7, 0); }
    char _license[] SEC("license") = "GPL";
    """
    target = clang_object(text)
    assert "to interface 7" in ebpfkit("run", target, "--packet", "00" * 64).out
    (packet,) = ebpfkit("run", target, "--packet", "00" * 64, "--json").json["packets"]
    assert packet["redirect"] == {"map": "", "key": 7, "target": 7}


def test_a_long_capture_shows_its_progress_on_a_terminal(
    counter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar is on standard error, on a terminal only; the packets come through as they are."""
    import io

    from ebpfkit.cli import capture_files
    from ebpfkit.vm.pcap import PcapWriter, open_pcap

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    capture = tmp_path / "long.pcap"
    with PcapWriter(capture) as writer:
        for number in range(1000):
            writer.write(bytes(64), time_ns=number)
    monkeypatch.setattr(capture_files, "_LONG", 1)
    for stderr, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stderr)
        with open_pcap(capture) as reader, capture_files.progress(reader, capture) as packets:
            assert sum(1 for _ in packets) == 1000
        assert ("long.pcap" in stderr.getvalue()) is shown
