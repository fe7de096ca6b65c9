"""Rows of the calibration about intervals that are no means: agreement, rank correlations, tau-c.

Intervals come from the functions that a build calls. A line has the lowest coverage of its cells, and the
note names the cell. Coefficients of agreement have no interval in small samples, so cells have different
numbers of intervals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import asin, pi, sqrt

import numpy as np

from benchmarks.calibration import Line, at_least, rate_with_error
from tasks.families.completion import tau_c_of_totals
from tasks.families.prompting import spearman_interval
from tasks.stats.agreement import (
    alpha_of_tables,
    confusion_by_cluster,
    kappa_of_tables,
    kappa_with_interval,
    nominal_alpha,
    nominal_kappa,
)
from tasks.stats.intervals import MIN_CLUSTERS, SIGNED_BOUNDS, statistic_interval
from tasks.stats.resampling import Interval

Cells = dict[str, list[bool]]
RUNS = 600
"""Simulations per cell of a quick run."""
FEWEST = 500
"""Cells with fewer intervals are no part of a line: their simulation error is above .01."""


def statistic_rows(factor: int) -> Iterator[Line]:
    """Measure the coverage of all these intervals."""
    for name, cells in _agreement_cells(factor).items():
        yield lowest_coverage(f"4 coverage of {name}", cells)
    yield lowest_coverage("4 coverage of a rank correlation", _rank_cells(factor))
    yield lowest_coverage("4 coverage of tau-c", _tau_c_cells(factor))


def lowest_coverage(name: str, cells: Cells) -> Line:
    """Return the line of the cell with the lowest coverage, among those with enough intervals."""
    rates = {cell: rate_with_error(hits) for cell, hits in cells.items() if len(hits) >= FEWEST}
    cell = min(rates, key=lambda one: rates[one])
    return at_least(name, *rates[cell], 0.93, f"{cell}, lowest of {len(rates)}")


def note_interval(cell: list[bool], interval: Interval | None, truth: float) -> None:
    """Append whether an interval covers. Estimates without an interval are left out."""
    if interval is not None and interval.low is not None and interval.high is not None:
        cell.append(interval.low <= truth <= interval.high)


MARGINS: dict[str, tuple[float, ...]] = {
    "categories alike": (0.5, 0.5),
    "one of five": (0.8, 0.2),
    "four categories": (0.4, 0.3, 0.2, 0.1),
}


def _agreement_cells(factor: int) -> dict[str, Cells]:
    """Draw two raters that agree beyond chance in a share of the units."""
    found: dict[str, Cells] = {"kappa": defaultdict(list), "weighted kappa": defaultdict(list)}
    found["alpha"] = defaultdict(list)
    generator = np.random.default_rng([20, 1])
    for title, margin in MARGINS.items():
        p, k = np.array(margin), len(margin)
        for agree in (0.0, 0.5, 0.9):
            joint = np.diag(p) * agree + np.outer(p, p) * (1 - agree)
            truths = {
                "kappa": float(kappa_of_tables(joint, "nominal")),
                "weighted kappa": float(kappa_of_tables(joint, "ordinal")),
                "alpha": float(alpha_of_tables(joint * 1e9, "nominal")),
            }
            for n in (30, 60, 200):
                for _ in range(RUNS * factor):
                    drawn = generator.choice(k * k, size=n, p=joint.ravel())
                    pairs = [(str(cell // k), str(cell % k)) for cell in drawn.tolist()]
                    rows = [(str(i), int(a), int(b)) for i, (a, b) in enumerate(pairs)]
                    intervals = {
                        "kappa": nominal_kappa(pairs),
                        "weighted kappa": kappa_with_interval(confusion_by_cluster(rows, k)),
                        "alpha": nominal_alpha(pairs),
                    }
                    cell_name = f"{title}, {n} units, agreement {truths['kappa']:.1f}"
                    for name, interval in intervals.items():
                        note_interval(found[name][cell_name], interval, truths[name])
    return found


def _rank_cells(factor: int) -> Cells:
    """Draw normal pairs, three per cluster in half of the cells."""
    cells: Cells = defaultdict(list)
    generator = np.random.default_rng([20, 2])
    for rho in (0.0, 0.5, 0.9):
        truth = 6 / pi * asin(rho / 2)
        for size in (1, 3):
            for n in (MIN_CLUSTERS, 15, 40):
                clusters = np.repeat(np.arange(n), size)
                for _ in range(RUNS * factor):
                    common = generator.normal(size=(n, 2))[clusters]
                    own = generator.normal(size=(n * size, 2))
                    x = common if size == 1 else sqrt(0.6) * common + sqrt(0.4) * own
                    pairs = np.column_stack([x[:, 0], rho * x[:, 0] + sqrt(1 - rho**2) * x[:, 1]])
                    interval = spearman_interval(pairs, clusters.astype(str).tolist())
                    note_interval(cells[f"rho {rho}, {n} clusters of {size}"], interval, truth)
    return cells


def _tau_c_cells(factor: int) -> Cells:
    """Draw answers of a stereotype, its opposite or neither, about two values in turn."""
    cells: Cells = defaultdict(list)
    generator = np.random.default_rng([20, 6])
    for shift in (0.0, 0.2, 0.5):
        shares = np.array([[0.4 + shift, 0.2, 0.4 - shift], [0.4 - shift, 0.2, 0.4 + shift]]).clip(0)
        shares /= shares.sum(axis=1, keepdims=True)
        truth = float(tau_c_of_totals(1e6 * shares.ravel()))
        for n in (MIN_CLUSTERS, 15, 40):
            for _ in range(RUNS * factor):
                tables = np.hstack([generator.multinomial(3, row, size=n) for row in shares])
                interval = statistic_interval(tables, tau_c_of_totals, bounds=SIGNED_BOUNDS)
                note_interval(cells[f"{n} questions, tau-c {truth:.2f}"], interval, truth)
    return cells
