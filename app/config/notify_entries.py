"""The tables of waylink.toml that say who is notified of what."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from app.config.durations import duration
from app.domain.definitions import wrong_name
from app.domain.notifying import ChannelKind, MailSecurity, unknown_patterns
from app.domain.status import Level

MOST_CHANNELS: Final = 20
MOST_RECIPIENTS: Final = 50
LONGEST_AFTER: Final = timedelta(days=1)
_MAIL_ADDRESS: Final = r"^[!-?A-~]{1,64}@[0-9A-Za-z._-]{1,253}$"
_MAIL_SERVER: Final = r"^([0-9A-Za-z._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}$"
_OF_URLS: Final = ("url", "url_env", "url_file")
_OF_WEBHOOKS: Final = ("secret_env", "secret_file")
_OF_MAIL: Final = ("server", "security", "user", "password_env", "password_file", "sender", "recipients")
_FOREIGN: Final = {
    ChannelKind.WEBHOOK: _OF_MAIL,
    ChannelKind.SLACK: (*_OF_MAIL, *_OF_WEBHOOKS),
    ChannelKind.EMAIL: (*_OF_URLS, *_OF_WEBHOOKS),
}

Address = Annotated[str, StringConstraints(pattern=_MAIL_ADDRESS)]


def _is_name(value: str) -> str:
    if reason := wrong_name(value):
        raise ValueError(reason)
    return value


ChannelName = Annotated[str, AfterValidator(_is_name)]


class ChannelEntry(BaseModel):
    """`[notify.channels.<name>]`. Secrets are named by variable or file, never written in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: ChannelKind
    url: str | None = None
    url_env: str | None = None
    url_file: Path | None = None
    secret_env: str | None = None
    secret_file: Path | None = None
    server: Annotated[str, StringConstraints(pattern=_MAIL_SERVER)] | None = None
    security: MailSecurity = MailSecurity.STARTTLS
    user: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    password_env: str | None = None
    password_file: Path | None = None
    sender: Address | None = None
    recipients: tuple[Address, ...] = Field((), max_length=MOST_RECIPIENTS)
    levels: tuple[Level, ...] = (Level.RED,)
    checks: tuple[str, ...] = Field(("*",), min_length=1, max_length=100)
    after: timedelta = timedelta(minutes=1)

    @field_validator("after", mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        if isinstance(value, str):
            return timedelta(0) if value.strip() == "0" else duration(value)
        return value

    @field_validator("after")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(0) <= value <= LONGEST_AFTER:
            raise ValueError("from 0 to 1d")
        return value

    @field_validator("levels")
    @classmethod
    def _not_well(cls, value: tuple[Level, ...]) -> tuple[Level, ...]:
        if not value or Level.OK in value:
            raise ValueError("names red, hint or both")
        return value

    @field_validator("checks")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in unknown_patterns(value):
            raise ValueError(f"there is no check {pattern!r}: docs/operations.md lists them")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "ChannelEntry":
        for wrong in self._faults():
            raise ValueError(wrong)
        return self

    def _faults(self) -> Iterator[str]:
        for key in _FOREIGN[self.kind]:
            if key in self.model_fields_set:
                yield f"{key} is not for channels of the kind {self.kind}"
        for names in (_OF_URLS, ("secret_env", "secret_file"), ("password_env", "password_file")):
            if len([name for name in names if getattr(self, name) is not None]) > 1:
                yield f"has more than one of {', '.join(names)}: keep one"
        if self.kind is ChannelKind.EMAIL:
            yield from self._mail_faults()
            return
        if not any(getattr(self, name) is not None for name in _OF_URLS):
            yield f"needs one of {', '.join(_OF_URLS)}"
        if self.kind is ChannelKind.SLACK and self.url is not None:
            yield "url is a secret here, which says who sends: name it by url_env or url_file"
        if self.kind is ChannelKind.WEBHOOK and self.secret_env is None and self.secret_file is None:
            yield "needs secret_env or secret_file: the signing secret, whsec_…"

    def _mail_faults(self) -> Iterator[str]:
        if self.server is None or self.sender is None or not self.recipients:
            yield "needs server, sender and recipients"
        has_password = self.password_env is not None or self.password_file is not None
        if has_password != (self.user is not None):
            yield "user goes with password_env or password_file"
        if has_password and self.security is MailSecurity.NONE:
            yield "a password is not sent without TLS: set security to starttls or tls"


class NotifyEntry(BaseModel):
    """`[notify]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    installation: (
        Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")] | None
    ) = None
    channels: dict[ChannelName, ChannelEntry] = Field(default_factory=dict, max_length=MOST_CHANNELS)
