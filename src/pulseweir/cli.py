"""The commands. `pulseweir --help` lists them; each does its work in a room of its own."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from pulseweir import __version__
from pulseweir.cli_fhir import fhir_app
from pulseweir.cli_inspect import inspect_app
from pulseweir.cli_mapping import mapping_app
from pulseweir.cli_output import FINDINGS, PARTIAL, AsJson, DataDir, end, explained, print_json, settings_for
from pulseweir.cli_setup import setup_app
from pulseweir.clock import Clock

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Vital signs from medical devices to the people who must act on them. Not a medical device.",
)
app.add_typer(setup_app)
app.add_typer(mapping_app, name="mapping")
app.add_typer(inspect_app)
app.add_typer(fhir_app, name="fhir")

Patients = Annotated[int | None, typer.Option(min=1, help="Only the first so many patients of the recording.")]
Hours = Annotated[float | None, typer.Option(min=0.01, help="Only the first hours of each patient.")]


def main() -> None:
    """The entry point of the installed command."""
    from pulseweir.role_process import configure_logging

    # Before anything else: structlog's own defaults write to standard output, and show the variables of a traceback.
    configure_logging("cli")
    app()


@app.command()
def version() -> None:
    """The release."""
    typer.echo(__version__)


@app.command()
def up(data_dir: DataDir = None) -> None:
    """Run every role on this machine, one process each, until Ctrl-C. What dies is restarted."""
    from pulseweir.demo import run_up

    with explained():
        asyncio.run(run_up(settings_for(data_dir), typer.echo))


@app.command()
def run(
    roles: Annotated[list[str], typer.Argument(help="hub, connector, fhir, scoring, output, web")],
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the role fhir or web.")] = None,
) -> None:
    """Run some roles in this process, any number of times: shards are shared out."""
    from pulseweir.pipeline import ROLES
    from pulseweir.role_process import run_roles

    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(ROLES)}")
    overrides = {role: {"port": port} for role in roles if role in ("fhir", "web")} if port else {}
    with explained():
        run_roles(roles, settings_for(data_dir, overrides), Clock.from_environment())


@app.command()
def edge(data_dir: DataDir = None) -> None:
    """Run an edge: take devices' messages here, store them, forward them to the hub when there is a line."""
    from pulseweir.edge_process import run_edge

    with explained():
        run_edge(settings_for(data_dir))


@app.command()
def demo(
    for_seconds: Annotated[
        float | None, typer.Option("--for", min=5, help="Stop after so many real seconds, with the sums.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    speed: Annotated[float, typer.Option(min=1, max=600, help="Simulated seconds a real second.")] = 10,
    recording: Annotated[
        tuple[str, Path] | None,
        typer.Option(metavar="FORMAT PATH", help="A recording to play live instead of the simulation."),
    ] = None,
    patients: Patients = None,
    hours: Hours = None,
) -> None:
    """Everything at once, with a simulated ward of 12 patients, until Ctrl-C. Prints the address and the sign-in."""
    from pulseweir.demo import DemoOptions, run_demo

    options = DemoOptions(for_seconds, as_json, data_dir, speed, recording, patients, hours)
    with explained():
        sums = asyncio.run(run_demo(options, typer.echo))
    if as_json:
        print_json(sums)
    end(FINDINGS if sums.conservation_difference else 0)


@app.command()
def replay(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help="mimic3-demo, ndjson or csv")],
    path: Annotated[Path, typer.Argument(exists=True, help="The recording's folder or file.")],
    data_dir: DataDir = None,
    patients: Patients = None,
    hours: Hours = None,
    speed: Annotated[float, typer.Option(min=0, help="Recorded seconds a real second; 0 is as fast as accepted.")] = 0,
    order: Annotated[Literal["charted", "stored"], typer.Option(help="Order in which readings are sent.")] = "charted",
    standalone: Annotated[bool, typer.Option("--standalone", help="Start all roles on free ports for this.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a recording through the hub as devices would have sent it."""
    from pulseweir.standalone_replay import ReplayOptions, replay_into_running, replay_standalone

    options = ReplayOptions(format_name, path, patients, hours, speed, order)
    with explained():
        settings = settings_for(data_dir)
        into = replay_standalone(options, settings.data_dir) if standalone else replay_into_running(options, settings)
        outcome = asyncio.run(into)
    if as_json or standalone:
        print_json(outcome)
    else:
        typer.echo(f"{outcome.messages_acknowledged} messages acknowledged.")
    if outcome.conservation_difference:
        end(FINDINGS)
    if not outcome.is_settled:
        end(PARTIAL)
