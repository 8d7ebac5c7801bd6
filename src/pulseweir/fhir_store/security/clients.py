"""The operator's clients: names, scopes, and the hashes of their tokens, in one file that the server watches.

A token is 256 random bits, so that its plain SHA-256 tells nobody the token. The file is replaced as a whole, and a
change counts from the next request on.
"""

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pulseweir.clock import to_text
from pulseweir.errors import RefuseToStart
from pulseweir.fhir_store.parameters import RESOURCE_TYPES
from pulseweir.fhir_store.security.caller import Caller
from pulseweir.fhir_store.security.scopes import Grant, ScopeError, read_scope, read_scopes
from pulseweir.fhir_store.validation import is_resource_id

CLIENTS_NAME, HOUSE_TOKEN_NAME = "clients.json", "house.token"
_TOKEN_PREFIX = "pwf_"  # noqa: S105 - not a secret: it tells a leaked token from other texts


class ClientEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One client.

    Attributes:
        name: What the audit calls it.
        scopes: SMART scopes, one text each.
        token_hash: SHA-256 of its token in hexadecimal; "" when it has none.
        certificate: Common name of its client certificate; "" when it has none.
        patient: Logical id of the Patient it is bound to; None for no such bond.
        created: Instant at which it was made.
        expires_microseconds: When it ends; None for never.
    """

    name: str
    scopes: tuple[str, ...]
    token_hash: str = ""
    certificate: str = ""
    patient: str | None = None
    created: str = ""
    expires_microseconds: int | None = None

    def caller(self) -> Caller:
        """The caller it stands for."""
        return Caller(self.name, read_scopes(self.scopes), self.patient)


class ClientsUnusable(RefuseToStart):
    """The file of clients cannot be read, or a client in it cannot be made as asked."""


class Clients:
    """The clients of a file, read anew when the file changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = str(path)
        self._stamp: tuple[int, int] | None = None
        self._callers: list[tuple[ClientEntry, Caller]] = []
        self._look()

    def __bool__(self) -> bool:
        """Whether there is a file, be it without clients: who takes the last token back means nobody, not anybody."""
        self._look()
        return self._stamp is not None

    def by_token(self, token: str, now_microseconds: int) -> Caller | None:
        """The caller that a token stands for; None when it is nobody's, or past its end."""
        self._look()
        presented = token_hash(token)
        found = None
        for entry, caller in self._callers:
            if hmac.compare_digest(entry.token_hash, presented) and _is_valid(entry, now_microseconds):
                found = caller
        return found

    def by_name(self, name: str, now_microseconds: int) -> Caller | None:
        """The caller that a client's name stands for now; None when there is no such client, or no more."""
        self._look()
        for entry, caller in self._callers:
            if entry.name == name and _is_valid(entry, now_microseconds):
                return caller
        return None

    def by_certificate(self, common_name: str, now_microseconds: int) -> Caller | None:
        """The caller that the common name of a checked certificate stands for; None when it is nobody's."""
        self._look()
        for entry, caller in self._callers:
            if entry.certificate == common_name and _is_valid(entry, now_microseconds):
                return caller
        return None

    def _look(self) -> None:
        # Asked at every request: `access` is quick where no file is, which is the common case.
        if not os.access(self._name, os.F_OK):
            self._stamp, self._callers = None, []
            return
        facts = os.stat(self._name)  # noqa: PTH116 - quicker than through the path
        stamp = (facts.st_mtime_ns, facts.st_ino)
        if stamp != self._stamp:
            self._callers = [(entry, entry.caller()) for entry in read_clients(self.path)]
            self._stamp = stamp


def _is_valid(entry: ClientEntry, now_microseconds: int) -> bool:
    return entry.expires_microseconds is None or now_microseconds < entry.expires_microseconds


def token_hash(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_clients(path: Path) -> list[ClientEntry]:
    """The clients of a file, none when there is no file.

    Raises:
        ClientsUnusable: It cannot be read, or is not what `pulseweir fhir token` writes.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[ClientEntry])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise ClientsUnusable(f"{path} cannot be used ({type(error).__name__}). Restore it from a backup.") from error


def add_client(path: Path, entry: ClientEntry, now_microseconds: int) -> str:
    """Add a client and give its token, "" for one with a certificate; the token is kept nowhere.

    Raises:
        ClientsUnusable: The name is taken, a scope or the patient's id cannot be used, or the file not be written.
    """
    if not any(_grants(entry.scopes)):
        raise ClientsUnusable("A client needs a scope that allows something. Example: --scope system/Observation.rs")
    if entry.patient is not None and not is_resource_id(entry.patient):
        raise ClientsUnusable("--patient takes the logical id of a Patient, such as p1.")
    token = "" if entry.certificate else _TOKEN_PREFIX + secrets.token_urlsafe(32)
    made = msgspec.structs.replace(
        entry, token_hash=token_hash(token) if token else "", created=to_text(now_microseconds)
    )
    with _alone(path):
        entries = read_clients(path)
        if any(each.name == entry.name for each in entries):
            raise ClientsUnusable(f"There is a client {entry.name} already. Revoke it first, or choose another name.")
        _write(path, [*entries, made])
    return token


def revoke_client(path: Path, name: str) -> bool:
    """Remove a client; its token counts for nothing from now on. False when there is none of that name.

    Raises:
        ClientsUnusable: The file cannot be read or written.
    """
    if not path.exists():
        return False
    with _alone(path):
        entries = read_clients(path)
        kept = [each for each in entries if each.name != name]
        if len(kept) < len(entries):
            _write(path, kept)
    return len(kept) < len(entries)


def house_token(directory: Path) -> str:
    """The token of this house's own roles, made by whoever asks first; readable by the owner only.

    Args:
        directory: Where the FHIR store lies.

    Raises:
        ClientsUnusable: It can be neither read nor made.
    """
    path = directory / HOUSE_TOKEN_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = directory / f"{HOUSE_TOKEN_NAME}.{secrets.token_hex(4)}"
        if not path.exists():
            _write_private(unfinished, (_TOKEN_PREFIX + secrets.token_urlsafe(32)).encode())
            try:
                # A link fails when another role was first, and never shows half a token.
                os.link(unfinished, path)
            except FileExistsError:
                pass
            finally:
                unfinished.unlink()
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ClientsUnusable(f"{path} cannot be used ({error.strerror}). Check its owner and permissions.") from error


def _grants(scopes: Sequence[str]) -> list[Grant | None]:
    try:
        return [read_scope(text) for text in scopes]
    except ScopeError as error:
        raise ClientsUnusable(f"{error} Types: {', '.join(RESOURCE_TYPES)}.") from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One change of the file at a time: a second command would put back the client that the first revokes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as error:
        text = f"{path} cannot be written ({error.strerror}). Check its owner, permissions and disk."
        raise ClientsUnusable(text) from error


def _write(path: Path, entries: list[ClientEntry]) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    _write_private(unfinished, msgspec.json.format(msgspec.json.encode(entries), indent=1))
    unfinished.rename(path)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
