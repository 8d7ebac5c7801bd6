"""docs/reference.md says everything there is, as it is."""

import importlib.util
import inspect
from types import ModuleType
from typing import Any

import pytest

from pulseweir.errors import PulseweirError, RefuseToStart, RejectRecord, RetryLater
from pulseweir.records.topics import SCHEMAS
from tracked_files import ROOT


def _make_reference() -> ModuleType:
    specification = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


_MADE: Any = _make_reference()


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def test_page_is_current(page: str) -> None:
    assert page == _MADE.reference(), "docs/reference.md is out of date: make docs"


def test_every_command_and_option_says_what_it_does(page: str) -> None:
    commands = list(_MADE.commands())
    silent = [name for name, command in commands if not command.help]
    silent += [
        f"{name} {parameter.name}"
        for name, command in commands
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]

    assert len(commands) > 20
    assert not [name for name, _ in commands if f"### `{name}" not in page]
    assert not silent


def test_every_command_that_reads_has_json(page: str) -> None:
    reading = {"steps", "status", "doctor", "conserve", "list", "show", "check", "test", "explain", "bench"}

    without = [
        name
        for name, command in _MADE.commands()
        if name.split()[-1] in reading and "--json" not in [word for each in command.params for word in each.opts]
    ]

    assert not without


def test_every_setting_says_what_it_means(page: str) -> None:
    settings = list(_MADE.settings())

    assert len(settings) > 100
    assert not [key for key, _, _, declared in settings if not declared.description]
    assert not [key for key, variable, _, _ in settings if f"| `{key}` | `{variable}` |" not in page]


def test_every_metric_has_a_step_a_unit_and_a_writer(page: str) -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "pulseweir").rglob("*.py"))
    constants = {id(each): name for name, each in vars(_MADE.telemetry).items()}

    metrics = _MADE.metrics()

    assert not [name for name in metrics if not name.startswith("pulseweir_") or f"`{name}`" not in page]
    assert not [name for name, each in metrics.items() if each._type == "histogram" and not name.endswith("_seconds")]
    assert not [name for name, each in metrics.items() if f"{constants[id(each)]}." not in source]


def test_no_metric_has_a_label_for_persons_or_devices() -> None:
    allowed = {
        "protocol", "outcome", "state", "reason", "type", "stage", "interaction", "code", "topic", "group", "action",
        "model", "severity", "priority", "channel", "version",
    }  # fmt: skip

    assert not [name for name, each in _MADE.metrics().items() if not set(each._labelnames) <= allowed]


def test_every_error_is_one_of_three_kinds_and_says_when(page: str) -> None:
    kinds = (RetryLater, RejectRecord, RefuseToStart)
    found = _MADE.error_classes()

    assert not [each.__name__ for each in found if not issubclass(each, kinds)]
    assert not [
        each.__name__
        for each in found
        if not (each.__doc__ or "").strip() or f"`{each.__name__}`" not in page and each not in kinds
    ]
    assert all(inspect.isclass(each) and issubclass(each, PulseweirError) for each in found)


def test_every_column_of_every_topic_says_what_it_holds() -> None:
    remarks = _MADE.topic_columns()
    said = {name: remark for columns in remarks.values() for name, remark in columns}

    assert not [f"{topic}.{name}" for topic, schema in SCHEMAS.items() for name in schema.names if not said.get(name)]
