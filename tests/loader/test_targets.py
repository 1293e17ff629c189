"""Programs whose target is fixed when they are loaded: ids in the kernel's, a module's or a program's types."""

from __future__ import annotations

import errno
import glob
import struct

import pytest

from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.btf.types import Func, Typedef
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.errors import EbpfError, LoadError, UsageError, VerifierError
from ebpfkit.kernel import bpf
from ebpfkit.loader import Collection
from ebpfkit.loader.kernel_types import KernelTypes
from ebpfkit.loader.links.tracing import IteratorLink
from ebpfkit.loader.targets import resolve_targets
from tests.elf.objects import compile_c

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def opened() -> ObjectFile:
    return open_object(compile_c("targets"), target_btf=read_btf_file())


def split_types() -> KernelTypes:
    """A kernel with few types, and a module that adds two functions and a hook."""
    builder = BtfBuilder()
    proto = builder.func_proto(0)
    for name in ("bpf_fentry_test1", "bpf_lsm_file_open", "bpf_iter_bpf_map"):
        builder.func(name, proto)
    builder.typedef("btf_trace_sched_switch", proto)
    kernel = Btf.from_bytes(builder.build().to_bytes())
    added = [Func("no_such_function", proto), Func("bpf_fentry_test1", proto)]
    module = Btf.from_bytes(Btf([*kernel.types, *added], b"", base=kernel).to_bytes(), base=kernel)
    return KernelTypes(kernel, {"mod": module})


@pytest.mark.parametrize(
    ("program", "name", "kind"),
    [
        ("enter", "bpf_fentry_test1", Func), ("leave", "bpf_fentry_test1", Func), ("named", "bpf_fentry_test1", Func),
        ("switched", "btf_trace_sched_switch", Typedef), ("opened", "bpf_lsm_file_open", Func),
        ("maps", "bpf_iter_bpf_map", Func),
    ],
)  # fmt: skip
def test_targets_in_the_kernel(opened: ObjectFile, program: str, name: str, kind: type) -> None:
    types = split_types()
    target = resolve_targets([opened.programs[program]], types).get(program)
    assert target is not None and target.fd is None and not target.module
    assert target.btf_id == types.kernel.find_id(name, kind) > 0


def test_targets_in_modules(opened: ObjectFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the kernel's own, and by name even where the kernel has one, too."""
    types = split_types()
    monkeypatch.setattr("ebpfkit.loader.targets.open_module_types", lambda names: dict.fromkeys(names, "descriptor"))
    named = opened.programs["enter"].replace(attach_target="mod:bpf_fentry_test1")
    found = resolve_targets([opened.programs["missing"], named], types)
    count = len(types.kernel.types)
    missing, enter = found.get("missing"), found.get("enter")
    assert missing is not None and (missing.btf_id, missing.module, str(missing.fd)) == (count, "mod", "descriptor")
    assert enter is not None and (enter.btf_id, enter.module) == (count + 1, "mod")


REFUSALS = [
    ("missing", "this kernel has no function 'no_such_function' among its types"),
    ("nowhere", "no module 'no_such_module' is loaded"),
    ("unsaid", r'does not say what it attaches to; write SEC\("fentry/NAME"\)'),
    ("other_answer", "replaces the function 'answer' of a program: say which, targets={'other_answer': program}"),
]


@pytest.mark.parametrize(("program", "message"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_targets_that_are_not_there(opened: ObjectFile, program: str, message: str) -> None:
    with pytest.raises(EbpfError, match=message):
        Collection.load(opened, programs=[program])


def loaded(opened: ObjectFile, program: str, **options: object) -> Collection:
    """The program in the kernel; skips where policy forbids its type."""
    try:
        return Collection.load(opened, programs=[program], **options)  # type: ignore[arg-type]
    except VerifierError as error:
        if "is not modifiable" not in str(error):
            raise
        pytest.skip("this kernel lets nobody modify what that function returns")
    except LoadError as error:
        if error.errno != errno.EPERM:
            raise
        assert "not permitted by this system's policy" in str(error)
        pytest.skip("this system refuses programs of this type")


@pytest.mark.parametrize("program", ["enter", "leave", "modify", "switched", "syscalls", "opened", "slowly", "named"])
def test_attaching(opened: ObjectFile, program: str) -> None:
    with loaded(opened, program) as collection:
        live = collection.programs[program]
        info = bpf.prog_info(live)
        if live.prog_type != "raw_tracepoint":
            kernel = read_btf_file().types[info.attach_btf_id]
            assert isinstance(kernel, Func | Typedef)
            assert kernel.name.endswith((opened.programs[program].attach_target or "").rpartition(":")[2])
        with live.attach_tracing() as link:
            assert link.program_id == live.id


def test_iterators_are_read(opened: ObjectFile) -> None:
    with loaded(opened, "maps") as collection, collection.programs["maps"].attach_tracing() as link:
        assert isinstance(link, IteratorLink)
        ids = {number for (number,) in struct.iter_unpack("=I", link.read())}
        assert collection.maps[".bss"].info.id in ids


def test_replacing_a_function(opened: ObjectFile) -> None:
    with Collection.load(opened, programs=["asks"]) as target:
        asks = target.programs["asks"]
        with loaded(opened, "other_answer", targets={"other_answer": asks}) as replacing:
            assert asks.test_run(bytes(64)).retval == 2
            with replacing.programs["other_answer"].attach_tracing():
                assert asks.test_run(bytes(64)).retval == 1
            assert asks.test_run(bytes(64)).retval == 2


def test_a_target_program_without_the_function(opened: ObjectFile) -> None:
    with Collection.load(opened, programs=["asks"]) as target:
        asks = target.programs["asks"]
        program = opened.programs["other_answer"].replace(attach_target="question")
        with pytest.raises(LoadError, match="its target program has no function 'question'"):
            resolve_targets([program], KernelTypes(), programs={"other_answer": asks})
        found = resolve_targets([opened.programs["other_answer"]], KernelTypes(), programs={"other_answer": asks})
        answer = found.get("other_answer")
        assert answer is not None and answer.fd is asks
        with bpf.btf_fd_by_id(asks.info.btf_id) as fd:
            assert Btf.from_bytes(bpf.btf_data(fd)).types[answer.btf_id].name == "answer"
        with pytest.raises(UsageError, match="of type xdp, which has no target program"):
            Collection.load(opened, programs=["asks"], targets={"asks": asks})


PACKAGED = glob.glob("/usr/lib/*/bpf/xdpdump_bpf.o")


@pytest.mark.skipif(not PACKAGED, reason="xdp-tools is not installed")
def test_a_packaged_tracer(opened: ObjectFile) -> None:
    """xdpdump's programs trace the entry and the exit of an XDP program, whose function their loader names."""
    obj = open_object(PACKAGED[0], target_btf=read_btf_file())
    names = {name: spec.replace(attach_target="asks") for name, spec in obj.programs.items()}
    assert {spec.attach_type for spec in names.values()} == {"trace_fentry", "trace_fexit"}
    maps = {name: spec.replace(max_entries=spec.max_entries or 1) for name, spec in obj.maps.items()}
    with Collection.load(opened, programs=["asks"]) as target:
        for name in names:
            tracer = obj.replace(programs={name: names[name]}, maps=maps)
            with loaded(tracer, name, targets={name: target.programs["asks"]}) as collection:
                with collection.programs[name].attach_tracing() as link:
                    assert link.program_id and target.programs["asks"].test_run(bytes(64)).retval == 2
                    assert bpf.prog_info(collection.programs[name]).attach_btf_id


def test_contexts_that_programs_write(opened: ObjectFile) -> None:
    with Collection.load(opened, programs=["called"]) as collection:
        run = collection.programs["called"].test_run(b"", ctx=struct.pack("=QQ", 5, 6))
        assert run.retval == 7 and struct.unpack("=QQ", run.context) == (6, 6)


def test_where_a_program_attaches_is_its_own_word(opened: ObjectFile) -> None:
    with Collection.load(opened, programs=["asks"]) as collection:
        with pytest.raises(UsageError, match="of type xdp does not say itself where it attaches"):
            collection.programs["asks"].attach_tracing()
