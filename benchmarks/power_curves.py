"""Simulate how many questions, answers and controls a study needs, and draw the curves.

    python -m benchmarks.power_curves [--picture FILE] [--quick]

Three tables: power of the slice test of open questions by size of the effect, power of a contrast, and share
of the planted questions that are confirmed by number of controls. They call the functions that `plan` and a
build use.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from benchmarks.calibration import FDR, SimulatedWorld, judge_world
from benchmarks.calibration_contrasts import first_contrast
from tasks.measure.verdicts import confirm_questions
from tasks.stats.power import power_of_excess

EFFECTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
QUESTIONS = (10, 30, 100)
CONTROLS = (20, 35, 50, 75, 100, 150)
ERRORS = (0.0, 0.01, 0.03)
SAMPLES = 3


@dataclass(frozen=True)
class Curve:
    """One line of a picture."""

    title: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def excess_curves(runs: int) -> list[Curve]:
    """Return the power of the slice test at .05 by difference in standard deviations of one answer."""
    return [
        Curve(
            f"{n} questions",
            EFFECTS,
            tuple(power_of_excess(effect, SAMPLES, n, runs=runs) for effect in EFFECTS),
        )
        for n in QUESTIONS
    ]


def contrast_curves(runs: int) -> list[Curve]:
    """Return the power of a contrast of two values at .05, by its size in SD of one question."""
    curves = []
    for n in QUESTIONS:
        generator = np.random.default_rng([31, n])
        power = []
        for effect in EFFECTS:
            hits = 0
            for _ in range(runs):
                # The contrast of the first value is half of the difference between both.
                half = np.clip((generator.normal(size=n) + effect) / 8, -1, 1)
                found = first_contrast(np.column_stack([half, -half]))
                hits += found.p_value is not None and found.p_value <= 0.05
            power.append(hits / runs)
        curves.append(Curve(f"{n} questions", EFFECTS, tuple(power)))
    return curves


def confirmation_curves(runs: int) -> list[Curve]:
    """Return the share of planted questions that are confirmed, by controls and errors of the judge."""
    world = SimulatedWorld(planted=30, empty=30)
    curves = []
    for errors in ERRORS:
        shares = []
        for controls in CONTROLS:
            generator = np.random.default_rng([32, controls, int(100 * errors)])
            found = []
            for _ in range(runs):
                questions, verdicts, truth = judge_world(world, generator, controls=controls, errors=errors)
                confirmed = confirm_questions(questions, verdicts, "boolean", FDR)
                found.append(len(confirmed & truth) / len(truth))
            shares.append(float(np.mean(found)))
        curves.append(Curve(f"{errors:.0%} errors", tuple(map(float, CONTROLS)), tuple(shares)))
    return curves


PANELS = (
    ("Difference between answers", "difference in SD of one answer", excess_curves),
    ("Contrast of a value", "contrast in SD of one question", contrast_curves),
    ("Confirmed planted questions", "matching controls", confirmation_curves),
)


def print_table(title: str, axis: str, curves: Sequence[Curve]) -> None:
    """Print the curves of one picture as a Markdown table."""
    print(f"\n| {title}: {axis} | {' | '.join(f'{x:g}' for x in curves[0].x)} |")
    print(f"|---{'|---' * len(curves[0].x)}|")
    for curve in curves:
        cells = [f"{y:.2f}".removeprefix("0") if y < 1 else "1.00" for y in curve.y]
        print(f"| {curve.title} | {' | '.join(cells)} |")


def draw(panels: Sequence[tuple[str, str, list[Curve]]], path: Path) -> None:
    """Draw all curves beside each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, (title, axis, curves) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for curve, marker in zip(curves, "os^", strict=True):
            axes.plot(curve.x, curve.y, marker=marker, label=curve.title)
        axes.axhline(0.8, color="0.7", linewidth=0.8, zorder=0)
        axes.set(title=title, xlabel=axis, ylim=(0, 1.02), xlim=(0, None))
        axes.set_ylabel("share confirmed" if "Confirmed" in title else "power at .05")
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--picture", type=Path, help="file of the picture (SVG or PNG)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations")
    options = parser.parse_args(arguments)
    runs = 60 if options.quick else 600
    panels = [(title, axis, curves(runs)) for title, axis, curves in PANELS]
    for panel in panels:
        print_table(*panel)
    print(f"\n{runs} runs per figure, simulation error at most {sqrt(0.25 / runs):.3f}")
    if options.picture:
        draw(panels, options.picture)


if __name__ == "__main__":
    main()
