"""Step 4: one compiled expression, whatever its language. Pure.

This is the interpreter: closures that hold for every message, and the measure of the quicker tiers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pulseweir.ingest.device_mapping.budget import Budget
from pulseweir.ingest.device_mapping.jmes import compile_query
from pulseweir.ingest.device_mapping.jsonpath import compile_path
from pulseweir.ingest.device_mapping.tokens import ExpressionFault

Language = Literal["JsonPath", "JmesPath"]
LANGUAGES: dict[str, Language] = {"jsonpath": "JsonPath", "jmespath": "JmesPath"}
LENGTH_LIMIT_CHARACTERS = 4_096
NESTING_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression, compiled.

    Attributes:
        text: As written in the mapping.
        language: The language it is written in.
        find_all: What `matches` does, within a budget that other expressions share.
        find_one: What `single` does, likewise.
    """

    text: str
    language: Language
    find_all: Callable[[object, Budget], list[object]]
    find_one: Callable[[object, Budget], object]

    def matches(self, document: object) -> list[object]:
        """The ordered tokens a document holds for it, as a type match counts them.

        Raises:
            ExpressionFault: It cannot be evaluated on this document.
        """
        return self.find_all(document, Budget())

    def single(self, document: object) -> object:
        """The one token it selects, None for none or null.

        Raises:
            ExpressionFault: It selects several, or cannot be evaluated on this document.
        """
        return self.find_one(document, Budget())


def compile_expression(text: str, language: Language) -> Expression:
    """Compile one expression.

    Raises:
        ExpressionFault: It is too long, nests too deep, or is not valid in its language.
    """
    if len(text) > LENGTH_LIMIT_CHARACTERS:
        raise ExpressionFault(f"An expression may have {LENGTH_LIMIT_CHARACTERS} characters at most.")
    if sum(text.count(opening) for opening in "([{") > NESTING_LIMIT:
        raise ExpressionFault(f"An expression may open {NESTING_LIMIT} brackets at most.")
    return _jsonpath(text) if language == "JsonPath" else _jmespath(text)


def _jsonpath(text: str) -> Expression:
    select = compile_path(text)

    def single(document: object, budget: Budget) -> object:
        found = select(document, budget)
        if len(found) > 1:
            raise ExpressionFault("Multiple tokens were returned where one is expected.", "multiple-tokens")
        return found[0] if found else None

    return Expression(text, "JsonPath", select, single)


def _jmespath(text: str) -> Expression:
    evaluate, is_projection = compile_query(text)

    def matches(document: object, budget: Budget) -> list[object]:
        result = evaluate(document, budget)
        if result is None:
            return []
        if is_projection and isinstance(result, list):
            return [element for element in result if element is not None]
        return [result]

    def single(document: object, budget: Budget) -> object:
        result = evaluate(document, budget)
        if is_projection and isinstance(result, list):
            if len(result) > 1:
                raise ExpressionFault("Multiple tokens were returned where one is expected.", "multiple-tokens")
            return result or None
        return result

    return Expression(text, "JmesPath", matches, single)
