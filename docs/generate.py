"""Writes settings.md and cli.md from the code: `make docs`. A test holds that they are up to date."""

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.cli.main import waylink
from app.config import notify_entries, waylink_toml
from app.config.settings import Settings

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the code: change the code, then run `make docs`. -->"

# The tables of waylink.toml in the order of the page: heading, model, and what each key means.
TABLES: tuple[tuple[str, type[BaseModel], dict[str, str]], ...] = (
    (
        "[environments.<name>]",
        waylink_toml.EnvironmentEntry,
        {
            "base_url": "Nango's API origin.",
            "account": "The Nango account the environment belongs to. Unset: the environment's own name.",
            "api_key_env": "Name of the variable that holds the API key. "
            "With neither this nor `api_key_file`, nothing is confirmed or refreshed.",
            "api_key_file": "File that holds the API key. Read at the start. Not beside `api_key_env`.",
            "signing_keys_env": "Name of the variable that holds the webhook signing keys, "
            "newest first, separated by commas or blanks.",
            "signing_keys_file": "File that holds the signing keys in the same form. "
            "A change is noticed within a second, without a restart. Not beside `signing_keys_env`.",
            "account_key_env": "Name of the variable that holds an account API key of Nango, by which `waylink check` "
            "looks at the environment's webhook settings.",
            "account_key_file": "File that holds it instead. Not beside `account_key_env`.",
            "nango_id": "UUID of the environment at Nango, which goes with the account API key.",
            "payloads": "What is kept of the provider's webhooks that Nango forwards: `full`, `redacted` or `none` "
            "([what that means](webhooks.md#what-is-kept-of-forwarded-webhooks)).",
            "both_urls": "`true`: both webhook URLs of Nango's environment settings lead to this environment "
            "([what that means](webhooks.md#duplicates)).",
            "refresh": "Refresh policies of this environment alone: `[environments.<name>.refresh.<integration>]`.",
            "refresh_providers": "The same by provider: `[environments.<name>.refresh_providers.<provider>]`.",
        },
    ),
    (
        "[teams.<team>.destinations.<name>]",
        waylink_toml.DestinationEntry,
        {
            "kind": "How jobs are delivered: `celery` or `http`.",
            "queue": "Celery: the team's queue. Starts with `team.<team>.`.",
            "url": "HTTP: where [signed jobs](routes.md#http-destinations) are posted. `https://` or `http://`, port "
            "80, 443 or one from 1024 on.",
            "timeout": "HTTP: how long one try may take, connecting included, from `1s` to `30s`. Unset: `15s`.",
            "rate_per_second": "At most so many jobs a second, from 0.01 to 10,000. Unset: no limit.",
            "broker_url_env": "Celery: name of the variable that holds the URL of the team's "
            "[own broker](routes.md#a-broker-of-its-own). Unset: the team broker.",
            "broker_url_file": "File that holds it. Read by `waylink migrate`. Not beside `broker_url_env`.",
            "secret_env": "HTTP: name of the variable that holds the signing secret (`whsec_…`). With neither this nor "
            "`secret_file` one is made; `waylink destinations rotate-secret` shows one.",
            "secret_file": "File that holds it. Read by `waylink migrate`. Not beside `secret_env`.",
        },
    ),
    (
        "[[routes]]",
        waylink_toml.RouteEntry,
        {
            "name": "Name of the route, its team's own: another team may have one of the same name.",
            "team": "The team that takes the jobs.",
            "destination": "One of the team's destinations.",
            "job": "Name of the job, which is the name of the team's Celery task. "
            "Names that start with `waylink.` or `celery.` are reserved.",
            "pattern": "[Pattern](routes.md#patterns) over the event document: a string of JSON, or a TOML table.",
            "enabled": "`false`: it stays known and makes no jobs.",
        },
    ),
    (
        "[directory]",
        waylink_toml.DirectoryEntry,
        {
            "user_id_tag": "Tag with the user's id in your application.",
            "user_email_tag": "Tag with the user's e-mail address.",
            "user_name_tag": "Tag with the user's display name.",
            "organization_id_tag": "Tag with the organization's id in your application.",
            "organization_name_tag": "Tag with the organization's display name.",
            "sql": "A table of its own: `[directory.sql]`.",
        },
    ),
    (
        "[directory.sql]",
        waylink_toml.SqlDirectoryEntry,
        {
            "url_env": "Name of the variable that holds the URL of your application's database, for a user who may "
            "only read. PostgreSQL or SQLite.",
            "url_file": "File that holds it. Read at the start. Not beside `url_env`.",
            "user_query": "The [SELECT](people.md#ask-your-own-database) that names the user: `external_id`, `email`, "
            "`display_name`.",
            "organization_query": "The one that names the organization: `external_id`, `name`.",
            "timeout": "How long one of them may take, from `1s` to `3s`.",
            "pool_size": "Connections of a worker process, from 1 to 10.",
        },
    ),
    (
        "[[operators.groups]]",
        waylink_toml.GroupEntry,
        {
            "group": "Name of a group at the [identity provider](access.md#single-sign-on).",
            "role": "The role of its members: `viewer`, `operator` or `team`. A person has the rights of the first "
            "entry whose group they are in.",
            "team": "The team, for the role `team`.",
            "credentials": "`true`: they may read live credentials of connections.",
        },
    ),
    (
        "[notify]",
        notify_entries.NotifyEntry,
        {
            "installation": "The name of this installation in [notifications](notifications.md). Unset: the host of "
            "`WAYLINK_CONSOLE_URL` or `WAYLINK_PUBLIC_URL`, or this machine's name.",
            "channels": "A table of its own for each: `[notify.channels.<name>]`.",
        },
    ),
    (
        "[notify.channels.<name>]",
        notify_entries.ChannelEntry,
        {
            "kind": "How it is told: `webhook`, `slack` or `email`.",
            "url": "Webhook: where messages are posted, as for [HTTP destinations](routes.md#http-destinations).",
            "url_env": "Name of the variable that holds the URL. Slack: this or `url_file`, as it is a secret.",
            "url_file": "File that holds it. Read anew for each message.",
            "secret_env": "Webhook: name of the variable that holds the signing secret (`whsec_…`).",
            "secret_file": "File that holds it. Read anew for each message.",
            "server": "E-mail: host and port of the mail server, such as `smtp.example:587`.",
            "security": "E-mail: `starttls`, `tls` (from the first byte on, port 465) or `none`. The server is "
            "verified by the public authorities and those of `WAYLINK_DESTINATION_CA_FILE`.",
            "user": "E-mail: the user to sign in as. Unset: no sign-in.",
            "password_env": "E-mail: name of the variable that holds the password. Needs TLS.",
            "password_file": "File that holds it. Read anew for each message.",
            "sender": "E-mail: the address that messages come from.",
            "recipients": "E-mail: the addresses that they go to, up to 50.",
            "levels": '`["red"]`, `["hint"]` or both: what of the [status](operations.md#health) it is told of.',
            "checks": 'The checks it is told of: kinds or ids, such as `"destination-failing"`, or their beginning, '
            'such as `"refreshes-*"`.',
            "after": "How long a check has to be red, or well again, before it is told, from `0` to `1d`.",
        },
    ),
    (
        "[refresh.<integration>]",
        waylink_toml.RefreshEntry,
        {
            "enabled": "`false`: connections of this integration are never refreshed. Unset: `true`.",
            "margin": "The longest time before an expiry at which a token is renewed, less than `15m`. Unset: `14m`.",
            "margin_floor": "The shortest one. Unset: `14m`.",
            "margin_share": "Between the two, this share of the token's life. Unset: 0.25.",
            "force_every": "Force a renewal at least this often: a number and `s`, `m`, `h` or `d`, "
            "such as `12h`. At least `15m`.",
            "keep_alive_share": "A grant that renewals keep alive is renewed by force this share of its life before "
            "its deadline. Unset: a third.",
            "keep_alive_cap": "And no earlier than this. Unset: `7d`.",
            "warn_before": "How long before a deadline that nothing moves a look is made, to announce it. Unset: `7d`.",
            "windows": "The only hours in which tokens are renewed, such as "
            '`["22:00-06:00", "sat 00:00-24:00", "mon-fri 12:00-13:00"]`.',
            "blackouts": "Hours in which none is, in the same form; they go before `windows`.",
            "time_zone": "The zone of both, such as `Europe/Berlin`. Unset: UTC.",
            "priority": "Of its calls within the [request budget](operations.md#the-request-budget): `high` ones are "
            "urgent however much time is left, `normal` ones shortly before an expiry, `low` ones never. Unset: "
            "`normal`.",
            "concurrency": "How many planned refreshes of the integration run at once in an environment, by all "
            "workers. Unset: no limit.",
            "per_minute": "How many of them begin within a minute, spread over it. Unset: no limit.",
            "daily_calls": "How many calls a day (UTC) Waylink makes by itself for one connection's token, at most; "
            "further ones are put off to the next day. Unset: 1000.",
            "keep": "`fresh`: tokens are renewed before they expire. `alive`: grants are [kept from "
            "lapsing](refresh.md#fresh-or-alive), and tokens are renewed about once a day. Unset: `fresh`.",
            "access_life": "The life of an access token, where Nango knows no expiry.",
            "refresh_life": "The life of a refresh token from its issue on. Goes before the "
            "[catalogue](refresh.md#the-catalogue), as the next one does.",
            "idle_limit": "How long a refresh token lives that is not used.",
            "rotates": "`false`: a renewal does not begin the life of the refresh token anew, which counts from the "
            "authorization. Goes before the catalogue. Unset: `true`.",
            "learnt": "`true`: the lives of this table are [learnt](refresh.md#learnt-lives). Their source is shown as "
            "`learnt`, and what a provider's answer tells goes before them.",
        },
    ),
)


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        NOTE,
        "",
        "Waylink reads `WAYLINK_*` environment variables and one optional file, `waylink.toml`. Both are read when a",
        "process starts. Every mistake is reported at once, with the variable or key, what is wrong, and an example. A",
        "command is stopped by [what it needs](deploy.md) alone.",
        "A variable that is set but empty counts as unset. Secrets come from variables or files and never stand in",
        "`waylink.toml`.",
        "",
        "## Variables",
        "",
        *_table(("variable", "meaning", "default", "example"), _variables()),
        "",
        "These belong to one command each; an option on the command line goes before them.",
        "",
        *_table(("variable", "command and option", "meaning"), _command_variables(waylink, "waylink")),
        "",
        "## waylink.toml",
        "",
        "Unknown keys are refused. Names of environments, teams, destinations and routes have lower-case letters,",
        "digits, `_` and `-`, start with a letter or digit, and are at most 63 characters long.",
        "`waylink migrate` and `waylink up` record teams, destinations and routes in the database, and remove none;",
        "workers then use the new routes at once. For a change of anything else, restart the processes.",
    ]
    for heading, model, meanings in TABLES:
        if meanings.keys() != model.model_fields.keys():
            raise SystemExit(f"{heading}: say in docs/generate.py what each of its keys means")
        keys = [(f"`{name}`", meaning, _default(model.model_fields[name])) for name, meaning in meanings.items()]
        lines += ["", f"### `{heading}`", "", *_table(("key", "meaning", "default"), keys)]
        if heading.startswith("[refresh"):
            lines += [
                "",
                '`[refresh."*"]` stands for all integrations that have no table of their own. Of several tables',
            ]
            lines += ["the most specific one that sets a key wins ([policies](refresh.md#policies))."]
    lines += [
        "",
        "### `[duplicates]`",
        "",
        "What becomes of [several connections of one owner](concepts.md#several-connections-of-one-owner): `keep` or",
        '`supersede`, by integration, and under `"*"` for all others. `keep` if nothing is said.',
        "",
        "```toml",
        "[duplicates]",
        'slack = "supersede"',
        "```",
    ]
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    lines = [
        "# Commands",
        "",
        NOTE,
        "",
        "Exit codes: 0 done, 1 the answer is no, 2 wrong use or bad input. Every listing takes `--json` and then",
        "prints an array of objects. In tables, control characters of text from outside are escaped.",
        "",
        "On a terminal, a table is as wide as that: ids and names are whole, texts are cut with `…`, and columns that",
        "do not fit are left out and named. `--wide` shows all members, `--columns id,tags` those named. Into a pipe",
        "go all columns, uncut. `--follow` of events, jobs, rejections and audit goes on with what is new or changed,",
        "and waits while the database is away.",
        "",
        "```text",
        _help(waylink, None),
        "```",
    ]
    for path, context in _commands(waylink, click.Context(waylink, info_name="waylink")):
        lines += ["", f"## {path}", "", "```text", _help(context.command, context), "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    (FOLDER / "settings.md").write_text(settings_page())
    (FOLDER / "cli.md").write_text(cli_page())


def _variables() -> Iterator[tuple[str, ...]]:
    for name, field in Settings.model_fields.items():
        meaning = f"{field.description}{_bounds(field)}"
        example = f"`{field.examples[0]}`" if field.examples else ""
        yield f"`WAYLINK_{name.upper()}`", meaning, _default(field), example


def _command_variables(command: click.Command, path: str) -> Iterator[tuple[str, ...]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.envvar:
            yield f"`{parameter.envvar}`", f"`{path} {parameter.opts[0]}`", parameter.help or ""
    if isinstance(command, click.Group):
        for name, below in _below(command):
            yield from _command_variables(below, f"{path} {name}")


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Context]]:
    for name, command in _below(group):
        below = click.Context(command, info_name=name, parent=context)
        yield below.command_path, below
        if isinstance(command, click.Group):
            yield from _commands(command, below)


def _below(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group, whichever way it finds them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # noqa: S101 - it was listed
        yield name, command


def _help(command: click.Command, context: click.Context | None) -> str:
    parent = context.parent if context else None
    name = context.info_name if context else "waylink"
    own = {**waylink.context_settings, "terminal_width": 110, "max_content_width": 110}
    command._help_option = None  # click keeps the one of its first use, which may have been another context's
    wide = click.Context(command, info_name=name, parent=parent, **own)
    return "\n".join(line.rstrip() for line in command.get_help(wide).splitlines())


def _bounds(field: FieldInfo) -> str:
    """What is allowed, where the type says it: ` One of …` or ` From … to …`."""
    choices = [choice for one in _types(field.annotation) for choice in _choices(one)]
    if choices:
        return f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    limits = {kind: getattr(rule, kind) for rule in field.metadata for kind in ("ge", "le") if hasattr(rule, kind)}
    if "ge" in limits and "le" in limits:
        return f" From {limits['ge']} to {limits['le']}."
    return ""


def _types(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in {Union, UnionType}:
        return tuple(one for one in get_args(annotation) if one is not NoneType)
    return (annotation,)


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return tuple(map(str, annotation))
    return ()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "unset"
    if isinstance(value, timedelta):
        return f"`{value.total_seconds():.0f}s`"
    if isinstance(value, tuple):
        words = ", ".join(f'"{one}"' for one in value)
        return f"`[{words}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _table(columns: tuple[str, ...], rows: Any) -> list[str]:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]


if __name__ == "__main__":
    main()
