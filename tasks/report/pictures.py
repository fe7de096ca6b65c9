"""The report's pictures. Each returns one SVG element with a title and a description in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from schemas.answers import Effect
from schemas.labels import StageCounts
from tasks.release.fitness import FitnessFloor
from tasks.report.effects import MOST_MODELS, EffectPanel
from tasks.report.quotes import BAND, INK, MUTED, RULE, SERIES, clean_label, drawn_plainly, panel, to_svg
from tasks.report.sections import Round

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MARKERS = ("o", "s", "^", "D")
MOST_POINTS = 400


def fitness_distribution(groups: Mapping[str, Sequence[float]], floor: FitnessFloor | None) -> str:
    """Histograms of fitness above each other on one axis, with the floor of the controls as a line."""
    import numpy as np

    filled = {name: values for name, values in groups.items() if values}
    high = 1.04 * max(max(values) for values in filled.values()) or 1.0
    edges = np.linspace(0.0, high, 41)
    with drawn_plainly():
        figure, axes = panel(62 + 38 * len(filled))
        for row, (name, values) in enumerate(reversed(filled.items())):
            shares, _ = np.histogram(values, edges)
            tops = 0.78 * shares / max(1, shares.max())
            colour = SERIES[0] if name == "accepted" else MUTED
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
        axes.set_xlim(0.0, high)
        axes.set_xlabel("fitness in the search (a line marks each median)")
        axes.spines["left"].set_visible(False)
        told = "; ".join(f"{name}: {len(v)} with median {np.median(v):.2f}" for name, v in filled.items())
        return to_svg(figure, "fitness", "Fitness of accepted questions and of the rest", told)


def shrinkage_scatter(pairs: Sequence[tuple[float, float]]) -> str:
    """Search fitness against fitness on fresh samples; on the diagonal nothing shrinks."""
    high = 1.06 * max(max(pair) for pair in pairs) or 1.0
    means = (fmean(x for x, _ in pairs), fmean(y for _, y in pairs))
    with drawn_plainly():
        figure, axes = panel(330)
        axes.plot([0, high], [0, high], color=RULE, linewidth=0.8)
        search, fresh = zip(*pairs[:MOST_POINTS], strict=True)
        axes.scatter(search, fresh, s=16, color=SERIES[0], alpha=0.5, linewidths=0)
        axes.axvline(means[0], ymax=means[1] / high, color=SERIES[1], linewidth=1)
        axes.axhline(means[1], xmax=means[0] / high, color=SERIES[1], linewidth=1)
        _note(axes, f"mean {means[0]:.2f}", (means[0], 0), (5, 6), colour=SERIES[1])
        _note(axes, f"mean {means[1]:.2f}", (0, means[1]), (5, 5), colour=SERIES[1])
        _note(axes, "no shrinkage", (high, high), (-26, -6), ha="right", va="center")
        axes.set(xlim=(0, high), ylim=(0, high), aspect="equal")
        axes.set_xlabel("fitness in the search")
        axes.set_ylabel("fitness on fresh samples")
        axes.tick_params(axis="y", labelcolor=MUTED)
        return to_svg(
            figure,
            "shrinkage",
            "Fitness in the search and on fresh samples",
            f"{len(pairs)} questions; mean {means[0]:.3f} in the search, {means[1]:.3f} on fresh samples",
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
    """Words beside a point of the axes, `offset` points away from it; they may leave the axes."""
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
    """Per stage, the shares of what went in that were kept, dropped and failed."""
    with drawn_plainly():
        figure, axes = panel(40 + 27 * len(counts))
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
        axes.set_xlabel("per cent of what went in")
        axes.spines["left"].set_visible(False)
        told = "; ".join(
            f"{c.stage}: {c.rows} {c.unit} in, {c.kept} kept, {c.dropped} dropped, {c.failed} failed"
            for c in counts
        )
        return to_svg(figure, "funnel", "What went through each stage", told)


def effect_forest(shown: EffectPanel, models: Sequence[str]) -> str:
    """Values with their 95 % intervals, one row a slice and one mark a model; the A/A floor as a band."""
    drawn = list(models[:MOST_MODELS])
    rows = {label: i for i, label in enumerate(dict.fromkeys(shown.labels))}
    with drawn_plainly():
        figure, axes = panel(46 + len(rows) * (16 + 9 * len(drawn)))
        if shown.floor is not None:
            axes.axvspan(shown.floor.low, shown.floor.high, color=BAND, linewidth=0, zorder=0)
        axes.axvline(0, color=RULE, linewidth=0.8, zorder=1)
        for which, model in enumerate(drawn):
            shift = len(rows) - 1 + 0.2 * ((len(drawn) - 1) / 2 - which)
            placed = zip(shown.effects, shown.labels, strict=True)
            _mark(axes, [(e, shift - rows[label]) for e, label in placed if e.model == model], which)
        axes.set_yticks(range(len(rows)), [clean_label(label, 26) for label in reversed(rows)])
        axes.set(xlim=shown.axis, ylim=(-0.6, len(rows) - 0.4))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(clean_label(shown.unit, 48))
        axes.spines["left"].set_visible(False)
        told = "; ".join(
            _told(e, label) for e, label in zip(shown.effects, shown.labels, strict=True) if e.model in drawn
        )
        return to_svg(figure, shown.key, f"{shown.metric}, {shown.title}", told)


def _mark(axes: Axes, placed: Sequence[tuple[Effect, float]], which: int) -> None:
    """One model's values and intervals, each at its height; as one line and one set of marks, which keeps the
    picture small."""
    ends: list[float] = []
    heights: list[float] = []
    for effect, y in placed:
        if effect.low is not None and effect.high is not None:
            ends += [effect.low, effect.high, nan]
            heights += [y, y, nan]
    values, at = [e.value for e, _ in placed], [y for _, y in placed]
    axes.plot(ends, heights, color=SERIES[which], linewidth=1.5, solid_capstyle="butt")
    axes.plot(
        values,
        at,
        linestyle="none",
        marker=MARKERS[which],
        markersize=5.5,
        color=SERIES[which],
        markeredgewidth=0,
    )


def _told(e: Effect, label: str) -> str:
    """An effect in words."""
    interval = f" (95 % interval {e.low:.3f} to {e.high:.3f})" if None not in (e.low, e.high) else ""
    return f"{clean_label(label, 60)}, {clean_label(e.model, 60)}: {e.value:.3f}{interval}"


def round_lines(rounds: Sequence[Round]) -> str:
    """Median and 90th percentile of fitness by round, with the controls' median; each line says its name."""
    numbers = [r.number for r in rounds]
    zero = [(r.number, r.control_median) for r in rounds if r.control_median is not None]
    lines = [
        ("90th\npercentile", numbers, [r.fitness_high for r in rounds], SERIES[0], (0, (4, 2))),
        ("median", numbers, [r.fitness_median for r in rounds], SERIES[0], "-"),
        ("A/A, placebo\nmedian", [n for n, _ in zero], [v for _, v in zero], SERIES[1], "-"),
    ]
    with drawn_plainly():
        figure, axes = panel(250)
        for name, x, y, colour, dashes in lines:
            if x:
                axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.4, marker="o", markersize=3.5)
                _note(axes, name, (x[-1], y[-1]), (7, 0), colour=colour, va="center")
        axes.set_xticks(numbers)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("round")
        axes.set_ylabel("fitness")
        axes.tick_params(axis="y", labelcolor=MUTED)
        told_rounds = "; ".join(f"round {r.number}: median {r.fitness_median:.3f}" for r in rounds)
        return to_svg(figure, "rounds-fitness", "Fitness by round", told_rounds)


def round_bars(rounds: Sequence[Round]) -> str:
    """Questions judged and accepted by round."""
    with drawn_plainly():
        figure, axes = panel(250)
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
        told_rounds = "; ".join(f"round {r.number}: {r.accepted} of {r.judged}" for r in rounds)
        return to_svg(figure, "rounds-accepted", "Questions judged and accepted by round", told_rounds)
