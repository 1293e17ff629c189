"""The only place that chains stages: build, verify, run, load, attach.

Each function takes what a user has at hand (a decorated function, an object, raw instructions) and walks it down the
one road: compile, link, verify, then the virtual machine or the kernel. Rendering and arguments are the caller's.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO
from weakref import WeakKeyDictionary

from ebpfkit.abi.model import HostProfile
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import EbpfError, MapError, NotSupported, UsageError

if TYPE_CHECKING:
    from ebpfkit.compiler.driver import Compiled
    from ebpfkit.diag.explain import Diagnosis
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program
    from ebpfkit.loader.collection import Collection
    from ebpfkit.loader.links.base import Link as LiveLink
    from ebpfkit.maps.store import MapStore
    from ebpfkit.verifier.report import ProgramReport, Report
    from ebpfkit.vm.jit_loop import CaptureTotals
    from ebpfkit.vm.machine import Machine
    from ebpfkit.vm.machine import Result as MachineResult

__all__ = [
    "EXECUTORS",
    "RUNNING_BTF",
    "Link",
    "Loaded",
    "MachineRun",
    "Report",
    "Result",
    "Source",
    "attach",
    "attach_source",
    "build",
    "compile_stages",
    "diagnose",
    "entries_of",
    "import_file",
    "load",
    "open_source",
    "profile_for",
    "refuse_initial_contents",
    "run",
    "running_kernel",
    "unload",
    "verify",
    "verify_before_load",
]

EXECUTORS = ("python", "interpreter", "jit", "kernel", "native")


def __getattr__(name: str) -> Any:
    if name == "Report":
        from ebpfkit.verifier.report import Report

        return Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a program did.

    `action` is what it returned (an `XdpAction` for XDP programs), `data` the packet afterwards, `maps` the contents of
    every map it uses, by name (key to value, in the types of the map), `insns` the instructions executed, or None where
    nothing counts them.
    """

    action: int
    data: bytes
    maps: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    insns: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A FILE: its linked object and, for a Python file, the map facades by map name."""

    path: str
    object: ObjectFile
    facades: Mapping[str, MapFacade] = field(default_factory=dict)

    def choose(self, name: str | None = None) -> ProgramSpec:
        """The program of that name, or the only one there is."""
        programs = self.object.programs
        if name is not None:
            return self.select([name])[0]
        if len(programs) != 1:
            raise UsageError(f"{self.path} holds {_listing(programs)}: name one with --prog")
        return next(iter(programs.values()))

    def select(self, names: Sequence[str] = ()) -> list[ProgramSpec]:
        """The programs of those names, or all of them."""
        if not names:
            return list(self.object.programs.values())
        for name in names:
            if name in self.object.problems:
                raise EbpfError(f"{self.path}: program {name!r} cannot be used: {self.object.problems[name]}")
            if name not in self.object.programs:
                raise UsageError(f"{self.path} has no program {name!r}; it holds {_listing(self.object.programs)}")
        return [self.object.programs[name] for name in names]


def _listing(programs: Mapping[str, ProgramSpec]) -> str:
    return f"the programs {', '.join(programs)}" if programs else "no program"


def profile_for(kernel: str | None) -> HostProfile:
    """The profile of a named kernel (None: 6.18 on every machine; "current": the running one)."""
    from ebpfkit.abi.versions import DEFAULT_KERNEL, KNOWN, basis_of, parse_version

    if kernel == "current":
        from ebpfkit.host.probe import host_profile

        return host_profile()
    major, minor = parse_version(DEFAULT_KERNEL if kernel is None else kernel)
    if f"{major}.{minor}" not in KNOWN:
        raise UsageError(f"nothing is known of Linux {major}.{minor}: there are {KNOWN[0]} to {KNOWN[-1]}")
    return HostProfile(kernel=f"{major}.{minor}", basis=basis_of(f"{major}.{minor}"))


# --- build ------------------------------------------------------------------------------------------------------------


def import_file(path: str | os.PathLike[str]) -> ModuleType:
    """Import a Python file as a module, never as `__main__`, so that importing has no effect on any device."""
    file = Path(path)
    spec = spec_from_file_location(f"ebpfkit_source_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        from ebpfkit.errors import CompileError
        from ebpfkit.span import Span

        span = Span(str(error.filename or file), error.lineno or 1, error.offset or 1, text=error.text)
        raise CompileError(f"syntax error: {error.msg}", span=span, code="syntax") from error
    except EbpfError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code, which may raise anything
        raise UsageError(f"{_place_of(error, file)}: importing it raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    return module


def _place_of(error: BaseException, file: Path) -> str:
    """The last line of the file that was running when the error came up."""
    trace, place = error.__traceback__, str(file)
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            place = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _programs_of(source: Program | Sequence[Program] | ModuleType) -> list[Program]:
    from ebpfkit.dsl.program import Program

    if isinstance(source, Program):
        return [source]
    if isinstance(source, ModuleType):
        found = [value for value in vars(source).values() if isinstance(value, Program)]
        if not found:
            raise UsageError(f"{source.__file__} has no program: decorate a function with @ebpfkit.xdp")
        return list({id(program): program for program in found}.values())
    return list(source)


def compile_stages(
    source: Program | Sequence[Program] | ModuleType, *, kernel: str | None = None, mcpu: str | None = None
) -> Compiled:
    """Compile decorated functions into one object, with the text of every stage."""
    from ebpfkit.compiler.driver import Options, compile_programs

    return compile_programs(_programs_of(source), options=Options(kernel=kernel, mcpu=mcpu))


def build(
    source: Program | Sequence[Program] | ModuleType, *, kernel: str | None = None, mcpu: str | None = None
) -> ObjectFile:
    """Compile decorated functions and read the object back: `raw` holds the ELF, the same bytes on every machine.

    Without a target this means CPU v3; `kernel` ("6.6") or `mcpu` ("v1" to "v4") choose otherwise.
    """
    from ebpfkit.elf import open_object

    compiled = compile_stages(source, kernel=kernel, mcpu=mcpu)
    return open_object(compiled.elf, name=compiled.programs[0].name)


RUNNING_BTF = "/sys/kernel/btf/vmlinux"


def open_source(
    path: str | os.PathLike[str],
    *,
    kernel: str | None = None,
    mcpu: str | None = None,
    btf: str | os.PathLike[str] | None = None,
) -> Source:
    """Read a FILE: a Python file is imported and compiled, anything else is read as an ELF object.

    `btf` is a file with the types of the kernel that the object is meant for, which CO-RE relocations ask.
    """
    from ebpfkit.btf.vmlinux import read_btf_file
    from ebpfkit.elf import open_object

    file = Path(path)
    if not file.exists():
        raise UsageError(f"{file}: no such file")
    if file.suffix != ".py":
        opened = open_object(file)
        if btf is not None and (opened.needs_target or opened.needs_config):
            opened = open_object(file, target_btf=read_btf_file(btf), kconfig=_config_of(btf))
        return Source(str(file), opened)
    programs = _programs_of(import_file(file))
    return Source(str(file), build(programs, kernel=kernel, mcpu=mcpu), _facades_of(programs))


def _config_of(btf: str | os.PathLike[str]) -> dict[str, str | int] | None:
    """The configuration of the running kernel when `btf` is its types; another kernel's is not known."""
    if os.fspath(btf) != RUNNING_BTF:
        return None
    from ebpfkit.elf.kconfig import parse_config
    from ebpfkit.kernel.symbols import read_config
    from ebpfkit.kernel.version import kernel_release_code

    text = read_config()
    return None if text is None else {**parse_config(text), "LINUX_KERNEL_VERSION": kernel_release_code()}


def refuse_initial_contents(source: Program | Sequence[Program] | ModuleType) -> None:
    """Raise UsageError when maps hold entries that an object file could not carry."""
    for name, facade in _facades_of(_programs_of(source)).items():
        if count := len(facade.initial_contents()):
            raise UsageError(
                f"map {name!r} holds {count} entries, which an object file cannot carry: "
                'fill it under `if __name__ == "__main__":` or load the program from Python, where they go along'
            )


def _facades_of(programs: Iterable[Program]) -> dict[str, MapFacade]:
    return {facade.name: facade for program in programs for facade in program.maps}


# --- verify -----------------------------------------------------------------------------------------------------------

Verifiable = Any  # a decorated function, ObjectFile, ProgramSpec, list of Instruction, raw instruction bytes


def verify(
    x: Verifiable,
    prog_type: str = "xdp",
    maps: Sequence[MapSpec] = (),
    kernel: str | None = None,
    *,
    profile: HostProfile | None = None,
    max_insns: int = 1_000_000,
) -> Report:
    """Predict the verdict of the kernel's verifier, without a kernel.

    `x` is a decorated function, an `ObjectFile`, a `ProgramSpec`, a list of `Instruction` or raw instruction bytes
    (whose wide map loads then refer to `maps` by index); `prog_type` and `maps` count for the last two. `kernel` is a
    version such as "6.6"; without one it means 6.18 on every machine. `max_insns` bounds the walk, as the kernel's
    million does.
    """
    from ebpfkit.verifier import Report, verify_program

    chosen = profile or profile_for(kernel)
    specs = _specs_of(x, prog_type, maps, kernel)
    return Report(tuple(verify_program(spec, chosen, max_insns=max_insns) for spec in specs))


def _specs_of(x: Verifiable, prog_type: str, maps: Sequence[MapSpec], kernel: str | None) -> list[ProgramSpec]:
    from ebpfkit.dsl.program import Program
    from ebpfkit.elf.raw import program_from_code

    if isinstance(x, Program):
        return list(build(x, kernel=kernel).programs.values())
    if isinstance(x, ObjectFile):
        return list(x.programs.values())
    if isinstance(x, ProgramSpec):
        return [x]
    return [program_from_code(x, prog_type=prog_type, maps=maps)]


def diagnose(report: ProgramReport, spec: ProgramSpec | None = None) -> Diagnosis:
    """A verdict that is no acceptance, explained: what, why, and what to write instead.

    `spec`, the program it is about, gives the text of the instruction.
    """
    from ebpfkit.diag.explain import explain_rejection

    return explain_rejection(
        report.rule,
        report.message,
        insn=report.insn,
        span=report.span,
        instruction=_instruction_text(spec, report.insn),
        registers={report.register: report.state} if report.register else {},
        program=report.name,
        kernel=report.kernel,
    )


def _instruction_text(spec: ProgramSpec | None, slot: int | None) -> str:
    from ebpfkit.asm.codec import slot_starts
    from ebpfkit.asm.printer import format_instruction

    if spec is None or slot is None:
        return ""
    found = dict(zip(slot_starts(spec.instructions), spec.instructions))
    return format_instruction(found[slot], slot) if slot in found else ""


# --- load and attach --------------------------------------------------------------------------------------------------


class Loaded:
    """Programs and maps in the kernel, closed together. `loaded[facade]` or `loaded["name"]` is a map."""

    def __init__(self, collection: Collection, facades: Iterable[MapFacade] = ()) -> None:
        self.collection = collection
        self.facades = [facade for facade in facades if facade.name in collection.maps]
        for facade in self.facades:
            facade.bind(collection.maps[facade.name])

    @property
    def programs(self) -> Mapping[str, Any]:
        return self.collection.programs

    @property
    def maps(self) -> Mapping[str, Any]:
        return self.collection.maps

    def __getitem__(self, which: MapFacade | str) -> Any:
        if isinstance(which, str):
            return self.collection.maps[which]
        return which.view(self.collection.maps[which.name])

    def close(self) -> None:
        """Let go of programs and maps; facades return to memory."""
        for facade in self.facades:
            facade.unbind(self.collection.maps[facade.name])
        self.collection.close()

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Link:
    """An attached program. Leaving the `with` block detaches it; the maps stay readable until `close`."""

    def __init__(self, link: LiveLink, loaded: Loaded) -> None:
        self.link = link
        self.loaded = loaded

    def detach(self) -> None:
        """Detach; the maps keep their last contents and stay bound."""
        self.link.close()

    def close(self) -> None:
        """Detach, and let go of the programs and maps."""
        self.detach()
        self.loaded.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def running_kernel() -> str:
    """The running kernel's series, such as "6.18"."""
    return profile_for("current").kernel


def load(program: Program | Sequence[Program], *, verify_first: bool = True, **variables: int | bytes) -> Loaded:
    """Compile for the running kernel, verify, and load; the facades of the maps are bound to the live maps.

    What was put into the maps before goes along. `variables` gives global variables other first values. Raises
    VerifierError for a rejection, ours or the kernel's, with the Python line.
    """
    from ebpfkit.loader import Collection

    programs = _programs_of(program)
    facades = _facades_of(programs)
    obj = with_contents(build(programs, kernel=running_kernel()), facades)
    if verify_first:
        for spec in obj.programs.values():
            verify_before_load(spec)
    return Loaded(Collection.load(obj, variables=variables), facades.values())


def with_contents(obj: ObjectFile, facades: Mapping[str, MapFacade]) -> ObjectFile:
    """The object with what user space put into the facades as initial contents of its maps."""
    maps = {
        name: spec.replace(contents=facades[name].initial_contents()) if name in facades else spec
        for name, spec in obj.maps.items()
    }
    return obj.replace(maps=maps)


def verify_before_load(spec: ProgramSpec) -> list[str]:
    """Judge for the running kernel before anything reaches it: raises VerifierError, or returns what is to be said."""
    from ebpfkit.verifier import verify_program

    report = verify_program(spec, profile_for("current"))
    if error := report.to_error():
        raise error
    if report.verdict == "unsupported":
        return [f"{spec.name}: not judged by our verifier ({report.message}); the kernel's verdict decides"]
    return []


def attach(
    program: Program, dev: str, mode: str | None = None, *, via: str = "link", verify_first: bool = True
) -> Link:
    """Load one program and attach it to a device; `mode` is "native", "skb" or "hw" (None: the kernel chooses)."""
    loaded = load(program, verify_first=verify_first)
    try:
        return Link(loaded.programs[program.name].attach_xdp(dev, mode=mode, via=via), loaded)
    except BaseException:
        loaded.close()
        raise


class Attached:
    """A program of a FILE on a device, as `ebpfkit load` holds it."""

    def __init__(self, link: LiveLink, loaded: Loaded, name: str, dev: str) -> None:
        self.link, self.loaded, self.name, self.dev = link, loaded, name, dev

    def summary(self) -> dict[str, Any]:
        """Device, mode, program id and map ids."""
        return {
            "device": self.dev,
            "mode": getattr(self.link, "mode", None),
            "program": self.name,
            "program_id": self.link.program_id,
            "map_ids": sorted(live.info.id for live in self.loaded.maps.values()),
        }

    def __enter__(self) -> Attached:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.link.close()
        self.loaded.close()


def attach_source(
    source: Source, name: str, dev: str, *, mode: str | None = None, settings: Sequence[str] = (), pin: bool = False
) -> Attached:
    """Load one program of a FILE, with its maps, and attach it; `pin` leaves link and maps behind for `unload`."""
    from ebpfkit.loader import Collection
    from ebpfkit.loader.pin import pin_attachment

    variables = dict(_setting(text) for text in settings)
    obj = with_contents(source.object, source.facades)
    loaded = Loaded(Collection.load(obj, programs=[name], variables=variables), source.facades.values())
    try:
        link = loaded.programs[name].attach_xdp(dev, mode=mode)
        try:
            if pin:
                pin_attachment(link, dev, loaded.programs[name], loaded.maps)
        except BaseException:
            link.close()
            raise
    except BaseException:
        loaded.close()
        raise
    return Attached(link, loaded, name, dev)


def _setting(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, int(value, 0)
    except ValueError:
        raise UsageError(f"--set takes NAME=VALUE with a whole number, not {text!r}") from None


def unload(dev: str) -> dict[str, Any]:
    """Detach what was pinned for a device and remove its pins; what was taken away, as `Attached.summary` tells it."""
    from ebpfkit.loader.pin import remove

    removed = remove(dev)
    return {
        "device": removed.device,
        "mode": removed.mode,
        "program_id": removed.program_id,
        "map_ids": sorted(removed.map_ids),
    }


# --- run --------------------------------------------------------------------------------------------------------------


def run(program: Program, frame: bytes, on: str = "interpreter", **options: Any) -> Result:
    """Run a decorated function on one packet.

    `on` is "python" (the function itself), "interpreter" (the virtual machine), "jit" (the virtual machine's native
    code; with `trusted=True` without checks, for what our verifier accepts) or "kernel" (BPF_PROG_TEST_RUN); "native"
    is not there yet and says so. In Python and in the virtual machine the maps of the module keep what the run did to
    them; a run in the kernel starts from a copy of their contents, and `Result.maps` tells what became of it.
    """
    if on not in EXECUTORS:
        raise UsageError(f"no executor {on!r}; there are {', '.join(EXECUTORS)}")
    runners = {"python": _run_python, "interpreter": _run_interpreter, "jit": _run_jit, "kernel": _run_kernel}
    runner = runners.get(on)
    if runner is None:
        raise NotSupported(f"the executor {on!r}", why=f"use on={', '.join(map(repr, runners))}")
    return runner(program, bytes(frame), **options)


LOOPBACK = 1  # the interface that BPF_PROG_TEST_RUN shows to a program: every executor shows the same


def _run_python(program: Program, frame: bytes, **options: Any) -> Result:
    from ebpfkit.dsl.execute import run_python

    done = run_python(program, frame, **{"ingress_ifindex": LOOPBACK, **options})
    return Result(done.action, done.data, _contents_of(program))


def _run_interpreter(program: Program, frame: bytes, **options: Any) -> Result:
    from ebpfkit.vm import Machine

    machine = Machine(_built_for_run(program), maps=[_memory_of(facade) for facade in program.maps])
    done = machine.run(frame, **{"ifindex": LOOPBACK, **options})
    number = done.r0 & 0xFFFF_FFFF
    action = _action(number)
    return Result(action, done.data, _contents_of(program), done.insns)


_JITTED: WeakKeyDictionary[Program, tuple[tuple[object, ...], Machine]] = WeakKeyDictionary()


def _run_jit(program: Program, frame: bytes, *, trusted: bool = False, **options: Any) -> Result:
    done = _jit_machine(program, trusted).run(frame, **{"ifindex": LOOPBACK, **options})
    return Result(_action(done.r0 & 0xFFFF_FFFF), done.data, _contents_of(program), done.insns)


def _jit_machine(program: Program, trusted: bool) -> Machine:
    """A machine with native code, kept as long as the program and the stores of its maps stay the same."""
    from ebpfkit.vm import Machine

    obj = _built_for_run(program)
    stores = _native_stores(program.maps)
    key = (obj, trusted, *stores)
    known = _JITTED.get(program)
    if known is None or len(known[0]) != len(key) or any(a is not b for a, b in zip(known[0], key)):
        report = require_verified(obj) if trusted else None
        machine = Machine(obj, maps=stores, jit="trusted" if trusted else "safe", report=report)
        known = _JITTED[program] = (key, machine)
    return known[1]


def _native_stores(facades: Iterable[MapFacade]) -> list[MapStore]:
    """The in-memory stores of maps, made such that native code works on them."""
    stores = []
    for facade in facades:
        if _memory_of(facade) is facade.memory_store:
            facade.make_native()
        stores.append(_memory_of(facade))
    return stores


def require_verified(obj: ObjectFile) -> Report:
    """The verifier's report on every program of the object. Raises VerifierError, or NotSupported for no verdict."""
    report = verify(obj)
    for error in report.errors:
        raise error
    for one in report:
        if not one.ok:
            raise NotSupported(f"trusted native code for '{one.name}'", why=f"it could not be verified: {one.message}")
    return report


def _run_kernel(program: Program, frame: bytes) -> Result:
    from ebpfkit.loader import Collection

    facades = {facade.name: facade for facade in program.maps}
    with Collection.load(with_contents(_built_for_run(program), facades)) as collection:
        done = collection.programs[program.name].test_run(frame)
        contents = {name: snapshot(facade, collection.maps[name]) for name, facade in facades.items()}
    action = _action(done.retval)
    return Result(action, done.data, contents)


def _action(number: int) -> int:
    """A verdict as `XdpAction`; a number that is none stays a number."""
    from ebpfkit.dsl.types import XdpAction

    try:
        return XdpAction(number)
    except ValueError:
        return number


_BUILT: WeakKeyDictionary[Program, tuple[object, ObjectFile]] = WeakKeyDictionary()


def _built_for_run(program: Program) -> ObjectFile:
    """The compiled program, made once for as long as the constants of its module keep their values."""
    constants = tuple(
        (name, value)
        for name, value in program.function.__globals__.items()
        if isinstance(value, (int, str, bytes)) and not name.startswith("__")
    )
    known = _BUILT.get(program)
    if known is None or known[0] != constants:
        known = _BUILT[program] = (constants, build(program))
    return known[1]


def _memory_of(facade: MapFacade) -> MapStore:
    """The in-memory store of a map. Raises UsageError while the map is bound to one in the kernel."""
    store = facade.store
    if not hasattr(store, "lookup"):
        raise UsageError(
            f"{facade.name!r} is bound to a map in the kernel, out of the virtual machine's reach: close the load first"
        )
    return store


def _contents_of(program: Program) -> dict[str, dict[Any, Any]]:
    return {facade.name: snapshot(facade, facade.store) for facade in program.maps}


def snapshot(facade: MapFacade, store: MapStore) -> dict[Any, Any]:
    """The entries of a map in its own types; of arrays those that are not zero; per-CPU values as lists."""
    view = facade.view(store)
    return {view.decode_key(key): view.decode_value(value) for key, value in entries_of(store)}


def entries_of(store: MapStore) -> list[tuple[bytes, bytes]]:
    """The entries of a store; of arrays, whose every slot exists, those that are not zero.

    None for maps that user space cannot read, as the kernel has it (sockets by index, program arrays, ring buffers).
    """
    if store.spec.key_size == 0:
        return []
    try:
        return [(key, value) for key, value in store.items() if "array" not in store.spec.type or any(value)]
    except MapError as error:
        if error.errno in UNREADABLE:
            return []
        raise


UNREADABLE = (errno.EOPNOTSUPP, 524)  # ENOTSUPP is the kernel's own number, which errno.h does not have


class MachineRun:
    """A program of a FILE in the virtual machine, packet after packet, with the contents of its maps at the end."""

    def __init__(self, source: Source, spec: ProgramSpec, *, jit: str | None = None) -> None:
        from ebpfkit.vm import Machine

        self.source = source
        self.spec = spec
        facades = [facade for name, facade in source.facades.items() if name in source.object.maps]
        stores = [_memory_of(facade) for facade in facades] if jit is None else _native_stores(facades)
        report = require_verified(source.object) if jit == "trusted" else None
        self.machine = Machine(source.object, maps=stores, program=spec.name, jit=jit, report=report)

    @property
    def walks_captures(self) -> bool:
        """Whether `run_capture` works: native code, for XDP."""
        return self.machine.jit is not None and self.machine.is_xdp

    def run_capture(self, path: str | os.PathLike[str], out: BinaryIO | None = None) -> CaptureTotals:
        """A whole capture in native code; `out` gets the packets as a pcap."""
        from ebpfkit.vm.jit_loop import run_capture

        return run_capture(self.machine, path, out=out)

    def run(self, packet: bytes) -> MachineResult:
        """One packet."""
        return self.machine.run(packet)

    def action_name(self, r0: int) -> str:
        """The verdict's name in the kernel's words, or the number where the program type has no such verdict."""
        from ebpfkit.abi.prog_types import PROG_TYPES

        number = r0 & 0xFFFF_FFFF
        row = PROG_TYPES.get(self.spec.prog_type)
        return next((name for name, value in (row.verdicts if row else {}).items() if value == number), str(number))
