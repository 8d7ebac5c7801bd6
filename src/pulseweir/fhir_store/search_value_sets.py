"""Value sets that a search names (`:in`, `:not-in`), as the tokens in them. Pure.

Held are the value sets of R4's required bindings; there is no terminology service behind the others.
Source: http://hl7.org/fhir/R4/search.html#modifiers.
"""

import re

from pulseweir.fhir_store.definitions.tables import codes_of
from pulseweir.fhir_store.outcomes import Refusal

_R4_SETS = "http://hl7.org/fhir/ValueSet/"
_R4_VERSIONS = frozenset({"", "4.0", "4.0.1"})


def tokens_in(url: str) -> list[str]:
    r"""The codes of a value set as values of a token search, escapes inside.

    Raises:
        Refusal: 400 when it is not held here, or no list of codes.

    >>> tokens_in("http://hl7.org/fhir/ValueSet/administrative-gender")[:1]
    ['http://hl7.org/fhir/administrative-gender|female']
    """
    name, _, version = url.partition("|")
    try:
        codes = codes_of(name.removeprefix(_R4_SETS)) if version in _R4_VERSIONS else ""
    except KeyError:
        codes = ""
    if isinstance(codes, str):
        text = "The value set is not held here; name the codes themselves, such as code=system|a,system|b."
        raise Refusal(400, "not-supported", text)
    return [f"{_escaped(system)}|{_escaped(code)}" for system, each in codes.items() for code in each]


def _escaped(text: str) -> str:
    return re.sub(r"([,|$\\])", r"\\\1", text)
