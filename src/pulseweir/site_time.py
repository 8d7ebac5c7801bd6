"""The time of day at a site: instants stay UTC inside, people read them in their own zone. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import cached_property
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pulseweir.clock import from_microseconds, to_microseconds

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND


class SiteSettings(BaseModel):
    """Where the site is: what time its people's watches show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_zone: str = Field(
        "UTC", description="IANA name of the zone screens and reports show times in, such as Europe/Berlin."
    )

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        known = available_timezones()
        if name not in known:
            near = get_close_matches(name, known, 3, 0.5) or _of_folded_name(name, known)
            hint = f"Did you mean {', '.join(near)}?" if near else "Names look like Europe/Berlin."
            message = f"there is no time zone {name!r}. {hint}"
            raise ValueError(message)
        return name


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a zone is from UTC, from an instant on.

    Attributes:
        since: First instant, microseconds.
        seconds: To add to UTC.
        name: Abbreviation, such as CET.
    """

    since: int
    seconds: int
    name: str


@dataclass(frozen=True)
class SiteTime:
    """Instants as people of one time zone read them.

    >>> berlin = SiteTime("Europe/Berlin")
    >>> berlin.clock(1_761_438_600_000_000), berlin.clock(1_761_442_200_000_000)
    ('02:30:00', '02:30:00')
    >>> berlin.zone_name(1_761_438_600_000_000), berlin.zone_name(1_761_442_200_000_000)
    ('CEST', 'CET')
    """

    time_zone: str = "UTC"

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone."""
        return ZoneInfo(self.time_zone)

    def local(self, instant: int) -> datetime:
        """An instant, microseconds, on the site's calendar and clock."""
        return from_microseconds(instant).astimezone(self.zone)

    def clock(self, instant: int) -> str:
        """Hours, minutes, seconds."""
        return self.local(instant).strftime("%H:%M:%S")

    def minute(self, instant: int) -> str:
        """Hours and minutes."""
        return self.local(instant).strftime("%H:%M")

    def day_minute(self, instant: int) -> str:
        """Day of the month, hours and minutes."""
        return self.local(instant).strftime("%d %b %H:%M")

    def day(self, instant: int) -> str:
        """Day of the month."""
        return self.local(instant).strftime("%d %b")

    def zone_name(self, instant: int) -> str:
        """Abbreviation of the zone at that instant; where it has none, its distance from UTC."""
        name = self.local(instant).tzname() or "UTC"
        return f"UTC{name}" if name[0] in "+-" else name

    def needs_zone(self, instant: int, now: int) -> bool:
        """Whether a time must be shown with its zone: it is not the present one, or that hour comes twice."""
        there = self.local(instant)
        other = there.replace(fold=1 - there.fold)
        return there.utcoffset() != self.local(now).utcoffset() or (
            other.utcoffset() != there.utcoffset() and _exists(other)
        )

    def with_zone(self, text: str, instant: int, now: int) -> str:
        """A time with its zone behind it, where that is needed."""
        return f"{text} {self.zone_name(instant)}" if self.needs_zone(instant, now) else text

    def day_start(self, instant: int) -> int:
        """Midnight of the site's day an instant falls on, microseconds."""
        return self._midnight(self.local(instant).date())

    def days_back(self, instant: int, days: int) -> int:
        """Midnight of the day so many days before the one an instant falls on; days of 23 and 25 hours count as one."""
        return self._midnight(self.local(instant).date() - timedelta(days=days))

    def offsets(self, now: int, *, days_before: int = 10, days_after: int = 60) -> list[Offset]:
        """The zone's distances from UTC around now, oldest first."""
        end = now + days_after * _DAY
        found = [self._offset(now - days_before * _DAY)]
        at = found[0].since
        while at < end:
            step = min(at + _DAY, end)
            if self._offset(step).seconds != found[-1].seconds:
                found.append(self._offset(self._change(at, step)))
            at = step
        return found

    def _offset(self, instant: int) -> Offset:
        distance = self.local(instant).utcoffset() or timedelta()
        return Offset(instant, int(distance.total_seconds()), self.zone_name(instant))

    def _change(self, before: int, after: int) -> int:
        """The second at which the distance changes between two instants."""
        was = self._offset(before).seconds
        low, high = before // _SECOND, after // _SECOND
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle * _SECOND).seconds == was else (low, middle)
        return high * _SECOND

    def _midnight(self, day: date) -> int:
        return to_microseconds(datetime(day.year, day.month, day.day, tzinfo=self.zone))


def span(seconds: float | None) -> str:
    """A span of time as people say it.

    >>> span(12), span(125), span(3_720), span(200_000)
    ('12 s', '2 min', '1 h 2 min', '2 d')
    """
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 86_400:
        minutes = whole % 3_600 // 60
        return f"{whole // 3_600} h {minutes} min" if minutes else f"{whole // 3_600} h"
    return f"{whole // 86_400} d"


def _of_folded_name(name: str, known: set[str]) -> list[str]:
    """Zones whose name differs in case only, or whose city it is."""
    folded = name.casefold().replace(" ", "_")
    return sorted(zone for zone in known if folded and zone.casefold().endswith(folded))[:3]


def _exists(moment: datetime) -> bool:
    """Whether a clock ever shows this: not in the hour that spring leaves out."""
    return moment.astimezone(UTC).astimezone(moment.tzinfo).replace(fold=0) == moment.replace(fold=0)
