"""Steps 4 and 5c: what another version of the mappings makes of the same messages. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pulseweir.ingest.device_mapping.collection import DeviceMapping
from pulseweir.ingest.fhir_mapping.collection import FhirMapping
from pulseweir.ingest.mapping_review.trial import Json, Trial, dry_run

Pair = tuple[DeviceMapping, FhirMapping | None]
Kind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs between two versions.

    Attributes:
        message: Index of the message.
        kind: ``added``, ``removed`` or ``changed``.
        what: ``measurement``, ``observation``, ``reject`` or ``warning``.
        name: Measurement type, and which of several; the sentence of a reject or warning.
        paths: What differs inside; empty unless changed.
        old: What the old version made of it; None when added, or when values are not shown.
        new: What the new version makes of it; None when removed, or when values are not shown.
    """

    message: int
    kind: Kind
    what: str
    name: str
    paths: tuple[str, ...] = ()
    old: object = None
    new: object = None

    def to_json(self) -> Json:
        """The change as plain values."""
        return asdict(self)


def diff(old: Pair, new: Pair, messages: Sequence[object], *, show_values: bool = False) -> list[Change]:
    """What differs between two versions of a pair of mappings, message by message; empty when nothing does.

    Args:
        old: Device mapping and FHIR mapping, the latter None to compare measurements only.
        new: The other version.
        messages: Bodies or envelopes.
        show_values: Whether changes hold what was and what is, which may be about a patient.

    Measurements are compared by type and order of that type, Observations by measurement type and order.
    """
    changes: list[Change] = []
    for at, (before, after) in enumerate(zip(dry_run(*old, messages), dry_run(*new, messages), strict=True)):
        changes += _message(at, before, after, show_values=show_values)
    return changes


def _message(at: int, before: Trial, after: Trial, *, show_values: bool) -> Iterator[Change]:
    for what, old, new in (
        ("measurement", _named(before.measurements), _named(after.measurements)),
        ("observation", _named(before.observations), _named(after.observations)),
    ):
        for name in {**old, **new}:
            one, other = old.get(name), new.get(name)
            shown = (one, other) if show_values else (None, None)
            if one is None or other is None:
                yield Change(at, "added" if one is None else "removed", what, name, (), *shown)
            elif one != other:
                yield Change(at, "changed", what, name, tuple(_paths(one, other)), *shown)
    for what, gone, come in (
        ("reject", [one.message for one in before.rejects], [one.message for one in after.rejects]),
        ("warning", list(before.warnings), list(after.warnings)),
    ):
        yield from (Change(at, "removed", what, text) for text in gone if text not in come)
        yield from (Change(at, "added", what, text) for text in come if text not in gone)


def _named(rows: Sequence[Json]) -> dict[str, Json]:
    """Rows by type and ordinal among those of that type."""
    named: dict[str, Json] = {}
    counts: dict[str, int] = {}
    for row in rows:
        code = row.get("code")
        name = str(row.get("type") or (code.get("text") if isinstance(code, dict) else ""))
        counts[name] = counts.get(name, 0) + 1
        named[f"{name} {counts[name]}" if counts[name] > 1 else name] = row
    return named


def _paths(old: object, new: object, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            if name not in old or name not in new:
                yield f"{path}.{name}".lstrip(".")
            else:
                yield from _paths(old[name], new[name], f"{path}.{name}")
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _paths(one, other, f"{path}[{index}]")
    elif old != new or type(old) is not type(new):
        yield path.lstrip(".")
