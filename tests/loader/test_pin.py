"""Attachments that outlive their process: where they are kept, how they come back, how they go."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebpfkit.errors import AttachError, MapError, UsageError
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.kernel.netns import namespace_cookie
from ebpfkit.loader import Collection, Link, Map, Program, pin
from ebpfkit.loader.links.xdp import query
from ebpfkit.testing.lab import VethLab
from tests.conftest import require_tool
from tests.loader import objects

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def lab() -> Iterator[VethLab]:
    with VethLab() as made:
        yield made


@pytest.fixture
def bpffs() -> Iterator[Path]:
    """A folder of the test's own on the bpffs, which must be empty in the end."""
    root = Path(f"{find_bpffs()}/ebpfkit_test_{os.getpid()}")
    root.mkdir()
    yield root
    assert list(root.iterdir()) == []
    root.rmdir()


@pytest.fixture
def loaded() -> Iterator[Collection]:
    dotted = objects.COUNTS.replace(name="data.first")
    with Collection.load(objects.object_of(objects.counts(), maps=(dotted,))) as live:
        yield live


def test_pinned_stays_and_is_removed(lab: VethLab, bpffs: Path, loaded: Collection) -> None:
    with lab.near.enter():
        link = loaded.programs["counter"].attach_xdp("near0")
        folder = pin.pin_attachment(link, "near0", loaded.programs["counter"], loaded.maps, bpffs=bpffs)
        link.close()
        assert folder == bpffs / "ebpfkit" / str(namespace_cookie()) / "near0"
        assert pin.list_pinned(bpffs) == {"near0": folder}
        assert query("near0").program_id == loaded.programs["counter"].id
        with Map.open_pinned(folder / "maps" / "counts") as counts, Program.open_pinned(folder / "program") as program:
            assert counts.info.id == loaded.maps["counts"].info.id
            assert program.id == loaded.programs["counter"].id
        with Link.open_pinned(folder / "link") as again:
            assert again.program_id == program_id(loaded)
        removed = pin.remove("near0", bpffs=bpffs)
        assert (removed.device, removed.program_id, removed.mode) == ("near0", program_id(loaded), "native")
        assert set(removed.map_ids) == {live.info.id for live in loaded.maps.values()}
        assert query("near0").mode == ""
        assert pin.list_pinned(bpffs) == {}


def program_id(loaded: Collection) -> int:
    return loaded.programs["counter"].id


def test_namespaces_do_not_meet(lab: VethLab, bpffs: Path, loaded: Collection) -> None:
    with lab.near.enter():
        with loaded.programs["counter"].attach_xdp("near0") as link:
            pin.pin_attachment(link, "near0", loaded.programs["counter"], {}, bpffs=bpffs)
    with lab.far.enter():
        assert pin.list_pinned(bpffs) == {}
        with pytest.raises(AttachError) as refused:
            pin.remove("near0", bpffs=bpffs)
        assert refused.value.errno == errno.ENOENT
    with lab.near.enter():
        pin.remove("near0", bpffs=bpffs)


def test_a_second_pin_is_refused_and_the_first_stays(lab: VethLab, bpffs: Path, loaded: Collection) -> None:
    with lab.near.enter(), loaded.programs["counter"].attach_xdp("near0") as link:
        pin.pin_attachment(link, "near0", loaded.programs["counter"], loaded.maps, bpffs=bpffs)
        with pytest.raises(AttachError, match="`ebpfkit unload --dev near0` removes it"):
            pin.pin_attachment(link, "near0", loaded.programs["counter"], loaded.maps, bpffs=bpffs)
        assert pin.remove("near0", bpffs=bpffs).program_id == program_id(loaded)


def test_a_pin_that_fails_half_way_leaves_nothing(lab: VethLab, bpffs: Path, loaded: Collection) -> None:
    with lab.near.enter(), loaded.programs["counter"].attach_xdp("near0", via="netlink") as link:
        with pytest.raises(UsageError, match="cannot be pinned"):
            pin.pin_attachment(link, "near0", loaded.programs["counter"], loaded.maps, bpffs=bpffs)
        assert pin.list_pinned(bpffs) == {}


def test_removing_what_a_vanished_device_left(bpffs: Path, loaded: Collection) -> None:
    ip = require_tool("ip")
    with VethLab() as short_lived, short_lived.near.enter():
        with loaded.programs["counter"].attach_xdp("near0") as link:
            folder = pin.pin_attachment(link, "near0", loaded.programs["counter"], loaded.maps, bpffs=bpffs)
        link_path = folder / "link"
        subprocess.run([ip, "link", "del", "near0"], check=True)
        assert link_path.exists()
        assert pin.remove("near0", bpffs=bpffs).device == "near0"


def test_nothing_pinned(bpffs: Path) -> None:
    with pytest.raises(AttachError, match="nothing of ebpfkit's is pinned for near0") as refused:
        pin.remove("near0", bpffs=bpffs)
    assert refused.value.errno == errno.ENOENT


def test_not_a_bpffs(tmp_path: Path, lab: VethLab, loaded: Collection) -> None:
    with lab.near.enter(), loaded.programs["counter"].attach_xdp("near0") as link:
        with pytest.raises(MapError, match="not on a bpffs"):
            pin.pin_attachment(link, "near0", loaded.programs["counter"], loaded.maps, bpffs=tmp_path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dev", "folder"),
    [
        ("eth0", "eth0"),
        ("eth0.100", "eth0%2e100"),
        ("a%2eb", "a%252eb"),
        ("..", "%2e%2e"),
        ("../../x", "%2e%2e%2f%2e%2e%2fx"),
    ],
)
def test_folders_of_devices_are_told_apart(dev: str, folder: str, tmp_path: Path) -> None:
    path = pin.device_folder(dev, tmp_path)
    assert (path.name, path.parent) == (folder, pin.namespace_folder(tmp_path))
    assert pin._name_of(folder) == dev


def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "link").write_text("not a pin")
    with pytest.raises(AttachError, match="nothing of ebpfkit's is pinned"):
        pin.remove("../../outside", bpffs=tmp_path)
    assert (outside / "link").exists()
    with pytest.raises(AttachError, match="no device"):
        pin.remove("", bpffs=tmp_path)
