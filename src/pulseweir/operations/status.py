"""Which roles run, and how far each consumer group is behind."""

from dataclasses import dataclass
from typing import Any

from pulseweir.operations.conserve import balance, conserve, lag
from pulseweir.pipeline import GROUPS, ROLES
from pulseweir.run_files import read_ready
from pulseweir.settings import Settings
from pulseweir.telemetry import BUS_CONSUMER_LAG


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role: whether its process lives, and where it listens."""

    role: str
    running: bool
    process: int | None
    ports: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One consumer group: rows it has still to deal with, and rows that wait for a person."""

    topic: str
    group: str
    in_flight: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Status:
    """A house at one moment."""

    roles: list[RoleStatus]
    groups: list[GroupStatus]


def status(settings: Settings) -> Status:
    """Look at the processes and at every group's book."""
    roles = []
    for role in ROLES:
        facts = read_ready(settings.data_dir, role)
        ports = {key: value for key, value in (facts or {}).items() if key != "process"}
        roles.append(RoleStatus(role, facts is not None, facts["process"] if facts else None, ports))
    groups = []
    for topic, group in GROUPS:
        books = balance(settings.data_dir / "bus", topic, group, settings.bus)
        groups.append(GroupStatus(topic, group, books.in_flight, books.quarantined))
    return Status(roles, groups)


def take_stock(settings: Settings) -> None:
    """Bring the metrics of the whole house up to date: every group's backlog, and the conservation difference.

    Raises:
        RefuseToStart: Nothing has run on this data directory yet.
    """
    conserve(settings.data_dir / "bus", settings.bus)
    for topic, group in GROUPS:
        BUS_CONSUMER_LAG.labels(topic, group).set(lag(settings.data_dir / "bus", topic, group, settings.bus))
