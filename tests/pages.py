"""Commands that pages have their reader type: fenced blocks, the commands in them, and calls by curl."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_WITH_VALUE = {"-X": "method", "-H": "header", "-d": "data", "--data-binary": "file"}
_FLAGS = {"-g"}


@dataclass(frozen=True, slots=True)
class Block:
    """`language` is what stands behind the fence."""

    section: str
    language: str
    content: str


@dataclass(frozen=True, slots=True)
class Curl:
    """A call as the words of a curl command say it. `file` is the name of the file that is sent in place of `data`."""

    method: str
    url: str
    headers: dict[str, str]
    data: str | None
    file: str | None


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page in their order, each with the heading that it stands under."""
    pieces = re.findall(r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    found, section = [], ""
    for heading, language, content in pieces:
        section = heading or section
        if language:
            found.append(Block(section, language, content))
    return found


def commands(text: str) -> Iterator[str]:
    """Each command of a block of `sh`: without its comment, its lines joined where a backslash or a quote goes on."""
    lines = re.sub(r"\\\n *", "", text).splitlines()
    while lines:
        command = _without_comment(lines.pop(0))
        while lines and not _is_whole(command):
            command += "\n" + lines.pop(0)
        if command:
            yield command


def waylink_calls(command: str) -> Iterator[list[str]]:
    """The arguments of each `waylink` in a command of a shell: alone, in a pipe, or in the place of a value."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        assert "$(waylink" not in word, f"quotes around a substitution are not understood here: {command}"
        if set(word) <= set("();<>|&"):
            parts.append([])
        elif parts[-1] or not re.match(r"\w+=", word):  # variables that are set for the command stand before it
            parts[-1].append(word)
    yield from (part[1:] for part in parts if part[:1] == ["waylink"])


def curl(command: str) -> Curl:
    """The request of a curl command. A word of unknown meaning is an error."""
    given: dict[str, str] = {}
    headers, urls = {}, []
    words = iter(shlex.split(command))
    assert next(words) == "curl", command
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name.lower()] = value
        elif word in _WITH_VALUE:
            given[_WITH_VALUE[word]] = next(words)
        elif word not in _FLAGS:
            assert not word.startswith("-"), f"{word} is not known here: {command}"
            urls.append(word)
    [url] = urls
    sends = "data" in given or "file" in given
    file = given["file"].removeprefix("@") if "file" in given else None
    return Curl(given.get("method", "POST" if sends else "GET"), url, headers, given.get("data"), file)


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line).strip()
