"""Whether a JSON value is a legal value of a primitive FHIR type. Pure.

The forms are those of the definitions, plus what a regular expression cannot say: days that a calendar has, sizes,
characters no text may hold. Source: http://hl7.org/fhir/R4/datatypes.html#primitive.
"""

import re
from calendar import monthrange
from collections.abc import Callable
from functools import cache
from typing import Any

from pulseweir.fhir_store.definitions.tables import codes_of, primitive_forms
from pulseweir.fhir_store.narrative import narrative_fault

Fault = tuple[tuple[str | int, ...], str, str]
"""(steps to the element, issue code, what is wrong with it as the end of a sentence)."""
Checker = Callable[[Any], list[Fault] | None]
"""Gives the faults of a value; None when it has none."""

_LONGEST_TEXT = 1_048_576
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_WORD = re.compile(r"[^\s\x00-\x1f]+", re.ASCII)
_CODE = re.compile(r"[^\s]+(\s[^\s]+)*", re.ASCII)
_CODE_FORMS = {
    "language": re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*"),
    "mime": re.compile(r"[\w.+\-*]+(/[\w.+\-*]+(\s*;[^\x00-\x1f]*)?)?"),
    "currency": re.compile(r"[A-Z]{3}"),
    "word": re.compile(r"\S+"),
    "any": re.compile(r"\S+(\s\S+)*"),
}
_WRONG_FORM: list[Fault] = [((), "value", "does not have the form of its data type")]
_WRONG_TYPE: list[Fault] = [((), "structure", "has the wrong JSON type")]
_WRONG_CODE: list[Fault] = [((), "code-invalid", "is not a code of its required value set")]
_NO_DATE: list[Fault] = [((), "value", "is no date of the calendar")]


@cache
def primitive_checker(type_name: str) -> Checker:
    """The checker of a primitive type."""
    if type_name in _CHECKERS:
        return _CHECKERS[type_name]
    form = re.compile(primitive_forms()[type_name], re.ASCII)
    return _dated(form) if type_name in {"date", "dateTime", "instant"} else _formed(form)


@cache
def code_checker(value_set: str) -> Checker:
    """The checker of a code whose value set is the only one."""
    known = codes_of(value_set)
    if isinstance(known, str):
        form = _CODE_FORMS[known].fullmatch

        def check_form(value: Any) -> list[Fault] | None:
            if type(value) is not str:
                return _WRONG_TYPE
            return None if form(value) else _WRONG_CODE

        return check_form
    codes = frozenset(code for system in known.values() for code in system)

    def check(value: Any) -> list[Fault] | None:
        if type(value) is not str:
            return _WRONG_TYPE
        return None if value in codes else _WRONG_CODE

    return check


def _formed(pattern: re.Pattern[str]) -> Checker:
    form = pattern.fullmatch

    def check(value: Any) -> list[Fault] | None:
        if type(value) is not str:
            return _WRONG_TYPE
        return None if value and form(value) else _WRONG_FORM

    return check


def _dated(pattern: re.Pattern[str]) -> Checker:
    form = pattern.fullmatch

    def check(value: Any) -> list[Fault] | None:
        if type(value) is not str:
            return _WRONG_TYPE
        if not form(value):
            return _WRONG_FORM
        if value[8:10] > "28" and int(value[8:10]) > monthrange(int(value[:4]), int(value[5:7]))[1]:
            return _NO_DATE
        return None

    return check


def _check_text(value: Any) -> list[Fault] | None:
    if type(value) is not str:
        return _WRONG_TYPE
    if not value or len(value) > _LONGEST_TEXT or not (value.isprintable() or not _CONTROL.search(value)):
        return _WRONG_FORM
    return None


def _check_word(value: Any) -> list[Fault] | None:
    """A URI of any kind: at least one character, no white space."""
    if type(value) is not str:
        return _WRONG_TYPE
    if value and " " not in value and value.isprintable():
        return None
    return None if _WORD.fullmatch(value) else _WRONG_FORM


def _check_code(value: Any) -> list[Fault] | None:
    if type(value) is not str:
        return _WRONG_TYPE
    if value and " " not in value and value.isprintable():
        return None
    return None if _CODE.fullmatch(value) else _WRONG_FORM


def _check_boolean(value: Any) -> list[Fault] | None:
    return None if value is True or value is False else _WRONG_TYPE


def _check_decimal(value: Any) -> list[Fault] | None:
    return None if type(value) is float or type(value) is int else _WRONG_TYPE


def _whole(lowest: int) -> Checker:
    def check(value: Any) -> list[Fault] | None:
        if type(value) is not int:
            return _WRONG_TYPE
        return None if lowest <= value < 2**31 else _WRONG_FORM

    return check


def _check_base64(value: Any) -> list[Fault] | None:
    if type(value) is not str:
        return _WRONG_TYPE
    text = "".join(value.split())
    return None if text and len(text) % 4 == 0 and _BASE64.fullmatch(text) else _WRONG_FORM


def _check_narrative(value: Any) -> list[Fault] | None:
    """Basic formatting only, nothing that a browser would run (txt-1), and not empty (txt-2)."""
    if type(value) is not str:
        return _WRONG_TYPE
    fault = narrative_fault(value)
    return [((), "invariant", fault)] if fault else None


_CHECKERS: dict[str, Checker] = {
    "boolean": _check_boolean,
    "decimal": _check_decimal,
    "integer": _whole(-(2**31)),
    "unsignedInt": _whole(0),
    "positiveInt": _whole(1),
    "code": _check_code,
    "string": _check_text,
    "markdown": _check_text,
    "uri": _check_word,
    "url": _check_word,
    "canonical": _check_word,
    "base64Binary": _check_base64,
    "xhtml": _check_narrative,
}
