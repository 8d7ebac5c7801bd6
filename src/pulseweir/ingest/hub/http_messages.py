"""Step 1: device messages in HTTPS requests of the Azure IoT Hub dialect. Pure."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from pulseweir.errors import RejectRecord
from pulseweir.ingest.hub.dialect import CREATION_TIME_PROPERTY, MESSAGE_ID, Properties

BATCH_TYPE = "application/vnd.microsoft.iothub.json"
LARGEST_BATCH_MESSAGES = 1_000
_APPLICATION_PREFIX = "iothub-app-"
_SYSTEM_HEADERS = {
    "iothub-messageid": MESSAGE_ID,
    "iothub-correlationid": "correlation-id",
    "iothub-userid": "user-id",
    "iothub-contenttype": "content-type",
    "iothub-contentencoding": "content-encoding",
}


class HttpMessage(NamedTuple):
    """One message of a request."""

    body: bytes
    properties: Properties


class _BatchItem(msgspec.Struct, rename="camel"):
    body: str
    base64_encoded: bool = True
    properties: dict[str, str] = {}


_BATCH = msgspec.json.Decoder(list[_BatchItem])


def properties_of(headers: Iterable[tuple[str, str]] | Mapping[str, str]) -> Properties:
    """The message properties among headers, whose names are taken in lower case.

    >>> properties_of({"iothub-messageid": "m1", "iothub-app-ward": "A", "host": "hub"})
    Properties(application={'ward': 'A'}, system={'message-id': 'm1'})
    """
    application: dict[str, str] = {}
    system: dict[str, str] = {}
    for name, content in headers.items() if isinstance(headers, Mapping) else headers:
        lowered = name.lower()
        if lowered.startswith(_APPLICATION_PREFIX):
            application[name[len(_APPLICATION_PREFIX) :]] = content
        elif lowered == CREATION_TIME_PROPERTY:
            application[CREATION_TIME_PROPERTY] = content
        elif lowered in _SYSTEM_HEADERS:
            system[_SYSTEM_HEADERS[lowered]] = content
    return Properties(application, system)


def parse_batch(body: bytes) -> list[HttpMessage]:
    """The messages of a batch body: ``[{"body": base64, "properties": {…}}, …]``.

    ``"base64Encoded": false`` marks a body given as plain text.

    Raises:
        RejectRecord: ``malformed-batch``; nothing of it is taken.
    """
    try:
        items = _BATCH.decode(body)
        if not 0 < len(items) <= LARGEST_BATCH_MESSAGES:
            raise _malformed(f"it has {len(items)} messages, 1 to {LARGEST_BATCH_MESSAGES} are allowed")
        return [_message(item) for item in items]
    except (msgspec.ValidationError, RecursionError, Base64Error, ValueError):
        raise _malformed("it is not a list of {body, properties}, or a body is not base64") from None


def _message(item: _BatchItem) -> HttpMessage:
    body = b64decode(item.body, validate=True) if item.base64_encoded else item.body.encode()
    return HttpMessage(body, properties_of(item.properties))


def _malformed(problem: str) -> RejectRecord:
    return RejectRecord(f"The batch cannot be read: {problem}. Nothing of it was taken.", reason="malformed-batch")
