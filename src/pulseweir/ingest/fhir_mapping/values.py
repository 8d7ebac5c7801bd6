"""Step 5c: measured texts to value[x] and back, and how new values meet stored ones. Pure.

Instants are ticks of 100 ns since 1970 UTC.
"""

import re
from collections.abc import Sequence

from pulseweir.errors import MessageError
from pulseweir.ingest.device_mapping.tokens import ExpressionFault, parse_instant
from pulseweir.ingest.fhir_mapping.consciousness import is_by_list, level_concept
from pulseweir.ingest.fhir_mapping.templates import ValueTemplate
from pulseweir.ingest.grouping import Sample

SLOT_LIMIT = 200_000
TICKS_A_MILLISECOND = 10_000
EMPTY = "E"
SAMPLE_CODES = frozenset({EMPTY, "U", "L"})
_DECIMAL = re.compile(r"\s*([+-]?)\s*(\d[\d,]*)?(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?\s*", re.ASCII)
_SEVENTH = re.compile(r"\.\d{6}(\d)")
Period = tuple[int, int]
Value = dict[str, object] | str


def parse_ticks(text: str) -> int:
    """Ticks of a FHIR instant or dateTime.

    Raises:
        MessageError: The text is no date.
    """
    try:
        microseconds = parse_instant(
            text if len(text) > 7 else f"{text}-01-01"[:10] if len(text) == 4 else f"{text}-01"
        )
    except ExpressionFault:
        raise MessageError(
            "A stored Observation has an unreadable time. Correct it.", reason="bad-stored-time"
        ) from None
    seventh = _SEVENTH.search(text)
    return microseconds * 10 + (int(seventh[1]) if seventh else 0)


def decimal_text(text: str) -> str | None:
    """The JSON number a measured text means, digits untouched; None when it is no number.

    >>> decimal_text("+1,204.50"), decimal_text(" 7 "), decimal_text("1E-05"), decimal_text("12 bpm")
    ('1204.50', '7', '1E-05', None)
    """
    found = _DECIMAL.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        return None
    sign, whole, fraction, exponent = found.groups()
    digits = (whole or "0").replace(",", "").lstrip("0") or "0"
    return (
        f"{'-' if sign == '-' else ''}{digits}{'.' + fraction if fraction else ''}{'E' + exponent if exponent else ''}"
    )


def sample_text(text: str) -> str | None:
    """What a measured text is in SampledData: a number, or one of the codes for none, too low and too high.

    >>> sample_text("7.50"), sample_text("E"), sample_text("7 mV")
    ('7.50', 'E', None)
    """
    return text if text in SAMPLE_CODES else decimal_text(text)


def element_name(template: ValueTemplate) -> str:
    """The name of the value[x] element."""
    return f"value{template.value_type}"


def create(template: ValueTemplate, samples: Sequence[Sample], period: Period) -> Value:
    """The value of a new Observation or component.

    Raises:
        MessageError: The samples do not fit the value type.
    """
    if template.value_type == "SampledData":
        return _sampled(template, build_samples(samples, period, template.period_milliseconds))
    if template.value_type == "CodeableConcept":
        told = level_concept(samples[-1][1]) if is_by_list(template) else None
        return told or dict(template.concept or {})
    if len(samples) != 1:
        raise MessageError(
            f"[{template.value_name}]: Expected 1 value. Received {len(samples)}."
            " Use periodInterval Single, or SampledData for several values.",
            reason="one-value-expected",
            expression=template.value_name,
        )
    text = samples[0][1]
    return text if template.value_type == "String" else _quantity(template, text)


def merge(
    template: ValueTemplate,
    samples: Sequence[Sample],
    period: Period,
    stored: object,
    old: Period,
    *,
    overrides: bool = True,
) -> Value:
    """The value after new samples meet a stored SampledData, or replace a stored value of another type.

    Args:
        template: What the value looks like.
        samples: The new samples.
        period: The Observation's period after widening.
        stored: The stored value of the same element.
        old: The Observation's stored period.
        overrides: New samples win where both have one; else they only fill empty slots.

    Raises:
        MessageError: The stored value cannot be merged with.
    """
    if template.value_type != "SampledData":
        return create(template, samples, period)
    if not isinstance(stored, dict):
        raise type_mismatch(template)
    if stored.get("dimensions", 1) != 1:
        raise MessageError(
            f"[{template.value_name}]: a stored SampledData has more than 1 dimension. Write to another type.",
            reason="value-type-mismatch",
            expression=template.value_name,
        )
    held = read_samples(str(stored.get("data", "")), old[0], float(stored.get("period", 0) or 0))
    if not overrides:
        step = _step(template.period_milliseconds)
        taken = {(tick - period[0]) // step for tick, _ in held}
        samples = [sample for sample in samples if (sample[0] - period[0]) // step not in taken]
    merged = dict(held)
    merged.update(samples)
    rebuilt = build_samples(sorted(merged.items()), period, template.period_milliseconds)
    return _sampled(template, rebuilt)


def type_mismatch(template: ValueTemplate) -> MessageError:
    """The error for a stored value of another type."""
    return MessageError(
        f"[{template.value_name}]: the stored Observation holds another value type than {template.value_type}."
        " Give the changed mapping a new type name.",
        reason="value-type-mismatch",
        expression=template.value_name,
    )


def _quantity(template: ValueTemplate, text: str) -> dict[str, object]:
    number = decimal_text(text)
    if number is None:
        raise MessageError(
            f"[{template.value_name}]: Error encountered processing value: it is no decimal number."
            " Use valueType String, or correct the device mapping.",
            reason="not-a-quantity",
            expression=template.value_name,
        )
    is_whole = not set(number) & set(".E")
    quantity: dict[str, object] = {"value": int(number) if is_whole else float(number)}
    named = (("unit", template.unit), ("system", template.system), ("code", template.code))
    quantity.update({name: part for name, part in named if part is not None})
    return quantity


def _sampled(template: ValueTemplate, data: str) -> dict[str, object]:
    period = template.period_milliseconds
    return {
        "origin": {"value": 0, "unit": template.unit} if template.unit is not None else {"value": 0},
        "period": int(period) if period.is_integer() else period,
        "dimensions": 1,
        "data": data,
    }


def build_samples(samples: Sequence[Sample], period: Period, period_milliseconds: float) -> str:
    """Consecutive slots from the period's start to its end; the last sample of a slot wins, an empty one is ``E``.

    Raises:
        MessageError: The period has more than `SLOT_LIMIT` slots.
    """
    step = _step(period_milliseconds)
    start, end = period
    slots = (end - start) // step + 1
    if slots > SLOT_LIMIT:
        raise MessageError(
            f"SampledData of {slots} samples is more than {SLOT_LIMIT}. Raise defaultPeriod or shorten the session.",
            reason="limit-exceeded",
        )
    data = [EMPTY] * slots
    for tick, text in samples:
        slot = (tick - start) // step
        if 0 <= slot < slots:
            data[slot] = text
    return " ".join(data)


def _step(period_milliseconds: float) -> int:
    return max(1, round(period_milliseconds * TICKS_A_MILLISECOND))


def read_samples(data: str, start: int, period_milliseconds: float) -> list[Sample]:
    """The samples a SampledData holds, each at its slot's start; empty slots are left out."""
    step = _step(period_milliseconds)
    return [(start + slot * step, text) for slot, text in enumerate(data.split()) if text != EMPTY]
