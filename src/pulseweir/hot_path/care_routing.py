"""Step 14: who must know of a patient's risk: the patient's own CareTeam, else the ward's, else the default team."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.backends.repository import Repository, people
from pulseweir.backends.repository.rows import CareTeamRow
from pulseweir.hot_path.settings import CareRoutingSettings
from pulseweir.records.codes import WARD_IDENTIFIER_SYSTEM


@dataclass(frozen=True, slots=True)
class Team:
    """A care team; `care_team_id` is empty when FHIR holds none."""

    care_team_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Routes:
    """Teams by what they care for."""

    by_patient: Mapping[str, Team]
    by_ward: Mapping[str, Team]
    default: Team

    def team_for(self, patient_id: str, ward: str | None) -> Team:
        """Who must know.

        >>> Routes({}, {"A": Team("t1", "A nurses")}, Team("", "Ward team")).team_for("p1", "A").name
        'A nurses'
        """
        return self.by_patient.get(patient_id) or self.by_ward.get(ward or "") or self.default


def routes(rows: Iterable[CareTeamRow], settings: CareRoutingSettings) -> Routes:
    """Teams as stored, ready to be asked."""
    by_patient: dict[str, Team] = {}
    by_ward: dict[str, Team] = {}
    for row in rows:
        team = Team(row.care_team_id, row.name)
        if row.patient_id:
            by_patient[row.patient_id] = team
        elif row.ward:
            by_ward[row.ward] = team
    return Routes(by_patient, by_ward, Team(settings.default_team_id, settings.default_team_name))


async def refresh_care_teams(fhir: FhirClient, repository: Repository) -> None:
    """Copy the CareTeams of the FHIR service to the repository, where every process finds them.

    Raises:
        RetryLater: The FHIR service did not answer; the copy stays as it is.
    """
    found = await fhir.search("CareTeam", [("_count", "500")])
    now = repository.clock.now_microseconds()
    rows = {(row.care_team_id, row.patient_id, row.ward): row for team in found for row in _team_rows(team, now)}
    await repository.write(people.replace_care_teams, list(rows.values()))


def _team_rows(team: Mapping[str, Any], now: int) -> list[CareTeamRow]:
    if team.get("status", "active") not in ("active", "proposed"):
        return []
    wards = [
        entry["value"]
        for entry in team.get("identifier", [])
        if entry.get("system") == WARD_IDENTIFIER_SYSTEM and entry.get("value")
    ]
    kind, _, patient_id = team.get("subject", {}).get("reference", "").rpartition("/")
    about = [("", ward) for ward in wards]
    if kind.endswith("Patient"):
        about = [(patient_id, "")]
    return [
        CareTeamRow(
            care_team_id=team["id"], name=team.get("name") or team["id"], patient_id=patient, ward=ward, updated_at=now
        )
        for patient, ward in about
    ]
