"""`match`: what each pattern tests, what it binds, and what is known of the subject where it fits.

Belongs here: patterns over integers, enumerations, truth values, None, tuples and structures. Which structure a view
is, is known at compile time: a class pattern decides there, its fields are compared when the program runs.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from ebpfkit.compiler.ir import Imm
from ebpfkit.compiler.loops import Loops
from ebpfkit.compiler.state import Known, State
from ebpfkit.compiler.values import (
    Bytes,
    Const,
    OptionalScalar,
    OptionalView,
    Scalar,
    Tuple,
    Value,
    View,
    describe,
)
from ebpfkit.dsl.typeinfo import StructType

__all__ = ["Matching"]


@dataclass(slots=True)
class _Case:
    """One case being lowered: where a pattern that does not fit goes, and the names of one that does."""

    miss: str
    missed: list[State | None] = field(default_factory=list)
    captures: list[tuple[str, Value, ast.pattern]] = field(default_factory=list)


class Matching(Loops):
    """Execution of `match`."""

    def _do_Match(self, node: ast.Match) -> None:
        subject = self.expr(node.subject)
        name = self.name_of(node.subject)
        end = self.builder.label("endmatch")
        ends: list[State | None] = []
        for case in node.cases:
            if self.state is None:
                break
            one = _Case(self.builder.label("nextcase"))
            self.pattern(subject, case.pattern, one)
            self._enter_case(subject, name, case, one)
            if self.state is not None:
                self.block(case.body)
                if self.state is not None:
                    ends.append(self.state)
                    self.go(end)
            self.enter(one.miss, one.missed)
            if case.guard is None and _is_none(case.pattern) and isinstance(subject, (OptionalView, OptionalScalar)):
                subject = _present(subject)  # the cases below know that there is something
                self.know(self.state, name, Known.PRESENT)
        if self.state is not None:
            ends.append(self.state)
            self.go(end)
        self.enter(end, ends)

    def _enter_case(self, subject: Value, name: str | None, case: ast.match_case, one: _Case) -> None:
        """A pattern fits: bind its names, and test the guard."""
        if self.state is None:
            return
        if isinstance(subject, (OptionalView, OptionalScalar)) and not _takes_anything(case.pattern):
            self.know(self.state, name, Known.ABSENT if _is_none(case.pattern) else Known.PRESENT)
        for captured, value, where in one.captures:
            self.bind(captured, value, where)
        if case.guard is not None:
            inside = self.builder.label("guarded")
            true, false = self.branch(case.guard, inside, one.miss)
            one.missed.append(false)
            self.enter(inside, [true])

    def pattern(self, subject: Value, pattern: ast.pattern, one: _Case) -> None:
        """Test a pattern: go on where it fits, leave for `one.miss` where it does not."""
        if self.state is None:
            return
        with self.at(pattern):
            match pattern:
                case ast.MatchAs(pattern=inner, name=name):
                    if inner is not None:
                        self.pattern(subject, inner, one)
                        subject = _present(subject) if not _takes_anything(inner) else subject
                    if name is not None:
                        one.captures.append((name, subject, pattern))
                case ast.MatchOr(patterns=patterns):
                    self._alternatives(subject, patterns, one)
                case ast.MatchSequence(patterns=patterns):
                    self._sequence(subject, patterns, pattern, one)
                case ast.MatchClass():
                    self._structure(subject, pattern, one)
                case ast.MatchValue(value=value):
                    held = self._needs(subject, one)
                    if self.state is not None:
                        wanted = self.expr(value)
                        self._require(self.truth(self.compare("==", held, wanted, pattern), pattern), one)
                case ast.MatchSingleton(value=value):
                    self._singleton(subject, value, one)
                case _:
                    name = type(pattern).__name__
                    message = f"the pattern {name} has no meaning here"
                    raise self.error(pattern, "unsupported-syntax", message, "match integers, tuples or structures")

    def _require(self, truth: Const | Scalar, one: _Case) -> None:
        onward = self.builder.label("fits")
        true, false = self.test(truth, onward, one.miss)
        one.missed.append(false)
        self.enter(onward, [true])

    def _needs(self, subject: Value, one: _Case) -> Value:
        """What an optional subject holds; without anything no value fits."""
        if isinstance(subject, (OptionalView, OptionalScalar)):
            self._require(self._is_there(subject), one)
        return _present(subject)

    def _is_there(self, subject: OptionalView | OptionalScalar) -> Scalar:
        pointer = subject.view.pointer if isinstance(subject, OptionalView) else subject.pointer
        return self.boolean(self.builder.compare("ne", pointer, self.null()))

    def _alternatives(self, subject: Value, patterns: list[ast.pattern], one: _Case) -> None:
        """`a | b`: each in turn, the next where one does not fit."""
        found = self.builder.label("either")
        fits: list[State | None] = []
        for number, alternative in enumerate(patterns):
            last = number == len(patterns) - 1
            attempt = _Case(one.miss if last else self.builder.label("or"))
            self.pattern(subject, alternative, attempt)
            if attempt.captures:
                where = attempt.captures[0][2]
                raise self.error(where, "unsupported-syntax", "a name inside an or-pattern", "name the whole pattern")
            if self.state is not None:
                fits.append(self.state)
                self.go(found)
            if last:
                one.missed += attempt.missed
                break
            self.enter(attempt.miss, attempt.missed)
            if self.state is None:
                break
        self.enter(found, fits)

    def _sequence(self, subject: Value, patterns: list[ast.pattern], pattern: ast.pattern, one: _Case) -> None:
        """`(a, b)`: a tuple of that length, element by element."""
        starred = next((p for p in patterns if isinstance(p, ast.MatchStar)), None)
        if starred is not None:
            raise self.error(starred, "unsupported-syntax", "* in a pattern makes a list", "name every element")
        if isinstance(subject, Const) and isinstance(subject.value, tuple):
            subject = Tuple(tuple(Const(item) for item in subject.value))
        if not isinstance(subject, Tuple):
            raise self.error(pattern, "bad-type", f"{describe(subject)} is no tuple", "match a, b: with case (1, 2):")
        if len(patterns) != len(subject.items):
            self._require(Const(False), one)
            return
        for item, inner in zip(subject.items, patterns, strict=True):
            self.pattern(item, inner, one)

    def _structure(self, subject: Value, pattern: ast.MatchClass, one: _Case) -> None:
        """`IPv4(protocol=6)`: a view of that structure, or of one derived from it, whose fields fit."""
        wanted = self.expr(pattern.cls)
        cls = wanted.value if isinstance(wanted, Const) else None
        if not isinstance(cls, type) or not isinstance(getattr(cls, "__ebpf_type__", None), StructType):
            raise self.error(
                pattern.cls, "bad-type", f"{describe(wanted)} is no structure of the language", "match integers"
            )
        if pattern.patterns:
            raise self.error(
                pattern.patterns[0], "bad-call", f"the fields of {cls.__name__} have no order", "write field=pattern"
            )
        held = self._needs(subject, one)
        if self.state is None:
            return
        if isinstance(held, (Scalar, Bytes)):
            raise self.error(pattern, "bad-type", f"{describe(held)} is never a {cls.__name__}")
        self._require(Const(isinstance(held, View) and issubclass(held.cls or object, cls)), one)
        for name, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
            if self.state is not None:
                place = ast.copy_location(ast.Attribute(pattern.cls, name, ast.Load()), inner)
                self.pattern(self.attribute(held, place), inner, one)

    def _singleton(self, subject: Value, value: object, one: _Case) -> None:
        """`None`, `True` and `False`, which Python compares by identity."""
        if isinstance(subject, (OptionalView, OptionalScalar)):
            if value is not None:
                subject = self._needs(subject, one)
            else:
                there = self._is_there(subject)
                self._require(self.boolean(self.builder.binary("xor", there.op, Imm(1, "i1"))), one)
                return
        if isinstance(subject, Const):
            self._require(Const(subject.value is value), one)
        elif isinstance(subject, Scalar) and subject.type.is_bool and value is not None:
            turned = subject if value else self.boolean(self.builder.binary("xor", subject.op, Imm(1, "i1")))
            self._require(turned, one)
        else:
            self._require(Const(False), one)


def _present(subject: Value) -> Value:
    """What an optional value holds where it is there."""
    if isinstance(subject, OptionalView):
        return subject.view
    return subject.scalar if isinstance(subject, OptionalScalar) else subject


def _is_none(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchSingleton) and pattern.value is None


def _takes_anything(pattern: ast.pattern) -> bool:
    """Whether a pattern may fit None too."""
    if isinstance(pattern, ast.MatchAs):
        return pattern.pattern is None or _takes_anything(pattern.pattern)
    if isinstance(pattern, ast.MatchOr):
        return any(_takes_anything(inner) or _is_none(inner) for inner in pattern.patterns)
    return False
