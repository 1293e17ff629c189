"""Programs in the kernel: running them, what they are, collections, and rejections at the author's line."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
from pathlib import Path

import pytest

from ebpfkit.asm import isa
from ebpfkit.asm.insn import R0, R1, R2, R10, Instruction, KfuncRef, MapRef, MapValueRef
from ebpfkit.elf import open_object
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import KernelError, LoadError, MapError, NotSupported, UsageError, VerifierError
from ebpfkit.kernel import bpf
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.kernel.cpus import possible_cpus
from ebpfkit.loader import Collection, Map, Program, load
from ebpfkit.span import Span
from tests.loader import objects
from tests.loader.objects import I

pytestmark = pytest.mark.kernel

PACKET = bytes(range(64))


def u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def test_a_program_by_itself() -> None:
    with Program.load(objects.returns(3)) as live:
        assert live.test_run(PACKET).retval == 3
        assert live.test_run(PACKET, repeat=10).duration_ns >= 0
        info = live.info
    assert (info.type, info.name, info.gpl_compatible, info.map_ids) == ("xdp", "verdict", True, ())
    assert len(info.tag) == 16
    assert info.verified_insns == 2


def test_a_collection_counts_in_its_map() -> None:
    with Collection.load(objects.object_of(objects.counts())) as live:
        assert live.programs["counter"].test_run(PACKET, repeat=5).retval == 2
        assert live.maps["counts"].get(b"\1\0\0\0") == u64(5)
        assert live.programs["counter"].info.map_ids == (live.maps["counts"].info.id,)
        assert live["counter"] is live.programs["counter"]
        with pytest.raises(UsageError, match="there is counter, counts"):
            live["nope"]


def test_a_failed_load_leaves_nothing_behind() -> None:
    name = f"left_{os.getpid()}"
    broken = objects.program("broken", maps=(objects.COUNTS.replace(name=name),))
    with pytest.raises(VerifierError):
        Collection.load(objects.object_of(objects.counts(), broken))
    assert name not in names_of_maps()
    with Map.create(objects.COUNTS.replace(name=name)):
        assert name in names_of_maps()


def names_of_maps() -> set[str]:
    names = set()
    for number in bpf.map_ids():
        with contextlib.suppress(KernelError), bpf.map_fd_by_id(number) as fd:
            names.add(bpf.map_info(fd).name.decode())
    return names


def test_only_the_programs_named() -> None:
    lazy = objects.returns(1, "lazy").replace(autoload=False)
    obj = objects.object_of(objects.returns(2, "eager"), lazy)
    with Collection.load(obj) as live:
        assert set(live.programs) == {"eager"}
    with Collection.load(obj, programs=["lazy"]) as live:
        assert set(live.programs) == {"lazy"}
    with pytest.raises(UsageError, match="it has: eager, lazy"):
        Collection.load(obj, programs=["nope"])
    with pytest.raises(NotSupported, match="its map is odd"):
        Collection.load(obj.replace(problems={"odd": "its map is odd"}), programs=["odd"])


def test_initial_contents_and_frozen_data() -> None:
    table = MapSpec("table", "hash", 4, 4, 8, contents=((b"key1", b"val1"), (b"key2", b"val2")))
    config = MapSpec(".rodata", "array", 4, 8, 1, data=b"constant", frozen=True)
    per_cpu = MapSpec("seen", "percpu_array", 4, 8, 2, contents=((bytes(4), u64(7)),))
    with Collection.load(objects.object_of(maps=(table, config, per_cpu))) as live:
        assert dict(live.maps["table"].items()) == {b"key1": b"val1", b"key2": b"val2"}
        assert live.maps[".rodata"].get(bytes(4)) == b"constant"
        with pytest.raises(MapError, match="frozen"):
            live.maps[".rodata"].set(bytes(4), bytes(8))
        assert live.maps["seen"].per_cpu(bytes(4)) == (u64(7), *[u64(0)] * (possible_cpus() - 1))


def test_a_live_map_takes_the_place_of_the_objects() -> None:
    obj = objects.object_of(objects.counts())
    with Map.create(objects.COUNTS) as shared, Collection.load(obj, maps={"counts": shared}) as live:
        live.programs["counter"].test_run(PACKET)
        assert shared.get(b"\1\0\0\0") == u64(1)
    with Map.create(objects.COUNTS.replace(value_size=16)) as other:
        with pytest.raises(LoadError, match="its value_size is 16, the program's is 8"):
            Collection.load(obj, maps={"counts": other})
        with pytest.raises(UsageError, match="no map 'count'; it has: counts"):
            Collection.load(obj, maps={"count": other})


def test_maps_pinned_by_name_are_made_once_and_reused(tmp_path: Path) -> None:
    root = Path(f"{find_bpffs()}/ebpfkit_test_pins_{os.getpid()}")
    shared = objects.COUNTS.replace(pin_by_name=True)
    obj = objects.object_of(objects.counts().replace(maps={"counts": shared}))
    obj = obj.replace(maps={"counts": shared})
    root.mkdir()
    try:
        with Collection.load(obj, pin_root=root) as first:
            first.programs["counter"].test_run(PACKET)
            assert first.reused == set()
        with Collection.load(obj, pin_root=root) as second:
            assert second.reused == {"counts"}
            second.programs["counter"].test_run(PACKET)
            assert second.maps["counts"].get(b"\1\0\0\0") == u64(2)
        larger = obj.replace(maps={"counts": shared.replace(max_entries=9)})
        with pytest.raises(LoadError, match="its max_entries is 4, the program's is 9"):
            Collection.load(larger, pin_root=root)
        with pytest.raises(MapError, match="not on a bpffs"):
            Collection.load(obj, pin_root=tmp_path)
    finally:
        (root / "counts").unlink(missing_ok=True)
        root.rmdir()


def test_the_log_is_kept_on_request() -> None:
    with Collection.load(objects.object_of(objects.returns(2)), log_level=1) as live:
        assert "processed 2 insns" in live.programs["verdict"].log
    with Collection.load(objects.object_of(objects.returns(2))) as live:
        assert live.programs["verdict"].log == ""


def test_a_log_larger_than_the_first_buffer_is_whole() -> None:
    body = [I(isa.MOV64_IMM, dst=R0, imm=i) for i in range(30_000)]
    spec = objects.program("long", *body, I(isa.LDXDW, dst=R0, src=R2))
    with pytest.raises(VerifierError) as refused:
        Program.load(spec)
    log = refused.value.log
    assert len(log) > load.LOG_START
    assert log.startswith("0: R1=ctx(")
    assert "R2 !read_ok" in log
    assert "processed 30001 insns" in log


def test_a_program_that_walks_too_far() -> None:
    spec = objects.program(
        "loops",
        I(isa.MOV64_IMM, dst=R0, imm=0),
        I(isa.ADD64_IMM, dst=R0, imm=1),
        I(isa.JLT64_IMM, dst=R0, imm=2_000_000, off=-2),
    )
    with pytest.raises(VerifierError) as refused:
        Program.load(spec)
    assert refused.value.message == "BPF program is too large. Processed 1000001 insn"
    assert refused.value.rule == "too-complex"


def test_an_object_for_the_other_byte_order() -> None:
    obj = objects.object_of(objects.returns(2))
    with pytest.raises(UsageError, match="-endian machines"):
        Collection.load(obj.replace(big_endian=sys.byteorder == "little"))


class TestRejections:
    def test_a_hand_made_program_at_its_span(self) -> None:
        here = Span("rules.py", 17, 9, text="        return table[key]")
        spec = objects.program("reads", I(isa.LDXDW, dst=R0, src=R1, off=4096, span=here))
        with pytest.raises(VerifierError) as refused:
            Program.load(spec)
        error = refused.value
        assert (error.origin, error.program, error.insn) == ("kernel", "reads", 0)
        assert error.span == here
        assert "invalid bpf_context access off=4096 size=8" in str(error)
        assert str(error).startswith("rules.py:17:9: ")

    def test_a_program_of_clang_at_its_c_line(self, tmp_path: Path) -> None:
        path = objects.compile_c(
            """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, __u32); __type(value, __u64);
} hits SEC(".maps");
SEC("xdp") int forgets_the_test(struct xdp_md *ctx)
{
	__u32 key = 2;
	__u64 *value = bpf_map_lookup_elem(&hits, &key);
	return *value;
}
""",
            tmp_path,
        )
        with pytest.raises(VerifierError) as refused:
            Collection.load(open_object(path))
        error = refused.value
        assert error.span is not None
        assert (Path(error.span.file).name, error.span.line) == ("prog.c", 8)
        assert error.origin == "kernel"
        assert "map_value_or_null" in error.message
        assert "return *value" in error.log

    def test_a_program_past_the_end_has_no_line_but_a_message(self) -> None:
        spec = objects.returns(2).replace(instructions=(Instruction(isa.MOV64_IMM, dst=R0, imm=2),))
        with pytest.raises(VerifierError, match="last insn is not an exit or jmp"):
            Program.load(spec)


SOURCE = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, __u32); __type(value, __u64);
} hits SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }
	first SEC(".maps"), third SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 4); __type(key, __u32);
	__array(values, struct inner); } outer SEC(".maps") = { .values = { &first, 0, &third } };
int target(struct xdp_md *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4);
	__array(values, int (struct xdp_md *)); } jumps SEC(".maps") = { .values = { [2] = &target } };
const volatile __u32 limit = 7;
__u64 counter = 5;
int zeroed[10];
static __attribute__((noinline)) int times(int a, int b) { return a * b + limit; }
SEC("xdp") int target(struct xdp_md *ctx) { return 1; }
SEC("xdp") int start(struct xdp_md *ctx)
{
	__u32 two = 2, zero = 0;
	void *inner = bpf_map_lookup_elem(&outer, &two);
	counter += 1;
	zeroed[3] = times(ctx->rx_queue_index, limit);
	if (inner) {
		__u64 *value = bpf_map_lookup_elem(inner, &zero);
		if (value)
			__sync_fetch_and_add(value, 3);
	}
	if (limit == 8)
		bpf_tail_call(ctx, &jumps, 2);
	return 2;
}
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return objects.compile_c(SOURCE, tmp_path_factory.mktemp("clang"))


class TestClangObjects:
    def test_data_sections_subprograms_and_maps_of_maps(self, path: Path) -> None:
        with Collection.load(open_object(path)) as live:
            assert live.programs["start"].test_run(PACKET).retval == 2
            assert live.maps["third"].get(bytes(4)) == u64(3)
            assert live.maps["first"].get(bytes(4)) == u64(0)
            assert live.maps[".data"].get(bytes(4)) == u64(6)
            assert live.maps[".bss"].get(bytes(4)) == bytes(12) + b"\7\0\0\0" + bytes(24)
            assert live.maps["hits"].info.btf_id != 0

    @pytest.mark.parametrize("value", [8, b"\x08\0\0\0"])
    def test_variables_and_program_arrays(self, path: Path, value: int | bytes) -> None:
        with Collection.load(open_object(path), variables={"limit": value}) as live:
            assert live.programs["start"].test_run(PACKET).retval == 1  # the tail call went to `target`

    @pytest.mark.parametrize(
        ("variables", "words"),
        [
            ({"limits": 1}, "no variable 'limits'; it has: "),
            ({"limit": 1 << 32}, "4294967296 does not fit the 4 bytes of variable 'limit'"),
            ({"limit": b"123"}, "'limit' has 4 bytes, not 3"),
        ],
    )
    def test_variables_that_cannot_be(self, path: Path, variables: dict[str, int | bytes], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            Collection.load(open_object(path), variables=variables)

    def test_negative_variables_are_twos_complement(self, path: Path) -> None:
        with Collection.load(open_object(path), variables={"counter": -1}) as live:
            live.programs["start"].test_run(PACKET)
            assert live.maps[".data"].get(bytes(4)) == u64(0)

    def test_what_a_named_program_jumps_to_comes_along(self, path: Path) -> None:
        with Collection.load(open_object(path), programs=["start"]) as live:
            assert list(live.programs) == ["start", "target"]
        with Collection.load(open_object(path), programs=["target"]) as live:
            assert list(live.programs) == ["target"]

    def test_lines_reach_the_kernel(self, path: Path) -> None:
        with Collection.load(open_object(path)) as live:
            info = bpf.prog_info(live.programs["start"])
        assert info.nr_line_info > 5
        assert info.nr_func_info == 2


class TestKfuncs:
    def test_an_unknown_function_is_named(self) -> None:
        spec = objects.program("calls", I(isa.CALL_KFUNC, ref=KfuncRef("bpf_no_such_function")))
        with pytest.raises(NotSupported, match="kernel function bpf_no_such_function is not supported"):
            Collection.load(objects.object_of(spec))

    def test_a_known_one_is_found_in_the_kernels_types(self) -> None:
        spec = objects.program(
            "reads_time",
            I(isa.MOV64_REG, dst=R2, src=R10),
            I(isa.ADD64_IMM, dst=R2, imm=-8),
            I(isa.STDW, dst=R10, off=-8),
            I(isa.CALL_KFUNC, ref=KfuncRef("bpf_xdp_metadata_rx_timestamp")),
            I(isa.MOV64_IMM, dst=R0, imm=2),
        )
        # Without a device the kernel refuses this very function by its name: the number was the right one.
        with pytest.raises(VerifierError, match="metadata kfuncs require device-bound program"):
            Collection.load(objects.object_of(spec))


@pytest.mark.parametrize(
    ("packet", "options", "kind", "words"),
    [
        (bytes(13), {}, KernelError, "a packet of 13 bytes (14 at least)"),
        (PACKET, {"ctx": b"\0\0\0\0\0\x10\0\0"}, KernelError, "or the context does not suit"),
        (PACKET, {"repeat": 0}, UsageError, "needs at least 1"),
        (PACKET, {"repeat": 1 << 32}, UsageError, "takes at most 4294967295"),
    ],
    ids=["short", "context", "none", "too often"],
)
def test_runs_that_cannot_be(packet: bytes, options: dict[str, object], kind: type[Exception], words: str) -> None:
    with Program.load(objects.returns(2)) as live, pytest.raises(kind) as refused:
        live.test_run(packet, **options)  # type: ignore[arg-type]
    assert words in str(refused.value)


@pytest.mark.parametrize(("version", "lifted"), [((5, 10), True), ((5, 11), False)])
def test_old_kernels_need_a_higher_memory_limit(
    version: tuple[int, int], lifted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr("resource.setrlimit", lambda which, limits: calls.append((which, limits)))
    monkeypatch.setattr("ebpfkit.loader.load.kernel_version", lambda: version)
    load._lift_memory_limit.cache_clear()
    Program.load(objects.returns(2)).close()
    load._lift_memory_limit.cache_clear()
    assert calls == ([(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)] if lifted else [])


def test_a_program_type_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="no program type"):
        Program.load(objects.returns(2).replace(prog_type="xdpp"))


def test_a_map_that_is_not_there() -> None:
    spec = objects.program("lost", I(isa.LDDW_MAP_FD, dst=R1, ref=MapRef("gone")), I(isa.MOV64_IMM, dst=R0))
    with pytest.raises(UsageError, match="uses map 'gone', which is not there"):
        Program.load(spec)


@pytest.mark.parametrize("offset", [-1, 1 << 32])
def test_an_offset_that_does_not_fit(offset: int) -> None:
    spec = objects.program(
        "far", I(isa.LDDW_MAP_VALUE, dst=R1, ref=MapValueRef("counts", offset)), maps=(objects.COUNTS,)
    )
    with pytest.raises(UsageError, match=f"offset {offset} into map 'counts' does not fit"):
        Collection.load(objects.object_of(spec))


def test_pin_open_and_tell_kinds_apart() -> None:
    path = Path(f"{find_bpffs()}/ebpfkit_test_prog_{os.getpid()}")
    with Program.load(objects.returns(2)) as live:
        live.pin(path)
        try:
            with Program.open_pinned(path) as again, Program.open_id(live.id) as by_id:
                assert again.id == by_id.id == live.id
                assert again.prog_type == "xdp"
            with pytest.raises(MapError, match="is not a BPF map"):
                Map.open_pinned(path)
        finally:
            path.unlink()
    with Map.create(objects.COUNTS) as other:
        other.pin(path)
        try:
            with pytest.raises(KernelError, match="is not a BPF program") as refused:
                Program.open_pinned(path)
            assert refused.value.errno == errno.EINVAL
        finally:
            path.unlink()
