"""One entry of a field's list, `"pro"` or `{"prefix": "ent"}`, as a test of one scalar value of an event.

Rules and wording of the refusals follow EventBridge's documentation and its published rule engine (aws/event-ruler).
"""

import operator
import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from app.domain.patterns.reading import RepeatedKey, kind
from app.errors import InvalidPattern

Test = Callable[[object], bool]

# EventBridge refuses patterns with many wildcards as too complex without publishing the number; six were refused.
MAX_WILDCARDS: Final = 5

_TRUE: Final = object()
_FALSE: Final = object()
# As EventBridge documents it. The values of events are compared whatever their size.
LARGEST_NUMBER: Final = 5_000_000_000

_ADDRESS: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3}|[0-9a-fA-F:]*:[0-9a-fA-F:]*")
_LONGEST_IPV4: Final = 15
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
        known = ", ".join(sorted([*_BUILDERS, "exactly", "exists"]))
        raise InvalidPattern(path=path, reason=f"{name!r} is not an operator; these are: {known}")
    return build(operand, path)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(operand: object, name: str, path: str) -> str:
    if not isinstance(operand, str):
        raise InvalidPattern(path=path, reason=f"{name} takes a string, not {kind(operand)}")
    return operand


def _number(operand: object, path: str) -> float:
    """The operand itself: an integer stays one, so that large values compare exactly."""
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise InvalidPattern(path=path, reason=f"numeric compares with a number, not {kind(operand)}")
    return _bounded(operand, "numeric", path)


def _bounded(number: float, name: str, path: str) -> float:
    if abs(number) > LARGEST_NUMBER:
        reason = f"{name} takes numbers from -{LARGEST_NUMBER:,} to {LARGEST_NUMBER:,}"
        raise InvalidPattern(path=path, reason=reason)
    return number


def _prefix(operand: object, path: str) -> Test:
    if isinstance(operand, dict):
        text = _ignoring_case(operand, "prefix", path)
        if text.isascii():
            same, length = _same_ascii(text), len(text)
            return lambda value: isinstance(value, str) and same(value[:length])
        letters = _either_case(text)
        return lambda value: isinstance(value, str) and _end_of(letters, value) is not None
    start = _text(operand, "prefix", path)
    return lambda value: isinstance(value, str) and value.startswith(start)


def _suffix(operand: object, path: str) -> Test:
    if isinstance(operand, dict):
        text = _ignoring_case(operand, "suffix", path)
        if text.isascii():
            same, length = _same_ascii(text), len(text)
            return lambda value: isinstance(value, str) and same(value[max(0, len(value) - length) :])
        # Backwards from the end: where the suffix would begin is not known, for letters differ in length from capitals.
        letters = [[form[::-1] for form in forms] for forms in reversed(_either_case(text))]
        return lambda value: isinstance(value, str) and _end_of(letters, value[::-1]) is not None
    end = _text(operand, "suffix", path)
    return lambda value: isinstance(value, str) and value.endswith(end)


def _ignoring_case(operand: dict[str, object], name: str, path: str) -> str:
    if set(operand) != {"equals-ignore-case"}:
        raise InvalidPattern(path=path, reason=f'{name} takes a string or {{"equals-ignore-case": "…"}}')
    return _text(operand["equals-ignore-case"], "equals-ignore-case", path)


def _equals_ignore_case(operand: object, path: str) -> Test:
    text = _text(operand, "equals-ignore-case", path)
    if text.isascii():
        same = _same_ascii(text)
        return lambda value: isinstance(value, str) and same(value)
    letters = _either_case(text)
    return lambda value: isinstance(value, str) and _end_of(letters, value) == len(value)


def _same_ascii(text: str) -> Callable[[str], bool]:
    """Nearly always, and then cheap: what is not ASCII is no form of such a letter, the sign for kelvin neither."""
    folded = text.lower()
    return lambda part: part.isascii() and part.lower() == folded


def _either_case(text: str) -> list[list[str]]:
    """The forms of each letter, as EventBridge has them: `ß` is `SS` or itself, and each sigma is its own capital."""
    # Java, which EventBridge is written in, sees two halves beyond U+FFFF, and halves have no case.
    return [sorted({one, one.lower(), one.upper()}) if one <= "\uffff" else [one] for one in text]


def _end_of(letters: list[list[str]], value: str) -> int | None:
    """Where these letters end when the value begins with them. No two forms of a letter begin alike: one fits."""
    position = 0
    for forms in letters:
        for form in forms:
            if value.startswith(form, position):
                position += len(form)
                break
        else:
            return None
    return position


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
    found = _address(address)
    if found is None:
        raise InvalidPattern(path=path, reason=f"{address!r} is not an address")
    family, longest = (IPv6Network, 127) if isinstance(found, IPv6Address) else (IPv4Network, 31)
    if len(bits) > 3 or int(bits) > longest:
        reason = f"the mask of {text!r} is longer than {longest} bits; name one address as a plain string"
        raise InvalidPattern(path=path, reason=reason)
    network = family(f"{found}/{int(bits)}", strict=False)
    return lambda value: isinstance(value, str) and (one := _address(value)) is not None and one in network


def same_address(text: str) -> Test | None:
    """For a plain string that is an IPv6 address: whether a value is that one, however it is written. Else None."""
    wanted = _address(text) if ":" in text else None
    if wanted is None:
        return None
    return lambda value: isinstance(value, str) and ":" in value and _address(value) == wanted


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as Java reads it: leading zeros are decimal, and an IPv4 address that IPv6 carries is that one."""
    if not _ADDRESS.fullmatch(text):
        return None
    try:
        if ":" in text:
            carrier = IPv6Address(text)
            return carrier.ipv4_mapped or carrier
        if len(text) > _LONGEST_IPV4:
            return None
        return IPv4Address(".".join(str(int(part)) for part in text.split(".")))
    except AddressValueError:
        return None


def _anything_but(operand: object, path: str) -> Test:
    if isinstance(operand, dict):
        excluded = _excluded_by_operator(operand, path)
        return lambda value: not any(test(value) for test in excluded)
    values = operand if isinstance(operand, list) else [operand]
    strings = all(isinstance(value, str) for value in values)
    if not values or not (strings or all(is_number(value) for value in values)):
        reason = "anything-but takes a string, a number, or a list of only strings or only numbers"
        raise InvalidPattern(path=path, reason=reason)
    for value in values:
        if isinstance(value, int | float):
            _bounded(value, "anything-but", path)
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
