"""Every error of the house, sorted by what the caller does.

::

    PulseweirError
    ├── RetryLater        the world may recover: wait, try again; nothing is lost meanwhile
    ├── RejectRecord      this record never succeeds: quarantine it, go on with its neighbours
    └── RefuseToStart     the operator must act: configuration, version, permission

A worker has one ``except`` clause for each of the three and no others. Messages name the place and
end with the remedy; they never hold patient data.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class PulseweirError(Exception):
    """The root. Raised only through one of its three kinds."""


class RetryLater(PulseweirError):
    """The world may recover: wait and try again.

    Attributes:
        retry_after_seconds: How long the other side asked us to wait; None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class RejectRecord(PulseweirError):
    """This record never succeeds as it is: it goes to quarantine with this error's facts.

    Attributes:
        reason: Stable kebab-case word that counts and lists group by.
        template: Name or index of the mapping template at fault, if one is.
        expression: The expression at fault, if one is.
        position: Where in the record, if known (a path or a byte offset).
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        template: str | None = None,
        expression: str | None = None,
        position: str | None = None,
    ) -> None:
        self.reason = reason
        self.template = template
        self.expression = expression
        self.position = position
        super().__init__(message)


class RefuseToStart(PulseweirError):
    """The operator must act before this process can run."""


class BusUnavailable(RetryLater):
    """The bus could not store or read; nothing was appended or committed."""

    def __init__(self, topic: str, cause: str) -> None:
        self.topic = topic
        super().__init__(
            f"Topic {topic}: {cause}. Nothing was stored; check disk space and permissions of the data directory."
        )


class LeaseLost(RetryLater):
    """Another process now owns this shard; what was read and not committed is read again there."""

    def __init__(self, topic: str, group: str, shard: int) -> None:
        self.topic = topic
        self.group = group
        self.shard = shard
        super().__init__(
            f"Shard {shard} of {topic} moved away from this member of group {group}. "
            "Its records are read again by the new owner."
        )


class SqliteTooOld(RefuseToStart):
    """The SQLite library in use may lose data when two connections write one WAL file."""

    def __init__(self, version: str, needed: str) -> None:
        self.version = version
        super().__init__(
            f"SQLite {version} has the WAL-reset race; {needed} or newer is needed. "
            "Install the apsw wheel: pip install -U apsw."
        )


class DataDirectoryNewer(RefuseToStart):
    """A file in the data directory was written by a newer pulseweir."""

    def __init__(self, path: str, found: int, known: int) -> None:
        self.path = path
        super().__init__(
            f"{path} has schema version {found}, this pulseweir knows up to {known}. "
            "Upgrade pulseweir, or restore a backup."
        )


class HubRefusedDevice(RefuseToStart):
    """The hub does not let this device in: its key, its id or its protocol is wrong."""

    def __init__(self, device_id: str, code: int) -> None:
        self.device_id = device_id
        self.code = code
        super().__init__(
            f"The hub refused device {device_id} (code {code}). Check that it is registered and enabled, and its key: "
            f"pulseweir device show {device_id}."
        )


class HubUnreachable(RetryLater):
    """A device could not reach its hub, or got no acknowledgement, for longer than it may wait."""

    def __init__(self, device_id: str, host: str, port: int, waited_seconds: float) -> None:
        self.device_id = device_id
        super().__init__(
            f"Device {device_id}: no acknowledgement from {host}:{port} for {waited_seconds:.0f} s. "
            "Its messages are not lost for the hub: send them again. Is the hub running? pulseweir status"
        )


class RecordingInvalid(RefuseToStart):
    """A recording cannot be read as the format it is said to be."""

    def __init__(self, file: str, line: int | None, problem: str) -> None:
        self.file = file
        self.line = line
        place = file if line is None else f"{file}, line {line}"
        super().__init__(f"{place}: {problem}. Nothing was sent; correct the file or choose another format.")


class ProtocolViolation(RejectRecord):
    """A peer broke the rules of its protocol: its connection is closed, others are untouched."""

    def __init__(self, reason: str, rule: str) -> None:
        super().__init__(
            f"The peer broke the protocol: {rule}. Its connection is closed; correct the client.", reason=reason
        )


class DeviceRefused(RejectRecord):
    """A device may not connect or send: unknown, disabled, or its token does not hold."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"Device refused ({reason}). {remedy}", reason=reason)


class DeviceNotRegistered(RejectRecord):
    """An operator named a device that the registry does not hold."""

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id
        super().__init__(
            f"Device {device_id} is not registered. Add it: pulseweir device add {device_id} --kind KIND.",
            reason="unknown-device",
        )


class DeviceAlreadyRegistered(RejectRecord):
    """An operator added a device that the registry holds already; it was not changed."""

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id
        super().__init__(
            f"Device {device_id} is registered already; nothing was changed. "
            f"See it: pulseweir device show {device_id}.",
            reason="device-exists",
        )


class DeviceEntryInvalid(RejectRecord):
    """A device's id or key cannot be registered as it is."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"The device cannot be registered: {problem}. {remedy}", reason="invalid-device")


class PlainListenerExposed(RefuseToStart):
    """A listener without TLS would be reachable from other machines."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"The hub refuses to listen without TLS on {address}: only loopback may be plain. "
            "Set hub.plain_address to 127.0.0.1, and give hub.certificate_file and hub.private_key_file for the others."
        )


class ListenerUnavailable(RefuseToStart):
    """A port of the hub could not be opened."""

    def __init__(self, address: str, port: int, cause: str) -> None:
        self.port = port
        super().__init__(
            f"The hub cannot listen on {address}:{port}: {cause}. Choose another port, or stop what holds it."
        )


class CertificateUnusable(RefuseToStart):
    """The hub's certificate or private key cannot be read."""

    def __init__(self, path: str, cause: str) -> None:
        self.path = path
        super().__init__(f"Certificate {path} with its private key cannot be used: {cause}. Give both as PEM files.")


class ArchiveUnavailable(RetryLater):
    """The raw archive could not be written; nothing of the batch counts as archived."""

    def __init__(self, directory: str, cause: str) -> None:
        super().__init__(
            f"Raw archive {directory}: {cause}. Nothing is lost: free disk space or correct its permissions."
        )


@dataclass(frozen=True, slots=True)
class MappingFault:
    """One thing wrong in a mapping file.

    Attributes:
        line: 1-based line in the file; 0 when the mapping did not come from text.
        column: 1-based column; 0 as above.
        member: Path of the member at fault, such as ``template[2].template.values[0].valueName``.
        problem: What is wrong.
        remedy: What to write instead.
    """

    line: int
    column: int
    member: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{where}{self.member}: {self.problem} {self.remedy}".strip()


class MappingError(RefuseToStart):
    """A device or FHIR mapping cannot be used; every fault is listed, not only the first.

    Attributes:
        source: File name, or a word for where the mapping came from.
        faults: All of them, in file order.
    """

    def __init__(self, source: str, faults: Sequence[MappingFault]) -> None:
        self.source = source
        self.faults = tuple(faults)
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(f"{source}: Validation errors:\n{lines}\nCorrect them and run: pulseweir mapping check")


class MessageError(RejectRecord):
    """A device message, or a group of measurements, that its mapping cannot turn into results."""


class ImplausibleValue(RejectRecord, ValueError):
    """A value no living patient can have, or that is no value of its quantity; most often a wrong unit.

    Attributes:
        quantity: What was to be scored.
        value: What was given; not in the sentence, which may reach a log.
        plausible: The range or the words that are accepted.
    """

    def __init__(self, quantity: str, value: object, plausible: str) -> None:
        self.quantity = quantity
        self.value = value
        self.plausible = plausible
        super().__init__(
            f"The {quantity} given is not {plausible}. Check its unit, or pass None when it was not measured.",
            reason="implausible-value",
        )


class ArchiveDamaged(RefuseToStart):
    """A closed segment of the raw archive no longer is what was written."""

    def __init__(self, path: str, offset: int) -> None:
        self.path = path
        self.offset = offset
        super().__init__(
            f"Raw archive segment {path} is damaged at byte {offset}. Restore this file from a backup; "
            "what stands before that byte is whole."
        )


class AccountInvalid(RejectRecord):
    """An account cannot be made as it was asked for."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"The account cannot be made: {problem}. {remedy}", reason="invalid-account")


class PlainUpstream(RefuseToStart):
    """An edge would send device messages without TLS to another machine."""

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(
            f"The edge refuses to send to {host} without TLS: only loopback may be plain. "
            "Set edge.upstream_tls to true and edge.upstream_certificate_file to the hub's authority."
        )


class FhirRefused(RejectRecord):
    """The FHIR service understood the request and will not do it; sending it again changes nothing.

    Attributes:
        status: HTTP status of the answer.
        resource_type: Type of the resource that was asked for or sent.
        issue_text: What the service's OperationOutcome says.
    """

    def __init__(self, status: int, resource_type: str, issue_text: str, *, expression: str | None = None) -> None:
        self.status = status
        self.resource_type = resource_type
        self.issue_text = issue_text
        super().__init__(
            f"The FHIR service refused {resource_type} with {status}: {issue_text} {self.remedy}",
            reason="fhir-refused",
            expression=expression,
        )

    @property
    def remedy(self) -> str:
        """What to do next."""
        return "Correct the mapping or the resource, then redrive."


class FhirConflict(FhirRefused):
    """Another version is there, or several resources match (409, 412): read again, then decide."""

    @property
    def remedy(self) -> str:
        """What to do next."""
        return "Read the resource again, then repeat the change on its newest version."


class FhirUnavailable(RetryLater):
    """The FHIR service gave no usable answer; `status` is None when it gave none: send all of it again."""

    def __init__(self, cause: str, *, status: int | None = None, retry_after_seconds: float | None = None) -> None:
        self.status = status
        text = f"The FHIR service {cause}. Nothing is lost; look at the service, its load and fhir.base_url."
        super().__init__(text, retry_after_seconds=retry_after_seconds)


class LakeUnavailable(RetryLater):
    """The lake could not store or read; nothing was appended."""

    def __init__(self, table: str, cause: str) -> None:
        self.table = table
        super().__init__(
            f"Lake table {table}: {cause}. Nothing was stored; check the lake's disk space and permissions."
        )


class AlertCommandRefused(RejectRecord):
    """A person asked something of an alert that cannot be done to it."""

    def __init__(self, alert_id: str, command: str, cause: str) -> None:
        self.alert_id = alert_id
        self.command = command
        super().__init__(f"Cannot {command} alert {alert_id}: {cause}", reason="alert-command-refused")


class ChannelRefused(RejectRecord):
    """A notification channel will not take this message, now or later."""

    def __init__(self, channel: str, cause: int | str) -> None:
        self.channel = channel
        self.cause = cause
        super().__init__(
            f"Channel {channel} refused a notification: {cause}. Check its address and its permissions.",
            reason="channel-refused",
        )


class ChannelUnavailable(RetryLater):
    """A notification channel did not answer, or asked for patience."""

    def __init__(self, channel: str, cause: str, *, retry_after_seconds: float | None = None) -> None:
        self.channel = channel
        super().__init__(
            f"Channel {channel} did not take a notification: {cause}. It is tried again, then the next channel is.",
            retry_after_seconds=retry_after_seconds,
        )
