"""Which channels the settings set up, and what is refused at start."""

from pathlib import Path
from typing import Any

import pytest

from pulseweir.errors import RefuseToStart
from pulseweir.warm_path.delivery import open_channels
from pulseweir.warm_path.settings import CoordinationSettings, EmailSettings, NoticeSettings, channels_set_up


def test_the_webhook_address_comes_from_a_file_and_stays_out_of_sight(tmp_path: Path) -> None:
    kept = tmp_path / "webhook"
    kept.write_text("https://hook.example/secret\n")

    settings = CoordinationSettings(teams_webhook_url_file=kept)

    assert settings.webhook_url() == "https://hook.example/secret"
    assert "secret" not in repr(settings)
    assert sorted(open_channels(settings)) == ["log", "teams"]
    assert sorted(open_channels(CoordinationSettings())) == ["log"]
    with pytest.raises(RefuseToStart, match="teams_webhook_url_file"):
        CoordinationSettings(teams_webhook_url_file=tmp_path / "absent").webhook_url()
    kept.write_text("\n")
    with pytest.raises(RefuseToStart, match="empty"):
        settings.webhook_url()


def test_which_channels_people_look_at_are_set_up() -> None:
    email = EmailSettings(host="mail.example", sender="a@b.example", recipients={"*": ("ward@b.example",)})
    teams = {"teams_webhook_url": "https://hook.example/x"}

    assert channels_set_up(CoordinationSettings()) == ()
    assert channels_set_up(CoordinationSettings(notices=NoticeSettings(channels=("teams", "log")), **teams)) == (
        "teams",
    )
    assert channels_set_up(CoordinationSettings(email=email, **teams)) == ("teams", "email")
    assert channels_set_up(CoordinationSettings(notices=NoticeSettings(channels=("log",)), **teams)) == ()


def test_a_misspelt_channel_is_named() -> None:
    with pytest.raises(ValueError, match="team"):
        NoticeSettings.model_validate({"channels": ["team"]})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"email": {"host": "mail.example"}}, "recipients"),
        ({"email": {"host": "mail.example", "recipients": {"nurse": ["a@b.example"]}}}, "sender"),
        (
            {
                "email": {
                    "host": "mail.example",
                    "sender": "a@b.example",
                    "recipients": {"nurse": ["a@b.example"]},
                    "security": "none",
                }
            },
            "TLS",
        ),
        ({"webhook": {"url": "https://hook.example"}}, "signing_key_file"),
        ({"webhook": {"url": "https://hook.example", "signing_key": "short"}}, "openssl"),
        ({"webhook": {"url": "http://hook.example", "signing_key": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ"}}, "https"),
        ({"teams_webhook_url": "not an address"}, "address"),
    ],
)
def test_a_channel_that_is_half_set_up_or_would_leave_in_the_clear_is_refused(
    options: dict[str, Any], match: str
) -> None:
    with pytest.raises(RefuseToStart, match=match):
        open_channels(CoordinationSettings.model_validate(options))
