"""What Microsoft's own package for Adaptive Cards finds wrong with a card, and what a reader sees of it."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from contracts.test_channel import NOTICE, card_of
from foreign_clients import run_node
from pulseweir.backends.channels.base import Notification
from pulseweir.backends.channels.teams import teams_message

# The first run on a machine fetches the renderer.
pytestmark = pytest.mark.timeout(400)

NASTY = [
    "*Ward* _A_ [B](https://x.example) `c`",
    "1. Intensive care",
    "# 7 - north",
    "- side room\n+ other",
    "{{DATE(2024-01-01T00:00:00Z)}} ${name}",
    '<b>Ward</b> & ~~x~~ \\ | "Süd"',
]


def drawn(notice: Notification) -> Any:
    card = card_of(teams_message(notice, "minimal"))
    return run_node("card.mjs", msgspec.json.encode(card).decode()).saw("card")


def test_the_renderer_finds_nothing_wrong_and_shows_everything() -> None:
    seen = drawn(NOTICE)

    assert seen["faults"] == []
    assert seen["runs"] == [
        "*** Ward A · Bed 03",
        "Review needed",
        f"Reason: {NOTICE.reason}",
        NOTICE.action,
    ]
    assert seen["facts"] == ["Priority", "high", "For", "nurse"]
    assert seen["buttons"] == ["Open"]


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_shown_as_it_is_written(name: str) -> None:
    seen = drawn(replace(NOTICE, ward=name, bed=None, role=name, reason=name, action=name))

    shown = name.replace("{{", "{ {").replace("}}", "} }")
    assert seen["faults"] == []
    assert seen["runs"] == [f"*** {shown}", "Review needed", f"Reason: {shown}", shown]
    assert seen["facts"] == ["Priority", "high", "For", shown]
    assert seen["emphasis"] == 0


@pytest.mark.parametrize("detail", ["none", "minimal"])
def test_every_text_of_a_card_is_a_string(detail: Any) -> None:
    """A number or null in place of a text is shown as nothing, and nobody says so."""
    card = card_of(teams_message(replace(NOTICE, ward=None, bed=None, reason=""), detail))

    def texts(part: Any) -> list[Any]:
        if isinstance(part, list):
            return [text for each in part for text in texts(each)]
        if not isinstance(part, dict):
            return []
        own = [part[name] for name in ("text", "title", "value", "url", "fallbackText") if name in part]
        return own + [text for each in part.values() for text in texts(each)]

    found = texts(card)
    assert len(found) >= 9
    assert all(isinstance(text, str) for text in found)
    assert "lang" not in card
