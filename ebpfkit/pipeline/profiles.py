"""For whom a verdict is: a named kernel, the running one, or a host whose profile was written down there.

What a profile means for a verdict is `verifier/`'s; finding the running host's is `host.probe`'s.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from ebpfkit.abi.model import HostProfile
from ebpfkit.errors import UsageError
from ebpfkit.pipeline.judging import profile_for

__all__ = ["chosen_profile", "read_profile"]

_FIELDS = {"kernel": str, "cpus": int, "privileged": bool, "jit": bool, "arch": str}
_MAX_CPUS = 1 << 16


def read_profile(path: str | os.PathLike[str]) -> HostProfile:
    """The profile of a host as `ebpfkit probe --json` printed it there: the whole output, or its "profile" alone.

    Raises UsageError for a file that is no profile.
    """
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{os.fspath(path)} cannot be read as a host's profile: {error}") from error
    found = found.get("profile", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or "kernel" not in found or set(found) - set(_FIELDS):
        wanted = ", ".join(_FIELDS)
        raise UsageError(f"{os.fspath(path)} is no profile: it has {wanted}, as `ebpfkit probe --json` prints them")
    for name, value in found.items():
        if type(value) is not _FIELDS[name]:
            raise UsageError(f"{os.fspath(path)}: {name} is {value!r}, which is no {_FIELDS[name].__name__}")
    if not 1 <= found.get("cpus", 1) <= _MAX_CPUS:
        raise UsageError(f"{os.fspath(path)}: {found['cpus']} is no number of CPUs")
    base = profile_for(found.pop("kernel"))
    return replace(base, **found)


def chosen_profile(
    kernel: str | None, host: str | os.PathLike[str] | None = None, unprivileged: bool = False
) -> HostProfile:
    """The profile of a named kernel (see `profile_for`), on the host that a file describes, perhaps without rights."""
    if host is None:
        profile = profile_for(kernel)
    else:
        profile = read_profile(host)
        if kernel is not None:
            named = profile_for(kernel)
            profile = replace(profile, kernel=named.kernel, basis=named.basis)
    return replace(profile, privileged=profile.privileged and not unprivileged)
