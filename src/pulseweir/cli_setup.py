"""Commands that set a house up: devices, users, configuration, backup."""

import asyncio
import csv
import getpass
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pulseweir.cli_output import FINDINGS, AsJson, DataDir, end, explained, print_json, print_rows, settings_for
from pulseweir.clock import Clock, real_microseconds
from pulseweir.errors import RefuseToStart

setup_app = typer.Typer()
device_app = typer.Typer(no_args_is_help=True, help="The hub's registry of devices.")
user_app = typer.Typer(no_args_is_help=True, help="People who may sign in.")
setup_app.add_typer(device_app, name="device")
setup_app.add_typer(user_app, name="user")

DeviceId = Annotated[str, typer.Argument(help="Id of the device; case-sensitive.")]
Kind = Annotated[str, typer.Option(help="Catalog kind, such as bedside-monitor; none takes the site's mapping.")]
_DAY_SECONDS = 86_400


@device_app.command("add")
def device_add(
    device_id: DeviceId,
    kind: Kind = "",
    key_file: Annotated[
        Path | None, typer.Option(help="File with the primary key, base64: an edge needs the hub's; never an argument.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Register a device with two new keys, or with its own. One that exists is refused and keeps its own."""
    from pulseweir.ingest.hub.registry import DeviceEntry

    with explained():
        key = _key_in(key_file) if key_file else None
        device = _registry(data_dir).add(DeviceEntry(device_id, kind=kind, primary_key=key))
        host = settings_for(data_dir).hub.host_names[0]
    connection = f"HostName={host};DeviceId={device.device_id};SharedAccessKey={device.primary_key}"
    if as_json:
        print_json({"device_id": device.device_id, "kind": device.kind, "connection_string": connection})
    else:
        typer.echo(connection)


@device_app.command("list")
def device_list(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every device, without keys: registered or heard of, when it last measured, how far its clock is off."""
    from pulseweir.operations.device_clocks import known_devices, shown

    with explained():
        registered = [_without_keys(device) for device in _registry(data_dir).list_devices()]
        heard = known_devices(settings_for(data_dir), Clock())
    others = sorted(heard.keys() - {device["device_id"] for device in registered})
    listed = [*registered, *({"device_id": one, "kind": "", "enabled": None, "children": None} for one in others)]
    devices = [device | shown(heard.get(device["device_id"])) for device in listed]
    if as_json:
        print_json(devices)
    else:
        print_rows(devices, ("device_id", "kind", "enabled", "children", "last_measured_at", "clock", "signals"))


@device_app.command("show")
def device_show(device_id: DeviceId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One device, without keys, with when it was last heard of and how far its clock is off."""
    from pulseweir.operations.device_clocks import known_devices, shown

    with explained():
        known = known_devices(settings_for(data_dir), Clock()).get(device_id)
        registry = _registry(data_dir)
        device = registry.get(device_id)
        activity = registry.activity().get(device_id)
    if device is None:
        typer.echo(f"pulseweir: no device {device_id}. Register it: pulseweir device add {device_id}", err=True)
        end(FINDINGS)
    row = {**_without_keys(device), "activity": activity, **shown(known)}
    print_json(row) if as_json else print_rows([row], tuple(row))


@device_app.command("disable")
def device_disable(device_id: DeviceId, data_dir: DataDir = None) -> None:
    """Refuse a device from now on; a live connection is cut within seconds."""
    with explained():
        _registry(data_dir).disable(device_id)


@device_app.command("enable")
def device_enable(device_id: DeviceId, data_dir: DataDir = None) -> None:
    """Let a disabled device connect again."""
    with explained():
        _registry(data_dir).enable(device_id)


@device_app.command("rotate-key")
def device_rotate_key(device_id: DeviceId, data_dir: DataDir = None) -> None:
    """Replace the key that is not in use: the old primary becomes the secondary. Prints the new connection string."""
    with explained():
        device = _registry(data_dir).rotate_key(device_id)
        host = settings_for(data_dir).hub.host_names[0]
    typer.echo(f"HostName={host};DeviceId={device.device_id};SharedAccessKey={device.secondary_key}")


@device_app.command("sas")
def device_sas(
    device_id: DeviceId,
    data_dir: DataDir = None,
    for_seconds: Annotated[int, typer.Option("--for", min=60, help="Lifetime of the token, seconds.")] = _DAY_SECONDS,
) -> None:
    """Print a shared access signature, for clients that cannot make one."""
    from pulseweir.ingest.hub.sas import make_token

    with explained():
        device = _registry(data_dir).get(device_id)
        host = settings_for(data_dir).hub.host_names[0]
    if device is None:
        typer.echo(f"pulseweir: no device {device_id}. Register it: pulseweir device add {device_id}", err=True)
        end(FINDINGS)
    typer.echo(make_token(host, device_id, device.primary_key, real_microseconds() // 1_000_000 + for_seconds))


@device_app.command("import")
def device_import(
    path: Annotated[Path, typer.Argument(help="CSV with the columns device_id, kind.", exists=True, dir_okay=False)],
    data_dir: DataDir = None,
) -> None:
    """Register many devices; those that exist keep their keys."""
    from pulseweir.ingest.hub.registry import DeviceEntry

    with explained(), path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if "device_id" not in (rows.fieldnames or ()):
            raise RefuseToStart(f"{path}: no column device_id in its first line. Its columns are device_id, kind.")
        entries = [DeviceEntry(row["device_id"], kind=row.get("kind") or "") for row in rows]
        count = _registry(data_dir).import_entries(entries)
    typer.echo(f"{count} devices registered.")


@device_app.command("assign")
def device_assign(
    device_id: DeviceId,
    patient: Annotated[str, typer.Option(help="FHIR id of the Patient.")],
    data_dir: DataDir = None,
    since: Annotated[str | None, typer.Option("--from", help="ISO instant with zone; now when not given.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="ISO instant with zone; open when not given.")] = None,
    replacing: Annotated[bool, typer.Option("--replace", help="Take exactly this span from whoever has it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which Patient has the device, from when to when. An earlier open association ends where it begins."""
    from pulseweir.operations.assign import assign

    with explained():
        made = _wait(assign(settings_for(data_dir), device_id, patient, since, until, replacing=replacing))
    _report(made, as_json)


@device_app.command("release")
def device_release(
    device_id: DeviceId,
    data_dir: DataDir = None,
    instant: Annotated[str | None, typer.Option("--at", help="ISO instant with zone; now when not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say that nobody has the device any longer: the association that holds at that instant ends there."""
    from pulseweir.operations.assign import release

    with explained():
        made = _wait(release(settings_for(data_dir), device_id, instant))
    _report(made, as_json)


@device_app.command("assignments")
def device_assignments(device_id: DeviceId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Who had the device when. Exit 1 when two patients have it at one instant, or a statement cannot be read."""
    from pulseweir.operations.assign import list_assignments

    with explained():
        rows = _wait(list_assignments(settings_for(data_dir), device_id))
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("patient", "start", "end", "statement", "fault"))
    end(FINDINGS if any(row["fault"] for row in rows) else 0)


@user_app.command("add")
def user_add(
    name: Annotated[str, typer.Argument(help="What the person signs in with.")],
    role: Annotated[str, typer.Option(help="nurse, charge-nurse, clinician, ops or viewer-deid.")],
    ward: Annotated[list[str] | None, typer.Option(help="Ward the person may see; repeat for several.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Add a person. The password is asked for, or read from standard input: never an argument."""
    from pulseweir.systems import open_repository
    from pulseweir.web.accounts import add_user

    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    with explained():
        repository = open_repository(settings_for(data_dir), Clock())
        add_user(repository, name, password, role, ward)


@setup_app.command("config")
def config(data_dir: DataDir = None) -> None:
    """The settings in force, secrets masked."""
    with explained():
        shown = settings_for(data_dir).model_dump(mode="json")
    print_json(shown)


@setup_app.command("backup")
def backup(target: Annotated[Path, typer.Argument(help="Folder to create.")], data_dir: DataDir = None) -> None:
    """Copy the data directory while everything runs: databases by their own online backup."""
    from pulseweir.operations.backup import backup as copy

    with explained():
        files = copy(settings_for(data_dir).data_dir, target)
    typer.echo(f"{files} files copied to {target}.")


@setup_app.command("restore")
def restore(source: Annotated[Path, typer.Argument(help="A backup's folder.")], data_dir: DataDir = None) -> None:
    """Put a backup in place of an empty data directory; start the house afterwards."""
    from pulseweir.operations.backup import restore as put_back

    with explained():
        files = put_back(source, settings_for(data_dir).data_dir)
    typer.echo(f"{files} files restored.")


def _registry(data_dir: Path | None) -> Any:
    from pulseweir.systems import open_registry

    return open_registry(settings_for(data_dir), Clock())


def _key_in(path: Path) -> str:
    from pulseweir.errors import RefuseToStart

    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise RefuseToStart(f"{path} cannot be read ({error.strerror}). Name another file with --key-file.") from error


def _without_keys(device: Any) -> dict[str, Any]:
    row = msgspec.to_builtins(device)
    return {name: value for name, value in row.items() if not name.endswith("_key")}


def _report(made: Any, as_json: bool) -> None:
    """What was written, and a warning where Observations are already filed otherwise."""
    if as_json:
        print_json(asdict(made))
    if made.recorded:
        typer.echo(
            f"pulseweir: FHIR already holds {made.recorded} Observations of {made.device_id} in that span for somebody"
            " else. They stay as they are: look at them, and correct them in the FHIR service.",
            err=True,
        )


def _wait(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)
