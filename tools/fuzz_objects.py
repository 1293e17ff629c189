"""Feed broken ELF objects and BTF to every parser, and stop at the first that is not refused in the one proper way.

    python tools/fuzz_objects.py --inputs 1000000 --seconds 900
    python tools/fuzz_objects.py --guided --seconds 300        # coverage-guided, needs the package `atheris`

Inputs are the objects of tests/elf/corpus with bytes changed, cut, moved and spliced. An input may be read, or refused
with an ObjectError that says where; any other exception, or one input that takes longer than --patience seconds, is a
bug: the input is written to --crashes and the exit status is 1. One JSON document with the counts goes to stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "elf" / "corpus"
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)


class Hang(BaseException):
    """One input took too long."""


def parsers() -> dict[str, Callable[[bytes], object]]:
    """Every function that takes bytes from outside, with what a user then does with the result."""
    from ebpfkit.asm.codec import encode
    from ebpfkit.btf import Btf
    from ebpfkit.btf.dedup import deduplicate
    from ebpfkit.btf.dump import dump_c
    from ebpfkit.btf.ext import BtfExt
    from ebpfkit.btf.python import dump_python
    from ebpfkit.btf.split import deduplicate_split
    from ebpfkit.elf import open_object
    from ebpfkit.elf.dwarf import read_lines
    from ebpfkit.elf.reader import read_elf
    from ebpfkit.elf.static import link_objects
    from ebpfkit.elf.structops import fit_operations
    from ebpfkit.errors import NotSupported
    from ebpfkit.loader.btf import loadable_btf, older_btf, plain_types

    seed = (CORPUS / "small.o").read_bytes()
    types = open_object(seed).btf
    assert types is not None

    def read_object(data: bytes) -> None:
        obj = open_object(data, name="fuzzed.o")
        for spec in obj.programs.values():
            encode(spec.instructions, big_endian=obj.big_endian)

    def read_everything(data: bytes) -> None:
        obj = open_object(data, target_btf=types, legacy_sections=True, prog_type="xdp", kconfig={"CONFIG_HZ": "100"})
        for spec in obj.programs.values():
            encode(spec.instructions, big_endian=obj.big_endian)
        for operations in obj.struct_ops.values():
            with suppress(NotSupported):  # that they do not fit a kernel is a proper answer
                fit_operations(operations, obj.btf or types, obj.btf or types)

    def read_lines_of_dwarf(data: bytes) -> None:
        """The lines by themselves, and made records of an object whose own are hidden."""
        read_lines(read_elf(data))
        open_object(data.replace(b".BTF.ext", b".XTF.ext"))

    def read_split(data: bytes) -> None:
        split = Btf.from_bytes(data, base=types)
        deduplicate_split(split).to_btf().to_bytes()
        older_btf(plain_types(loadable_btf(split)), (4, 18)).to_bytes()

    def read_btf(data: bytes) -> None:
        Btf.from_bytes(data).to_bytes()

    def use_btf(data: bytes) -> None:
        btf = Btf.from_bytes(data, lazy=True)
        deduplicate([btf, types] if not btf.big_endian else [btf])
        dump_python(btf)
        dump_c(btf)

    return {
        "object": read_object,
        "object, everything asked for": read_everything,
        "types": read_btf,
        "types, as C and Python": use_btf,
        "records": lambda data: BtfExt.from_bytes(data, types),
        "lines": read_lines_of_dwarf,
        "split types": read_split,
        "static linking": lambda data: link_objects([("fuzzed.o", data), ("small.o", seed)]),
    }


def seeds() -> dict[str, list[bytes]]:
    """The corpus: whole objects, and their sections of types and records."""
    from ebpfkit.elf.reader import read_elf

    objects = [path.read_bytes() for path in sorted(CORPUS.glob("*.o"))]
    found: dict[str, list[bytes]] = {"objects": objects, ".BTF": [], ".BTF.ext": []}
    for data in objects:
        elf = read_elf(data)
        for name in (".BTF", ".BTF.ext"):
            section = elf.section(name)
            if section is not None:
                found[name].append(elf.contents(section))
    return found


WEIGHTS = {
    "object": ("objects", 20), "object, everything asked for": ("objects", 10), "types": (".BTF", 30),
    "types, as C and Python": (".BTF", 2), "records": (".BTF.ext", 30), "lines": ("objects", 6),
    "split types": (".BTF", 4), "static linking": ("objects", 2),
}  # fmt: skip


def regions(data: bytes) -> list[tuple[int, int]]:
    """Where changes matter most: the headers, and each section of an object."""
    if data[:4] != b"\x7fELF":
        return [(0, len(data)), (0, 40)]
    from ebpfkit.elf.reader import read_elf

    elf = read_elf(data)
    table = struct.unpack_from(f"{elf.order}Q", data, 40)[0]
    found = [(0, 64), (table, len(data)), (0, len(data))]
    return found + [(s.offset, s.offset + s.size) for s in elf.sections[1:] if s.size and s.offset < len(data)]


def mutate(rng: random.Random, data: bytes, places: list[tuple[int, int]], others: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        start, end = rng.choice(places)
        end = min(end, len(changed))
        if start >= end:
            continue
        at = rng.randrange(start, end)
        kind = rng.randrange(8)
        if kind < 2:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[at] = rng.randrange(256)
        elif kind < 5:
            at -= (at - start) % 4
            value = rng.choice(INTERESTING) if kind == 3 else rng.randrange(len(changed))
            changed[at : at + 4] = value.to_bytes(4, rng.choice(("little", "little", "big")))[: len(changed) - at]
        elif kind == 5:
            length = rng.randrange(1, 65)
            source = rng.randrange(len(changed))
            piece = bytes(changed[source : source + length])
            changed[at : at + len(piece)] = piece
        elif kind == 6:
            other = rng.choice(others)
            source = rng.randrange(len(other))
            piece = other[source : source + rng.randrange(1, 200)]
            changed[at : at + len(piece)] = piece
        elif rng.random() < 0.1:
            del changed[rng.randrange(len(changed)) :]
            break
    return bytes(changed)


class Campaign:
    """Runs inputs and keeps the counts."""

    def __init__(self, patience: float, crashes: Path, found: dict[str, Callable[[bytes], object]]) -> None:
        self.patience = patience
        self.crashes = crashes
        self.parsers = found
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in self.parsers}
        self.slowest = (0.0, "")
        self.bugs: list[str] = []
        signal.signal(signal.SIGALRM, self._alarm)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        raise Hang

    def one(self, name: str, data: bytes) -> bool:
        """Whether the input was read or refused properly."""
        from ebpfkit.errors import ObjectError

        begin = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, self.patience)
        try:
            self.parsers[name](data)
            outcome = "read"
        except ObjectError as error:
            outcome = "refused" if error.place and "\n" not in str(error) else "refused without a place"
        except Hang:
            outcome = f"longer than {self.patience} s"
        except Exception:
            outcome = traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took = time.perf_counter() - begin
        self.slowest = max(self.slowest, (round(took, 3), name))
        if outcome in ("read", "refused"):
            self.counts[name][outcome] += 1
            return True
        self.counts[name]["bug"] += 1
        self.crashes.mkdir(parents=True, exist_ok=True)
        path = self.crashes / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
        path.write_bytes(data)
        self.bugs.append(f"{name}: {path}: {outcome}")
        print(f"{name}: {path}: {outcome}", file=sys.stderr)
        return False

    def summary(self, seconds: float, **more: Any) -> dict[str, Any]:
        return {
            "inputs": sum(sum(c.values()) for c in self.counts.values()), "seconds": round(seconds, 1), **more,
            "slowest": {"seconds": self.slowest[0], "parser": self.slowest[1]},
            "parsers": {name: dict(counts) for name, counts in self.counts.items()}, "bugs": len(self.bugs),
        }  # fmt: skip


def run_mutations(campaign: Campaign, inputs: int, seconds: float, seed: int) -> dict[str, Any]:
    """Random mutations of the corpus until the count or the time is reached."""
    rng = random.Random(seed)
    corpus = seeds()
    prepared = {kind: [(data, regions(data)) for data in rows] for kind, rows in corpus.items()}
    names = list(WEIGHTS)
    weights = [WEIGHTS[name][1] for name in names]
    begin = time.monotonic()
    done = 0
    while done < inputs and time.monotonic() - begin < seconds and len(campaign.bugs) < 20:
        for name in rng.choices(names, weights, k=100):
            kind = WEIGHTS[name][0]
            data, places = rng.choice(prepared[kind])
            campaign.one(name, mutate(rng, data, places, corpus[kind]))
            done += 1
    return campaign.summary(time.monotonic() - begin, seed=seed)


def run_guided(patience: float, crashes: Path, seconds: float) -> None:
    """Coverage-guided by atheris; it ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["ebpfkit"]):
        import ebpfkit.btf.core
        import ebpfkit.elf.core
        import ebpfkit.elf.kconfig
        import ebpfkit.elf.structops  # noqa: F401

        campaign = Campaign(patience, crashes, parsers())
    names = [name for name in WEIGHTS for _ in range(max(1, WEIGHTS[name][1] // 4))]
    begin = time.monotonic()
    folder = campaign.crashes.parent / "guided-corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, rows in seeds().items():
        for data in rows:
            wanted = next(i for i, name in enumerate(names) if WEIGHTS[name][0] == kind)
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(bytes([wanted]) + data)

    def one_input(data: bytes) -> None:
        if time.monotonic() - begin > seconds:
            print(json.dumps(campaign.summary(time.monotonic() - begin, guided=True), indent=2), flush=True)
            import os

            os._exit(1 if campaign.bugs else 0)
        if data and not campaign.one(names[data[0] % len(names)], data[1:]):
            raise RuntimeError(campaign.bugs[-1])

    atheris.Setup([sys.argv[0], str(folder), "-max_len=8192", "-print_final_stats=0"], one_input)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=10)
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"))
    parser.add_argument("--guided", action="store_true")
    options = parser.parse_args()
    if options.guided:
        run_guided(options.patience, options.crashes, options.seconds)
        return 0
    campaign = Campaign(options.patience, options.crashes, parsers())
    print(json.dumps(run_mutations(campaign, options.inputs, options.seconds, options.seed), indent=2))
    return 1 if campaign.bugs else 0


if __name__ == "__main__":
    sys.exit(main())
