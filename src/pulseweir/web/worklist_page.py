"""Step 17: the care-team page: alerts in the order they should be seen, and what a person can do about each."""

from dataclasses import dataclass, field, replace
from typing import Any, get_args

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pulseweir.backends.repository import Transaction, alerts
from pulseweir.backends.repository.alerts import Tab
from pulseweir.backends.repository.rows import AlertRow, TransitionRow
from pulseweir.web.alert_actions import RESOLVE_REASONS, acknowledge_reasons, colleagues, owners_of
from pulseweir.web.alert_words import status_words
from pulseweir.web.names import NOBODY, Person
from pulseweir.web.rights import Viewer
from pulseweir.web.screens import Screens
from pulseweir.web.tiles import BAND_WORDS, Pill, pill_of

TABS: tuple[tuple[Tab, str], ...] = (
    ("unit", "Unit"),
    ("unassigned", "Unassigned"),
    ("mine", "Mine"),
    ("escalated", "Escalated"),
    ("done", "Done"),
    ("missed", "Missed"),
    ("devices", "Devices"),
)
_NOTES_SHOWN = 5
_COUNTED: tuple[Tab, ...] = ("unit", "unassigned", "mine", "escalated", "devices")
_MOST = 200
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the worklist.

    Attributes:
        alert: The alert.
        pill: Its pill.
        waiting_from: Since when it waits, microseconds.
        waited_seconds: How long it waited until acknowledged or closed, or waits by now.
        next_step: In words; a countdown to `alert.next_step_at` follows where `counts_down`.
        counts_down: Whether the ladder runs.
        person: Who it is about, as far as the viewer may know.
        happened: The newest transitions.
        words: What became of it, each in a sentence.
        owners: Whom it may be given to.
    """

    alert: AlertRow
    pill: Pill
    waiting_from: int
    waited_seconds: int
    next_step: str
    counts_down: bool
    person: Person
    happened: list[TransitionRow]
    words: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)


async def show_worklist(request: Request, screens: Screens, viewer: Viewer) -> Response:
    """The page."""
    facts = await _facts(request, screens, viewer)
    await screens.record(viewer, "read", subject=f"worklist {facts['tab']}")
    return screens.pages.page("worklist.html", viewer=viewer, here="worklist", **facts)


async def show_items(request: Request, screens: Screens, viewer: Viewer) -> Response:
    """The lines alone, for a page that is open already."""
    facts = await _facts(request, screens, viewer)
    return HTMLResponse(screens.pages.text("worklist_items.html", viewer=viewer, **facts))


async def _facts(request: Request, screens: Screens, viewer: Viewer) -> dict[str, Any]:
    asked = request.query_params.get("tab", "unit")
    tab = next((known for known in get_args(Tab) if known == asked), None)
    if tab is None:
        raise HTTPException(404, "The worklist has no such tab.")
    rows, happened, counts = await screens.repository.read(_read, tab, viewer)
    names = screens.names.known([row.patient_id for row in rows]) if viewer.may("see-names") else {}
    now = screens.clock.now_microseconds()
    known = await colleagues(screens, viewer)
    items = []
    for row in rows:
        events = happened.get(row.alert_id, [])
        words = status_words(row, events, now, screens.desk.settings, screens.site)
        item = item_of(row, names.get(row.patient_id, NOBODY), events, now)
        items.append(replace(item, words=words, owners=owners_of(known, row.ward)))
    return {
        "tab": tab,
        "tabs": TABS,
        "counts": counts,
        "items": items,
        "band_words": BAND_WORDS,
        "acknowledge_reasons": acknowledge_reasons(screens),
        "resolve_reasons": RESOLVE_REASONS,
        "checked_at": now,
    }


def _read(
    transaction: Transaction, tab: Tab, viewer: Viewer
) -> tuple[list[AlertRow], dict[str, list[TransitionRow]], dict[str, int]]:
    scope = viewer.scope()
    rows = alerts.worklist(transaction, tab, wards=scope, user_name=viewer.user_name, limit=_MOST)
    counts: dict[str, int] = {
        name: len(alerts.worklist(transaction, name, wards=scope, user_name=viewer.user_name, limit=_MOST))
        for name in _COUNTED
    }
    return rows, alerts.transitions(transaction, [row.alert_id for row in rows]), counts


def item_of(alert: AlertRow, person: Person, happened: list[TransitionRow], now: int) -> Item:
    """One line, as of `now`, microseconds."""
    until = alert.acknowledged_at or alert.closed_at or now
    step, counts_down = next_step(alert, now)
    return Item(
        alert=alert,
        pill=pill_of(alert),
        waiting_from=alert.raised_at,
        waited_seconds=max(0, until - alert.raised_at) // _SECOND,
        next_step=step,
        counts_down=counts_down,
        person=person,
        happened=happened[-_NOTES_SHOWN:][::-1],
    )


def next_step(alert: AlertRow, now: int) -> tuple[str, bool]:
    """What comes next, in words, and whether a countdown to it runs."""
    if alert.closed_at is not None:
        return (alert.outcome or alert.state.replace("-", " ")), False
    if alert.suppressed_until is not None and alert.suppressed_until > now:
        return "Suppressed", False
    if alert.acknowledged_at is not None:
        if alert.claimed_at is None and alert.next_step_at is not None and alert.next_step_at > now:
            return "Claim; reminder in", True
        return ("Resolve with a reason" if alert.owner else "Claim"), False
    if alert.next_step_at is not None:
        return "Next message in", True
    return "Acknowledge", False
