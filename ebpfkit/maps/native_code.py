"""The LLVM IR of hash tables and prefix tries: look-up, update and delete on a block of memory.

The same text serves two purposes: inside a program, where sizes and addresses are constants, and as functions for
Python, which read them from the header. Writers take a spin lock, look-ups only follow indices that are always inside
the block, for a bounded number of steps (an LRU look-up that reorders takes the lock too). Belongs here: the layout of
the block and the code. What a store answers to Python is in `native`.

A key is cut into chunks of 8 bytes, the last one filled up with zeros. Indices of nodes count from 1; 0 is none. A
prefix trie is a hash table over (prefix length, masked data), asked from the longest prefix in use downwards.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ebpfkit._bits import round_up
from ebpfkit.llvm.text import IrText
from ebpfkit.maps.store import BPF_EXIST, BPF_NOEXIST

__all__ = ["HEADER_BYTES", "WORDS", "StoreCode", "node_stride"]

WORDS: Final = MappingProxyType(
    {
        name: place
        for place, name in enumerate(
            (
                "lock", "count", "free", "free_tail", "used", "old", "young",  # these change
                "capacity", "total", "value_size", "stride", "node_stride", "mask", "buckets", "nodes", "values",
                "bits", "counts", "masks",
            )
        )
    }
)  # fmt: skip
"""Words of the header by name. `counts` and `masks` are a trie's: entries and mask of each prefix length."""
HEADER_BYTES: Final = 256
_USED = 1 << 31
_KEY = 16  # of a node: next, hash, older, younger (4 bytes each), the key, for a trie also the key as it was given
_MULTIPLIER = 0x9E3779B97F4A7C15
_SEED = 0x243F6A8885A308D3


def node_stride(kind: str, key_size: int) -> int:
    """Bytes of a node."""
    return _KEY + round_up(key_size, 8) * (2 if kind == "lpm_trie" else 1)


class StoreCode(IrText):
    """The functions of one store: NAME_find, NAME_lookup, NAME_update, NAME_delete.

    All give an index or an error number as i64. `fields` are the header's constant words where they are known, with
    its address `header`; otherwise every function takes the header as its first argument.
    """

    def __init__(
        self, kind: str, key_size: int, name: str, *, fields: Mapping[str, int] | None = None, header: int = 0
    ) -> None:
        super().__init__()
        self.kind = kind
        self.key_size = key_size
        self.prefix = name
        self.fields = fields or {}
        self.header = header
        self.linkage = "internal " if fields else ""
        self.chunks = (key_size + 7) // 8

    def text(self) -> str:
        """All functions and what they need declared."""
        self._find()
        self._unlink()
        self._allocate()
        if self.kind == "lru_hash":
            self._lru()
            self._peek()
        if self.kind == "lpm_trie":
            self._longest()
        else:
            self._lookup()
        self._update()
        self._delete()
        return "\n".join(self.lines)

    # Pieces.

    def _begin(self, function: str, arguments: Sequence[str], result: str = "i64") -> None:
        given = [] if self.header else ["ptr %h"]
        parameters = ", ".join([*given, *arguments])
        self.lines.append(f"define {self.linkage}{result} @{self.prefix}_{function}({parameters}) nounwind {{")
        self.label("begin")

    def _end(self) -> None:
        self.lines.append("}")

    def call(self, function: str, arguments: Sequence[str], result: str = "i64") -> str:
        """A call of one of the store's functions."""
        given = [] if self.header else ["ptr %h"]
        text = f"call {result} @{self.prefix}_{function}({', '.join([*given, *arguments])})"
        if result == "void":
            self.line(text)
            return ""
        return self.op(text)

    def _word(self, name: str) -> str:
        if self.header:
            return f"inttoptr (i64 {self.header + WORDS[name] * 8} to ptr)"
        return self.op(f"getelementptr i64, ptr %h, i64 {WORDS[name]}")

    def _field(self, name: str) -> str:
        if name in self.fields:
            return str(self.fields[name])
        return self.op(f"load i64, ptr {self._word(name)}")

    def _get(self, name: str) -> str:
        return self.op(f"load i64, ptr {self._word(name)}")

    def _set(self, name: str, value: str | int) -> None:
        self.line(f"store i64 {value}, ptr {self._word(name)}")

    def _count(self, by: int) -> None:
        self._set("count", self.op(f"add i64 {self._get('count')}, {by}"))

    def _node(self, index: str) -> str:
        """The address of a node."""
        offset = self.op(f"mul i64 {self.op(f'sub i64 {index}, 1')}, {self._field('node_stride')}")
        return self.op(f"add i64 {offset}, {self._field('nodes')}")

    def _part(self, node: str, offset: int) -> str:
        return self.pointer(self.add(node, offset))

    def _read(self, pointer: str) -> str:
        """An index, as others may be writing it."""
        return self.op(f"zext i32 {self.op(f'load atomic i32, ptr {pointer} acquire, align 4')} to i64")

    def _write(self, pointer: str, index: str | int) -> None:
        value = self.op(f"trunc i64 {index} to i32")
        self.line(f"store atomic i32 {value}, ptr {pointer} release, align 4")

    def _bucket(self, number: str) -> str:
        slot = self.op(f"and i64 {number}, {self._field('mask')}")
        return self.pointer(self.op(f"add i64 {self.op(f'shl i64 {slot}, 2')}, {self._field('buckets')}"))

    def _branch(self, condition: str, then: str, other: str) -> None:
        self.line(f"br i1 {condition}, label %{then}, label %{other}")

    def _if(self, condition: str) -> tuple[str, str]:
        """Go on where the condition holds; (label where it does not, never yet written)."""
        yes, no = self.name("yes"), self.name("no")
        self._branch(condition, yes, no)
        self.label(yes)
        return yes, no

    def _key_chunks(self, pointer: str) -> list[str]:
        return [self._chunk(pointer, offset) for offset in range(0, self.key_size, 8)]

    def _chunk(self, pointer: str, offset: int) -> str:
        """8 bytes of a key as a number, with zeros behind its end."""
        rest, value, shift = min(8, self.key_size - offset), "", 0
        while rest:
            size = next(size for size in (8, 4, 2, 1) if size <= rest)
            part = self.op(f"load i{size * 8}, ptr {self._at(pointer, offset + shift)}, align 1")
            part = part if size == 8 else self.op(f"zext i{size * 8} {part} to i64")
            part = self.op(f"shl i64 {part}, {shift * 8}") if shift else part
            value = self.op(f"or i64 {value}, {part}") if value else part
            shift += size
            rest -= size
        return value

    def _at(self, pointer: str, offset: int) -> str:
        return self.op(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer

    def _hash(self, chunks: Sequence[str]) -> str:
        value = str(_SEED)
        for chunk in chunks:
            value = self.op(f"mul i64 {self.op(f'xor i64 {value}, {chunk}')}, {_MULTIPLIER}")
            value = self.op(f"xor i64 {value}, {self.op(f'lshr i64 {value}, 32')}")
        return value

    def _chunk_arguments(self, chunks: Sequence[str] | None = None) -> list[str]:
        names = chunks if chunks is not None else [f"%c{i}" for i in range(self.chunks)]
        return [f"i64 {name}" for name in names]

    # The table.

    def _find(self) -> None:
        """find(hash, chunks): the index of the node with this key, or 0.

        A node may be taken out, or put into another chain, while this stands on it. So a chain that does not end in a
        node of this bucket is walked again from its start; the steps of all walks together are bounded.
        """
        self._begin("find", ["i64 %hash", *self._chunk_arguments()])
        total = self.op(f"shl i64 {self._field('total')}, 6")
        nodes, stride = self._field("nodes"), self._field("node_stride")
        mask = self._field("mask")
        first = self._read(self._bucket("%hash"))
        self.go("loop")
        self.label("loop")
        self.line(f"%i = phi i64 [ {first}, %begin ], [ %next, %step ], [ %again, %retry ]")
        self.line("%last = phi i64 [ 0, %begin ], [ %i, %step ], [ 0, %retry ]")
        self.line(f"%left = phi i64 [ {total}, %begin ], [ %less, %step ], [ %fewer, %retry ]")
        self._branch(self.op("icmp eq i64 %i, 0"), "end", "check")
        self.label("end")
        self._branch(self.op("icmp eq i64 %last, 0"), "none", "confirm")
        self.label("confirm")
        ours = self.op(f"or i64 {self.op(f'and i64 %hash, {mask}')}, {_USED}")
        theirs = self._read(self._part(self._node("%last"), 4))
        place = self.op(f"and i64 {theirs}, {self.op(f'or i64 {mask}, {_USED}')}")
        self._branch(self.op(f"icmp eq i64 {place}, {ours}"), "none", "retry")
        self.label("retry")
        self.line("%fewer = sub i64 %left, 1")
        start = self.op(f"load atomic i32, ptr {self._bucket('%hash')} acquire, align 4")
        self.line(f"%again = zext i32 {start} to i64")
        self._branch(self.op("icmp eq i64 %fewer, 0"), "none", "loop")
        self.label("check")
        offset = self.op(f"mul i64 {self.op('sub i64 %i, 1')}, {stride}")
        node = self.op(f"add i64 {offset}, {nodes}")
        differs = ""
        for number in range(self.chunks):
            there = self.op(f"load i64, ptr {self._part(node, _KEY + 8 * number)}, align 8")
            part = self.op(f"xor i64 {there}, %c{number}")
            differs = self.op(f"or i64 {differs}, {part}") if differs else part
        self._branch(self.op(f"icmp eq i64 {differs}, 0"), "found", "step")
        self.label("found")
        self.line("ret i64 %i")
        self.label("step")
        following = self.op(f"load atomic i32, ptr {self._part(node, 0)} acquire, align 4")
        self.line(f"%next = zext i32 {following} to i64")
        self.line("%less = sub i64 %left, 1")
        self._branch(self.op("icmp eq i64 %less, 0"), "none", "loop")
        self.label("none")
        self.line("ret i64 0")
        self._end()

    def _unlink(self) -> None:
        """unlink(index): out of its chain, its list and the counts, and behind the free nodes."""
        self._begin("unlink", ["i64 %i"], "void")
        node = self._node("%i")
        hashed = self._read(self._part(node, 4))
        first = self._bucket(hashed)
        self.go("loop")
        self.label("loop")
        self.line(f"%at = phi ptr [ {first}, %begin ], [ %following, %step ]")
        current = self._read("%at")
        self._branch(self.op(f"icmp eq i64 {current}, 0"), "gone", "look")
        self.label("look")
        self._branch(self.op(f"icmp eq i64 {current}, %i"), "cut", "step")
        self.label("step")
        self.line(f"%following = inttoptr i64 {self._node(current)} to ptr")
        self.go("loop")
        self.label("cut")
        self._write("%at", self._read(self._part(node, 0)))
        self.go("gone")
        self.label("gone")
        self._write(self._part(node, 4), 0)
        self._write(self._part(node, 0), 0)
        self._count(-1)
        if self.kind == "lru_hash":
            self.call("lru_remove", ["i64 %i"], "void")
        if self.kind == "lpm_trie":
            length = self.op(f"load i32, ptr {self._part(node, _KEY)}")
            self._count_length(self.op(f"zext i32 {length} to i64"), -1)
        tail = self._get("free_tail")
        _, empty = self._if(self.op(f"icmp ne i64 {tail}, 0"))
        self._write(self._part(self._node(tail), 0), "%i")
        self.go("put")
        self.label(empty)
        self._set("free", "%i")
        self.go("put")
        self.label("put")
        self._set("free_tail", "%i")
        self.line("ret void")
        self._end()

    def _count_length(self, length: str, by: int) -> None:
        at = self.pointer(self.op(f"add i64 {self.op(f'shl i64 {length}, 2')}, {self._field('counts')}"))
        self._write(at, self.op(f"add i64 {self._read(at)}, {by}"))

    def _allocate(self) -> None:
        """allocate(): the index of a free node, 0 when there is none."""
        self._begin("allocate", [])
        free = self._get("free")
        _, none = self._if(self.op(f"icmp ne i64 {free}, 0"))
        following = self._read(self._part(self._node(free), 0))
        self._set("free", following)
        tail = self._get("free_tail")
        last = self.op(f"icmp eq i64 {following}, 0")
        self._set("free_tail", self.op(f"select i1 {last}, i64 0, i64 {tail}"))
        self.line(f"ret i64 {free}")
        self.label(none)
        used = self.op(f"add i64 {self._get('used')}, 1")
        _, full = self._if(self.op(f"icmp ule i64 {used}, {self._field('total')}"))
        self._set("used", used)
        self.line(f"ret i64 {used}")
        self.label(full)
        self.line("ret i64 0")
        self._end()

    def _lru(self) -> None:
        """lru_remove(index) and lru_push(index): the list from the oldest to the youngest."""
        self._begin("lru_remove", ["i64 %i"], "void")
        node = self._node("%i")
        older, younger = self._read(self._part(node, 8)), self._read(self._part(node, 12))
        self._link(older, 12, "old", younger)
        self._link(younger, 8, "young", older)
        self.line("ret void")
        self._end()
        self._begin("lru_push", ["i64 %i"], "void")
        node, young = self._node("%i"), self._get("young")
        self._write(self._part(node, 8), young)
        self._write(self._part(node, 12), 0)
        self._link(young, 12, "old", "%i")
        self._set("young", "%i")
        self.line("ret void")
        self._end()

    def _link(self, neighbour: str, offset: int, end: str, value: str) -> None:
        """The neighbour's link, or the end of the list where there is no neighbour."""
        done = self.name("linked")
        _, none = self._if(self.op(f"icmp ne i64 {neighbour}, 0"))
        self._write(self._part(self._node(neighbour), offset), value)
        self.go(done)
        self.label(none)
        self._set(end, value)
        self.go(done)
        self.label(done)

    def _touch(self, index: str) -> None:
        """Under the lock: the entry is the youngest now."""
        self.call("lru_remove", [f"i64 {index}"], "void")
        self.call("lru_push", [f"i64 {index}"], "void")

    def _lock(self) -> None:
        spin, got = self.name("spin"), self.name("locked")
        self.go(spin)
        self.label(spin)
        was = self.op(f"atomicrmw xchg ptr {self._word('lock')}, i64 1 acquire, align 8")
        self._branch(self.op(f"icmp eq i64 {was}, 0"), got, spin)
        self.label(got)

    def _unlock(self) -> None:
        self.line(f"store atomic i64 0, ptr {self._word('lock')} release, align 8")

    # What programs call.

    def _lookup(self) -> None:
        """lookup(key): the index, or 0; in an LRU table the entry becomes the youngest."""
        self._begin("lookup", ["ptr %key"])
        chunks = self._key_chunks("%key")
        arguments = [f"i64 {self._hash(chunks)}", *self._chunk_arguments(chunks)]
        found = self.call("find", arguments)
        if self.kind == "lru_hash":
            young = self.op(f"load atomic i64, ptr {self._word('young')} monotonic, align 8")
            idle = self.op(f"icmp eq i64 {found}, {young}")
            idle = self.op(f"or i1 {idle}, {self.op(f'icmp eq i64 {found}, 0')}")
            self._branch(idle, "done", "reorder")
            self.label("reorder")
            self._lock()
            again = self.call("find", arguments)
            _, gone = self._if(self.op(f"icmp ne i64 {again}, 0"))
            self._touch(again)
            self.go(gone)
            self.label(gone)
            self._unlock()
            self.line(f"ret i64 {again}")
            self.label("done")
        self.line(f"ret i64 {found}")
        self._end()

    def _peek(self) -> None:
        """peek(key): the index, or 0, without touching the order of an LRU table."""
        self._begin("peek", ["ptr %key"])
        chunks = self._key_chunks("%key")
        self.line(f"ret i64 {self.call('find', [f'i64 {self._hash(chunks)}', *self._chunk_arguments(chunks)])}")
        self._end()

    def _masked(self, chunks: Sequence[str], length: str) -> list[str]:
        """The chunks of a trie's key for this prefix length."""
        row = self.op(f"mul i64 {length}, {8 * self.chunks}")
        row = self.op(f"add i64 {row}, {self._field('masks')}")
        masked = []
        for number, chunk in enumerate(chunks):
            mask = self.op(f"load i64, ptr {self._part(row, 8 * number)}, align 8")
            value = self.op(f"and i64 {chunk}, {mask}")
            masked.append(value if number else self.op(f"or i64 {value}, {length}"))
        return masked

    def _length(self, chunks: Sequence[str]) -> str:
        return self.op(f"and i64 {chunks[0]}, {0xFFFF_FFFF}")

    def _longest(self) -> None:
        """lookup(key): the entry with the longest prefix that matches."""
        self._begin("lookup", ["ptr %key"])
        chunks = self._key_chunks("%key")
        length, counts = self._length(chunks), self._field("counts")
        self._branch(self.op(f"icmp ugt i64 {length}, {self._field('bits')}"), "none", "start")
        self.label("start")
        self.go("loop")
        self.label("loop")
        self.line(f"%l = phi i64 [ {length}, %start ], [ %less, %step ]")
        used = self._read(self.pointer(self.op(f"add i64 {self.op('shl i64 %l, 2')}, {counts}")))
        self._branch(self.op(f"icmp eq i64 {used}, 0"), "step", "try")
        self.label("try")
        masked = self._masked(chunks, "%l")
        found = self.call("find", [f"i64 {self._hash(masked)}", *self._chunk_arguments(masked)])
        self._branch(self.op(f"icmp eq i64 {found}, 0"), "step", "match")
        self.label("match")
        self.line(f"ret i64 {found}")
        self.label("step")
        self.line("%less = sub i64 %l, 1")
        self._branch(self.op("icmp eq i64 %l, 0"), "none", "loop")
        self.label("none")
        self.line("ret i64 0")
        self._end()

    def _prepared_key(self, failed: str) -> tuple[list[str], str]:
        """Chunks as they are kept, and their hash; a prefix that is too long goes to the label `failed`."""
        chunks = self._key_chunks("%key")
        if self.kind == "lpm_trie":
            length, fits = self._length(chunks), self.name("fits")
            self._branch(self.op(f"icmp ule i64 {length}, {self._field('bits')}"), fits, failed)
            self.label(fits)
            chunks = self._masked(chunks, length)
        return chunks, self._hash(chunks)

    def _update(self) -> None:
        """update(key, value, flags): 0 or a negative errno."""
        self._begin("update", ["ptr %key", "ptr %value", "i64 %flags"])
        self._branch(self.op(f"icmp ule i64 %flags, {BPF_EXIST}"), "known", "invalid")
        self.label("invalid")
        self.line(f"ret i64 {-errno.EINVAL}")
        self.label("known")
        chunks, hashed = self._prepared_key("invalid")
        self._lock()
        found = self.call("find", [f"i64 {hashed}", *self._chunk_arguments(chunks)])
        self._branch(self.op(f"icmp eq i64 {found}, 0"), "fresh", "present")
        self.label("present")
        self._branch(self.op(f"icmp eq i64 %flags, {BPF_NOEXIST}"), "exists", "replace")
        self._refusal("exists", errno.EEXIST)
        self.label("replace")  # by a new node: a program that holds the old value keeps it
        self.go("create")
        self.label("fresh")
        self._branch(self.op(f"icmp eq i64 %flags, {BPF_EXIST}"), "absent", "room")
        self._refusal("absent", errno.ENOENT)
        self.label("room")
        full = self.op(f"icmp uge i64 {self._get('count')}, {self._field('capacity')}")
        self._branch(full, "full", "create")
        if self.kind == "lru_hash":
            self.label("full")
            self.call("unlink", [f"i64 {self._get('old')}"], "void")
            self.go("create")
        else:
            self._refusal("full", errno.ENOSPC if self.kind == "lpm_trie" else errno.E2BIG)
        self._create(found, hashed, chunks)
        self.label("ok")
        self._unlock()
        self.line("ret i64 0")
        self._end()

    def _refusal(self, label: str, code: int) -> None:
        self.label(label)
        self._unlock()
        self.line(f"ret i64 {-code}")

    def _create(self, found: str, hashed: str, chunks: Sequence[str]) -> None:
        self.label("create")
        index = self.call("allocate", [])
        self._branch(self.op(f"icmp eq i64 {index}, 0"), "nothing", "fill")
        self._refusal("nothing", errno.ENOMEM)
        self.label("fill")
        node = self._node(index)
        for number, chunk in enumerate(chunks):
            self.line(f"store i64 {chunk}, ptr {self._part(node, _KEY + 8 * number)}, align 8")
        if self.kind == "lpm_trie":
            original = self._part(node, _KEY + 8 * self.chunks)
            self.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {original}, ptr %key, i64 {self.key_size}, i1 false)")
        self._copy_value(index)
        mark = self.op(f"or i64 {self.op(f'and i64 {hashed}, {_USED - 1}')}, {_USED}")
        self._write(self._part(node, 4), mark)
        bucket = self._bucket(hashed)
        self._write(self._part(node, 0), self._read(bucket))
        self._write(bucket, index)
        self._count(1)
        if self.kind == "lru_hash":
            self.call("lru_push", [f"i64 {index}"], "void")
        if self.kind == "lpm_trie":
            self._count_length(self.op(f"and i64 {chunks[0]}, {0xFFFF_FFFF}"), 1)
        _, none = self._if(self.op(f"icmp ne i64 {found}, 0"))
        self.call("unlink", [f"i64 {found}"], "void")  # the old entry, behind the new one
        self.go(none)
        self.label(none)
        self.go("ok")

    def _copy_value(self, index: str) -> None:
        offset = self.op(f"mul i64 {self.op(f'sub i64 {index}, 1')}, {self._field('stride')}")
        target = self.pointer(self.op(f"add i64 {offset}, {self._field('values')}"))
        size = self._field("value_size")
        self.line(f"call void @llvm.memmove.p0.p0.i64(ptr {target}, ptr %value, i64 {size}, i1 false)")

    def _delete(self) -> None:
        """delete(key): 0 or a negative errno."""
        self._begin("delete", ["ptr %key"])
        self.go("known")
        self.label("invalid")
        self.line(f"ret i64 {-errno.EINVAL}")
        self.label("known")
        chunks, hashed = self._prepared_key("invalid")
        self._lock()
        found = self.call("find", [f"i64 {hashed}", *self._chunk_arguments(chunks)])
        self._branch(self.op(f"icmp eq i64 {found}, 0"), "absent", "present")
        self._refusal("absent", errno.ENOENT)
        self.label("present")
        self.call("unlink", [f"i64 {found}"], "void")
        self._unlock()
        self.line("ret i64 0")
        self._end()


DECLARATIONS: Final = """declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"""
"""What the functions need declared, once in a module."""
