r"""Several programs on one device, in libxdp's way; beside libxdp itself where its tool is at hand.

Where a system does not let programs replace functions, what needs that is skipped; `tools/guest_python.py` runs it:

    python tools/guest_python.py --module veth --tool xdp-loader --package numpy --package numpy.libs 6.12 \
        -m pytest tests/loader/test_dispatcher.py
"""

from __future__ import annotations

import errno
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfkit.abi import uapi
from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.elf.run_config import RunConfig, add_run_config, read_run_config
from ebpfkit.errors import AttachError, LoadError, UsageError
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.loader import Collection, Program, dispatcher
from ebpfkit.loader.dispatcher_program import NAME, DispatcherConfig, build_dispatcher
from ebpfkit.loader.links.xdp import query
from ebpfkit.testing.lab import VethLab, ping
from ebpfkit.verifier import verify_program
from tests.elf.objects import compile_c
from tests.loader import objects

VERDICTS = tuple(uapi.ENUMS["xdp_action"])
CONFIGS = st.builds(RunConfig, st.integers(0, 2**32 - 1), st.frozensets(st.sampled_from(VERDICTS)))


@pytest.fixture(scope="module")
def beside() -> ObjectFile:
    return open_object(compile_c("beside"), name="beside.o")


def test_what_an_object_says_about_running_beside_others(beside: ObjectFile) -> None:
    """Verdicts are added to, or taken from, libxdp's default."""
    assert read_run_config(beside.btf, "early") == RunConfig(10, frozenset({"XDP_PASS", "XDP_DROP"}))
    assert read_run_config(beside.btf, "late") == RunConfig(60, frozenset())
    assert read_run_config(beside.btf, "plain") == RunConfig(50, frozenset({"XDP_PASS"}))
    assert read_run_config(None, "plain") == RunConfig()


@given(st.dictionaries(st.sampled_from(["one", "two", "three"]), CONFIGS, min_size=1))
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_described_configuration_is_read_back(configs: dict[str, RunConfig]) -> None:
    builder = BtfBuilder()
    add_run_config(builder, configs)
    btf = Btf.from_bytes(builder.build().to_bytes())
    assert {name: read_run_config(btf, name) for name in configs} == configs


@given(st.lists(st.tuples(CONFIGS, st.sampled_from([0, uapi.BPF_F_XDP_HAS_FRAGS])), max_size=10))
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_dispatchers_configuration_is_read_back(rows: list[tuple[RunConfig, int]]) -> None:
    config = DispatcherConfig(tuple(c for c, _ in rows), tuple(flags for _, flags in rows))
    data = config.to_bytes()
    assert len(data) == 124 and data[:2] == bytes([236, 2])
    assert DispatcherConfig.from_bytes(data) == config
    assert DispatcherConfig.from_bytes(bytes([236, 3, *data[2:], 1, 0, 0, 0])) == config
    older = struct.pack("=B3x", len(rows)) + data[4:84]
    assert DispatcherConfig.from_bytes(older).components == config.components
    assert config.frags == (bool(rows) and all(flags for _, flags in rows))


@pytest.mark.parametrize("data", [b"", bytes(84 + 1), bytes([237, 2]) + bytes(122), bytes([236, 9]) + bytes(122)])
def test_what_is_no_configuration(data: bytes) -> None:
    with pytest.raises(AttachError, match="no dispatcher's configuration"):
        DispatcherConfig.from_bytes(data)


def test_too_many_programs_in_a_configuration() -> None:
    with pytest.raises(AttachError, match="names 11 programs"):
        DispatcherConfig.from_bytes(bytes([236, 2, 11]) + bytes(121))


CHAINS = (RunConfig(1), RunConfig(2, frozenset({"XDP_DROP", "XDP_TX"})), RunConfig(3, frozenset()))


@pytest.mark.parametrize("count", [1, 3, 10])
def test_our_verifier_takes_the_dispatcher(count: int) -> None:
    config = DispatcherConfig((CHAINS * 4)[:count], (0,) * count)
    assert verify_program(build_dispatcher(config)).verdict == "accept"


@pytest.mark.kernel
@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_kernel_takes_the_dispatcher_and_nothing_ran(count: int) -> None:
    spec = build_dispatcher(DispatcherConfig((CHAINS * 4)[:count], (0,) * count))
    with Collection.load(ObjectFile({NAME: spec}, spec.maps, btf=spec.btf)) as live:
        assert live.programs[NAME].test_run(bytes(64)).retval == uapi.XDP_PASS


@pytest.fixture(scope="module")
def lab() -> Iterator[VethLab]:
    with VethLab() as made:
        yield made


@pytest.fixture
def dev(lab: VethLab) -> Iterator[str]:
    """A device, with the test in its namespace; nothing may stay attached or pinned."""
    with lab.near.enter():
        yield lab.near_dev
        assert query(lab.near_dev).mode == ""
        assert not list(Path(find_bpffs() or "/none", "xdp").glob("dispatch-*"))


@pytest.fixture
def replacing(beside: ObjectFile) -> None:
    """Skips where programs may not replace functions."""
    spec = build_dispatcher(DispatcherConfig((RunConfig(),), (0,)))
    with Collection.load(ObjectFile({NAME: spec}, spec.maps, btf=spec.btf)) as live:
        try:
            ext = beside.programs["plain"].replace(prog_type="ext", attach_type=None, attach_target="prog0")
            Collection.load(
                beside.replace(programs={"plain": ext}), programs=["plain"], targets={"plain": live.programs[NAME]}
            ).close()
        except LoadError as error:
            if error.errno != errno.EPERM:
                raise
            pytest.skip("this system does not let programs replace functions")


def counted(collection: Collection) -> list[int]:
    live = collection.maps["counts"]
    return [int.from_bytes(live.get(struct.pack("=I", i)) or b"", "little") for i in range(3)]


@pytest.mark.kernel
def test_a_system_that_refuses_says_so_and_nothing_is_left(beside: ObjectFile, dev: str) -> None:
    try:
        dispatcher.add(dev, beside, "plain").close()
    except LoadError as error:
        assert error.errno == errno.EPERM
        assert "does not let programs replace functions" in str(error) and "attach it alone" in str(error)
        assert dispatcher.components(dev) == ()
    else:
        assert dispatcher.remove(dev, "plain").place == 0


@pytest.mark.kernel
def test_a_program_that_stands_alone(beside: ObjectFile, dev: str) -> None:
    with Program.load(objects.returns(2)) as program, program.attach_xdp(dev):
        for call in (lambda: dispatcher.add(dev, beside, "plain"), lambda: dispatcher.components(dev)):
            with pytest.raises(AttachError, match=r"is no dispatcher of .*: nothing can run beside it"):
                call()


@pytest.mark.kernel
def test_wrong_uses(beside: ObjectFile, dev: str) -> None:
    with pytest.raises(UsageError, match="no program 'missing'; it has: early, late, plain"):
        dispatcher.add(dev, beside, "missing")
    with pytest.raises(UsageError, match="neither native nor skb"):
        dispatcher.add(dev, beside, "plain", mode="hw")
    with pytest.raises(AttachError, match=r"cannot take 7 from .*: it is not there; there is nothing"):
        dispatcher.remove(dev, 7)
    other = beside.replace(programs={"tc": beside.programs["plain"].replace(name="tc", prog_type="sched_cls")})
    with pytest.raises(UsageError, match=r"'tc' is for .*; only XDP programs"):
        dispatcher.add(dev, other, "tc")


@pytest.mark.kernel
@pytest.mark.usefixtures("replacing")
def test_programs_run_in_order_as_long_as_each_lets_the_next(beside: ObjectFile, lab: VethLab, dev: str) -> None:
    """Early drops, which lets plain run, which passes, which lets late run, which sends back and ends it."""
    with dispatcher.add(dev, beside, "late") as late, dispatcher.add(dev, beside, "early") as early:
        plain = dispatcher.add(dev, beside, "plain")
        assert [(c.place, c.name) for c in dispatcher.components(dev)] == [(0, "early"), (1, "plain"), (2, "late")]
        assert [c.config.priority for c in dispatcher.components(dev)] == [10, 50, 60]
        with lab.far.enter():
            assert not ping(lab.near_address, count=3)
        runs = [counted(early)[0], counted(plain)[2], counted(late)[1]]
        assert runs[0] == runs[1] == runs[2] >= 3
        with pytest.raises(AttachError, match=r"cannot take 'never' from .*there is early .*, plain .*, late"):
            dispatcher.remove(dev, "never")
        assert dispatcher.remove(dev, "late").name == "late"
        assert dispatcher.remove(dev, early.programs["early"].id).name == "early"
        with lab.far.enter():
            assert ping(lab.near_address, count=2)
        assert counted(plain)[2] > runs[1] and counted(late)[1] == runs[2]
        plain.close()  # what is behind a dispatcher stays there
        assert [c.name for c in dispatcher.components(dev)] == ["plain"]
        assert dispatcher.remove(dev, "plain").config == RunConfig()


@pytest.mark.kernel
@pytest.mark.usefixtures("replacing")
def test_sockets_beside_other_programs(beside: ObjectFile, lab: VethLab, dev: str) -> None:
    """The group's program has libxdp's priority for it, passes nothing on, and goes with the group."""
    pytest.importorskip("numpy")
    from ebpfkit.xsk import XskGroup

    with dispatcher.add(dev, beside, "late") as late:
        with XskGroup(dev, [0], dispatcher=True, frame_count=512) as group:
            shown = dispatcher.components(dev)
            assert [(c.name, c.config.priority) for c in shown] == [("xsk_def_prog", 20), ("late", 60)]
            assert group.link.program_id == shown[0].program_id
            with lab.far.enter():
                assert not ping(lab.near_address, count=2)
            assert [frame.data[12:14] for frame in group[0].receive(timeout=1.0)] and counted(late)[1] == 0
            with pytest.raises(UsageError, match="stands behind a dispatcher"):
                group.link.update(late.programs["late"])
        assert [c.name for c in dispatcher.components(dev)] == ["late"]
        with pytest.raises(UsageError, match="give the ObjectFile"):
            XskGroup(dev, [0], late, dispatcher=True)
    dispatcher.remove(dev, "late")


@pytest.mark.kernel
@pytest.mark.usefixtures("replacing")
def test_no_more_than_ten(beside: ObjectFile, dev: str) -> None:
    ids = []
    for _ in range(10):
        with dispatcher.add(dev, beside, "plain", mode="skb") as live:
            ids.append(live.programs["plain"].id)
    with pytest.raises(AttachError, match="holds ten programs"):
        dispatcher.add(dev, beside, "plain")
    with pytest.raises(AttachError, match="several have that name, say its id"):
        dispatcher.remove(dev, "plain")
    with pytest.raises(UsageError, match="runs in mode skb; others join it there, not in native"):
        dispatcher.add(dev, beside, "plain", mode="native")
    assert [c.program_id for c in dispatcher.components(dev)] == ids  # of equals, who came first runs first
    for number in ids:
        dispatcher.remove(dev, number)


@pytest.mark.kernel
@pytest.mark.usefixtures("replacing")
def test_beside_libxdp(beside: ObjectFile, lab: VethLab, dev: str, tmp_path: Path) -> None:
    """Libxdp's tool sees what we attached and adds to it, we see what it added, and each takes the other's away."""
    loader = shutil.which("xdp-loader")
    if loader is None:
        pytest.skip("xdp-loader is not installed")

    def run(*arguments: str) -> str:
        done = subprocess.run([loader, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    path = tmp_path / "beside.o"
    path.write_bytes(compile_c("beside"))
    with dispatcher.add(dev, beside, "late") as late:
        assert " late " in run("status", dev)
        run("load", dev, str(path), "-n", "early")
        names = [c.name for c in dispatcher.components(dev)]
        assert names == ["early", "late"]
        assert [c.config for c in dispatcher.components(dev)] == [
            RunConfig(10, frozenset({"XDP_PASS", "XDP_DROP"})), RunConfig(60, frozenset()),
        ]  # fmt: skip
        with lab.far.enter():
            assert not ping(lab.near_address, count=2)
        assert counted(late)[1] >= 2
        with dispatcher.add(dev, beside, "plain"):
            shown = run("status", dev)
            assert shown.index(" early ") < shown.index(" plain ") < shown.index(" late ")
        dispatcher.remove(dev, "early")
        run("unload", dev, "--id", str(late.programs["late"].id))
        assert [c.name for c in dispatcher.components(dev)] == ["plain"]
        run("unload", dev, "--all")
        assert dispatcher.components(dev) == ()
