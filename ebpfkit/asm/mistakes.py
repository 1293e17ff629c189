"""What people write that is no instruction, and the legal form nearest to it, in the words of their own line.

Only lines that the grammar has refused come here; the grammar is `statement`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["nearest_form"]

_R = r"(?P<d>[rw]\d+)"
_S = r"(?P<s>[rw]\d+)"
_VALUE = r"(?P<v>[rw]\d+|-?\w+)"
_SIZES = {
    "char": "u8", "short": "u16", "int": "u32", "long": "u64", "u24": "u32", "uint8_t": "u8", "uint16_t": "u16",
    "uint32_t": "u32", "uint64_t": "u64", "__u8": "u8", "__u16": "u16", "__u32": "u32", "__u64": "u64",
}  # fmt: skip

_Forms = Callable[[re.Match[str]], str]


def _two_steps(found: re.Match[str]) -> str:
    d, s, op, value = found["d"], found["s"], found["op"], found["v"]
    return f"`{d} {op}= {value}`" if d == s else f"`{d} = {d[0]}{s[1:]}`, then `{d} {op}= {value}`"


def _mask(found: re.Match[str]) -> str:
    d, s, bits = found["d"], found["s"], int(found["bits"])
    if bits == 32:
        return f"`w{d[1:]} = w{s[1:]}`, which clears the upper half"
    return f"`{d} = {s}`, then `{d} &= {(1 << bits) - 1:#x}`"


def _swap(found: re.Match[str]) -> str:
    return f"`{found['d']} = be{'16' if found['w'] == 's' else '32'} {found['d']}`"


def _size_in_bits(name: str) -> str:
    return f"the size in bits, here `{_SIZES[name]}`" if name in _SIZES else ""


def _condition(found: re.Match[str]) -> str:
    if found["a"] in ("j", "jmp"):
        return f"`goto {found['rest']}` or `ja {found['rest']}`"
    word = {"jz": "jeq", "je": "jeq", "jnz": "jne"}[found["a"]]
    register, _, target = found["rest"].partition(",")
    return f"`{word} {register.strip()}, 0, {target.strip() or '+3'}`"


_TABLE: tuple[tuple[str, str | _Forms], ...] = (
    (rf"{_R} = {_S} (?P<op><<|>>|[-+*/%&|^]) {_VALUE}$", _two_steps),
    (rf"{_R} == {_VALUE}$", "`{d} = {v}`, or `if {d} == {v} goto label`"),
    (rf"{_R} := (?P<v>.+)$", "`{d} = {v}`"),
    (rf"{_R} \+\+$", "`{d} += 1`"),
    (rf"{_R} --$", "`{d} -= 1`"),
    (rf"{_R} = ~ {_S}$", "`{d} = {s}`, then `{d} ^= -1`"),
    (rf"{_R} = ! {_S}$", "a jump: there is no such operation, as `if {s} == 0 goto label`"),
    (r"r(?P<d>\d+) = w(?P<s>\d+)$", "`w{d} = w{s}`, which clears the upper half of r{d}"),
    (r"w(?P<d>\d+) = r(?P<s>\d+)$", "`w{d} = w{s}`"),
    (r"w(?P<d>\d+) = (?P<m>\* \( u64 \* \) .*)$", "`r{d} = {m}`"),
    (rf"{_R} = \( u(?P<bits>8|16|32) \) {_S}$", _mask),
    (rf"{_R} = s(?P<bits>8|16|32) {_S}$", "`{d} = (s{bits}){s}`"),
    (rf"{_R} = (?:__builtin_)?(?:bpf_)?(?:hton|ntoh)(?P<w>[sl]) \( {_S} \)$", _swap),
    (rf"{_R} = & ?(?P<n>[A-Za-z_]\w*)$", "`{d} = map[{n}] ll`, or `{d} = {n} ll` in LLVM's files"),
    (rf"{_R} = (?P<n>(?![su](?:8|16|32|64)\b)[A-Za-z_]\w*)$", "`{d} = map[{n}] ll` for a map"),
    (rf"{_R} = '(?P<c>[^'\\])'$", lambda found: f"`{found['d']} = {ord(found['c'])}`"),
    (rf"{_R} (?P<op><<|>>|[-+*/%&|^]) = (?P<m>\* \(.*)$", "a load first: `r0 = {m}`, then `{d} {op}= r0`"),
    (r"(?P<m>\* \( u(?:32|64) \* \) \( [^)]*\)) (?P<op>[+&|^]) = (?P<s>[rw]\d+)$",
     "`lock {m} {op}= {s}`, or load, change and store"),
    (r"(?P<m>\* \(.*\)) (?P<op><<|>>|[-+*/%&|^]) = (?P<v>.+)$", "three steps: load, change and store"),
    (r".*\* \( (?P<n>(?:unsigned )?[A-Za-z_]\w*) \* \).*$",
     lambda found: _size_in_bits(found["n"].split()[-1])),
    (r".*\* \( [us]\d+ \* \) \( (?P<b>r\d+) \+ (?P<i>r\d+) \).*$",
     "`{b} += {i}` first: memory is at a register and a number"),
    (r".*\* \( (?P<z>[us]\d+) \* \) (?P<b>r\d+)$", "`*({z} *)({b} +0)`"),
    (r"\* (?P<b>r\d+) = (?P<v>.+)$", "the size, as `*(u64 *)({b} +0) = {v}`"),
    (r"lock (?P<d>r\d+) (?P<op>[+&|^]) = (?P<s>[rw]\d+)$", "`lock *(u64 *)({d} +0) {op}= {s}`: atomics work on memory"),
    (r"if \( (?P<c>.*) \) goto (?P<t>.*)$", "`if {c} goto {t}`"),
    (r"if (?P<c>.*?) (?:then|jmp|jump|go to) (?P<t>\S+)$", "`if {c} goto {t}`"),
    (rf"if {_R} & (?P<v>\w+) == 0 goto (?P<t>\S+)$",
     "`if {d} & {v} goto ...`, which jumps when a bit is set, around `goto {t}`"),
    (rf"if {_R} & (?P<v>\w+) != 0 goto (?P<t>\S+)$", "`if {d} & {v} goto {t}`"),
    (rf"if {_R} (?P<o>=>|=<|<>) (?P<rest>.*)$",
     lambda found: f"`if {found['d']} {dict(zip(('=>', '=<', '<>'), ('>=', '<=', '!='), strict=True))[found['o']]} "
     f"{found['rest']}`"),
    (r"call (?P<n>\w+) \(.*\)$", "`call {n}`; arguments are in r1 to r5"),
    (r"(?:return|ret|exit) (?P<v>[rw]?-?\w+)$",
     lambda found: "`exit`: the result is in r0" if found["v"] == "r0" else f"`r0 = {found['v']}`, then `exit`"),
    (r"(?:return|ret|end|halt|leave)$", "`exit`"),
    (r"nop$", "`goto pc+0`"),
    (r"-- (?:asm|mem|result|raw|error|no|c)\b.*$",
     "the lines below `-- asm` alone: the rest of a test file is no assembly"),
    (r"(?:push|pop) .*$", "a store to the stack, as `*(u64 *)(r10 -8) = r1`, or a load from there"),
    (r"(?P<a>j|jmp|jz|je|jnz) (?P<rest>.+)$", _condition),
    (r"mov(?:64|32)? (?P<d>%?r\d+) , (?P<m>\[.*\])$", "`ldxdw {d}, {m}`, or ldxw, ldxh, ldxb for 4, 2, 1 bytes"),
    (r"stx(?P<z>dw|w|h|b) (?P<m>\[.*\]) , (?P<v>-?\w+)$", "`st{z} {m}, {v}`"),
    (r"st(?P<z>dw|w|h|b) (?P<m>\[.*\]) , (?P<v>%?r\d+)$", "`stx{z} {m}, {v}`"),
    (r"st(?P<z>x?(?:dw|w|h|b)) (?P<v>[^\[]*) , (?P<m>\[.*\])$", "`st{z} {m}, {v}`: memory stands first"),
    (r"(?P<w>ldx\w+) (?P<d>%?r\d+) , \[ (?P<b>%?r\d+) , (?P<o>-?\w+) \]$", "`{w} {d}, [{b}+{o}]`"),
    (r"(?P<w>[a-z]\w*) (?P<d>%?r\d+) , (?P<s>%?r\d+) , (?P<t>%?r\d+|-?\w+)$",
     "`mov {d}, {s}`, then `{w} {d}, {t}`: the first operand is changed"),
    (r"(?P<a>[a-z]\w*) (?P<d>%?r\d+) (?P<s>%?r\d+|-?\w+)$", "`{a} {d}, {s}`"),
    (r"lock (?P<a>inc|dec) (?P<m>\[.*\])$", "`lock add {m}, %r1` with the amount in the register"),
    (r"\.(?:long|short|byte|quad|word|ascii|asciz|zero) .*$",
     "data in a section: begin the text with `.text`, the data with `.data` or `.section`"),
)  # fmt: skip
_PATTERNS = tuple((re.compile(pattern, re.ASCII), form) for pattern, form in _TABLE)
_TOKEN = re.compile(r"<<|>>|\+\+|--|:=|==|!=|=>|=<|<=|>=|<>|[A-Za-z_.%]?[\w.]+|'.'|-?\w+|\S", re.ASCII)
_MAX_LENGTH = 200


def nearest_form(text: str) -> str | None:
    """What to write instead of a line that is no instruction; None when nothing is known of it."""
    if len(text) > _MAX_LENGTH:
        return None
    spaced = " ".join(_TOKEN.findall(text))
    for pattern, form in _PATTERNS:
        found = pattern.match(spaced)
        written = "" if not found else form(found) if callable(form) else form.format(**found.groupdict())
        if written:
            return _closed_up(written)
    return None


def _closed_up(text: str) -> str:
    """Operands without the spaces that tokens were separated by."""
    text = re.sub(r"\* \( ([us]\d+) \* \) \( (r\d+) ([-+]) ?(\w+) \)", r"*(\1 *)(\2 \3\4)", text)
    text = re.sub(r"\* \( ([us]\d+) \* \) \( (r\d+) \)", r"*(\1 *)(\2)", text)
    text = re.sub(r"([ `][+-]) (\d)", r"\1\2", text)
    return re.sub(r"\[ ?(%?r\d+)(?: ?([-+]) ?(\w+))? ?\]", lambda m: f"[{m[1]}{m[2] or ''}{m[3] or ''}]", text)
