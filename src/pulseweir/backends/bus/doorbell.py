"""Wakes consumers of other processes at once: a datagram socket a subscription, rung after every append.

A ring says "look", nothing more: what there is to read stands in the log. A lost ring costs one pause of the
consumer's own looking; a ring too many costs one look.
"""

import asyncio
import contextlib
import os
import socket
import uuid
from pathlib import Path


class Bell:
    """Rings everybody who waits on one topic. Belongs to one thread at a time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def ring(self) -> None:
        """Wake every waiting consumer; those whose process has died are taken off the list."""
        for name in os.listdir(self._directory):  # noqa: PTH208 - by descriptor, whatever the path
            try:
                self._socket.sendto(b"!", _address(self._directory, name))
            except ConnectionRefusedError:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._directory)
            except OSError:
                # Its queue is full, so it is awake already; or it has just left.
                continue

    def close(self) -> None:
        """Let go of socket and directory."""
        self._socket.close()
        os.close(self._directory)


class Ear:
    """Hears the bell of one topic. Belongs to one event loop."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._name = uuid.uuid4().hex
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(_address(self._directory, self._name))

    async def wait(self, seconds: float) -> None:
        """Return at the next ring, at once if it rang since the last call, or after some time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_recv(self._socket, 1)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)

    def close(self) -> None:
        """Leave the list of those who are rung."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._directory)
        os.close(self._directory)


def _address(directory: int, name: str) -> str:
    """A path of any length by a short name: the kernel takes at most 108 bytes for a socket's address."""
    return f"/proc/self/fd/{directory}/{name}"
