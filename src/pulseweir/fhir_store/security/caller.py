"""The caller of a request: who it is, and what it may do. Every question of rights ends here. Pure.

A caller without bounds (a role of the house, or anybody while no authentication is set up) costs one comparison.
A bounded one is held to its scopes by type and interaction, and, where scopes restrict or the caller is bound to a
patient, resource by resource.
"""

from dataclasses import dataclass, field

from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, compartment_parameters
from pulseweir.fhir_store.security.compartment import has_token, patients_of
from pulseweir.fhir_store.security.scopes import READ, SEARCH, Grant

ISSUER_ORIGIN = "issuer:"
"""Begins the origin of callers with signed tokens."""
DIRECTORY = frozenset({"Location", "Organization", "Practitioner", "PractitionerRole"})
"""Types that say nothing about patients: a caller bound to a patient reads them when a user or system scope says so."""
_WORDS = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way in which a resource can be within a caller's rights; all of it must hold.

    Attributes:
        patient: Logical id of the Patient whose compartment it must be in; None for any.
        tokens: (parameter, value) it must match.
    """

    patient: str | None
    tokens: tuple[tuple[str, str], ...]

    def holds(self, resource_type: str, resource_id: str, tree: Json) -> bool:
        """Whether a resource is within."""
        if self.patient is not None and self.patient not in patients_of(resource_type, resource_id, tree):
            return False
        return all(has_token(resource_type, tree, name, value) for name, value in self.tokens)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what it was given.

    Attributes:
        name: Name of the client.
        grants: What it may do; None for everything.
        patient: Logical id of the Patient it is bound to; None for no such bond.
        user: The person behind the client, when the token names one.
        is_house: Whether it is a role of this house, of which no AuditEvent is written.
        origin: Who vouches for the name: "house", "anybody", "client" for the operator's file, "issuer:URL".
    """

    name: str
    grants: tuple[Grant, ...] | None = None
    patient: str | None = None
    user: str | None = None
    is_house: bool = False
    origin: str = "client"
    _known: dict[tuple[str, str], tuple[Alternative, ...]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """What tells it from every other: an issuer may give its clients the names of the operator's."""
        return self.origin, self.name, self.user

    @property
    def is_of_issuer(self) -> bool:
        """Whether its rights are those of a signed token, and asked of nobody else."""
        return self.origin.startswith(ISSUER_ORIGIN)

    @property
    def is_bounded(self) -> bool:
        """Whether anything at all is held back from it."""
        return self.grants is not None

    def may(self, resource_type: str, letter: str) -> bool:
        """Whether it may do this with some resource of the type; "*" asks about every type.

        Args:
            resource_type: FHIR type, or "*".
            letter: The interaction, one of "cruds".
        """
        if self.grants is None:
            return True
        if resource_type == "*":
            return all(self.may(name, letter) for name in RESOURCE_TYPES)
        return bool(self.alternatives(resource_type, letter))

    def require(self, resource_type: str, letters: str) -> None:
        """Nothing, if it may do all of this with the type.

        Raises:
            Refusal: 403 when it may not.
        """
        for letter in letters:
            if not self.may(resource_type, letter):
                of = "all types" if resource_type == "*" else resource_type
                text = f"The token's scopes do not allow to {_WORDS[letter]} {of}; ask for a token with that scope."
                raise forbidden(text)

    def is_narrowed(self, resource_type: str, letters: str = "cruds") -> bool:
        """Whether resources of the type differ in whether it may do these things with them."""
        if self.grants is None:
            return False
        names = RESOURCE_TYPES if resource_type == "*" else (resource_type,)
        return any(not _takes_all(self.alternatives(name, letter)) for name in names for letter in letters)

    def alternatives(self, resource_type: str, letter: str) -> tuple[Alternative, ...]:
        """The ways in which a resource can be within its rights; none when the type is not."""
        key = (resource_type, letter)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._find_alternatives(resource_type, letter)
        return found

    def allows(self, resource_type: str, resource_id: str, tree: Json, letters: str) -> bool:
        """Whether any of these interactions with this very resource is within its rights."""
        if self.grants is None:
            return True
        ways = (way for letter in letters for way in self.alternatives(resource_type, letter))
        return any(way.holds(resource_type, resource_id, tree) for way in ways)

    def _find_alternatives(self, resource_type: str, letter: str) -> tuple[Alternative, ...]:
        fitting = [
            grant
            for grant in self.grants or ()
            if grant.resource_type in {"*", resource_type} and letter in grant.letters
        ]
        found = {way for grant in fitting if (way := self._alternative(grant, resource_type, letter)) is not None}
        if any(_is_free(way) for way in found):
            return (Alternative(None, ()),)
        return tuple(sorted(found, key=lambda way: (way.patient or "", way.tokens)))

    def _alternative(self, grant: Grant, resource_type: str, letter: str) -> Alternative | None:
        """What a grant gives on a type; None for nothing."""
        if self.patient is None:
            return None if grant.level == "patient" else Alternative(None, grant.restriction)
        if resource_type == "AuditEvent":
            # It is in the compartment, and names the other patients of the same access.
            return None
        if resource_type in DIRECTORY and grant.level != "patient" and letter in {READ, SEARCH}:
            return Alternative(None, grant.restriction)
        if resource_type == "Patient" or compartment_parameters("Patient", resource_type):
            return Alternative(self.patient, grant.restriction)
        return None


def _is_free(way: Alternative) -> bool:
    return way.patient is None and not way.tokens


def _takes_all(ways: tuple[Alternative, ...]) -> bool:
    """Whether the ways let every resource through, or none."""
    return not ways or any(_is_free(way) for way in ways)


def forbidden(text: str) -> Refusal:
    """403 with a sentence."""
    return Refusal(403, "forbidden", text)


ANYBODY = Caller("anybody", origin="anybody")
"""Whoever reaches an open server."""
HOUSE = Caller("house", is_house=True, origin="house")
"""The roles of this house."""
