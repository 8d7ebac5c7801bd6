"""Step 15: the ward overview, and the stream that keeps it live."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from pulseweir.backends.repository.rows import AlertRow, LiveRow
from pulseweir.web import sessions
from pulseweir.web.board import Subscription
from pulseweir.web.charts import warm_up
from pulseweir.web.names import NOBODY
from pulseweir.web.rights import Viewer
from pulseweir.web.screens import Screens
from pulseweir.web.tiles import BAND_WORDS, BANDS, Tile, age_sex

_RETRY_MILLISECONDS = 2_000


@dataclass(frozen=True, slots=True)
class Summary:
    """The header of the overview.

    Attributes:
        patients: Beds in view.
        bands: Patients by band, most urgent first, then "not-scored", those without enough data last as "none".
        unacknowledged: Open alerts nobody has acknowledged.
        oldest_at: When the oldest of them was raised, microseconds.
    """

    patients: int
    bands: dict[str, int]
    unacknowledged: int
    oldest_at: int | None


@dataclass(frozen=True, slots=True)
class View:
    """What one screen wants to be told of.

    Attributes:
        ward: Only this ward; "" for every ward in scope.
        patient_id: Only this patient; "" for all.
        only_alerts: Changes of alerts and states, not every new value.
    """

    ward: str = ""
    patient_id: str = ""
    only_alerts: bool = False

    def holds(self, row: LiveRow) -> bool:
        """Whether a patient belongs to it."""
        return self.ward in ("", row.ward) and self.patient_id in ("", row.patient_id)


async def show_ward(request: Request, screens: Screens, viewer: Viewer) -> Response:
    """The board: one tile a bed."""
    if not viewer.may("see-patients"):
        return RedirectResponse("/reports", status_code=303)
    ward = request.query_params.get("ward", "")
    rows = _rows(screens, viewer, View(ward))
    if viewer.may("see-names"):
        await screens.names.look_up([row.patient_id for row in rows])
    await screens.record(viewer, "read", subject=f"ward-overview {ward}".strip())
    tiles = sorted((_drawn(screens, viewer, row) for row in rows), key=lambda drawn: drawn.tile.order)
    page = screens.pages.page(
        "ward.html",
        viewer=viewer,
        here="ward",
        tiles=[drawn.html for drawn in tiles],
        summary=summarize(rows, screens.board.open_alerts(rows)),
        band_words=BAND_WORDS,
        wards=wards_in_view(screens, viewer),
        chosen_ward=ward,
        sequence=screens.board.sequence,
    )
    # Whoever looks at the board opens a patient next: the chart library is loaded by then.
    page.background = BackgroundTask(warm_up)
    return page


async def stream_events(request: Request, screens: Screens, viewer: Viewer) -> Response:
    """Server-sent events: ``board`` (everything, on every connect), then what changes.

    ``live`` and ``tile`` renew patients, ``gone`` takes them away, ``alerts`` says that an alert or a state changed,
    ``summary`` has the counts, ``heartbeat`` how long ago the repository last answered. Each carries `server_time`.
    ``board``, ``live`` and ``tile`` have `rows`, each with patient_id, newest_occurred_at, recorded_at and sequence;
    all instants are microseconds of the house's clock.
    """
    asked = request.query_params
    view = View(asked.get("ward", ""), asked.get("patient", ""), asked.get("only", "") == "alerts")
    stream = events(screens, viewer, request.cookies.get(sessions.COOKIE, ""), view)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def events(screens: Screens, viewer: Viewer, token: str, view: View) -> AsyncIterator[bytes]:
    """The stream of one screen, until its session ends."""
    with screens.board.subscribed() as subscription:
        yield f"retry: {_RETRY_MILLISECONDS}\n\n".encode()
        shown = {row.patient_id for row in _rows(screens, viewer, view)}
        yield _event(screens, "board", _whole(screens, viewer, view))
        due = time.monotonic()
        while True:
            # The session is asked for as often while values flow: news alone would keep a stream past its sign-out.
            left = due + screens.settings.heartbeat_seconds - time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(subscription.woken.wait(), max(0.0, left))
            if time.monotonic() - due >= screens.settings.heartbeat_seconds:
                due = time.monotonic()
                current = await sessions.viewer_of(screens.repository, token, screens.settings, is_action=False)
                if current != viewer:
                    yield _event(screens, "signed-out", {})
                    return
                yield _event(screens, "heartbeat", {"delay_seconds": round(screens.board.delay_seconds, 1)})
            if subscription.woken.is_set():
                for event in _news(screens, viewer, view, subscription, shown):
                    yield event


def _news(screens: Screens, viewer: Viewer, view: View, subscription: Subscription, shown: set[str]) -> Iterator[bytes]:
    """What one screen has not been told; `shown` follows which patients it has."""
    live, touched = subscription.take()
    gone: list[str] = []
    told_live: set[str] = set() if view.only_alerts else live
    for name, patients in (("live", told_live), ("tile", touched - told_live)):
        rows = []
        for patient_id in sorted(patients):
            row = screens.board.rows.get(patient_id)
            if row is not None and view.holds(row) and viewer.sees(row.ward):
                shown.add(patient_id)
                rows.append(_drawn(screens, viewer, row).facts())
            elif patient_id in shown:
                shown.discard(patient_id)
                gone.append(patient_id)
        if rows:
            yield _event(screens, name, {"rows": rows})
    if gone:
        yield _event(screens, "gone", {"patients": gone, "patients_gone": gone})
    if touched:
        yield _event(screens, "alerts", {})
    if not view.patient_id:
        yield _event(screens, "summary", _summary_facts(screens, viewer, view))


def summarize(rows: list[LiveRow], alerts: list[AlertRow]) -> Summary:
    """Counts over some patients and their open alerts."""
    counts = Counter("not-scored" if row.abstained else row.band or "none" for row in rows)
    bands = {band: counts[band] for band in (*BANDS, "not-scored", "none")}
    waiting = [alert.raised_at for alert in alerts if alert.acknowledged_at is None]
    return Summary(len(rows), bands, len(waiting), min(waiting, default=None))


def wards_in_view(screens: Screens, viewer: Viewer) -> list[str]:
    """Wards that have patients on the board and are in a person's scope."""
    return sorted({row.ward for row in screens.board.rows.values() if row.ward and viewer.sees(row.ward)})


@dataclass(frozen=True, slots=True)
class _Drawn:
    row: LiveRow
    tile: Tile
    html: str

    def facts(self) -> dict[str, object]:
        return {
            "patient_id": self.row.patient_id,
            "ward": self.row.ward,
            "sign_of_life_at": self.tile.sign_of_life_at,
            "newest_occurred_at": self.row.newest_occurred_at,
            "recorded_at": self.row.recorded_at,
            "sequence": self.row.sequence,
            "preliminary": self.row.preliminary,
            "backfill": self.row.backfill,
            "status": self.row.status,
            "score": self.row.score,
            "band": self.row.band,
            "state": self.tile.state,
            "order": self.tile.order,
            "html": self.html,
        }


def _drawn(screens: Screens, viewer: Viewer, row: LiveRow) -> _Drawn:
    tile = screens.board.tile(row)
    sees_names = viewer.may("see-names")
    person = screens.names.known([row.patient_id])[row.patient_id] if sees_names else NOBODY
    age = age_sex(row.age_years, row.sex, deidentified=not sees_names)
    return _Drawn(row, tile, screens.pages.text("tile.html", tile=tile, person=person, age=age))


def _whole(screens: Screens, viewer: Viewer, view: View) -> dict[str, object]:
    rows = [] if view.only_alerts else _rows(screens, viewer, view)
    return {"rows": [_drawn(screens, viewer, row).facts() for row in rows]} | _summary_facts(screens, viewer, view)


def _rows(screens: Screens, viewer: Viewer, view: View) -> list[LiveRow]:
    return [row for row in screens.board.patients(viewer) if view.holds(row)]


def _summary_facts(screens: Screens, viewer: Viewer, view: View) -> dict[str, object]:
    """Counts over the view, and over each of its wards, for the tabs that show one ward of a stream that they share."""
    rows = _rows(screens, viewer, view)
    by_ward: dict[str, list[LiveRow]] = {}
    for row in rows:
        by_ward.setdefault(row.ward or "", []).append(row)
    wards = {ward: _counts(screens, of_ward) for ward, of_ward in by_ward.items()}
    return _counts(screens, rows) | {"wards": wards}


def _counts(screens: Screens, rows: list[LiveRow]) -> dict[str, object]:
    summary = summarize(rows, screens.board.open_alerts(rows))
    return {
        "patients": summary.patients,
        "bands": summary.bands,
        "unacknowledged": summary.unacknowledged,
        "oldest_at": summary.oldest_at,
    }


def _event(screens: Screens, name: str, facts: dict[str, object]) -> bytes:
    body = msgspec.json.encode({"server_time": screens.clock.now_microseconds(), "speed": screens.clock.speed} | facts)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (screens.board.sequence, name.encode(), body)
