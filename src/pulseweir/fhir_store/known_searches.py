"""Searches that were asked before, as they were compiled: they hold until another name comes into use. Pure."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST_KNOWN = 1_024


@dataclass(slots=True)
class KnownSearches(Generic[T]):
    """What one reader of the store knows."""

    _newest_name: int = 0
    _searches: dict[Hashable, T] = field(default_factory=dict)

    def as_of(self, newest_name: int) -> dict[Hashable, T]:
        """The searches that hold while this is the newest name (`Terms.newest`); the caller adds to them."""
        if newest_name != self._newest_name or len(self._searches) >= _MOST_KNOWN:
            self._searches.clear()
            self._newest_name = newest_name
        return self._searches
