"""One request as the routes see it, what its Prefer header says, and the part of it that reads."""

from dataclasses import dataclass, field
from typing import Literal

from pulseweir.fhir_store.json_text import Document
from pulseweir.fhir_store.negotiation import PLAIN, Headers, Presentation
from pulseweir.fhir_store.outcomes import Json, Refusal
from pulseweir.fhir_store.query import Pairs

Return = Literal["minimal", "representation", "OperationOutcome"]
_FORMAT = frozenset({"_format", "_pretty"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        method: HTTP method; HEAD has become GET.
        segments: Path below the base URL, decoded.
        query: Query parameters, those of a search form included.
        headers: As sent.
        body: As sent.
        base_url: Absolute FHIR base URL for links.
        security: What the CapabilityStatement says about who may come in; only of a call for that.
        look: How the client wants the answer written.
    """

    method: str
    segments: list[str]
    query: Pairs
    headers: Headers
    body: bytes
    base_url: str
    security: Json = field(default_factory=dict)
    look: Presentation = PLAIN

    def preference(self, name: str) -> str | None:
        """The value of one `Prefer` preference, lower-case."""
        for part in self.headers.get("prefer", "").replace(";", ",").split(","):
            key, _, value = part.strip().partition("=")
            if key.strip().lower() == name:
                return value.strip().strip('"').lower()
        return None

    @property
    def is_strict(self) -> bool:
        """Whether unknown parameters are refused.

        Raises:
            Refusal: 400 for another handling than strict and lenient.
        """
        handling = self.preference("handling")
        if handling not in {None, "strict", "lenient"}:
            raise Refusal(400, "invalid", "Prefer: handling must be strict or lenient.", "http.Prefer")
        return handling == "strict"

    @property
    def wanted_return(self) -> Return:
        """What a write answers with; the resource unless the client prefers something else."""
        match self.preference("return"):
            case "minimal":
                return "minimal"
            case "operationoutcome":
                return "OperationOutcome"
        return "representation"

    @property
    def criteria(self) -> Pairs:
        """The query without what only shapes the answer."""
        return [pair for pair in self.query if pair[0] not in _FORMAT]


@dataclass(frozen=True, slots=True)
class Reading:
    """What somebody wants to read, by a request of its own or an entry of a bundle.

    Attributes:
        segments: Path below the base URL.
        query: Query parameters.
        base_url: Absolute FHIR base URL for links.
        now: Present instant, microseconds.
        strict: Whether unknown parameters are refused.
        if_none_match: Entity tags of what the client holds; None for none.
        if_modified_since: HTTP date of what the client holds; None for none.
        document: Body of an operation; None for none.
        security: What the CapabilityStatement says about who may come in.
    """

    segments: list[str]
    query: Pairs
    base_url: str
    now: int
    strict: bool = False
    if_none_match: str | None = None
    if_modified_since: str | None = None
    document: Document | None = None
    security: Json = field(default_factory=dict)
