"""Commands about the embedded FHIR store: who may reach it, and whether its audit holds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pulseweir.cli_output import FINDINGS, AsJson, DataDir, end, explained, print_json, print_rows, settings_for
from pulseweir.clock import real_microseconds, to_text

fhir_app = typer.Typer(no_args_is_help=True, help="The embedded FHIR store.")
token_app = typer.Typer(no_args_is_help=True, help="Clients that may reach the store, with their scopes.")
fhir_audit_app = typer.Typer(no_args_is_help=True, help="AuditEvents of the store.")
fhir_app.add_typer(token_app, name="token")
fhir_app.add_typer(fhir_audit_app, name="audit")

_DAY_MICROSECONDS = 86_400_000_000


@token_app.command("add")
def token_add(
    name: Annotated[str, typer.Argument(help="What the audit calls the client.")],
    scope: Annotated[list[str], typer.Option(help="SMART scope, such as system/Observation.rs; repeat for several.")],
    patient: Annotated[str | None, typer.Option(help="Bind the client to the compartment of this Patient.")] = None,
    certificate: Annotated[
        str, typer.Option(help="Common name of a client certificate that stands in for a token (mutual TLS).")
    ] = "",
    days: Annotated[int | None, typer.Option(min=1, help="Days until the client ends; none for never.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Add a client and print its token, this once: only a hash is kept. The first one closes an open store."""
    from pulseweir.fhir_store.security.clients import ClientEntry, add_client

    now = real_microseconds()
    ends = None if days is None else now + days * _DAY_MICROSECONDS
    entry = ClientEntry(name, tuple(scope), "", certificate, patient, expires_microseconds=ends)
    with explained():
        token = add_client(_clients_file(data_dir), entry, now)
    typer.echo(token or f"Connections with the certificate of {certificate} are {name} from now on.")


@token_app.command("list")
def token_list(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The clients, without their tokens."""
    from pulseweir.fhir_store.security.clients import read_clients

    with explained():
        entries = read_clients(_clients_file(data_dir))
    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "scopes": list(each.scopes),
            "patient": each.patient,
            "certificate": each.certificate,
            "created": each.created,
            "ends": None if each.expires_microseconds is None else to_text(each.expires_microseconds),
        }
        for each in entries
    ]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("name", "scopes", "patient", "certificate", "created", "ends"))


@token_app.command("revoke")
def token_revoke(name: Annotated[str, typer.Argument(help="The client.")], data_dir: DataDir = None) -> None:
    """Remove a client: its token counts for nothing from the next request on. Exit 1 when there is none."""
    from pulseweir.fhir_store.security.clients import revoke_client

    with explained():
        was_there = revoke_client(_clients_file(data_dir), name)
    if not was_there:
        typer.echo(f"pulseweir: no client {name}. See: pulseweir fhir token list", err=True)
        end(FINDINGS)


@fhir_audit_app.command("verify")
def fhir_audit_verify(
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="What an earlier verify printed as newest, noted elsewhere; repeat for several."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Walk the chain of the store's AuditEvents. Exit 1 with the first that was changed, removed, moved or invented.

    Only an anchor shows that the end of the chain was cut off, or all of it written anew.
    """
    from pulseweir.fhir_store.security.audit_chain import Anchor, verify_directory
    from pulseweir.systems import fhir_directory

    with explained():
        anchors = tuple(Anchor.read(text) for text in anchor or ())
        found = verify_directory(fhir_directory(settings_for(data_dir)), anchors)
    if as_json:
        print_json(found)
    elif found.broken is None:
        typer.echo(f"{found.events} AuditEvents, unbroken. Newest: {found.anchor or 'none'}")
    else:
        typer.echo(f"AuditEvent {found.broken.number}: {found.broken.reason}. {found.events} before it hold.")
    end(FINDINGS if found.broken else 0)


def _clients_file(data_dir: Path | None) -> Path:
    from pulseweir.fhir_store.security.clients import CLIENTS_NAME
    from pulseweir.systems import fhir_directory

    settings = settings_for(data_dir)
    return settings.fhir_store.security.clients_file or fhir_directory(settings) / CLIENTS_NAME
