"""Additional API keys under /sandbox/keys, and the signing key.

(Nango contract: API key scopes; Signatures)
"""

import uuid

from starlette.responses import Response

from app.sandbox import scopes
from app.sandbox.checks import Checks
from app.sandbox.context import SandboxCall
from app.sandbox.entities import ApiKey


def list_keys(call: SandboxCall) -> Response:
    return call.answer({"keys": [_shown(key) for key in call.sandbox.store.keys.values()]})


def create_key(call: SandboxCall) -> Response:
    """POST /sandbox/keys: `scopes`, a list; `environment`, another, initially empty one of the account. 201."""
    checks = Checks(call.body, code="invalid_body")
    given = checks.raw("scopes")
    if not isinstance(given, list):
        checks.missing("array", "scopes")
    for index, scope in enumerate(given if isinstance(given, list) else ()):
        if scope not in scopes.KNOWN:
            checks.custom(f"Expected one of {', '.join(sorted(scopes.KNOWN))}", "scopes", str(index))
    environment = checks.optional_text("environment") or ""
    checks.done()
    call.sandbox.add_environment(environment)
    key = ApiKey(key=str(uuid.uuid4()), scopes=tuple(given), environment=environment)
    call.sandbox.store.put_key(key)
    return call.answer({"key": _shown(key)}, status=201)


def delete_keys(call: SandboxCall) -> Response:
    """DELETE /sandbox/keys: all except the sandbox's own."""
    return call.answer({"deleted": call.sandbox.store.delete_keys()})


def rotate_signing_key(call: SandboxCall) -> Response:
    """Replace the key at once for all later deliveries, without an overlap. It is kept in the state file."""
    call.refuse_query()
    key = str(uuid.uuid4())
    call.sandbox.store.put_signing_key(key)
    call.sandbox.courier.signing_key = key
    return call.answer({"data": {"webhook_signing_key": key}})


def _shown(key: ApiKey) -> dict[str, object]:
    return {"api_key": key.key, "scopes": list(key.scopes), "environment": key.environment or None}
