"""The index on disk: made once, used after, and worth nothing when anything about it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebpfkit.btf import Btf, BtfBuilder, index
from ebpfkit.btf.index import cache_folder, open_indexed
from ebpfkit.btf.types import Struct


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(index, "WORTHWHILE", 100)
    builder = BtfBuilder()
    for number in range(50):
        builder.struct(f"s{number}", 8, [("a", builder.integer("int", 4), 0)])
    return builder.build().to_bytes()


def opened(data: bytes, folder: Path) -> Btf:
    btf = open_indexed(data, "abc", folder)
    assert btf.types[:] == Btf.from_bytes(data).types
    assert btf.find("s49", Struct) is not None
    return btf


def test_made_and_used(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(data, tmp_path / "new")
    (kept,) = (tmp_path / "new").iterdir()
    assert kept.name == "btf-abc.idx"
    monkeypatch.setattr("ebpfkit.btf.wire._walk", lambda *args: pytest.fail("the index was not used"))
    opened_again = open_indexed(data, "abc", tmp_path / "new")
    assert opened_again.find("s7", Struct) is not None


@pytest.mark.parametrize("where", [0, 5, 20, 30, 40, -1, -20])
def test_a_broken_index_is_made_anew(data: bytes, tmp_path: Path, where: int) -> None:
    opened(data, tmp_path)
    path = tmp_path / "btf-abc.idx"
    good = path.read_bytes()
    for broken in (good[:where] + bytes([good[where] ^ 0x41]) + good[where:][1:], good[:where], good + b"more", b""):
        path.write_bytes(broken)
        opened(data, tmp_path)
        assert path.read_bytes() == good


def test_another_files_index_is_not_used(data: bytes, tmp_path: Path) -> None:
    opened(data, tmp_path)
    other = BtfBuilder()
    for number in range(50):
        other.struct(f"t{number}", 16, [("b", other.integer("int", 4), 8)])
    open_indexed(other.build().to_bytes(), "abc", tmp_path).find("t3", Struct)
    opened(data, tmp_path)


def test_a_folder_that_cannot_be_written(data: bytes, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    opened(data, blocked)
    opened(data, blocked / "deeper")


def test_few_indexes_are_kept(data: bytes, tmp_path: Path) -> None:
    for number in range(index.MAX_INDEXES + 5):
        open_indexed(data, f"{number:04}", tmp_path)
    assert len(list(tmp_path.glob("btf-*.idx"))) == index.MAX_INDEXES


def test_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBPFKIT_CACHE", "/there")
    assert cache_folder() == Path("/there")
    monkeypatch.setenv("EBPFKIT_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("EBPFKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/ebpfkit")
