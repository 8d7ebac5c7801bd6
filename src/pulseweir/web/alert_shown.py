"""Step 17: where a browser says which alerts it has on show, so that an alert counts as seen when it was seen."""

import msgspec
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pulseweir.backends.repository import Transaction, alerts
from pulseweir.warm_path import audit
from pulseweir.warm_path.alert_delivery import shown
from pulseweir.warm_path.alert_store import store, to_alert
from pulseweir.warm_path.care_resources import task_id
from pulseweir.warm_path.settings import NoticeSettings
from pulseweir.web.rights import Viewer
from pulseweir.web.screens import Screens

ALERTS_AT_MOST = 200
_BODY_BYTES_AT_MOST = 32_768


class Shown(msgspec.Struct):
    """What a browser sends: the alerts in sight while its page was in sight.

    Attributes:
        alerts: Their ids.
    """

    alerts: list[str]


async def take_shown(request: Request, screens: Screens, viewer: Viewer, _form: FormData) -> Response:
    """Note which alerts a person who acts on patients has had on show; others out of scope are passed over.

    The body is `{"alerts": ["id", …]}` or the list alone. Answers 204. Saying it again changes nothing.
    """
    ids = await _ids(request)
    if ids and viewer.may("act"):
        now = screens.clock.now_microseconds()
        await screens.repository.write(_note, viewer, ids, now)
    return Response(status_code=204)


async def _ids(request: Request) -> list[str]:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES_AT_MOST:
            raise HTTPException(413, "That is more than one page shows.")
    try:
        told = msgspec.json.decode(bytes(body), type=Shown | list[str])
    except msgspec.DecodeError as error:
        raise HTTPException(400, 'Send {"alerts": ["id", …]}.') from error
    return list(dict.fromkeys(told.alerts if isinstance(told, Shown) else told))[:ALERTS_AT_MOST]


def _note(transaction: Transaction, viewer: Viewer, ids: list[str], now: int) -> None:
    happened = alerts.transitions(transaction, ids)
    for alert_id in ids:
        row = alerts.alert(transaction, alert_id)
        if row is None or not viewer.sees(row.ward):
            continue
        mine = [
            event.occurred_at
            for event in happened.get(alert_id, ())
            if event.transition == "shown" and event.actor == viewer.user_name
        ]
        step = shown(to_alert(row), viewer.user_name, now, last_shown_at=max(mine, default=None))
        if step is None:
            continue
        store(transaction, step, NoticeSettings())
        audit.record(
            transaction,
            actor=viewer.user_name,
            action="read",
            now=now,
            patient_id=row.patient_id,
            subject=f"Task/{task_id(alert_id)}",
            detail={"alert_id": alert_id, "shown": True},
        )
