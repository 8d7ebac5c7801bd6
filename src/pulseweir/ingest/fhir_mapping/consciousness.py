"""Step 5c: a level of consciousness charted in words, as a CodeableConcept. Pure.

A mapping that cannot have a type for each way to chart a level says so by one coding, `BY_LIST_CODE`: what is charted
is then told by the house's one list of letters, words and codes. What the list does not know is never written.
"""

from typing import TYPE_CHECKING

from pulseweir.records.codes import PULSEWEIR, SNOMED
from pulseweir.records.consciousness import SNOMED_CODES, TITLES, letter_of

if TYPE_CHECKING:
    from pulseweir.ingest.fhir_mapping.templates import ValueTemplate

LEVEL_SYSTEM = f"{PULSEWEIR}/CodeSystem/consciousness"
BY_LIST_CODE = "not-understood"
"""In `LEVEL_SYSTEM`: what stands for the level until the list has told it."""
_SNOMED_DISPLAYS = {
    "A": "Mentally alert",
    "C": "Acute confusion",
    "V": "Responds to voice",
    "P": "Responds to pain",
    "U": "Unresponsive",
}


def is_by_list(value: "ValueTemplate") -> bool:
    """Whether the list tells what a value means."""
    codings = (value.concept or {}).get("coding")
    listed = codings if isinstance(codings, list) else []
    return any(one.get("system") == LEVEL_SYSTEM and one.get("code") == BY_LIST_CODE for one in listed)


def level_concept(text: str) -> dict[str, object] | None:
    """The CodeableConcept of a charted level; None when it is not understood.

    >>> level_concept(" c")["text"], level_concept("42")
    ('New confusion', None)
    """
    letter = letter_of(text)
    if letter is None:
        return None
    if letter in SNOMED_CODES:
        coding = {"system": SNOMED, "code": SNOMED_CODES[letter], "display": _SNOMED_DISPLAYS[letter]}
    else:
        coding = {"system": LEVEL_SYSTEM, "code": letter, "display": TITLES[letter]}
    return {"coding": [coding], "text": TITLES[letter]}


def kind_of(text: str) -> str:
    """What somebody charted in place of a level, without quoting it.

    >>> kind_of("42"), kind_of("verwirrt"), kind_of("asleep, rousable"), kind_of(" ")
    ('a number', 'a word', 'several words', 'only blanks')
    """
    plain = text.strip()
    if not plain:
        return "only blanks"
    if plain[0] in "{[":
        return "a JSON structure"
    if plain.replace(".", "", 1).lstrip("+-").isdecimal():
        return "a number"
    return "several words" if len(plain.split()) > 1 else "a word"
