"""What typed pointers point to: structures of the kernel or of the program, buffers, sockets' relatives.

A pointer of one of these kinds has such an object as its `target`. The kinds stand above those of `pointer`; how their
accesses are judged is `verifier/objects`'s, what BTF says of them `verifier/structures`'s.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "ALLOC",
    "ARENA",
    "BTF",
    "BUF",
    "FLOW_KEYS",
    "NON_OWNING",
    "PERCPU",
    "RCU",
    "TRUSTED",
    "UNTRUSTED",
    "UNTRUSTED_MEM",
    "USER",
    "Buffer",
    "Object",
]

BTF, BUF, FLOW_KEYS, UNTRUSTED_MEM, ARENA = range(32, 37)
"""Kinds of pointers, above those of `pointer`."""

# Flags of an Object: how far the pointer may be relied on, and in which memory it points.
TRUSTED, RCU, UNTRUSTED, USER, PERCPU, ALLOC, NON_OWNING = (1 << bit for bit in range(7))

_PREFIXES = ((USER, "user_"), (PERCPU, "percpu_"), (RCU, "rcu_"), (UNTRUSTED, "untrusted_"), (TRUSTED, "trusted_"))


class Object(NamedTuple):
    """A structure: its BTF id and name, flags, and whether the type is the program's own (`local`) or the kernel's."""

    type_id: int
    name: str
    flags: int = 0
    local: bool = False

    def type_name(self, nullable: bool) -> str:
        """The kernel's word for a pointer to it: `rcu_ptr_or_null_`."""
        prefix = "".join(text for flag, text in _PREFIXES if self.flags & flag)
        return f"{prefix}ptr_{'or_null_' if nullable else ''}"

    def describe(self) -> str:
        """The object in words."""
        words = [text.rstrip("_") for flag, text in _PREFIXES if self.flags & flag]
        return " ".join([*words, f"struct {self.name}"]).replace("rcu", "RCU-protected")

    def with_flags(self, flags: int) -> Object:
        return Object(self.type_id, self.name, flags, self.local)


class Buffer(NamedTuple):
    """Memory whose size is known only when the program is attached: an iterator's key or value, a tracepoint's record.

    `word` is the kernel's: "rdonly", "rdwr" or "tracepoint".
    """

    word: str

    def type_name(self, nullable: bool) -> str:
        name = {"rdonly": "rdonly_buf", "rdwr": "buf", "tracepoint": "tp_buffer"}[self.word]
        return f"{name}{'_or_null' if nullable else ''}"

    def describe(self) -> str:
        return {"tracepoint": "the tracepoint's record", "rdonly": "a read-only buffer"}.get(self.word, "a buffer")
