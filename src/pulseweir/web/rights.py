"""Step 17: who may do what. Pure.

A role gives rights; the wards of an account limit whose data they reach.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pulseweir.records.identifiers import digest

Right = Literal["see-patients", "see-names", "act", "assign", "suppress", "see-reports"]

RIGHTS: dict[str, frozenset[Right]] = {
    "nurse": frozenset({"see-patients", "see-names", "act", "see-reports"}),
    "clinician": frozenset({"see-patients", "see-names", "act", "see-reports"}),
    "charge-nurse": frozenset({"see-patients", "see-names", "act", "assign", "suppress", "see-reports"}),
    "viewer-deid": frozenset({"see-patients"}),
    "ops": frozenset({"see-reports"}),
}
"""Rights by role: ops sees counts but no patients, viewer-deid sees patients but no names and no ages over 89."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """A person who is signed in.

    Attributes:
        user_name: Account.
        role: A key of `RIGHTS`.
        wards: The only wards in scope; None for all.
        csrf_token: Must come back with every form.
        session_hash: The session, for signing out.
    """

    user_name: str
    role: str
    wards: frozenset[str] | None
    csrf_token: str
    session_hash: str

    @property
    def screen_name(self) -> str:
        """What the tabs of one session have in common: no secret, and another for every session."""
        return digest("screen", self.session_hash)[:16]

    def may(self, right: Right) -> bool:
        """Whether the role gives this right."""
        return right in RIGHTS.get(self.role, frozenset())

    def sees(self, ward: str | None) -> bool:
        """Whether a patient of this ward is in scope; one without a ward only for those who see all wards."""
        return self.may("see-patients") and (self.wards is None or ward in self.wards)

    def scope(self, chosen: str | None = None) -> Collection[str] | None:
        """The wards a query may return: the chosen one where it is in scope, else all in scope; None for no limit."""
        if not chosen:
            return self.wards
        if self.wards is None or chosen in self.wards:
            return frozenset({chosen})
        return frozenset()
