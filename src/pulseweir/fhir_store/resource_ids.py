"""Ids that the server gives to resources.

They grow with time, so that the index of ids grows at its end: random ones touch a page of it each, which costs a
write more than its own row does, and ever more as the store grows.
"""

import os
import uuid

_VERSION, _VARIANT = 7 << 76, 0b10 << 62
_MILLISECONDS_MASK, _CHANCE_MASK = (1 << 48) - 1, (1 << 80) - 1 & ~(0xF << 76) & ~(0b11 << 62)


def new_resource_id(now_microseconds: int) -> str:
    """A UUID of version 7: the instant to the millisecond, and 74 bits of chance.

    Source: RFC 9562, section 5.7.
    """
    chance = int.from_bytes(os.urandom(10)) & _CHANCE_MASK
    milliseconds = now_microseconds // 1_000 & _MILLISECONDS_MASK
    return str(uuid.UUID(int=milliseconds << 80 | _VERSION | _VARIANT | chance))
