"""Conditions on tags, which both databases store as JSON objects of texts."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, type_coerce
from sqlalchemy.dialects.postgresql import JSONB


def tagged(dialect: str, column: Any, tags: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """Conditions that hold where a column of tags has each of these tags with exactly this value."""
    if dialect == "postgresql":
        return [type_coerce(column, JSONB).contains(dict(tags))]
    tag = func.json_each(column).table_valued("key", "value")
    return [exists().select_from(tag).where(tag.c.key == key, tag.c.value == tags[key]) for key in tags]


def tagged_by_one(dialect: str, column: Any, names: Collection[str], value: str) -> ColumnElement[bool]:
    """The condition that one of these tags has exactly this value."""
    if dialect == "postgresql":
        return or_(*(type_coerce(column, JSONB).contains({name: value}) for name in names))
    tag = func.json_each(column).table_valued("key", "value")
    return exists().select_from(tag).where(tag.c.key.in_(names), tag.c.value == value)
