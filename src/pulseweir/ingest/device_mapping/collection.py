"""Step 4: a whole device mapping: load it once, normalize messages with it.

A message is evaluated completely before anything of it is used: all of its measurements or none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pulseweir.errors import MappingError, MessageError
from pulseweir.ingest.device_mapping.batch import Messages, Tier, normalize_messages, normalize_one
from pulseweir.ingest.device_mapping.batch_schema import Normalized
from pulseweir.ingest.device_mapping.budget import Budget
from pulseweir.ingest.device_mapping.expressions import Expression
from pulseweir.ingest.device_mapping.loader import Compatibility, Faults, load_templates, read_document
from pulseweir.ingest.device_mapping.located_json import LocatedJsonError, Node, from_plain
from pulseweir.ingest.device_mapping.templates import Measurement, Template
from pulseweir.ingest.device_mapping.tiers import Tiers, tiers_of

MEASUREMENT_LIMIT = 10_000


def file_text(path: Path) -> str:
    """The text of a mapping file.

    Raises:
        MappingError: It is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        faults = Faults()
        faults.add(None, "document", f"is not UTF-8 at byte {cause.start + 1}.", "Save it as UTF-8.")
        raise MappingError(path.name, faults.found) from None


@dataclass(frozen=True, slots=True)
class DeviceMapping:
    """A device mapping, compiled.

    Attributes:
        templates: In document order; every one is tried on every message.

    >>> mapping = DeviceMapping.load({"templateType": "CollectionContent", "template": [
    ...     {"templateType": "JsonPathContent", "template": {
    ...         "typeName": "heart-rate", "typeMatchExpression": "$..[?(@pulse)]",
    ...         "deviceIdExpression": "$.device", "timestampExpression": "$.at",
    ...         "values": [{"valueName": "heart_rate", "valueExpression": "$.pulse"}]}}]})
    >>> mapping.normalize({"Body": {"device": "m1", "at": "2030-01-01T00:00:00Z", "pulse": 61}})[0].properties
    {'heart_rate': '61'}
    """

    templates: tuple[Template, ...]
    _tiers: list[Tiers] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, source: Path | str | Mapping[str, object], *, compatibility: Compatibility = "strict") -> Self:
        """Read a mapping from a file or from decoded JSON.

        Raises:
            MappingError: Every fault of the mapping, with its place and remedy.
        """
        if isinstance(source, Mapping):
            faults = Faults()
            try:
                return cls._from_node(from_plain(dict(source)), faults, "device mapping", compatibility)
            except LocatedJsonError as cause:
                faults.add(None, "document", cause.problem, "Flatten it.")
                raise MappingError("device mapping", faults.found) from None
        return cls.loads(file_text(Path(source)), source=Path(source).name, compatibility=compatibility)

    @classmethod
    def loads(cls, text: str, *, source: str = "device mapping", compatibility: Compatibility = "strict") -> Self:
        """Read a mapping from its text.

        Raises:
            MappingError: As `load`.
        """
        faults = Faults()
        return cls._from_node(read_document(text, faults), faults, source, compatibility)

    @classmethod
    def _from_node(cls, root: Node | None, faults: Faults, source: str, compatibility: Compatibility) -> Self:
        templates = [] if root is None else load_templates(root, faults, compatibility)
        if faults.found:
            raise MappingError(source, faults.found)
        return cls(tuple(templates))

    def normalize(self, envelope: dict[str, object]) -> list[Measurement]:
        """Every measurement of one message, template by template, match by match.

        Args:
            envelope: ``{"Body": …, "Properties": {…}, "SystemProperties": {…}}``; not changed.

        Raises:
            MessageError: One template cannot be satisfied; nothing of the message is to be used.
        """
        if not isinstance(envelope, dict):
            raise MessageError(
                "The message envelope is not a JSON object. Wrap the body in Body, Properties, SystemProperties.",
                reason="wrong-shape",
            )
        return normalize_one(self.tiers, self.interpret, envelope)

    def interpret(self, envelope: dict[str, object]) -> list[Measurement]:
        """What `normalize` does, by evaluating every expression one by one: slow, and the measure of all tiers.

        Raises:
            MessageError: As `normalize`.
        """
        budget = Budget()
        measurements: list[Measurement] = []
        for template in self.templates:
            measurements += template.apply(envelope, budget)
            if len(measurements) > MEASUREMENT_LIMIT:
                raise MessageError(
                    f"The message makes more than {MEASUREMENT_LIMIT} measurements. Send it in parts.",
                    reason="limit-exceeded",
                    template=str(template.index),
                )
        return measurements

    def normalize_batch(
        self,
        bodies: Sequence[bytes],
        *,
        properties: Sequence[str | None] | None = None,
        system_properties: Sequence[str | None] | None = None,
        nesting_limit: int = 64,
        body_limit_bytes: int = 262_144,
        tier: Tier = "auto",
    ) -> Normalized:
        """Every measurement of many messages as a table, and a table of those that are refused.

        A message is refused alone, as a whole and for the reason `normalize` gives; its neighbours stay untouched.

        Args:
            bodies: JSON texts, one a message; the envelope around each is made here.
            properties: Application properties of each message as JSON texts; None or empty ones are ``{}``.
            system_properties: System properties, likewise.
            nesting_limit: Bodies nested deeper are refused.
            body_limit_bytes: Larger bodies are refused.
            tier: Where to start, to compare the tiers; all of them make the same tables.
        """
        messages = Messages(bodies, properties, system_properties, nesting_limit, body_limit_bytes)
        return normalize_messages(self.tiers, self.interpret, messages, tier)

    @property
    def tiers(self) -> Tiers:
        """What is compiled of the mapping, from its first message on."""
        if not self._tiers:
            self._tiers.append(tiers_of(self.templates))
        return self._tiers[0]

    def expressions(self) -> list[tuple[Template, str, Expression]]:
        """Every expression of the mapping as (template, field, expression)."""
        found: list[tuple[Template, str, Expression]] = []
        for template in self.templates:
            if template.type_match is not None:
                found.append((template, "TypeMatchExpression", template.type_match))
            found += [(template, each.label, expression) for each in template.fields for expression in each.expressions]
        return found
