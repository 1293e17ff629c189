"""The rules a program can break: one row each, with a stable identifier, a title, why the rule exists and how to mend.

Our verifier, the parser of kernel logs, the renderers and the documentation all name rules by these identifiers. Rows
only; which message belongs to which rule is in `messages`, and turning a rejection into advice is in `explain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["CATEGORIES", "RULES", "Rule"]

CATEGORIES = (
    "memory-safety",
    "register-type-safety",
    "call-type-safety",
    "resource-lifetime",
    "execution-context",
    "program-structure",
    "policy",
    "verifier-limit",
    "unsupported",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `why` says what could go wrong without it, `mend` what to write instead (one or two sentences each)."""

    id: str
    title: str
    why: str
    mend: str
    category: str = "memory-safety"


_ROWS = (
    # --- memory safety ---------------------------------------------------------------------------------------------
    Rule(
        "unbounded-packet-access",
        "packet access outside the proven range",
        "A packet may be shorter than the access; only a comparison of a packet pointer with data_end proves how many"
        " bytes are there.",
        "Compare `data + offset + size` with `data_end` and leave when it is greater, before the access; use the same"
        " pointer for the check and the access.",
    ),
    Rule(
        "null-map-value",
        "a value that may be NULL is used without a test",
        "A look-up gives NULL when the key is missing, and reading through NULL would fault in the kernel.",
        "Test the pointer against NULL (64-bit comparison with the constant 0) directly after the call, and use it only"
        " on the other side.",
    ),
    Rule(
        "map-value-out-of-bounds",
        "access outside the value of a map",
        "The map's values have a fixed size; bytes behind it belong to someone else.",
        "Bound the index from both sides before the access (`if i < N`, or `i &= N - 1` for a power of two), in the"
        " same variable that is added to the pointer.",
    ),
    Rule(
        "memory-out-of-bounds",
        "access outside a memory region of known size",
        "The region (a ring buffer record, dynptr slice, global or kernel buffer) ends before the access does.",
        "Bound the offset so that offset plus size stays within the region's size.",
    ),
    Rule(
        "unbounded-variable-offset",
        "an offset whose bounds are not known is added to a pointer",
        "Without a lower and an upper bound the sum may point anywhere.",
        "Bound the variable from both sides first: an unsigned comparison, or a mask (never negative).",
    ),
    Rule(
        "stack-out-of-bounds",
        "access outside the 512-byte stack",
        "A frame is the 512 bytes below r10; everything else is the kernel's.",
        "Keep buffers within the frame; put larger ones into a per-CPU array map.",
    ),
    Rule(
        "stack-misaligned",
        "misaligned access to the stack",
        "The verifier tracks the stack in aligned slots, so an access must be aligned to its own size there.",
        "Align the offset to the size of the access, or copy byte by byte.",
    ),
    Rule(
        "misaligned-access",
        "misaligned memory access",
        "Strict alignment was asked for (or the machine needs it), and the address is not a multiple of the size.",
        "Read smaller pieces, or align the structure; for packets use byte loads.",
    ),
    Rule(
        "uninitialised-stack",
        "stack bytes are read before they were written",
        "Old stack contents would leak into the program or to user space.",
        "Initialise the whole object first, padding included (`memset`, or assign zero).",
    ),
    Rule(
        "stack-pointer-corruption",
        "a spilled pointer is partly overwritten or partly read",
        "A piece of a pointer is not a pointer; unprivileged programs must not learn or forge addresses.",
        "Keep the pointer in its own 8-byte slot, and read it back whole.",
    ),
    Rule(
        "invalid-context-access",
        "access to the context that its layout does not allow",
        "Each program type has a fixed context structure: listed fields only, at their width; few are writable.",
        "Use the field's own offset and size; copy the context pointer unchanged (no variable offset).",
    ),
    Rule(
        "modified-context",
        "a context pointer that was moved is dereferenced or passed on",
        "Accesses to the context are rewritten by the kernel, which needs the unmoved pointer.",
        "Add the offset in the load itself, and pass the original pointer to helpers.",
    ),
    Rule(
        "read-only-memory",
        "a write to memory that is read only here",
        "The program type, map flags or region forbid writes there.",
        "Write to a copy, or use the helper or map flag that grants write access.",
    ),
    Rule(
        "write-only-memory",
        "a read from memory that is write only here",
        "The map was created for writing only from programs.",
        "Create the map without BPF_F_WRONLY_PROG.",
    ),
    Rule(
        "special-field",
        "direct access to a special field of a map value",
        "Locks, timers, kptrs, lists and trees inside a value may be touched by their own helpers only.",
        "Use the helper for the field, and copy around it.",
    ),
    Rule(
        "arena-access",
        "an arena pointer is used in a way that is not allowed",
        "Arena addresses are translated; only casts and plain loads and stores go through.",
        "Cast with addr_space_cast, and use the arena's own kfuncs.",
    ),
    # --- register types --------------------------------------------------------------------------------------------
    Rule(
        "uninitialised-register",
        "a register is read before it was written",
        "Its contents would be whatever the kernel left there; R1 to R5 are also lost at every call.",
        "Give the variable a value on every path; keep what is needed after a call in R6 to R9 or on the stack.",
        "register-type-safety",
    ),
    Rule(
        "invalid-memory-access",
        "a value that is not a pointer is dereferenced",
        "Only pointers whose region the verifier knows may be used for loads and stores; arithmetic that it cannot"
        " follow turns a pointer into a number.",
        "Start from a pointer that the kernel gave (packet, map value, stack, context) and move it with bounded"
        " additions only; read kernel memory with bpf_probe_read_kernel.",
        "register-type-safety",
    ),
    Rule(
        "pointer-arithmetic",
        "arithmetic that is not allowed on this pointer",
        "Only adding and subtracting bounded numbers keeps a pointer inside its region.",
        "Do the arithmetic on a number and add it to the pointer last; test for NULL before moving a pointer.",
        "register-type-safety",
    ),
    Rule(
        "pointer-comparison",
        "a comparison of pointers that is not allowed",
        "Comparing pointers of different regions would disclose addresses.",
        "Compare pointers of the same region only, or with NULL.",
        "register-type-safety",
    ),
    Rule(
        "pointer-leak",
        "a kernel address would leave the program",
        "Addresses must not reach user space or memory that others can read.",
        "Store or return a number, not the pointer.",
        "register-type-safety",
    ),
    Rule(
        "frame-pointer-write",
        "the frame pointer R10 is written",
        "R10 is read only: it anchors the stack.",
        "Copy R10 to another register, and change that one.",
        "register-type-safety",
    ),
    Rule(
        "mixed-pointer-types",
        "one instruction is reached with different kinds of pointers",
        "The kernel rewrites some accesses (context, sockets), so one instruction can serve only one kind.",
        "Duplicate the access in both branches instead of merging the pointers first.",
        "register-type-safety",
    ),
    Rule(
        "untrusted-pointer",
        "a kernel object pointer that is not trusted or not of the wanted type",
        "Without a reference or RCU protection the object may be gone.",
        "Acquire a reference or take the RCU read lock, and test for NULL.",
        "register-type-safety",
    ),
    # --- calls -----------------------------------------------------------------------------------------------------
    Rule(
        "helper-argument",
        "an argument does not fit the helper",
        "Helpers trust their arguments: the verifier must know that each has the kind and size they expect.",
        "Pass a pointer of the kind that the helper documents, with a size that is known to fit.",
        "call-type-safety",
    ),
    Rule(
        "unbounded-size",
        "the size of a memory argument is not bounded",
        "A size that may be negative, zero where that is refused, or above the buffer makes the helper overrun it.",
        "Bound the size from both sides (unsigned comparison or mask) before the call.",
        "call-type-safety",
    ),
    Rule(
        "helper-not-allowed",
        "the helper is not available here",
        "Each program type may call only the helpers that make sense in its context.",
        "Use a helper of this program type, or move the work to a program type that has it.",
        "call-type-safety",
    ),
    Rule(
        "unknown-helper",
        "a helper number that this kernel does not know",
        "The kernel is older than the helper, or the number is wrong.",
        "Load on a newer kernel, or do without the helper.",
        "call-type-safety",
    ),
    Rule(
        "helper-map-type",
        "the helper does not work with this map type",
        "Each map type has its own set of helpers.",
        "Use the helper that belongs to the map type, or another map type.",
        "call-type-safety",
    ),
    Rule(
        "kfunc-not-allowed",
        "the kernel function cannot be called here",
        "Kernel functions are opened per program type, flags and kernel version.",
        "Check that the running kernel has the function for this program type (metadata functions need a program"
        " bound to a device).",
        "call-type-safety",
    ),
    Rule(
        "kfunc-argument",
        "an argument does not fit the kernel function",
        "Kernel functions take typed, trusted pointers.",
        "Pass the object that the function's BTF prototype names.",
        "call-type-safety",
    ),
    Rule(
        "global-function-argument",
        "an argument does not fit a global function, or its prototype cannot be checked",
        "Global functions are verified by themselves, from their BTF prototype alone.",
        "Make the function static, or give its arguments types that BTF can describe (numbers, the context, pointers"
        " to fixed-size memory).",
        "call-type-safety",
    ),
    Rule(
        "return-value",
        "the return value is not within what the program type allows",
        "The kernel acts on the value, so it must be one of the documented verdicts.",
        "Return a constant verdict, or bound the value before returning it.",
        "call-type-safety",
    ),
    Rule(
        "callback",
        "a callback is used in a way that is not allowed",
        "Callbacks run inside a helper: their arguments, result and effects are limited.",
        "Return 0 or 1 from the callback, and do nothing there that the helper forbids.",
        "call-type-safety",
    ),
    Rule(
        "btf-mismatch",
        "BTF, function info or line info does not fit the program",
        "The kernel checks the types it uses for calls and messages.",
        "Rebuild the object so that BTF and instructions come from one compilation.",
        "call-type-safety",
    ),
    # --- resources -------------------------------------------------------------------------------------------------
    Rule(
        "reference-leak",
        "an acquired reference is not released on every path",
        "An object or record that is never released is lost for the whole system.",
        "Release (or submit, or discard) it on every path, early returns included.",
        "resource-lifetime",
    ),
    Rule(
        "reference-misuse",
        "a release without a matching reference",
        "Releasing twice, or what was never acquired, would free what is still in use.",
        "Release exactly what the acquiring call returned, once.",
        "resource-lifetime",
    ),
    Rule(
        "lock",
        "a lock or critical section is not used properly",
        "One lock at a time, no calls that may sleep inside, and it must be left on every path.",
        "Unlock before every exit and before calls; take no second lock.",
        "resource-lifetime",
    ),
    Rule(
        "dynptr",
        "a dynptr is used in a way that is not allowed",
        "A dynptr lives in its own stack slots, and its slices die with it.",
        "Initialise it once, do not overwrite its slots, and take slices anew after a change.",
        "resource-lifetime",
    ),
    Rule(
        "iterator",
        "an iterator is used in a way that is not allowed",
        "Iterators must be created, advanced and destroyed in order, in their own stack slots.",
        "Create it before the loop, test the result of next for NULL, and destroy it on every path.",
        "resource-lifetime",
    ),
    Rule(
        "execution-context",
        "the operation is not allowed in this execution context",
        "Sleeping, preemption, RCU and interrupt state limit what may be called.",
        "Leave the critical section first, or use a sleepable program.",
        "execution-context",
    ),
    # --- structure -------------------------------------------------------------------------------------------------
    Rule(
        "unreachable-code",
        "instructions that nothing reaches",
        "Dead code hides what a program does, so the kernel refuses it before looking further.",
        "Remove the instructions, or fix the jump that should lead there.",
        "program-structure",
    ),
    Rule(
        "jump-out-of-range",
        "a jump leads outside its function",
        "Control must stay inside the function, and never enter the middle of a wide load.",
        "Correct the jump's distance.",
        "program-structure",
    ),
    Rule(
        "fall-through",
        "a function does not end with exit or a jump",
        "Execution would run into whatever follows.",
        "End every function with exit (or a jump back).",
        "program-structure",
    ),
    Rule(
        "back-edge",
        "a loop where this kernel or user may have none",
        "Kernels before 5.3, and unprivileged users, may load programs without loops only.",
        "Unroll the loop, or load with CAP_BPF on a newer kernel.",
        "program-structure",
    ),
    Rule(
        "infinite-loop",
        "a loop makes no progress",
        "The state at the loop's head is the same as before, so it would never end.",
        "Change a variable in each round and compare it with a bound that is a constant or is bounded.",
        "program-structure",
    ),
    Rule(
        "unknown-opcode",
        "bytes that are no instruction",
        "The kernel (or the chosen version) does not know this operation.",
        "Build for an older instruction set (`--mcpu v3`, or v2 before 5.12), or load on a newer kernel.",
        "program-structure",
    ),
    Rule(
        "reserved-field",
        "a field that must be zero is set",
        "Reserved fields are kept for new instructions; on older kernels this is also how newer instructions show.",
        "Set the field to zero; for CPU v4 instructions (signed division, sign-extending moves) choose an older"
        " instruction set or a kernel from 6.6 on.",
        "program-structure",
    ),
    Rule(
        "invalid-immediate",
        "an operand that the operation does not allow",
        "Division by the constant zero and shifts by the width or more have no meaning.",
        "Correct the constant.",
        "program-structure",
    ),
    Rule(
        "invalid-register",
        "a register number above R10",
        "There are eleven registers, R0 to R10.",
        "Correct the encoding.",
        "program-structure",
    ),
    Rule(
        "invalid-wide-load",
        "a wide load whose halves or reference do not fit",
        "A wide load takes two slots, and a reference must name an open map, function or variable.",
        "Encode both slots, and load through a loader that fills in the references.",
        "program-structure",
    ),
    Rule(
        "invalid-call",
        "a call that does not lead to a function",
        "A local call must go to the first instruction of a function of the same program.",
        "Correct the call's target.",
        "program-structure",
    ),
    Rule(
        "invalid-map",
        "the map cannot be used by this program",
        "Some maps fit only some program types, or need features that are absent.",
        "Choose another map type for this program.",
        "program-structure",
    ),
    Rule(
        "not-in-kernel",
        "something that came with a later kernel",
        "Program types, attach types and maps are added to the kernel from version to version; an older one refuses"
        " what it does not know before it looks at the program.",
        "Use what this kernel has, or ask for a newer one: `ebpfkit verify --kernel all` names the oldest.",
        "program-structure",
    ),
    Rule(
        "empty-program",
        "a program without instructions",
        "There is nothing to run.",
        "Write at least `r0 = 0; exit`.",
        "program-structure",
    ),
    Rule(
        "attach-target",
        "the program's attach target does not fit",
        "Tracing, LSM and extension programs are checked against the function they attach to.",
        "Name a function that exists in the target's BTF and allows it.",
        "program-structure",
    ),
    # --- policy ----------------------------------------------------------------------------------------------------
    Rule(
        "missing-licence",
        "a GPL-only function in a program without a compatible licence",
        "The kernel opens some helpers only to programs under a GPL-compatible licence.",
        'Declare one (`LICENSE = "Dual MIT/GPL"` or "GPL") if it is true, or do without the helper.',
        "policy",
    ),
    Rule(
        "unprivileged",
        "only privileged users may do this",
        "Unprivileged programs are held to stricter rules.",
        "Load with CAP_BPF (and CAP_NET_ADMIN or CAP_PERFMON for the program type).",
        "policy",
    ),
    # --- limits ----------------------------------------------------------------------------------------------------
    Rule(
        "too-complex",
        "more work for the verifier than its limit allows",
        "The verifier walks at most 1,000,000 instructions and keeps at most 8,192 open branches.",
        "Give loops smaller bounds, use bpf_loop or an iterator for long ones, split the program with tail calls or"
        " global functions.",
        "verifier-limit",
    ),
    Rule(
        "too-large",
        "too many instructions",
        "A program has at most 1,000,000 instructions (4,096 for unprivileged users and before 5.2).",
        "Split the program with tail calls, or unroll less.",
        "verifier-limit",
    ),
    Rule(
        "stack-depth",
        "the call chain needs more than 512 bytes of stack",
        "All frames of a call chain share 512 bytes (each is rounded up to 16).",
        "Put large locals into a per-CPU array map, or call fewer functions deep.",
        "verifier-limit",
    ),
    Rule(
        "call-depth",
        "more than eight nested calls",
        "At most eight frames may be open; recursion counts as too deep.",
        "Inline some functions, or use tail calls.",
        "verifier-limit",
    ),
    Rule(
        "too-many-functions",
        "more than 256 functions",
        "The kernel keeps at most 256 functions for a program.",
        "Inline small functions.",
        "verifier-limit",
    ),
    Rule(
        "too-many-maps",
        "more than 64 maps",
        "The kernel keeps at most 64 maps for a program.",
        "Merge maps, or use maps of maps.",
        "verifier-limit",
    ),
    Rule(
        "value-out-of-range",
        "a number too large to be followed",
        "Offsets are followed within 2^29 only.",
        "Bound the value before adding it to a pointer.",
        "verifier-limit",
    ),
    # --- no verdict ------------------------------------------------------------------------------------------------
    Rule(
        "not-modelled",
        "ebpfkit does not model this feature",
        "No verdict is given about what is not modelled.",
        "Load on the target kernel to learn its verdict.",
        "unsupported",
    ),
    Rule(
        "verifier-bug",
        "the kernel's verifier reports an error of its own",
        "An internal check of the verifier failed; the program is refused to be safe.",
        "Report the program to the kernel's developers, and try another kernel version.",
        "unsupported",
    ),
    Rule(
        "other",
        "a rejection that ebpfkit has no rule for",
        "The kernel's text is all that is known.",
        "Read the kernel's message above.",
        "unsupported",
    ),
)

RULES: Mapping[str, Rule] = MappingProxyType({row.id: row for row in _ROWS})
"""Every rule by its identifier, in the order of the documentation."""

if len(RULES) != len(_ROWS):
    raise AssertionError("two rules share an identifier")
