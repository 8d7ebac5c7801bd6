"""Every error of the house, sorted by what the caller does.

::

    PulseweirError
    ├── RetryLater        the world may recover: wait, try again; nothing is lost meanwhile
    ├── RejectRecord      this record never succeeds: quarantine it, go on with its neighbours
    └── RefuseToStart     the operator must act: configuration, version, permission

A worker has one ``except`` clause for each of the three and no others. Messages name the place and
end with the remedy; they never hold patient data.
"""


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
