"""How commands answer: JSON or tables, and the exit codes they end with."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from pulseweir.errors import PulseweirError, RetryLater
from pulseweir.settings import Settings, load_settings

OK, FINDINGS, USAGE, DEPENDENCY_DOWN, PARTIAL = range(5)

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder that holds all state of this house.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def settings_for(data_dir: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force, with what the command line says on top."""
    values = dict(overrides or {})
    if data_dir is not None:
        values["data_dir"] = data_dir
    return load_settings(values)


def print_json(document: Any) -> None:
    """One JSON document on one line."""
    typer.echo(msgspec.json.encode(document).decode())


def print_rows(rows: Sequence[Any], columns: Sequence[str]) -> None:
    """Rows (mappings or objects) as a table; a sentence when there are none."""
    if not rows:
        typer.echo("None.")
        return
    table = Table(*columns)
    for row in rows:
        values = row if isinstance(row, Mapping) else msgspec.to_builtins(row)
        table.add_row(*(_cell(values.get(column)) for column in columns))
    Console(soft_wrap=False).print(table)


def end(code: int) -> NoReturn:
    """Leave with an exit code."""
    raise typer.Exit(code)


@contextmanager
def explained() -> Iterator[None]:
    """Turn the house's errors into one line on standard error and the right exit code."""
    try:
        yield
    except PulseweirError as error:
        typer.echo(f"pulseweir: {error}", err=True)
        raise typer.Exit(DEPENDENCY_DOWN if isinstance(error, RetryLater) else USAGE) from error


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
