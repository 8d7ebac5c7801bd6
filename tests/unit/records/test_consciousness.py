"""Consciousness by letter, word and code: one list for ingest, scoring and screens."""

import json
from pathlib import Path

import pytest

from pulseweir.records.consciousness import LETTERS, SNOMED_CODES, TITLES, WORDS, letter_of

DEVICES = Path(__file__).parents[3] / "devices"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"), ("alert", "A"), ("Alert and orientated", "A"), ("248234008", "A"),
        ("c", "C"), (" C", "C"), ("Confused", "C"), ("New confusion", "C"), ("NEW-ONSET CONFUSION", "C"),
        ("Acute\u00a0confusion", "C"), ("130987000", "C"), ("http://snomed.info/sct|130987000", "C"),
        ("new_confusion", "C"), ("delirium", "C"),
        ("voice", "V"), ("responds to voice", "V"), ("V", "V"), ("300202002", "V"), ("Responds to Verbal.", "V"),
        ("pain", "P"), ("responds to  pain", "P"), ("unresponsive", "U"), ("U", "U"), ("\uff35", "U"),
        ("cvpu", "CVPU"), ("Not alert, level not recorded", "CVPU"),
        ("C - new confusion", "C"), ("P (pain)", "P"),
        ("Mentally alert (finding)", "A"), ("Acute confusion (disorder)", "C"), ("Responds to voice (finding)", "V"),
        ("130987000 |Acute confusion (disorder)|", "C"), ("422768004|Unresponsive (finding)|", "U"),
    ],
)  # fmt: skip
def test_a_text_is_understood_whatever_its_case_blanks_and_punctuation(text: str, letter: str) -> None:
    assert letter_of(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "X",
        "not confused",
        "A: confused",
        "alert?confused",
        "AC",
        "130987001",
        "None",
        "15",
        "A C",
        "not confused (finding)",
        "248234008 |Acute confusion|",
        "(finding)",
    ],
)
def test_what_is_not_on_the_list_is_not_understood_rather_than_guessed(text: str | None) -> None:
    assert letter_of(text) is None


def test_every_letter_word_title_and_code_means_one_letter() -> None:
    for letter in LETTERS:
        assert letter_of(letter) == letter_of(letter.lower()) == letter_of(TITLES[letter]) == letter
        assert {letter_of(word) for word in WORDS[letter]} == {letter}
    assert {letter_of(code): code for code in SNOMED_CODES.values()} == SNOMED_CODES


@pytest.mark.parametrize("kind", ["nurse-entry", "bedside-monitor"])
def test_what_the_catalog_writes_to_fhir_is_understood_as_the_letter_it_was_written_for(kind: str) -> None:
    mapping = json.loads((DEVICES / kind / "fhir_mapping.json").read_text())
    values = [
        one["template"]["value"] for one in mapping["template"] if one["template"]["typeName"].startswith("conscious")
    ]
    by_list = [value for value in values if {"not-understood"} == {code["code"] for code in value["codes"]}]
    values = [value for value in values if value not in by_list]
    found = {letter_of(value["text"]) for value in values}
    codes = {
        code["code"]: letter_of(value["text"])
        for value in values
        for code in value["codes"]
        if code["system"].endswith("sct")
    }

    assert len(by_list) == 1
    assert found == set(LETTERS)
    assert codes == {code: letter for letter, code in SNOMED_CODES.items()}
