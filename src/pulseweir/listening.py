"""Listening sockets whose port is known, and whose refusal is met, before a server runs."""

import socket


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; its port is known before the server runs.

    Args:
        host: Address to listen on.
        port: TCP port; 0 takes a free one.

    Raises:
        OSError: The port is taken or forbidden.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that event loops recognise TCP and switch off Nagle's 40 ms wait.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
