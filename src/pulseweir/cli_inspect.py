"""Commands that ask a house how it is: steps, status, conserve, quarantine, doctor, bench."""

from typing import Annotated

import typer

from pulseweir.cli_output import (
    DEPENDENCY_DOWN,
    FINDINGS,
    AsJson,
    DataDir,
    end,
    explained,
    print_json,
    print_rows,
    settings_for,
)

inspect_app = typer.Typer()
quarantine_app = typer.Typer(no_args_is_help=True, help="Rows that wait for a person: list, show, redrive, discard.")
inspect_app.add_typer(quarantine_app, name="quarantine")
audit_app = typer.Typer(no_args_is_help=True, help="The log of who looked at whom and did what.")
inspect_app.add_typer(audit_app, name="audit")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many it would be, and change nothing.")]
RecordIds = Annotated[list[str], typer.Argument(help="Ids as `quarantine list` prints them; `all` for every one.")]


@inspect_app.command()
def steps(as_json: AsJson = False) -> None:
    """The eighteen steps of the journey and the room of each."""
    from pulseweir.operations.steps import steps as all_steps

    found = all_steps()
    if as_json:
        print_json(found)
    else:
        print_rows(found, ("step", "path", "title", "module"))


@inspect_app.command()
def conserve(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Do the counts add up? Exit 1 when a message or a measurement is unaccounted for."""
    from pulseweir.operations.conserve import conserve as draw_up

    with explained():
        settings = settings_for(data_dir)
        found = draw_up(settings.data_dir / "bus", settings.bus)
    if as_json:
        print_json(found)
    else:
        rows = [
            {
                "balance": name,
                "total": balance.total,
                "done": sum(balance.done.values()),
                "quarantined": balance.quarantined,
                "filtered": sum(balance.filtered.values()),
                "in_flight": balance.in_flight,
                "difference": balance.difference,
            }
            for name, balance in (("messages", found.messages), ("measurements", found.measurements))
        ]
        print_rows(rows, tuple(rows[0]))
    end(FINDINGS if found.conservation_difference else 0)


@inspect_app.command()
def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Which roles run, and how far each consumer group is behind. Exit 3 when a role is down."""
    from pulseweir.operations.status import status as look

    with explained():
        found = look(settings_for(data_dir))
    if as_json:
        print_json(found)
    else:
        print_rows(found.roles, ("role", "running", "process", "ports"))
        print_rows(found.groups, ("topic", "group", "in_flight", "quarantined"))
    end(0 if all(role.running for role in found.roles) else DEPENDENCY_DOWN)


@inspect_app.command()
def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check this machine, the settings and the data directory. Exit 1 when something needs a hand."""
    from pulseweir.operations.doctor import examine

    with explained():
        findings = examine(settings_for(data_dir))
    if as_json:
        print_json(findings)
    else:
        print_rows(findings, ("check", "healthy", "found", "remedy"))
    end(0 if all(finding.healthy for finding in findings) else FINDINGS)


@inspect_app.command()
def bench(
    name: Annotated[str, typer.Argument(help="Which one; `all` for every one.")] = "all",
    against: Annotated[
        list[str] | None,
        typer.Option(help="NAME=URL of another FHIR R4 server to drive with the same load; repeat for several."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a part of the house beside what a user would otherwise pick, in the same run."""
    from pulseweir.operations.bench import peers, run

    with explained():
        report = run(name, peers(against or []))
    if as_json:
        print_json(report)
    else:
        print_rows(report.results, ("name", "per_second", "ratio", "against"))


@inspect_app.command()
def tap(
    data_dir: DataDir = None,
    group: Annotated[str, typer.Option(help="Name of this reader; each keeps its own place.")] = "default",
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """Print measurements as JSON lines in the predecessor's normalized format. This is patient data."""
    import asyncio
    import contextlib

    from pulseweir.operations.tap import tap as read

    with explained(), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(read(settings_for(data_dir), group, typer.echo, follow=follow))


@audit_app.command("verify")
def audit_verify(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Is the chained log as it was written? Exit 1 names the first record that was changed, removed or moved."""
    from pulseweir.backends.repository import people
    from pulseweir.clock import Clock
    from pulseweir.systems import open_repository

    with explained():
        repository = open_repository(settings_for(data_dir), Clock())
        with repository.reading() as transaction:
            broken_at = people.verify_acts(transaction)
        repository.close()
    if as_json:
        print_json({"whole": broken_at is None, "first_broken_record": broken_at})
    else:
        typer.echo("The log is whole." if broken_at is None else f"Record {broken_at} is not as it was written.")
    end(0 if broken_at is None else FINDINGS)


@quarantine_app.command("list")
def quarantine_list(
    data_dir: DataDir = None,
    parked: Annotated[bool, typer.Option("--parked", help="Rows that are tried again by themselves instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rows set aside, with the reason and the remedy; no patient data."""
    from pulseweir.operations.quarantine import listed

    with explained():
        rows = listed(settings_for(data_dir).data_dir / "bus", parked=parked)
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("id", "topic", "group", "reason", "place", "message", "since"))


@quarantine_app.command("show")
def quarantine_show(
    record_id: Annotated[str, typer.Argument(help="Id as `quarantine list` prints it.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """One row with its data. This is patient data: for the operator's eyes only."""
    from pulseweir.operations.quarantine import shown

    with explained():
        row = shown(settings_for(data_dir).data_dir / "bus", record_id)
    if row is None:
        typer.echo("pulseweir: no row has this id. `pulseweir quarantine list` prints them.", err=True)
        end(FINDINGS)
    if as_json:
        print_json(row)
    else:
        print_rows([{"column": name, "value": value} for name, value in row.items()], ("column", "value"))


@quarantine_app.command("redrive")
def quarantine_redrive(record_ids: RecordIds, data_dir: DataDir = None, dry_run: DryRun = False) -> None:
    """Try rows again after a fix. Twice changes nothing."""
    from pulseweir.operations.quarantine import redrive

    with explained():
        ids = _existing(data_dir, record_ids)
        moved = len(ids) if dry_run else redrive(settings_for(data_dir).data_dir / "bus", ids)
    typer.echo(f"{moved} of {len(record_ids)} {'would be' if dry_run else 'are'} tried again.")


@quarantine_app.command("discard")
def quarantine_discard(
    record_ids: RecordIds,
    reason: Annotated[str, typer.Option(help="Why they are not needed; kept in the log.")],
    data_dir: DataDir = None,
    dry_run: DryRun = False,
) -> None:
    """Drop rows for good; they count as filtered:discarded from then on."""
    import structlog

    from pulseweir.operations.quarantine import discard

    with explained():
        ids = _existing(data_dir, record_ids)
        dropped = len(ids) if dry_run else discard(settings_for(data_dir).data_dir / "bus", ids)
    if dropped and not dry_run:
        structlog.get_logger().warning("quarantine_discarded", rows=dropped, reason=reason)
    typer.echo(f"{dropped} of {len(record_ids)} {'would be' if dry_run else 'were'} dropped.")


def _existing(data_dir: DataDir, record_ids: list[str]) -> list[str]:
    from pulseweir.operations.quarantine import listed

    known = {row.id for row in listed(settings_for(data_dir).data_dir / "bus", row_limit=1_000_000)}
    return sorted(known if record_ids == ["all"] else known & set(record_ids))
