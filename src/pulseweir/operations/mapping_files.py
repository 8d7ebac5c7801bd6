"""Mapping files and message files as an operator has them: check, try, explain, lint, compare."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pulseweir.errors import RefuseToStart
from pulseweir.mapping import (
    Change,
    DeviceMapping,
    FhirMapping,
    Finding,
    MessageExplanation,
    Trial,
    check_device_mapping,
    check_fhir_mapping,
    diff,
    dry_run,
    explain,
    lint,
    located,
    read_messages,
)


class NamedMessage(NamedTuple):
    """One message, and what to call it.

    Attributes:
        name: Its file, with its number where the file holds several.
        message: A body or an envelope.
    """

    name: str
    message: object


def check_files(device_file: Path | None, fhir_file: Path | None) -> list[Finding]:
    """Faults that keep a file from loading, and expressions that fail on every message; empty for valid files.

    Raises:
        RefuseToStart: No file is given, or one cannot be read.
    """
    if device_file is None and fhir_file is None:
        raise RefuseToStart("No mapping is given. Name a file with --device-mapping, --fhir-mapping, or both.")
    return [
        *(_checked(device_file, check_device_mapping, "device") if device_file else ()),
        *(_checked(fhir_file, check_fhir_mapping, "fhir") if fhir_file else ()),
    ]


def lint_files(device_file: Path | None, fhir_file: Path | None, message_files: Sequence[Path] = ()) -> list[Finding]:
    """Everything worth a look in the files, and in what they make of messages; faults first, with their places.

    Raises:
        RefuseToStart: No mapping is given, or a file cannot be read.
    """
    faults = [one for one in check_files(device_file, fhir_file) if one.rule == "not-loadable"]
    if faults:
        return faults
    messages = [one.message for one in named_messages(message_files)]
    device = None if device_file is None else DeviceMapping.load(device_file)
    findings = lint(device, None if fhir_file is None else FhirMapping.load(fhir_file), messages)
    if device_file is not None:
        findings = located(findings, "device", _text(device_file), device_file.name)
    if fhir_file is not None:
        findings = located(findings, "fhir", _text(fhir_file), fhir_file.name)
    return findings


def try_files(
    device_file: Path, fhir_file: Path | None, message_files: Sequence[Path]
) -> list[tuple[NamedMessage, Trial]]:
    """What each message becomes.

    Raises:
        MappingError: A mapping does not load.
        RefuseToStart: A file cannot be read, or no message is given.
    """
    device, fhir = DeviceMapping.load(device_file), None if fhir_file is None else FhirMapping.load(fhir_file)
    messages = _some_messages(message_files)
    return list(zip(messages, dry_run(device, fhir, [one.message for one in messages]), strict=True))


def explain_files(
    device_file: Path, fhir_file: Path | None, message_files: Sequence[Path], *, show_values: bool = False
) -> list[tuple[NamedMessage, MessageExplanation]]:
    """Why each template did or did not match each message.

    Raises:
        MappingError: A mapping does not load.
        RefuseToStart: As `try_files`.
    """
    device, fhir = DeviceMapping.load(device_file), None if fhir_file is None else FhirMapping.load(fhir_file)
    return [(one, explain(device, one.message, fhir, show_values=show_values)) for one in _some_messages(message_files)]


def diff_files(
    device_files: Sequence[Path],
    fhir_files: Sequence[Path],
    message_files: Sequence[Path],
    *,
    show_values: bool = False,
) -> list[tuple[NamedMessage, Change]]:
    """What the second of two versions makes different of each message; a file given once serves both versions.

    Raises:
        MappingError: A mapping does not load.
        RefuseToStart: As `try_files`; or a mapping is given more than twice, or none of them twice.
    """
    if not 1 <= len(device_files) <= 2 or len(fhir_files) > 2 or len(device_files) + len(fhir_files) < 2:
        raise RefuseToStart(
            "Two versions are compared: give --device-mapping or --fhir-mapping twice, the old one first;"
            " what is given once serves both."
        )
    if len(device_files) == 1 and len(fhir_files) == 1:
        raise RefuseToStart("Both mappings are given once, so nothing can differ. Give one of them twice.")
    devices = [DeviceMapping.load(path) for path in device_files]
    fhirs: list[FhirMapping | None] = [FhirMapping.load(path) for path in fhir_files] or [None]
    messages = _some_messages(message_files)
    changes = diff(
        (devices[0], fhirs[0]),
        (devices[-1], fhirs[-1]),
        [one.message for one in messages],
        show_values=show_values,
    )
    return [(messages[change.message], change) for change in changes]


def named_messages(paths: Sequence[Path]) -> list[NamedMessage]:
    """The messages of some files, in order.

    Raises:
        RefuseToStart: A file cannot be read or is not JSON.
    """
    messages: list[NamedMessage] = []
    for path in paths:
        found = read_messages(_bytes(path), path.name)
        several = len(found) > 1
        messages += [
            NamedMessage(f"{path}, message {at + 1}" if several else str(path), one) for at, one in enumerate(found)
        ]
    return messages


def _some_messages(paths: Sequence[Path]) -> list[NamedMessage]:
    messages = named_messages(paths)
    if not messages:
        raise RefuseToStart("No message is given. Name a file: --message message.json.")
    return messages


def _checked(path: Path, check: Callable[..., list[Finding]], mapping: Literal["device", "fhir"]) -> list[Finding]:
    try:
        return check(_bytes(path).decode("utf-8-sig"), source=path.name)
    except UnicodeDecodeError as error:
        message = f"The file is not UTF-8 at byte {error.start + 1}."
        return [Finding("error", "not-loadable", "document", message, "Save it as UTF-8.", mapping, file=path.name)]


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8-sig")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefuseToStart(f"{path} cannot be read ({error.strerror}). Name another file.") from error
