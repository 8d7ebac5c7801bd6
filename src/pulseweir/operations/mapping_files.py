"""Mapping files as an operator has them: check, try, explain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pulseweir.errors import MappingError, RefuseToStart
from pulseweir.mapping import DeviceMapping, FhirMapping, Finding, check, dry_run, explain


def check_files(device_file: Path, fhir_file: Path) -> list[Finding]:
    """Faults that keep a file from loading, else everything suspicious in the pair; empty when nothing is."""
    findings: list[Finding] = []
    for path, mapping in ((device_file, DeviceMapping), (fhir_file, FhirMapping)):
        try:
            mapping.load(path)
        except MappingError as error:
            findings += [
                Finding(
                    "error",
                    "not-loadable",
                    f"{path.name}:{fault.line}:{fault.column} {fault.member}",
                    f"{fault.problem} {fault.remedy}",
                )
                for fault in error.faults
            ]
    return findings or check(DeviceMapping.load(device_file), FhirMapping.load(fhir_file))


def try_files(device_file: Path, fhir_file: Path, message_files: Sequence[Path]) -> list[dict[str, Any]]:
    """What each message becomes: measurements, Observations, warnings, the error if any.

    Raises:
        MappingError: A mapping does not load.
        RefuseToStart: A message file is not JSON.
    """
    device, fhir = DeviceMapping.load(device_file), FhirMapping.load(fhir_file)
    return list(dry_run(device, fhir, [_message(path) for path in message_files]))


def explain_files(device_file: Path, message_files: Sequence[Path]) -> list[list[dict[str, Any]]]:
    """For each message and template why it did or did not match.

    Raises:
        MappingError: The mapping does not load.
        RefuseToStart: A message file is not JSON.
    """
    device = DeviceMapping.load(device_file)
    return [list(explain(device, _message(path))) for path in message_files]


def _message(path: Path) -> object:
    try:
        return msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise RefuseToStart(f"{path} cannot be read ({error.strerror}). Name another file with --message.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefuseToStart(f"{path} is not JSON that can be read. Correct the file.") from error
