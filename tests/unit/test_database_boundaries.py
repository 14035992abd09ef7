"""Rules for access to the database, held on the source.

SQL stands under app/db; outside of it a session is only passed on. What works in a transaction neither ends it nor does
anything that does not belong to it. Services that open transactions say so.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TYPES = {"sqlalchemy.orm": {"Session"}, "sqlalchemy.engine": {"make_url"}}  # the second reads a URL
ERRORS = "sqlalchemy.exc"
LIBRARIES = {"sqlalchemy", "sqlite3", "alembic"}
BLOCKS = {"write", "read", "dry_run"}
ENDS = {"commit", "rollback", "begin", "close"}
ELSEWHERE = {"database", "hints", "broker", "client", "clients"}  # names by which modules have them


def sources(*, database: bool) -> Iterator[tuple[str, ast.Module]]:
    """The modules of app/db, or all others of the product, by their paths. The sandbox has no database."""
    for folder in ("app", "workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith("app/db/") is database and not name.startswith(("app/db/migrations/", "app/sandbox/")):
                yield name, ast.parse(path.read_text())


def opens_transaction(item: ast.withitem) -> bool:
    """Whether it is `….write()` or `….read()` of a database, one of the two by a condition, or calls its result so."""
    if isinstance(item.optional_vars, ast.Name) and item.optional_vars.id == "session":
        return True
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
    """The code of a module outside of app/db that only app/db may hold."""
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
        "with opened() as session:\n    session.add(row)",
    ],
)
def test_sql_elsewhere_would_be_found(source: str) -> None:
    assert [*sql(ast.parse(source))]


def takes_session(node: ast.AST) -> bool:
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return is_function and any(is_session(parameter.annotation) for parameter in parameters(node))


def opens_block(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and any(map(opens_transaction, node.items))


def ends_or_leaves(tree: ast.Module) -> Iterator[str]:
    """The places where code within a transaction ends it, opens another one, or calls another system.

    Such code is functions that take a session, and the blocks that open it.
    """
    sessions = session_names(tree)
    for place in filter(lambda node: takes_session(node) or opens_block(node), ast.walk(tree)):
        for node in (node for statement in place.body for node in ast.walk(statement)):
            leaves = isinstance(node, ast.Name | ast.Attribute) and last_name(node) in ELSEWHERE
            ends = isinstance(node, ast.Attribute) and last_name(node.value) in sessions and node.attr in ENDS
            if leaves or ends:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_what_works_in_a_transaction_neither_ends_it_nor_opens_another_nor_calls_another_system() -> None:
    modules = [*sources(database=False), *sources(database=True)]
    assert {name: found for name, tree in modules if (found := [*ends_or_leaves(tree)])} == {}


@pytest.mark.parametrize(
    "source",
    [
        "def add(session: Session) -> None:\n    session.commit()",
        "with database.write() as writing:\n    writing.rollback()",
        "def give_up(self, session: Session) -> None:\n    routes = self.routes.current(self.database)",
        "def retry(session: Session, database: Database) -> None:\n    database.write()",
        "with self.database.write() as session:\n    self.hints.of_jobs(ids)",
        "with database.write() as session:\n    client.delete_connection(key)",
    ],
)
def test_work_that_leaves_its_transaction_would_be_found(source: str) -> None:
    assert [*ends_or_leaves(ast.parse(source))]


def opens_any(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.withitem) and opens_transaction(node) for node in ast.walk(tree))


def test_transactions_are_opened_by_services_that_say_so_and_by_commands_and_endpoints() -> None:
    opening = {name: ast.get_docstring(tree) or "" for name, tree in sources(database=False) if opens_any(tree)}
    services = {name: text for name, text in opening.items() if name.startswith("app/services/")}
    assert {name for name, text in services.items() if "transaction" not in text.lower()} == set()
    assert {name.split("/")[1] for name in opening} == {"services", "web", "cli", "runtime"}
    assert "app/services/events/processor.py" in services
