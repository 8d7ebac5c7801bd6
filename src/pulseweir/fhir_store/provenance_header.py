"""The X-Provenance header: who says so, stored together with what a request writes.

Source: HL7 FHIR R4, http://hl7.org/fhir/R4/provenance.html#header.
"""

from collections.abc import Callable

import msgspec

from pulseweir.fhir_store.interactions import Written, check_incoming, create
from pulseweir.fhir_store.json_text import decode_object, parse_object, split_members
from pulseweir.fhir_store.outcomes import Issue, Refusal
from pulseweir.fhir_store.references import check_references
from pulseweir.fhir_store.security.access import current_access
from pulseweir.fhir_store.security.rights import check_rights
from pulseweir.fhir_store.session import Stored, WriteSession
from pulseweir.fhir_store.settings import FhirStoreSettings

HEADER = "x-provenance"
_UNKNOWN = "Basic/x/_history/1"
"""Stands for the target while nothing is written yet."""

Store = Callable[[WriteSession, Written], None]


def read_provenance(header: str | None, settings: FhirStoreSettings) -> Store | None:
    """What stores the Provenance of a header beside what was written; None without one.

    Its target becomes the version that was written, whatever it says itself. Where nothing was written, because it
    was there already, there is nothing to tell the origin of.

    Raises:
        Refusal: 400 when it holds no Provenance that could be stored, 403 when the caller may create none.
    """
    if header is None:
        return None
    try:
        members = split_members(parse_object(header.encode("latin-1")).text)
        members.pop("id", None)
        text = _aimed(members, _UNKNOWN)
        check_incoming(decode_object(text), text, "Provenance", settings)
    except Refusal as refusal:
        issues = [Issue(each.code, f"X-Provenance: {each.text}", each.expression) for each in refusal.issues]
        raise Refusal(400, issues[0].code, issues[0].text, issues=issues) from None
    check_rights(current_access().caller, "POST", ["Provenance"], ())

    def store(session: WriteSession, written: Written) -> None:
        if written.stored is not None and written.is_change:
            _store(session, _aimed(members, _reference(written.stored)), settings)

    return store


def refuse_provenance(header: str | None) -> None:
    """Nothing, unless a request has the header that takes none.

    Raises:
        Refusal: 400 when it has.
    """
    if header is not None:
        text = "X-Provenance goes with a create, an update or a patch; put the Provenance into the bundle as an entry."
        raise Refusal(400, "not-supported", text)


def _store(session: WriteSession, text: bytes, settings: FhirStoreSettings) -> None:
    stored = create(session, check_incoming(decode_object(text), text, "Provenance", settings)).stored
    if settings.validation == "strict" and stored is not None:
        check_references(session, stored.tree())


def _reference(stored: Stored) -> str:
    return f"{stored.resource_type}/{stored.resource_id}/_history/{stored.version}"


def _aimed(members: dict[str, msgspec.Raw], target: str) -> bytes:
    """The text of the Provenance of a target."""
    aim = msgspec.Raw(msgspec.json.encode([{"reference": target}]))
    return msgspec.json.encode(members | {"target": aim})
