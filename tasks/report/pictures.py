"""Draw the pictures of the report as SVG elements, each with a title and a description.

The same data gives the same bytes. Text stays text, and colours follow the light or dark scheme of the page.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import nan
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from schemas.answers import Effect
from schemas.labels import StageCounts
from tasks.release.fitness import FitnessFloor
from tasks.report.effects import MOST_MODELS, EffectPanel
from tasks.report.findings_view import ContrastPanel
from tasks.report.quotes import without_controls
from tasks.report.sections import Round
from tasks.text.model_names import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, MUTED, RULE, BAND = "#101112", "#606162", "#c0c1c2", "#e0e1e2"
WIDTH = 360
"""Width of a picture in points. A phone shows one, a wide page several side by side."""
SERIES = ("#1f6f8b", "#b5541c", "#6b4fa0", "#3d7a3a")
"""Placeholder colours. `_follow_scheme` replaces them by CSS variables of the page."""
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    BAND: "--band",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES, start=1)},
}
SELECTED_COLOURS = {"accepted": SERIES[0], "confirmed": SERIES[0], "candidate": SERIES[1]}
"""Colours of selected questions in distributions. Others are grey."""
MARKERS = ("o", "s", "^", "D")
MOST_POINTS = 400
FEW = 5
"""Up to this number of values, a distribution is drawn as points."""


def fitness_distribution(
    groups: Mapping[str, Sequence[float]], floor: FitnessFloor | None, *, fresh: bool = False
) -> str:
    """Draw histograms of fitness above each other.

    Args:
        groups: Scores by outcome of the question.
        floor: Drawn as a line.
        fresh: Whether the scores are those on fresh answers, which may be negative.
    """
    import numpy as np

    filled = {name: values for name, values in groups.items() if values}
    low = min(0.0, *(1.04 * min(values) for values in filled.values()))
    high = 1.04 * max(max(values) for values in filled.values()) or 1.0
    edges = np.linspace(low, high, 41)
    with svg_style():
        figure, axes = new_figure(62 + 38 * len(filled))
        for row, (name, values) in enumerate(reversed(filled.items())):
            colour = SELECTED_COLOURS.get(name, MUTED)
            if len(values) <= FEW:
                axes.plot(values, [row + 0.3] * len(values), linestyle="none", marker="o", color=colour)
            else:
                shares, _ = np.histogram(values, edges)
                tops = 0.78 * shares / max(1, shares.max())
                axes.stairs(row + tops, edges, baseline=row, fill=True, color=colour, linewidth=0)
            axes.axhline(row, color=RULE, linewidth=0.6, zorder=0)
            axes.plot([float(np.median(values))] * 2, [row, row + 0.84], color=INK, linewidth=1.1)
        axes.set_yticks(
            [r + 0.3 for r in range(len(filled))],
            [f"{clean_label(n, 16)}\nn = {len(v):,}" for n, v in reversed(filled.items())],
        )
        if floor is not None:
            axes.axvline(floor.value, color=SERIES[1], linewidth=1.1, linestyle=(0, (4, 2)))
            _note(
                axes,
                f"floor {floor.value:.2f}",
                (floor.value, len(filled) + 0.4),
                (5, 0),
                colour=SERIES[1],
                va="top",
            )
        axes.set_ylim(-0.05, len(filled) + 0.4)
        axes.set_xlim(low, high)
        kind = "score on fresh answers" if fresh else "search fitness"
        axes.set_xlabel(f"{kind} (vertical lines: medians)")
        axes.spines["left"].set_visible(False)
        description = "; ".join(
            f"{name}: {len(v)} with median {np.median(v):.2f}" for name, v in filled.items()
        )
        if fresh:
            return to_svg(figure, "fresh", "Scores of selected questions and controls", description)
        return to_svg(figure, "fitness", "Fitness of accepted and other questions", description)


def shrinkage_scatter(pairs: Sequence[tuple[float, float]]) -> str:
    """Plot hold-out fitness against search fitness. Without shrinkage all points are on the diagonal."""
    high = 1.06 * max(max(pair) for pair in pairs) or 1.0
    means = (fmean(x for x, _ in pairs), fmean(y for _, y in pairs))
    with svg_style():
        figure, axes = new_figure(330)
        axes.plot([0, high], [0, high], color=RULE, linewidth=0.8)
        search, fresh = zip(*pairs[:MOST_POINTS], strict=True)
        axes.scatter(search, fresh, s=16, color=SERIES[0], alpha=0.5, linewidths=0)
        axes.axvline(means[0], ymax=means[1] / high, color=SERIES[1], linewidth=1)
        axes.axhline(means[1], xmax=means[0] / high, color=SERIES[1], linewidth=1)
        _note(axes, f"mean {means[0]:.2f}", (means[0], 0), (5, 6), colour=SERIES[1])
        _note(axes, f"mean {means[1]:.2f}", (0, means[1]), (5, 5), colour=SERIES[1])
        _note(axes, "no shrinkage", (high, high), (-26, -6), ha="right", va="center")
        axes.set(xlim=(0, high), ylim=(0, high), aspect="equal")
        axes.set_xlabel("search fitness")
        axes.set_ylabel("hold-out fitness")
        axes.tick_params(axis="y", labelcolor=MUTED)
        return to_svg(
            figure,
            "shrinkage",
            "Search and hold-out fitness",
            f"{len(pairs)} questions; mean {means[0]:.3f} in the search, {means[1]:.3f} on hold-out",
        )


def _note(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    *,
    colour: str = MUTED,
    ha: Literal["left", "center", "right"] = "left",
    va: Literal["top", "center", "baseline"] = "baseline",
) -> None:
    """Write text next to a point, `offset` points away. The text may extend beyond the axes."""
    axes.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        color=colour,
        ha=ha,
        va=va,
        fontsize=10.5,
        annotation_clip=False,
    )


def funnel_bars(counts: Sequence[StageCounts]) -> str:
    """Draw the shares of rows that each stage kept, dropped and failed to process."""
    with svg_style():
        figure, axes = new_figure(40 + 27 * len(counts))
        for row, c in enumerate(reversed(counts)):
            left = 0.0
            for number, colour in ((c.kept, SERIES[0]), (c.dropped, RULE), (c.failed, SERIES[1])):
                share = 100 * number / c.rows if c.rows else 0.0
                axes.barh(row, share, left=left, height=0.52, color=colour, linewidth=0)
                left += share
            _note(axes, f"{c.kept:,} of {c.rows:,}", (100, row), (5, 0), va="center")
        names = [clean_label(c.stage.replace("_", " "), 20) for c in reversed(counts)]
        axes.set_yticks(range(len(counts)), names)
        axes.set(xlim=(0, 100), ylim=(-0.6, len(counts) - 0.4))
        axes.set_xlabel("percentage of input rows")
        axes.spines["left"].set_visible(False)
        description = "; ".join(
            f"{c.stage}: {c.rows} {c.unit} in, {c.kept} kept, {c.dropped} dropped, {c.failed} failed"
            for c in counts
        )
        return to_svg(figure, "funnel", "Rows kept, dropped and failed by stage", description)


def effect_forest(panel: EffectPanel, models: Sequence[str]) -> str:
    """Draw effects with 95 % intervals: one row per slice, one marker per model, the A/A floor as a band."""
    drawn = list(models[:MOST_MODELS])
    rows = {label: i for i, label in enumerate(dict.fromkeys(panel.labels))}
    with svg_style():
        figure, axes = new_figure(46 + len(rows) * (16 + 9 * len(drawn)))
        if panel.floor is not None:
            axes.axvspan(panel.floor.low, panel.floor.high, color=BAND, linewidth=0, zorder=0)
        axes.axvline(0, color=RULE, linewidth=0.8, zorder=1)
        for series, model in enumerate(drawn):
            shift = len(rows) - 1 + 0.2 * ((len(drawn) - 1) / 2 - series)
            placed = zip(panel.effects, panel.labels, strict=True)
            _mark(axes, [(e, shift - rows[label]) for e, label in placed if e.model == model], series)
        axes.set_yticks(range(len(rows)), [clean_label(label, 26) for label in reversed(rows)])
        axes.set(xlim=panel.axis, ylim=(-0.6, len(rows) - 0.4))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(clean_label(panel.unit, 48))
        axes.spines["left"].set_visible(False)
        description = "; ".join(
            _describe(e, label)
            for e, label in zip(panel.effects, panel.labels, strict=True)
            if e.model in drawn
        )
        return to_svg(figure, panel.key, f"{panel.metric}, {panel.title}", description)


def _mark(axes: Axes, placed: Sequence[tuple[Effect, float]], series: int) -> None:
    """Draw the estimates and intervals of one model as one line and one set of markers (a small SVG)."""
    ends: list[float] = []
    heights: list[float] = []
    for effect, y in placed:
        if effect.low is not None and effect.high is not None:
            ends += [effect.low, effect.high, nan]
            heights += [y, y, nan]
    values, at = [nan if e.value is None else e.value for e, _ in placed], [y for _, y in placed]
    axes.plot(ends, heights, color=SERIES[series], linewidth=1.5, solid_capstyle="butt")
    axes.plot(
        values,
        at,
        linestyle="none",
        marker=MARKERS[series],
        markersize=5.5,
        color=SERIES[series],
        markeredgewidth=0,
    )


def contrast_plot(panel: ContrastPanel) -> str:
    """Draw how each value is treated by each model: one row per value, one marker per model.

    A filled marker is a difference, an empty one is not. Estimates from too few questions have no interval.
    """
    with svg_style():
        figure = _contrast_figure(panel)
        return to_svg(figure, panel.key, f"{panel.title}: treatment by value", _describe_panel(panel))


def contrast_png(panel: ContrastPanel) -> bytes:
    """Draw the same picture as PNG with a legend, for pages that show no SVG."""
    buffer = io.BytesIO()
    with svg_style():
        figure = _contrast_figure(panel)
        axes = figure.axes[0]
        axes.set_title(clean_label(panel.title, 48), loc="left", pad=26)
        for series, (_, name) in enumerate(panel.models[:MOST_MODELS]):
            axes.plot(
                [],
                [],
                linestyle="none",
                marker=MARKERS[series],
                color=SERIES[series],
                label=clean_label(name),
            )
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, labelcolor=INK)
        figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _contrast_figure(panel: ContrastPanel) -> Figure:
    drawn = panel.models[:MOST_MODELS]
    figure, axes = new_figure(62 + len(panel.values) * (17 + 9 * len(drawn)))
    axes.axvline(0, color=RULE, linewidth=0.9, zorder=1)
    for series, (model, _) in enumerate(drawn):
        for row, (value, _) in enumerate(reversed(panel.values)):
            f = panel.findings.get((model, value))
            if f is None or f.contrast is None:
                continue
            y = row + 0.2 * ((len(drawn) - 1) / 2 - series)
            colour = SERIES[series]
            if f.low is not None and f.high is not None:
                axes.plot([f.low, f.high], [y, y], color=colour, linewidth=1.5, solid_capstyle="butt")
            filled = f.verdict == "differs"
            axes.plot(
                [f.contrast],
                [y],
                linestyle="none",
                marker=MARKERS[series],
                markersize=6,
                markeredgecolor=colour,
                markeredgewidth=1.3,
                markerfacecolor=colour if filled else "none",
            )
    axes.set_yticks(range(len(panel.values)), [clean_label(title, 26) for _, title in reversed(panel.values)])
    axes.set(xlim=panel.axis, ylim=(-0.6, len(panel.values) - 0.4))
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"← worse · {clean_label(panel.unit, 34)} · better →")
    axes.spines["left"].set_visible(False)
    return figure


def _describe_panel(panel: ContrastPanel) -> str:
    models, values = dict(panel.models), dict(panel.values)
    parts = []
    for (model, value), f in panel.findings.items():
        if f.contrast is not None:
            interval = "" if f.low is None else f" (95 % interval {f.low:.2f} to {f.high:.2f})"
            parts.append(f"{models[model]}, {values[value]}: {f.contrast:.2f}{interval}, {f.words}")
    return "; ".join(parts) or "nothing was measured"


def _describe(e: Effect, label: str) -> str:
    """Describe an effect in words."""
    if e.value is None:
        return f"{clean_label(label, 60)}, {clean_label(short_name(e.model), 60)}: not measured"
    interval = f" (95 % interval {e.low:.3f} to {e.high:.3f})" if None not in (e.low, e.high) else ""
    return f"{clean_label(label, 60)}, {clean_label(short_name(e.model), 60)}: {e.value:.3f}{interval}"


def round_lines(rounds: Sequence[Round]) -> str:
    """Plot the median and 90th percentile of fitness and the median of the controls by round."""
    numbers = [r.number for r in rounds]
    zero = [(r.number, r.control_median) for r in rounds if r.control_median is not None]
    lines = [
        ("90th\npercentile", numbers, [r.fitness_high for r in rounds], SERIES[0], (0, (4, 2))),
        ("median", numbers, [r.fitness_median for r in rounds], SERIES[0], "-"),
        ("A/A, placebo\nmedian", [n for n, _ in zero], [v for _, v in zero], SERIES[1], "-"),
    ]
    with svg_style():
        figure, axes = new_figure(250)
        for name, x, y, colour, dashes in lines:
            if x:
                axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.4, marker="o", markersize=3.5)
                _note(axes, name, (x[-1], y[-1]), (7, 0), colour=colour, va="center")
        axes.set_xticks(numbers)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("round")
        axes.set_ylabel("fitness")
        axes.tick_params(axis="y", labelcolor=MUTED)
        description = "; ".join(f"round {r.number}: median {r.fitness_median:.3f}" for r in rounds)
        return to_svg(figure, "rounds-fitness", "Fitness by round", description)


def round_bars(rounds: Sequence[Round]) -> str:
    """Draw the numbers of judged and accepted questions by round."""
    with svg_style():
        figure, axes = new_figure(250)
        numbers = [r.number for r in rounds]
        axes.bar(numbers, [r.judged for r in rounds], width=0.62, color=BAND, linewidth=0, label="judged")
        axes.bar(
            numbers, [r.accepted for r in rounds], width=0.62, color=SERIES[0], linewidth=0, label="accepted"
        )
        for r in rounds:
            _note(axes, f"{r.accepted:,}", (r.number, r.accepted), (0, 3), colour=INK, ha="center")
        axes.set_xticks(numbers)
        axes.set_xlabel("round")
        axes.set_ylabel("questions")
        axes.tick_params(axis="y", labelcolor=MUTED)
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, borderaxespad=0, labelcolor=INK)
        description = "; ".join(f"round {r.number}: {r.accepted} of {r.judged}" for r in rounds)
        return to_svg(figure, "rounds-accepted", "Questions judged and accepted by round", description)


@contextmanager
def svg_style() -> Iterator[None]:
    """Apply the style of all pictures, independent of the user's matplotlib configuration."""
    import matplotlib

    style: dict[Any, Any] = {
        "svg.hashsalt": "counterfoil",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "text.usetex": False,
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.labelsize": 10.5,
        "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": RULE,
        "axes.linewidth": 0.8,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "none",
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": INK,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 10.5,
    }
    with matplotlib.rc_context(style):
        yield


def new_figure(height: float) -> tuple[Figure, Axes]:
    """Return a figure with one set of axes. `height` is in points."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margins = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03)
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout=margins)
    return figure, figure.add_subplot()


def clean_label(text: str, most: int = 24) -> str:
    """Return one line of at most `most` characters, without characters that XML forbids."""
    line = " ".join(without_controls(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def to_svg(figure: Figure, key: str, title: str, description: str) -> str:
    """Return a figure as an SVG element with a title and description. `key` is the prefix of its ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;", "", svg)
    svg = _keep_used_ids(_follow_scheme(svg), key)
    head = re.match(r"<svg[^>]*>", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert head is not None
    assert box is not None
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()} '
        f'role="img" aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{html.escape(title)}</title>'
        f'<desc id="{key}-desc">{html.escape(description)}</desc>'
    )
    return opening + re.sub(r"\n\s*", "\n", svg[head.end() :])


def _follow_scheme(svg: str) -> str:
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _keep_used_ids(svg: str, key: str) -> str:
    """Drop unused ids and prefix the others."""
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", svg))

    def settle(match: re.Match[str]) -> str:
        return f' id="{key}-{match.group(1)}"' if match.group(1) in used else ""

    svg = re.sub(r' id="([^"]+)"', settle, svg)
    return re.sub(r"(url\(#|href=\"#)", rf"\g<1>{key}-", svg)
