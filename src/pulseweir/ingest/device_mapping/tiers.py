"""Step 4: what is compiled of a mapping, once for a process and not before it is needed.

Mappings that say the same share what was compiled of them, however often they are loaded.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from pulseweir.ingest.device_mapping.source_writer import Program, compile_program
from pulseweir.ingest.device_mapping.templates import Field, Template
from pulseweir.ingest.device_mapping.typed_decoder import TypedPlan, plan

_REMEMBERED = 64
_TYPED_TEMPLATES = 64  # planning takes time with the square of the templates, and gains little for many
_known: "OrderedDict[str, Tiers]" = OrderedDict()
_lock = Lock()


class Tiers:
    """The quicker tiers of one mapping."""

    def __init__(self, templates: Sequence[Template]) -> None:
        self._templates = templates
        self._program: Program | None = None
        self._typed: TypedPlan | None = None
        self._made: set[str] = set()
        self._making = Lock()

    @property
    def program(self) -> Program | None:
        """Tier 1; None when the mapping is too deep for it."""
        if "program" not in self._made:
            with self._making:
                if "program" not in self._made:
                    self._program = compile_program(self._templates)
                    self._made.add("program")
        return self._program

    @property
    def typed(self) -> TypedPlan | None:
        """Tier 2; None when the mapping reads messages in ways it does not know, or has very many templates."""
        if "typed" not in self._made:
            with self._making:
                if "typed" not in self._made:
                    self._typed = plan(self._templates) if len(self._templates) <= _TYPED_TEMPLATES else None
                    self._made.add("typed")
        return self._typed


def tiers_of(templates: Sequence[Template]) -> Tiers:
    """The tiers of these templates: those of an equal mapping when one is remembered."""
    key = mapping_hash(templates)
    with _lock:
        found = _known.get(key)
        if found is None:
            found = _known[key] = Tiers(templates)
            if len(_known) > _REMEMBERED:
                _known.popitem(last=False)
        _known.move_to_end(key)
    return found


def mapping_hash(templates: Sequence[Template]) -> str:
    """What tells two mappings apart that do not mean the same."""
    described = [
        (
            template.kind,
            template.type_name,
            template.type_match and (template.type_match.language, template.type_match.text),
            [_described(field) for field in (template.correlation, template.patient, template.encounter)],
            [_described(field) for field in (template.device, template.timestamp, *template.values)],
        )
        for template in templates
    ]
    return hashlib.sha256(ascii(described).encode()).hexdigest()


def _described(field: Field | None) -> object:
    if field is None:
        return None
    return field.label, field.required, [(expression.language, expression.text) for expression in field.expressions]
