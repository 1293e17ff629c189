"""Kernel functions of objects with owners: allocation, linked lists, trees.

An object is some bytes of its own. Lists and trees know their nodes by address; the head in the program's memory stays
as it is, since programs cannot look into it. The order of a tree is that of its `less`, in which an element goes behind
those that are equal to it, as in the kernel.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ebpfkit._bits import U32_MAX
from ebpfkit.errors import NotSupported, ObjectError
from ebpfkit.vm.kfuncs_registry import kfunc
from ebpfkit.vm.memory import MemoryFault

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

_MAX_OBJECTS = 10_000
_MAX_OBJECT = 4096  # what the kernel's allocator of programs gives at once


# --- objects ----------------------------------------------------------------------------------------------------------


@kfunc("bpf_obj_new_impl", bits=64)
@kfunc("bpf_percpu_obj_new_impl", bits=64)
def obj_new(vm: Machine, type_id: int, meta: int) -> int:
    """An object of a type of the program's own BTF, zeros; 0 when there is no room."""
    btf = vm.spec.btf
    if btf is None:
        raise NotSupported("bpf_obj_new in a program without BTF", why="its argument is a type of the program's BTF")
    try:
        size = btf.size_of(type_id & U32_MAX)
    except ObjectError as error:
        raise MemoryFault(f"no type of the program's BTF: {error.message}") from None
    graph = vm.objects.graph
    if len(graph.allocated) >= _MAX_OBJECTS or size > _MAX_OBJECT:
        return 0
    region = vm.memory.add(f"object {btf.name(btf.get(type_id & U32_MAX))}", bytearray(size))
    graph.allocated[region.base] = [region, 1]
    return region.base


@kfunc("bpf_obj_drop_impl")
@kfunc("bpf_percpu_obj_drop_impl")
def obj_drop(vm: Machine, pointer: int, meta: int) -> int:
    allocated = vm.objects.graph.allocated
    found = allocated.get(pointer)
    if found is None:
        raise MemoryFault(f"{pointer:#x} is no object that the program allocated")
    found[1] -= 1
    if not found[1]:
        vm.memory.remove(found[0])
        del allocated[pointer]
    return 0


@kfunc("bpf_refcount_acquire_impl", bits=64)
def refcount_acquire(vm: Machine, pointer: int, meta: int) -> int:
    found = vm.objects.graph.allocated.get(pointer)
    if found is None:
        raise MemoryFault(f"{pointer:#x} is no object that the program allocated")
    found[1] += 1
    return pointer


# --- lists ------------------------------------------------------------------------------------------------------------


def _nodes(vm: Machine, head: int) -> list[int]:
    """The nodes behind a head, in order. The head keeps its address as long as the machine lives."""
    vm.memory.read(head, 16)
    region = vm.memory.find(head)
    if region is not None and vm.memory.known_address(region.data) == region.base:
        vm.memory.address_of_cell(region.data, region.name, keep=True)
    return vm.objects.graph.heads.setdefault(head, [])


def _push(vm: Machine, head: int, node: int, place: int | None) -> int:
    """Put a node in: 0, or -EINVAL for one that has an owner already, whose reference is dropped."""
    nodes, graph = _nodes(vm, head), vm.objects.graph
    vm.memory.read(node, 16)
    if node in graph.owners:
        base = graph.object_of(node)
        if base is not None:
            obj_drop(vm, base, 0)
        return -errno.EINVAL
    nodes.insert(len(nodes) if place is None else place, node)
    graph.owners[node] = head
    return 0


def _pop(vm: Machine, head: int, place: int) -> int:
    nodes = _nodes(vm, head)
    if not nodes:
        return 0
    node = nodes.pop(place)
    del vm.objects.graph.owners[node]
    return node


@kfunc("bpf_list_push_front_impl")
def list_push_front(vm: Machine, head: int, node: int, meta: int, offset: int) -> int:
    return _push(vm, head, node, 0)


@kfunc("bpf_list_push_back_impl")
def list_push_back(vm: Machine, head: int, node: int, meta: int, offset: int) -> int:
    return _push(vm, head, node, None)


@kfunc("bpf_list_pop_front", bits=64)
def list_pop_front(vm: Machine, head: int) -> int:
    return _pop(vm, head, 0)


@kfunc("bpf_list_pop_back", bits=64)
def list_pop_back(vm: Machine, head: int) -> int:
    return _pop(vm, head, -1)


@kfunc("bpf_list_front", bits=64)
@kfunc("bpf_rbtree_first", bits=64)
def first(vm: Machine, head: int) -> int:
    nodes = _nodes(vm, head)
    return nodes[0] if nodes else 0


@kfunc("bpf_list_back", bits=64)
def last(vm: Machine, head: int) -> int:
    nodes = _nodes(vm, head)
    return nodes[-1] if nodes else 0


# --- trees ------------------------------------------------------------------------------------------------------------


@kfunc("bpf_rbtree_add_impl")
def rbtree_add(vm: Machine, root: int, node: int, less: int, meta: int, offset: int) -> int:
    nodes, function = _nodes(vm, root), vm.interpreter.function_at(less)
    if node in vm.objects.graph.owners:
        return _push(vm, root, node, None)
    low, high = 0, len(nodes)
    while low < high:
        middle = (low + high) // 2
        if vm.interpreter.call(function, node, nodes[middle]):
            high = middle
        else:
            low = middle + 1
    return _push(vm, root, node, low)


@kfunc("bpf_rbtree_remove", bits=64)
def rbtree_remove(vm: Machine, root: int, node: int) -> int:
    """The node, or 0 when it is not in this tree."""
    nodes, graph = _nodes(vm, root), vm.objects.graph
    if graph.owners.get(node) != root:
        return 0
    nodes.remove(node)
    del graph.owners[node]
    return node
