"""Opening what the settings name."""

import socket
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from pulseweir.clock import Clock
from pulseweir.errors import RefuseToStart
from pulseweir.fhir_store.storage import FhirStoreUnusable
from pulseweir.run_files import write_ready
from pulseweir.settings import load_settings
from pulseweir.systems import (
    EmbeddedServer,
    PortTaken,
    association_changes,
    fhir_base_url,
    hub_mqtt_port,
    open_fhir_store,
    pages_config,
)
from pulseweir.web.settings import WebSettings


async def test_a_taken_port_is_named_with_the_remedy() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        server = EmbeddedServer(uvicorn.Config(Starlette(), host="127.0.0.1", port=port, log_config=None))

        with pytest.raises(PortTaken, match=f"127.0.0.1:{port}.*another port"):
            server.start()


def test_pages_for_other_machines_need_a_certificate() -> None:
    with pytest.raises(RefuseToStart, match="certificate_file"):
        pages_config(Starlette(), WebSettings(address="0.0.0.0"))


def test_a_running_house_is_found_where_it_says_it_listens(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path, "fhir": {"port": 8090}})
    before = fhir_base_url(settings)
    write_ready(tmp_path, "fhir", {"port": 4711})
    write_ready(tmp_path, "hub", {"mqtt_port": 4712})

    assert before == "http://127.0.0.1:8090/fhir"
    assert fhir_base_url(settings) == "http://127.0.0.1:4711/fhir"
    assert hub_mqtt_port(settings) == 4712


@pytest.mark.parametrize("name", ["fhir/fhir.sqlite", "fhir"])
def test_a_fhir_store_that_cannot_be_opened_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"not what it should be" * 500)

    with pytest.raises(FhirStoreUnusable, match=r"may write the folder.*restore a backup"):
        open_fhir_store(load_settings({"data_dir": tmp_path}), Clock())


def test_another_fhir_service_is_taken_at_its_word(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path, "fhir": {"base_url": "https://fhir.example.org/r4"}})
    write_ready(tmp_path, "fhir", {"base_url": "https://fhir.example.org/r4"})

    assert fhir_base_url(settings) == "https://fhir.example.org/r4"


def test_the_embedded_store_counts_where_the_connector_reads_and_another_server_does_not(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path})
    changes = association_changes(settings)
    assert changes is not None
    assert changes() is None

    open_fhir_store(settings, Clock()).close()
    first = changes()
    open_fhir_store(settings, Clock()).close()

    assert first is not None
    assert changes() != first
    assert association_changes(load_settings({"fhir": {"base_url": "http://elsewhere/fhir"}})) is None
