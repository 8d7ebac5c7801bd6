"""The eighteen steps of the journey, and the room of each: `pulseweir steps`."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pulseweir

PATHS = {"blue": "ingest", "green": "scoring", "red": "hot_path", "orange": "warm_path"}
"""The four paths of the picture and the folder each lives in."""

_TITLES = {
    1: ("blue", "hub", "A device, or a gateway for several, sends a message to the hub or to an edge"),
    2: ("blue", "edge", "The edge forwards to the hub what it stored, in order, when there is a line"),
    3: ("blue", "archive", "A raw copy of every device message goes to a secure archive"),
    4: ("blue", "connector", "The connector normalizes the message into measurements by the device mapping"),
    5: ("blue", "observation_writer", "The connector finds the Patient of the device and records Observations"),
    6: ("green", "enrichment", "The normalized measurements go to the enrichment step"),
    7: ("green", "patient_context", "Enrichment merges the Patient with the measurement"),
    8: ("green", "enrichment", "The patient measurement is published on the event bus"),
    9: ("green", "lake_writer", "It is appended to the lake"),
    10: ("green", "score_shard", "The engine windows, fits and scores it"),
    11: ("green", "history", "The engine reads more history from the lake; scores go to the lake"),
    12: ("red", "risk_output", "Scores go to the output step"),
    13: (
        "red",
        "risk_assessment",
        "Every window becomes a RiskAssessment, one outside the range also a Flag",
    ),
    14: ("red", "care_routing", "The score is recorded in the repository and routed to the right care team"),
    15: ("red", "live", "The live dashboard shows it"),
    16: ("orange", "refresh", "Reports refresh on a schedule or on demand"),
    17: ("orange", "care_team", "The care-team app shows patients, risks, alerts, tasks"),
    18: ("orange", "coordination", "The team coordinates: acknowledge, assign, escalate, message"),
}
_STEP_LINE = re.compile(r"^Steps? ([\d, –to and-]+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the journey.

    Attributes:
        step: Its number, 1 to 18.
        title: What happens.
        path: blue, green, red or orange.
        module: The room to read first, a dotted name.
        rooms: Every room that takes part, dotted names, in the path's own folder.
    """

    step: int
    title: str
    path: str
    module: str
    rooms: tuple[str, ...]


def steps() -> list[Step]:
    """All steps with the modules whose first line names them, in their own colour's folder."""
    rooms = _rooms()
    return [
        Step(
            number,
            title,
            colour,
            f"pulseweir.{PATHS[colour]}.{first}",
            tuple(name for name in rooms.get(number, ()) if name.split(".")[1] == PATHS[colour]),
        )
        for number, (colour, first, title) in _TITLES.items()
    ]


def numbers_in(first_line: str) -> list[int]:
    """The step numbers that a module's first docstring line names.

    >>> numbers_in("Steps 6 to 8: joins the Patient."), numbers_in("Step 10: windows."), numbers_in("The bus.")
    ([6, 7, 8], [10], [])
    """
    match = _STEP_LINE.match(first_line)
    if not match:
        return []
    numbers: list[int] = []
    for part in re.split(r",| and ", match[1]):
        ends = [int(text) for text in re.findall(r"\d+", part)]
        numbers += range(ends[0], ends[-1] + 1) if ends else []
    return numbers


def _rooms() -> dict[int, list[str]]:
    root = Path(pulseweir.__file__).parent
    found: dict[int, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        for number in numbers_in(docstring.split("\n")[0]):
            found.setdefault(number, []).append(name)
    return found
