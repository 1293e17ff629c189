"""The harness that asks other kernels: a program that the guest does not survive is named, and the rest goes on."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from cases import program

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import guest_kernel
from guest_kernel import _END, _HEADER, _MAGIC, Guest, GuestDied

_PROG_LOAD, _LETHAL = 5, b"lethal"


class FakeGuest(Guest):
    """Answers every call with success; dies at a program of a certain name, and loses its last answer then."""

    def __init__(self, image: Path) -> None:
        super().__init__(str(image))
        self.boots = 0

    def _boot(self, place: Path, initrd: bytes) -> bytes:
        self.boots += 1
        (place / "console").write_bytes(b"Kernel panic")
        answers = [struct.pack("=IiII", _MAGIC, 0, 4, 4) + b"6.99"]
        at = 0
        while at < len(initrd):
            head = _HEADER.unpack_from(initrd, at)
            size = _HEADER.size + head[2] + 8 * head[3] + (head[4] + 7) // 8 * 8
            if head[0] == _PROG_LOAD and _LETHAL in initrd[at : at + size]:
                watched = head[-1]
                return b"".join(answers if watched else answers[:-1])
            answers.append(struct.pack("=IiII", _MAGIC, 0, 0, 0))
            at += size
        return b"".join(answers) + _END


@pytest.mark.parametrize("place", [0, 3, 5])
def test_a_program_that_kills_the_guest_is_found(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guest_kernel, "guest_init", lambda: b"")
    monkeypatch.setattr(guest_kernel, "archive", lambda init, files: files["batch"])
    specs = [program("r0 = 0; exit").replace(name=f"fine{number}") for number in range(6)]
    specs[place] = specs[place].replace(name=_LETHAL.decode())
    (tmp_path / "vmlinuz.btf").write_bytes(struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0")
    verdicts = FakeGuest(tmp_path / "vmlinuz").load(specs)
    assert [isinstance(verdict, GuestDied) for verdict in verdicts] == [number == place for number in range(6)]
    assert [verdict.accepted for verdict in verdicts] == [number != place for number in range(6)]
    assert "does not survive lethal" in capsys.readouterr().err
