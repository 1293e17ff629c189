"""bpf(2), one command at a time, on the running kernel."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import warnings

import pytest

from ebpfkit.errors import KernelError
from ebpfkit.kernel import bpf
from ebpfkit.kernel.fd import Fd

XDP = 6
HASH = 1
PASS = bytes.fromhex("b700000002000000 9500000000000000")
READS_NOTHING = bytes.fromhex("9500000000000000")  # exit without a value in r0

pytestmark = pytest.mark.kernel


def load(code: bytes = PASS, **options: object) -> Fd:
    result = bpf.prog_load(XDP, code, "GPL", **options)  # type: ignore[arg-type]
    assert result.fd is not None, os.strerror(result.errno)
    return result.fd


def test_program_runs_on_a_packet() -> None:
    packet = bytes(range(64))
    with load(name="pass_all") as prog:
        run = bpf.test_run(prog, packet, repeat=3)
        info = bpf.prog_info(prog)
    assert (run.retval, run.data) == (2, packet)
    assert (info.name, info.type, info.xlated_prog_len, info.gpl_compatible) == (b"pass_all", XDP, 16, 1)


def test_xlated_is_what_was_loaded() -> None:
    with load() as prog:
        assert bpf.prog_xlated(prog) == PASS
        assert bpf.prog_map_ids(prog) == ()


def test_context_goes_in_and_comes_back() -> None:
    context = bytearray(24)
    context[4:8] = (64).to_bytes(4, sys.byteorder)  # data_end; data and data_meta stay 0
    with load() as prog:
        run = bpf.test_run(prog, bytes(64), context=bytes(context))
    assert run.retval == 2
    assert run.context == bytes(context)


def test_a_refusal_is_a_result_with_its_log() -> None:
    refused = bpf.prog_load(XDP, READS_NOTHING, "GPL", log_level=1, log_size=4096)
    assert refused.fd is None
    assert refused.errno == errno.EACCES
    assert "R0 !read_ok" in refused.log
    assert len(refused.log) < refused.log_needed < 4096


def test_a_log_too_small_tells_the_size_it_needs() -> None:
    refused = bpf.prog_load(XDP, READS_NOTHING, "GPL", log_level=1, log_size=32)
    assert refused.errno == errno.ENOSPC
    whole = bpf.prog_load(XDP, READS_NOTHING, "GPL", log_level=1, log_size=refused.log_needed)
    assert whole.errno == errno.EACCES
    assert len(whole.log) + 1 == refused.log_needed


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("firewall", b"firewall"),
        ("a_name_that_is_far_too_long", b"a_name_that_is_"),
        ("with-dash and space", b"with_dash_and_s"),
        ("grün.rodata", b"gr_n.rodata"),
        ("", b""),
    ],
)
def test_names_as_the_kernel_takes_them(name: str, kept: bytes) -> None:
    assert bpf.kernel_name(name) == kept
    with bpf.map_create(HASH, 4, 4, 1, name=name) as created:
        assert bpf.map_info(created).name == kept


def test_ids_and_descriptors_by_id() -> None:
    with load() as prog, bpf.map_create(HASH, 4, 8, 2) as created:
        prog_id, map_id = bpf.prog_info(prog).id, bpf.map_info(created).id
        assert prog_id in set(bpf.prog_ids())
        assert map_id in set(bpf.map_ids())
        with bpf.prog_fd_by_id(prog_id) as again, bpf.map_fd_by_id(map_id) as map_again:
            assert bpf.prog_info(again).id == prog_id
            assert bpf.map_info(map_again).value_size == 8
    with pytest.raises(KernelError) as refused:
        bpf.prog_fd_by_id(0x7FFF_FFFF)
    assert refused.value.errno == errno.ENOENT
    assert "BPF_PROG_GET_FD_BY_ID of id 2147483647" in str(refused.value)


def test_the_kernel_btf_is_the_first_one() -> None:
    with bpf.btf_fd_by_id(next(bpf.btf_ids())) as btf:
        assert bpf.btf_data(btf)[:2] in (b"\x9f\xeb", b"\xeb\x9f")


def test_frozen_map_refuses_system_calls() -> None:
    from ebpfkit.kernel.elements import Elements

    with bpf.map_create(2, 4, 4, 1) as created:
        elements = Elements(created, 4, 4)
        assert elements.update(bytes(4), b"once") == 0
        bpf.map_freeze(created)
        assert elements.update(bytes(4), b"more") == -errno.EPERM
        assert elements.lookup(bytes(4)) == b"once"


def test_descriptors_are_closed_on_exec() -> None:
    with load() as prog:
        assert not os.get_inheritable(prog.fileno())
        path = f"/proc/self/fd/{prog.fileno()}"
        look = f"import os; print(os.path.exists({path!r}) and os.readlink({path!r}))"
        seen = subprocess.run([sys.executable, "-c", look], close_fds=False, check=True, capture_output=True, text=True)
    assert "bpf" not in seen.stdout


class TestFd:
    def test_a_dropped_descriptor_warns_and_is_closed(self) -> None:
        leaked = load()
        number = leaked.fileno()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del leaked
            gc.collect()
        assert [w.category for w in caught] == [ResourceWarning]
        assert "unclosed BPF program" in str(caught[0].message)
        with pytest.raises(OSError):
            os.fstat(number)

    def test_a_closed_one_says_so(self) -> None:
        prog = load()
        prog.close()
        prog.close()
        assert prog.closed
        with pytest.raises(ValueError, match="is closed"):
            prog.fileno()

    def test_release_gives_the_number_away(self) -> None:
        prog = load()
        number = prog.release()
        assert prog.closed
        os.fstat(number)
        os.close(number)

    def test_a_duplicate_has_its_own_life(self) -> None:
        prog = load()
        with prog.duplicate() as second:
            prog.close()
            assert bpf.prog_info(second).type == XDP
