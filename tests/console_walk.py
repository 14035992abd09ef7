"""A walk through the console: every page that a link leads to, a few of each kind."""

import html
import re
from collections import Counter

import httpx

from app.web.access_table import PAGES

OF_EACH = 12  # pages of one kind, such as of one event each
LINK = re.compile(r'<a [^>]*?href="([^"#]*)')
_KINDS = {
    operation.removeprefix("GET "): re.compile(re.sub(r"{\w+:path}", ".+", re.sub(r"{\w+}", "[^/]+", path)))
    for operation in PAGES
    if operation.startswith("GET /console") and (path := operation.removeprefix("GET "))
}


def kind_of(path: str) -> str:
    """The page's path in the access table, the most literal one that fits; without any, the path itself."""
    plain = path.partition("?")[0]
    fitting = [kind for kind, pattern in _KINDS.items() if pattern.fullmatch(plain)]
    return min(fitting, key=lambda kind: kind.count("{"), default=plain)


def walked(browser: httpx.Client, start: str = "/console") -> dict[str, httpx.Response]:
    """The answers by path and query. Nothing is posted."""
    answers: dict[str, httpx.Response] = {}
    seen, waiting = {start}, [start]
    counts: Counter[str] = Counter()
    while waiting:
        path = waiting.pop(0)
        answers[path] = browser.get(path)
        for found in LINK.findall(answers[path].text):
            to = html.unescape(found)
            if to.startswith("/console") and to not in seen and counts[kind_of(to)] < OF_EACH:
                seen.add(to)
                counts[kind_of(to)] += 1
                waiting.append(to)
    return answers


def words_of(answer: httpx.Response) -> str:
    """A page without the places at which its lines may break, so that whole names and secrets are found in it."""
    return answer.text.replace("<wbr>", "")
