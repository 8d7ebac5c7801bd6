"""Commands about device and FHIR mappings: check, try, explain, lint and compare them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pulseweir.cli_mapping_versions import versions_app
from pulseweir.cli_output import FINDINGS, AsJson, end, explained, print_json

mapping_app = typer.Typer(no_args_is_help=True, help="Device and FHIR mappings: check, try, explain, change them.")
mapping_app.add_typer(versions_app)

_DEVICE = typer.Option("--device-mapping", exists=True, dir_okay=False, help="devicecontent.json")
_FHIR = typer.Option("--fhir-mapping", exists=True, dir_okay=False, help="fhirmapping.json")
DeviceMappingFile = Annotated[Path, _DEVICE]
AnyDeviceMapping = Annotated[Path | None, _DEVICE]
DeviceMappings = Annotated[list[Path], _DEVICE]
AnyFhirMapping = Annotated[Path | None, _FHIR]
FhirMappings = Annotated[list[Path] | None, _FHIR]
Messages = Annotated[
    list[Path] | None,
    typer.Option(
        "--message", exists=True, dir_okay=False, help="A body, the hub's envelope, or JSON lines of them (.ndjson)."
    ),
]
MoreMessages = Annotated[
    list[Path] | None, typer.Argument(metavar="[MESSAGE]...", exists=True, dir_okay=False, help="More messages.")
]
ShowValues = Annotated[bool, typer.Option("--show-values", help="Show values too; they may be about a patient.")]


@mapping_app.command("check")
def mapping_check(
    device_mapping: AnyDeviceMapping = None,
    fhir_mapping: AnyFhirMapping = None,
    message: Messages = None,
    more: MoreMessages = None,
    as_json: AsJson = False,
) -> None:
    """Are the files valid? Every fault with its place and remedy. With messages: can they be read? Exit 1 when not."""
    from pulseweir.operations.mapping_files import check_files, named_messages

    with explained():
        findings = check_files(device_mapping, fhir_mapping)
        named_messages(_paths(message, more))
    _print_findings(findings, "Valid.", as_json=as_json)


@mapping_app.command("lint")
def mapping_lint(
    device_mapping: AnyDeviceMapping = None,
    fhir_mapping: AnyFhirMapping = None,
    message: Messages = None,
    more: MoreMessages = None,
    as_json: AsJson = False,
) -> None:
    """Do codes, displays, units, names and values agree? Exit 1 on an error or a warning."""
    from pulseweir.operations.mapping_files import lint_files

    with explained():
        findings = lint_files(device_mapping, fhir_mapping, _paths(message, more))
    _print_findings(findings, "Nothing found.", as_json=as_json)


@mapping_app.command("test")
def mapping_test(
    device_mapping: DeviceMappingFile,
    fhir_mapping: AnyFhirMapping = None,
    message: Messages = None,
    more: MoreMessages = None,
    as_json: AsJson = False,
) -> None:
    """Messages in; measurements, Observations, rejects and warnings out. Exit 1 when something is rejected."""
    from pulseweir.mapping import trial_lines
    from pulseweir.operations.mapping_files import try_files

    with explained():
        report = try_files(device_mapping, fhir_mapping, _paths(message, more))
    if as_json:
        print_json([{"message": one.name, **trial.to_json()} for one, trial in report])
    else:
        for one, trial in report:
            typer.echo(f"{one.name}: {'rejected' if trial.rejects else 'accepted'}")
            _print(trial_lines(trial))
    end(FINDINGS if any(trial.rejects for _, trial in report) else 0)


@mapping_app.command("explain")
def mapping_explain(
    device_mapping: DeviceMappingFile,
    fhir_mapping: AnyFhirMapping = None,
    message: Messages = None,
    more: MoreMessages = None,
    show_values: ShowValues = False,
    as_json: AsJson = False,
) -> None:
    """Why each template did or did not match each message. Exit 1 when a message matches none or is rejected."""
    from pulseweir.mapping import explanation_lines
    from pulseweir.operations.mapping_files import explain_files

    with explained():
        report = explain_files(device_mapping, fhir_mapping, _paths(message, more), show_values=show_values)
    if as_json:
        print_json([{"message": one.name, **explanation.to_json()} for one, explanation in report])
    else:
        for one, explanation in report:
            typer.echo(f"{one.name}:")
            _print(explanation_lines(explanation))
    end(0 if all(explanation.outcome == "accepted" for _, explanation in report) else FINDINGS)


@mapping_app.command("diff")
def mapping_diff(
    device_mapping: DeviceMappings,
    fhir_mapping: FhirMappings = None,
    message: Messages = None,
    more: MoreMessages = None,
    show_values: ShowValues = False,
    as_json: AsJson = False,
) -> None:
    """What a new version changes of messages: give a mapping twice, the old one first. Exit 1 when anything does."""
    from pulseweir.mapping import change_lines
    from pulseweir.operations.mapping_files import diff_files

    with explained():
        changes = diff_files(device_mapping, fhir_mapping or [], _paths(message, more), show_values=show_values)
    if as_json:
        print_json([{**change.to_json(), "message": one.name} for one, change in changes])
    else:
        named = ""
        for one, change in changes:
            if one.name != named:
                named = one.name
                typer.echo(f"{named}:")
            _print(change_lines(change))
        if not changes:
            typer.echo("No difference.")
    end(FINDINGS if changes else 0)


def _paths(message: Sequence[Path] | None, more: Sequence[Path] | None) -> list[Path]:
    return [*(message or ()), *(more or ())]


def _print(lines: Iterable[str]) -> None:
    typer.echo("\n".join(lines))


def _print_findings(findings: Sequence[Any], nothing: str, *, as_json: bool) -> None:
    if as_json:
        print_json([one.to_json() for one in findings])
    else:
        _print([str(one) for one in findings] or [nothing])
    end(FINDINGS if any(one.severity != "info" for one in findings) else 0)
