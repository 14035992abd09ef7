"""Linear form of regular expressions, and the steps of a match. CPython's `re` gives neither.

Both read the tree that `re` itself compiles. `faults` knows four forms that are slow on some text:

- a repeat that can give a character back to what follows it, where that takes the same character: `a*a`, `(a+)*`;
- a repeat of alternatives that begin with the same character: `(?:a|b|ab)*`;
- a search whose attempts pass over the same characters again and again: `\\w+:` in a long word without a colon;
- a reference to a group.

`steps` counts the nodes that are tried by a backtracking matcher, as that of `re` is one, without its shortcuts.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

LIMIT = 20_000  # steps
DEEP = 10_000  # calls inside each other
SHORT = 300  # repeats up to so many characters cost a fixed number of steps
ALPHABET = frozenset(map(chr, range(256))) | frozenset("→…中٣\u2028\u3000\ud800😀")

Node = tuple[Any, Any]
Chars = frozenset[str]

SINGLE = {_constants.LITERAL, _constants.NOT_LITERAL, _constants.IN, _constants.ANY}
ZERO_WIDTH = {_constants.AT, _constants.ASSERT, _constants.ASSERT_NOT}
REPEATS = {_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT}


class Form:
    """A pattern, taken apart."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        source = pattern.pattern
        self.is_bytes = isinstance(source, bytes)
        self.tree = _parser.parse(source, pattern.flags & ~re.UNICODE if self.is_bytes else pattern.flags)
        self.flags = self.tree.state.flags
        self._chars: dict[str, Chars] = {}

    def chars(self, node: Node) -> Chars:
        """The characters of the alphabet that a node of one character takes."""
        key = repr(node)
        if key not in self._chars:
            compiled = _compiler.compile(_parser.SubPattern(self.tree.state, [node]), self.flags)
            self._chars[key] = frozenset(char for char in ALPHABET if self._takes(compiled, char))
        return self._chars[key]

    def _takes(self, compiled: re.Pattern[Any], char: str) -> bool:
        if not self.is_bytes:
            return compiled.fullmatch(char) is not None
        return ord(char) < 256 and compiled.fullmatch(char.encode("latin-1")) is not None

    # Sets

    def nullable(self, nodes: Sequence[Node]) -> bool:
        return all(self._node_nullable(node) for node in nodes)

    def _node_nullable(self, node: Node) -> bool:
        kind, value = node
        if kind in SINGLE:
            return False
        if kind in ZERO_WIDTH:
            return True
        if kind in REPEATS:
            return value[0] == 0 or self.nullable(value[2])
        return any(self.nullable(inside) for inside in parts(node))

    def first(self, nodes: Iterable[Node]) -> Chars:
        """The characters that a sequence's text may begin with."""
        found: Chars = frozenset()
        for node in nodes:
            found |= self._node_chars(node, self.first)
            if not self._node_nullable(node):
                break
        return found

    def all(self, nodes: Iterable[Node]) -> Chars:
        """The characters that a sequence's text may hold."""
        return frozenset().union(*(self._node_chars(node, self.all) for node in nodes))

    def _node_chars(self, node: Node, of: Callable[[Iterable[Node]], Chars]) -> Chars:
        if node[0] in SINGLE:
            return self.chars(node)
        return frozenset() if node[0] in ZERO_WIDTH else frozenset().union(*map(of, parts(node)))

    # Faults

    def faults(self, *, searched: bool) -> list[str]:
        return [*self._giving_back(self.tree, frozenset()), *(self._starting_over() if searched else ())]

    def _giving_back(self, nodes: Sequence[Node], follow: Chars) -> Iterator[str]:
        """Repeats that can give back what the rest takes as well. `follow`: what comes after the sequence."""
        for at, node in enumerate(nodes):
            kind, value = node
            rest = list(nodes[at + 1 :])
            after = self.first(rest) | (follow if self.nullable(rest) else frozenset())
            if kind in {_constants.GROUPREF, _constants.GROUPREF_EXISTS}:
                yield "refers to a group"
            elif kind in REPEATS:
                _, most, inside = value
                kept = kind is _constants.POSSESSIVE_REPEAT
                same = self.first(inside) & after
                if not kept and most > SHORT and same:
                    yield f"a repeat that may end before any of {shown(same)}, and go on with it"
                if most > 1:
                    after = self.first(inside) | (frozenset() if kept else after)
                if not kept and most > SHORT:
                    yield from self._choices(inside)
                yield from self._giving_back(inside, after if most > 1 or not kept else frozenset())
            elif kind is _constants.ATOMIC_GROUP:
                yield from self._giving_back(value, frozenset())
            elif kind in {_constants.ASSERT, _constants.ASSERT_NOT}:
                yield from self._giving_back(value[1], frozenset())
            elif kind not in SINGLE and kind not in ZERO_WIDTH:
                for inside in parts(node):
                    yield from self._giving_back(inside, after)

    def _choices(self, nodes: Sequence[Node]) -> Iterator[str]:
        """Alternatives that can both be taken, each time anew."""
        for node in every(nodes):
            seen: Chars = frozenset()
            for inside in parts(node) if node[0] is _constants.BRANCH else []:
                if same := self.first(inside) & seen:
                    yield f"a repeat of alternatives that begin with {shown(same)}"
                seen |= self.first(inside)

    def _starting_over(self) -> Iterator[str]:
        """Long repeats that an attempt can pass over in vain, from every character of what they take."""
        for path in alternatives(list(self.tree)):
            for at, node in enumerate(path):
                if node[0] not in REPEATS or node[1][1] <= SHORT:
                    continue
                taken, before, rest = self.all(node[1][2]), path[:at], path[at + 1 :]
                if self._cannot_fail(node, rest) or self._shut_out(before, taken):
                    continue
                if begins := self.first([*before, node]) & taken - self._guarded(path):
                    yield f"a search that begins anew at each of {shown(begins)} and passes over the same"

    def _cannot_fail(self, node: Node, rest: Sequence[Node]) -> bool:
        """Nothing has to follow; or all that must not is something else than the repeat takes: one given back is it."""
        if not rest:
            return True
        ahead = rest[0]
        if len(rest) == 1 and ahead[0] is _constants.ASSERT_NOT and ahead[1][0] == 1:
            return not self.first(ahead[1][1]) & self.all(node[1][2])
        return self.nullable(rest) and not any(node[0] in ZERO_WIDTH for node in rest)

    def _shut_out(self, before: Sequence[Node], taken: Chars) -> bool:
        """Something has to stand in front that the repeat does not take, so no attempt begins within it."""
        return any(not self._node_nullable(node) and not self._node_chars(node, self.all) & taken for node in before)

    def _guarded(self, path: Sequence[Node]) -> Chars:
        """The characters that must not stand before the match: no attempt begins behind them."""
        kind, value = path[0]
        if kind is _constants.AT and value is _constants.AT_BEGINNING_STRING:
            return ALPHABET
        return self.all(value[1]) if kind is _constants.ASSERT_NOT and value[0] == -1 else frozenset()


def parts(node: Node) -> list[Sequence[Node]]:
    """The sequences within a node."""
    kind, value = node
    if kind is _constants.SUBPATTERN:
        return [value[3]]
    if kind is _constants.BRANCH:
        return list(value[1])
    if kind in REPEATS:
        return [value[2]]
    if kind is _constants.ATOMIC_GROUP:
        return [value]
    if kind in {_constants.GROUPREF}:
        return [[]]
    raise NotImplementedError(kind)


def alternatives(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """The sequence with groups opened, once for each branch; repeats of more than one stay as they are."""
    for at, node in enumerate(nodes):
        kind, value = node
        once = kind in REPEATS and value[1] == 1
        if kind in {_constants.SUBPATTERN, _constants.BRANCH, _constants.ATOMIC_GROUP} or once:
            for inside in [*parts(node), *([[]] if once and value[0] == 0 else [])]:
                yield from alternatives([*nodes[:at], *inside, *nodes[at + 1 :]])
            return
    yield list(nodes)


def shown(chars: Chars) -> str:
    return "".join(sorted(chars))[:8].encode("unicode_escape").decode()


# Steps


class TooMany(Exception):
    """More steps than were allowed."""


class Matcher:
    """A backtracking matcher that counts the nodes it tries."""

    def __init__(self, form: Form, text: str, limit: int) -> None:
        self.form, self.text, self.limit, self.steps = form, text, limit, 0

    def find_all(self) -> int:
        """The steps of a search for all matches."""
        at = 0
        while at <= len(self.text):
            end = self.match(list(self.form.tree), at, lambda end: end)
            at = at + 1 if end is None or end == at else end
        return self.steps

    def match(self, nodes: Sequence[Node], at: int, then: Callable[[int], int | None]) -> int | None:
        if not nodes:
            return then(at)
        self.steps += 1
        if self.steps > self.limit:
            raise TooMany
        (kind, value), rest = nodes[0], nodes[1:]
        if kind in SINGLE:
            if at < len(self.text) and self.text[at] in self.form.chars(nodes[0]):
                return self.match(rest, at + 1, then)
            return None
        if kind is _constants.AT:
            return self.match(rest, at, then) if self._at(value, at) else None
        if kind in {_constants.ASSERT, _constants.ASSERT_NOT}:
            found = self._lookaround(value, at)
            return self.match(rest, at, then) if found is (kind is _constants.ASSERT) else None
        if kind is _constants.ATOMIC_GROUP:
            end = self.match(list(value), at, lambda end: end)
            return None if end is None else self.match(rest, end, then)
        if kind is _constants.POSSESSIVE_REPEAT:
            end = self._repeat(_constants.MAX_REPEAT, value, at, 0, lambda end: end)
            return None if end is None else self.match(rest, end, then)
        if kind in REPEATS:
            return self._repeat(kind, value, at, 0, lambda end: self.match(rest, end, then))
        for inside in parts(nodes[0]):
            if (end := self.match([*inside, *rest], at, then)) is not None:
                return end
        return None

    def _repeat(self, kind: Any, value: Any, at: int, count: int, then: Callable[[int], int | None]) -> int | None:
        least, most, inside = value

        def more() -> int | None:
            if count >= most:
                return None
            return self.match(
                list(inside),
                at,
                lambda end: None if end == at and count >= least else self._repeat(kind, value, end, count + 1, then),
            )

        if count < least:
            return more()
        first, second = (more, lambda: then(at)) if kind is _constants.MAX_REPEAT else (lambda: then(at), more)
        return end if (end := first()) is not None else second()

    def _lookaround(self, value: Any, at: int) -> bool:
        ahead, inside = value
        starts = [at] if ahead == 1 else range(max(0, at - inside.getwidth()[1]), at - inside.getwidth()[0] + 1)
        return any(
            self.match(list(inside), start, lambda end: end if ahead == 1 or end == at else None) is not None
            for start in starts
        )

    def _at(self, where: Any, at: int) -> bool:
        if where in {_constants.AT_BOUNDARY, _constants.AT_NON_BOUNDARY}:
            word = [
                0 <= place < len(self.text) and re.match(r"\w", self.text[place]) is not None for place in (at - 1, at)
            ]
            return (word[0] != word[1]) is (where is _constants.AT_BOUNDARY)
        if where in {_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING}:
            return at == 0
        return at == len(self.text)


@cache
def form_of(pattern: re.Pattern[Any]) -> Form:
    return Form(pattern)


def faults(pattern: re.Pattern[Any], *, searched: bool) -> list[str]:
    """The parts of a pattern that make it slow on some text. searched: it is not only matched at one place."""
    return form_of(pattern).faults(searched=searched)


def steps(pattern: re.Pattern[Any], text: str, *, searched: bool, limit: int = LIMIT) -> int:
    """The number of steps that a pattern takes on a text; `limit` where it takes more."""
    matcher, usual = Matcher(form_of(pattern), text, limit), sys.getrecursionlimit()
    sys.setrecursionlimit(DEEP)  # each character of a text is some calls
    try:
        if searched:
            return matcher.find_all()
        matcher.match(list(matcher.form.tree), 0, lambda end: end if end == len(text) else None)
    except (TooMany, RecursionError):
        return limit
    finally:
        sys.setrecursionlimit(usual)
    return matcher.steps


def pumps(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """Texts to try a pattern with, out of its own alphabet: a beginning, what is repeated, and an end."""
    form = form_of(pattern)
    samples = {sample(form, inside) for inside in subsequences(form.tree)}
    pieces = sorted((sample for sample in samples if 0 < len(sample) <= 8), key=len)
    letters = sorted({min(chars) for node in singles(form.tree) if (chars := form.chars(node))})[:6]
    pairs = [a + b for a in letters[:4] for b in letters[:4] if a != b]
    for beginning in ["", *pieces[:2]]:
        for text in dict.fromkeys([*letters, *pairs, *pieces[:12]]):
            yield beginning, text, "\x00"
            yield beginning, text, ""


def is_bounded(pattern: re.Pattern[Any]) -> bool:
    """Whether no part of it is repeated without end: then an attempt takes so many steps, and no more."""
    return not any(node[0] in REPEATS and node[1][1] > SHORT for node in every(form_of(pattern).tree))


def every(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        if node[0] not in SINGLE and node[0] not in ZERO_WIDTH:
            for inside in parts(node):
                yield from every(inside)


def singles(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        if node[0] in SINGLE:
            yield node
        elif node[0] in {_constants.ASSERT, _constants.ASSERT_NOT}:
            yield from singles(node[1][1])
        elif node[0] is not _constants.AT:
            for inside in parts(node):
                yield from singles(inside)


def subsequences(nodes: Sequence[Node]) -> Iterator[Sequence[Node]]:
    """The sequence, its beginnings, and those within it."""
    for length in range(1, len(nodes) + 1):
        yield list(nodes[:length])
    for node in nodes:
        if node[0] not in SINGLE and node[0] not in ZERO_WIDTH:
            for inside in parts(node):
                yield from subsequences(inside)


def sample(form: Form, nodes: Iterable[Node]) -> str:
    """A short text that a sequence takes."""
    text = ""
    for node in nodes:
        kind, value = node
        if kind in SINGLE:
            text += min(form.chars(node) & frozenset("abcxyzABC019 _-./:@'\"`\\\n") or form.chars(node), default="")
        elif kind in REPEATS:
            text += sample(form, value[2]) * max(value[0], 1 if value[1] > SHORT else 0)
        elif kind not in ZERO_WIDTH:
            text += sample(form, (parts(node) or [[]])[0])
    return text
