"""What a kernel module has: its functions called and traced, found through the types that it adds to the kernel's."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ebpfkit.loader import Collection
from tests.elf.objects import open_c

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not Path("/sys/kernel/btf/nf_conntrack").exists(), reason="nf_conntrack is no module here"),
]


def test_functions_of_a_module_are_called() -> None:
    """The look-up finds no connection, and says so."""
    with Collection.load(open_c("conntrack"), programs=["looks"]) as collection:
        assert collection.programs["looks"].test_run(bytes(64)).retval == 2
        error = collection.maps[".bss"].get(bytes(4))
        assert error is not None and int.from_bytes(error[:4], "little", signed=True) == -errno.ENOENT


@pytest.mark.parametrize("program", ["enters", "enters_there"])
def test_functions_of_a_module_are_traced(program: str) -> None:
    with Collection.load(open_c("conntrack"), programs=[program]) as collection:
        with collection.programs[program].attach_tracing() as link:
            assert link.program_id
