"""Who may do what with the database: SQL stands under app/db, and nowhere else.

Held on the source: outside of app/db a session is only handed on, whatever it could do.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TYPES = {"sqlalchemy.orm": {"Session"}, "sqlalchemy.engine": {"make_url"}}  # the second reads a URL
ERRORS = "sqlalchemy.exc"
LIBRARIES = {"sqlalchemy", "sqlite3", "alembic"}
BLOCKS = {"write", "read"}


def sources(*, database: bool) -> Iterator[tuple[str, ast.Module]]:
    """The modules of app/db, or all others of the product, by their paths. The sandbox has no database."""
    for folder in ("app", "workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith("app/db/") is database and not name.startswith(("app/db/migrations/", "app/sandbox/")):
                yield name, ast.parse(path.read_text())


def opens_transaction(item: ast.withitem) -> bool:
    """Whether it is `….write()` or `….read()` of a database, or one of the two by a condition."""
    calls = [node for node in ast.walk(item.context_expr) if isinstance(node, ast.Call) and not node.args]
    owners = [call.func.value for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in BLOCKS]
    return any(ast.unparse(owner).rpartition(".")[2] == "database" for owner in owners)


def is_session(annotation: ast.expr | None) -> bool:
    return annotation is not None and "Session" in ast.unparse(annotation).split(" | ")


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def session_names(tree: ast.Module) -> set[str]:
    """The names by which a module has sessions: parameters, fields, attributes, and what blocks yield."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and is_session(node.annotation):
            found.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and is_session(node.annotation):
            found.add(ast.unparse(node.target))
        elif isinstance(node, ast.withitem) and opens_transaction(node) and isinstance(node.optional_vars, ast.Name):
            found.add(node.optional_vars.id)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in found:
            found |= {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
    return found


def last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def sql(tree: ast.Module) -> Iterator[str]:
    """What a module outside of app/db must not do, as it stands there."""
    sessions = session_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {each.name}" for each in node.names if each.name.split(".")[0] in LIBRARIES)
        elif isinstance(node, ast.ImportFrom):
            module, names = node.module or "", {each.name for each in node.names}
            if module.split(".")[0] in LIBRARIES and module != ERRORS and not names <= TYPES.get(module, set()):
                yield ast.unparse(node)
            if (module == "app.db" and "bulk" in names) or (module == "app.db.bulk" and names != {"Row"}):
                yield ast.unparse(node)  # statements by model
        elif isinstance(node, ast.Attribute):
            owner = last_name(node.value)
            if owner in sessions or (owner == "engine" and node.attr != "dialect"):
                yield ast.unparse(node)


def test_sql_stands_under_app_db() -> None:
    assert {name: found for name, tree in sources(database=False) if (found := [*sql(tree)])} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from sqlalchemy import select",
        "from sqlalchemy.orm import Session, selectinload",
        "import sqlalchemy as sa",
        "import sqlite3",
        "from app.db import audit, bulk",
        "from app.db.bulk import insert",
        "def take(session: Session) -> None:\n    session.add(row)",
        "def find(read: Session | None) -> Team:\n    return read.get(Team, name)",
        "with self.database.write() as writing:\n    writing.execute(statement)",
        "with database.read() if dry_run else database.write() as session:\n    session.flush()",
        "class Batch:\n    def __init__(self, session: Session):\n        self._session = session\n"
        "    def write(self):\n        self._session.flush()",
        "@dataclass\nclass Links:\n    session: Session\n    def write(self):\n        self.session.merge(row)",
        "with database.engine.begin() as connection:\n    pass",
    ],
)
def test_sql_elsewhere_would_be_found(source: str) -> None:
    assert [*sql(ast.parse(source))]
