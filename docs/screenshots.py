"""Pictures of every page of the console, with the data of the sandbox's scenario: `make screenshots`.

It runs `waylink up` in a folder of its own, signs in by the link that this prints, and follows the console's links: one
page of each kind is pictured, on a narrow and a wide screen, light and dark. FOLDER/console.png is README's picture.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Literal

import click
from playwright.sync_api import Page, StorageState, sync_playwright

from app.web.access_table import PAGES

ROOT: Final = Path(__file__).parents[1]
WAYLINK: Final = (sys.executable, "-m", "app.cli")
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
SCREENS: Final[list[tuple[int, Literal["light", "dark"]]]] = [
    (360, "light"),
    (360, "dark"),
    (1280, "light"),
    (1280, "dark"),
]
README_SCREEN: Final = (1280, "light")
README_PAGE: Final = "/console?span=1h"
PASSWORD: Final = "only for these pictures"  # noqa: S105 - the installation ends with this program
SENT: Final = ("auth_creation_success_tags", "refresh_failure_auth", "sync_success")
# What the scenario and the examples' file do not have: definitions and a token that the console may change.
ADDED: Final = (
    "teams add erp",
    "destinations add erp/orders --url https://erp.example.com/orders --rate 5",
    "destinations add erp/jobs --queue team.erp.jobs",
    'routes add erp/new-accounts --destination jobs --job erp.account --pattern {"type":["connection.created"]}',
    "token create deploy --scope viewer",
)
LOOKED_AT: Final = 4  # pages of a kind, for the links that not each of them has
READY_WITHIN: Final = 120.0  # seconds
SETTLE: Final = 20.0  # seconds for the scenario and the first figures
LINKS: Final = "[...document.querySelectorAll(':is(header, nav, main) a[href]')].map(one => one.getAttribute('href'))"
SIGN_IN: Final = "/console/sign-in"
# The pages of the access table, and what their paths look like.
KINDS: Final = {
    operation.removeprefix("GET "): re.compile(re.sub(r"{\w+:path}", ".+", re.sub(r"{\w+}", "[^/]+", operation[4:])))
    for operation in PAGES
    if operation.startswith("GET /console")
}


@contextmanager
def installation(folder: Path) -> Iterator[str]:
    """`waylink up` with the examples' teams on free ports; yields the link by which the first operator signs in."""
    shutil.copy(ROOT / "examples" / "waylink.toml", folder / "waylink.toml")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WAYLINK_")}
    ports = {name: str(_free_port()) for name in ("WAYLINK_PORT", "WAYLINK_SANDBOX_PORT")}
    environment = {**inherited, **ports, "PYTHONPATH": str(ROOT)}
    said = folder / "up.log"
    with said.open("wb") as log:
        up = subprocess.Popen(  # noqa: S603 - the program is ours
            [*WAYLINK, "up"], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            link = _link(up, said)
            for command in (*(f"send {sample}" for sample in SENT), *ADDED):
                subprocess.run(  # noqa: S603 - the program is ours
                    [*WAYLINK, *command.split(" ")], cwd=folder, env=environment, capture_output=True, check=False
                )
            time.sleep(SETTLE)
            yield link
        finally:
            up.terminate()
            up.wait(READY_WITHIN)


def _free_port() -> int:
    with closing(socket.socket()) as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def _link(up: subprocess.Popen[bytes], said: Path) -> str:
    ends = time.monotonic() + READY_WITHIN
    while time.monotonic() < ends and up.poll() is None:
        if found := re.search(r"http://\S+/console/welcome/\S+", said.read_text(errors="replace")):
            return found[0]
        time.sleep(0.2)
    raise click.ClickException(f"`waylink up` printed no link to sign in:\n{said.read_text(errors='replace')[-2000:]}")


def kind_of(path: str) -> str:
    """The page's path in the access table, the most literal one that fits; without any, the path itself."""
    plain = path.partition("#")[0].partition("?")[0].rstrip("/")
    fitting = [kind for kind, pattern in KINDS.items() if pattern.fullmatch(plain)]
    return min(fitting, key=lambda kind: kind.count("{"), default=plain)


def name_of(path: str) -> str:
    """The name of a page's pictures, such as `jobs-one`."""
    plain = re.sub(r"{[^}]*}", "one", kind_of(path)).removeprefix("/console")
    return re.sub(r"[/-]+", "-", plain).strip("-") or "overview"


def pages_of(page: Page, origin: str) -> list[str]:
    """Paths of one page of each kind, as they are found from the first page on."""
    found, looked_at, waiting = dict[str, str](), Counter[str](), ["/console"]
    known = set(waiting)
    while waiting:
        path = waiting.pop(0)
        looked_at[kind_of(path)] += 1
        if looked_at[kind_of(path)] > LOOKED_AT:
            continue
        answer = page.goto(f"{origin}{path}")
        if answer is None or answer.status != 200:
            raise click.ClickException(f"{path} answers {answer.status if answer else 'nothing'}")
        found.setdefault(kind_of(path), path)
        links = {to.partition("#")[0]: None for to in page.evaluate(LINKS) if to.startswith("/console")}
        waiting += [to for to in links if to not in known]
        known |= links.keys()
    return list(found.values())


def take(folder: Path) -> int:
    """Picture every page into this folder. Returns how many pictures there are."""
    browser_path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser_path is None:
        raise click.ClickException("there is no Chromium here: install one (Debian: apt install chromium)")
    count = 0
    with (
        tempfile.TemporaryDirectory(prefix="wl-") as work,
        installation(Path(work)) as link,
        sync_playwright() as driver,
    ):
        origin = link.partition("/console")[0]
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        session = _sign_in(browser.new_page(), link)
        paths = pages_of(browser.new_context(storage_state=session).new_page(), origin)
        without = sorted(KINDS.keys() - set(map(kind_of, [*paths, SIGN_IN])))
        click.echo(f"{len(paths) + 1} of {len(KINDS)} pages; without a row in the scenario: {', '.join(without)}")
        for width, scheme in SCREENS:
            page = browser.new_context(
                viewport={"width": width, "height": 800}, color_scheme=scheme, storage_state=session
            ).new_page()
            for path in paths:
                page.goto(f"{origin}{path}", wait_until="networkidle")
                page.screenshot(path=folder / f"{name_of(path)}-{width}-{scheme}.png", full_page=True)
                count += 1
            stranger = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            stranger.goto(f"{origin}{SIGN_IN}", wait_until="networkidle")
            stranger.screenshot(path=folder / f"{name_of(SIGN_IN)}-{width}-{scheme}.png", full_page=True)
            count += 1
            if (width, scheme) == README_SCREEN:
                page.goto(f"{origin}{README_PAGE}", wait_until="networkidle")
                page.screenshot(path=folder / "console.png")
        browser.close()
    return count


def _sign_in(page: Page, link: str) -> StorageState:
    page.goto(link)
    page.fill("#password", PASSWORD)
    page.fill("#repeated", PASSWORD)
    page.get_by_role("button", name="Set the password and sign in").click()
    page.wait_for_load_state("networkidle")
    return page.context.storage_state()


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "build" / "screenshots")
def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"{take(folder)} pictures in {folder}")


if __name__ == "__main__":
    main()
