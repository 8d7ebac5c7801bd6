"""Step 15: the charts of the patient page, as JSON that Bokeh's own script draws: no code of ours in it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pulseweir.backends.repository.rows import AlertRow, FlagRow, ScoreRow
from pulseweir.scoring.models import news2
from pulseweir.site_time import SiteTime
from pulseweir.site_time import span as span_words
from pulseweir.web.readings import UNITS
from pulseweir.web.vitals_history import History, Sample

_INK, _MUTED, _GRID, _LINE, _SECOND_LINE = "#dfe4e8", "#8f9aa5", "#2a3138", "#7fb2ff", "#b6c2cf"
_POINT_COLOURS = {1: "#ffd84d", 2: "#ff9a3d", 3: "#f2555a"}
BAND_COLOURS = {"low": "#aab4bd", "low-medium": "#ffd84d", "medium": "#ff9a3d", "high": "#f2555a"}
_FLAG_COLOUR = "#7fb2ff"
_GAP = 1_800_000_000
_MINUTE = 60_000_000
_HOUR_MINUTES, _DAY_MINUTES = 60, 1_440
_STEPS = (1, 5, 10, 30, 60, 120, 180, 360, 720, 1_440)
_MOST_TICKS = 9
_SCORE_HEIGHT, _VITAL_HEIGHT = 240, 144
_HIGHEST_SCORE = 20
_FAR = 1e6

CHARTS: tuple[tuple[str, tuple[str, ...], str, float, float], ...] = (
    ("Respiratory rate", ("respiratory_rate",), "/min", 6, 34),
    ("Oxygen saturation", ("spo2",), "%", 84, 100.5),
    ("Blood pressure", ("systolic_bp", "diastolic_bp"), "mm[Hg]", 40, 190),
    ("Heart rate", ("heart_rate",), "/min", 35, 145),
    ("Temperature", ("temperature",), "Cel", 34.5, 40),
)
"""Title, vitals, unit, and the least range of the axis."""

_TABLES = {
    "respiratory_rate": news2.RESPIRATORY_RATE,
    "systolic_bp": news2.SYSTOLIC_BP,
    "heart_rate": news2.PULSE,
    "temperature": news2.TEMPERATURE,
}
_Columns = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class _TimeAxis:
    """What all charts of one page share."""

    span: Any
    ticker: Any
    labels: dict[float | str, Any]
    site: SiteTime
    now: int

    def words(self, instant: int) -> str:
        """An instant as people of the site read it, with the zone."""
        site = self.site
        return f"{site.local(instant):%d %b %H:%M:%S} {site.zone_name(instant)}"


def chart_json(
    rows: Sequence[ScoreRow],
    flags: Sequence[FlagRow],
    alerts: Sequence[AlertRow],
    history: History,
    *,
    span: tuple[int, int],
    spo2_scale: int | None,
    site: SiteTime | None = None,
) -> dict[str, Any]:
    """One document: the score on top, the vitals below, all on one time axis in the time of the site.

    Args:
        rows: Final windows, oldest first.
        flags: Episodes that touch the span.
        alerts: Alerts of the span; an acknowledged one is a marker.
        history: Vitals.
        span: Start and end of the axis, microseconds.
        spo2_scale: Which bands lie behind the saturation; those of scale 1 while it is not known.
        site: What time people read.
    """
    from bokeh.embed import json_item
    from bokeh.layouts import column
    from bokeh.models import FixedTicker, Range1d

    site = site or SiteTime()
    labels: dict[float | str, Any] = {at / 1_000: text for at, text in ticks_of(span, site)}
    ticker = FixedTicker(ticks=sorted(labels), minor_ticks=[])
    axis = _TimeAxis(Range1d(span[0] / 1_000, span[1] / 1_000, bounds="auto"), ticker, labels, site, span[1])
    figures = [_score_figure(rows, flags, alerts, axis, span)]
    for title, vitals, unit, low, high in CHARTS:
        figure = _figure(f"{title} {UNITS[unit]}", axis, _VITAL_HEIGHT)
        _range(figure, [sample for vital in vitals for sample in history.samples.get(vital, ())], low, high)
        _add_bands(figure, _bands_of(vitals[0], spo2_scale))
        for place, vital in enumerate(vitals):
            _draw_vital(figure, axis, history.samples.get(vital, ()), _SECOND_LINE if place else _LINE)
            _draw_flat(figure, axis, history.flat.get(vital, ()))
        figures.append(figure)
    item: dict[str, Any] = dict(json_item(column(figures, sizing_mode="stretch_width", spacing=4)))
    return item


@cache
def warm_up() -> None:
    """Load the chart library, which takes a second or more, before somebody waits for it; once a process."""
    chart_json([], [], [], History(), span=(0, _GAP), spo2_scale=1)


def ticks_of(span: tuple[int, int], site: SiteTime) -> list[tuple[int, str]]:
    """Where the axis carries a time, microseconds, and which: whole local hours, with the zone where the clocks change.

    >>> ticks_of((0, 3_600_000_000), SiteTime())[1]
    (600000000, '00:10')
    """
    length = (span[1] - span[0]) / _MINUTE
    step = next((minutes for minutes in _STEPS if length / minutes <= _MOST_TICKS), _STEPS[-1])
    found = []
    # Quarter hours: every zone's distance from UTC is a whole number of them, so that each local time is met.
    stride = min(step, 15) * _MINUTE if step >= 15 else step * _MINUTE
    before = site.zone_name(span[0])
    for at in range(-(-span[0] // stride) * stride, span[1] + 1, stride):
        local = site.local(at)
        if (local.hour * 60 + local.minute) % step:
            continue
        name = site.zone_name(at)
        is_day = step >= _DAY_MINUTES or (local.hour == local.minute == 0 and step > _HOUR_MINUTES)
        text = local.strftime("%d %b") if is_day else local.strftime("%H:%M")
        found.append((at, text if name == before and not site.needs_zone(at, at) else f"{text} {name}"))
        before = name
    return found


def is_gap(before: int, after: int) -> bool:
    """Whether the line between two instants must not be drawn."""
    return after - before > _GAP


def _score_figure(
    rows: Sequence[ScoreRow],
    flags: Sequence[FlagRow],
    alerts: Sequence[AlertRow],
    axis: "_TimeAxis",
    span: tuple[int, int],
) -> Any:
    from bokeh.models import Scatter, Step, VStrip

    figure = _figure("NEWS2 score", axis, _SCORE_HEIGHT)
    known = [row for row in rows if row.score is not None]
    figure.y_range.start = -0.5
    figure.y_range.end = max(10.5, *(min(row.score or 0.0, _HIGHEST_SCORE) + 1.5 for row in known)) if known else 10.5
    _add_bands(figure, [(4.5, 6.5, BAND_COLOURS["medium"]), (6.5, _FAR, BAND_COLOURS["high"])])
    spans = [(max(flag.start_at, span[0]), flag.end_at or span[1]) for flag in flags]
    if spans:
        shade: _Columns = {"x0": [start / 1_000 for start, _ in spans], "x1": [end / 1_000 for _, end in spans]}
        strip = VStrip(x0="x0", x1="x1", fill_color=_FLAG_COLOUR, fill_alpha=0.16, line_color=None)
        _add(figure, shade, strip, level="underlay")
    _add(figure, _score_line(known), Step(x="x", y="y", mode="after", line_color=_INK, line_width=1.5))
    square = Scatter(x="x", y="y", marker="square", size=7, fill_color={"field": "colour"}, line_color=None)
    marks = _add(figure, _score_marks(known, axis), square)
    _tell(figure, marks, [("Score", "@y"), ("Band", "@band"), ("Window end", "@time"), ("Data", "@status")])
    seen = [alert for alert in alerts if alert.acknowledged_at is not None and alert.acknowledged_at >= span[0]]
    if seen:
        _draw_acknowledged(figure, axis, seen)
    return figure


def _draw_acknowledged(figure: Any, axis: "_TimeAxis", seen: Sequence[AlertRow]) -> None:
    from bokeh.models import Scatter

    columns: _Columns = {
        "x": [(alert.acknowledged_at or 0) / 1_000 for alert in seen],
        "y": [(alert.score or 0.0) + 1 for alert in seen],
        "reason": [alert.acknowledge_reason or "" for alert in seen],
        "time": [axis.words(alert.acknowledged_at or 0) for alert in seen],
    }
    triangle = Scatter(
        x="x", y="y", marker="inverted_triangle", size=12, fill_color=_FLAG_COLOUR, line_color=_FLAG_COLOUR
    )
    taken = _add(figure, columns, triangle)
    _tell(figure, taken, [("Acknowledged", "@time"), ("Reason", "@reason")])


def _score_line(rows: Sequence[ScoreRow]) -> _Columns:
    columns: _Columns = {"x": [], "y": []}
    before = None
    for row in rows:
        if before is not None and is_gap(before, row.window_end):
            columns["x"].append(before / 1_000)
            columns["y"].append(float("nan"))
        columns["x"].append(row.window_end / 1_000)
        columns["y"].append(row.score)
        before = row.window_end
    return columns


def _score_marks(rows: Sequence[ScoreRow], axis: "_TimeAxis") -> _Columns:
    return {
        "x": [row.window_end / 1_000 for row in rows],
        "y": [row.score for row in rows],
        "band": [row.band or "" for row in rows],
        "status": [row.status for row in rows],
        "time": [axis.words(row.window_end) for row in rows],
        "colour": [BAND_COLOURS.get(row.band or "", _MUTED) for row in rows],
    }


def _draw_vital(figure: Any, axis: "_TimeAxis", samples: Sequence[Sample], colour: str) -> None:
    """Possible values as a line with gaps; impossible ones as crosses; those of a clock ahead ringed."""
    from bokeh.models import Line, Scatter

    line: _Columns = {"x": [], "y": [], "time": []}
    before = None
    for sample in samples:
        if not sample.is_possible:
            continue
        if before is not None and is_gap(before, sample.at):
            line["x"].append(before / 1_000)
            line["y"].append(float("nan"))
            line["time"].append("")
        line["x"].append(sample.at / 1_000)
        line["y"].append(sample.number)
        line["time"].append(axis.words(sample.at))
        before = sample.at
    _add(figure, line, Line(x="x", y="y", line_color=colour, line_width=1.5))
    dots = _add(figure, line, Scatter(x="x", y="y", size=4, fill_color=colour, line_color=colour))
    _tell(figure, dots, [("Value", "@y"), ("Measured", "@time")])
    impossible = [sample for sample in samples if not sample.is_possible]
    if impossible:
        _draw_impossible(figure, axis, impossible)
    ahead = [sample for sample in samples if sample.is_possible and sample.ahead_seconds]
    if ahead:
        _draw_ahead(figure, axis, ahead)


def _draw_ahead(figure: Any, axis: "_TimeAxis", samples: Sequence[Sample]) -> None:
    """Values whose device's clock was ahead, at the instant they were received."""
    from bokeh.models import Scatter

    columns: _Columns = {
        "x": [sample.at / 1_000 for sample in samples],
        "y": [sample.number for sample in samples],
        "time": [axis.words(sample.at) for sample in samples],
        "ahead": [span_words(sample.ahead_seconds) for sample in samples],
    }
    rings = _add(
        figure, columns, Scatter(x="x", y="y", marker="circle_cross", size=10, fill_color=None, line_color=_INK)
    )
    _tell(figure, rings, [("Value", "@y"), ("Received", "@time"), ("Device clock ahead by", "@ahead")])


def _draw_flat(figure: Any, axis: "_TimeAxis", marks: Sequence[tuple[int, float]]) -> None:
    """Where a line is flat: bars above it."""
    from bokeh.models import Scatter

    if not marks:
        return
    columns: _Columns = {
        "x": [at / 1_000 for at, _ in marks],
        "y": [number for _, number in marks],
        "time": [axis.words(at) for at, _ in marks],
    }
    bars = _add(figure, columns, Scatter(x="x", y="y", marker="dash", size=14, line_width=3, line_color=_INK))
    _tell(figure, bars, [("Flat line", "@y"), ("Measured", "@time")])


def _draw_impossible(figure: Any, axis: "_TimeAxis", samples: Sequence[Sample]) -> None:
    from bokeh.models import Scatter

    low, high = figure.y_range.start, figure.y_range.end
    inset = (high - low) * 0.06
    columns: _Columns = {
        "x": [sample.at / 1_000 for sample in samples],
        "y": [min(max(sample.number, low + inset), high - inset) for sample in samples],
        "time": [axis.words(sample.at) for sample in samples],
        "number": [sample.number for sample in samples],
    }
    crosses = _add(figure, columns, Scatter(x="x", y="y", marker="x", size=9, line_width=2, line_color=_MUTED))
    _tell(figure, crosses, [("Not plausible, not scored", "@number"), ("Measured", "@time")])


def _bands_of(vital: str, spo2_scale: int | None) -> list[tuple[float, float, str]]:
    """NEWS2 bands of a vital that give points: from, to, colour."""
    if vital == "spo2":
        table = news2.SPO2_SCALE_2_OXYGEN if spo2_scale == 2 else news2.SPO2_SCALE_1
    else:
        table = _TABLES[vital]
    edges = [(upper + 0.5) / table.per_unit for upper in table.uppers]
    bands = zip([-_FAR, *edges], [*edges, _FAR], table.points, strict=True)
    return [(bottom, top, _POINT_COLOURS[points]) for bottom, top, points in bands if points]


def _add_bands(figure: Any, bands: Sequence[tuple[float, float, str]]) -> None:
    """Coloured stripes behind a chart: from, to, colour."""
    from bokeh.models import HStrip

    columns: _Columns = {
        "y0": [bottom for bottom, _, _ in bands],
        "y1": [top for _, top, _ in bands],
        "colour": [colour for _, _, colour in bands],
    }
    strip = HStrip(y0="y0", y1="y1", fill_color={"field": "colour"}, fill_alpha=0.16, line_color=None)
    _add(figure, columns, strip, level="underlay")


def _range(figure: Any, samples: Sequence[Sample], low: float, high: float) -> None:
    numbers = [sample.number for sample in samples if sample.is_possible]
    margin = (high - low) * 0.03
    figure.y_range.start = min([low, *(number - margin for number in numbers)])
    figure.y_range.end = max([high, *(number + margin for number in numbers)])


def _add(figure: Any, columns: _Columns, glyph: Any, *, level: str = "glyph") -> Any:
    """Draw a glyph; fewer parts than the plotting interface makes, which is most of the cost of a chart."""
    from bokeh.models import ColumnDataSource, GlyphRenderer

    renderer = GlyphRenderer(data_source=ColumnDataSource(columns), glyph=glyph, level=level)
    figure.renderers.append(renderer)
    return renderer


def _tell(figure: Any, renderer: Any, tooltips: list[tuple[str, str]]) -> None:
    from bokeh.models import HoverTool

    figure.add_tools(HoverTool(renderers=[renderer], tooltips=tooltips))


def _figure(title: str, axis: "_TimeAxis", height: int) -> Any:
    """An empty chart in the pages' colours."""
    from bokeh.models import Range1d
    from bokeh.plotting import figure

    made = figure(
        title=title,
        height=height,
        sizing_mode="stretch_width",
        x_axis_type="datetime",
        x_range=axis.span,
        y_range=Range1d(0, 1),
        tools="xpan,reset",
        toolbar_location=None,
        min_border_left=48,
        min_border_right=12,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=_GRID,
    )
    made.title.text_color, made.title.text_font_size, made.title.text_font_style = _INK, "13px", "normal"
    made.title.text_font = "system-ui"
    for line in (made.xgrid, made.ygrid):
        line.grid_line_color = _GRID
    for side in (made.xaxis, made.yaxis):
        side.axis_line_color = side.major_tick_line_color = _GRID
        side.minor_tick_line_color = None
        side.major_label_text_color, side.major_label_text_font_size = _MUTED, "11px"
    made.yaxis.ticker.desired_num_ticks = 4
    made.xaxis.ticker = made.xgrid.ticker = axis.ticker
    made.xaxis.major_label_overrides = axis.labels
    return made
