"""One entry of a field's list, `"pro"` or `{"prefix": "ent"}`, as a test of one scalar value of an event.

Rules and wording of the refusals follow EventBridge's documentation and its published rule engine (aws/event-ruler).
"""

import operator
import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Network, IPv6Network, NetmaskValueError, ip_address
from typing import Final

from app.domain.patterns.reading import RepeatedKey, kind
from app.errors import InvalidPattern

Test = Callable[[object], bool]

# EventBridge refuses patterns with many wildcards as too complex without publishing the number; six were refused.
MAX_WILDCARDS: Final = 5

_TRUE: Final = object()
_FALSE: Final = object()
_ADDRESS: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3}|[0-9a-fA-F:]*:[0-9a-fA-F:]*")
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def exact_key(value: object) -> object:
    """Equal exactly when EventBridge calls two scalars equal: 300 and 300.0 are, `true` and 1 are not."""
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    return value


def compile_test(expression: dict[str, object], path: str) -> Test:
    """The test for one operator object; `exists` is not among them, since it asks about the field, not a value."""
    if len(expression) != 1:
        raise InvalidPattern(path=path, reason="an operator object has exactly one key")
    ((name, operand),) = expression.items()
    if isinstance(operand, RepeatedKey):
        raise InvalidPattern(path=path, reason=f"the key {operand.repeated!r} stands twice in the same object")
    build = _BUILDERS.get(name)
    if build is None:
        known = ", ".join(sorted([*_BUILDERS, "exists"]))
        raise InvalidPattern(path=path, reason=f"{name!r} is not an operator; these are: {known}")
    return build(operand, path)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(operand: object, name: str, path: str) -> str:
    if not isinstance(operand, str):
        raise InvalidPattern(path=path, reason=f"{name} takes a string, not {kind(operand)}")
    return operand


def _number(operand: object, path: str) -> float:
    """The operand itself: an integer stays one, so that large ids compare exactly."""
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise InvalidPattern(path=path, reason=f"numeric compares with a number, not {kind(operand)}")
    return operand


def _prefix(operand: object, path: str) -> Test:
    if isinstance(operand, dict):
        folded = _ignoring_case(operand, "prefix", path)
        return lambda value: isinstance(value, str) and value.lower().startswith(folded)
    start = _text(operand, "prefix", path)
    return lambda value: isinstance(value, str) and value.startswith(start)


def _suffix(operand: object, path: str) -> Test:
    if isinstance(operand, dict):
        folded = _ignoring_case(operand, "suffix", path)
        return lambda value: isinstance(value, str) and value.lower().endswith(folded)
    end = _text(operand, "suffix", path)
    return lambda value: isinstance(value, str) and value.endswith(end)


def _ignoring_case(operand: dict[str, object], name: str, path: str) -> str:
    if set(operand) != {"equals-ignore-case"}:
        raise InvalidPattern(path=path, reason=f'{name} takes a string or {{"equals-ignore-case": "…"}}')
    return _text(operand["equals-ignore-case"], "equals-ignore-case", path).lower()


def _equals_ignore_case(operand: object, path: str) -> Test:
    folded = _text(operand, "equals-ignore-case", path).lower()
    return lambda value: isinstance(value, str) and value.lower() == folded


def _wildcard(operand: object, path: str) -> Test:
    """Greedy from left to right over the literal parts: no backtracking, so no input makes it slow."""
    parts = _literal_parts(_text(operand, "wildcard", path), path)
    if len(parts) == 1:
        return lambda value: value == parts[0]
    first, *middle, last = parts

    def test(value: object) -> bool:
        if not isinstance(value, str) or not value.startswith(first) or not value.endswith(last):
            return False
        position, end = len(first), len(value) - len(last)
        for part in middle:
            found = value.find(part, position, end)
            if found < 0:
                return False
            position = found + len(part)
        return position <= end

    return test


def _literal_parts(wildcard: str, path: str) -> list[str]:
    parts, index = [""], 0
    while index < len(wildcard):
        character, following = wildcard[index], wildcard[index + 1 : index + 2]
        if character == "\\":
            if following not in {"*", "\\"}:
                reason = f"a backslash at {index} escapes nothing; only \\* and \\\\ are allowed"
                raise InvalidPattern(path=path, reason=reason)
            parts[-1] += following
            index += 1
        elif character != "*":
            parts[-1] += character
        elif following == "*":
            raise InvalidPattern(path=path, reason=f"two wildcards in a row at {index}")
        else:
            parts.append("")
        index += 1
    if len(parts) - 1 > MAX_WILDCARDS:
        raise InvalidPattern(path=path, reason=f"too complex: more than {MAX_WILDCARDS} wildcards in one string")
    return parts


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
        raise InvalidPattern(path=path, reason=f"numeric knows {' '.join(_COMPARE)}, not {name!r}")
    return _COMPARE[name]


def _cidr(operand: object, path: str) -> Test:
    text = _text(operand, "cidr", path)
    address, slash, bits = text.partition("/")
    if not slash or not bits.isascii() or not bits.isdigit() or not _ADDRESS.fullmatch(address):
        raise InvalidPattern(path=path, reason=f"{text!r} is not a block such as 10.0.0.0/24")
    family, longest = (IPv6Network, 127) if ":" in address else (IPv4Network, 31)
    if len(bits) > 3 or int(bits) > longest:
        reason = f"the mask of {text!r} is longer than {longest} bits; name one address as a plain string"
        raise InvalidPattern(path=path, reason=reason)
    try:
        network = family(f"{address}/{int(bits)}", strict=False)
    except (AddressValueError, NetmaskValueError) as error:
        raise InvalidPattern(path=path, reason=f"{address!r} is not an address") from error

    def test(value: object) -> bool:
        if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
            return False
        try:
            return ip_address(value) in network
        except ValueError:
            return False

    return test


def _anything_but(operand: object, path: str) -> Test:
    if isinstance(operand, dict):
        excluded = _excluded_by_operator(operand, path)
        return lambda value: not any(test(value) for test in excluded)
    values = operand if isinstance(operand, list) else [operand]
    strings = all(isinstance(value, str) for value in values)
    if not values or not (strings or all(is_number(value) for value in values)):
        reason = "anything-but takes a string, a number, or a list of only strings or only numbers"
        raise InvalidPattern(path=path, reason=reason)
    refused = frozenset(values)
    return lambda value: exact_key(value) not in refused


def _excluded_by_operator(operand: dict[str, object], path: str) -> list[Test]:
    name, operands = next(iter(operand.items()), ("", None))
    build = _EXCLUDABLE.get(name)
    if len(operand) != 1 or build is None:
        raise InvalidPattern(path=path, reason=f"inside anything-but there is one of {', '.join(_EXCLUDABLE)}")
    texts = [_text(text, name, path) for text in (operands if isinstance(operands, list) else [operands])]
    if not texts:
        raise InvalidPattern(path=path, reason=f"anything-but {name} has an empty list")
    if name in {"prefix", "suffix"} and "" in texts:
        raise InvalidPattern(path=path, reason=f"an empty {name} would exclude every string")
    return [build(text, path) for text in texts]


_EXCLUDABLE: Final[dict[str, Callable[[object, str], Test]]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
}
_BUILDERS: Final[dict[str, Callable[[object, str], Test]]] = {
    **_EXCLUDABLE,
    "numeric": _numeric,
    "cidr": _cidr,
    "anything-but": _anything_but,
}
