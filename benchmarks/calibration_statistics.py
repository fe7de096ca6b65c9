"""Rows of the calibration about intervals that are no means: agreement, ranks, shared differences, spreads.

Intervals come from the functions that a build calls. A line has the lowest coverage of its cells, and the
note names the cell. Coefficients of agreement have no interval in small samples, so cells have different
numbers of intervals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import asin, pi, sqrt

import numpy as np

from benchmarks.calibration import Generator, Line, at_least, at_most, rate_with_error
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
from tasks.stats.resampling import Interval, excess_interval, excess_weights
from tasks.stats.shared_difference import shared_difference, shared_interval
from tasks.stats.spread import group_spread, spread_interval

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
    yield lowest_coverage("4 coverage of a shared difference", _shared_cells(factor))
    yield lowest_coverage("4 coverage of a spread between groups", _spread_cells(factor))
    yield lowest_coverage("4 coverage of tau-c", _tau_c_cells(factor))
    yield lowest_coverage("4 coverage of the excess of one question", _excess_cells(factor))
    yield from _tests(factor)


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


def _draw_answers(generator: Generator, questions: int, dimensions: int, size: float) -> np.ndarray:
    """Draw two answers to each of two values, with a difference of varying size in one direction."""
    rows = generator.normal(size=(questions, 4, dimensions))
    rows[:, :2, 0] += size * generator.gamma(4, 1 / 4, size=(questions, 1))
    return rows.reshape(-1, dimensions)


def _shared_cells(factor: int) -> Cells:
    cells: Cells = defaultdict(list)
    generator = np.random.default_rng([20, 3])
    for dimensions in (2, 30):
        for size in (0.0, 1.0, 3.0):
            for n in (MIN_CLUSTERS, 15, 40):
                cell = cells[f"{n} questions, {dimensions} dimensions, size {size:g}"]
                for _ in range(RUNS * factor):
                    vectors = _draw_answers(generator, n, dimensions, size)
                    # The mean answers differ by `size`. Half of its square is the mean product.
                    note_interval(cell, shared_interval(vectors, [(2, 2)] * n), size**2 / 2)
    return cells


def _tests(factor: int) -> Iterator[Line]:
    """Draw shared differences and spreads without an effect."""
    generator = np.random.default_rng([20, 4])
    hits = [
        shared_difference(_draw_answers(generator, n, 10, 0.0), [(2, 2)] * n, seed)[1] <= 0.05
        for n in (5, 20)
        for seed in range(RUNS * factor)
    ]
    yield at_most("9 type I error of a shared difference", *rate_with_error(hits), 0.06, "5 and 20 questions")
    hits = [
        group_spread(generator.normal(size=(n, 5)), seed).p_value <= 0.05
        for n in (4, 12)
        for seed in range(300 * factor)
    ]
    yield at_most(
        "9 type I error of a spread between groups", *rate_with_error(hits), 0.06, "4 and 12 settings"
    )


def _spread_cells(factor: int) -> Cells:
    """Draw scores of groups with means in equal steps. The truth is the mean spread of as many settings."""
    cells: Cells = defaultdict(list)
    generator = np.random.default_rng([20, 5])
    for groups in (2, 5, 12):
        for size in (0.0, 0.5, 2.0):
            means = np.linspace(0, size, groups)
            for n in (MIN_CLUSTERS, 20):
                spreads = np.ptp(generator.normal(size=(20_000, groups)) / sqrt(n) + means, axis=1)
                truth = float(spreads.mean())
                cell = cells[f"{groups} groups, {n} settings, spread {size:g}"]
                for _ in range(RUNS * factor):
                    scores = generator.normal(size=(n, groups)) + means
                    note_interval(cell, spread_interval(scores), truth)
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


def _excess_cells(factor: int) -> Cells:
    """Draw answers to two values as normal scores. The truth is the mean excess of many questions."""
    cells: Cells = defaultdict(list)
    generator = np.random.default_rng([20, 7])
    for samples in (3, 5):
        sizes = (samples, samples)
        i, j = np.triu_indices(2 * samples, 1)
        for size in (0.0, 1.0, 3.0):
            shift = np.repeat([size, 0.0], samples)
            many = generator.normal(size=(20_000, 2 * samples)) + shift
            truth = float((np.abs(many[:, i] - many[:, j]) * excess_weights(sizes)[0]).sum(axis=1).mean())
            for seed in range(RUNS * factor):
                x = generator.normal(size=2 * samples) + shift
                low, high = excess_interval(np.abs(x[i] - x[j]), sizes, seed)
                note_interval(
                    cells[f"{samples} answers per value, shift {size:g}"],
                    Interval(truth, low, high, 1),
                    truth,
                )
    return cells
