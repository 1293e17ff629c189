"""What is still read later: registers by static data flow, stack slots by what the walk observed.

A stored state forgets what is dead, so that states which differ only there still match. Register masks are computed
once per program. Stack slots are followed per call chain: reads and full 8-byte writes are noted as the walk meets
them, and flow backwards through the function's instructions when a path ends.
"""

from __future__ import annotations

from ebpfkit.abi.model import ArgKind
from ebpfkit.asm.isa import Kind
from ebpfkit.verifier.program import CALLS_BACK, Code, Subprogram, successors

__all__ = ["Chain", "StackLiveness", "compute_loops", "compute_register_liveness", "uses_and_defines"]

_ARGUMENTS = 0b111110  # R1 to R5
_CALLER_SAVED = 0b111111  # R0 to R5
_ALL = 0x7FF


def uses_and_defines(code: Code, index: int) -> tuple[int, int]:
    """Masks of the registers that the instruction reads and overwrites."""
    insn = code.insns[index]
    op = insn.op
    dst, src = 1 << insn.dst, 1 << insn.src
    match op.kind:
        case Kind.ALU:
            return (dst | src if op.source == "reg" else dst), dst
        case Kind.MOV | Kind.MOVSX:
            return (src if op.source == "reg" or op.kind is Kind.MOVSX else 0), dst
        case Kind.SWAP:
            return dst, dst
        case Kind.ADDR_SPACE | Kind.LOAD | Kind.LOADSX | Kind.LOAD_ACQUIRE:
            return src, dst
        case Kind.STORE:
            return (dst | src if op.source == "reg" else dst), 0
        case Kind.STORE_RELEASE:
            return dst | src, 0
        case Kind.ATOMIC:
            if op.operation == "cmpxchg":
                return 1 | dst | src, 1
            return dst | src, src if op.operation.startswith("fetch") or op.operation == "xchg" else 0
        case Kind.JUMP:
            return (dst | src if op.source == "reg" else dst), 0
        case Kind.GOTO | Kind.MAY_GOTO:
            return 0, 0
        case Kind.EXIT:
            return 1, 0
        case Kind.WIDE:
            return 0, dst
        case Kind.CALL:
            helper = code.helper_of(index)
            if helper is not None and helper.args is not None:
                checked = sum(arg.kind is not ArgKind.UNCHECKED for arg in helper.args)
                return (2 << checked) - 2, _CALLER_SAVED
            kfunc = code.kfunc_of(index)
            if kfunc is not None:
                return (2 << len(kfunc.parameters)) - 2, _CALLER_SAVED
            return _ARGUMENTS, _CALLER_SAVED
    return _ALL, 0


def compute_register_liveness(code: Code) -> list[int]:
    """For each instruction the registers whose value before it may still be read."""
    count = len(code.insns)
    live = [0] * count
    effects = [uses_and_defines(code, index) for index in range(count)]
    followers = [[s for s in successors(code, index) if s < count] for index in range(count)]
    changed = True
    while changed:
        changed = False
        for index in range(count - 1, -1, -1):
            after = 0
            for follower in followers[index]:
                after |= live[follower]
            use, define = effects[index]
            before = use | after & ~define
            if before != live[index]:
                live[index] = before
                changed = True
    return live


def compute_loops(code: Code) -> list[int]:
    """The number of the strongly connected component of each instruction, 0 where it is in no loop (Tarjan)."""
    count = len(code.insns)
    followers = [[s for s in successors(code, index) if s < count] for index in range(count)]
    order = [0] * count
    low = [0] * count
    on_stack = [False] * count
    components = [0] * count
    path: list[int] = []
    clock = 0
    number = 0
    for root in range(count):
        if order[root]:
            continue
        work = [(root, 0)]
        while work:
            node, position = work.pop()
            if not position:
                clock += 1
                order[node] = low[node] = clock
                path.append(node)
                on_stack[node] = True
            descended = False
            for at in range(position, len(followers[node])):
                child = followers[node][at]
                if not order[child]:
                    work.append((node, at + 1))
                    work.append((child, 0))
                    descended = True
                    break
                if on_stack[child]:
                    low[node] = min(low[node], order[child])
            if descended:
                continue
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
            if low[node] == order[node]:
                members = []
                while True:
                    member = path.pop()
                    on_stack[member] = False
                    members.append(member)
                    if member == node:
                        break
                if len(members) > 1 or node in followers[node] or code.flags[node] & CALLS_BACK:
                    number += 1
                    for member in members:
                        components[member] = number
    return components


class Chain:
    """One function as called from one chain of call sites, and what was seen of the stack in it.

    `reads[frame][index]` and `live[frame][index]` are masks of 8-byte slots (bit n: bytes -8(n+1) to -8n) of the frame
    with that number, as seen from the instruction; `writes[index]` is the (frame, mask) that every visit wrote in full.
    """

    __slots__ = ("dirty", "function", "inner", "live", "order", "outer", "reads", "site", "total", "writes")

    def __init__(self, outer: Chain | None, site: int, function: Subprogram, order: list[int]) -> None:
        self.outer = outer
        self.site = site
        self.function = function
        self.order = order  # instructions of the function, last ones first
        depth = 0
        chain = outer
        while chain is not None:
            depth += 1
            chain = chain.outer
        self.reads: list[dict[int, int]] = [{} for _ in range(depth + 1)]
        self.live: list[dict[int, int]] = [{} for _ in range(depth + 1)]
        self.writes: dict[int, tuple[int, int] | None] = {}
        self.total: list[int] = [0] * (depth + 1)  # slots written on every path from the start, per frame
        self.inner: dict[tuple[int, int], Chain] = {}
        self.dirty = False


class StackLiveness:
    """All call chains of a verification."""

    def __init__(self, code: Code) -> None:
        self.code = code
        count = len(code.insns)
        self.followers = [[s for s in successors(code, index) if s < count] for index in range(count)]
        self._add_tail_calls()
        self._roots: dict[int, Chain] = {}
        self._orders: dict[int, list[int]] = {}
        # Writes of callees into their callers' slots, per chain, call site and frame.
        self._callee_writes: dict[tuple[int, int], dict[int, int]] = {}

    def _add_tail_calls(self) -> None:
        """A tail call in a function may come back as the function's return."""
        for function in self.code.subprograms[1:]:
            if function.has_tail_call:
                sites = [i for i in range(function.start, function.end) if self.code.is_tail_call(i)]
                exits = [i for i in range(function.start, function.end) if not self.followers[i]]
                for site in sites:
                    self.followers[site] += exits[-1:]

    def _order(self, function: Subprogram) -> list[int]:
        found = self._orders.get(function.number)
        if found is None:
            found = self._orders[function.number] = list(range(function.end - 1, function.start - 1, -1))
        return found

    def root(self, function: Subprogram) -> Chain:
        """The chain of a function that is walked on its own."""
        found = self._roots.get(function.number)
        if found is None:
            found = self._roots[function.number] = Chain(None, -1, function, self._order(function))
        return found

    def enter(self, outer: Chain, site: int, function: Subprogram) -> Chain:
        """The chain of `function` called at `site`."""
        key = (site, function.number)
        found = outer.inner.get(key)
        if found is None:
            found = outer.inner[key] = Chain(outer, site, function, self._order(function))
        return found

    @staticmethod
    def note_read(chain: Chain, index: int, frame: int, mask: int) -> None:
        reads = chain.reads[frame]
        known = reads.get(index, 0)
        if mask & ~known:
            reads[index] = known | mask
            chain.dirty = True

    @staticmethod
    def note_write(chain: Chain, index: int, frame: int, mask: int) -> None:
        """What this visit of a storing instruction wrote in full (mask 0: nothing)."""
        writes = chain.writes
        if index not in writes:
            writes[index] = (frame, mask) if mask else None
            chain.dirty = chain.dirty or mask != 0
            return
        known = writes[index]
        if known is not None and known != (frame, mask):
            both = known[1] & mask if known[0] == frame else 0
            writes[index] = (frame, both) if both else None
            chain.dirty = True

    def update(self, chain: Chain) -> None:
        """Let what was noted in `chain` flow backwards, and out to the callers' slots at the call site."""
        if not chain.dirty:
            return
        chain.dirty = False
        for frame in range(len(chain.reads)):
            self._flow(chain, frame)
        outer = chain.outer
        if outer is None:
            return
        start = chain.function.start
        for frame in range(len(outer.reads)):
            self.note_read(outer, chain.site, frame, chain.live[frame].get(start, 0))
            if not self.code.flags[chain.site] & CALLS_BACK:
                self._join_callee_writes(outer, chain.site, frame, chain.total[frame])

    def _join_callee_writes(self, outer: Chain, site: int, frame: int, mask: int) -> None:
        known = self._callee_writes.setdefault((id(outer), site), {})
        before = known.get(frame)
        after = mask if before is None else before & mask
        if after != before:
            known[frame] = after
            if before is not None or after:
                outer.dirty = True

    def _flow(self, chain: Chain, frame: int) -> None:
        reads, live, followers = chain.reads[frame], chain.live[frame], self.followers
        if not reads and frame == len(chain.reads) - 1:
            live.clear()
            return
        writes: dict[int, int] = {index: w[1] for index, w in chain.writes.items() if w is not None and w[0] == frame}
        for (owner, site), masks in self._callee_writes.items():
            if owner == id(chain) and masks.get(frame):
                writes[site] = writes.get(site, 0) | masks[frame]
        always: dict[int, int] = {}
        changed = True
        while changed:
            changed = False
            for index in chain.order:
                after = 0
                sure = -1
                for follower in followers[index]:
                    after |= live.get(follower, 0)
                    sure &= always.get(follower, -1)
                written = writes.get(index, 0)
                before = after & ~written | reads.get(index, 0)
                if not followers[index]:
                    sure = 0
                if before != live.get(index, 0):
                    live[index] = before
                    changed = True
                if frame < len(chain.reads) - 1:
                    sure |= written
                    if sure != always.get(index, -1):
                        always[index] = sure
                        changed = True
        if frame < len(chain.reads) - 1:
            total = always.get(chain.function.start, 0)
            chain.total[frame] = total if total >= 0 else 0

    def live_mask(self, chain: Chain, index: int, frame: int) -> int:
        """The slots of `frame` that may still be read from the instruction `index` of the innermost function on."""
        mask = chain.live[frame].get(index, 0)
        flags = self.code.flags
        depth = len(chain.reads) - 1
        inner, outer = chain, chain.outer
        while outer is not None and depth > frame:
            back = 0 if flags[inner.site] & CALLS_BACK else 1
            mask |= outer.live[frame].get(inner.site + back, 0)
            inner, outer = outer, outer.outer
            depth -= 1
        return mask
