"""Step 18: opens the channels that the settings set up."""

import ssl

from pulseweir.backends.channels.base import Channel
from pulseweir.backends.channels.log import LogChannel
from pulseweir.backends.channels.smtp import EmailChannel, MailServer
from pulseweir.backends.channels.teams import TeamsChannel
from pulseweir.backends.channels.webhook import WebhookChannel
from pulseweir.errors import RefuseToStart
from pulseweir.warm_path.settings import CoordinationSettings, EmailSettings, secret_of


def open_channels(settings: CoordinationSettings) -> dict[str, Channel]:
    """The channels that the settings give an address to, by name; the log always.

    Raises:
        RefuseToStart: What a channel needs is missing, unreadable, or would leave this machine in the clear.
    """
    channels: dict[str, Channel] = {"log": LogChannel()}
    address = settings.webhook_url()
    if address:
        channels["teams"] = TeamsChannel(address, detail=settings.teams_detail, seconds=settings.send_seconds)
    if settings.email.host is not None:
        channels["email"] = _email(settings.email, settings.send_seconds)
    webhook = _webhook(settings)
    if webhook is not None:
        channels["webhook"] = webhook
    return channels


def _email(settings: EmailSettings, seconds: float) -> EmailChannel:
    if not settings.is_set_up or not settings.sender:
        message = "Channel email lacks coordination.email.sender or coordination.email.recipients. Set both."
        raise RefuseToStart(message)
    password = secret_of(settings.password, settings.password_file, "coordination.email.password_file")
    if settings.user and not password:
        raise RefuseToStart("Channel email has a user and no password. Set coordination.email.password_file.")
    context = ssl.create_default_context()
    if settings.authority_file is not None:
        try:
            context.load_verify_locations(settings.authority_file)
        except OSError as error:
            message = f"{settings.authority_file} holds no certificates. Check coordination.email.authority_file."
            raise RefuseToStart(message) from error
    server = MailServer(
        host=settings.host or "",
        port=settings.port,
        security=settings.security,
        user=settings.user or "",
        password=password or "",
        context=context,
    )
    return EmailChannel(
        server,
        settings.sender,
        settings.recipients,
        by_ward=settings.ward_recipients,
        detail=settings.detail,
        seconds=seconds,
    )


def _webhook(settings: CoordinationSettings) -> WebhookChannel | None:
    webhook = settings.webhook
    address = secret_of(webhook.url, webhook.url_file, "coordination.webhook.url_file")
    if not address:
        return None
    keys = secret_of(webhook.signing_key, webhook.signing_key_file, "coordination.webhook.signing_key_file")
    if not keys:
        raise RefuseToStart("Channel webhook has no key to sign with. Set coordination.webhook.signing_key_file.")
    return WebhookChannel(address, keys, detail=webhook.detail, seconds=settings.send_seconds)
