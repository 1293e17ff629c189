"""What `run` and `diff-run` are told about a program's surroundings: entries, context, time, tables; kinds of FILE."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ebpfkit.asm.codec import encode
from ebpfkit.asm.parser import parse
from ebpfkit.pipeline import read_tables
from ebpfkit.vm.pcap import PcapWriter
from tests.cli.conftest import ROOT, Command

FIREWALL = ROOT / "programs" / "firewall.py"
IP = bytes.fromhex("4500001c000100004011668a0a0000017f000001")
UDP = bytes.fromhex("ffffffffffff0200000000010800") + IP + bytes.fromhex("003500350008f56c")

ENTRY = 'blocked[10.0.0.0/8]={"packets": 5, "bytes": 0}'


def capture(path: Path, packets: int = 3, cut: int = 0) -> Path:
    with PcapWriter(path) as writer:
        for number in range(packets):
            writer.write(UDP, time_ns=5_000_000_000 + number)
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])
    return path


# --- a capture that breaks off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--jit"], ["--totals"], ["--totals", "--jit"], ["--coverage"]])
def test_what_was_done_before_a_capture_breaks_off_is_shown(
    ebpfkit: Command, tmp_path: Path, options: list[str]
) -> None:
    pcap, out = capture(tmp_path / "in.pcap", cut=10), tmp_path / "out.pcap"
    done = ebpfkit("run", FIREWALL, "--pcap", pcap, "--out", out, *options)
    assert done.status == 2 and "cut off" in done.err and done.err.count("\n") == 1
    assert "2 packets: 2 XDP_PASS" in done.out or "--coverage" in options
    assert out.stat().st_size == 24 + 2 * (16 + len(UDP))


@pytest.mark.parametrize("options", [["--json"], ["--jsonl"], ["--totals", "--json"], ["--totals", "--json", "--jit"]])
def test_json_says_where_it_broke_off(ebpfkit: Command, tmp_path: Path, options: list[str]) -> None:
    done = ebpfkit("run", FIREWALL, "--pcap", capture(tmp_path / "in.pcap", cut=10), *options)
    last = done.out if "--jsonl" not in options else done.out.splitlines()[-1]
    document = json.loads(last)
    assert done.status == 2 and "cut off" in document["error"]
    assert document["maps"]["seen"][0]["formatted"] == {"key": 17, "value": [2]}


# --- entries of maps --------------------------------------------------------------------------------------------------


def test_entries_of_maps_are_there_from_the_first_packet_on(ebpfkit: Command) -> None:
    done = ebpfkit("run", FIREWALL, "--packet", UDP.hex(), "--map", ENTRY, "--map", "seen[17]=40", "--json")
    document = json.loads(done.out)
    assert document["packets"][0]["action"] == "XDP_DROP"
    assert document["maps"]["seen"][0]["formatted"]["value"] == [41]
    assert document["maps"]["blocked"][0]["formatted"] == {"key": "10.0.0.0/8", "value": {"packets": 6, "bytes": 42}}


def test_what_one_run_left_is_where_the_next_begins(ebpfkit: Command, tmp_path: Path) -> None:
    dump = tmp_path / "dump.json"
    dump.write_text(ebpfkit("run", FIREWALL, "--packet", UDP.hex(), "--map", ENTRY, "--json").out)
    done = ebpfkit("run", FIREWALL, "--packet", UDP.hex(), "--map", f"blocked=@{dump}", "--jit", "--totals")
    assert "'packets': 7" in done.out
    assert ebpfkit("diff-run", FIREWALL, "--packet", UDP.hex(), "--map", f"blocked=@{dump}").status == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "NAME[KEY]=VALUE"),
        ("foo[1]=2", "there is no map 'foo'; there are seen, blocked"),
        ("seen=3", "write seen[KEY]=VALUE for an entry, seen=@FILE"),
        ("seen[300]=1", "does not fit: map 'seen' (percpu_array): cannot update"),
        ("seen[1]=many", "a str is not a u64"),
        ("blocked[10.0.0.0/8]=1", "a Hits is written {'packets': 0, 'bytes': 0}"),
        ('blocked[x]={"packets": 1, "bytes": 1}', "'x' is not a prefix"),
        ("seen=@/nowhere.json", "/nowhere.json: No such file"),
    ],
)
def test_entries_that_cannot_be(ebpfkit: Command, text: str, message: str) -> None:
    done = ebpfkit("run", FIREWALL, "--packet", UDP.hex(), "--map", text)
    assert done.status == 2 and message in done.err and not done.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "this is no JSON"),
        ("{}", "there are no entries of map 'seen'"),
        ('[{"key": [1]}]', "entry 1 has no value"),
        ('[{"key": [1, 0], "value": [1]}]', "entry 1: a key of 'seen' has 4 bytes, not 2"),
        ('[{"key": ["zz"], "value": [1]}]', "entry 1: bytes are a list"),
    ],
)
def test_dumps_that_are_none(ebpfkit: Command, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "d.json").write_text(content)
    done = ebpfkit("run", FIREWALL, "--packet", UDP.hex(), "--map", f"seen=@{tmp_path / 'd.json'}")
    assert done.status == 2 and message in done.err


# --- instructions without an object -----------------------------------------------------------------------------------

READS = "r0 = *(u32 *)(r1 +{0})\nexit\n"


def test_assembly_and_raw_bytes_are_programs(ebpfkit: Command, tmp_path: Path) -> None:
    text = tmp_path / "two.s"
    text.write_text("r0 = 2\nexit\n")
    raw = tmp_path / "two.bin"
    raw.write_bytes(encode(parse(text.read_text())))
    for file in (text, raw):
        assert "1 packet: 1 XDP_PASS, 2 instructions" in ebpfkit("run", file, "--packet", "00").out
        assert ebpfkit("diff-run", file, "--packet", "00").status == 0
    done = ebpfkit("run", text, "--packet", "00", "--type", "sched_cls")
    assert "TC_ACT_SHOT" in done.out
    raw.write_bytes(bytes(range(1, 9)))
    assert "neither an object" in ebpfkit("run", raw, "--packet", "00").err


def test_assembly_with_sections_is_an_object(ebpfkit: Command, tmp_path: Path) -> None:
    text = tmp_path / "object.s"
    text.write_text('.section xdp,"ax",@progbits\n.globl one\n.type one,@function\none:\nr0 = 1\nexit\n.size one, 16\n')
    assert "1 XDP_DROP" in ebpfkit("run", text, "--packet", "00").out


# --- context, time, chance, tables ------------------------------------------------------------------------------------


def test_fields_of_the_context(ebpfkit: Command, tmp_path: Path) -> None:
    text = tmp_path / "reads.s"
    text.write_text(READS.format(16))
    done = ebpfkit("run", text, "--packet", "00", "--ctx", "rx_queue_index=3", "--ctx", "ingress_ifindex=7")
    assert "1 packet: 1 XDP_TX" in done.out
    assert ebpfkit("diff-run", text, "--packet", "00", "--ctx", "rx_queue_index=3").out.count("XDP_TX") == 1
    for given, message in (("mark=1", "no field 'mark'"), ("mark", "FIELD=NUMBER"), ("mark=x", "FIELD=NUMBER")):
        done = ebpfkit("run", text, "--packet", "00", "--ctx", given)
        assert done.status == 2 and message in done.err and not done.out


CLOCK = "call bpf_ktime_get_ns#5\nr1 = 1000000000 ll\nr0 /= r1\nexit\n"


@pytest.mark.parametrize("jit", [[], ["--jit"], ["--jit", "--totals"]])
def test_the_clock_is_that_of_the_capture_unless_it_is_given(ebpfkit: Command, tmp_path: Path, jit: list[str]) -> None:
    text, pcap = tmp_path / "clock.s", capture(tmp_path / "in.pcap", 1)
    text.write_text(CLOCK)
    assert "1 packet: 1 5," in ebpfkit("run", text, "--pcap", pcap, *jit).out
    assert "1 packet: 1 7," in ebpfkit("run", text, "--pcap", pcap, "--time", "7.25", *jit).out
    assert "takes seconds" in ebpfkit("run", text, "--pcap", pcap, "--time", "soon").err


def test_what_is_no_action_is_counted_together_in_native_code(tmp_path: Path, ebpfkit: Command) -> None:
    text, pcap = tmp_path / "large.s", capture(tmp_path / "in.pcap", 2)
    text.write_text("r0 = 1002\nexit\n")
    assert "2 packets: 2 1002," in ebpfkit("run", text, "--pcap", pcap, "--jit").out
    assert "2 packets: 2 no action," in ebpfkit("run", text, "--pcap", pcap, "--jit", "--totals").out


def test_random_numbers_repeat_with_their_seed(ebpfkit: Command, tmp_path: Path) -> None:
    text = tmp_path / "random.s"
    text.write_text("call bpf_get_prandom_u32#7\nexit\n")
    first, again, other = (ebpfkit("run", text, "--packet", "00", "--seed", seed, "--jsonl").out for seed in "110")
    assert first == again != other


TABLES = """
hz = 250
[[routes]]
destination = "0.0.0.0/0"
ifindex = 3
[[devices]]
ifindex = 1
[[devices]]
ifindex = 3
mtu = 1200
[[sockets]]
protocol = "tcp"
local = "192.0.2.1"
local_port = 80
cgroup_ancestors = [1, 2]
tcp = { snd_cwnd = 10 }
[task]
pid = 12
pid_namespace = { device = 1, inode = 2, pid = 3, tgid = 4 }
[[xfrm]]
reqid = 1
spi = 2
remote = "192.0.2.9"
[[user_memory]]
address = 0x1000
hex = "0a0b"
"""


def test_tables_are_what_helpers_ask(ebpfkit: Command, tmp_path: Path) -> None:
    tables, text = tmp_path / "tables.toml", tmp_path / "mtu.s"
    tables.write_text(TABLES)
    text.write_text(
        "*(u32 *)(r10 -4) = 0\nr2 = 3\nr3 = r10\nr3 += -4\nr4 = 0\nr5 = 0\ncall bpf_check_mtu#163\n"
        "r0 = *(u32 *)(r10 -4)\nexit\n"
    )
    assert "1 packet: 1 1200," in ebpfkit("run", text, "--packet", "00", "--tables", tables).out
    done = ebpfkit("run", text, "--packet", "00")
    assert done.status == 4 and "devices=[Device(...), ...], or --tables" in done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[[", "this is no TOML"),
        ("hx = 1", "there is no table 'hx'; there are routes"),
        ('hz = "x"', "hz is 'x', not a number"),
        ("[[routes]]\nifindex = 2", "routes, row 1: destination is missing"),
        ('[[routes]]\ndestination = "300.1.1.1"\nifindex = 1', "is no destination"),
        ('[[devices]]\nifindex = "1"', "devices, row 1: ifindex is '1', not int"),
        ("[[devices]]\nindex = 1", "devices, row 1: there is no 'index'; there are ifindex"),
        ("[task]\npidd = 3", "task: there is no 'pidd'; there are pid"),
        ("[routes]\na = 1", "routes are rows: write [[routes]]"),
        ("[[user_memory]]\naddress = 1", "user_memory: each row has an address"),
    ],
)
def test_tables_that_cannot_be(ebpfkit: Command, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.toml").write_text(content)
    done = ebpfkit("run", FIREWALL, "--packet", "00", "--tables", tmp_path / "t.toml")
    assert done.status == 2 and message in done.err


def test_the_page_on_the_machine_shows_tables_that_can_be_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```$", (ROOT / "docs" / "vm.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "t.toml").write_text(block)
    assert set(read_tables(tmp_path / "t.toml")) == {"hz", "fib", "devices", "sockets", "task"}


def test_what_is_refused_can_be_printed(ebpfkit: Command) -> None:
    done = ebpfkit("run", "--limits")
    assert done.status == 0 and "Map types" in done.out and "snprintf_btf" in done.out
