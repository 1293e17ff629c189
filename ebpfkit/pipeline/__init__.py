"""The only place that chains stages: build, verify, run, load, attach.

Each function takes what a user has at hand (a decorated function, an object, raw instructions) and walks it down the
one road: compile, link, verify, then the virtual machine or the kernel. Rendering and arguments are the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.pipeline.contents import encode_entry, read_entries
from ebpfkit.pipeline.judging import (
    diagnose,
    open_kernel_btf,
    page_program,
    profile_for,
    running_kernel,
    verify,
    verify_specs,
)
from ebpfkit.pipeline.loading import (
    Attached,
    Held,
    Link,
    Loaded,
    attach,
    attach_source,
    hold_source,
    join_source,
    leave,
    load,
    unload,
    unload_name,
    verify_before_load,
)
from ebpfkit.pipeline.placing import ShellPlace, shell_place
from ebpfkit.pipeline.running import (
    EXECUTORS,
    MachineRun,
    Result,
    Surrounding,
    entries_inside,
    entries_of,
    require_verified,
    run,
    snapshot,
)
from ebpfkit.pipeline.sources import (
    RUNNING_BTF,
    Source,
    build,
    compile_stages,
    import_file,
    open_source,
    refuse_initial_contents,
    with_contents,
)
from ebpfkit.pipeline.tables import read_tables
from ebpfkit.pipeline.tracing_runs import run_tracing

if TYPE_CHECKING:
    from ebpfkit.verifier.report import Report

__all__ = [
    "EXECUTORS",
    "RUNNING_BTF",
    "Attached",
    "Held",
    "Link",
    "Loaded",
    "MachineRun",
    "Report",
    "Result",
    "ShellPlace",
    "Source",
    "Surrounding",
    "attach",
    "attach_source",
    "build",
    "compile_stages",
    "diagnose",
    "encode_entry",
    "entries_inside",
    "entries_of",
    "hold_source",
    "join_source",
    "leave",
    "import_file",
    "load",
    "open_kernel_btf",
    "open_source",
    "page_program",
    "profile_for",
    "read_entries",
    "read_tables",
    "refuse_initial_contents",
    "require_verified",
    "run",
    "run_tracing",
    "running_kernel",
    "shell_place",
    "snapshot",
    "unload",
    "unload_name",
    "verify",
    "verify_before_load",
    "verify_specs",
    "with_contents",
]


def __getattr__(name: str) -> Any:
    if name == "Report":
        from ebpfkit.verifier.report import Report

        return Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
