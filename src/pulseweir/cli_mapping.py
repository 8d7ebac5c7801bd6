"""Commands about device and FHIR mappings: check them, try them, have them explained."""

from pathlib import Path
from typing import Annotated

import typer

from pulseweir.cli_mapping_versions import versions_app
from pulseweir.cli_output import FINDINGS, AsJson, end, explained, print_json, print_rows

mapping_app = typer.Typer(no_args_is_help=True, help="Device and FHIR mappings: check and try them.")
mapping_app.add_typer(versions_app)

DeviceMappingFile = Annotated[
    Path, typer.Option("--device-mapping", exists=True, dir_okay=False, help="devicecontent.json")
]
FhirMappingFile = Annotated[Path, typer.Option("--fhir-mapping", exists=True, dir_okay=False, help="fhirmapping.json")]
MessageFiles = Annotated[list[Path], typer.Option("--message", help="A message: a body, or the hub's envelope.")]


@mapping_app.command("check")
def mapping_check(device_mapping: DeviceMappingFile, fhir_mapping: FhirMappingFile, as_json: AsJson = False) -> None:
    """Are both files valid, and do they agree? Exit 1 with a list of faults and remedies when not."""
    from pulseweir.operations.mapping_files import check_files

    with explained():
        findings = check_files(device_mapping, fhir_mapping)
    if as_json:
        print_json(findings)
    else:
        print_rows(findings, ("severity", "rule", "place", "message"))
    end(FINDINGS if findings else 0)


@mapping_app.command("test")
def mapping_test(
    device_mapping: DeviceMappingFile, fhir_mapping: FhirMappingFile, message: MessageFiles, as_json: AsJson = False
) -> None:
    """Messages in; measurements, Observations, warnings and errors out. Exit 1 when a message is rejected."""
    from pulseweir.operations.mapping_files import try_files

    with explained():
        report = try_files(device_mapping, fhir_mapping, message)
    if as_json:
        print_json(report)
    else:
        for path, answer in zip(message, report, strict=True):
            typer.echo(f"{path}: {answer['error']['message'] if answer['error'] else 'accepted'}")
            print_rows(answer["measurements"], ("type", "device_id", "occurred_at", "properties"))
            typer.echo("\n".join([f"{len(answer['observations'])} Observations", *answer["warnings"]]))
    end(FINDINGS if any(answer["error"] for answer in report) else 0)


@mapping_app.command("explain")
def mapping_explain(device_mapping: DeviceMappingFile, message: MessageFiles, as_json: AsJson = False) -> None:
    """Why each template did or did not match each message; never shows a value. Exit 1 when none matched."""
    from pulseweir.operations.mapping_files import explain_files

    with explained():
        report = explain_files(device_mapping, message)
    if as_json:
        print_json(report)
    else:
        for path, templates in zip(message, report, strict=True):
            typer.echo(f"{path}:")
            print_rows(templates, ("template", "type", "matches", "expression", "error"))
    end(0 if all(any(one["matches"] for one in templates) for templates in report) else FINDINGS)
