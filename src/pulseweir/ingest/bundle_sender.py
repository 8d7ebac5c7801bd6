"""Step 5c: entries to a FHIR server in batch bundles, each with an answer of its own, at the pace the server bears.

What is not known to be done is sent again: after 429 and 5xx, a timeout, an answer that is cut off or is no Bundle.
Entries are PUTs on deterministic ids, so a repeated one changes nothing. A bundle that fails or is refused as a
whole is halved until the entry at fault stands alone; a server that takes no bundles gets single requests. Waiting
is bounded: when nothing gets on for a while, the delivery loop takes over with `RetryLater`.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pulseweir.errors import FhirUnavailable, RetryLater
from pulseweir.ingest.bundle_pacing import Pace, back_off_seconds
from pulseweir.ingest.settings import ObservationSettings
from pulseweir.telemetry import FHIR_BUNDLE_ENTRIES, FHIR_BUNDLE_LIMIT, FHIR_BUNDLE_RETRIES, FHIR_BUNDLES_AT_ONCE

if TYPE_CHECKING:
    from pulseweir.backends.fhir_answers import BundleAnswer
    from pulseweir.backends.fhir_client import FhirClient

Entry = dict[str, Any]
_PATIENCE_SECONDS = 5.0
_FAILURES_IN_A_ROW = 5
_TRIES = 3
_ENTRY_BYTES = 120
_NO_ACCESS = frozenset({401, 403})
_NO_BUNDLES = frozenset({404, 405, 410, 501})
_THROTTLED = frozenset({429, 503})


@dataclass(slots=True)
class Waits:
    """Time and chance, replaced in tests.

    Attributes:
        now: Seconds that only grow.
        sleep: Waits for seconds.
        draw: Random, from 0 to 1, for jitter.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random


@dataclass(slots=True)
class _Run:
    """Entries that travel together: their places, tries so far, and what was answered before they first failed."""

    places: Sequence[int]
    tries: int = 0
    answered_before: int | None = None


@dataclass(slots=True)
class _Job:
    """One call of `send`."""

    entries: Sequence[Entry]
    answers: "list[BundleAnswer | None]"
    waiting: deque[_Run]
    lengths: list[int]
    answered: int = 0
    failures_in_a_row: int = 0
    paused_seconds: float = 0.0

    def take(self, most_entries: int, most_bytes: int) -> _Run:
        """The next entries for one bundle; the rest of their run stays in front."""
        run = self.waiting.popleft()
        count = size = 0
        for place in run.places[:most_entries]:
            size += self.lengths[place]
            if count and size > most_bytes:
                break
            count += 1
        if count < len(run.places):
            self.waiting.appendleft(_Run(run.places[count:], run.tries, run.answered_before))
        return _Run(run.places[:count], run.tries, run.answered_before)

    def again(self, places: Sequence[int], run: _Run, *, halved: bool = False, beside: int = 0) -> None:
        """Queue places of a run behind everything else; `beside` neighbours in its bundle were answered just now."""
        before = self.answered - beside if run.answered_before is None else run.answered_before
        middle = len(places) // 2 if halved else 0
        for part in (places[:middle], places[middle:]):
            if part:
                self.waiting.append(_Run(part, 0 if middle else run.tries + 1, before))

    def is_alone_at_fault(self, run: _Run) -> bool:
        """Whether these entries kept failing while others were answered."""
        return run.tries + 1 >= _TRIES and self.answered > (run.answered_before or 0)


class BundleSender:
    """Sends entries to one FHIR server.

    Args:
        fhir: The server.
        settings: Upper bounds of size and concurrency, and what counts as slow.
        waits: Time and chance.
    """

    def __init__(self, fhir: "FhirClient", settings: ObservationSettings, waits: Waits | None = None) -> None:
        self._fhir = fhir
        self._settings = settings
        self._waits = waits or Waits()
        self._pace = Pace.at_most(settings.bundle_size, settings.concurrency)
        FHIR_BUNDLE_LIMIT.set(self._pace.entries)
        FHIR_BUNDLES_AT_ONCE.set(self._pace.lanes)
        self._resume_at = float("-inf")
        self._failures = 0
        self._bundles_work: bool | None = None

    @property
    def pace(self) -> Pace:
        """What the server bears now."""
        return self._pace

    async def send(self, entries: Sequence[Entry]) -> "list[BundleAnswer]":
        """One answer an entry, in order.

        Only an entry that kept failing while its neighbours were answered has one that asks to come again.

        Raises:
            RetryLater: The server gives no answer, asks to wait longer than a moment, or does not let this house
                in; an unknown part is done, so send all of it again later.
        """
        if not entries:
            return []
        run = _Run(range(len(entries)))
        job = _Job(entries, [None] * len(entries), deque([run]), [_length(entry) for entry in entries])
        await self._work_through(job)
        return [answer for answer in job.answers if answer is not None]

    async def _work_through(self, job: _Job) -> None:
        under_way: set[asyncio.Task[None]] = set()
        try:
            while job.waiting or under_way:
                while job.waiting and len(under_way) < self._pace.lanes:
                    size = 1 if self._bundles_work is False else self._pace.entries
                    run = job.take(size, self._settings.bundle_bytes)
                    if not job.waiting and not under_way:
                        await self._try(job, run)
                    else:
                        under_way.add(asyncio.create_task(self._try(job, run)))
                if under_way:
                    done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    _raise_first(done)
        except RetryLater:
            # What is on the wire must be over before the same rows are sent again.
            await asyncio.gather(*under_way, return_exceptions=True)
            raise
        except BaseException:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            raise

    async def _try(self, job: _Job, run: _Run) -> None:
        await self._wait_for_turn()
        turn = self._pace.turn
        started = self._waits.now()
        try:
            answers = await self._ask([job.entries[place] for place in run.places])
        except FhirUnavailable as error:
            self._failed(job, run, error, turn)
            return
        first = answers[0]
        if first.is_whole and not first.is_done:
            await self._refused(job, run, first)
            return
        if self._bundles_work is None:
            self._bundles_work = True
        if self._waits.now() - started > self._settings.slow_answer_seconds:
            self._set_pace(self._pace.strained(turn))
        else:
            self._set_pace(self._pace.succeeded(len(run.places)))
        self._accept(job, run, answers, turn)

    async def _ask(self, entries: list[Entry]) -> "list[BundleAnswer]":
        if self._bundles_work is False:
            return [await self._ask_one(entry) for entry in entries]
        FHIR_BUNDLE_ENTRIES.inc(len(entries))
        return await self._fhir.send_bundle(entries)

    async def _ask_one(self, entry: Entry) -> "BundleAnswer":
        """The answer to one entry sent as a request of its own.

        Raises:
            RetryLater: The address is no FHIR service that stores under ids of ours.
        """
        answer = await self._fhir.send_entry(entry)
        if answer.status in _NO_BUNDLES and entry["request"]["method"] != "GET":
            raise RetryLater(
                f"The FHIR service answered {answer.status} to a bundle and to a PUT. Nothing is lost; check that"
                " fhir.base_url is its base URL, and that it lets clients choose ids (update as create)."
            )
        return answer

    # What came back

    def _accept(self, job: _Job, run: _Run, answers: "Sequence[BundleAnswer]", turn: int) -> None:
        """Keep what is settled; queue what the server was too busy for."""
        again: list[tuple[int, BundleAnswer]] = []
        settled = 0
        for place, answer in zip(run.places, answers, strict=True):
            if answer.status in _NO_ACCESS:
                raise _no_access(answer.status)
            if answer.is_worth_retrying:
                again.append((place, answer))
            else:
                job.answers[place] = answer
                settled += 1
        if settled:
            job.answered += settled
            job.failures_in_a_row = 0
            job.paused_seconds = 0.0
            self._failures = 0
        if again:
            self._come_again(job, run, again, turn)

    def _come_again(self, job: _Job, run: _Run, again: "list[tuple[int, BundleAnswer]]", turn: int) -> None:
        beside = len(run.places) - len(again)
        throttled = [place for place, answer in again if answer.status in _THROTTLED]
        failing = [(place, answer) for place, answer in again if answer.status not in _THROTTLED]
        if failing and job.is_alone_at_fault(run):
            for place, answer in failing:
                job.answers[place] = answer
            failing = []
        if not throttled and not failing:
            return
        asked = max((answer.retry_after_seconds or 0.0 for _, answer in again), default=0.0)
        worst = again[0][1].status
        error = FhirUnavailable(f"answered entries with {worst}", status=worst, retry_after_seconds=asked or None)
        if throttled:
            self._set_pace(self._pace.throttled(turn))
        job.again([*throttled, *(place for place, _ in failing)], run, beside=beside)
        self._pause(job, error, "throttled" if throttled else "failing")

    def _failed(self, job: _Job, run: _Run, error: FhirUnavailable, turn: int) -> None:
        """Nothing is known about any entry of the bundle."""
        is_throttled = error.status in _THROTTLED
        self._set_pace(self._pace.throttled(turn) if is_throttled else self._pace.strained(turn))
        if not is_throttled and len(run.places) == 1 and job.is_alone_at_fault(run):
            job.answers[run.places[0]] = _failing(error.status)
            return
        job.again(run.places, run, halved=not is_throttled)
        reason = "throttled" if is_throttled else "unanswered" if error.status is None else "failing"
        self._pause(job, error, reason)

    async def _refused(self, job: _Job, run: _Run, answer: "BundleAnswer") -> None:
        """The bundle was refused as a whole: for its size, for one entry, or because it is a bundle."""
        if answer.status in _NO_ACCESS:
            raise _no_access(answer.status)
        if answer.is_too_large:
            self._set_pace(self._pace.too_large(len(run.places)))
        if len(run.places) > 1 and answer.status not in _NO_BUNDLES:
            FHIR_BUNDLE_RETRIES.labels("refused").inc()
            job.again(run.places, run, halved=True)
            return
        try:
            alone = await self._ask_one(job.entries[run.places[0]])
        except FhirUnavailable as error:
            self._failed(job, run, error, self._pace.turn)
            return
        if self._bundles_work is None and (alone.is_done or answer.status in _NO_BUNDLES):
            self._bundles_work = False
        self._accept(job, _Run(run.places[:1], run.tries, run.answered_before), [alone], self._pace.turn)
        if len(run.places) > 1:
            job.again(run.places[1:], run)

    # Waiting

    def _pause(self, job: _Job, error: FhirUnavailable, reason: str) -> None:
        """Let the next request wait; give up when nothing has got on for a while.

        Raises:
            RetryLater: The delivery loop has to wait instead.
        """
        FHIR_BUNDLE_RETRIES.labels(reason).inc()
        now = self._waits.now()
        self._failures += 1
        pause = back_off_seconds(self._failures, error.retry_after_seconds, self._waits.draw())
        self._resume_at = max(self._resume_at, now + pause)
        job.failures_in_a_row += 1
        job.paused_seconds += pause
        if job.failures_in_a_row >= _FAILURES_IN_A_ROW or job.paused_seconds > _PATIENCE_SECONDS:
            error.retry_after_seconds = self._resume_at - now
            raise error

    async def _wait_for_turn(self) -> None:
        """Wait as long as the server asked.

        Raises:
            RetryLater: That is longer than a moment; the delivery loop waits instead.
        """
        remaining = self._resume_at - self._waits.now()
        if remaining > _PATIENCE_SECONDS:
            raise FhirUnavailable("asked to wait", retry_after_seconds=remaining)
        if remaining > 0:
            await self._waits.sleep(remaining)

    def _set_pace(self, pace: Pace) -> None:
        if pace != self._pace:
            self._pace = pace
            FHIR_BUNDLE_LIMIT.set(pace.entries)
            FHIR_BUNDLES_AT_ONCE.set(pace.lanes)


def _raise_first(done: set[asyncio.Task[None]]) -> None:
    errors = [error for task in done if (error := task.exception()) is not None]
    if errors:
        raise errors[0]


def _length(entry: Entry) -> int:
    resource = entry.get("resource")
    return _ENTRY_BYTES + (len(bytes(resource)) if isinstance(resource, msgspec.Raw) else 0)


def _no_access(status: int) -> RetryLater:
    return RetryLater(
        f"The FHIR service answered {status}: it does not let this house write Observations. Nothing is lost;"
        " give this house access at the service, or at the proxy before it, and writing goes on by itself."
    )


def _failing(status: int | None) -> "BundleAnswer":
    from pulseweir.backends.fhir_answers import BundleAnswer

    return BundleAnswer(status or 500)
