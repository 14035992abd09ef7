"""Controls of faults: /sandbox/faults."""

from datetime import timedelta
from typing import Any, Final

from starlette.responses import Response

from app.sandbox.checks import Checks
from app.sandbox.context import SandboxCall
from app.sandbox.faults import OF_PROVIDERS, Operation, Rule
from app.sandbox.serialization import iso_z

LONGEST_DELAY: Final = 300.0  # seconds
LONGEST_FAULT: Final = 366 * 86_400.0  # seconds
OF_CALLS: Final = ("code", "retry_after", "delay")


def list_faults(call: SandboxCall) -> Response:
    return call.answer({"faults": [_shown(rule) for rule in call.sandbox.faults.live(call.now)]})


def add_fault(call: SandboxCall) -> Response:
    """POST /sandbox/faults: `operation`; limited by `provider_config_key`, `connection_id`, `times`, `rate` (0 to 1)
    and `lasts` (seconds); with the result `status`, `code`, `message`, `retry_after` and `delay` (seconds).
    """
    checks = Checks(call.body, code="invalid_body")
    operation = _operation(checks, checks.text("operation"))
    integration, connection_id = _narrowing(checks)
    times = checks.number("times", minimum=1, maximum=10**6)
    rate = checks.number("rate", default=1.0, minimum=0, maximum=1)
    status = checks.number("status", minimum=400, maximum=599)
    retry_after = checks.number("retry_after", minimum=0, maximum=3600)
    delay = checks.number("delay", default=0.0, minimum=0, maximum=LONGEST_DELAY)
    lasts = checks.number("lasts", minimum=0, maximum=LONGEST_FAULT)
    code, message = checks.optional_text("code"), checks.optional_text("message", maximum=10_000)
    for name in OF_CALLS if operation in OF_PROVIDERS else ():
        if checks.has(name):
            checks.custom("Not for authorize and refresh, where a provider answers", name)
    checks.done()
    rule = Rule(
        operation=operation or Operation.REFRESH,
        integration=integration,
        connection_id=connection_id,
        times=_whole(times),
        rate=1.0 if rate is None else rate,
        status=_whole(status),
        code=code,
        message=message,
        retry_after=_whole(retry_after),
        delay=delay or 0.0,
        ends_at=None if lasts is None else call.now + timedelta(seconds=lasts),
    )
    call.sandbox.faults.add(rule)
    return call.answer({"fault": _shown(rule)}, status=201)


def clear_faults(call: SandboxCall) -> Response:
    """DELETE /sandbox/faults: all of them, or those of `operation`, `provider_config_key`, `connection_id`."""
    checks = Checks(call.query, code="invalid_query_params")
    word = checks.optional_text("operation")
    operation = _operation(checks, word) if word else None
    integration, connection_id = _narrowing(checks)
    checks.done()
    cleared = call.sandbox.faults.clear(operation=operation, integration=integration, connection_id=connection_id)
    return call.answer({"cleared": cleared})


def _operation(checks: Checks, word: str) -> Operation | None:
    try:
        return Operation(word)
    except ValueError:
        checks.custom(f"Expected one of {', '.join(Operation)}", "operation")
        return None


def _narrowing(checks: Checks) -> tuple[str | None, str | None]:
    return checks.optional_text("provider_config_key"), checks.optional_text("connection_id")


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _shown(rule: Rule) -> dict[str, Any]:
    """A rule's required members, and the given optional ones."""
    optional = {
        "rate": None if rule.rate >= 1 else rule.rate,
        "status": rule.status,
        "code": rule.code,
        "message": rule.message,
        "retry_after": rule.retry_after,
        "delay": rule.delay or None,
        "ends_at": rule.ends_at and iso_z(rule.ends_at),
    }
    return {
        "operation": rule.operation,
        "provider_config_key": rule.integration,
        "connection_id": rule.connection_id,
        "times": rule.times,
        **{name: value for name, value in optional.items() if value is not None},
    }
