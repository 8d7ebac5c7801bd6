"""One word per thing in the documents, and nothing in the repository that belongs to one machine."""

import re
from pathlib import Path

import pytest

from tracked_files import ROOT, documents, tracked_files

_GLOSSARY = ROOT / "docs" / "glossary.md"
_WRITTEN_BY_HAND = [page for page in documents() if page != _GLOSSARY]
_NOT_THE_WORD = {
    r"\balarms?\b": "alert; alarm only where we say what pulseweir is not",
    r"\btelemetry\b": "device message (telemetry is the module of metrics)",
    r"\bprediction\b": "risk score",
    r"\bdeadletter|dead-letter queue\b": "quarantine",
    r"\bnormali[sz]ed reading": "measurement",
    r"\bcursor\b": "position",
    r"\bbucket\b": "window, shard",
    r"\bthreshold\b": "acceptable range",
}
_ALLOWED = {
    r"\balarms?\b": re.compile(r"\b(not|no|never|nor|neither)\b[^.|]*\balarm", re.IGNORECASE),
    r"\btelemetry\b": re.compile(r"telemetry\.py"),
}
_MACHINE = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/\w|[\w-]+\.(?:internal|lan|corp)\b|[\w-]+\.[\w-]+\.local\b")
_REGISTRY = re.compile(
    r"--(?:extra-)?index-url|--find-links|(?<!fhir-)\b(?:pypi|registry|mirror|proxy)[\w.-]*\.[a-z]{2,}/", re.IGNORECASE
)
_TEXT = {
    ".cfg",
    ".css",
    ".html",
    ".ini",
    ".java",
    ".js",
    ".json",
    ".md",
    ".mako",
    ".mjs",
    ".py",
    ".svg",
    ".toml",
    ".txt",
    ".xml",
    ".yaml",
    ".yml",
    "",
}


@pytest.mark.parametrize("page", _WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_uses_the_glossarys_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    wrong = [
        f"{sentence.strip()!r}: write {word}"
        for pattern, word in _NOT_THE_WORD.items()
        for sentence in re.split(r"(?<=[.!?])\s|\n\n|\n\||\n- ", text)
        if re.search(pattern, sentence, re.IGNORECASE)
        and not (pattern in _ALLOWED and _ALLOWED[pattern].search(sentence))
    ]

    assert not wrong


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked_files():
        if path.suffix not in _TEXT or path == Path(__file__).resolve():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in _MACHINE.finditer(text)]
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in _REGISTRY.finditer(text)]

    assert not found


def test_no_recording_lies_in_the_repository() -> None:
    largest = 1024 * 1024

    assert not [str(path.relative_to(ROOT)) for path in tracked_files() if path.stat().st_size > largest]
