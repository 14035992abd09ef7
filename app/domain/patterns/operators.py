"""Entries of a field's list, `"pro"` or `{"prefix": "ent"}`, as tests of one scalar value.

Rules and wording of the refusals follow EventBridge's documentation and its published rule engine (aws/event-ruler).
"""

import operator
from collections.abc import Callable
from typing import Final

from app.domain.patterns.limits import Counted
from app.domain.patterns.reading import kind
from app.domain.patterns.texts import Test, equals_ignore_case, prefix, suffix, text_of, wildcard
from app.errors import InvalidPattern

_TRUE: Final = object()
_FALSE: Final = object()
# EventBridge's documented limit of patterns. Values of events are compared whatever their size.
LARGEST_NUMBER: Final = 5_000_000_000

_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def exact_key(value: object) -> object:
    """A key that is equal exactly when EventBridge calls two scalars equal: 300 and 300.0 are, `true` and 1 are not."""
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    return value


def compile_test(name: str, operand: object, path: str, counted: Counted) -> Test:
    """The test of an operator and its operand.

    Not for `exists`, which concerns the field, not a value, `exactly`, which is a value, and `cidr`, for which a field
    parses the value's address once for all blocks.
    """
    if name == "anything-but":
        return _anything_but(operand, path, counted)
    if name not in _BUILDERS:
        known = ", ".join(sorted([*_BUILDERS, "anything-but", "cidr", "exactly", "exists"]))
        raise InvalidPattern(path=path, reason=f"{name[:80]!r} is not an operator; these are: {known}")
    counted.add("operators", path)
    return _built(name, operand, path, counted)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _built(name: str, operand: object, path: str, counted: Counted) -> Test:
    if name == "wildcard":
        counted.add("wildcards", path)
    return _BUILDERS[name](operand, path)


def _number(operand: object, path: str) -> float:
    """The operand as it is: an integer stays one, so that large values compare exactly."""
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise InvalidPattern(path=path, reason=f"numeric compares with a number, not {kind(operand)}")
    return _bounded(operand, "numeric", path)


def _bounded(number: float, name: str, path: str) -> float:
    if abs(number) > LARGEST_NUMBER:
        reason = f"{name} takes numbers from -{LARGEST_NUMBER:,} to {LARGEST_NUMBER:,}"
        raise InvalidPattern(path=path, reason=reason)
    return number


def _numeric(operand: object, path: str) -> Test:
    terms = operand if isinstance(operand, list) else []
    if len(terms) not in {2, 4}:
        raise InvalidPattern(path=path, reason='numeric takes a list such as ["=", 5] or [">", 0, "<=", 5]')
    comparisons = [
        (_comparison(name, path), _number(bound, path)) for name, bound in zip(terms[::2], terms[1::2], strict=True)
    ]
    if len(terms) == 4:
        low, high = comparisons[0][1], comparisons[1][1]
        if terms[0] not in {">", ">="} or terms[2] not in {"<", "<="}:
            raise InvalidPattern(path=path, reason="a numeric range names the lower bound first, then the upper one")
        if low >= high:
            raise InvalidPattern(path=path, reason="the lower bound of a numeric range must be below the upper one")
    bounds = tuple(comparisons)

    def test(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return all(compare(value, bound) for compare, bound in bounds)

    return test


def _comparison(name: object, path: str) -> Callable[[float, float], bool]:
    if not isinstance(name, str) or name not in _COMPARE:
        shown = repr(name) if isinstance(name, str) and len(name) <= 80 else kind(name)
        raise InvalidPattern(path=path, reason=f"numeric knows {' '.join(_COMPARE)}, not {shown}")
    return _COMPARE[name]


def _anything_but(operand: object, path: str, counted: Counted) -> Test:
    if isinstance(operand, dict):
        excluded = _excluded_by_operator(operand, path, counted)
        return lambda value: not any(test(value) for test in excluded)
    counted.add("operators", path)
    values = operand if isinstance(operand, list) else [operand]
    strings = all(isinstance(value, str) for value in values)
    if not values or not (strings or all(is_number(value) for value in values)):
        reason = "anything-but takes a string, a number, or a list of only strings or only numbers"
        raise InvalidPattern(path=path, reason=reason)
    counted.add("values", path, len(values))
    for value in values:
        if isinstance(value, int | float):
            _bounded(value, "anything-but", path)
    refused = frozenset(values)
    return lambda value: exact_key(value) not in refused


def _excluded_by_operator(operand: dict[str, object], path: str, counted: Counted) -> list[Test]:
    name, operands = next(iter(operand.items()), ("", None))
    if len(operand) != 1 or name not in _EXCLUDABLE:
        raise InvalidPattern(path=path, reason=f"inside anything-but there is one of {', '.join(_EXCLUDABLE)}")
    texts = [text_of(text, name, path) for text in (operands if isinstance(operands, list) else [operands])]
    if not texts:
        raise InvalidPattern(path=path, reason=f"anything-but {name} has an empty list")
    if name in {"prefix", "suffix"} and "" in texts:
        raise InvalidPattern(path=path, reason=f"an empty {name} would exclude every string")
    counted.add("values", path, len(texts))
    counted.add("operators", path, len(texts))
    return [_built(name, text, path, counted) for text in texts]


_EXCLUDABLE: Final[dict[str, Callable[[object, str], Test]]] = {
    "prefix": prefix,
    "suffix": suffix,
    "equals-ignore-case": equals_ignore_case,
    "wildcard": wildcard,
}
_BUILDERS: Final[dict[str, Callable[[object, str], Test]]] = {**_EXCLUDABLE, "numeric": _numeric}
