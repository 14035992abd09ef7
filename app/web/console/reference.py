"""The page about the REST API, made from its OpenAPI document."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from starlette.responses import Response

from app.web.api.endpoint import Endpoint
from app.web.api.openapi import document, problems_of
from app.web.api.problems import ProblemKind
from app.web.api.registry import ENDPOINTS
from app.web.api.serving import PREFIX
from app.web.console.serving import ConsoleContext, Visit

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TypeText:
    """A type in words. shape: the name of the object that it consists of, which has a description of its own."""

    text: str
    shape: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter, or a member of an object."""

    name: str
    type: TypeText
    required: bool
    description: str
    place: str = ""  # of a parameter: path, query or header


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. status and answer: of a success. problems: refusals that not all calls have."""

    method: str
    path: str
    name: str
    summary: str
    description: str
    parameters: tuple[Member, ...]
    body: TypeText | None
    status: int
    answer: TypeText | None
    problems: tuple[ProblemKind, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """An object of the document. name: there, and of its place on the page."""

    name: str
    title: str
    description: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """groups: operations by the first word of their path. everywhere: refusals that all calls have."""

    groups: Mapping[str, tuple[Operation, ...]]
    shapes: Mapping[str, Shape]
    everywhere: tuple[ProblemKind, ...]

    def shapes_of(self, operations: Iterable[Operation]) -> list[Shape]:
        """The objects that calls take and answer with, and those within them, by name."""
        told = [
            (operation.body, operation.answer, *(one.type for one in operation.parameters)) for operation in operations
        ]
        waiting = {kind.shape for kinds in told for kind in kinds if kind is not None and kind.shape}
        found: dict[str, Shape] = {}
        while waiting:
            shape = self.shapes[waiting.pop()]
            found[shape.name] = shape
            waiting |= {member.type.shape for member in shape.members if member.type.shape} - found.keys()
        return [found[name] for name in sorted(found)]


async def show_calls(_context: ConsoleContext, visit: Visit) -> Response:
    """All calls of the API, by the first word of their path."""
    return visit.page("api.html", reference=reference(), prefix=PREFIX)


async def show_group(_context: ConsoleContext, visit: Visit) -> Response:
    """The calls of one group with their parameters and answers, and the objects that these consist of."""
    name, known = visit.request.path_params["group"], reference()
    if name not in known.groups:
        return visit.message("No such part", "The API has no calls of that name.", status=404)
    operations = known.groups[name]
    shapes = known.shapes_of(operations)
    return visit.page("api_group.html", name=name, operations=operations, shapes=shapes)


@cache
def reference() -> Reference:
    """The API of this release as the page shows it."""
    described = document(ENDPOINTS, prefix=PREFIX)
    problems = [{kind for kinds in problems_of(endpoint).values() for kind in kinds} for endpoint in ENDPOINTS]
    everywhere = set.intersection(*problems)
    groups: dict[str, list[Operation]] = {}
    for endpoint, its in sorted(zip(ENDPOINTS, problems, strict=True), key=lambda pair: _order(pair[0])):
        told = described["paths"][endpoint.template][endpoint.method.lower()]
        groups.setdefault(endpoint.path.split("/")[1], []).append(_operation(endpoint, told, its - everywhere))
    schemas = described["components"]["schemas"]
    return Reference(
        groups={name: tuple(found) for name, found in groups.items()},
        shapes={name: _shape(name, schema) for name, schema in schemas.items()},
        everywhere=_sorted(everywhere),
    )


def _order(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.template, endpoint.method


def _sorted(problems: Iterable[ProblemKind]) -> tuple[ProblemKind, ...]:
    return tuple(sorted(problems, key=lambda kind: (kind.status, kind.word)))


def type_text(schema: Schema) -> TypeText:
    """A JSON schema in words, such as `list of string` or `integer, 1 to 500`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return TypeText(_shown(name), name)
    if "anyOf" in schema:
        parts = [type_text(part) for part in schema["anyOf"]]
        shape = next((part.shape for part in parts if part.shape), None)
        return TypeText(" or ".join(part.text for part in parts), shape)
    if "enum" in schema:
        return TypeText(" or ".join(json.dumps(value) for value in schema["enum"]))
    kind = schema.get("type", "any JSON")
    if kind == "array":
        inner = type_text(schema.get("items", {}))
        return TypeText(f"list of {inner.text}", inner.shape)
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        inner = type_text(schema["additionalProperties"])
        return TypeText(f"object of {inner.text}", inner.shape)
    bounds = _bounds(schema)
    return TypeText(f"{kind}, {bounds}" if bounds else str(kind))


def _bounds(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{least} to {most}"
    return f"at least {least}" if least is not None else f"at most {most}" if most is not None else ""


def _operation(endpoint: Endpoint, told: Mapping[str, Any], problems: Iterable[ProblemKind]) -> Operation:
    parameters = tuple(
        Member(one["name"], type_text(one["schema"]), one["required"], one.get("description", ""), one["in"])
        for one in told["parameters"]
    )
    return Operation(
        endpoint.method,
        endpoint.template,
        endpoint.name,
        endpoint.summary,
        told["description"],
        parameters,
        _body(told.get("requestBody", {})),
        endpoint.status,
        _body(told["responses"][str(endpoint.status)]),
        _sorted(problems),
    )


def _body(answer: Mapping[str, Any]) -> TypeText | None:
    content = answer.get("content")
    return type_text(next(iter(content.values()))["schema"]) if content else None


def _shape(name: str, schema: Schema) -> Shape:
    return Shape(name, _shown(name), schema.get("description", ""), tuple(_members(schema)))


def _shown(name: str) -> str:
    """The name of an object; that of a page of rows names the rows."""
    return f"Page of {name[5:-1]}" if name.startswith("Page_") else name


def _members(schema: Schema) -> Iterator[Member]:
    required = set(schema.get("required", ()))
    for name, member in schema.get("properties", {}).items():
        yield Member(name, type_text(member), name in required, member.get("description", ""))
