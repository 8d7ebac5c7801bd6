"""What the doctor finds out about notification channels, without sending anything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pulseweir.backends.repository import outbox
from pulseweir.backends.repository.rows import OutboxRow
from pulseweir.clock import Clock
from pulseweir.operations.doctor_channels import examine_channels
from pulseweir.operations.findings import Finding
from pulseweir.settings import Settings, load_settings
from pulseweir.systems import open_repository
from pulseweir.warm_path.message_retries import failing_channels

TEAMS = {"teams_webhook_url": "https://hook.example/secret-path"}
EMAIL = {"host": "mail.example", "sender": "a@b.example"}
ROW = OutboxRow(
    entry_key="k",
    kind=outbox.NOTIFICATION,
    alert_id="a",
    patient_id="p",
    channels_json="[]",
    body_json="{}",
    created_at=0,
    due_at=0,
)


def house(directory: Path, coordination: dict[str, Any]) -> Settings:
    return load_settings({"data_dir": directory / "house", "coordination": coordination})


def only(findings: list[Finding]) -> Finding:
    [finding] = findings
    assert finding.check == "notification channels"
    assert finding.healthy or finding.remedy
    assert "secret-path" not in str(finding)
    return finding


@pytest.mark.parametrize("coordination", [{}, {"notices": {"channels": ["log"]}, **TEAMS}])
def test_no_channel_that_people_look_at_is_said_with_the_remedy(tmp_path: Path, coordination: dict[str, Any]) -> None:
    finding = only(examine_channels(house(tmp_path, coordination)))

    assert not finding.healthy
    assert "coordination.email" in finding.remedy
    assert not (tmp_path / "house").exists()


def test_channels_that_are_set_up_are_named(tmp_path: Path) -> None:
    email = {**EMAIL, "recipients": {"*": ["w@b.example"]}}

    finding = only(examine_channels(house(tmp_path, {**TEAMS, "email": email})))

    assert (finding.healthy, finding.found) == (True, "teams, email")


def test_half_a_channel_is_said(tmp_path: Path) -> None:
    finding = only(examine_channels(house(tmp_path, {"email": EMAIL})))

    assert (finding.healthy, finding.found) == (False, "cannot be used as set up")


def test_roles_that_no_mail_can_reach_are_named(tmp_path: Path) -> None:
    email = {**EMAIL, "recipients": {"nurse": ["w@b.example"]}}

    finding = only(examine_channels(house(tmp_path, {"email": email})))

    assert not finding.healthy
    assert "charge-nurse" in finding.found
    assert "nurse," not in finding.found.replace("charge-nurse,", "")


def test_a_channel_that_took_none_of_the_last_messages_is_named(tmp_path: Path) -> None:
    settings = house(tmp_path, TEAMS)
    repository = open_repository(settings, Clock())
    with repository.writing() as transaction:
        outbox.put(transaction, [replace(ROW, entry_key=f"k{number}", channel_index=1) for number in range(3)])
    repository.close()

    finding = only(examine_channels(settings))

    assert not finding.healthy
    assert finding.found == "teams took none of the last 3 messages"


SENT = replace(ROW, state="sent", channel="email", channel_index=1)


@pytest.mark.parametrize(
    ("rows", "failing"),
    [
        ([], ()),
        ([SENT, SENT], ()),
        ([SENT, SENT, SENT], ("teams",)),
        ([SENT, SENT, replace(ROW, state="sent", channel="teams"), SENT, SENT], ()),
        ([ROW, SENT, SENT, SENT], ("teams",)),
        ([replace(ROW, channel_index=2)] * 3, ("teams", "email")),
        ([replace(ROW, attempts=1)] * 3, ("teams",)),
        ([replace(ROW, channel_index=9, state="failed")] * 3, ("teams", "email")),
    ],
)
def test_which_channels_fail_is_read_from_what_became_of_messages(
    rows: list[OutboxRow], failing: tuple[str, ...]
) -> None:
    assert failing_channels(rows, ("teams", "email"), 3) == failing
