"""Steps 5, 7, 13: how this house shows the FHIR service who it is.

A header made of a secret, a token in a file that somebody else renews, or tokens of a SMART authorization server
(`fhir_backend_services`). Secrets are in no error, no log line and no metric, and leave for the configured origin only.
"""

from base64 import b64encode
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from pulseweir.errors import FhirUnavailable, RefuseToStart, RetryLater

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Credentials(Protocol):
    """What goes into the Authorization header of every request."""

    async def authorization(self) -> str:
        """The header's value now.

        Raises:
            RetryLater: It cannot be had now.
        """
        ...

    async def renew(self, refused: str) -> bool:
        """After 401: whether there is another value than the refused one now.

        Raises:
            RetryLater: It cannot be had now.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class FhirAccessRefused(RetryLater):
    """The FHIR service's door stays shut for this house; whatever waits is kept until it opens."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"No access to the FHIR service: {problem}. Nothing is lost. {remedy}")


class FhirCredentialsUnusable(RefuseToStart):
    """The credentials for the FHIR service cannot be used as they are set."""


class FixedAuthorization:
    """One value for good."""

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def bearer(cls, token: str) -> "FixedAuthorization":
        """A token that the operator was given.

        Raises:
            FhirCredentialsUnusable: It holds something that no token can.
        """
        return cls(_bearer(token, "fhir.credentials.bearer_token"))

    @classmethod
    def basic(cls, user_name: str, password: str) -> "FixedAuthorization":
        """A user name and a password.

        Raises:
            FhirCredentialsUnusable: The user name holds a colon, which ends it.

        Source: RFC 7617.
        """
        if ":" in user_name:
            raise FhirCredentialsUnusable("fhir.credentials.user_name must not hold a colon. Ask for another name.")
        return cls("Basic " + b64encode(f"{user_name}:{password}".encode()).decode())

    async def authorization(self) -> str:
        """The value."""
        return self._value

    async def renew(self, refused: str) -> bool:
        """Never: there is no other."""
        return False

    async def close(self) -> None:
        """Nothing is open."""


class TokenFile:
    """A bearer token in a file, read again when it is refused.

    Raises:
        FhirCredentialsUnusable: The file holds something that no token can.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = self._read()

    async def authorization(self) -> str:
        """The token last read."""
        return self._value

    async def renew(self, refused: str) -> bool:
        """Read the file again.

        Raises:
            RetryLater: It cannot be read now.
        """
        try:
            self._value = self._read()
        except FhirCredentialsUnusable:
            raise FhirUnavailable("refused the token, and its file cannot be read") from None
        return self._value != refused

    async def close(self) -> None:
        """Nothing is open."""

    def _read(self) -> str:
        try:
            text = self._path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise FhirCredentialsUnusable(
                f"fhir.credentials.bearer_token_file {self._path}: {type(error).__name__}. Let this user read it."
            ) from None
        return _bearer(text.strip(), f"fhir.credentials.bearer_token_file {self._path}")


def is_safe(url: str) -> bool:
    """Whether a secret may be sent there: encrypted, or not leaving this machine. Pure.

    >>> is_safe("https://fhir.example.org/r4"), is_safe("http://127.0.0.1:8080/fhir"), is_safe("http://fhir.ward/r4")
    (True, True, False)
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _bearer(token: str, source: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise FhirCredentialsUnusable(f"{source} holds no bearer token: one word of ASCII characters. Write it anew.")
    return f"Bearer {token}"
