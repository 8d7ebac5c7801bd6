"""The journey on FHIR servers that are not the house's own: HAPI, and one that asks for SMART Backend Services.

The connector, scoring and output roles run in this process with all their stages, on a bus of their own; device
messages are put where the hub would put them.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hapi_server import FIRST_TEST_SECONDS
from pulseweir.backends.fhir_capabilities import SCOPES
from pulseweir.backends.fhir_client import FhirClient
from pulseweir.clock import Clock, to_microseconds, to_text
from pulseweir.fhir_store.security.clients import house_token
from pulseweir.fhir_store.security.guard import Guard
from pulseweir.fhir_store.security.settings import FhirSecuritySettings
from pulseweir.fhir_store.settings import FhirStoreSettings
from pulseweir.fhir_store.storage import FhirStore
from pulseweir.ingest.ward_setup import DeviceSetup, PatientSetup, ward_resources, write_resources
from pulseweir.operations.conserve import conserve, lag
from pulseweir.pipeline import GROUPS, ROLES, House
from pulseweir.records.topics import DEVICE_MESSAGE_SCHEMA, DEVICE_MESSAGES
from pulseweir.settings import load_settings
from pulseweir.systems import bus_directory
from served_store import served, served_app
from token_server import ISSUER, TokenServer

Json = dict[str, Any]
SECOND = 1_000_000
READINGS = 9
ILL = {"heartRate": 132, "respiratoryRate": 27, "spo2": 88, "temperatureCelsius": 39.4, "consciousness": "A"}
PRESSURE = {"cuffPressure": {"systolic": 88, "diastolic": 51, "mean": 63}}
QUICK: dict[str, Json] = {
    "windows": {"window_seconds": 10, "grace_seconds": 1, "quiet_seconds": 1, "backfill_after_seconds": 3_600},
    "care_routing": {"refresh_seconds": 1},
}
WAIT_SECONDS = 90


@dataclass
class Outside:
    """A server that is not the house's own.

    Attributes:
        settings: Of `fhir`, as an operator writes them.
        whole: A client that may do everything there.
        tokens: Its authorization server, None where it asks nobody.
    """

    settings: Json
    whole: FhirClient
    tokens: TokenServer | None = None


@pytest.fixture(params=["hapi", "backend-services"])
async def outside(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outside]:
    if request.param == "hapi":
        url = request.getfixturevalue("hapi_url")
        whole = FhirClient(url)
        yield Outside({"base_url": url}, whole)
        await whole.close()
    else:
        async with backend_services(tmp_path) as found:
            yield found


@asynccontextmanager
async def backend_services(tmp_path: Path) -> AsyncIterator[Outside]:
    """A pulseweir's store that knows this house by nothing but signed tokens."""
    key = ec.generate_private_key(ec.SECP384R1())
    key_file = tmp_path / "house.pem"
    plain = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    key_file.chmod(0o600)
    tokens = TokenServer({"house": key.public_key()})
    with served_app(tokens.app) as root:
        tokens.token_url = f"{root}/token"
        with asking(tmp_path / "outside", tokens) as (url, token):
            whole = FhirClient(url, headers={"authorization": f"Bearer {token}"})
            told = {"client_id": "house", "private_key_file": str(key_file), "key_id": "house"}
            yield Outside({"base_url": url, "credentials": told}, whole, tokens)
            await whole.close()


@contextmanager
def asking(folder: Path, tokens: TokenServer) -> Iterator[tuple[str, str]]:
    """A served store that lets in who has a token of this server; its base URL, and a token of its own house."""
    folder.mkdir()
    (folder / "jwks.json").write_text(json.dumps(tokens.jwks))
    security = FhirSecuritySettings(
        issuer=ISSUER, audience=tokens.audience, jwks_file=folder / "jwks.json", token_url=tokens.token_url
    )
    store = FhirStore.open(folder, Clock(), FhirStoreSettings(security=security))
    try:
        with served(store, Guard.open(store)) as url:
            yield url, house_token(folder)
    finally:
        store.close()


@asynccontextmanager
async def running(directory: Path, outside: Outside) -> AsyncIterator[House]:
    """The roles that write to FHIR."""
    settings = load_settings({"data_dir": directory, "fhir": outside.settings, **QUICK})
    house = House(settings, Clock())
    try:
        for role in ("fhir", "connector", "scoring", "output"):
            await ROLES[role](house)
        yield house
    finally:
        await house.close()


def ill_patient(word: str, now: int) -> PatientSetup:
    device = DeviceSetup(f"monitor-{word}", "bedside-monitor")
    return PatientSetup(f"p-{word}", "Path Test", "1950-01-01", "female", f"Ward {word}", "Bed 1", now, (device,))


def messages(device_id: str, start: int) -> pa.Table:
    """A reading every five seconds of a patient who is ill from the first on."""
    rows = []
    for number in range(READINGS):
        measured = start + number * 5 * SECOND
        body = {"device": device_id, "measuredAt": to_text(measured), **ILL, **PRESSURE}
        rows.append(
            {
                "message_id": f"m{number}",
                "device_id": device_id,
                "kind": "bedside-monitor",
                "received_at": measured + SECOND,
                "properties_json": "{}",
                "system_properties_json": "{}",
                "body": json.dumps(body).encode(),
            }
        )
    return pa.Table.from_pylist(rows).cast(DEVICE_MESSAGE_SCHEMA)


def windows_of(start: int) -> set[int]:
    """First instants of the windows that the readings fall into."""
    window = QUICK["windows"]["window_seconds"] * SECOND
    return {(start + number * 5 * SECOND) // window * window for number in range(READINGS)}


async def closed_windows(whole: FhirClient, patient_id: str) -> set[int]:
    """First instants of the windows that have a final RiskAssessment."""
    found = await whole.search("RiskAssessment", {"patient": patient_id, "_count": "200"})
    final = [one for one in found if one["status"] != "preliminary"]
    return {to_microseconds(datetime.fromisoformat(one["occurrencePeriod"]["start"])) for one in final}


async def settled(house: House, whole: FhirClient, patient_id: str, windows: set[int]) -> None:
    """Wait until nothing is on its way, the patient's windows are written, and somebody was told.

    Raises:
        TimeoutError: It took too long.
    """
    directory = bus_directory(house.settings)
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            behind = [await asyncio.to_thread(lag, directory, *each, house.settings.bus) for each in GROUPS]
            is_written = windows <= await closed_windows(whole, patient_id)
            if is_written and not any(behind) and await whole.search("Task", {"patient": patient_id}):
                return
            await asyncio.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(FIRST_TEST_SECONDS)
async def test_the_journey_ends_on_an_outside_server_and_every_row_is_accounted_for(
    outside: Outside, tmp_path: Path
) -> None:
    word = uuid.uuid4().hex[:8]
    start = Clock().now_microseconds() - 120 * SECOND
    patient = ill_patient(word, start)
    device_id = patient.devices[0].device_id
    await write_resources(outside.whole, ward_resources([patient]))

    async with running(tmp_path / "house", outside) as house:
        await house.bus.publish([(DEVICE_MESSAGES, messages(device_id, start))])
        await settled(house, outside.whole, patient.patient_id, windows_of(start))
        books = conserve(bus_directory(house.settings), house.settings.bus)

    assert (books.conservation_difference, books.messages.quarantined, books.measurements.quarantined) == (0, 0, 0)
    assert (books.messages.total, books.messages.in_flight, books.measurements.in_flight) == (READINGS, 0, 0)
    await everything_is_there(outside.whole, patient.patient_id)
    if outside.tokens is not None:
        # One for the look at the start, one that all roles share.
        assert len(outside.tokens.given) == 2
        assert outside.tokens.asked[0]["scope"].split() == list(SCOPES)


async def everything_is_there(whole: FhirClient, patient_id: str) -> None:
    about = {"patient": patient_id, "_count": "200"}
    observations = {one["id"]: one for one in await whole.search("Observation", about)}
    assessments = await whole.search("RiskAssessment", about)
    (flag,) = await whole.search("Flag", about)
    (task,) = await whole.search("Task", about)
    vitals = [one for one in observations.values() if one["category"][0]["coding"][0]["code"] == "vital-signs"]

    # Heart rate, respiration, saturation, temperature and a panel in each message.
    assert len(vitals) == READINGS * 5
    for one in assessments:
        assert {each["reference"].partition("/")[2] for each in one["basis"]} <= observations.keys()
        assert await whole.read(*one["performer"]["reference"].split("/")) is not None
    evidence = {each["valueReference"]["reference"] for each in flag["extension"] if "valueReference" in each}
    assert evidence & {f"RiskAssessment/{one['id']}" for one in assessments}
    assert flag["status"] == "active"
    assert task["focus"]["reference"] == f"Flag/{flag['id']}"


async def test_a_server_that_asks_lets_nobody_in_without_a_token(tmp_path: Path) -> None:
    async with backend_services(tmp_path) as found, httpx.AsyncClient() as http:
        answer = await http.get(f"{found.settings['base_url']}/Patient")

    assert answer.status_code == 401
