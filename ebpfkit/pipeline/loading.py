"""Linked programs into the kernel and onto devices, with the facades of their maps bound to what is live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from socket import if_nametoindex
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ebpfkit.abi.uapi import BPF_F_XDP_DEV_BOUND_ONLY
from ebpfkit.asm.insn import KfuncRef
from ebpfkit.dsl.prog_arrays import ProgArray
from ebpfkit.dsl.replacements import Replacement
from ebpfkit.elf.model import ObjectFile, ProgramSpec
from ebpfkit.errors import UsageError
from ebpfkit.pipeline.judging import open_kernel_btf, profile_for, running_kernel
from ebpfkit.pipeline.placing import ShellPlace, attach_live
from ebpfkit.pipeline.sources import RUNNING_BTF, Source, build, facades_of, programs_of, with_contents
from ebpfkit.pipeline.variables import first_values, variables_of

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program
    from ebpfkit.dsl.variables import Var
    from ebpfkit.loader.collection import Collection
    from ebpfkit.loader.links.base import Link as LiveLink

__all__ = [
    "Attached", "Held", "Link", "Loaded", "attach", "attach_source", "hold_source", "join_source", "leave", "load",
    "unload", "unload_name", "verify_before_load",
]  # fmt: skip


class Loaded:
    """Programs and maps in the kernel, closed together. `loaded[facade]` or `loaded["name"]` is a map."""

    def __init__(
        self, collection: Collection, facades: Iterable[MapFacade] = (), variables: Iterable[Var[Any]] = ()
    ) -> None:
        self.collection = collection
        self._variables = [(variable, collection.variable(variable.name)) for variable in variables]
        for variable, live in self._variables:
            variable.bind(live)
        self.facades = [facade for facade in facades if facade.name in collection.maps]
        for facade in self.facades:
            facade.bind(collection.maps[facade.name])
            if isinstance(facade, ProgArray):
                facade.bind_programs(collection.maps[facade.name], self._descriptor_of)

    def _descriptor_of(self, program: Program) -> int:
        """The descriptor of a decorated function that was loaded along."""
        live = self.collection.programs.get(program.name)
        if live is None:
            names = ", ".join(self.collection.programs)
            raise UsageError(f"{program.name} is not in this load, which has {names}: load it along")
        return live.fileno()

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
        for variable, live in self._variables:
            variable.unbind(live)
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


def load(program: Program | Sequence[Program], *, verify_first: bool = True, **variables: int | bytes) -> Loaded:
    """Compile for the running kernel, verify, and load; the facades of the maps are bound to the live maps.

    What was put into the maps before goes along. `variables` gives global variables other first values. Raises
    VerifierError for a rejection, ours or the kernel's, with the Python line.
    """
    return _load(programs_of(program), verify_first, variables)


def _load(
    programs: Sequence[Program], verify_first: bool, variables: Mapping[str, int | bytes], device: Any = None
) -> Loaded:
    """The same for a device, which what asks a network card about packets is loaded for."""
    from ebpfkit.loader import Collection

    facades = facades_of(programs)
    obj = with_contents(build(programs, kernel=running_kernel()), facades)
    shared = variables_of(programs, obj)
    obj, ifindex = _bound_to(obj, device)
    if verify_first:
        for spec in obj.programs.values():
            verify_before_load(spec)
    given = {**first_values(shared.values()), **variables}
    return Loaded(Collection.load(obj, variables=given, ifindex=ifindex), facades.values(), shared.values())


def _bound_to(obj: ObjectFile, device: Any) -> tuple[ObjectFile, int]:
    """The object for one device, and its number; 0 where no program wants one."""
    from ebpfkit.abi.kfuncs import KFUNCS

    called = {i.ref.name for spec in obj.programs.values() for i in spec.instructions if isinstance(i.ref, KfuncRef)}
    if not isinstance(device, (str, int)) or not any(name in KFUNCS and KFUNCS[name].device_bound for name in called):
        return obj, 0
    bound = {n: s.replace(flags=s.flags | BPF_F_XDP_DEV_BOUND_ONLY) for n, s in obj.programs.items()}
    return obj.replace(programs=bound), if_nametoindex(device) if isinstance(device, str) else device


def verify_before_load(spec: ProgramSpec) -> list[str]:
    """Judge for the running kernel before anything reaches it: raises VerifierError, or returns what is to be said."""
    from ebpfkit.verifier import verify_program

    report = verify_program(spec, profile_for("current"), kernel_btf=open_kernel_btf(RUNNING_BTF))
    if error := report.to_error():
        raise error
    if report.verdict == "unsupported":
        return [f"{spec.name}: not judged by our verifier ({report.message}); the kernel's verdict decides"]
    return []


def attach(
    program: Program, place: Any = None, mode: str | None = None, *, verify_first: bool = True, **options: Any
) -> Link:
    """Load one program and attach it to a place that suits its type; see `Program.attach`."""
    if isinstance(program, Replacement):
        return _replace(program, place)
    given = {**options, **({"mode": mode} if mode is not None else {})}
    loaded = _load(programs_of(program), verify_first, {}, place)
    try:
        return Link(attach_live(loaded.programs[program.name], program.kind.decorator, place, given), loaded)
    except BaseException:
        loaded.close()
        raise


def _replace(program: Replacement, place: Any) -> Link:
    """Put a replacement into a loaded program; what maps they have in common they share."""
    from ebpfkit.loader import Collection
    from ebpfkit.loader.maps import Map

    if not hasattr(place, "fileno"):
        raise UsageError(f"{program.name} attaches to a loaded program: write attach(loaded.programs[NAME])")
    facades = facades_of([program])
    bound = {name: facade.store for name, facade in facades.items()}
    live = {name: store for name, store in bound.items() if isinstance(store, Map)}
    obj = with_contents(build(program, kernel=running_kernel()), facades)
    shared = variables_of([program], obj)
    variables = first_values(shared.values())
    collection = Collection.load(obj, maps=live, variables=variables, targets={program.name: place})
    loaded = Loaded(collection, [f for name, f in facades.items() if name not in live], shared.values())
    try:
        return Link(loaded.programs[program.name].attach_tracing(), loaded)
    except BaseException:
        loaded.close()
        raise


class Attached:
    """A program of a FILE on a device, as `ebpfkit load` holds it."""

    def __init__(self, link: LiveLink, loaded: Loaded, name: str, place: ShellPlace) -> None:
        self.link, self.loaded, self.name, self.place = link, loaded, name, place

    def summary(self) -> dict[str, Any]:
        """Device, mode (of traffic control: direction), program id and map ids."""
        mode = getattr(self.link, "mode", None)
        how = {"direction": self.place.direction} if self.place.direction else {"mode": mode}
        return {
            "device": self.place.dev,
            **how,
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
    source: Source, name: str, place: ShellPlace, *, settings: Sequence[str] = (), pin: bool = False
) -> Attached:
    """Load one program of a FILE, with its maps, onto a device; `pin` leaves link and maps behind for `unload`."""
    from ebpfkit.loader import Collection
    from ebpfkit.loader.pin import pin_attachment

    variables = dict(_setting(text) for text in settings)
    obj = with_contents(source.object, source.facades)
    loaded = Loaded(Collection.load(obj, programs=[name], variables=variables), source.facades.values())
    try:
        link = place.attach(loaded.programs[name])
        try:
            if pin:
                pin_attachment(link, place.dev, loaded.programs[name], loaded.maps, at=place.direction)
        except BaseException:
            link.close()
            raise
    except BaseException:
        loaded.close()
        raise
    return Attached(link, loaded, name, place)


def join_source(
    source: Source,
    name: str,
    dev: str,
    *,
    mode: str | None = None,
    priority: int | None = None,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """Put one program of a FILE beside the others on a device, behind a dispatcher, where it stays until `leave`."""
    from ebpfkit.elf.run_config import read_run_config
    from ebpfkit.loader import dispatcher

    obj = with_contents(source.object, source.facades)
    config = read_run_config(obj.programs[name].btf, name)
    if priority is not None:
        config = replace(config, priority=priority)
    variables = dict(_setting(text) for text in settings)
    with dispatcher.add(dev, obj, name, mode=mode, config=config, variables=variables) as loaded:
        return {
            "device": dev,
            "program": name,
            "program_id": loaded.programs[name].id,
            "map_ids": sorted(live.info.id for live in loaded.maps.values()),
            "runs": _order(dev),
        }


def leave(dev: str, program: str) -> dict[str, Any]:
    """Take a program, by name or id, out from behind a device's dispatcher; what was taken away."""
    from ebpfkit.loader import dispatcher

    gone = dispatcher.remove(dev, int(program) if program.isdecimal() else program)
    return {"device": dev, "program": gone.name, "program_id": gone.program_id, "runs": _order(dev)}


def _order(dev: str) -> list[dict[str, Any]]:
    """The programs behind a device's dispatcher, in the order in which they run."""
    from ebpfkit.loader import dispatcher

    return [
        {
            "program": each.name,
            "program_id": each.program_id,
            "priority": each.config.priority,
            "chain": sorted(each.config.chain),
        }
        for each in dispatcher.components(dev)
    ]


class Held:
    """A program, or kernel operations, in a place that is no device, as `ebpfkit load` holds it."""

    def __init__(self, link: LiveLink, loaded: Loaded, shown: dict[str, Any]) -> None:
        self.link, self.loaded, self._shown = link, loaded, shown

    def summary(self) -> dict[str, Any]:
        """What it is and where, the ids of its programs and maps."""
        return {
            **self._shown,
            "program_ids": {name: live.id for name, live in self.loaded.programs.items()},
            "map_ids": sorted(live.info.id for live in self.loaded.maps.values()),
        }

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.link.close()
        self.loaded.close()


def hold_source(
    source: Source, name: str, place: ShellPlace | None = None, *, settings: Sequence[str] = (), pin: bool = False
) -> Held:
    """Load a program of a FILE and attach it to a place that is no device; None: register kernel operations.

    `pin` leaves link and maps behind for `unload_name`.
    """
    from ebpfkit.loader import Collection
    from ebpfkit.loader.named_pins import pin_named
    from ebpfkit.loader.program import Program

    variables = dict(_setting(text) for text in settings)
    obj = with_contents(source.object, source.facades)
    target = place.target if place is not None else None
    with ExitStack() as stack:
        targets = {name: stack.enter_context(Program.open_id(target))} if target is not None else None
        collection = Collection.load(obj, programs=[name], variables=variables, targets=targets)
        loaded = Loaded(collection, source.facades.values())
    try:
        link: LiveLink
        if place is None:
            operations = loaded.collection.operations.get(name)
            if operations is None:
                raise UsageError(f"{name} is a program, no structure of kernel operations: give it with --prog")
            link = operations.register()
            shown = {"operations": name, "type": operations.spec.type_name}
        else:
            spec = obj.programs[name]
            link = place.attach(loaded.programs[name])
            shown = {"program": name, "type": spec.prog_type, "target": place.named(spec)}
        try:
            if pin:
                pin_named(link, name, loaded.maps)
        except BaseException:
            link.close()
            raise
    except BaseException:
        loaded.close()
        raise
    return Held(link, loaded, shown)


def _setting(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, int(value, 0)
    except ValueError:
        raise UsageError(f"--set takes NAME=VALUE with a whole number, not {text!r}") from None


def unload_name(name: str) -> dict[str, Any]:
    """Detach what was pinned by name and remove its pins; what was taken away."""
    from ebpfkit.loader.named_pins import remove_named

    removed = remove_named(name)
    return {"name": removed.name, "program_id": removed.program_id, "map_ids": sorted(removed.map_ids)}


def unload(dev: str, at: str = "") -> dict[str, Any]:
    """Detach what was pinned for a device and remove its pins; what was taken away, as `Attached.summary` tells it.

    `at` is the direction of a traffic control program; "" means the XDP program.
    """
    from ebpfkit.loader.pin import remove

    removed = remove(dev, at=at)
    return {
        "device": removed.device,
        **({"direction": at} if at else {"mode": removed.mode}),
        "program_id": removed.program_id,
        "map_ids": sorted(removed.map_ids),
    }
