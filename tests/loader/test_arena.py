"""Arenas: variables in memory that programs and user space share, at the same addresses."""

from __future__ import annotations

import pytest

from ebpfkit.elf import ObjectFile, open_object, set_variable
from ebpfkit.errors import ObjectError, UsageError
from ebpfkit.kernel.version import kernel_version
from ebpfkit.loader import Collection
from tests.elf.objects import compile_zig

needs_arenas = pytest.mark.skipif(kernel_version() < (6, 9), reason="this kernel has no arenas")


@pytest.fixture(scope="module")
def opened() -> ObjectFile:
    return open_object(compile_zig("new/arena"))


def test_variables_are_the_arena_s(opened: ObjectFile) -> None:
    assert not opened.problems and {v.map_name for v in opened.variables.values()} == {"arena"}
    assert opened.maps["arena"].type == "arena" and opened.maps["arena"].value_size == 0
    assert set_variable(opened, "total", 9).maps["arena"].data != opened.maps["arena"].data


@pytest.mark.kernel
@needs_arenas
def test_programs_and_user_space_share_it(opened: ObjectFile) -> None:
    with Collection.load(set_variable(opened, "total", 12)) as collection:
        total, other = collection.variable("total"), collection.variable("other")
        adds = collection.programs["adds"]
        assert adds.test_run(b"", ctx=bytes(8)).retval == 42
        assert (int.from_bytes(total.read(), "little"), int.from_bytes(other.read(), "little")) == (42, 84)
        total.write((100).to_bytes(8, "little"))
        assert adds.test_run(b"", ctx=bytes(8)).retval == 130
        with pytest.raises(UsageError, match="'total' has 8 bytes, not 4"):
            total.write(bytes(4))
        memory = collection.arenas["arena"]
        with pytest.raises(UsageError, match="outside the 65536 bytes"):
            memory.read(65530, 8)
    with pytest.raises(UsageError, match="the memory is closed"):
        memory.read(0, 1)


@pytest.mark.kernel
@needs_arenas
def test_an_address_of_its_own(opened: ObjectFile) -> None:
    """`map_extra` is where the arena is to be."""
    spec = opened.maps["arena"].replace(map_extra=0x1_0000_0000_0000 >> 4)
    with Collection.load(opened.replace(maps={"arena": spec})) as collection:
        assert collection.arenas["arena"].address == spec.map_extra
        assert collection.programs["adds"].test_run(b"", ctx=bytes(8)).retval == 35


def test_variables_without_an_arena(opened: ObjectFile) -> None:
    data = compile_zig("new/arena")
    kind = data.replace(b".addr_space.1\0", b".no_space.123\0")
    assert "neither code nor data" in open_object(kind).problems["adds"]
    with pytest.raises(ObjectError, match=r"belong into an arena, and there is no arena in \.maps"):
        open_object(compile_zig("new/no_arena"))
