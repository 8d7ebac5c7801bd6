"""Steps 12 to 14: what an operator may set about the hot path."""

from pydantic import BaseModel, ConfigDict, Field


class FhirRiskSettings(BaseModel):
    """How scores travel to the FHIR service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    windows_per_bundle: int = Field(50, ge=1, description="Windows that share one transaction bundle.")
    record_wait_seconds: float = Field(
        2.0, ge=0, description="How long to wait for the repository to hold a score before asking for it again."
    )


class RiskAssessmentSettings(BaseModel):
    """How scores are written to FHIR."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snomed_score_codes: bool = Field(
        True, description="Add the SNOMED CT UK codes of NEWS2 beside our own; needs a licence outside its members."
    )
    basis_limit: int = Field(50, ge=1, description="Observations named in one RiskAssessment at most.")
    evidence_limit: int = Field(1_000, ge=1, description="RiskAssessments named in one Flag at most, newest kept.")


class CareRoutingSettings(BaseModel):
    """Where scores go whose patient and ward have no CareTeam, and how often teams are read again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_team_id: str = Field("", description="FHIR id of the CareTeam for patients without one; empty for none.")
    default_team_name: str = Field("Ward team", description="What that team is called on screens and in messages.")
    refresh_seconds: float = Field(30.0, gt=0, description="Real seconds between two reads of the CareTeams.")
