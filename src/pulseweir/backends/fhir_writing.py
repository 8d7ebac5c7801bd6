"""Steps 5, 13, 18: many entries in the largest pieces that a FHIR server takes.

Where a server denies transactions, entries go in the order in which they refer to each other, and stop at the first
that fails; as each is a PUT on an id of ours, doing them all again completes them. How much a bundle may hold is
learned from refusals for its size. The Observation writer has a pace of its own (`ingest.bundle_sender`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from pulseweir.backends.fhir_answers import BundleAnswer, Json
from pulseweir.backends.fhir_foreign import Address, body_of, references_in, target_of

_NO_ACCESS = frozenset({401, 403})
_NO_BUNDLES = frozenset({404, 405, 410, 501})
_NO_TRANSACTION = frozenset({405, 501})


class Bundles(Protocol):
    """What sends entries."""

    async def send_bundle(self, entries: Sequence[Json], type: str = "batch") -> list[BundleAnswer]:  # noqa: A002
        """One request for many entries."""
        ...

    async def send_entry(self, entry: Json) -> BundleAnswer:
        """One request for one entry."""
        ...


class EntryWriter:
    """Writes to one server, and remembers what it took.

    Args:
        fhir: Sends.
        transactions: Whether the server takes them, as far as it says.
    """

    def __init__(self, fhir: Bundles, *, transactions: bool | None = None) -> None:
        self._fhir = fhir
        self._transactions = transactions is not False
        self._is_sure = transactions is True
        self._bundles = True
        self._most: int | None = None

    async def together(self, entries: Sequence[Json]) -> list[BundleAnswer]:
        """Write entries as one, what is referred to before what refers; one answer an entry.

        After a failure every entry that was not done has its answer.

        Raises:
            FhirUnavailable: No usable answer; an unknown part is done, write all of it again.
        """
        answers: list[BundleAnswer] = []
        while len(answers) < len(entries) and self._transactions:
            piece = entries[len(answers) :][: self._most]
            given = await self._fhir.send_bundle(piece, "transaction")
            if given[0].is_too_large and len(piece) > 1:
                self._most = len(piece) // 2
            elif self._is_no_transaction(given[0]):
                self._transactions = False
            else:
                answers += given
                failed = next((answer for answer in given if not answer.is_done), None)
                if failed is not None:
                    return _rest(answers, failed, len(entries))
        return answers + await self._in_waves(entries[len(answers) :])

    async def each(self, entries: Sequence[Json]) -> list[BundleAnswer]:
        """Write entries that do not depend on each other; one answer an entry.

        Raises:
            FhirUnavailable: No usable answer; an unknown part is done, write all of it again.
        """
        answers: list[BundleAnswer] = []
        while len(answers) < len(entries):
            piece = entries[len(answers) :][: self._most]
            answers += await self._batch(piece)
        return answers

    async def _batch(self, entries: Sequence[Json]) -> list[BundleAnswer]:
        """One bundle; halved while it is refused as a whole, until single requests tell what is wrong."""
        if not self._bundles:
            return [await self._fhir.send_entry(entry) for entry in entries]
        given = await self._fhir.send_bundle(entries)
        first = given[0]
        if not first.is_whole or first.is_done or first.status in _NO_ACCESS:
            return given
        if first.is_too_large and len(entries) > 1:
            self._most = max(1, len(entries) // 2)
        if len(entries) > 1 and first.status not in _NO_BUNDLES:
            middle = len(entries) // 2
            return await self._batch(entries[:middle]) + await self._batch(entries[middle:])
        alone = await self._fhir.send_entry(entries[0])
        if first.status in _NO_BUNDLES and alone.status not in _NO_BUNDLES:
            self._bundles = False
        return [alone, *(await self._batch(entries[1:]) if len(entries) > 1 else [])]

    async def _in_waves(self, entries: Sequence[Json]) -> list[BundleAnswer]:
        answers = [BundleAnswer(0)] * len(entries)
        left = set(range(len(entries)))
        for wave in waves(entries):
            given = await self.each([entries[place] for place in wave])
            for place, answer in zip(wave, given, strict=True):
                answers[place] = answer
            left -= set(wave)
            failed = next((answer for answer in given if not answer.is_done), None)
            if failed is not None:
                for place in left:
                    answers[place] = replace(failed, is_whole=True)
                break
        return answers

    def _is_no_transaction(self, answer: BundleAnswer) -> bool:
        """Whether a refusal is about transactions and not about these entries."""
        if not answer.is_whole or self._is_sure:
            return False
        issues = (answer.outcome or {}).get("issue") or ()
        return answer.status in _NO_TRANSACTION or any(issue.get("code") == "not-supported" for issue in issues)


def waves(entries: Sequence[Json]) -> list[list[int]]:
    """Places of the entries in the order to write them: each wave refers to earlier ones only. Pure.

    What refers to itself in a circle is the last wave.

    >>> def put(address, *others):
    ...     body = {"link": [{"reference": other} for other in others]}
    ...     return {"request": {"method": "PUT", "url": address}, "resource": body}
    >>> waves([put("Flag/f", "Patient/p"), put("Device/d"), put("Patient/p")])
    [[1, 2], [0]]
    """
    targets: dict[Address, int] = {
        target: place for place, entry in enumerate(entries) if (target := target_of(entry)) is not None
    }
    needs = [
        {targets[each] for each in references_in(body_of(entry)) if each in targets} - {place}
        for place, entry in enumerate(entries)
    ]
    ordered: list[list[int]] = []
    done: set[int] = set()
    while len(done) < len(entries):
        left = [place for place in range(len(entries)) if place not in done]
        wave = [place for place in left if needs[place] <= done] or left
        ordered.append(wave)
        done.update(wave)
    return ordered


def _rest(answers: list[BundleAnswer], failed: BundleAnswer, count: int) -> list[BundleAnswer]:
    return answers + [replace(failed, is_whole=True)] * (count - len(answers))
