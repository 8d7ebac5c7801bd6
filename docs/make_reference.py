"""Writes docs/reference.md from the code: commands, settings, metrics, errors, topics.

Run by ``make docs``; a test fails when the page and the code differ.
"""

import ast
import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

import pulseweir
from pulseweir import errors, telemetry
from pulseweir.cli import app
from pulseweir.records import topics
from pulseweir.settings import PREFIX, Settings

PAGE = Path(__file__).parent / "reference.md"
_KINDS = (errors.RetryLater, errors.RejectRecord, errors.RefuseToStart)
_HEAD = """# Reference

Made from the code by `make docs`; a test fails when it is out of date. Do not edit it by hand.

[Commands](#commands) · [Settings](#settings) · [Metrics](#metrics) · [Errors](#errors) · [Topics](#topics)
"""


def reference() -> str:
    """The page as it should be."""
    parts = [_HEAD, *_commands(), *_settings(), *_metrics(), *_errors(), *_topics()]
    return "\n".join(parts).rstrip() + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, in the order in which `--help` lists them."""
    yield from _walk(get_command(app), "pulseweir")


def settings() -> Iterator[tuple[str, str, object, FieldInfo]]:
    """Every setting: key, environment variable, default, declaration."""
    yield from _fields(Settings.model_construct(), "", PREFIX)


def metrics() -> dict[str, MetricWrapperBase]:
    """Every metric by its name, in the order of the journey."""
    found = [each for each in vars(telemetry).values() if isinstance(each, MetricWrapperBase)]
    return {_metric_name(each): each for each in found}


def error_classes() -> list[type[errors.PulseweirError]]:
    """Every error of the package, by name."""
    for module in pkgutil.walk_packages(pulseweir.__path__, "pulseweir."):
        if ".migrations." not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted(_below(errors.PulseweirError), key=lambda each: each.__name__)


def topic_columns() -> dict[str, list[tuple[str, str]]]:
    """By schema constant its columns with the remark that stands beside each."""
    source = inspect.getsource(topics)
    lines = source.splitlines()
    found: dict[str, list[tuple[str, str]]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            for pair in (each for each in ast.walk(node.value) if isinstance(each, ast.Tuple)):
                if isinstance(pair.elts[0], ast.Constant) and isinstance(pair.elts[0].value, str):
                    place = lines[pair.lineno - 1 : pair.end_lineno]
                    remark = " ".join(line.partition("#")[2].strip() for line in place if "#" in line)
                    found.setdefault(name, []).append((pair.elts[0].value, remark))
    return found


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for word, each in command.commands.items():
            yield from _walk(each, f"{name} {word}")
    else:
        yield name, command


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    yield "Exit codes: 0 well, 1 findings, 2 usage or configuration, 3 a dependency is down, 4 partial.\n"
    for name, command in commands():
        parameters = [each for each in command.params if each.name != "help"]
        arguments = [_placeholder(each) for each in parameters if _is_argument(each)]
        yield f"### `{' '.join([name, *arguments])}`\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
        rows = [(_parameter(each), _default(each), each.help or "") for each in parameters]
        if rows:
            yield _table(("argument or option", "default", "meaning"), rows)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _parameter(parameter: Any) -> str:
    if _is_argument(parameter):
        return f"`{_placeholder(parameter)}`"
    return f"`{parameter.opts[-1]}`" if parameter.is_flag else f"`{parameter.opts[-1]} {_placeholder(parameter)}`"


def _placeholder(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    word = str(parameter.metavar or parameter.name.upper())
    is_repeated = parameter.nargs == -1 or parameter.multiple
    return f"{word}…" if is_repeated else word


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return "" if parameter.default in (None, False, "", ()) else f"`{parameter.default}`"


def _settings() -> Iterator[str]:
    yield "## Settings\n"
    yield (
        "Command line, then environment, then files named by a variable that ends in `_FILE`, then `pulseweir.toml`, "
        "then the default. Tables of `pulseweir.toml` are the parts of the key before its last dot. "
        "Words, lists and tables in the environment are JSON, except single words.\n"
    )
    groups: dict[str, list[tuple[str, ...]]] = {}
    for key, variable, default, declared in settings():
        group = key.partition(".")[0] if "." in key else "the house"
        groups.setdefault(group, []).append((f"`{key}`", f"`{variable}`", _value(default), _meaning(declared)))
    for group, rows in groups.items():
        yield f"### Settings of {group}\n"
        field = Settings.model_fields.get(group)
        if field is not None and inspect.isclass(field.annotation):
            yield f"{_first_line(field.annotation)}\n"
        yield _table(("key", "environment variable", "default", "meaning"), rows)


def _fields(model: BaseModel, key: str, variable: str) -> Iterator[tuple[str, str, object, FieldInfo]]:
    for name, declared in type(model).model_fields.items():
        default = getattr(model, name)
        if isinstance(default, BaseModel):
            yield from _fields(default, f"{key}{name}.", f"{variable}{name.upper()}__")
        else:
            yield key + name, variable + name.upper(), default, declared


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str | int | float | Path):
        return f"`{str(value).lower() if isinstance(value, bool) else value}`"
    return f"`{json.dumps(value, default=_plain, ensure_ascii=False)}`"


def _plain(value: object) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _meaning(declared: FieldInfo) -> str:
    return (declared.description or "").rstrip(".")


def _metrics() -> Iterator[str]:
    yield "## Metrics\n"
    yield "Each role serves its own at `/metrics` on loopback. No label holds a device, a patient or a value.\n"
    rows = [
        (f"`{name}`", str(each._type), ", ".join(f"`{label}`" for label in each._labelnames), each._documentation)
        for name, each in metrics().items()
    ]
    yield _table(("name", "type", "labels", "meaning"), rows)


def _metric_name(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if metric._type == "counter" else metric._name


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    found = error_classes()
    for kind in _KINDS:
        yield f"### {kind.__name__}\n"
        yield f"{_first_line(kind)}\n"
        members = [each for each in found if issubclass(each, kind) and each != kind]
        yield _table(("error", "meaning"), [(f"`{each.__name__}`", _first_line(each)) for each in members])


def _below(kind: type[errors.PulseweirError]) -> set[type[errors.PulseweirError]]:
    return {each for child in kind.__subclasses__() for each in (child, *_below(child))}


def _topics() -> Iterator[str]:
    yield "## Topics\n"
    yield "Rows are Arrow record batches; instants are microseconds UTC.\n"
    remarks = topic_columns()
    inherited = dict(remarks["_MEASUREMENT_FIELDS"])
    for topic, schema in topics.SCHEMAS.items():
        constant = next(name for name, each in vars(topics).items() if each is schema)
        meanings = inherited | dict(remarks.get(constant, []))
        yield f"### `{topic}`\n"
        yield f"Cut into shards by `{topics.SHARD_COLUMN[topic]}`.\n"
        rows = [(f"`{column.name}`", _type_name(str(column.type)), meanings[column.name]) for column in schema]
        yield _table(("column", "type", "meaning"), rows)


def _type_name(arrow: str) -> str:
    return "string, dictionary" if arrow.startswith("dictionary") else arrow.replace("<item: ", "<")


def _first_line(described: object) -> str:
    return (inspect.getdoc(described) or "").partition("\n\n")[0].replace("\n", " ")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
