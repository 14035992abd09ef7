"""From the pattern's JSON to its tree, and from a tree with `$or` to the branches that are matched."""

from collections.abc import Sequence
from typing import Final

from app.domain.patterns.operators import Test, compile_test, exact_key, same_address
from app.domain.patterns.reading import MAX_DEPTH, RepeatedKey, dotted, kind
from app.domain.patterns.tree import Both, Choice, Leaf, Node, Part, Path, parted
from app.errors import InvalidPattern

# A `$or` multiplies: a pattern is matched as the alternatives it spells out, and those are bounded.
MAX_BRANCHES: Final = 1000

# EventBridge reserves these as field names inside `$or`, some of them for operators it does not have yet.
_OPERATORS: Final = frozenset(
    {"exactly", "prefix", "suffix", "equals-ignore-case", "anything-but", "exists", "wildcard", "numeric", "cidr"}
)
_COMPARISONS: Final = frozenset({"=", "<", "<=", ">", ">=", "not-wildcard", "not-equals-ignore-case", "regex"})
_RANGES: Final = frozenset({"date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range"})
_ADDRESSES: Final = frozenset({"ip-address-in-range", "ip-address-not-in-range"})
RESERVED: Final = _OPERATORS | _COMPARISONS | _RANGES | _ADDRESSES


def compile_node(value: dict[str, object], path: Path = (), *, in_or: bool = False) -> Node:
    """One object of the pattern; `InvalidPattern` carries the path of what is wrong."""
    shown = dotted(path)
    if isinstance(value, RepeatedKey):
        raise InvalidPattern(path=dotted((*path, value.repeated)), reason="the key stands twice in the same object")
    if not value:
        raise InvalidPattern(path=shown, reason="an empty object asks for nothing")
    if len(path) >= MAX_DEPTH:
        raise InvalidPattern(path=shown, reason=f"nested deeper than {MAX_DEPTH} levels")
    fields: dict[str, Part] = {}
    choices: tuple[Choice, ...] = ()
    for written, part in value.items():
        name = _field_name(written, path)
        below = (*path, name)
        if name == "$or":
            choices = (_choice(part, below),)
        elif in_or and name in RESERVED:
            raise InvalidPattern(path=dotted(below), reason=f"{name!r} cannot name a field inside $or")
        else:
            first, *rest = name.split(".")  # `fields` says why
            for inner in reversed(rest):
                part = {inner: part}  # noqa: PLW2901 - wrapped step by step
            one = _part(part, (*path, first), in_or=in_or)
            fields[first] = _joined(fields[first], one, (*path, first)) if first in fields else one
    return Node(fields, choices)


def _field_name(name: str, path: Path) -> str:
    """A field's name as documents have it: tags have lower-case names there, as Nango stores them (CONTRACT 2.1)."""
    above = [part for part in path if not part.startswith("$or[")]
    return name.lower() if above[:1] == ["tags"] else name


def _part(part: object, path: Path, *, in_or: bool) -> Part:
    if isinstance(part, dict):
        return compile_node(part, path, in_or=in_or)
    if isinstance(part, list):
        return _leaf(part, dotted(path))
    raise InvalidPattern(path=dotted(path), reason=f"must be a list of values or an object, not {kind(part)}")


def _joined(one: Part, other: Part, path: Path) -> Part:
    """Two members of an object that go into the same field, as `a.b` and `a.c` do."""
    (leaf, node), (other_leaf, other_node) = parted(one), parted(other)
    if leaf is not None and other_leaf is not None:
        raise InvalidPattern(path=dotted(path), reason="the field is asked for twice, by two ways to write its name")
    if node is not None and other_node is not None:
        fields = dict(node.fields)
        for name, part in other_node.fields.items():
            fields[name] = _joined(fields[name], part, (*path, name)) if name in fields else part
        node = Node(fields, node.choices + other_node.choices)
    return _whole(leaf or other_leaf, node or other_node)


def _whole(leaf: Leaf | None, node: Node | None) -> Part:
    if leaf is None or node is None:
        found = leaf or node
        assert found is not None  # noqa: S101 - a field is asked for one or the other
        return found
    return Both(leaf, node)


def branches(node: Node) -> tuple[Node, ...]:
    """The `$or`-free nodes of which one has to match: fields of one array element may stand on both sides of a `$or`.

    Raises `InvalidPattern` for more than MAX_BRANCHES of them, or when a branch names a field twice.
    """
    return tuple(_node(tree) for tree in _spelled_out(node, ()))


_Tree = dict[str, "tuple[Leaf | None, _Tree | None]"]  # of each field, what is asked of it and of those below it


def _choice(value: object, path: Path) -> Choice:
    shown = dotted(path)
    if not isinstance(value, list) or len(value) < 2:
        raise InvalidPattern(path=shown, reason="$or takes a list of two or more objects")
    options: list[Node] = []
    for position, option in enumerate(value):
        if not isinstance(option, dict):
            raise InvalidPattern(path=f"{shown}[{position}]", reason=f"must be an object, not {kind(option)}")
        options.append(compile_node(option, (*path[:-1], f"$or[{position}]"), in_or=True))
    return Choice(value, tuple(options))


def _leaf(entries: list[object], path: str) -> Leaf:
    if not entries:
        raise InvalidPattern(path=path, reason="an empty list matches nothing")
    exact: set[object] = set()
    tests: list[Test] = []
    absent = False
    for entry in entries:
        if isinstance(entry, RepeatedKey):
            raise InvalidPattern(path=path, reason=f"the key {entry.repeated!r} stands twice in the same object")
        if isinstance(entry, list):
            raise InvalidPattern(path=path, reason="a list inside the list; values stand in one list")
        if not isinstance(entry, dict):
            exact.add(exact_key(entry))
            if isinstance(entry, str) and (same := same_address(entry)):
                tests.append(same)
        elif set(entry) == {"exactly"}:
            if not isinstance(entry["exactly"], str):
                raise InvalidPattern(path=path, reason=f"exactly takes a string, not {kind(entry['exactly'])}")
            exact.add(entry["exactly"])
        elif set(entry) == {"exists"}:
            if not isinstance(entry["exists"], bool):
                raise InvalidPattern(path=path, reason="exists takes true or false")
            absent = absent or not entry["exists"]
            tests += [_present] if entry["exists"] else []
        else:
            tests.append(compile_test(entry, path))
    return Leaf(entries, frozenset(exact), tuple(tests), absent)


def _present(value: object) -> bool:  # noqa: ARG001  a test is only asked about values that are there
    return True


def _spelled_out(node: Node, path: Path) -> list[_Tree]:
    trees: list[_Tree] = [{}]
    for name, part in node.fields.items():
        leaf, inner = parted(part)
        below: Sequence[_Tree | None] = [None] if inner is None else _spelled_out(inner, (*path, name))
        trees = _combined(trees, [{name: (leaf, tree)} for tree in below], path)
    for choice in node.choices:
        options = [tree for option in choice.options for tree in _spelled_out(option, path)]
        trees = _combined(trees, options, path)
    return trees


def _combined(some: list[_Tree], others: list[_Tree], path: Path) -> list[_Tree]:
    if len(some) * len(others) > MAX_BRANCHES:
        raise InvalidPattern(path=dotted(path), reason=f"$or spells out more than {MAX_BRANCHES} combinations")
    return [_merged(one, other, path) for one in some for other in others]


def _merged(one: _Tree, other: _Tree, path: Path) -> _Tree:
    merged = dict(one)
    for name, (leaf, below) in other.items():
        present, inner = merged.get(name, (None, None))
        if present is not None and leaf is not None:
            reason = "the field is asked for twice, inside and outside of the same $or"
            raise InvalidPattern(path=dotted((*path, name)), reason=reason)
        tree = _merged(inner, below, (*path, name)) if inner is not None and below is not None else inner or below
        merged[name] = (present or leaf, tree)
    return merged


def _node(tree: _Tree) -> Node:
    parts = {name: _whole(leaf, None if below is None else _node(below)) for name, (leaf, below) in tree.items()}
    # Fields with only plain values first: they are the cheapest to refuse.
    return Node(dict(sorted(parts.items(), key=lambda item: not (isinstance(item[1], Leaf) and item[1].only_exact))))
