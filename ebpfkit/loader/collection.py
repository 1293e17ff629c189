"""An object file into the kernel: its maps with their contents, then its programs, then what refers to programs.

One map or program by itself is `load`'s. A collection owns every descriptor it made and closes them together.
"""

from __future__ import annotations

import errno
import mmap
import struct
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from ebpfkit._bits import round_up
from ebpfkit.abi.limits import DATA_MAPPED_SINCE
from ebpfkit.abi.uapi import BPF_F_MMAPABLE
from ebpfkit.abi.versions import parse_version
from ebpfkit.btf.types import Btf
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec, StructOpsSpec
from ebpfkit.errors import KernelError, LoadError, MapError, NotSupported, UsageError
from ebpfkit.host.errnos import describe_errno, explain_program_load
from ebpfkit.host.pins import explain_pin
from ebpfkit.kernel import bpf
from ebpfkit.kernel.bpffs import DEFAULT_BPFFS, find_bpffs, is_bpffs
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.shared import SharedMemory
from ebpfkit.kernel.version import kernel_version
from ebpfkit.loader.btf import loadable_btf
from ebpfkit.loader.externs import resolve_externs
from ebpfkit.loader.kernel_types import KernelTypes
from ebpfkit.loader.load import create_map, effective_max_entries, load_btf, load_program
from ebpfkit.loader.maps import Map, stored_value_size
from ebpfkit.loader.operations import Operations, create_operations, fit_all
from ebpfkit.loader.program import Program
from ebpfkit.loader.targets import resolve_targets
from ebpfkit.loader.variables import ArenaVariable, Variable

__all__ = ["Collection"]

_MAPS_OF_MAPS = frozenset({"array_of_maps", "hash_of_maps"})
_ZERO_KEY = bytes(4)


class Collection:
    """The live programs and maps of one object, by their names in it."""

    def __init__(self, object_file: ObjectFile | None = None) -> None:
        self.object = object_file
        self.programs: dict[str, Program] = {}
        self.maps: dict[str, Map] = {}
        self.operations: dict[str, Operations] = {}  # structures of kernel operations, to be registered
        self.arenas: dict[str, SharedMemory] = {}  # what programs and this process share, by the map's name
        self.reused: set[str] = set()  # maps that were pinned already

    @classmethod
    def load(
        cls,
        obj: ObjectFile,
        *,
        programs: Iterable[str] | None = None,
        maps: Mapping[str, Map] | None = None,
        variables: Mapping[str, int | bytes] | None = None,
        targets: Mapping[str, bpf.HasFileno] | None = None,
        pin_root: str | Path | None = None,
        ifindex: int = 0,
        log_level: int = 0,
    ) -> Collection:
        """Create the maps and load the programs (`programs` by name, or all that load by themselves).

        The name of a structure of kernel operations stands for its functions.

        `maps` puts live maps in the place of the object's; `variables` gives global variables other first values;
        `targets` are the live programs that its programs replace a function of (`freplace`) or trace, by the name of
        the one that does. `pin_root` is the folder of maps that are pinned by name (default: the bpffs). `log_level` 1,
        2 or 4 keeps the verifier's log in `Program.log`. Structures of kernel operations whose functions are loaded are
        in `operations`, ready to `register`. Raises VerifierError, LoadError, MapError; then nothing is left behind.
        """
        collection = cls(obj)
        try:
            collection._load(obj, programs, maps or {}, variables or {}, targets or {}, pin_root, ifindex, log_level)
        except BaseException:
            collection.close()
            raise
        return collection

    def _load(
        self,
        obj: ObjectFile,
        names: Iterable[str] | None,
        given: Mapping[str, Map],
        variables: Mapping[str, int | bytes],
        targets: Mapping[str, bpf.HasFileno],
        pin_root: str | Path | None,
        ifindex: int,
        log_level: int,
    ) -> None:
        if obj.big_endian != (sys.byteorder == "big"):
            theirs, ours = ("big", "little") if obj.big_endian else ("little", "big")
            raise UsageError(
                f"the object is for {theirs}-endian machines, this one is {ours}-endian: compile it for this one"
            )
        specs, operations = _chosen(obj, names)
        wanted = _needed_maps(obj, specs)
        contents = _apply_variables(obj, variables)
        for name in given:
            if name not in obj.maps:
                raise UsageError(f"the object has no map {name!r}; it has: {', '.join(obj.maps) or 'none'}")
        types = KernelTypes()
        fitted = fit_all(operations, obj.btf, types)
        with ExitStack() as temporary:
            btfs = _LoadedBtfs(temporary, obj)
            try:
                object_btf = btfs.get(obj.btf)
            except LoadError as error:
                if error.errno == errno.EPERM and specs:  # say at once everything that will be missing
                    raise LoadError(explain_program_load(specs[0], errno.EPERM), errno=errno.EPERM) from error
                raise
            for name, spec in wanted.items():
                if name in given:
                    self.maps[name] = Map(spec, given[name].fd.duplicate())
                    _check_compatible(spec, self.maps[name], "the map given")
                    continue
                self._make_map(spec.replace(data=contents[name]) if name in contents else spec, object_btf, pin_root)
            externs = resolve_externs(specs, types)
            temporary.callback(externs.close)
            resolved = resolve_targets(specs, types, programs=targets, operations=fitted)
            temporary.callback(resolved.close)
            for name, (shape, module) in fitted.items():
                assert object_btf is not None  # without types an object has no structures
                self.operations[name] = create_operations(
                    obj.struct_ops[name], shape, object_btf, resolved.modules.get(module)
                )
            for program in specs:
                btf, target = btfs.get(program.btf), resolved.get(program.name)
                fd, log = load_program(
                    program, self.maps, btf=btf, externs=externs, target=target, ifindex=ifindex, log_level=log_level
                )
                self.programs[program.name] = Program(
                    program, fd, name=program.name, prog_type=program.prog_type, log=log
                )
        self._fill_references(wanted)
        for made in self.operations.values():
            made.fill(self.programs)

    def _make_map(self, spec: MapSpec, btf: Fd | None, pin_root: str | Path | None) -> None:
        path = _pin_path(spec, pin_root) if spec.pin_by_name else None
        if path is not None and path.exists():
            with Map.open_pinned(path) as pinned:
                _check_compatible(spec, pinned, str(path))
                self.maps[spec.name] = Map(spec, pinned.fd.duplicate())
            self.reused.add(spec.name)
            return
        if spec.data is not None and kernel_version() >= parse_version(DATA_MAPPED_SINCE):
            spec = spec.replace(flags=spec.flags | BPF_F_MMAPABLE)  # as libbpf does: user space shares its variables
        if spec.inner is not None:
            with create_map(spec.inner) as inner:
                live = Map(spec, create_map(spec, btf=btf, inner=inner))
        else:
            live = Map(spec, create_map(spec, btf=btf))
        self.maps[spec.name] = live
        if spec.type == "arena":
            self._map_arena(spec, live)
            return
        if spec.contents:
            live.set_many((key, _on_every_cpu(live, value)) for key, value in spec.contents)
        if spec.data is not None and any(spec.data):
            live.set(_ZERO_KEY, spec.data)
        if spec.frozen:
            live.freeze()
        if path is not None:
            live.pin(path)

    def _map_arena(self, spec: MapSpec, live: Map) -> None:
        """An arena's addresses are fixed by mapping it, which must be before its programs are loaded."""
        size = effective_max_entries(spec) * mmap.PAGESIZE
        if spec.data is not None and len(spec.data) > size:
            raise UsageError(f"the variables in arena {spec.name!r} take {len(spec.data)} bytes, and it has {size}")
        try:
            memory = self.arenas[spec.name] = SharedMemory(live, size, spec.map_extra)
        except KernelError as error:
            text = f"cannot map arena {spec.name!r}: {describe_errno(error.errno or 0)}"
            raise LoadError(text, errno=error.errno or 0, span=spec.span) from error
        if spec.data is not None and any(spec.data):
            memory.write(0, spec.data)

    def _fill_references(self, specs: Mapping[str, MapSpec]) -> None:
        """Programs into program arrays and maps into maps of maps, where the object says which.

        A program array that no loaded program uses may name programs that were not asked for.
        """
        used = {name for program in self.programs.values() if program.spec for name in program.spec.maps}
        for name, spec in specs.items():
            if name in self.reused or not any(spec.value_slots):
                continue
            is_outer = spec.type in _MAPS_OF_MAPS
            source = self.maps if is_outer else self.programs
            entries = []
            for index, target in enumerate(spec.value_slots):
                if target is None:
                    continue
                if target in source:
                    entries.append((struct.pack("=I", index), struct.pack("=I", source[target].fileno())))
                elif is_outer or name in used:
                    kind = "map" if is_outer else "program"
                    raise UsageError(f"map {name!r} holds {kind} {target!r} at {index}, which is not loaded")
            # One batch: the kernel waits for running programs once for each call that changes a map of maps.
            self.maps[name].set_many(entries)

    def variable(self, name: str) -> Variable:
        """A global variable of the object where programs see it. Raises UsageError for a name that it has not."""
        variables = self.object.variables if self.object else {}
        spec = variables.get(name)
        if spec is None or spec.map_name not in self.maps:
            raise UsageError(f"no variable {name!r} is loaded; there is {', '.join(variables) or 'none'}")
        memory = self.arenas.get(spec.map_name)
        live = self.maps[spec.map_name]
        return Variable(live, spec) if memory is None else ArenaVariable(live, spec, memory)

    def __getitem__(self, name: str) -> Program | Map:
        """The program or map of that name."""
        found = self.programs.get(name) or self.maps.get(name)
        if found is None:
            names = ", ".join([*self.programs, *self.maps]) or "nothing"
            raise UsageError(f"nothing of the name {name!r} is loaded; there is {names}")
        return found

    def close(self) -> None:
        """Let go of every program and map; what is attached, pinned or held by others lives on."""
        for program in self.programs.values():
            program.close()
        for live in self.maps.values():
            live.close()
        for operations in self.operations.values():
            operations.close()
        for memory in self.arenas.values():
            memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Collection of programs {', '.join(self.programs) or 'none'}; maps {', '.join(self.maps) or 'none'}>"


class _LoadedBtfs:
    """Each BTF blob goes to the kernel once, and only for as long as the load takes: programs and maps hold it then."""

    def __init__(self, stack: ExitStack, obj: ObjectFile) -> None:
        self._stack = stack
        self._object = obj
        self._loaded: dict[int, Fd] = {}

    def get(self, btf: Btf | None) -> Fd | None:
        if btf is None:
            return None
        fd = self._loaded.get(id(btf))
        if fd is None:
            fd = self._loaded[id(btf)] = self._stack.enter_context(load_btf(loadable_btf(btf, self._object)))
        return fd


def _chosen(obj: ObjectFile, names: Iterable[str] | None) -> tuple[list[ProgramSpec], list[StructOpsSpec]]:
    """The programs, and the structures of kernel operations that are made of them.

    Without `names`: what loads by itself; a function of such a structure is loaded for it, and not without one, since
    its type comes from there. A structure's name stands for all its functions.
    """
    if names is None:
        operations = [ops for ops in obj.struct_ops.values() if ops.autocreate]
        used = {name for ops in operations for name in ops.members.values()}
        for name in used & obj.problems.keys():
            raise NotSupported(f"program {name!r}", why=obj.problems[name])
        rows = obj.programs.values()
        return [s for s in rows if s.name in used or (s.autoload and s.prog_type != "struct_ops")], operations
    chosen: dict[str, ProgramSpec] = {}
    named: set[str] = set()
    asked = list(names)
    waiting = asked.copy()
    while waiting:
        name = waiting.pop(0)
        if name in chosen or name in named:
            continue
        if name in obj.problems:
            raise NotSupported(f"program {name!r}", why=obj.problems[name])
        if name in obj.struct_ops and name not in obj.programs:
            named.add(name)
            waiting += obj.struct_ops[name].members.values()
            continue
        if name not in obj.programs:
            there = ", ".join([*obj.programs, *obj.struct_ops]) or "none"
            raise UsageError(f"the object has no program {name!r}; it has: {there}")
        chosen[name] = obj.programs[name]
        # What a program may jump to through its program arrays comes along.
        for spec in chosen[name].maps.values():
            if spec.type == "prog_array":
                waiting += [target for target in spec.value_slots if target is not None]
    operations = []
    for ops in obj.struct_ops.values():
        functions = set(ops.members.values())
        if ops.name in named or (functions.intersection(asked) and functions <= chosen.keys()):
            operations.append(ops)
    return list(chosen.values()), operations


def _needed_maps(obj: ObjectFile, specs: Iterable[ProgramSpec]) -> dict[str, MapSpec]:
    """Every map of the object, plus those only a program's own table has (programs built without an object)."""
    wanted = dict(obj.maps)
    for spec in specs:
        for name, map_spec in spec.maps.items():
            wanted.setdefault(name, map_spec)
    # Maps of maps come last: their slots name the others.
    return dict(sorted(wanted.items(), key=lambda item: item[1].type in _MAPS_OF_MAPS))


def _apply_variables(obj: ObjectFile, variables: Mapping[str, int | bytes]) -> dict[str, bytes]:
    """The data of the maps whose variables get other first values."""
    changed: dict[str, bytearray] = {}
    for name, value in variables.items():
        variable = obj.variables.get(name)
        if variable is None:
            raise UsageError(f"the object has no variable {name!r}; it has: {', '.join(obj.variables) or 'none'}")
        spec = obj.maps[variable.map_name]
        data = changed.setdefault(variable.map_name, bytearray(spec.data or bytes(spec.value_size)))
        if isinstance(value, int):
            low, high = -(1 << (variable.size * 8 - 1)), 1 << (variable.size * 8)
            if not low <= value < high:
                raise UsageError(f"{value} does not fit the {variable.size} bytes of variable {name!r}")
            value = (value % high).to_bytes(variable.size, sys.byteorder)
        if len(value) != variable.size:
            raise UsageError(f"variable {name!r} has {variable.size} bytes, not {len(value)}")
        data[variable.offset : variable.offset + variable.size] = value
    return {name: bytes(data) for name, data in changed.items()}


def _on_every_cpu(live: Map, value: bytes) -> bytes:
    """A per-CPU map's first value: one CPU's worth goes to CPU 0, zeros to the others, so that the sum is right."""
    whole = stored_value_size(live.spec)
    one = len(value) in (live.spec.value_size, round_up(live.spec.value_size, 8))
    return value.ljust(whole, b"\0") if one else value


def _pin_path(spec: MapSpec, pin_root: str | Path | None) -> Path:
    root = Path(pin_root) if pin_root is not None else Path(find_bpffs() or DEFAULT_BPFFS)
    if not is_bpffs(root):
        raise MapError(explain_pin("pin", "map", str(root / spec.name), errno.EPERM), errno=errno.EPERM)
    return root / spec.name


def _check_compatible(spec: MapSpec, live: Map, where: str) -> None:
    """A map that is used in the place of the spec's must be of its shape."""
    info = live.info
    wanted = {
        "type": spec.type,
        "key_size": spec.key_size,
        "value_size": spec.value_size,
        "max_entries": effective_max_entries(spec),
    }
    for field, value in wanted.items():
        there = getattr(info, field)
        if there != value:
            raise LoadError(
                f"map {spec.name!r} cannot use {where}: its {field} is {there}, the program's is {value}; "
                "remove it or change the program",
                errno=errno.EINVAL,
                span=spec.span,
            )
