"""What a user has at hand becomes a linked object: decorated functions, modules, Python files and ELF files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ebpfkit.elf.model import ObjectFile, ProgramSpec
from ebpfkit.errors import EbpfError, UsageError
from ebpfkit.pipeline.code_files import read_code

if TYPE_CHECKING:
    from ebpfkit.compiler.driver import Compiled
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program

__all__ = [
    "RUNNING_BTF",
    "Source",
    "build",
    "compile_stages",
    "facades_of",
    "import_file",
    "open_source",
    "programs_of",
    "refuse_initial_contents",
    "with_contents",
]


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


def programs_of(source: Program | Sequence[Program] | ModuleType) -> list[Program]:
    from ebpfkit.dsl.program import Program

    if isinstance(source, Program):
        return [source]
    if isinstance(source, ModuleType):
        found = [value for value in vars(source).values() if isinstance(value, Program)]
        if not found:
            raise UsageError(f"{source.__file__} has no program: decorate a function with @ebpfkit.xdp")
        # A replacement belongs into another object than what it replaces a function of.
        found = [program for program in found if program.prog_type != "ext"] or found
        return list({id(program): program for program in found}.values())
    return list(source)


def compile_stages(
    source: Program | Sequence[Program] | ModuleType, *, kernel: str | None = None, mcpu: str | None = None
) -> Compiled:
    """Compile decorated functions into one object, with the text of every stage."""
    from ebpfkit.compiler.driver import Options, compile_programs

    return compile_programs(programs_of(source), options=Options(kernel=kernel, mcpu=mcpu))


def build(
    source: Program | Sequence[Program] | ModuleType, *, kernel: str | None = None, mcpu: str | None = None
) -> ObjectFile:
    """Compile decorated functions and read the object back: `raw` holds the ELF, the same bytes on every machine.

    Without a target this means CPU v3; `kernel` ("6.6") or `mcpu` ("v1" to "v4") choose otherwise. Programs that read
    structures of the kernel's are linked for the running one, where there is one.
    """
    from ebpfkit.btf.vmlinux import read_btf_file
    from ebpfkit.elf import open_object

    compiled = compile_stages(source, kernel=kernel, mcpu=mcpu)
    opened = open_object(compiled.elf, name=compiled.programs[0].name)
    if opened.needs_target and Path(RUNNING_BTF).exists():
        opened = open_object(compiled.elf, name=compiled.programs[0].name, target_btf=read_btf_file(RUNNING_BTF))
    return opened


RUNNING_BTF = "/sys/kernel/btf/vmlinux"


def open_source(
    path: str | os.PathLike[str],
    *,
    kernel: str | None = None,
    mcpu: str | None = None,
    btf: str | os.PathLike[str] | None = None,
    prog_type: str = "xdp",
    legacy: bool = False,
) -> Source:
    """Read a FILE: Python is imported and compiled, assembly (`.s`) assembled, anything else is an ELF object.

    `btf` is a file with the types of the kernel that the object is meant for, which CO-RE relocations ask. `prog_type`
    is the type of instructions that come without an object: text without sections, raw bytes. `legacy` reads what
    objects of iproute2, aya and libbpf before 1.0 have; there it is the type where a section says none.
    """
    from ebpfkit.btf.vmlinux import read_btf_file
    from ebpfkit.elf import open_object

    file = Path(path)
    if not file.exists():
        raise UsageError(f"{file}: no such file")
    if file.suffix != ".py":
        code = read_code(file, prog_type=prog_type)
        if code is not None:
            return Source(str(file), code)
        open_it = partial(open_object, file, legacy_sections=legacy, prog_type=prog_type if legacy else None)
        opened = open_it()
        if btf is not None and (opened.needs_target or opened.needs_config):
            opened = open_it(target_btf=read_btf_file(btf), kconfig=_config_of(btf))
        return Source(str(file), opened)
    programs = programs_of(import_file(file))
    return Source(str(file), build(programs, kernel=kernel, mcpu=mcpu), facades_of(programs))


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
    for name, facade in facades_of(programs_of(source)).items():
        if count := len(facade.initial_contents()):
            raise UsageError(
                f"map {name!r} holds {count} entries, which an object file cannot carry: "
                'fill it under `if __name__ == "__main__":` or load the program from Python, where they go along'
            )


def facades_of(programs: Iterable[Program]) -> dict[str, MapFacade]:
    return {facade.name: facade for program in programs for facade in program.maps}


def with_contents(obj: ObjectFile, facades: Mapping[str, MapFacade]) -> ObjectFile:
    """The object with what user space put into the facades as initial contents of its maps."""
    maps = {
        name: spec.replace(contents=facades[name].initial_contents()) if name in facades else spec
        for name, spec in obj.maps.items()
    }
    return obj.replace(maps=maps)
