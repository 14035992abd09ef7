"""`waylink send`: post a correctly signed webhook, as Nango would."""

import json
import sys
import uuid
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import click
import httpx

from app.cli.web_address import webhook_url
from app.config.loading import diagnose, load_environments, load_web_place
from app.config.nango_environment import Environment
from app.domain.json_errors import why_not_json
from app.domain.signature import HEADER, sign
from app.errors import ConfigurationError, InvalidInput, Problem
from app.outage_causes import of_connection
from app.telemetry import escape_control

_SAMPLES: Final = files("app.cli") / "samples"
_AROUND: Final = ("sync", "forward", "async_action")  # webhooks that go with a connection


def sample_names() -> list[str]:
    """The samples that come with Waylink."""
    return sorted(one.name.removesuffix(".json") for one in _SAMPLES.iterdir() if one.name.endswith(".json"))


@click.command(epilog=f"Samples: {', '.join(sample_names())}.")
@click.argument("body", metavar="FILE|SAMPLE")
@click.option("--environment", default="default", show_default=True, help="Whose signing key and URL to use.")
@click.option("--key", envvar="WAYLINK_SEND_KEY", help="Signing key; default: the environment's newest.")
@click.option("--url", help="Where to post; default: this machine's web process.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="Set a tag in the body; may be repeated.")
def send(*, body: str, environment: str, key: str | None, url: str | None, tags: tuple[str, ...]) -> None:
    """Post a signed webhook: a FILE byte for byte, or a SAMPLE with a fresh connection id.

    Where the environment is the sandbox, the connection is registered there first, so that Waylink can confirm it.
    """
    # With a key nothing else is needed: the environment only says whether it is the sandbox.
    settings = diagnose().settings if key else load_environments([environment])
    known = settings.environments.get(environment)
    content = _body(body, _pairs(tags))
    if known is not None and known.sandboxed:
        _register(known, content)
    target = url or webhook_url(load_web_place(), environment)
    headers = {"content-type": "application/json", HEADER: sign(content, key or _newest_key(known, environment))}
    try:
        answer = httpx.post(target, content=content, headers=headers, timeout=25.0, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as failed:
        click.echo(f"error: {target} does not answer: {of_connection(failed)}", err=True)
        sys.exit(1)
    click.echo(f"{answer.status_code} {escape_control(answer.text)}")
    sys.exit(0 if answer.status_code == 202 else 1)


def _body(name: str, tags: dict[str, str]) -> bytes:
    """The bytes of a file, changed only by `--tag`; a sample with present times."""
    file = Path(name)
    if file.is_file():
        content = file.read_bytes()
        if not tags:
            return content
        parsed = _object(content, name)
    elif name in sample_names():
        parsed = _object((_SAMPLES / f"{name}.json").read_bytes(), name)
        if "connectionId" in parsed:
            parsed["connectionId"] = str(uuid.uuid4())
    else:
        raise InvalidInput(f"{name!r} is neither a file nor a sample; samples: {', '.join(sample_names())}")
    if tags:
        before = parsed.get("tags") or {}
        if not isinstance(before, dict):
            raise InvalidInput(f"{name}: its `tags` is not an object, so none can be added")
        parsed["tags"] = {**before, **tags}
    # The way Nango serialises (Nango contract: Signatures).
    return json.dumps(parsed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except json.JSONDecodeError as broken:
        raise InvalidInput(f"{name}: not JSON: {why_not_json(broken)}") from None
    except UnicodeDecodeError as broken:
        raise InvalidInput(f"{name}: not JSON: byte {broken.start + 1} is not UTF-8") from None
    except (ValueError, RecursionError):
        raise InvalidInput(f"{name}: not JSON that can be read: a number or a nesting beyond all bounds") from None
    if not isinstance(parsed, dict):
        raise InvalidInput(f"{name}: not a JSON object, so it cannot carry tags")
    return parsed


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for tag in tags:
        name, equals, value = tag.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--tag {tag!r}: expected key=value")
        pairs[name.lower()] = value
    return pairs


def _newest_key(known: Environment | None, environment: str) -> str:
    keys = known.signing_keys.live() if known else ()
    if not keys:
        what = f"no signing key for the environment {environment!r}; give --key, or start `waylink up` first"
        raise ConfigurationError([Problem("WAYLINK_NANGO_SIGNING_KEYS", what)])
    return keys[0]


def _register(environment: Environment, content: bytes) -> None:
    """Register the connection in the sandbox, as Nango has it before it sends."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return
    if not isinstance(body, dict):
        return
    # A webhook of a deletion or failure must not create the connection.
    made = body.get("type") == "auth" and body.get("success") and body.get("operation") != "deletion"
    if not made and not (body.get("type") in _AROUND and "connectionId" in body):
        return
    key = environment.api_key.get_secret_value() if environment.api_key else ""
    try:
        httpx.post(
            f"{environment.base_url}/sandbox/connections",
            content=content,
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
            timeout=5.0,
            trust_env=False,
        ).raise_for_status()
    except httpx.HTTPError as failed:
        click.echo(f"note: not registered at the sandbox ({failed}); Waylink will not confirm it", err=True)
