"""Steps 16 and 18: what an operator may set about reports and notifications."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from pulseweir.backends.channels.base import Detail
from pulseweir.errors import RefuseToStart


class NoticeSettings(BaseModel):
    """What a notification says beside the alert itself, and where it may go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public_url: str = Field("http://127.0.0.1:8080", description="Address of the pages, as people reach them.")
    channels: tuple[str, ...] = Field(
        ("teams", "log"),
        min_length=1,
        description="Channels in the order they are tried; unconfigured ones are passed.",
    )


class CoordinationSettings(BaseModel):
    """How notifications and records of care leave the house."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notices: NoticeSettings = Field(default_factory=NoticeSettings, description="What a notification says.")
    teams_webhook_url: SecretStr | None = Field(
        None, description="Workflows webhook address that Adaptive Cards are posted to; a secret."
    )
    teams_webhook_url_file: Path | None = Field(None, description="File that holds that address instead.")
    teams_detail: Detail = Field("none", description='"minimal" lets a card say what raised the score.')
    poll_seconds: float = Field(0.1, gt=0, description="Real seconds between two looks at the outbox.")
    attempts_per_channel: int = Field(3, ge=1, description="Tries before the next channel has its turn.")
    first_retry_seconds: float = Field(1.0, gt=0, description="Real seconds before the second try; doubles each time.")
    longest_retry_seconds: float = Field(300.0, gt=0, description="Longest pause between two tries, real seconds.")
    give_up_after_seconds: float = Field(
        21_600.0, gt=0, description="Real seconds after which a notification no channel took counts as failed."
    )
    lease_seconds: float = Field(60.0, gt=0, description="Real seconds a sender has for what it took in hand.")
    batch_size: int = Field(50, ge=1, description="Entries taken in hand at once.")

    def webhook_url(self) -> str | None:
        """The Teams address, from wherever it is kept; None when there is none.

        Raises:
            RefuseToStart: Its file cannot be read.
        """
        if self.teams_webhook_url is not None:
            return self.teams_webhook_url.get_secret_value()
        if self.teams_webhook_url_file is not None:
            try:
                return self.teams_webhook_url_file.read_text().strip()
            except OSError as error:
                message = (
                    f"{self.teams_webhook_url_file} cannot be read ({error.strerror}). Check teams_webhook_url_file."
                )
                raise RefuseToStart(message) from error
        return None


class RefreshSettings(BaseModel):
    """When reports are made anew."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_seconds: float = Field(
        300.0, gt=0, description="Seconds between two scheduled refreshes, on the house's clock."
    )
    burden_days: int = Field(14, ge=1, description="Days of the alert-burden report that a refresh makes anew.")
