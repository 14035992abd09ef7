"""The OpenAPI 3.1 document, generated from the endpoints and their types."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from app.domain.access import Scope
from app.services.idempotency import MAX_KEY
from app.web.api.endpoint import Endpoint
from app.web.api.problems import (
    BUSY,
    CONFLICT,
    DATABASE_AWAY,
    FAULT,
    FORBIDDEN,
    IDEMPOTENCY_KEY_REUSED,
    INVALID_INPUT,
    INVALID_REQUEST,
    INVALID_TAGS,
    MISDIRECTED,
    NANGO_CONNECTION_NOT_FOUND,
    NANGO_FORBIDDEN,
    NANGO_INVALID_REQUEST,
    NANGO_RATE_LIMITED,
    NANGO_UNAUTHORIZED,
    NANGO_UNAVAILABLE,
    NANGO_UNEXPECTED,
    NANGO_UNKNOWN_INTEGRATION,
    NOT_FOUND,
    REFRESH_BACKING_OFF,
    REFRESH_EXHAUSTED,
    REFRESH_FAILED,
    TOO_LARGE,
    TOO_MANY_CALLS,
    TOO_MANY_UNKNOWN_TOKENS,
    UNAUTHENTICATED,
    UNSUPPORTED_MEDIA_TYPE,
    ProblemKind,
)
from app.web.api.reading import JSON, JSON_LINES
from app.web.browser_sessions import SESSION

_ALWAYS: Final = (
    INVALID_REQUEST,
    UNAUTHENTICATED,
    FORBIDDEN,
    MISDIRECTED,
    TOO_MANY_UNKNOWN_TOKENS,
    FAULT,
    BUSY,
    DATABASE_AWAY,
)
_WITH_BODY: Final = (TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, INVALID_INPUT, INVALID_TAGS)
_OF_NANGO: Final = (
    NANGO_CONNECTION_NOT_FOUND,
    NANGO_UNKNOWN_INTEGRATION,
    CONFLICT,
    INVALID_INPUT,
    INVALID_TAGS,
    NANGO_INVALID_REQUEST,
    REFRESH_FAILED,
    REFRESH_BACKING_OFF,
    REFRESH_EXHAUSTED,
    NANGO_UNAUTHORIZED,
    NANGO_FORBIDDEN,
    NANGO_UNEXPECTED,
    NANGO_RATE_LIMITED,
    NANGO_UNAVAILABLE,
)
_REF: Final = "#/components/schemas/{name}"

_IDEMPOTENCY_KEY: Final[Mapping[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "With the same key and call, within a day, the call is carried out once and answered as before.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
}

_PROBLEM: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Which kind of problem: stable, to be compared as text."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, and what to do."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "rule", "detail"],
                "properties": {"field": {"type": "string"}, "rule": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "found": {"type": "object", "description": "What stands in the way of a conflict."},
    },
}


def document(endpoints: Sequence[Endpoint], *, prefix: str) -> dict[str, Any]:
    """The document as a JSON-able object."""
    shapes = _shapes(endpoints)
    _, schemas = msgspec.json.schema_components(shapes, ref_template=_REF)
    # Queries are Structs like bodies, but the document lists them as single parameters.
    queries = {
        query: schemas.pop(query.__name__) for query in {endpoint.query for endpoint in endpoints} if query is not None
    }
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        query = queries[endpoint.query] if endpoint.query else None
        paths.setdefault(endpoint.template, {})[endpoint.method.lower()] = _operation(endpoint, query)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Waylink",
            "version": version("waylink"),
            "summary": "Nango's connections, confirmed, linked and kept fresh.",
        },
        "servers": [{"url": prefix}],
        "security": [{"token": []}, {"session": []}, {"session-over-http": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**schemas, "Problem": _PROBLEM},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API token, made by `waylink token create`. Scopes: " + ", ".join(Scope) + ".",
                },
                "session": _of_cookie(f"__Host-{SESSION}", "The session of an operator who has signed in."),
                "session-over-http": _of_cookie(SESSION, "The same where Waylink is reached without TLS."),
            },
        },
    }


def problems_of(endpoint: Endpoint) -> dict[int, list[ProblemKind]]:
    """Every problem an endpoint can answer with, by status."""
    kinds = [*_ALWAYS, *endpoint.problems]
    if endpoint.parameters or endpoint.teams:
        kinds.append(NOT_FOUND)
    if endpoint.body is not None or endpoint.lines:
        kinds += _WITH_BODY
    if endpoint.writes:
        kinds.append(IDEMPOTENCY_KEY_REUSED)
    if endpoint.asks_nango:
        kinds += _OF_NANGO
    if endpoint.matches_patterns:
        kinds.append(TOO_MANY_CALLS)
    found: dict[int, list[ProblemKind]] = {}
    for kind in sorted(dict.fromkeys(kinds), key=lambda kind: kind.status):
        found.setdefault(kind.status, []).append(kind)
    return found


def _of_cookie(name: str, description: str) -> dict[str, str]:
    return {"type": "apiKey", "in": "cookie", "name": name, "description": description}


def _shapes(endpoints: Sequence[Endpoint]) -> list[Any]:
    found = [shape for endpoint in endpoints for shape in (endpoint.query, endpoint.body, endpoint.answer)]
    return [shape for shape in dict.fromkeys(found) if shape is not None and shape is not type(None)]


def _operation(endpoint: Endpoint, query: Mapping[str, Any] | None) -> dict[str, Any]:
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in endpoint.parameters
    ]
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": "\n\n".join(part for part in (endpoint.description, _needs(endpoint)) if part),
        "parameters": [*path, *_parameters(query or {}), *([_IDEMPOTENCY_KEY] if endpoint.writes else [])],
        "responses": {str(endpoint.status): _success(endpoint), **_refusals(endpoint)},
    }
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _schema(endpoint.body)}}}
    if endpoint.lines:
        operation["requestBody"] = {"required": True, "content": {JSON_LINES: {"schema": {"type": "string"}}}}
    return operation


def _needs(endpoint: Endpoint) -> str:
    team = ", which may be a team's and then minds its own rows only" if endpoint.teams else ""
    return f"Needs a token of the scope `{endpoint.scope}`{team}."


def _parameters(query: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, shape in query.get("properties", {}).items():
        schema = {key: value for key, value in _without_null(shape).items() if value is not None}
        parameter = {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": schema}
        if description := schema.pop("description", None):
            parameter["description"] = description
        if schema.get("type") == "object":
            # `tags[plan]=pro`, as Nango has it.
            parameter |= {"style": "deepObject", "explode": True}
        found.append(parameter)
    return found


def _without_null(shape: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without null, which a query string does not have: the parameter is left out instead."""
    kinds = [option for option in shape.get("anyOf", ()) if option != {"type": "null"}]
    rest = {key: value for key, value in shape.items() if key != "anyOf"}
    return {**rest, **kinds[0]} if len(kinds) == 1 else dict(shape)


def _success(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.status == 204:
        return {"description": "Done."}
    return {"description": "Done.", "content": {"application/json": {"schema": _schema(endpoint.answer)}}}


def _refusals(endpoint: Endpoint) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="Problem")}
    return {
        str(status): {
            "description": " ".join(f"`{kind.type}`: {kind.title}." for kind in kinds),
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status, kinds in problems_of(endpoint).items()
    }


def _schema(shape: Any) -> dict[str, Any]:
    (found,), _ = msgspec.json.schema_components([shape], ref_template=_REF)
    return found
