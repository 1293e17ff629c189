"""The seed corpus, and a short run of the campaign that `tools/fuzz_objects.py` runs for long."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ebpfkit.elf import open_object

TOOL = Path(__file__).parents[2] / "tools" / "fuzz_objects.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_objects", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_objects"] = module
    spec.loader.exec_module(module)
    return module


def test_the_corpus_is_read(tool: ModuleType) -> None:
    """Seeds that were refused would only ever give refusals."""
    for path in sorted(tool.CORPUS.glob("*.o")):
        obj = open_object(path, legacy_sections=True, prog_type="xdp", kconfig={})
        assert obj.programs or obj.needs_target, path
    campaign = tool.Campaign(10, Path("unused"), tool.parsers())
    for kind, rows in tool.seeds().items():
        for name, (wanted, _) in tool.WEIGHTS.items():
            if wanted == kind and name != "static linking":
                assert all(campaign.one(name, data) for data in rows), name
    assert not campaign.bugs and all(sum(counts.values()) for name, counts in campaign.counts.items() if name[0] != "s")


def test_a_short_run(tool: ModuleType, tmp_path: Path) -> None:
    campaign = tool.Campaign(10, tmp_path / "crashes", tool.parsers())
    shown = tool.run_mutations(campaign, 1500, 15, seed=20)
    assert shown["bugs"] == 0 and shown["inputs"] >= 100, campaign.bugs
    assert sum(counts["read"] for counts in campaign.counts.values()) > 10


def test_a_bug_is_found_and_kept(tool: ModuleType, tmp_path: Path) -> None:
    """Otherwise a run without bugs would prove nothing."""

    def broken(data: bytes) -> None:
        raise IndexError(len(data))

    campaign = tool.Campaign(10, tmp_path, {"broken": broken, "slow": lambda data: [0 for _ in iter(int, 1)]})
    campaign.patience = 0.2
    assert not campaign.one("broken", b"xyz") and not campaign.one("slow", b"abc")
    assert "IndexError" in campaign.bugs[0] and "longer than" in campaign.bugs[1]
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"abc", b"xyz"]
