"""Consciousness by letter, word and SNOMED CT code: the one list that ingest, scoring and screens use. Pure.

Source: Royal College of Physicians, NEWS2, 2017 (ACVPU; new confusion includes disorientation and delirium).
"""

import re
import unicodedata

LETTERS = ("A", "C", "V", "P", "U", "CVPU")
"""Alert, new confusion, voice, pain, unresponsive; CVPU is "not alert, level unknown"."""

SNOMED_CODES = {
    "A": "248234008",
    "C": "130987000",
    "V": "300202002",
    "P": "450847001",
    "U": "422768004",
}
"""The SNOMED CT concept of each letter, as the device catalog writes it to FHIR; CVPU has none."""

TITLES = {
    "A": "Alert",
    "C": "New confusion",
    "V": "Responds to voice",
    "P": "Responds to pain",
    "U": "Unresponsive",
    "CVPU": "Not alert, level not recorded",
}
"""What the device catalog writes as text."""

_RESPONDS = ("responds to", "responding to", "responsive to", "response to", "responds only to", "reacts to")

WORDS: dict[str, tuple[str, ...]] = {
    "A": ("alert", "mentally alert", "fully alert", "awake and alert", "alert and orientated", "alert and oriented",
          "alert orientated", "alert oriented"),
    "C": ("confused", "confusion", "new confusion", "newly confused", "new onset confusion", "new onset of confusion",
          "new or worsening confusion", "acute confusion", "acutely confused", "alert but confused",
          "alert and confused", "confused new", "disorientated", "disoriented", "disorientation", "delirium",
          "new delirium", "acute delirium", "delirious"),
    "V": ("voice", "verbal", "voice only", *(f"{one} {to}" for one in _RESPONDS for to in ("voice", "verbal"))),
    "P": ("pain", "pain only", *(f"{one} {to}" for one in _RESPONDS for to in ("pain", "painful stimuli"))),
    "U": ("unresponsive", "unconscious", "no response", "not responsive", "not responding"),
    "CVPU": ("not alert", "not alert level not recorded", "not alert level unknown"),
}  # fmt: skip
"""Words that mean each letter: lower case, single blanks, without punctuation."""

_SYSTEM = "http snomed info sct "
_TAG = re.compile(r"\s*\((?:finding|disorder|observable entity|qualifier value)\)(?=[\s|]*$)", re.IGNORECASE)
"""What SNOMED CT puts behind a fully specified name."""
_SEPARATORS = re.compile(r"[\W_]+")
_BY_WORD = {
    **{letter.casefold(): letter for letter in LETTERS},
    **{code: letter for letter, code in SNOMED_CODES.items()},
    **{word: letter for letter, words in WORDS.items() for word in words},
}


def letter_of(text: str | None) -> str | None:
    """The letter that a charted text means; None when it is not understood.

    Case, blanks, punctuation and the kind of thing that SNOMED CT names behind its terms do not matter. A letter, or
    a code, followed by its word is taken; one that its word contradicts
    is not understood, and neither is any other text: nothing is guessed from parts of it.

    >>> [letter_of(text) for text in (" c", "New  Confusion", "130987000", "V - responds to voice", "A: confused")]
    ['C', 'C', 'C', 'V', None]
    >>> letter_of("not confused") is None
    True
    """
    if text is None:
        return None
    plain = _SEPARATORS.sub(" ", _TAG.sub("", unicodedata.normalize("NFKC", text)).casefold()).strip()
    plain = plain.removeprefix(_SYSTEM)
    known = _BY_WORD.get(plain)
    if known is not None:
        return known
    first, _, rest = plain.partition(" ")
    meant = _BY_WORD.get(rest)
    return meant if meant is not None and meant == _BY_WORD.get(first) else None
