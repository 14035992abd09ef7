"""From the pattern's JSON to its tree, and from a tree with `$or` to the branches that are matched."""

from typing import Final

from app.domain.patterns.operators import Test, compile_test, exact_key, same_address
from app.domain.patterns.reading import MAX_DEPTH, RepeatedKey, dotted, kind
from app.domain.patterns.tree import Choice, Leaf, Node, Path
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
    fields: dict[str, Node | Leaf] = {}
    choices: tuple[Choice, ...] = ()
    for name, part in value.items():
        below = (*path, name)
        if name == "$or":
            choices = (_choice(part, below),)
        elif in_or and name in RESERVED:
            raise InvalidPattern(path=dotted(below), reason=f"{name!r} cannot name a field inside $or")
        elif isinstance(part, dict):
            fields[name] = compile_node(part, below, in_or=in_or)
        elif isinstance(part, list):
            fields[name] = _leaf(part, dotted(below))
        else:
            reason = f"must be a list of values or an object, not {kind(part)}"
            raise InvalidPattern(path=dotted(below), reason=reason)
    return Node(fields, choices)


def branches(node: Node) -> tuple[Node, ...]:
    """The `$or`-free nodes of which one has to match: fields of one array element may stand on both sides of a `$or`.

    Raises `InvalidPattern` for more than MAX_BRANCHES of them, or when a branch names a field twice.
    """
    return tuple(_node(tree) for tree in _spelled_out(node, ()))


_Tree = dict[str, "_Tree | Leaf"]


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
        below = [part] if isinstance(part, Leaf) else _spelled_out(part, (*path, name))
        trees = _combined(trees, [{name: tree} for tree in below], path)
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
    for name, part in other.items():
        present = merged.get(name)
        if present is None:
            merged[name] = part
        elif isinstance(present, dict) and isinstance(part, dict):
            merged[name] = _merged(present, part, (*path, name))
        else:
            reason = "the field is asked for twice, inside and outside of the same $or"
            raise InvalidPattern(path=dotted((*path, name)), reason=reason)
    return merged


def _node(tree: _Tree) -> Node:
    # Fields with only plain values first: they are the cheapest to refuse.
    parts = sorted(tree.items(), key=lambda item: not (isinstance(item[1], Leaf) and item[1].only_exact))
    return Node({name: part if isinstance(part, Leaf) else _node(part) for name, part in parts})
