"""Compilation of a pattern's JSON into its tree, in one pass that refuses anything beyond a limit before it
costs time.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from app.domain.json_keys import REASON, RepeatedKey
from app.domain.patterns.addresses import address, is_within, network
from app.domain.patterns.limits import ASKED, MAX_COMBINATIONS, MAX_DEPTH, Counted, Limits, dotted
from app.domain.patterns.operators import compile_test, exact_key
from app.domain.patterns.reading import kind, strings
from app.domain.patterns.texts import Test
from app.domain.patterns.tree import Choice, Leaf, Node, Part, Path, parted, whole
from app.errors import InvalidPattern

# EventBridge reserves these as field names inside `$or`, some of them for operators it does not have yet.
_OPERATORS: Final = frozenset(
    {"exactly", "prefix", "suffix", "equals-ignore-case", "anything-but", "exists", "wildcard", "numeric", "cidr"}
)
_COMPARISONS: Final = frozenset({"=", "<", "<=", ">", ">=", "not-wildcard", "not-equals-ignore-case", "regex"})
_RANGES: Final = frozenset({"date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range"})
_ADDRESSES: Final = frozenset({"ip-address-in-range", "ip-address-not-in-range"})
RESERVED: Final = _OPERATORS | _COMPARISONS | _RANGES | _ADDRESSES


@dataclass(slots=True)
class _Object:
    """An object of the pattern while it is read: dotted names put several members into one."""

    fields: dict[str, "_Field"] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)


@dataclass(slots=True)
class _Field:
    leaf: Leaf | None = None
    below: _Object | None = None


def compile_tree(source: dict[str, object], limits: Limits = ASKED) -> Node:
    """The tree of the whole pattern. Raises InvalidPattern with the path of the fault."""
    root = _Reader(Counted(limits)).node(source, (), in_or=False)
    _check_combinations(root, ())
    return root


@dataclass(slots=True)
class _Reader:
    counted: Counted

    def node(self, value: dict[str, object], path: Path, *, in_or: bool) -> Node:
        made = _Object()
        self._read(value, made, path, in_or=in_or)
        return _frozen(made, path)

    def _read(self, value: dict[str, object], into: _Object, path: Path, *, in_or: bool) -> None:
        if isinstance(value, RepeatedKey):
            raise InvalidPattern(path=dotted((*path, value.repeated)), reason=REASON)
        if not value:
            raise InvalidPattern(path=dotted(path), reason="an empty object asks for nothing")
        if len(path) >= MAX_DEPTH:
            raise InvalidPattern(path=dotted(path), reason=f"nested deeper than {MAX_DEPTH} levels")
        for written, part in value.items():
            self.counted.check_string(written, path)
            name = _field_name(written, path)
            if name == "$or":
                into.choices.append(self._choice(part, (*path, name)))
                continue
            if in_or and name in RESERVED:
                raise InvalidPattern(path=dotted((*path, name)), reason=f"{name!r} cannot name a field inside $or")
            first, dot, rest = name.partition(".")  # see `fields`
            self._member(first, {rest: part} if dot else part, into, path, in_or=in_or)

    def _member(self, name: str, part: object, into: _Object, path: Path, *, in_or: bool) -> None:
        below = (*path, name)
        place = into.fields.setdefault(name, _Field())
        if isinstance(part, dict):
            place.below = place.below or _Object()
            self._read(part, place.below, below, in_or=in_or)
        elif isinstance(part, list):
            self.counted.add("fields", dotted(below))
            if place.leaf is not None:
                reason = "the field is asked for twice, by two ways to write its name"
                raise InvalidPattern(path=dotted(below), reason=reason)
            place.leaf = self._leaf(part, dotted(below))
        else:
            raise InvalidPattern(path=dotted(below), reason=f"must be a list of values or an object, not {kind(part)}")

    def _choice(self, value: object, path: Path) -> Choice:
        shown = dotted(path)
        if not isinstance(value, list) or len(value) < 2:
            raise InvalidPattern(path=shown, reason="$or takes a list of two or more objects")
        if len(value) > MAX_COMBINATIONS:
            raise _too_many(path[:-1])
        options: list[Node] = []
        for position, option in enumerate(value):
            if not isinstance(option, dict):
                raise InvalidPattern(path=f"{shown}[{position}]", reason=f"must be an object, not {kind(option)}")
            options.append(self.node(option, (*path[:-1], f"$or[{position}]"), in_or=True))
        return Choice(value, tuple(options))

    def _leaf(self, entries: list[object], path: str) -> Leaf:
        if not entries:
            raise InvalidPattern(path=path, reason="an empty list matches nothing")
        self.counted.add("values", path, len(entries))
        for text in strings(entries):
            self.counted.check_string(text, path)
        made = _Entries(self.counted, path)
        for entry in entries:
            made.add(entry)
        return made.leaf(entries)


@dataclass(slots=True)
class _Entries:
    """The entries of one field's list, grouped by the kind of their test."""

    counted: Counted
    path: str
    exact: set[object] = field(default_factory=set)
    addresses: set[object] = field(default_factory=set)
    networks: list[IPv4Network | IPv6Network] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    absent: bool = False

    def add(self, entry: object) -> None:
        if isinstance(entry, RepeatedKey):
            raise self._wrong(f"the key {entry.repeated!r} stands twice in the same object")
        if isinstance(entry, list):
            raise self._wrong("a list inside the list; values stand in one list")
        if isinstance(entry, dict):
            self._add_operator(entry)
            return
        self.exact.add(exact_key(entry))
        if isinstance(entry, str) and ":" in entry and (same := address(entry)):
            self.addresses.add(same)  # an IPv6 address has several notations

    def _add_operator(self, entry: dict[str, object]) -> None:
        if len(entry) != 1:
            raise self._wrong("an operator object has exactly one key")
        ((name, operand),) = entry.items()
        if isinstance(operand, RepeatedKey):
            raise self._wrong(f"the key {operand.repeated!r} stands twice in the same object")
        if name == "exactly":
            if not isinstance(operand, str):
                raise self._wrong(f"exactly takes a string, not {kind(operand)}")
            self.exact.add(operand)
        elif name == "exists":
            if not isinstance(operand, bool):
                raise self._wrong("exists takes true or false")
            self.absent = self.absent or not operand
            self.tests += [_present] if operand else []
        elif name == "cidr":
            if not isinstance(operand, str):
                raise self._wrong(f"cidr takes a string, not {kind(operand)}")
            self.counted.add("operators", self.path)
            self.networks.append(network(operand, self.path))
        else:
            self.tests.append(compile_test(name, operand, self.path, self.counted))

    def leaf(self, entries: list[object]) -> Leaf:
        tests, addresses, networks = self.tests, frozenset(self.addresses), tuple(self.networks)
        if addresses:
            tests.append(lambda value: isinstance(value, str) and ":" in value and address(value) in addresses)
        if networks:
            tests.append(lambda value: isinstance(value, str) and is_within(value, networks))
        return Leaf(entries, frozenset(self.exact), tuple(tests), self.absent, scans=_wildcards(entries))

    def _wrong(self, reason: str) -> InvalidPattern:
        return InvalidPattern(path=self.path, reason=reason)


def _wildcards(entries: list[object]) -> int:
    """Number of entries that search a text, including those inside `anything-but`."""
    count = 0
    for entry in entries:
        inner = entry.get("anything-but") if isinstance(entry, dict) else None
        asked = inner if isinstance(inner, dict) else entry
        found = asked.get("wildcard", []) if isinstance(asked, dict) else []
        count += len(found) if isinstance(found, list) else 1
    return count


def _field_name(name: str, path: Path) -> str:
    """A field's name as documents have it: tags have lower-case names, as at Nango (Nango contract: Tag rules)."""
    above = [part for part in path if not part.startswith("$or[")]
    return name.lower() if above[:1] == ["tags"] else name


def _present(value: object) -> bool:  # noqa: ARG001  tests are only called with present values
    return True


def _frozen(made: _Object, path: Path) -> Node:
    fields: dict[str, Part] = {}
    for name, place in made.fields.items():
        below = None if place.below is None else _frozen(place.below, (*path, name))
        fields[name] = whole(place.leaf, below)
    choices = tuple(made.choices)
    return Node(fields, choices, _shared(fields, choices, path) if choices else ())


def _shared(fields: dict[str, Part], choices: tuple[Choice, ...], path: Path) -> tuple[Path, ...]:
    """Paths of the objects that several fields and choices descend into, the outermost left out.

    Raises InvalidPattern where two of them test the same field.
    """
    leaves: set[Path] = set()
    nodes: set[Path] = set()
    shared: set[Path] = set()
    for part in ([Node(fields)], *(choice.options for choice in choices)):
        asked, descended = dict[Path, None](), dict[Path, None]()
        for node in part:
            _collect(node, (), asked, descended)
        for leaf in asked:
            if leaf in leaves:
                reason = "the field is asked for twice, inside and outside of the same $or"
                raise InvalidPattern(path=dotted((*path, *leaf)), reason=reason)
        shared |= nodes & descended.keys()
        leaves |= asked.keys()
        nodes |= descended.keys()
    outer = {inner[:-1] for inner in shared}
    return tuple(sorted(shared - outer))


def _collect(node: Node, path: Path, leaves: dict[Path, None], nodes: dict[Path, None]) -> None:
    """Paths of all fields that a node tests in any combination, and of the objects that contain them."""
    for name, part in node.fields.items():
        leaf, below = parted(part)
        here = (*path, name)
        if leaf is not None:
            leaves[here] = None
        if below is not None:
            nodes[here] = None
            _collect(below, here, leaves, nodes)
    for choice in node.choices:
        for option in choice.options:
            _collect(option, path, leaves, nodes)


def _check_combinations(node: Node, path: Path) -> int:
    """Number of combinations of a node's options. Raises InvalidPattern for more than MAX_COMBINATIONS."""
    count = 1
    for name, part in node.fields.items():
        below = parted(part)[1]
        if below is not None:
            count *= _check_combinations(below, (*path, name))
        if count > MAX_COMBINATIONS:
            raise _too_many(path)
    for choice in node.choices:
        count *= sum(_check_combinations(option, path) for option in choice.options)
        if count > MAX_COMBINATIONS:
            raise _too_many(path)
    return count


def _too_many(path: Path) -> InvalidPattern:
    return InvalidPattern(path=dotted(path), reason=f"$or spells out more than {MAX_COMBINATIONS} combinations")
