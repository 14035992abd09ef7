"""`waylink sandbox`: a local Nango for development and tests."""

import uuid
from pathlib import Path

import click
import uvicorn

from app.errors import WaylinkError
from app.sandbox.app import create_sandbox
from app.sandbox.config import DEFAULT_ENVIRONMENT_ID, SandboxConfig
from app.sandbox.guard import is_uuid4


def _uuid4(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Nango refuses an API key that is no UUIDv4 before it looks it up (Nango contract: Requests and errors)."""
    if value is not None and not is_uuid4(value):
        raise click.BadParameter("must be a UUIDv4, as Nango's keys are", param=parameter)
    return value


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, envvar="WAYLINK_SANDBOX_HOST", help="Address to serve.")
@click.option(
    "--port",
    default=3003,
    show_default=True,
    type=click.IntRange(1, 65535),
    envvar="WAYLINK_SANDBOX_PORT",
    help="Port.",
)
@click.option(
    "--api-key", callback=_uuid4, envvar="WAYLINK_SANDBOX_API_KEY", help="API key, a UUIDv4; made up when absent."
)
@click.option("--signing-key", envvar="WAYLINK_SANDBOX_SIGNING_KEY", help="Webhook signing key; made up when absent.")
@click.option(
    "--webhook-url", envvar="WAYLINK_SANDBOX_WEBHOOK_URL", help="Where webhooks go; without it none are sent."
)
@click.option(
    "--environment",
    default="dev",
    show_default=True,
    envvar="WAYLINK_SANDBOX_ENVIRONMENT",
    help="Name in the webhooks.",
)
@click.option(
    "--account-key",
    callback=_uuid4,
    envvar="WAYLINK_SANDBOX_ACCOUNT_KEY",
    help="Account API key, a UUIDv4, that shows the environment's webhook settings.",
)
@click.option(
    "--environment-id",
    default=DEFAULT_ENVIRONMENT_ID,
    show_default=True,
    callback=_uuid4,
    envvar="WAYLINK_SANDBOX_ENVIRONMENT_ID",
    help="The environment's UUID at Nango.",
)
@click.option(
    "--token-lifetime",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    envvar="WAYLINK_SANDBOX_TOKEN_LIFETIME",
    help="Seconds an access token lives.",
)
@click.option(
    "--replica-lag",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0),
    envvar="WAYLINK_SANDBOX_REPLICA_LAG",
    help="Seconds by which the connection list lags.",
)
@click.option(
    "--state-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="WAYLINK_SANDBOX_STATE_FILE",
    help="File that keeps the state over a restart.",
)
def sandbox(
    *,
    host: str,
    port: int,
    api_key: str | None,
    signing_key: str | None,
    webhook_url: str | None,
    environment: str,
    account_key: str | None,
    environment_id: str,
    token_lifetime: float,
    replica_lag: float,
    state_file: Path | None,
) -> None:
    """Serve a local Nango: same API, same signed webhooks, no real providers."""
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    config = SandboxConfig(
        api_key=api_key or str(uuid.uuid4()),
        signing_key=signing_key or str(uuid.uuid4()),
        webhook_url=webhook_url,
        environment=environment,
        account_key=account_key,
        environment_id=environment_id.lower(),
        public_url=base_url,
        token_lifetime=token_lifetime,
        replica_lag=replica_lag,
        state_file=state_file,
    )
    try:
        application = create_sandbox(config)
    except WaylinkError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Nango sandbox at {base_url}, webhooks to {webhook_url or 'nobody (--webhook-url)'}")
    click.echo(f"WAYLINK_NANGO_BASE_URL={base_url}")
    # A key from outside is known to its owner, and this output may end up in a log.
    if api_key is None:
        click.echo(f"WAYLINK_NANGO_API_KEY={config.api_key}")
    if signing_key is None:
        click.echo(f"WAYLINK_NANGO_SIGNING_KEYS={config.signing_key}")
    uvicorn.run(application, host=host, port=port, access_log=False, log_level="warning")
