"""Documentation that cannot rot: what the code has is in the docs, and what the docs name is there."""

import ast
import importlib.util
import inspect
import re
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
import pytest
from pydantic import BaseModel

from app import errors
from app.cli.main import waylink
from app.cli.send import sample_names
from app.config import notify_entries, waylink_toml
from app.config.settings import Settings
from app.domain.access import Scope
from app.domain.acknowledging import AckKind
from app.domain.event import EventType
from app.domain.job_actions import JobAction
from app.domain.linking import Drift, UnlinkedReason
from app.domain.metric_counts import Kind
from app.domain.reconciling import RunOutcome, Stage, Trigger
from app.domain.states import (
    AuditOutcome,
    ConnectionStatus,
    EventState,
    Fault,
    JobState,
    Origin,
    RefreshOutcome,
    RefreshState,
)
from app.domain.status import Check, CheckKind, Level
from app.nango import credentials
from app.nango.reading import Reading
from app.nango.sessions import Sessions
from app.nango.writing import Writing
from app.sandbox.faults import Operation
from app.services.metrics import own_counts
from app.services.metrics.gauges import GAUGES
from app.services.status.shapes import shown as shown_check
from app.web.api import problems
from app.web.api.reading import read_query
from app.web.api.registry import ENDPOINTS
from tests.pages import Block, Curl, blocks, commands, curl, waylink_calls

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INTERNALS, DECISIONS = DOCS / "internals", DOCS / "decisions"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md"), *ROOT.glob("examples/*/*.md"), *ROOT.glob("tests/**/*.md")])
WRITTEN = {path: path.read_text() for path in PAGES}
GENERATED = ("settings.md", "cli.md")
# The pages about the code, which name files of it.
OF_THE_CODE = [
    path
    for path in PAGES
    if path.name in {"ARCHITECTURE.md", "CONTRIBUTING.md"} or path.parent in {INTERNALS, DECISIONS}
]
# What people wrote about it counts, not the tables made from the code.
PROSE = "\n".join(text for path, text in WRITTEN.items() if path.parent == DOCS and path.name not in GENERATED)
WORDS: tuple[type[StrEnum], ...] = (
    EventType,
    EventState,
    Origin,
    ConnectionStatus,
    JobState,
    JobAction,
    Fault,
    RefreshOutcome,
    RefreshState,
    AuditOutcome,
    Level,
    AckKind,
    Scope,
    UnlinkedReason,
    Drift,
    Operation,
    Trigger,
    Stage,
    RunOutcome,
)
WITH_COMMANDS = {
    f"{page}.md"
    for page in (
        "operations",
        "runbook",
        "notifications",
        "routes",
        "people",
        "reconcile",
        "sandbox",
        "webhooks",
        "deploy",
    )
}
CODE = sorted(
    path
    for folder in ("app", "workers", "tests", "bench", "examples", "docs")
    for path in ROOT.glob(f"{folder}/**/*.py")
)
# Split, so that this file does not name them itself.
CITED = "Nango " + "contract:"
PRIVATE_DOCUMENTS = re.compile(r"\b(?:CON" r"TRACT|DES" r"IGN)\b")
PRIVATE = ("/work" + "/", "/home" + "/", "/root" + "/", "/Users" + "/", ".." + "/shared", "DES" + "IGN.md")
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org")


def _generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), f"{path} {name}")


COMMANDS = dict(_commands(waylink, "waylink"))
METRICS = {
    (shape.name + "_total" * (shape.kind == Kind.COUNTER), shape.kind.value, shape.labels)
    for shape in own_counts.METRICS
} | {(gauge.name, "gauge", gauge.labels) for gauge in GAUGES}
MODELS = [
    model
    for module in (waylink_toml, notify_entries)
    for model in vars(module).values()
    if isinstance(model, type) and issubclass(model, BaseModel)
]


@pytest.mark.parametrize(("page", "make"), [("settings.md", "settings_page"), ("cli.md", "cli_page")])
def test_generated_pages_are_what_the_code_says_now(page, make):
    assert (DOCS / page).read_text() == getattr(_generator(), make)(), "run `make docs`"


def test_every_setting_is_documented_with_its_help():
    page = WRITTEN[DOCS / "settings.md"]
    for name, field in Settings.model_fields.items():
        assert f"`WAYLINK_{name.upper()}`" in page
        assert field.description, name
        assert field.description in page
        assert field.examples, name


def test_every_key_of_the_file_is_documented():
    page = WRITTEN[DOCS / "settings.md"]
    assert waylink_toml.RouteEntry in MODELS
    tables = {
        "environments", "teams", "destinations", "routes", "directory", "refresh", "duplicates", "operators", "notify",
        "channels",
    }  # fmt: skip
    for model in MODELS:
        for name in model.model_fields:
            assert (f"[{name}" in page or f".{name}." in page) if name in tables else f"`{name}`" in page, name


@pytest.mark.parametrize("path", [path for path in COMMANDS if path != "waylink"])
def test_every_command_is_documented(path):
    assert f"\n## {path}\n" in WRITTEN[DOCS / "cli.md"]
    assert COMMANDS[path].help


def test_the_page_of_metrics_has_each_with_its_kind_and_labels_and_no_other():
    rows = re.findall(r"^\| `(waylink_\w+)` \| (\w+) \|([^|]*)\|", WRITTEN[DOCS / "metrics.md"], re.M)
    documented = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(rows) == len(METRICS) > 40
    assert documented == METRICS


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words.__name__)
def test_every_word_of_the_public_contract_is_explained(words):
    for word in words:
        assert f"`{word}`" in PROSE or f'"{word}"' in PROSE, word


def test_every_endpoint_and_every_kind_of_problem_of_the_api_is_documented():
    page = WRITTEN[DOCS / "api.md"]
    for endpoint in ENDPOINTS:
        assert re.search(rf"`{endpoint.method} (/api/v1)?{re.escape(endpoint.template)}`", page), (
            endpoint.method,
            endpoint.template,
        )
    for kind in vars(problems).values():
        if isinstance(kind, problems.ProblemKind):
            assert f"`{kind.word}`" in page, kind.word


def test_every_call_that_the_api_page_shows_is_one():
    """Method, path, query and body of each curl line are in the OpenAPI document."""
    shown = set()
    for call in _curl_lines(DOCS / "api.md"):
        url = urlsplit(call.url.replace("$API", "/api/v1").replace("[", "%5B").replace("]", "%5D"))
        path = url.path.partition("/api/v1")[2]
        fitting = [
            endpoint for endpoint in ENDPOINTS if endpoint.method == call.method and _fits(endpoint.template, path)
        ]
        found = sorted(fitting, key=lambda endpoint: endpoint.template.count("{"))[
            :1
        ]  # as they are served: words go first
        if path == "/openapi.json":
            continue
        assert len(found) == 1, call
        assert (call.data is None) == (found[0].body is None), call
        if found[0].body is not None and call.data is not None:
            msgspec.json.decode(call.data, type=found[0].body)
        read_query(url.query.encode(), found[0].query)
        shown.add(found[0].name)
    assert shown == {endpoint.name for endpoint in ENDPOINTS}


def _curl_lines(page: Path) -> Iterator[Curl]:
    for block in blocks(page):
        if block.language == "sh":
            yield from (curl(command) for command in commands(block.content) if command.startswith("curl "))


def _fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path) is not None


def test_every_sample_is_explained():
    for name in sample_names():
        assert f"`{name}`" in WRITTEN[DOCS / "webhooks.md"], name


def test_the_table_of_status_names_every_check_and_no_other():
    page = WRITTEN[DOCS / "operations.md"]
    table = re.search(r"^\| check \|.*?\n\n", page, re.MULTILINE | re.DOTALL)[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line]
    shown = [kind.partition(":")[0] for row in rows for kind in re.findall(r"`([^`]+)`", row)]
    assert set(shown) == set(CheckKind)
    (members,) = re.findall(r"`{(\"id\"[^}]*)}`", page)
    assert members.replace('"', "").split(",") == [*shown_check(Check(CheckKind.DATABASE, Level.OK, 0))]


def test_the_runbook_has_a_heading_for_every_check_that_may_be_red_and_for_no_other():
    page = WRITTEN[DOCS / "operations.md"]
    table = re.search(r"^\| check \|.*?\n\n", page, re.MULTILINE | re.DOTALL)[0]
    red = {
        kind.partition(":")[0]
        for _, check, _, when, *_ in (line.split("|") for line in table.splitlines()[2:] if line)
        for kind in re.findall(r"`([^`]+)`", check)
        if re.search(r"\bred\b", when)
    }
    part = WRITTEN[DOCS / "runbook.md"].partition("\n## When a check is red\n")[2].partition("\n## ")[0]
    headings = "\n".join(re.findall(r"^### (.+)$", part, re.MULTILINE))
    assert set(re.findall("`([^`]+)`", headings)) == red


def test_every_answer_that_is_counted_is_documented():
    code = "".join((ROOT / "app" / "web" / f"{name}.py").read_text() for name in ("webhooks", "bodies"))
    causes = set(re.findall(r'Refus(?:ed|al)\(\d+, "(\w+)"', code)) | set(re.findall(r'labels\(name, "(\w+)"', code))
    assert {"bad_signature", "too_large", "overload"} <= causes
    for cause in causes:
        assert f"`{cause}`" in WRITTEN[DOCS / "metrics.md"], cause


def test_every_warning_is_in_the_runbook():
    code = "".join(file.read_text() for part in ("app", "workers") for file in sorted((ROOT / part).rglob("*.py")))
    events = set(re.findall(r'log\.(?:warning|error|exception|critical)\(\s*"(\w+)"', code))
    assert {"database_away", "webhook_refused", "loop_died"} <= events
    for event in events:
        assert f"`{event}`" in WRITTEN[DOCS / "operations.md"], event


def test_every_operation_and_error_of_the_client_is_documented():
    page = WRITTEN[DOCS / "client.md"]
    operations = [name for part in (Reading, Writing, Sessions) for name in vars(part) if not name.startswith("_")]
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.NangoError)}
    assert len(operations) >= 16
    for name in operations:
        assert f"`{name}(" in page, name
    for name in {kind.__name__ for kind in kinds - {errors.NangoError}} | {"InvalidTags", "InvalidInput"}:
        assert f"`{name}`" in page, name
    for name, kind in inspect.getmembers(credentials, inspect.isclass):
        if issubclass(kind, credentials.Credentials) and kind is not credentials.Credentials:
            assert f"`{name}`" in page, name
            for field in set(kind.__dataclass_fields__) - {"type", "expires_at", "raw"}:
                assert f"`{field}`" in page, field


def test_every_rule_for_tags_is_named_by_the_client_page_in_the_order_in_which_it_is_checked():
    [named] = re.findall(r"^Rules for tags,.*?\n\n", WRITTEN[DOCS / "client.md"], re.MULTILINE | re.DOTALL)
    rules = re.findall(r'TagFault\("(\w+)"', (ROOT / "app" / "domain" / "tags.py").read_text())
    assert re.findall(r"`(\w+)`", named) == rules


def test_every_dependency_has_its_reason():
    """A comment on the line of each requirement, longer than its name."""
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    reasons = dict(re.findall(r'^  "([^"]+)",  # (\S.*)$', text, re.MULTILINE))
    for requirement in [*project["dependencies"], *extras]:
        assert len(reasons.get(requirement, "")) >= 5, requirement


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(WRITTEN[path])):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        assert goal.exists(), target
        if anchor:
            assert anchor in _anchors(WRITTEN.get(goal) or goal.read_text()), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_are_quoted_exist(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for quoted in re.findall(r"(?:`|^|&& )make ([a-z-]+)", WRITTEN[path], re.MULTILINE):
        assert quoted in targets, quoted


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_that_a_page_shows_is_taken_as_it_stands(path, monkeypatch, tmp_path):
    """Options, their values and the number of arguments; nothing runs. Files that it names are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    if path.name in GENERATED:
        return
    shown = [call for block in blocks(path) for command in _typed(block) for call in waylink_calls(command)]
    for call in shown:
        for file in (word for word in call if re.fullmatch(r"\w+\.(csv|jsonl?)", word)):
            (tmp_path / file).touch()
        _parse(call)
    if path.parent == DOCS and path.name in WITH_COMMANDS:
        assert shown


@pytest.mark.parametrize(
    "path", [path for path in PAGES if path.name != "CHANGELOG.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_command_that_a_sentence_names_is_taken_with_these_options(path, monkeypatch):
    """An id or an option's value that the sentence leaves out may be missing."""
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    for quoted in re.findall(r"`(waylink [^`]+)`", _without_code(WRITTEN[path])):
        for call in waylink_calls(" ".join(quoted.split())):
            try:
                _parse(call)
            except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
                pass
            except click.BadOptionUsage as wrong:
                if "requires an argument" not in wrong.message:
                    raise


def test_a_command_line_that_is_wrong_is_reported(monkeypatch):
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    for wrong in (
        "waylink nonsense",
        "waylink jobs nonsense",
        "waylink jobs --nonsense",
        "waylink jobs --state nonsense",
        "waylink jobs retry --ended-since nonsense",
        "export KEY=$(waylink secrets nonsense)",
        "waylink events | waylink jobs show",
        "waylink token create one two",
    ):
        *right, last = waylink_calls(wrong)
        for call in right:
            _parse(call)
        with pytest.raises(click.UsageError):
            _parse(last)


def _typed(block: Block) -> Iterator[str]:
    """Commands, and where a text names some, at the end of a line."""
    if block.language == "sh":
        yield from commands(block.content)
    elif block.language == "text":
        yield from re.findall(r"(?:^|: |  )(waylink .+)$", block.content, re.MULTILINE)


def _parse(words: list[str]) -> None:
    waylink.main(words, prog_name="waylink", standalone_mode=False)


def test_code_that_pages_show_of_a_file_stands_in_it():
    """`<!-- path -->` before a block names the file; a block may leave out what is around it."""
    shown = [
        (path, code)
        for text in WRITTEN.values()
        for path, code in re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
    ]
    assert {path for path, _ in shown} >= {"examples/celery-team/team.py", "examples/http-team-python/team.py"}
    for path, code in shown:
        assert code in (ROOT / path).read_text(), path


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_developers_machine_or_a_package_registry(path):
    for private in (*PRIVATE, *REGISTRIES):
        assert private not in WRITTEN[path], private


def test_every_citation_of_nangos_contract_names_a_heading_of_it():
    """A citation stands on one line, `(` and `)` around it, so that a search finds all of a heading."""
    headings = set(re.findall(r"^##+ (.+)$", WRITTEN[DOCS / "nango-contract.md"], re.MULTILINE))
    cited = set()
    for path in (*CODE, *PAGES):
        text = path.read_text()
        citations = re.findall(rf"\({CITED} ([^()\n]+)\)", text)
        begun = re.findall(CITED.replace(" ", r"[\s#]+"), text)
        assert len(begun) == len(citations), f"{path} has a citation that is not on one line, or without brackets"
        named = {heading for citation in citations for heading in citation.split("; ")}
        assert named <= headings, f"{path} cites {named - headings}"
        cited |= named
    assert len(cited) > 20


def test_no_comment_and_no_page_cites_a_document_that_is_not_here():
    for path in (*CODE, *PAGES):
        assert not PRIVATE_DOCUMENTS.search(path.read_text()), path


def test_every_promise_names_tests_that_exist():
    rows = re.findall(r"^\| \d+ \|.*$", WRITTEN[ROOT / "ARCHITECTURE.md"], re.MULTILINE)
    assert len(rows) >= 14
    for row in rows:
        named = re.findall(r"`((?:unit|integration|acceptance|browser)/[\w/]+\.py)`", row)
        assert named, row
        for name in named:
            assert (ROOT / "tests" / name).exists(), name


@pytest.mark.parametrize("path", OF_THE_CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_folder_that_is_named_exists(path):
    for named in _paths(_without_code(WRITTEN[path])):
        assert _exists(named), named


def test_a_file_or_folder_that_is_not_there_is_reported():
    told = "`app/nothing.py` `app/nothing/` `services/events/` `x.py` `docs/nothing.md` `app/web/x` `tests/unit/x.py`"
    assert [named for named in _paths(told) if not _exists(named)] == re.findall(r"`([^`]+)`", told)
    fine = "`app/main.py` `app/web/` `unit/test_docs.py` `crm/hook` `/readyz` `.waylink/` `waylink.toml` `make docs`"
    assert [named for named in _paths(fine) if not _exists(named)] == []


def _paths(text: str) -> list[str]:
    """Quoted code that looks like a file or folder of the repository."""
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()}
    quoted = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", text)
    return [
        name
        for name in quoted
        if name.endswith(("/", ".py", ".md")) or ("/" in name and name.partition("/")[0] in tops)
    ]


def _exists(name: str) -> bool:
    """From the repository's top, tests also from theirs. Not what git ignores, or what a text leaves open (`NNNN`)."""
    ignored = (ROOT / ".gitignore").read_text().split()
    return "NNNN" in name or name in ignored or (ROOT / name).exists() or (ROOT / "tests" / name).exists()


def test_the_tree_of_the_architecture_is_that_of_the_code():
    """Every folder under app/ that holds something, every capability and module of the services, and nothing else."""
    shown = set(_tree(WRITTEN[ROOT / "ARCHITECTURE.md"]))
    for name in shown:
        assert _exists(name), name
    held = {file.parent.relative_to(ROOT) for file in (ROOT / "app").rglob("*") if file.suffix not in {"", ".pyc"}}
    held |= {above for folder in held for above in folder.parents} - {Path()}
    services = {file.relative_to(ROOT) for file in (ROOT / "app" / "services").glob("*.py")}
    tops = {file.relative_to(ROOT) for file in (ROOT / "app").glob("*.py")}
    code = {str(path) for path in held | services | tops if path.name != "__init__.py"}
    assert code - {name.rstrip("/") for name in shown} == set()


def _tree(page: str) -> Iterator[str]:
    """The paths of the tree. A line has its names in front of its words, and belongs to the one above it that is
    indented by less."""
    [drawn] = re.findall(r"^## The tree\n\n```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    above: list[str] = []
    for line in drawn.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        for name in re.split(r"  +", line.strip())[0].split(", "):
            parts = [*above[:depth], *name.rstrip("/").split("/")]
            yield from ("/".join(parts[: count + 1]) for count in range(depth, len(parts)))
        above = [*above[:depth], name.rstrip("/")]


def test_every_capability_of_the_services_has_a_page():
    folders = {path.parent.name for path in (ROOT / "app" / "services").glob("*/__init__.py")}
    assert folders <= {path.stem for path in INTERNALS.glob("*.md")}


@pytest.mark.parametrize("path", sorted(INTERNALS.glob("*.md")), ids=lambda path: path.stem)
def test_every_stop_of_a_walk_is_a_function_of_its_module(path):
    """A walk is a numbered list, each item `name` (`file`): what happens there."""
    items = re.findall(r"^\d+\. (.*)$", WRITTEN[path], re.MULTILINE)
    stops = [re.match(r"`([\w.]+)` \(`(\S+\.py)`\):", item) for item in items]
    assert all(stops), items
    assert len(stops) <= 15
    for stop in stops:
        name, file = stop.groups()
        assert name in _functions(ROOT / file), (name, file)
    if path.stem == "events":
        assert stops


def _functions(file: Path) -> set[str]:
    """Functions by their names, and methods as `Class.method`."""
    tree = ast.parse(file.read_text())
    defined = (ast.FunctionDef, ast.AsyncFunctionDef)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = {(class_, node) for class_ in classes for node in class_.body if isinstance(node, defined)}
    ours = {node for _, node in methods}
    functions = {node.name for node in ast.walk(tree) if isinstance(node, defined) and node not in ours}
    return functions | {f"{class_.name}.{node.name}" for class_, node in methods}


@pytest.mark.parametrize("path", sorted(DECISIONS.glob("*.md")), ids=lambda path: path.stem)
def test_every_decision_is_short_dated_and_in_four_parts(path):
    text = WRITTEN[path]
    assert path.name.startswith(text.splitlines()[2]), "its file has its date"
    assert re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Why", "Consequences"]
    assert 10 <= len(text.splitlines()) <= 25


def test_the_map_stays_a_map():
    assert len(WRITTEN[ROOT / "ARCHITECTURE.md"].splitlines()) <= 170


def test_every_variable_that_is_named_is_one():
    known = {f"WAYLINK_{name.upper()}" for name in Settings.model_fields}
    options = [option for command in COMMANDS.values() for option in command.params]
    known |= {option.envvar for option in options if option.envvar}
    known |= {"WAYLINK_PUBLISH", "WAYLINK_NO_SKIPS"}  # docker-compose.yml, tests/conftest.py
    for path, text in WRITTEN.items():
        for name in re.findall(r"\bWAYLINK_[A-Z0-9_]*[A-Z0-9](?!\*)\b", text):
            assert name in known or f"{name}_*" in text, f"{path.name}: {name}"


def test_the_picture_has_a_text_alternative():
    picture = (DOCS / "flow.svg").read_text()
    assert "<title" in picture
    assert "<desc" in picture
    assert "prefers-color-scheme: dark" in picture


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub gives headings."""
    headings = re.findall(r"^#+ (.+)$", _without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
