"""Step 15: who the patients are, from the FHIR service, for people who may know it; kept for a short while only."""

import asyncio
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pulseweir.errors import RejectRecord, RetryLater
from pulseweir.web.settings import WebSettings

if TYPE_CHECKING:
    from pulseweir.backends.fhir_client import FhirClient

_CHUNK = 50
_MOST_KEPT = 20_000
_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Person:
    """What a screen shows of a Patient resource.

    Attributes:
        name: Full name, or "".
        birth_date: ``YYYY-MM-DD``, or "".
        initials: One or two letters, or "".
    """

    name: str
    birth_date: str
    initials: str


NOBODY = Person("", "", "")


class Names:
    """Patients by id, read in groups and forgotten after `names_kept_seconds`."""

    def __init__(self, fhir: "FhirClient", settings: WebSettings) -> None:
        self._fhir = fhir
        self._settings = settings
        self._kept: dict[str, tuple[Person, float]] = {}
        self._asked: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()

    def known(self, patient_ids: Iterable[str]) -> dict[str, Person]:
        """Those that are known now; the others are asked for in the background."""
        now = time.monotonic()
        found: dict[str, Person] = {}
        lacking: list[str] = []
        for patient_id in patient_ids:
            person, until = self._kept.get(patient_id, (NOBODY, 0.0))
            found[patient_id] = person
            if until <= now:
                lacking.append(patient_id)
        self._ask(lacking)
        return found

    async def look_up(self, patient_ids: Collection[str]) -> dict[str, Person]:
        """Those patients, waiting for the FHIR service no longer than `names_wait_seconds`."""
        self.known(patient_ids)
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.names_wait_seconds)
        return self.known(patient_ids)

    async def close(self) -> None:
        """Stop asking."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ask(self, patient_ids: list[str]) -> None:
        new = [patient_id for patient_id in patient_ids if patient_id not in self._asked]
        for first in range(0, len(new), _CHUNK):
            chunk = new[first : first + _CHUNK]
            self._asked.update(chunk)
            task = asyncio.create_task(self._fetch(chunk))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _fetch(self, patient_ids: list[str]) -> None:
        if len(self._kept) > _MOST_KEPT:
            self._kept.clear()
        try:
            query = [("_id", ",".join(patient_ids)), ("_count", str(_CHUNK))]
            resources = await self._fhir.search("Patient", query, limit=_CHUNK)
        except (RetryLater, RejectRecord):
            # A dead FHIR service costs the screens the names and nothing else.
            resources, kept_seconds = [], _RETRY_SECONDS
        else:
            kept_seconds = self._settings.names_kept_seconds
        finally:
            self._asked.difference_update(patient_ids)
        until = time.monotonic() + kept_seconds
        people = {str(resource.get("id")): person_of(resource) for resource in resources}
        for patient_id in patient_ids:
            before, _ = self._kept.get(patient_id, (NOBODY, 0.0))
            self._kept[patient_id] = (people.get(patient_id, before), until)


def person_of(resource: dict[str, Any]) -> Person:
    """What a Patient resource says about who it is.

    >>> person_of({"name": [{"given": ["Ada"], "family": "Example"}], "birthDate": "1950-01-01"}).initials
    'AE'
    """
    names = [name for name in resource.get("name", []) if isinstance(name, dict)]
    chosen = next((name for name in names if name.get("use") == "official"), names[0] if names else {})
    text = str(chosen.get("text") or " ".join([*chosen.get("given", []), chosen.get("family", "")])).strip()
    words = [word for word in text.split() if word[0].isalpha()]
    letters = words[0][0] + words[-1][0] if len(words) > 1 else text[:1]
    return Person(text, str(resource.get("birthDate", "")), letters.upper())
