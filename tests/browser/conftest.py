"""A real web process on SQLite, with a provider to sign in at, and a real Chromium on several screens."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from app.db.engine import Database, connect
from tests import openid_provider
from tests.browser.visitor import Visitor
from tests.openid_provider import CLIENT_ID, CLIENT_SECRET, Provider
from tests.ports import free_port
from tests.waiting import PATIENCE, until

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "app.cli"]
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENS = [(360, "dark"), (1280, "light")]  # contrast is looked at in both schemes on each
WITHOUT_SCRIPT = 360  # the width on which no script runs, so that each page and act is tried with and without
REFUSALS = frozenset({403, 404, 409, 410, 422})  # that the tests are about
CONFIG = """
[[operators.groups]]
group = "ops"
role = "operator"
"""


@dataclass
class Installation:
    """A running web process. `run` carries out a command in its folder."""

    origin: str
    run: Callable[..., str]
    provider: Provider
    database: Database


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A web process of its own, on SQLite in a temporary folder. It needs no broker to serve pages."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "waylink.toml").write_text(CONFIG)
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WAYLINK_")}
    with openid_provider.serve() as provider:
        environment = inherited | {
            "PYTHONPATH": str(ROOT),
            "WAYLINK_PORT": str(port),
            "WAYLINK_NANGO_SIGNING_KEYS": "a-key-for-this-test",
            "WAYLINK_OIDC_ISSUER": provider.origin,
            "WAYLINK_OIDC_CLIENT_ID": CLIENT_ID,
            "WAYLINK_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        }

        def run(*arguments: str) -> str:
            command = [*COMMAND, *arguments]
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("migrate")
        with (folder / "web.log").open("wb") as log:
            web = subprocess.Popen([*COMMAND, "web"], cwd=folder, env=environment, stdout=log, stderr=log)
            try:
                _wait_for(f"http://127.0.0.1:{port}/healthz", web, folder / "web.log")
                with closing(connect(f"sqlite:///{next(folder.rglob('*.db'))}")) as database:
                    yield Installation(f"http://127.0.0.1:{port}", run, provider, database)
            finally:
                web.terminate()
                web.wait(timeout=PATIENCE)


def _wait_for(url: str, web: subprocess.Popen, log: Path) -> None:
    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(url, trust_env=False, timeout=PATIENCE).status_code == 200
        return False

    until("it answers or has ended", lambda: web.poll() is not None or answers())
    assert web.poll() is None, log.read_text()


@pytest.fixture(scope="package")
def chromium() -> Iterator["playwright.Browser"]:
    """Debian's browser, ended with the last test of this folder: its driver keeps an event loop running until then."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(QUIET))
        yield browser
        browser.close()


@contextmanager
def opened(chromium, width: int, scheme: str, *, expected: frozenset[int], **options) -> Iterator["playwright.Page"]:
    """A page on one screen. What the browser complains about fails the test, CSP violations included.

    expected: statuses from 400 on that the test is about.
    """
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    complaints: list[str] = []

    def note(message) -> None:
        is_expected = any(f"status of {status}" in message.text for status in expected)
        # A hint of the browser, such as that a field had the focus before `autofocus` gave it one, is no complaint.
        if message.type != "info" and not is_expected:
            complaints.append(f"{message.type}: {message.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda failed: complaints.append(f"failed: {failed.url}"))
    page.on(
        "response",
        lambda answer: (
            complaints.append(answer.url) if answer.status >= 400 and answer.status not in expected else None
        ),
    )
    yield page
    context.close()
    assert complaints == []


@pytest.fixture(params=SCREENS, ids=lambda screen: f"{screen[0]}px-{screen[1]}")
def screen(request: pytest.FixtureRequest) -> tuple[int, str]:
    return request.param


@pytest.fixture
def visit(chromium, installed: Installation, screen: tuple[int, str]) -> Iterator[Visitor]:
    """A visitor on one screen, the narrow one without JavaScript."""
    with opened(chromium, *screen, expected=REFUSALS, java_script_enabled=screen[0] != WITHOUT_SCRIPT) as page:
        yield Visitor(page, installed.origin, screen)


@pytest.fixture
def operator(installed: Installation, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A new operator: the name, and the path of the link."""
    name = f"ada-{sha256(request.node.name.encode()).hexdigest()[:8]}"
    said = installed.run("operator", "add", name, "--role", "operator")
    return name, said.split()[-1].removeprefix(installed.origin)
