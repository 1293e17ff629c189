"""Row types for the kernel's ABI as data. Rows only: no behaviour, no look-up logic beyond plain mappings.

A helper, map type, program type, context field or attach type is one row; the DSL's stub, the compiler's call, the
printer's name, the verifier's check, the VM's implementation, the loader's constant and the docs read the same row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = [
    "ArgKind",
    "ArgSpec",
    "AttachTypeSpec",
    "ContextField",
    "ContextSpec",
    "DriverSpec",
    "Effect",
    "FieldResult",
    "HelperSpec",
    "HostProfile",
    "KfuncSpec",
    "MapTypeSpec",
    "ProgTypeSpec",
    "RegistersSpec",
    "RetKind",
    "SectionSpec",
]


class ArgKind(Enum):
    """What a helper accepts in one argument register."""

    __hash__ = object.__hash__  # members are singletons; the default hashes the name in Python each time

    ANYTHING = "anything"  # any initialised value
    UNCHECKED = "unchecked"  # the kernel does not look: the register need not be initialised
    SCALAR = "scalar"  # any initialised value whose meaning is a number (the kernel treats it like ANYTHING)
    CONST = "const"  # a known constant scalar
    CTX = "ctx"
    CTX_OR_NULL = "ctx_or_null"
    CONST_MAP_PTR = "const_map_ptr"  # a map, from a wide load
    MAP_KEY = "map_key"  # key_size readable bytes of the map in the earlier CONST_MAP_PTR argument
    MAP_VALUE = "map_value"  # value_size readable bytes
    MAP_VALUE_UNINIT = "map_value_uninit"  # value_size bytes that the helper writes
    MAP_VALUE_OR_NULL = "map_value_or_null"
    MEM = "mem"  # readable memory; its length is the following SIZE argument
    MEM_OR_NULL = "mem_or_null"
    MEM_UNINIT = "mem_uninit"  # the helper writes it; its length is the following SIZE argument
    MEM_UNINIT_OR_NULL = "mem_uninit_or_null"
    MEM_RW = "mem_rw"  # read and written
    MEM_FIXED = "mem_fixed"  # readable memory of `size` bytes
    MEM_FIXED_RW = "mem_fixed_rw"  # read and written memory of `size` bytes
    MEM_FIXED_UNINIT = "mem_fixed_uninit"  # writable memory of `size` bytes, need not be initialised
    SIZE = "size"  # bytes of the preceding memory argument, zero refused
    SIZE_OR_ZERO = "size_or_zero"
    ALLOC_SIZE_OR_ZERO = "alloc_size_or_zero"  # constant; the size of the returned memory
    SPIN_LOCK = "spin_lock"
    TIMER = "timer"
    KPTR = "kptr"
    KPTR_VALUE = "kptr_value"  # a referenced object of the kptr's type, or null
    SOCK_COMMON = "sock_common"
    SOCKET = "socket"
    SOCKET_OR_NULL = "socket_or_null"
    BTF_SOCK_COMMON = "btf_sock_common"
    BTF_ID = "btf_id"  # pointer to the kernel type named in `btf_type`
    BTF_ID_OR_NULL = "btf_id_or_null"
    RINGBUF_MEM = "ringbuf_mem"  # a record from ringbuf_reserve
    DYNPTR = "dynptr"
    DYNPTR_UNINIT = "dynptr_uninit"
    FUNC = "func"  # a callback
    STACK_OR_NULL = "stack_or_null"
    CONST_STR = "const_str"
    PERCPU_BTF_ID = "percpu_btf_id"


class RetKind(Enum):
    """What a helper leaves in R0."""

    __hash__ = object.__hash__  # members are singletons; the default hashes the name in Python each time

    INTEGER = "integer"
    VOID = "void"
    MAP_VALUE_OR_NULL = "map_value_or_null"
    MAP_VALUE = "map_value"
    SOCKET_OR_NULL = "socket_or_null"
    SOCK_COMMON_OR_NULL = "sock_common_or_null"
    TCP_SOCK_OR_NULL = "tcp_sock_or_null"
    RINGBUF_MEM_OR_NULL = "ringbuf_mem_or_null"  # of the ALLOC_SIZE argument's size, an acquired reference
    MEM_OR_BTF_ID = "mem_or_btf_id"
    MEM_OR_BTF_ID_OR_NULL = "mem_or_btf_id_or_null"
    BTF_ID = "btf_id"
    BTF_ID_OR_NULL = "btf_id_or_null"
    DYNPTR_MEM_OR_NULL = "dynptr_mem_or_null"
    KPTR_OR_NULL = "kptr_or_null"


class Effect(Enum):
    """What a call does besides its result."""

    __hash__ = object.__hash__  # members are singletons; the default hashes the name in Python each time

    CHANGES_PACKET = "changes_packet"  # every packet pointer dies
    ACQUIRES = "acquires"  # R0 is a reference that must be released
    RELEASES = "releases"  # the reference argument is released
    MAY_SLEEP = "may_sleep"
    TAIL_CALL = "tail_call"
    LOCKS = "locks"
    UNLOCKS = "unlocks"
    CALLS_BACK = "calls_back"  # its FUNC argument, any number of times before it returns
    CALLS_BACK_LATER = "calls_back_later"  # its FUNC argument runs on its own, after the program
    DYNPTR_ACQUIRES = "dynptr_acquires"


@dataclass(frozen=True, slots=True)
class ArgSpec:
    """One helper argument: its name and C type (for stubs and prototypes) and what the verifier demands."""

    name: str
    kind: ArgKind
    ctype: str = "u64"
    size: int = 0  # MEM_FIXED kinds: bytes
    btf_type: str = ""


@dataclass(frozen=True, slots=True)
class HelperSpec:
    """One helper function. `args` is None when only its number and name are known (nothing may model a call of it).

    `prog_types` names the program types that may call it ("*": every one). `ret_min`/`ret_max` bound R0 where the
    kernel bounds it. `since` is the first kernel ("" when older than 4.4).
    """

    id: int
    name: str  # without the bpf_ prefix
    args: tuple[ArgSpec, ...] | None
    ret: RetKind
    since: str
    prog_types: frozenset[str]
    gpl_only: bool = False
    effects: frozenset[Effect] = frozenset()
    ret_ctype: str = "s64"
    ret_range: tuple[int, int] | None = None
    map_types: frozenset[str] | None = None  # the map types its CONST_MAP_PTR argument accepts; None: any
    summary: str = ""
    # R0 is also bounded by: "size" (-4095 .. the largest its SIZE argument can be), "cpus" (0 .. CPUs - 1), "" nothing
    ret_bound: str = ""
    # program type -> the other arguments it takes there
    variants: Mapping[str, tuple[ArgSpec, ...]] = field(default_factory=dict)
    # program type -> the first kernel that allows it there, where that is later than `since`
    prog_types_since: Mapping[str, str] = field(default_factory=dict)

    # map type -> the other arguments it takes with such a map
    variants_by_map: Mapping[str, tuple[ArgSpec, ...]] = field(default_factory=dict)
    # program type -> the attach types at which it may be called there, where not at all of them
    attach_types: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unprivileged: bool = False  # users without capabilities may call it, in the types that they may load
    packet_access: bool = False  # its memory arguments may be packet pointers

    def args_in(self, prog_type: str) -> tuple[ArgSpec, ...] | None:
        """The arguments it takes in a program of this type."""
        return self.variants.get(prog_type, self.args)


@dataclass(frozen=True, slots=True)
class KfuncSpec:
    """One kernel function that programs may call by BTF id. Its prototype is in the running kernel's BTF.

    `device_bound`: only in programs bound to a device. `modelled`: the verifier and the VM know what it does.
    """

    name: str
    since: str
    prog_types: frozenset[str]
    prototype: str
    summary: str
    device_bound: bool = False
    modelled: bool = False


@dataclass(frozen=True, slots=True)
class MapTypeSpec:
    """One map type. `key_size`/`value_size` are the only allowed sizes in bytes where the kernel fixes them."""

    id: int
    name: str  # "hash", as in bpftool
    since: str
    key_size: int | None = None
    value_size: int | None = None
    per_cpu: bool = False
    lookup_from_program: bool = True
    update_from_program: bool = True
    delete_from_program: bool = True
    flags: frozenset[str] = frozenset()  # BPF_F_ names that creation accepts
    max_entries_power_of_two: bool = False  # and a multiple of the page size
    summary: str = ""
    key_sizes: tuple[int, ...] = ()  # the allowed sizes where there are several; (): any but what key_size says
    value_sizes: tuple[int, ...] = ()
    min_key_size: int = 1
    required_flags: frozenset[str] = frozenset()
    max_entries_zero: bool = False  # max_entries must be 0
    needs_btf: bool = False  # creation needs BTF for key and value


class FieldResult(Enum):
    """What a load of a context field yields."""

    __hash__ = object.__hash__  # members are singletons; the default hashes the name in Python each time

    SCALAR = "scalar"
    PACKET = "packet"
    PACKET_END = "packet_end"
    PACKET_META = "packet_meta"
    SOCKET_OR_NULL = "socket_or_null"
    SOCKET = "socket"
    SOCK_COMMON_OR_NULL = "sock_common_or_null"
    FLOW_KEYS = "flow_keys"
    BTF = "btf"  # a trusted pointer to the kernel's structure that the row names
    RECORD = "record"  # the record of a writable tracepoint


@dataclass(frozen=True, slots=True)
class ContextField:
    """One field of a context structure as the program sees it: byte offset and size, and what may be done with it.

    `narrow`: smaller aligned loads inside it are allowed. `attach_types` restricts it (None: always).
    """

    name: str
    offset: int
    size: int
    readable: bool = True
    writable: bool = False
    narrow: bool = True
    result: FieldResult = FieldResult.SCALAR
    count: int = 1  # an array of `count` elements of `size` bytes
    wide: bool = False  # 8-byte access of two neighbours allowed
    since: str = ""
    attach_types: frozenset[str] | None = None
    write_narrow: bool = False  # smaller aligned stores inside it are allowed too
    write_attach_types: frozenset[str] | None = None  # restricts writing (None: wherever it is readable)
    narrow_at_start: bool = False  # smaller loads only at its first byte
    narrow_sizes: tuple[int, ...] = ()  # the only smaller sizes, in bytes; (): all
    wider_sizes: tuple[int, ...] = ()  # larger loads at its first byte that are allowed too, in bytes
    btf_type: str = ""  # result BTF: the structure
    write_first_only: bool = False  # of an array only the first element is writable


@dataclass(frozen=True, slots=True)
class ContextSpec:
    """The context structure of a program type: `size` bytes and its fields.

    `raw`: plain readable memory, any width, but for accesses at the start of one of its fields.

    `writable` says that raw memory may be written too; `start` is the first readable offset of raw memory.
    """

    name: str  # "xdp_md"
    size: int
    fields: tuple[ContextField, ...] = ()
    raw: bool = False
    struct: str = ""  # the C structure, where several contexts share one
    writable: bool = False
    start: int = 0
    raw_sizes: tuple[int, ...] = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class ProgTypeSpec:
    """One program type."""

    id: int
    name: str  # "xdp", as in bpftool
    since: str
    context: str | None  # ContextSpec name; None: not modelled
    direct_packet_access: str = ""  # "", "read" or "write"
    return_range: tuple[int, int] | None = None  # verdicts the verifier enforces
    private_stack: bool = False
    gpl_required: bool = False
    verdicts: Mapping[str, int] = field(default_factory=dict)
    # attach type -> the verdicts enforced there, where they differ by attach type (return_range is then the widest)
    return_ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    attach_types: tuple[str, ...] = ()  # what expected_attach_type may say; () where the kernel ignores it
    needs_attach_type: bool = False
    sleepable: bool = False  # may be loaded with BPF_F_SLEEPABLE
    summary: str = ""


@dataclass(frozen=True, slots=True)
class RegistersSpec:
    """`struct pt_regs` of a machine: its size, and the offsets in bytes of what probes read (64 bits each)."""

    machine: str  # "x86_64"
    size: int
    parameters: tuple[int, ...]
    result: int
    ip: int
    sp: int
    fp: int


@dataclass(frozen=True, slots=True)
class AttachTypeSpec:
    """One attach type and the program types it belongs to."""

    id: int
    name: str  # "xdp_devmap"
    prog_types: frozenset[str]
    since: str = ""


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """One SEC() name of libbpf. `extra`: "" none, "+" optional or required text behind a slash."""

    name: str  # "xdp.frags/devmap"
    prog_type: str
    attach_type: str | None = None
    extra: str = ""
    sleepable: bool = False
    frags: bool = False
    extra_required: bool = False  # "+" with text that must follow before the program can attach by itself
    attach_type_optional: bool = False  # the loader drops the attach type where the kernel does not know it
    auto_attach: bool = False  # the section says enough to attach the program


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """First kernels of a network driver's XDP features ("" none, "?" unknown)."""

    name: str
    native: str
    frags: str = ""
    zero_copy: str = ""
    max_mtu: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class HostProfile:
    """What a verdict depends on besides the program: written by `host/`, read by `verifier/`.

    `basis` is "measured" for a kernel that ebpfkit was checked against, else "documented".
    """

    kernel: str = "6.18"
    cpus: int = 2
    privileged: bool = True
    jit: bool = True
    arch: str = "x86_64"
    basis: str = "measured"
    helpers: frozenset[str] | None = None  # None: by version
    config: frozenset[str] = frozenset()
