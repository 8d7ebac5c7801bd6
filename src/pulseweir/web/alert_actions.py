"""Step 18: what a person does to an alert, from a form to a command of the care team's desk."""

from collections.abc import Awaitable, Callable, Iterable

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pulseweir.backends.repository import alerts, people
from pulseweir.backends.repository.rows import AlertRow, UserRow
from pulseweir.errors import AlertCommandRefused
from pulseweir.warm_path.alert_round import may_own
from pulseweir.warm_path.care_team import CareTeamDesk, Person
from pulseweir.web.rights import Right, Viewer
from pulseweir.web.screens import Screens, local_path

ACKNOWLEDGE_WORDS = {
    "seen-going": "Seen, going",
    "known-expected": "Known / expected",
    "artefact": "Artefact",
    "device-problem": "Device problem",
}
RESOLVE_REASONS = ("Treated, improving", "Handed to the medical team", "Transferred", "Care plan adjusted", "Other")
LONGEST_TEXT = 500
_MINUTE_SECONDS = 60

Command = Callable[[CareTeamDesk, Person, str, FormData], Awaitable[AlertRow]]


async def act_on_alert(request: Request, screens: Screens, viewer: Viewer, form: FormData) -> Response:
    """Run one command, then go back to the page it came from."""
    known = _COMMANDS.get(request.path_params["action"])
    if known is None:
        raise HTTPException(404, "There is no such action.")
    right, command = known
    if not viewer.may(right):
        raise HTTPException(403, "Your role does not include this action.")
    alert_id = request.path_params["alert_id"]
    row = await screens.repository.read(alerts.alert, alert_id)
    if row is None or not viewer.sees(row.ward):
        raise HTTPException(404, "There is no such alert in your wards.")
    try:
        await command(screens.desk, Person(viewer.user_name, viewer.wards), alert_id, form)
    except AlertCommandRefused as error:
        raise HTTPException(409, str(error)) from error
    return RedirectResponse(local_path(_text(form, "next") or "/worklist"), status_code=303)


async def show_alert(request: Request, screens: Screens, viewer: Viewer) -> Response:
    """Where the link of a notification leads: to the patient, for who may see them."""
    row = await screens.repository.read(alerts.alert, request.path_params["alert_id"])
    if row is None or not viewer.sees(row.ward):
        raise HTTPException(404, "There is no such alert in your wards.")
    return RedirectResponse(f"/patients/{row.patient_id}", status_code=303)


def acknowledge_reasons(screens: Screens) -> dict[str, str]:
    """What the acknowledge buttons say, by the reason they send."""
    offered = screens.desk.acknowledge_reasons
    return {reason: ACKNOWLEDGE_WORDS.get(reason, reason.replace("-", " ").capitalize()) for reason in offered}


async def colleagues(screens: Screens, viewer: Viewer) -> list[UserRow]:
    """The accounts of those who may be given alerts; none for who may not assign."""
    return await screens.repository.read(people.users) if viewer.may("assign") else []


def owners_of(known: Iterable[UserRow], ward: str | None) -> list[str]:
    """Whom an alert of a ward may be given to: enabled accounts that act on that ward's patients."""
    return [row.user_name for row in known if may_own(row, ward)]


def _text(form: FormData, name: str) -> str:
    found = form.get(name)
    return found[:LONGEST_TEXT].strip() if isinstance(found, str) else ""


def _acknowledge(desk: CareTeamDesk, person: Person, alert_id: str, form: FormData) -> Awaitable[AlertRow]:
    return desk.acknowledge(person, alert_id, _text(form, "reason"))


def _claim(desk: CareTeamDesk, person: Person, alert_id: str, _form: FormData) -> Awaitable[AlertRow]:
    return desk.claim(person, alert_id)


def _assign(desk: CareTeamDesk, person: Person, alert_id: str, form: FormData) -> Awaitable[AlertRow]:
    return desk.assign(person, alert_id, _required(form, "owner", "Choose who takes it."))


def _escalate(desk: CareTeamDesk, person: Person, alert_id: str, _form: FormData) -> Awaitable[AlertRow]:
    return desk.escalate(person, alert_id)


def _note(desk: CareTeamDesk, person: Person, alert_id: str, form: FormData) -> Awaitable[AlertRow]:
    return desk.add_note(person, alert_id, _required(form, "text", "Write the note first."))


def _resolve(desk: CareTeamDesk, person: Person, alert_id: str, form: FormData) -> Awaitable[AlertRow]:
    reason = _required(form, "reason", "Choose what came of it.")
    more = _text(form, "text")
    return desk.resolve(person, alert_id, f"{reason}: {more}" if more else reason)


def _reject(desk: CareTeamDesk, person: Person, alert_id: str, form: FormData) -> Awaitable[AlertRow]:
    return desk.reject(person, alert_id, _required(form, "reason", "Say why it should not have been raised."))


def _suppress(desk: CareTeamDesk, person: Person, alert_id: str, form: FormData) -> Awaitable[AlertRow]:
    minutes = _text(form, "minutes")
    if not minutes.isdecimal():
        raise HTTPException(400, "Give the time in whole minutes.")
    return desk.suppress(person, alert_id, int(minutes) * _MINUTE_SECONDS, _required(form, "reason", "Say why."))


def _required(form: FormData, name: str, remedy: str) -> str:
    text = _text(form, name)
    if not text:
        raise HTTPException(400, remedy)
    return text


_COMMANDS: dict[str, tuple[Right, Command]] = {
    "acknowledge": ("act", _acknowledge),
    "claim": ("act", _claim),
    "assign": ("assign", _assign),
    "escalate": ("act", _escalate),
    "note": ("act", _note),
    "resolve": ("act", _resolve),
    "reject": ("act", _reject),
    "suppress": ("suppress", _suppress),
}
