"""Nango environments from variables, waylink.toml and the sandbox, with their secrets."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from app.config.forward_proxy import SCHEMES, proxy_for
from app.config.nango import NangoSettings
from app.config.nango_environment import Environment, SigningKeys, split_keys, wrong_keys
from app.config.secret_sources import configured_secret
from app.config.waylink_toml import ConfigFile, EnvironmentEntry
from app.errors import Problem

_DEFINED_TWICE: Final = Problem(
    "WAYLINK_NANGO_SIGNING_KEYS",
    "the environment `default` is defined both by WAYLINK_NANGO_* variables and by the file: keep one",
    "signing_keys_env in the file, and no WAYLINK_NANGO_* variable",
)
_BOTH_URLS_OF_NONE: Final = Problem(
    "WAYLINK_NANGO_BOTH_URLS",
    "is for the environment of the other WAYLINK_NANGO_* variables, and none is set: write it into the file",
    "both_urls = true in [environments.default]",
)
SANDBOX_FILE: Final = "sandbox.json"  # written by `waylink up` for the other commands


def read_environments(
    settings: NangoSettings, config: ConfigFile, environ: Mapping[str, str], *, sandbox: bool
) -> tuple[dict[str, Environment], dict[str, list[Problem]]]:
    """Usable environments by name, and the problems of each unusable one.

    sandbox: include the environment of `waylink up` where no other is defined.
    """
    found: dict[str, Environment] = {}
    wrong: dict[str, list[Problem]] = {}
    read: dict[str, tuple[Environment, list[Problem]]] = {}
    for name, entry in config.environments.items():
        problems: list[Problem] = []
        read[name] = _of_file(name, entry, environ, problems), problems
    if settings.nango_api_key or settings.nango_signing_keys:
        problems = [_DEFINED_TWICE] if "default" in read else []
        read["default"] = _plain_environment(settings, problems), problems
    elif settings.nango_both_urls:
        wrong["default"] = [_BOTH_URLS_OF_NONE]
    elif sandbox and not read and (known := _sandbox_environment(settings.data_dir / SANDBOX_FILE)):
        read["default"] = known, []
    for name, (environment, problems) in read.items():
        reached = _through_proxy(environment, settings, problems)
        if problems:
            wrong[name] = [*wrong.get(name, ()), *problems]
        else:
            found[name] = reached
    return found, wrong


def _through_proxy(environment: Environment, settings: NangoSettings, problems: list[Problem]) -> Environment:
    named = settings.nango_proxy.get_secret_value() if settings.nango_proxy else None
    proxy = proxy_for(environment.base_url, named)
    if proxy is None:
        return environment
    if proxy.partition("://")[0] not in SCHEMES:
        what = "is unset, and the environment's proxy is neither http:// nor https://: name one, or say `none`"
        problems.append(Problem("WAYLINK_NANGO_PROXY", what, "http://proxy.internal:3128"))
    return replace(environment, proxy=SecretStr(proxy))


def _plain_environment(settings: NangoSettings, problems: list[Problem]) -> Environment:
    if (settings.nango_account_key is None) != (settings.nango_environment_id is None):
        what = "goes with WAYLINK_NANGO_ENVIRONMENT_ID, the environment's UUID at Nango: set both or none"
        problems.append(Problem("WAYLINK_NANGO_ACCOUNT_KEY", what))
    keys = split_keys(settings.nango_signing_keys.get_secret_value()) if settings.nango_signing_keys else ()
    if keys and (wrong := wrong_keys(keys)):
        problems.append(Problem("WAYLINK_NANGO_SIGNING_KEYS", wrong, "new-key,old-key"))
    if not keys:
        problems.append(
            Problem(
                "WAYLINK_NANGO_SIGNING_KEYS",
                "missing while WAYLINK_NANGO_API_KEY is set: every webhook would be refused",
                "new-key,old-key",
            )
        )
    return Environment(
        name="default",
        base_url=settings.nango_base_url.rstrip("/"),
        account="default",
        signing_keys=SigningKeys(tuple(SecretStr(key) for key in keys)),
        api_key=settings.nango_api_key,
        account_key=settings.nango_account_key,
        nango_id=settings.nango_environment_id,
        both_urls=settings.nango_both_urls,
    )


def _of_file(name: str, entry: EnvironmentEntry, environ: Mapping[str, str], problems: list[Problem]) -> Environment:
    where = f"environments.{name}"
    api_key = configured_secret(f"{where}.api_key", entry.api_key_env, entry.api_key_file, environ, problems)
    if entry.signing_keys_file is not None:
        keys = SigningKeys(file=entry.signing_keys_file)
        if not keys.live():
            what = f"{entry.signing_keys_file}: {keys.problem or 'holds no key'}"
            problems.append(Problem(f"{where}.signing_keys_file", what))
    else:
        text = configured_secret(f"{where}.signing_keys", entry.signing_keys_env, None, environ, problems)
        plain = split_keys(text.get_secret_value()) if text else ()
        if plain and (wrong := wrong_keys(plain)):
            problems.append(Problem(f"{where}.signing_keys_env", f"the variable {entry.signing_keys_env}: {wrong}"))
        keys = SigningKeys(tuple(SecretStr(key) for key in plain))
        if not plain and (text or entry.signing_keys_env is None):
            problems.append(
                Problem(where, "has no signing keys: every webhook would be refused", 'signing_keys_env = "NANGO_KEYS"')
            )
    return Environment(
        name=name,
        base_url=entry.base_url.rstrip("/"),
        account=entry.account or name,
        signing_keys=keys,
        api_key=api_key,
        payloads=entry.payloads,
        account_key=configured_secret(
            f"{where}.account_key", entry.account_key_env, entry.account_key_file, environ, problems
        ),
        nango_id=entry.nango_id,
        both_urls=entry.both_urls,
    )


def _sandbox_environment(file: Path) -> Environment | None:
    """The environment of a running `waylink up`, for commands in a second terminal; None where there is none."""
    try:
        known: dict[str, Any] = json.loads(file.read_text())
        return Environment(
            name="default",
            base_url=known["base_url"],
            account="sandbox",
            signing_keys=SigningKeys((SecretStr(known["signing_key"]),)),
            api_key=SecretStr(known["api_key"]),
            sandboxed=True,
            account_key=SecretStr(known["account_key"]) if "account_key" in known else None,
            nango_id=known.get("environment_id"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
