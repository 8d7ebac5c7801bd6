"""Steps 4 and 5c: one finding about a pair of mappings, and where it stands in its file. Pure."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from pulseweir.errors import MappingError
from pulseweir.ingest.device_mapping.located_json import LocatedJsonError, Node, read

Severity = Literal["error", "warning", "info"]
Side = Literal["device", "fhir", "message"]
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth a look in a mapping, or in what it makes of messages.

    Attributes:
        severity: ``error`` (it will not work as written), ``warning`` (it may not mean what was meant) or ``info``
            (worth knowing; commands do not fail for it).
        rule: Stable kebab-case word.
        place: Measurement type and value name, or the message.
        message: What was found; no value of a message.
        remedy: What to do.
        mapping: Which of the two mappings it is about, or ``message``.
        member: Path of the member in that mapping; empty for none.
        file: Name of the mapping's file; empty when it came from elsewhere.
        line: 1-based line; 0 when not known.
        column: 1-based column; 0 when not known.
    """

    severity: Severity
    rule: str
    place: str
    message: str
    remedy: str = ""
    mapping: Side = "device"
    member: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def to_json(self) -> dict[str, object]:
        """The finding as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        place = f" {self.place}:" if self.place else ":"
        return f"{where}{self.severity} [{self.rule}]{place} {self.message} {self.remedy}".rstrip()


def faults_of(error: MappingError, mapping: Side) -> list[Finding]:
    """The faults of a mapping that does not load, as findings."""
    return [
        Finding(
            "error",
            "not-loadable",
            fault.member,
            fault.problem,
            fault.remedy,
            mapping,
            fault.member,
            error.source,
            fault.line,
            fault.column,
        )
        for fault in error.faults
    ]


def located(findings: Iterable[Finding], mapping: Side, text: str, file: str) -> list[Finding]:
    """Findings with file, line and column where they are about this mapping.

    Args:
        findings: In any order; those about the other mapping are given back unchanged.
        mapping: Which mapping the text is.
        text: Of the mapping.
        file: What to call it.
    """
    try:
        root = read(text)
    except LocatedJsonError:
        return list(findings)
    found = []
    for one in findings:
        if one.mapping != mapping or one.line:
            found.append(one)
            continue
        node = _node(root, one.member)
        found.append(replace(one, file=file, line=node.line, column=node.column))
    return found


def _node(root: Node, member: str) -> Node:
    """The node at a path, or the last one on the way that exists."""
    node = root
    for name, index in _STEP.findall(member):
        if name:
            below = node.member(name)
        else:
            below = node.items[int(index)] if node.items is not None and int(index) < len(node.items) else None
        if below is None:
            break
        node = below
    return node
