"""Who wore what when: asked once, remembered briefly, never guessed."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulseweir.backends.fhir_client import FhirClient
from pulseweir.errors import RetryLater
from pulseweir.ingest.device_mapping.tokens import FIRST_INSTANT, LAST_INSTANT, parse_instant
from pulseweir.ingest.identity import Identity, KnownDevice, Question, Use, read_use, wearer
from pulseweir.ingest.settings import IdentitySettings
from pulseweir.records.codes import DEVICE_IDENTIFIER_SYSTEM


def at(text: str) -> int:
    return parse_instant(f"2030-05-01T{text}:00Z")


class Server:
    """A FHIR server that knows devices and their uses, and counts what it is asked."""

    def __init__(self) -> None:
        self.devices: dict[str, dict[str, Any]] = {}
        self.uses: list[dict[str, Any]] = []
        self.encounters: dict[str, str] = {}
        self.asked: list[str] = []
        self.now = 0.0
        self.client = FhirClient("http://fhir/r4", transport=httpx.MockTransport(self.answer))

    def identity(self, **settings: Any) -> Identity:
        return Identity(self.client, IdentitySettings(**settings), monotonic=lambda: self.now)

    def add(self, device_id: str, *uses: tuple[str, str | None, str | None], patient: str | None = None) -> None:
        self.devices[device_id] = {"resourceType": "Device", "id": f"fhir-{device_id}"}
        if patient:
            self.devices[device_id]["patient"] = {"reference": f"Patient/{patient}"}
        for patient_id, start, end in uses:
            period = {"start": start, "end": end}
            self.uses.append(
                {
                    "resourceType": "DeviceUseStatement",
                    "id": f"u{len(self.uses)}",
                    "status": "active",
                    "subject": {"reference": f"Patient/{patient_id}"},
                    "device": {"reference": f"Device/fhir-{device_id}"},
                    "timingPeriod": {name: text for name, text in period.items() if text},
                }
            )

    def answer(self, request: httpx.Request) -> httpx.Response:
        kind = request.url.path.rpartition("/")[2]
        query = request.url.params
        self.asked.append(f"{kind}?{next(iter(query.items()))[1]}")
        found: Sequence[dict[str, Any]] = []
        if kind == "Device":
            system, _, value = query["identifier"].rpartition("|")
            assert system in {DEVICE_IDENTIFIER_SYSTEM, "mySystem", ""}
            found = [self.devices[value]] if value in self.devices else []
        elif kind == "DeviceUseStatement":
            found = [use for use in self.uses if use["device"]["reference"] == query["device"]]
        elif query["identifier"] in self.encounters:
            found = [{"resourceType": "Encounter", "id": self.encounters[query["identifier"]]}]
        entries = [{"resource": one} for one in found]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entries})


async def test_the_patient_of_the_time_measured_is_found() -> None:
    server = Server()
    server.add("d", ("anna", "2030-05-01T08:00:00Z", "2030-05-01T10:00:00Z"), ("bert", "2030-05-01T10:00:00Z", None))
    identity = server.identity()

    found = [(await identity.resolve("d", at(time))) for time in ("07:59", "08:00", "09:59", "10:00", "23:00")]

    assert [one.patient_id for one in found] == [None, "anna", "anna", "bert", "bert"]
    assert [one.missing for one in found] == ["patient-unknown", None, None, None, None]
    assert {one.device_resource_id for one in found} == {"fhir-d"}


async def test_two_patients_at_one_instant_are_nobody() -> None:
    server = Server()
    server.add("d", ("anna", "2030-05-01", None), ("bert", "2030-05-01", None))

    assert (await server.identity().resolve("d", at("09:00"))).missing == "patient-unknown"


async def test_the_devices_own_patient_counts_only_without_statements() -> None:
    server = Server()
    server.add("plain", patient="carla")
    server.add("used", ("anna", "2030-05-02", None), patient="carla")
    identity = server.identity()

    assert (await identity.resolve("plain", at("09:00"))).patient_id == "carla"
    assert (await identity.resolve("used", at("09:00"))).patient_id is None


async def test_a_batch_asks_once_for_each_unknown_device() -> None:
    server = Server()
    server.add("d", ("anna", "2030-05-01", None))
    identity = server.identity()

    await identity.resolve_many([Question("d", at("09:00")), Question("d", at("09:01")), Question("x", at("09:00"))])
    await identity.resolve("d", at("10:00"))

    assert sorted(server.asked) == [
        f"Device?{DEVICE_IDENTIFIER_SYSTEM}|d",
        f"Device?{DEVICE_IDENTIFIER_SYSTEM}|x",
        "DeviceUseStatement?Device/fhir-d",
    ]


async def test_an_unknown_device_is_asked_for_again_soon_and_a_known_one_later() -> None:
    server = Server()
    server.add("d", ("anna", "2030-05-01", None))
    identity = server.identity(cache_seconds=15, unknown_cache_seconds=2)
    await identity.resolve("d", at("09:00"))
    assert (await identity.resolve("new", at("09:00"))).missing == "device-unknown"

    server.add("new", ("bert", "2030-05-01", None))
    server.now = 1.0
    assert (await identity.resolve("new", at("09:00"))).missing == "device-unknown"
    server.now = 2.5
    assert (await identity.resolve("new", at("09:00"))).patient_id == "bert"

    asked = len(server.asked)
    await identity.resolve("d", at("09:00"))
    assert len(server.asked) == asked
    identity.forget("d")
    await identity.resolve("d", at("09:00"))
    assert len(server.asked) == asked + 2


async def test_an_encounter_is_found_by_its_identifier_or_missed_aloud() -> None:
    server = Server()
    server.add("d", ("anna", "2030-05-01", None))
    server.encounters["visit-1"] = "e-9"
    identity = server.identity()

    assert (await identity.resolve("d", at("09:00"), "visit-1")).encounter_id == "e-9"
    assert (await identity.resolve("d", at("09:00"), "visit-2")).missing == "encounter-unknown"


@pytest.mark.parametrize("status", [503, 429, 401, 403, 404])
async def test_a_service_that_does_not_answer_is_an_error_to_retry_not_an_unknown_device(status: int) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status)

    identity = Identity(FhirClient("http://fhir/r4", transport=httpx.MockTransport(refuse)))

    with pytest.raises(RetryLater):
        await identity.resolve_many([Question("a", 0), Question("b", 0)])


async def test_a_device_id_the_service_will_not_search_for_is_unknown() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400)

    identity = Identity(FhirClient("http://fhir/r4", transport=httpx.MockTransport(refuse)))

    assert (await identity.resolve("odd|id", 0)).missing == "device-unknown"


@pytest.mark.parametrize(
    ("timing", "start", "end"),
    [
        ({"start": "2030", "end": "2030"}, "2030-01-01T00:00:00Z", "2030-12-31T23:59:59.999999Z"),
        ({"start": "2030-02", "end": "2030-02"}, "2030-02-01T00:00:00Z", "2030-02-28T23:59:59.999999Z"),
        ({"start": "2030-02-03", "end": "2030-02-03"}, "2030-02-03T00:00:00Z", "2030-02-03T23:59:59.999999Z"),
        (
            {"start": "2030-02-03T08:00:00+02:00", "end": "2030-02-03T08:00:00.5Z"},
            "2030-02-03T06:00:00Z",
            "2030-02-03T08:00:00.500000Z",
        ),
    ],
)
def test_a_period_covers_all_that_its_texts_may_mean(timing: dict[str, str], start: str, end: str) -> None:
    statement = {"status": "active", "subject": {"reference": "Patient/p"}, "timingPeriod": timing}

    assert read_use(statement) == Use("p", parse_instant(start), parse_instant(end))


@pytest.mark.parametrize(
    "statement",
    [
        {"status": "entered-in-error", "subject": {"reference": "Patient/p"}, "timingPeriod": {}},
        {"status": "active", "subject": {"reference": "Group/p"}, "timingPeriod": {}},
        {"status": "active", "subject": {"reference": "Patient/not legal"}, "timingPeriod": {}},
        {"status": "active", "subject": {"reference": "Patient/p"}},
        {"status": "active", "subject": {"reference": "Patient/p"}, "timingPeriod": {"start": "soon"}},
    ],
)
def test_a_statement_that_does_not_say_who_and_when_says_nothing(statement: dict[str, Any]) -> None:
    assert read_use(statement) is None


spans = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.integers(0, 50)).map(
        lambda span: Use(span[0], min(span[1:]), max(span[1:]))
    ),
    min_size=1,
    max_size=6,
)


@given(spans, st.integers(-5, 55), st.randoms())
def test_nobody_is_named_who_did_not_have_the_device_at_that_instant(
    uses: list[Use], instant: int, random: Any
) -> None:
    shuffled = list(uses)
    random.shuffle(shuffled)

    found = wearer(KnownDevice("d", tuple(uses), "someone-else", 0.0), instant)

    assert found == wearer(KnownDevice("d", tuple(shuffled), None, 0.0), instant)
    if found is not None:
        assert any(use.patient_id == found and use.start <= instant <= use.end for use in uses)
        inside = {use.patient_id for use in uses if use.start < instant < use.end}
        assert inside <= {found}


def test_an_open_span_reaches_from_the_first_instant_to_the_last() -> None:
    use = read_use({"status": "active", "subject": {"reference": "Patient/p"}, "timingPeriod": {}})

    assert use == Use("p", FIRST_INSTANT, LAST_INSTANT)
