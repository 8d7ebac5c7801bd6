"""Settings: who wins, what is refused, and that a secret stays one."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from pulseweir.cli import app
from pulseweir.settings import Settings, SettingsError, load_settings, to_environment

SECRET = "https://hooks.example.org/workflows/9f8e7d"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings but those a test makes: an empty folder, an empty environment."""
    for name in list(os.environ):
        if name.startswith("PULSEWEIR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings()

    assert (settings.hub.mqtt_port, settings.web.port, settings.windows.window_seconds) == (1883, 8080, 60)
    assert settings.data_dir == Path("pulseweir-data")


def test_the_file_beats_the_defaults_the_environment_the_file_and_the_command_line_all(
    monkeypatch: pytest.MonkeyPatch, clean: Path
) -> None:
    (clean / "pulseweir.toml").write_text("[hub]\nmqtt_port = 1\nhttp_port = 1\nmqtts_port = 1\n[web]\nport = 1\n")
    monkeypatch.setenv("PULSEWEIR_HUB__HTTP_PORT", "2")
    monkeypatch.setenv("PULSEWEIR_HUB__MQTTS_PORT", "2")

    hub = load_settings({"hub": {"mqtts_port": 3}}).hub

    assert (hub.mqtt_port, hub.http_port, hub.mqtts_port, hub.https_port) == (1, 2, 3, 8443)


def test_an_unknown_key_in_the_file_is_named_with_its_place(clean: Path) -> None:
    (clean / "pulseweir.toml").write_text("[windows]\nwindow_second = 30\n")

    with pytest.raises(SettingsError) as refused:
        load_settings()

    assert refused.value.source == "pulseweir.toml"
    assert refused.value.faults == ["windows.window_second: unknown key"]
    assert "docs/operating.md" in str(refused.value)


@pytest.mark.parametrize("name", ["PULSEWEIR_HUB__MQTT_PROT", "PULSEWEIR_HUBS__MQTT_PORT", "PULSEWEIR_TYPO"])
def test_an_unknown_variable_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")

    with pytest.raises(SettingsError, match=f"environment: {name}: unknown key"):
        load_settings()


@pytest.mark.parametrize(
    "path",
    [
        name
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ],
)
def test_every_section_refuses_unknown_keys(path: str, clean: Path) -> None:
    (clean / "pulseweir.toml").write_text(f"[{path}]\nno_such_key = 1\n")

    with pytest.raises(SettingsError, match=f"{path}.no_such_key: unknown key"):
        load_settings()


def test_a_value_out_of_range_is_refused_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSEWEIR_WEB__PORT", "70000")

    with pytest.raises(SettingsError, match=r"web\.port"):
        load_settings()


def test_a_file_that_is_no_toml_is_refused(clean: Path) -> None:
    (clean / "pulseweir.toml").write_text("[hub\n")

    with pytest.raises(SettingsError, match="not TOML"):
        load_settings()


def test_a_settings_file_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch, clean: Path) -> None:
    monkeypatch.setenv("PULSEWEIR_SETTINGS_FILE", str(clean / "absent.toml"))

    with pytest.raises(SettingsError, match="does not exist"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "read"),
    [
        ("PULSEWEIR_COORDINATION__TEAMS_WEBHOOK_URL_FILE", lambda settings: settings.coordination.webhook_url()),
        ("PULSEWEIR_REPOSITORY__URL_FILE", lambda settings: settings.repository.url.get_secret_value()),
    ],
)
def test_a_secret_may_come_from_a_file(
    variable: str, read: Callable[[Settings], str], monkeypatch: pytest.MonkeyPatch, clean: Path
) -> None:
    (clean / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv(variable, str(clean / "secret"))

    assert read(load_settings()) == SECRET


def test_a_secret_file_that_cannot_be_read_is_named_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, clean: Path
) -> None:
    monkeypatch.setenv("PULSEWEIR_REPOSITORY__URL_FILE", str(clean / "absent"))

    with pytest.raises(SettingsError, match="PULSEWEIR_REPOSITORY__URL_FILE: the file cannot be read"):
        load_settings()


def test_config_shows_every_setting_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSEWEIR_COORDINATION__TEAMS_WEBHOOK_URL", SECRET)
    monkeypatch.setenv("PULSEWEIR_REPOSITORY__URL", "postgresql://house:hunter2@db/pulseweir")

    answer = CliRunner().invoke(app, ["config"])

    shown = msgspec.json.decode(answer.stdout)
    assert answer.exit_code == 0
    assert set(shown) == set(Settings.model_fields)
    assert SECRET not in answer.stdout
    assert "hunter2" not in answer.stdout


def test_no_secret_stands_in_the_text_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSEWEIR_COORDINATION__TEAMS_WEBHOOK_URL", SECRET)

    assert SECRET not in repr(load_settings())


@given(st.integers(1, 65_535), st.integers(1, 65_535), st.sampled_from([10, 15, 30, 60, 120]))
def test_what_is_handed_to_a_role_by_environment_is_read_back_the_same(mqtt: int, web: int, window: int) -> None:
    values = {"hub": {"mqtt_port": mqtt}, "web": {"port": web}, "windows": {"window_seconds": window}}

    with pytest.MonkeyPatch.context() as patch:
        for name, text in to_environment(values).items():
            patch.setenv(name, text)
        assert load_settings() == load_settings(values)


def test_every_setting_says_what_it_means() -> None:
    silent = [
        f"{section}.{name}"
        for section, model in sections()
        for name, field in model.model_fields.items()
        if not field.description
    ]

    assert silent == []


def sections() -> list[tuple[str, type[BaseModel]]]:
    found = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found.append((name, field.annotation))
    return found
