"""Rows of the calibration about intervals that are no means: agreement, ranks, shared differences, spreads.

Intervals come from the functions that a build calls. All cells of a line are simulated, and the cell with
the lowest coverage is simulated again, with more and other samples. The line has the figure of these new
samples, because the lowest of many figures is too low by chance. The note names the cell. Coefficients of
agreement have no interval in small samples, so cells have different numbers of intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import asin, pi, sqrt

import numpy as np

from benchmarks.calibration import Generator, Line, at_least, at_most, rate_with_error
from tasks.families.completion import tau_c_of_totals
from tasks.stats.agreement import (
    alpha_of_tables,
    confusion_by_cluster,
    kappa_of_tables,
    kappa_with_interval,
    nominal_alpha,
    nominal_kappa,
)
from tasks.stats.correlations import correlation_interval, spearman
from tasks.stats.intervals import MIN_CLUSTERS, SIGNED_BOUNDS, statistic_interval
from tasks.stats.resampling import Interval, excess_interval, excess_weights
from tasks.stats.shared_difference import shared_difference, shared_interval
from tasks.stats.spread import group_spread, spread_interval

Simulate = Callable[[Generator], bool | None]
"""Draws one sample and returns whether its interval covers, or None if the sample has no interval."""
IntervalOfUnits = Callable[[np.ndarray], Interval | None]
"""Returns the interval of a coefficient from units, which are numbers of cells of a table."""
SEARCH = 300
"""Samples per cell in the search for the lowest coverage of a quick run."""
AGAIN = 10_000
"""New samples of the cell that was found, in a quick run."""
MOST = 3
"""Largest factor of both numbers."""
FEWEST = 5 / 6
"""Cells in which fewer samples have an interval are no part of a line."""
TESTS = 600
"""Samples per cell of a type I error in a quick run."""


def statistic_rows(factor: int) -> Iterator[Line]:
    """Measure the coverage of all these intervals, and the type I error of two tests."""
    cells = {
        "kappa": _agreement_cells(_kappa),
        "weighted kappa": _agreement_cells(_weighted_kappa),
        "alpha": _agreement_cells(_alpha),
        "a rank correlation": _rank_cells(),
        "a shared difference": _shared_cells(),
        "a spread between groups": _spread_cells(),
        "tau-c": _tau_c_cells(),
        "the excess of one question": _excess_cells(),
    }
    for seed, (name, simulations) in enumerate(cells.items()):
        yield lowest_coverage(f"4 coverage of {name}", simulations, [20, seed], min(factor, MOST))
    yield from _tests(factor)


def lowest_coverage(name: str, cells: Mapping[str, Simulate], seed: Sequence[int], factor: int) -> Line:
    """Return the line of the cell with the lowest coverage, measured with new samples.

    Args:
        name: Name of the line.
        cells: Simulation of every cell by its title.
        seed: Seed of the line.
        factor: Factor of the numbers of samples.
    """
    rates = {}
    for i, (title, simulate) in enumerate(cells.items()):
        hits = _simulate(simulate, np.random.default_rng([*seed, i]), SEARCH * factor)
        if len(hits) >= FEWEST * SEARCH * factor:
            rates[title] = sum(hits) / len(hits)
    lowest = min(rates, key=lambda title: rates[title])
    hits = _simulate(cells[lowest], np.random.default_rng([*seed, len(cells)]), AGAIN * factor)
    return at_least(name, *rate_with_error(hits), 0.93, f"{lowest}, lowest of {len(rates)}")


def _simulate(simulate: Simulate, generator: Generator, runs: int) -> list[bool]:
    return [covers for _ in range(runs) if (covers := simulate(generator)) is not None]


def _covers(interval: Interval | None, truth: float) -> bool | None:
    if interval is None or interval.low is None or interval.high is None:
        return None
    return interval.low <= truth <= interval.high


MARGINS: dict[str, tuple[float, ...]] = {
    "categories alike": (0.5, 0.5),
    "one of five": (0.8, 0.2),
    "four categories": (0.4, 0.3, 0.2, 0.1),
}


def _kappa(joint: np.ndarray) -> tuple[float, IntervalOfUnits]:
    k = len(joint)
    return float(kappa_of_tables(joint, "nominal")), lambda units: nominal_kappa(
        [(str(unit // k), str(unit % k)) for unit in units.tolist()]
    )


def _weighted_kappa(joint: np.ndarray) -> tuple[float, IntervalOfUnits]:
    k = len(joint)
    return float(kappa_of_tables(joint, "ordinal")), lambda units: kappa_with_interval(
        confusion_by_cluster([(str(i), unit // k, unit % k) for i, unit in enumerate(units.tolist())], k)
    )


def _alpha(joint: np.ndarray) -> tuple[float, IntervalOfUnits]:
    k = len(joint)
    return float(alpha_of_tables(joint * 1e9, "nominal")), lambda units: nominal_alpha(
        [(str(unit // k), str(unit % k)) for unit in units.tolist()]
    )


def _agreement_cells(
    statistic: Callable[[np.ndarray], tuple[float, IntervalOfUnits]],
) -> dict[str, Simulate]:
    """Draw two raters that agree beyond chance in a share of the units.

    Args:
        statistic: Returns the true coefficient of a table of probabilities, and the function of its
            interval. A unit is the number of its cell in the table.
    """

    def simulate(
        generator: Generator, p: np.ndarray, n: int, truth: float, interval: IntervalOfUnits
    ) -> bool | None:
        return _covers(interval(generator.choice(len(p), size=n, p=p)), truth)

    cells: dict[str, Simulate] = {}
    for title, margin in MARGINS.items():
        p = np.array(margin)
        for agree in (0.0, 0.5, 0.9):
            joint = np.diag(p) * agree + np.outer(p, p) * (1 - agree)
            truth, interval = statistic(joint)
            for n in (30, 60, 200):
                cells[f"{title}, {n} units, agreement {agree}"] = partial(
                    simulate, p=joint.ravel(), n=n, truth=truth, interval=interval
                )
    return cells


def _rank_cells() -> dict[str, Simulate]:
    """Draw normal pairs, three per cluster in half of the cells."""

    def simulate(generator: Generator, rho: float, size: int, n: int) -> bool | None:
        clusters = np.repeat(np.arange(n), size)
        common = generator.normal(size=(n, 2))[clusters]
        own = generator.normal(size=(n * size, 2))
        x = common if size == 1 else sqrt(0.6) * common + sqrt(0.4) * own
        pairs = np.column_stack([x[:, 0], rho * x[:, 0] + sqrt(1 - rho**2) * x[:, 1]])
        return _covers(
            correlation_interval(pairs, clusters.astype(str).tolist(), spearman), 6 / pi * asin(rho / 2)
        )

    return {
        f"rho {rho}, {n} clusters of {size}": partial(simulate, rho=rho, size=size, n=n)
        for rho in (0.0, 0.5, 0.9)
        for size in (1, 3)
        for n in (MIN_CLUSTERS, 15, 40)
    }


def _draw_answers(generator: Generator, questions: int, dimensions: int, size: float) -> np.ndarray:
    """Draw two answers to each of two values, with a difference of varying size in one direction."""
    rows = generator.normal(size=(questions, 4, dimensions))
    rows[:, :2, 0] += size * generator.gamma(4, 1 / 4, size=(questions, 1))
    return rows.reshape(-1, dimensions)


def _shared_cells() -> dict[str, Simulate]:
    def simulate(generator: Generator, n: int, dimensions: int, size: float) -> bool | None:
        vectors = _draw_answers(generator, n, dimensions, size)
        # The mean answers differ by `size`. Half of its square is the mean product.
        return _covers(shared_interval(vectors, [(2, 2)] * n), size**2 / 2)

    return {
        f"{n} questions, {dimensions} dimensions, size {size:g}": partial(
            simulate, n=n, dimensions=dimensions, size=size
        )
        for dimensions in (2, 30)
        for size in (0.0, 1.0, 3.0)
        for n in (MIN_CLUSTERS, 15, 40)
    }


def _tests(factor: int) -> Iterator[Line]:
    """Draw shared differences and spreads without an effect."""
    generator = np.random.default_rng([20, 4])
    hits = [
        shared_difference(_draw_answers(generator, n, 10, 0.0), [(2, 2)] * n, seed)[1] <= 0.05
        for n in (5, 20)
        for seed in range(TESTS * factor)
    ]
    yield at_most("9 type I error of a shared difference", *rate_with_error(hits), 0.06, "5 and 20 questions")
    hits = [
        group_spread(generator.normal(size=(n, 5)), seed).p_value <= 0.05
        for n in (4, 12)
        for seed in range(TESTS * factor)
    ]
    yield at_most(
        "9 type I error of a spread between groups", *rate_with_error(hits), 0.06, "4 and 12 settings"
    )


def _spread_cells() -> dict[str, Simulate]:
    """Draw scores of groups with means in equal steps. The truth is the mean spread of as many settings."""

    def simulate(generator: Generator, means: np.ndarray, n: int, truth: float) -> bool | None:
        return _covers(spread_interval(generator.normal(size=(n, len(means))) + means), truth)

    cells: dict[str, Simulate] = {}
    generator = np.random.default_rng([20, 5])
    for groups in (2, 5, 12):
        for size in (0.0, 0.5, 2.0):
            means = np.linspace(0, size, groups)
            for n in (MIN_CLUSTERS, 20):
                spreads = np.ptp(generator.normal(size=(20_000, groups)) / sqrt(n) + means, axis=1)
                cells[f"{groups} groups, {n} settings, spread {size:g}"] = partial(
                    simulate, means=means, n=n, truth=float(spreads.mean())
                )
    return cells


def _tau_c_cells() -> dict[str, Simulate]:
    """Draw answers of a stereotype, its opposite or neither, about two values in turn."""

    def simulate(generator: Generator, shares: np.ndarray, truth: float, n: int) -> bool | None:
        tables = np.hstack([generator.multinomial(3, row, size=n) for row in shares])
        return _covers(statistic_interval(tables, tau_c_of_totals, bounds=SIGNED_BOUNDS), truth)

    cells: dict[str, Simulate] = {}
    for shift in (0.0, 0.2, 0.5):
        shares = np.array([[0.4 + shift, 0.2, 0.4 - shift], [0.4 - shift, 0.2, 0.4 + shift]]).clip(0)
        shares /= shares.sum(axis=1, keepdims=True)
        truth = float(tau_c_of_totals(1e6 * shares.ravel()))
        for n in (MIN_CLUSTERS, 15, 40):
            cells[f"{n} questions, tau-c {truth:.2f}"] = partial(simulate, shares=shares, truth=truth, n=n)
    return cells


def _excess_cells() -> dict[str, Simulate]:
    """Draw answers to two values as normal scores. The truth is the mean excess of many questions."""

    def simulate(generator: Generator, samples: int, size: float, truth: float) -> bool | None:
        i, j = np.triu_indices(2 * samples, 1)
        x = generator.normal(size=2 * samples) + np.repeat([size, 0.0], samples)
        seed = int(generator.integers(2**31))
        low, high = excess_interval(np.abs(x[i] - x[j]), (samples, samples), seed)
        return _covers(Interval(truth, low, high, 1), truth)

    cells: dict[str, Simulate] = {}
    generator = np.random.default_rng([20, 7])
    for samples in (3, 5):
        i, j = np.triu_indices(2 * samples, 1)
        weights = excess_weights((samples, samples))[0]
        for size in (0.0, 1.0, 3.0):
            many = generator.normal(size=(20_000, 2 * samples)) + np.repeat([size, 0.0], samples)
            truth = float((np.abs(many[:, i] - many[:, j]) * weights).sum(axis=1).mean())
            cells[f"{samples} answers per value, shift {size:g}"] = partial(
                simulate, samples=samples, size=size, truth=truth
            )
    return cells
