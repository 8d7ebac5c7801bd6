"""A ward in event time for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bedside import Bedside, MovingClock
from pulseweir.backends.repository import Repository


@pytest.fixture
def clock() -> MovingClock:
    """Stands at noon."""
    return MovingClock()


@pytest.fixture
def ward_repository(tmp_path: Path, clock: MovingClock) -> Iterator[Repository]:
    """A repository on the ward's clock."""
    opened = Repository.open(f"sqlite:///{tmp_path / 'repository.sqlite'}", clock)
    yield opened
    opened.close()


@pytest.fixture
def ward(ward_repository: Repository, clock: MovingClock) -> Bedside:
    """A ward with default settings."""
    return Bedside(ward_repository, clock)
