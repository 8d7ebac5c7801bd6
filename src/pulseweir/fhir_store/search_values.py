"""Values of search parameters as conditions on the index tables: tokens, references, strings, URIs, dates.

Dates compare as ranges (R4 search, section 3.1.1.4.5): a month matches all of its days.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from pulseweir.fhir_store.dates import NO_DATE, date_range
from pulseweir.fhir_store.extraction import is_absolute, normalized, tells_type
from pulseweir.fhir_store.outcomes import Refusal
from pulseweir.fhir_store.parameters import RESOURCE_TYPES, Parameter
from pulseweir.fhir_store.search_amounts import PREFIXES, amount_condition, read_number
from pulseweir.fhir_store.search_pieces import NEVER, Piece, any_of, marks
from pulseweir.fhir_store.search_request import Criterion, split_escaped, unescape
from pulseweir.fhir_store.session import WriteSession
from pulseweir.fhir_store.storage import ReadSession

RELATIVE = ":relative"
"""Modifier of references, which no client can write: relative ones alone, whatever the own base URL is said to be."""
_LAST_TEXT = "\U0010ffff"
_NEAR_SHARE = 0.1
"""How far `ap` reaches: this share of the time between a date and now."""


@dataclass(frozen=True, slots=True)
class Values:
    """Reads values for one search.

    Attributes:
        session: Whose names and units are looked up: a name that nothing uses matches nothing.
        base_url: The server's own base URL.
        now: The present, microseconds.
    """

    session: ReadSession | WriteSession
    base_url: str = ""
    now: int = 0

    def token(self, parameter: Parameter, text: str) -> Piece:
        """Condition on (value, system) for ``code``, ``system|code``, ``system|`` or ``|code``."""
        parts = split_escaped(text, "|")
        if len(parts) == 1:
            return Piece("value = ?", (unescape(text),))
        if len(parts) > 2:
            raise Refusal(400, "invalid", f"{parameter.name} is system|code; write a bar inside as \\|.")
        name, code = unescape(parts[0]), unescape(parts[1])
        if not (name or code):
            raise _says_nothing(parameter)
        systems = [0] if name in parameter.code_systems else []
        number = self.session.terms.find(name)
        systems += [] if number is None else [number]
        if not systems:
            return NEVER
        among = f"system IN ({marks(systems)})" if len(systems) > 1 else "system = ?"
        if not code:
            return Piece(among, tuple(systems))
        return Piece(f"(value = ? AND {among})", (code, *systems))

    def _of_type(self, parameter: Parameter, text: str) -> Piece:
        """Condition on an identifier by its type: ``system|code|value``."""
        parts = [unescape(part) for part in split_escaped(text, "|")]
        if len(parts) != 3 or not all(parts):
            form = "system|code|value, the system and code being those of the identifier's type"
            raise Refusal(400, "invalid", f"{parameter.name}:of-type is {form}.")
        system = self.session.terms.find(parts[0])
        return NEVER if system is None else Piece("(value = ? AND system = ?)", ("|".join(parts[1:]), system))

    def token_sets(self, parameter: Parameter, text: str, *, by_text: bool = False) -> list[int]:
        """The sets of codings that have a token; as plain numbers they let the chart index give the order."""
        if by_text:
            piece, table = _prefix("text", _plain(parameter, text)), "token_text"
        else:
            piece, table = self.token(parameter, text), "token_set"
        statement = f"SELECT DISTINCT token_set FROM {table} WHERE {piece.text}"  # noqa: S608
        return [int(row[0]) for row in self.session.connection.execute(statement, piece.values)]

    def text(self, criterion: Criterion, text: str) -> Piece:
        """Condition on a row of the text index, for a token, reference, string or URI."""
        parameter, modifier = criterion.parameter, criterion.modifier
        if parameter.kind == "token":
            if modifier == "text":
                return self._under(f"{parameter.key}:text", _prefix("value", _plain(parameter, text)))
            if modifier == "of-type":
                return self._under(f"{parameter.key}:of-type", self._of_type(parameter, text))
            return self._under(parameter.key, self.token(parameter, text))
        if parameter.kind == "reference":
            if modifier == "identifier":
                return self._under(f"{parameter.key}:identifier", self.token(Parameter("", "token"), text))
            forms = self.references(criterion, text)
            return self._under(parameter.key, Piece(f"value IN ({marks(forms)})", tuple(forms)))
        if parameter.kind == "string":
            return self._string(parameter, modifier, text)
        return self._under(parameter.key, self._uri(parameter, modifier, unescape(text)))

    def references(self, criterion: Criterion, text: str) -> list[str]:
        """Every stored form a reference value may have.

        Raises:
            Refusal: 400 when it must lead to a type and does not tell any.
        """
        parameter = criterion.parameter
        value = unescape(text).partition("/_history/")[0]
        if criterion.modifier == RELATIVE:
            return [value]
        target = parameter.target or criterion.modifier or None
        if self.base_url and value.startswith(f"{self.base_url}/"):
            value = value.removeprefix(f"{self.base_url}/")
        if is_absolute(value) and not tells_type(value):
            if target:
                text = f"{parameter.name} is for references to a {target}, and this one tells no type."
                raise Refusal(400, "not-supported", f"{text} Ask by a parameter that leads to any type.")
            return [value]
        if "/" not in value:
            # References may point to types that only other servers hold.
            possible = (target,) if target else parameter.targets
            bases = ["", f"{self.base_url}/"] if self.base_url else [""]
            named = [f"{base}{each}/{value}" for base in bases for each in possible or RESOURCE_TYPES]
            return named if target else [*named, value]
        if (target and value.split("/")[-2] != target) or criterion.modifier not in {"", target}:
            return []
        if ":" in value or not self.base_url:
            return [value]
        return [value, f"{self.base_url}/{value}"]

    def bases(self, parameter: Parameter) -> list[str]:
        """What stands before `Type/id` in references to resources here: nothing, or the own base URL too if in use."""
        if not self.base_url:
            return [""]
        base, beyond = f"{self.base_url}/", f"{self.base_url}0"  # "0" is the letter after "/"
        look, number = self.session.connection.execute, self.session.terms.find(parameter.key)
        is_used = look("SELECT 1 FROM term WHERE text >= ? AND text < ? LIMIT 1", (base, beyond)).get or (
            look(
                "SELECT 1 FROM text_index WHERE parameter = ? AND value >= ? AND value < ? LIMIT 1",
                (number, base, beyond),
            ).get
        )
        return ["", base] if is_used else [""]

    def dated(self, text: str, low: str, high: str) -> Piece:
        """Condition on the ends of a range of time."""
        prefix, first, beyond = read_date(text, self.session.zone)
        if prefix == "ap" and self.now:
            near = int(_NEAR_SHARE * abs(self.now - first))
            first, beyond = first - near, beyond + near
        within, ends = f"({low} >= ? AND {high} <= ?)", (first, beyond)
        return {
            "eq": Piece(within, ends),
            "ne": Piece(f"NOT {within}", ends),
            "gt": Piece(f"{high} > ?", (beyond,)),
            "lt": Piece(f"{low} < ?", (first,)),
            "ge": Piece(f"{high} > ?", (first,)),
            "le": Piece(f"{low} < ?", (beyond,)),
            "sa": Piece(f"{low} >= ?", (beyond,)),
            "eb": Piece(f"{high} <= ?", (first,)),
            "ap": Piece(f"({low} < ? AND {high} > ?)", (beyond, first)),
        }[prefix]

    def amount(self, text: str, columns: tuple[str, str, str]) -> Piece:
        """Condition on a quantity in columns (low, high, unit)."""
        condition, values = amount_condition(text, self.session.connection, columns)
        return Piece(condition, tuple(values))

    def ranged(self, parameter: Parameter, text: str) -> Piece:
        """Condition on a row of the range index or the amount index."""
        if parameter.kind == "date":
            return self._under(parameter.key, self.dated(text, "low", "high"))
        if parameter.kind == "number":
            condition, values = read_number(unescape(text)).condition("low", "high")
            return self._under(parameter.key, Piece(condition, tuple(values)))
        return self._under(parameter.key, self.amount(text, ("low", "high", "unit")))

    def _under(self, key: str, piece: Piece) -> Piece:
        number = self.session.terms.find(key)
        if number is None or piece == NEVER:
            return NEVER
        return Piece(f"parameter = ? AND {piece.text}", (number, *piece.values))

    def _string(self, parameter: Parameter, modifier: str, text: str) -> Piece:
        if modifier == "exact":
            return self._under(f"{parameter.key}:exact", Piece("value = ?", (unescape(text),)))
        plain = _plain(parameter, text)
        if modifier == "contains":
            return self._under(parameter.key, Piece("instr(value, ?) > 0", (plain,)))
        return self._under(parameter.key, _prefix("value", plain))

    def _uri(self, parameter: Parameter, modifier: str, text: str) -> Piece:
        if modifier == "below":
            below = text if text.endswith("/") else f"{text}/"
            return any_of([Piece("value = ?", (text,)), _prefix("value", below)])
        if modifier == "above":
            forms = _above(text)
            return Piece(f"value IN ({marks(forms)})", tuple(forms))
        if "|" not in text and any(path.type == "canonical" for path in parameter.paths):
            # A canonical without a version stands for all of its versions; "}" is the letter after "|".
            return Piece("(value = ? OR (value >= ? AND value < ?))", (text, f"{text}|", f"{text}}}"))
        return Piece("value = ?", (text,))


def read_date(text: str, zone: str = "UTC") -> tuple[str, int, int]:
    """(prefix, first microsecond, first one after it) of a date value.

    Raises:
        Refusal: 400 when the rest is no date.
    """
    prefix, rest = (text[:2], text[2:]) if text[:2] in PREFIXES else ("eq", text)
    try:
        low, high = date_range(rest.replace(" ", "+"), zone)
    except (ValueError, OverflowError):
        raise Refusal(400, "invalid", "A date in the search is not one, such as date=ge2024-02-29.") from None
    return prefix, max(low, NO_DATE + 1), high


def check_value(parameter: Parameter, text: str) -> None:
    """Nothing, if a value can be read, even when nothing is indexed that it could match.

    Raises:
        Refusal: 400 when it cannot.
    """
    if parameter.kind == "date":
        read_date(text)
    elif parameter.kind == "number":
        read_number(unescape(text))


def _plain(parameter: Parameter, text: str) -> str:
    """A text as string searches compare it; one of which nothing is left would match everything."""
    plain = normalized(unescape(text))
    if not plain:
        raise _says_nothing(parameter)
    return plain


def _says_nothing(parameter: Parameter) -> Refusal:
    return Refusal(400, "invalid", f"A value of {parameter.name or 'the identifier'} says nothing; write more of it.")


def _prefix(column: str, text: str) -> Piece:
    return Piece(f"({column} >= ? AND {column} < ?)", (text, text + _LAST_TEXT))


def _above(text: str) -> list[str]:
    """The URI and those it is below of.

    >>> _above("http://a.org/x/y")
    ['http://a.org/x/y', 'http://a.org/x/', 'http://a.org/x', 'http://a.org/', 'http://a.org']
    """
    found, least = [text], len(text) - len(urlsplit(text).path) if "://" in text else len(text)
    while (cut := text.rfind("/")) >= max(least, 1):
        text = text[:cut]
        found += [each for each in (f"{text}/", text) if each not in found]
    return found
