"""The pytest plugin: fixtures that run programs. It loads nothing of ebpfkit until a test asks for one.

    def test_blocked_source_is_dropped(ebpf):
        ebpf.run(firewall, packet).expect(action=XDP_DROP, maps={"seen": {6: [1]}}, max_insns=60)

`ebpf` is a `Bench`; `ebpf_clock` and `ebpf_random` are its clock and random numbers; `ebpf_everywhere` is a bench once
for each executor of `--ebpf-on`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ebpfkit.testing.bench import Bench
    from ebpfkit.testing.executors import FakeClock, FakeRandom

__all__ = ["ebpf", "ebpf_clock", "ebpf_everywhere", "ebpf_random"]

_DEFAULT = "python,interpreter,jit"
_HERE = "ebpf_everywhere"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--ebpf-on`: where `ebpf_everywhere` runs programs."""
    parser.getgroup("ebpfkit").addoption(
        "--ebpf-on",
        default=_DEFAULT,
        metavar="EXECUTORS",
        help=f"executors for the fixture {_HERE}, of python, interpreter, jit, trusted, kernel (default: {_DEFAULT})",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that uses `ebpf_everywhere` runs once for each executor."""
    if _HERE not in metafunc.fixturenames:
        return
    from ebpfkit.testing.executors import EXECUTORS

    chosen = [name.strip() for name in metafunc.config.getoption("--ebpf-on").split(",") if name.strip()]
    unknown = [name for name in chosen if name not in EXECUTORS]
    if unknown or not chosen:
        raise pytest.UsageError(
            f"--ebpf-on takes names of {', '.join(EXECUTORS)}, not {', '.join(unknown) or 'nothing'}"
        )
    metafunc.parametrize(_HERE, chosen, indirect=True)


@pytest.fixture
def ebpf() -> Iterator[Bench]:
    """Run programs on packets in any executor: `run`, `run_all`, `fill`, `diff_run`, `verify`, `coverage`."""
    from ebpfkit.testing.bench import Bench

    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def ebpf_everywhere(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The same as `ebpf`, once for each executor of `--ebpf-on`; skips for the kernel without privileges."""
    from ebpfkit.testing.bench import Bench
    from ebpfkit.testing.executors import can_use_kernel

    if request.param == "kernel" and not can_use_kernel():
        pytest.skip("running in the kernel needs CAP_BPF and CAP_NET_ADMIN")
    bench = Bench(request.param)
    yield bench
    bench.close()


@pytest.fixture
def ebpf_clock(ebpf: Bench) -> FakeClock:
    """The clock of `ebpf`: stands at 0 until `advance(seconds=...)`."""
    return ebpf.clock


@pytest.fixture
def ebpf_random(ebpf: Bench) -> FakeRandom:
    """The random numbers of `ebpf`: set `numbers` before a program first runs."""
    return ebpf.numbers
