"""Commands that change a mapping while messages flow: use, rollback, versions."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pulseweir.cli_output import FINDINGS, AsJson, DataDir, end, explained, print_json, print_rows, settings_for
from pulseweir.clock import Clock
from pulseweir.errors import MappingError

versions_app = typer.Typer()

Name = Annotated[str, typer.Argument(help="Catalog kind, such as bedside-monitor, or site.")]
DeviceMappingFile = Annotated[
    Path, typer.Option("--device-mapping", exists=True, dir_okay=False, help="devicecontent.json")
]
FhirMappingFile = Annotated[Path, typer.Option("--fhir-mapping", exists=True, dir_okay=False, help="fhirmapping.json")]


@versions_app.command("use")
def mapping_use(
    name: Name,
    device_mapping: DeviceMappingFile,
    fhir_mapping: FhirMappingFile,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Put a new version in force; running connectors take it within a second. Exit 1 when it is bad: none changed."""
    from pulseweir.operations.mapping_changes import use

    with explained():
        settings = settings_for(data_dir)
        try:
            changed = use(settings, name, device_mapping, fhir_mapping, Clock().now_microseconds())
        except MappingError as error:
            typer.echo(f"pulseweir: {error}", err=True)
            end(FINDINGS)
    if as_json:
        print_json(changed)
    else:
        typer.echo(f"{name}: {changed.version} is in force, before it {changed.before or 'none'}.")


@versions_app.command("rollback")
def mapping_rollback(name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Put the version in force again that was before the present one."""
    from pulseweir.operations.mapping_changes import roll_back

    with explained():
        changed = roll_back(settings_for(data_dir), name, Clock().now_microseconds())
    if as_json:
        print_json(changed)
    else:
        typer.echo(f"{name}: {changed.version or 'none'} is in force, before it {changed.before}.")


@versions_app.command("versions")
def mapping_versions(
    name: Annotated[str | None, typer.Argument(help="Catalog kind, or site; all when not given.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every version of a mapping this house has had: which is in force, and when it came."""
    from pulseweir.operations.mapping_changes import list_versions

    with explained():
        rows = msgspec.to_builtins(list_versions(settings_for(data_dir), name))
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("name", "version", "in_force", "origin", "came_at", "damaged"))
