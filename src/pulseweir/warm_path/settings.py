"""Steps 16 and 18: what an operator may set about reports and notifications."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from pulseweir.backends.channels.base import Detail, Security
from pulseweir.errors import RefuseToStart

ChannelName = Literal["teams", "email", "webhook", "log"]
"""What `notices.channels` may list."""


class NoticeSettings(BaseModel):
    """What a notification says beside the alert itself, and where it may go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public_url: str = Field("http://127.0.0.1:8080", description="Address of the pages, as people reach them.")
    channels: tuple[ChannelName, ...] = Field(
        ("teams", "email", "webhook", "log"),
        min_length=1,
        description="Channels in the order they are tried; those not set up are passed. log is none to be told by: it "
        "writes a line beside.",
    )


class EmailSettings(BaseModel):
    """The mail server that takes notifications, and who gets them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str | None = Field(None, description="Name of the mail server; none sends no e-mail.")
    port: int = Field(587, ge=1, le=65_535, description="Its port: 587 for starttls, 465 for tls as a rule.")
    security: Security = Field("starttls", description='"starttls", "tls", or "none" for a server on this machine.')
    authority_file: Path | None = Field(
        None, description="Certificates (PEM) of the authorities that vouch for the server, beside the system's."
    )
    user: str | None = Field(None, description="Account to sign in with; none signs in nowhere.")
    password: SecretStr | None = Field(None, description="Its password; a secret.")
    password_file: Path | None = Field(None, description="File that holds that password instead.")
    sender: str = Field("", description="Address that mails come from.")
    recipients: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description='Addresses by role of the ladder, such as `{"nurse": ["ward-a@example.org"]}`; role `*` is every '
        "other.",
    )
    ward_recipients: dict[str, dict[str, tuple[str, ...]]] = Field(
        default_factory=dict, description="The same by ward, where a ward has addresses of its own."
    )
    detail: Detail = Field("none", description='"minimal" lets a mail say what raised the score.')

    @field_validator("sender")
    @classmethod
    def _is_an_address(cls, sender: str) -> str:
        return _address(sender) if sender else sender

    @field_validator("recipients")
    @classmethod
    def _are_addresses(cls, listed: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {role: tuple(map(_address, addresses)) for role, addresses in listed.items()}

    @field_validator("ward_recipients")
    @classmethod
    def _are_ward_addresses(
        cls, listed: dict[str, dict[str, tuple[str, ...]]]
    ) -> dict[str, dict[str, tuple[str, ...]]]:
        return {ward: {role: tuple(map(_address, all_)) for role, all_ in by.items()} for ward, by in listed.items()}

    @property
    def is_set_up(self) -> bool:
        """Whether mails can leave: there is a server, and somebody to write to."""
        return self.host is not None and bool(self.recipients or self.ward_recipients)


class WebhookSettings(BaseModel):
    """A receiver of signed JSON, such as an on-call system."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr | None = Field(None, description="Address to post to; https, or plain on this machine; a secret.")
    url_file: Path | None = Field(None, description="File that holds that address instead.")
    signing_key: SecretStr | None = Field(
        None, description="Signing keys: base64 of 24 to 64 bytes, `whsec_` before or not."
    )
    signing_key_file: Path | None = Field(
        None, description="File that holds them instead; two while one replaces another."
    )
    detail: Detail = Field("none", description='"minimal" lets a message say what raised the score.')


class CoordinationSettings(BaseModel):
    """How notifications and records of care leave the house."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notices: NoticeSettings = Field(default_factory=NoticeSettings, description="What a notification says.")
    teams_webhook_url: SecretStr | None = Field(
        None, description="Workflows webhook address that Adaptive Cards are posted to; a secret."
    )
    teams_webhook_url_file: Path | None = Field(None, description="File that holds that address instead.")
    teams_detail: Detail = Field("none", description='"minimal" lets a card say what raised the score.')
    email: EmailSettings = Field(default_factory=EmailSettings, description="Notifications by e-mail.")
    webhook: WebhookSettings = Field(default_factory=WebhookSettings, description="Notifications as signed JSON.")
    poll_seconds: float = Field(0.1, gt=0, description="Real seconds between two looks at the outbox.")
    send_seconds: float = Field(10.0, gt=0, description="Longest that one message may take on its way, real seconds.")
    attempts_per_channel: int = Field(3, ge=1, description="Tries before the next channel has its turn.")
    first_retry_seconds: float = Field(1.0, gt=0, description="Real seconds before the second try; doubles each time.")
    longest_retry_seconds: float = Field(
        300.0, gt=0, description="Longest pause between two tries, real seconds; a receiver cannot ask for more."
    )
    undelivered_after_seconds: float = Field(
        15.0, gt=0, description="Real seconds after which an alert says that its message is not delivered yet."
    )
    give_up_after_seconds: float = Field(
        21_600.0, gt=0, description="Real seconds after which a notification no channel took counts as failed."
    )
    lease_seconds: float = Field(60.0, gt=0, description="Real seconds a sender has for what it took in hand.")
    batch_size: int = Field(50, ge=1, description="Entries taken in hand at once.")

    def webhook_url(self) -> str | None:
        """The Teams address, from wherever it is kept; None when there is none.

        Raises:
            RefuseToStart: Its file cannot be read, or is empty.
        """
        return secret_of(self.teams_webhook_url, self.teams_webhook_url_file, "coordination.teams_webhook_url_file")


def channels_set_up(settings: CoordinationSettings) -> tuple[str, ...]:
    """The channels set up that people look at, in the order they are tried; none of them means: nobody is notified.

    Only what the settings say is looked at, not whether a file can be read or anybody answers.
    """
    ready = {
        "teams": settings.teams_webhook_url is not None or settings.teams_webhook_url_file is not None,
        "email": settings.email.is_set_up,
        "webhook": settings.webhook.url is not None or settings.webhook.url_file is not None,
    }
    return tuple(dict.fromkeys(name for name in settings.notices.channels if ready.get(name, False)))


def secret_of(kept: SecretStr | None, file: Path | None, setting: str) -> str | None:
    """A secret, from wherever it is kept; None when there is none.

    Raises:
        RefuseToStart: Its file cannot be read, or is empty; `setting` names the setting to correct.
    """
    if kept is not None:
        return kept.get_secret_value()
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RefuseToStart(f"{file} cannot be read ({cause}). Check {setting}.") from error
    if not text:
        raise RefuseToStart(f"{file} is empty. Write the secret into it, or take {setting} out.")
    return text


def _address(text: str) -> str:
    local, sign, domain = text.strip().rpartition("@")
    if not (local and sign and domain) or not text.isprintable() or any(mark in text.strip() for mark in ' ,;<>"'):
        message = "an e-mail address looks like ward-a@example.org, alone and without a name"
        raise ValueError(message)
    return text.strip()


class RefreshSettings(BaseModel):
    """When reports are made anew."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_seconds: float = Field(
        300.0, gt=0, description="Seconds between two scheduled refreshes, on the house's clock."
    )
    burden_days: int = Field(14, ge=1, description="Days of the alert-burden report that a refresh makes anew.")
