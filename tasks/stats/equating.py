"""Equating: make the scores of two releases comparable through the questions that both have (the anchors).

Two releases differ in difficulty, because most of their questions differ. Anchors are answered in both, so
they separate a change of the models from a change of the questions.

The scores follow a linear mixed model. Respondent r is a model in one release, item i is a question or a twin
family of questions:

    y(r, i) = θ(r) + μ(part of i) + b(i) + γ(model of r, i) + ε(r, i)

θ is a fixed effect per respondent, μ one per part (only in the old release, in both, only in the new one). b
(items), γ (models on items) and ε are random. θ is estimated by generalised least squares. Its weights follow
from the variances of b, γ and ε, which are estimated by the method of moments. Standard errors are those of a
jackknife over items, so they hold if the variances are wrong, and intervals use Student's t.

References:
    Kolen and Brennan (2014), "Test Equating, Scaling, and Linking", doi:10.1007/978-1-4939-0317-7.
    Henderson (1953), doi:10.2307/3001853 (method of moments).
    Candell and Drasgow (1988), doi:10.1177/014662168801200304 (purification of anchors).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.tables import derived_seed
from tasks.stats.hypothesis_tests import t_p_value
from tasks.stats.intervals import Bounds, is_lumpy, mean_interval, t_quantile
from tasks.stats.item_response import MIN_RESPONDENTS, fit_two_parameters, stocking_lord
from tasks.stats.resampling import Floats, sign_flip_p_value

Form = Literal["old", "new"]
EquatingMethod = Literal["mixed_model", "stocking_lord"]

MIN_ANCHORS = 10
"""Below this number of anchors, counted in twin families, nothing is equated."""
MIN_MODELS = 2
"""Below this number of models in one of the releases, neither drift nor the shift of the form is measured: a
change of one model cannot be told from a change of a question."""
DRIFT_LEVEL = 0.02
"""Probability that any anchor is removed if none drifted."""
MOST_DRIFTED = 1 / 4
"""If this share of the anchors drifted, the releases have no common scale."""
_LEAST_SHARE = 1e-3
"""Least share of the noise in the variance, so that no weight is infinite."""


class Respondent(NamedTuple):
    """One model that answered one of the two releases."""

    model: str
    form: Form
    occasion: str = ""
    """Distinguishes answers of one model to the same form."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error and interval, or the reason why it was not measured."""

    value: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    status: Literal["measured", "not_measured"] = "not_measured"
    reason: str | None = None


@dataclass(frozen=True)
class DriftedAnchor:
    """Items of anchors with a score that changed relative to the other anchors."""

    item: str
    change: float
    """Change relative to that of the other anchors, averaged over models."""
    p_value: float
    """Corrected for all anchors (Bonferroni)."""


@dataclass(frozen=True)
class EquatedScore:
    """Score of one respondent on its own release and on the scale of the old release."""

    respondent: Respondent
    score: float
    """Mean over the items of its own release."""
    equated: Estimate


@dataclass(frozen=True)
class Equating:
    """Link of the scores of two releases."""

    status: Literal["measured", "not_measured"]
    reason: str | None
    method: EquatingMethod | None
    anchors: int
    """Anchors used, counted in twin families."""
    scores: tuple[EquatedScore, ...]
    shift: Estimate
    """Mean score on the new release minus that on the old one, for one and the same model."""
    drift: Literal["measured", "not_measured"]
    drift_reason: str | None
    drifted: tuple[DriftedAnchor, ...]
    contrasts: Mapping[tuple[Respondent, Respondent], Estimate]
    """Score of a respondent of the new release minus that of one of the old release, on one scale."""

    def change(self, model: str, occasion: str = "") -> Estimate:
        """Return the score of a model on the new release minus that on the old one, on one scale."""
        pair = Respondent(model, "new", occasion), Respondent(model, "old")
        return self.contrasts.get(pair, Estimate(reason=self.reason or "it did not answer both releases"))


def not_equated(reason: str, anchors: int = 0) -> Equating:
    """Return an equating that was not measured."""
    none = Estimate(reason=reason)
    return Equating("not_measured", reason, None, anchors, (), none, "not_measured", reason, (), {})


def equate(
    scores: Mapping[Respondent, Mapping[str, float]],
    anchors: Collection[str],
    *,
    clusters: Mapping[str, Hashable] | None = None,
    bounds: Bounds | None = None,
    level: float = 0.95,
) -> Equating:
    """Equate the scores of two releases.

    Args:
        scores: Score by question, by respondent.
        anchors: Questions with the same text in both releases.
        clusters: Twin family of each question. Members of a family count as one item.
        bounds: Lowest and highest possible change of a score. Without them, the change of a model that
            answers most anchors as before has no interval.
        level: Coverage of the intervals, between 0 and 1.

    Returns:
        The equating. It is `not_measured` if there are fewer than `MIN_ANCHORS` anchors, if no model answered
        one of the releases, or if `MOST_DRIFTED` of the anchors or more
        drifted.
    """
    respondents = sorted(r for r, row in scores.items() if row)
    for form, name in (("old", "earlier"), ("new", "later")):
        if not any(r.form == form for r in respondents):
            return not_equated(f"no model has scores on the {name} release")
    items = _items(respondents, scores, frozenset(anchors), clusters or {})
    usable = _usable_anchors(items)
    if len(usable) < MIN_ANCHORS:
        return not_equated(f"{len(usable)} anchors; at least {MIN_ANCHORS} are required", len(usable))
    purified, drifted, untested = _purify(items, usable)
    if len(drifted) >= MOST_DRIFTED * len(usable):
        reason = f"{len(drifted)} of {len(usable)} anchors drifted, so the releases have no common scale"
        return not_equated(reason, len(usable))
    if _is_binary(items) and _fewest(items, models=False) >= MIN_RESPONDENTS:
        return _by_item_response(purified, drifted, level)
    return _by_mixed_model(purified, drifted, untested, bounds, level)


# Items: questions or twin families, with the part of the two releases that they are in.


@dataclass(frozen=True)
class _Items:
    respondents: tuple[Respondent, ...]
    names: tuple[str, ...]
    parts: NDArray[np.str_]
    """`old`, `both` or `new` by item."""
    values: Floats
    """Shape (respondents, items). NaN if a respondent has no score."""

    def of_form(self, form: Form) -> NDArray[np.intp]:
        return np.flatnonzero([r.form == form for r in self.respondents])


def _items(
    respondents: list[Respondent],
    scores: Mapping[Respondent, Mapping[str, float]],
    anchors: frozenset[str],
    clusters: Mapping[str, Hashable],
) -> _Items:
    """Average the scores of every twin family. Its anchors are another item than its other questions."""
    cells: dict[tuple[str, str], dict[Respondent, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in respondents:
        for question, score in scores[r].items():
            part = "both" if question in anchors else r.form
            cells[part, str(clusters.get(question, question))][r].append(score)
    keys = sorted(cells)
    values = np.full((len(respondents), len(keys)), np.nan)
    for j, key in enumerate(keys):
        for i, r in enumerate(respondents):
            if r in cells[key]:
                values[i, j] = fmean(cells[key][r])
    return _Items(tuple(respondents), tuple(name for _, name in keys), np.array([p for p, _ in keys]), values)


def _usable_anchors(items: _Items) -> NDArray[np.intp]:
    """Return the anchors that have a score in both releases."""
    answered = np.isfinite(items.values)
    both = answered[items.of_form("old")].any(axis=0) & answered[items.of_form("new")].any(axis=0)
    return np.flatnonzero(both & (items.parts == "both"))


def _fewest(items: _Items, *, models: bool = True) -> int:
    """Return the number of models or respondents in the release that has fewer of them."""
    sides = [[r for r in items.respondents if r.form == form] for form in ("old", "new")]
    return min(len({r.model for r in side}) if models else len(side) for side in sides)


def _is_binary(items: _Items) -> bool:
    return bool(np.isin(items.values[np.isfinite(items.values)], (0.0, 1.0)).all())


# The mixed model.


@dataclass(frozen=True)
class _Fit:
    """Estimates with all items (row 0), and without each of the items (the other rows)."""

    abilities: Floats
    """θ, shape (1 + items, respondents)."""
    means: Floats
    """Mean score over the answered items, shape (1 + items, respondents)."""
    strata: NDArray[np.str_]
    anchors: int

    def estimate(self, replicates: Floats, level: float) -> Estimate:
        """Return the estimate in row 0 with its jackknife interval, stratified by part."""
        value, deviations = float(replicates[0]), replicates[1:]
        variance = 0.0
        for part in np.unique(self.strata):
            inside = deviations[self.strata == part]
            if len(inside) > 1:
                variance += (len(inside) - 1) / len(inside) * float(((inside - inside.mean()) ** 2).sum())
        error = sqrt(variance)
        if error <= 1e-12:
            # Equal answers to all anchors: nothing is known about the noise.
            reason = "all anchors changed by the same amount, so that no interval can be given"
            return Estimate(value, None, None, None, None, "measured", reason)
        half = t_quantile(0.5 + level / 2, self.anchors - 1) * error
        p_value = t_p_value(value, error, self.anchors)
        return Estimate(value, error, value - half, value + half, p_value, "measured")


def _fit_mixed_model(items: _Items) -> _Fit:
    answered = np.isfinite(items.values)
    parts = [part for part in ("old", "new") if (items.parts == part).any()]
    n = len(items.respondents)
    weights = _Weights(items)
    left, right = np.zeros((len(items.names), n + len(parts), n + len(parts))), []
    for j in range(len(items.names)):
        rows = np.flatnonzero(answered[:, j])
        design = np.zeros((len(rows), n + len(parts)))
        design[np.arange(len(rows)), rows] = 1
        if items.parts[j] in parts:
            design[:, n + parts.index(str(items.parts[j]))] = 1
        weighted = design.T @ weights.inverse(rows)
        left[j] = weighted @ design
        right.append(weighted @ items.values[rows, j])
    sums, products = left.sum(axis=0), np.array(right)
    total = products.sum(axis=0)
    # A part of a single item has no mean without it: a tiny ridge keeps the equations solvable.
    ridge = np.eye(n + len(parts)) * 1e-9 * np.trace(sums) / len(sums)
    without = np.linalg.solve(sums - left + ridge, (total - products)[:, :, None])[:, :, 0]
    whole = np.linalg.solve(sums + ridge, total)
    counts, totals = answered.sum(axis=1), np.nansum(items.values, axis=1)
    filled = np.where(answered, items.values, 0.0)
    left_out = np.maximum(counts[:, None] - answered, 1)
    means = np.vstack([totals / counts, ((totals[:, None] - filled) / left_out).T])
    return _Fit(np.vstack([whole, without])[:, :n], means, items.parts, len(_usable_anchors(items)))


class _Weights:
    """Inverse covariance of the scores of one item, by the respondents that have one."""

    def __init__(self, items: _Items) -> None:
        noise, models, common = _variances(items)
        names = np.array([r.model for r in items.respondents])
        same = names[:, None] == names[None, :]
        self._covariance = common + models * same + noise * np.eye(len(names))
        self._inverses: dict[bytes, Floats] = {}

    def inverse(self, rows: NDArray[np.intp]) -> Floats:
        key = rows.tobytes()
        if key not in self._inverses:
            self._inverses[key] = np.linalg.inv(self._covariance[np.ix_(rows, rows)])
        return self._inverses[key]


def _variances(items: _Items) -> tuple[float, float, float]:
    """Return the variances of ε, γ and b, from products of residuals of the same item."""
    residuals = np.full_like(items.values, np.nan)
    for part in np.unique(items.parts):
        inside = items.values[:, items.parts == part]
        known = np.isfinite(inside)
        counts = known.sum(axis=1, keepdims=True)
        means = np.where(counts > 0, np.where(known, inside, 0).sum(axis=1, keepdims=True), 0)
        residuals[:, items.parts == part] = inside - means / np.maximum(counts, 1)
    filled, known = np.nan_to_num(residuals), np.isfinite(residuals).astype(float)
    products, pairs = filled @ filled.T, known @ known.T
    names = np.array([r.model for r in items.respondents])
    same = names[:, None] == names[None, :]
    own = np.eye(len(names), dtype=bool)

    def mean(sums: Floats, cells: NDArray[np.bool_]) -> float | None:
        count = float(pairs[cells].sum())
        return float(sums[cells].sum()) / count if count else None

    total = mean(products, own) or 0.0
    if total <= 0:
        return 1.0, 0.0, 0.0
    of_others = mean(products, ~same)
    # Two occasions of one model differ by noise only.
    squares = (filled**2) @ known.T
    of_model = mean((squares + squares.T - 2 * products) / 2, same & ~own)
    common = of_others if of_others is not None else total - of_model if of_model is not None else 0.0
    noise = of_model if of_model is not None else total - common
    noise = min(max(noise, total * _LEAST_SHARE), total)
    common = min(max(common, 0.0), total - noise)
    return noise, total - noise - common, common


def _by_mixed_model(
    items: _Items,
    drifted: tuple[DriftedAnchor, ...],
    untested: str | None,
    bounds: Bounds | None,
    level: float,
) -> Equating:
    fit = _fit_mixed_model(items)
    old, new = items.of_form("old"), items.of_form("new")
    # The mean of a respondent minus its ability is the difficulty of its form.
    difficulty = fit.means - fit.abilities
    of_old, of_new = difficulty[:, old].mean(axis=1), difficulty[:, new].mean(axis=1)
    scores = tuple(
        EquatedScore(r, float(fit.means[0, i]), fit.estimate(fit.abilities[:, i] + of_old, level))
        for i, r in enumerate(items.respondents)
    )
    contrasts = {
        (items.respondents[i], items.respondents[j]): _lumpy_change(items, i, j, bounds, level)
        or fit.estimate(fit.abilities[:, i] - fit.abilities[:, j], level)
        for i in new
        for j in old
    }
    shift = fit.estimate(of_new - of_old, level)
    if (models := _fewest(items)) < MIN_MODELS:
        shift = Estimate(reason=f"{models} model; at least {MIN_MODELS} are required in both releases")
    return Equating(
        status="measured",
        reason=None,
        method="mixed_model",
        anchors=fit.anchors,
        scores=scores,
        shift=shift,
        drift="not_measured" if untested else "measured",
        drift_reason=untested,
        drifted=drifted,
        contrasts=contrasts,
    )


def _lumpy_change(items: _Items, new: int, old: int, bounds: Bounds | None, level: float) -> Estimate | None:
    """Return the change of a model that answers most anchors as before, or `None` for all other pairs.

    Its distribution is unknown, so that Student's t does not hold. An interval for bounded means does.
    """
    if items.respondents[new].model != items.respondents[old].model:
        return None
    both = items.values[[new, old]][:, items.parts == "both"]
    changes = both[0] - both[1]
    changes = changes[np.isfinite(changes)]
    if len(changes) < MIN_ANCHORS or not is_lumpy(changes):
        return None
    interval = mean_interval(changes, bounds=bounds, level=level)
    if interval.low is None:
        reason = "most anchors are answered as before, so that no interval can be given"
        return Estimate(interval.value, status="measured", reason=reason)
    p_value = sign_flip_p_value(changes.tolist(), derived_seed("equating", len(changes)))
    return Estimate(interval.value, None, interval.low, interval.high, p_value, "measured")


# Drift: anchors with a score that changed relative to the others.


def _purify(items: _Items, usable: NDArray[np.intp]) -> tuple[_Items, tuple[DriftedAnchor, ...], str | None]:
    """Find drifted anchors.

    A drifted anchor is no longer an anchor. It stays part of both releases, as two different items.

    Returns:
        The items, the drifted anchors, and the reason if drift could not be tested.
    """
    if _fewest(items) < MIN_MODELS:
        reason = f"{_fewest(items)} model; at least {MIN_MODELS} are required in both releases"
        return items, (), reason
    changes = _changes(items, usable)
    if is_lumpy(changes):
        return items, (), "most anchors did not change at all"
    found = _outliers(changes, ceil(MOST_DRIFTED * len(changes)))
    kept = np.delete(changes, list(found))
    drifted = tuple(
        DriftedAnchor(items.names[usable[i]], float(changes[i] - kept.mean()), p)
        for i, p in sorted(found.items())
    )
    return _split(items, usable[sorted(found)]), drifted, None


def _changes(items: _Items, usable: NDArray[np.intp]) -> Floats:
    """Return the mean change of each anchor over models, relative to the mean change of each model."""
    values = items.values[:, usable]
    centred = values - np.nanmean(values, axis=1, keepdims=True)
    old, new = centred[items.of_form("old")], centred[items.of_form("new")]
    return np.asarray(np.nanmean(new, axis=0) - np.nanmean(old, axis=0))


def _outliers(changes: Floats, most: int) -> dict[int, float]:
    """Return the outlying anchors with their corrected p-values (generalised extreme Studentised deviate).

    The most extreme anchor is removed, and the others are tested without it, up to `most` times. The last
    test that is significant decides how many are outliers, so that outliers do not mask each other.

    References:
        Rosner (1983), doi:10.1080/00401706.1983.10487848.
    """
    from scipy.special import stdtr

    kept = list(range(len(changes)))
    candidates: list[tuple[int, float]] = []
    for _ in range(most):
        values, n = changes[kept], len(kept)
        deviation = float(values.std(ddof=1))
        if n < 4 or deviation <= 1e-12:
            break
        place = int(np.abs(values - values.mean()).argmax())
        ratio = min(abs(values[place] - values.mean()) / deviation, (n - 1) / sqrt(n) * (1 - 1e-12))
        # Grubbs' statistic as a t statistic with n - 2 degrees of freedom.
        t = sqrt(n * (n - 2) * ratio**2 / ((n - 1) ** 2 - n * ratio**2))
        candidates.append((kept.pop(place), min(1.0, float(2 * n * stdtr(n - 2, -t)))))
    significant = [k for k, (_, p) in enumerate(candidates) if p <= DRIFT_LEVEL]
    outliers = candidates[: significant[-1] + 1] if significant else []
    return {i: min(p for _, p in outliers[k:]) for k, (i, _) in enumerate(outliers)}


def _split(items: _Items, drifted: NDArray[np.intp]) -> _Items:
    """Replace each drifted anchor by one item of the old release and one of the new release."""
    if not len(drifted):
        return items
    old, new = items.of_form("old"), items.of_form("new")
    first, second = items.values.copy(), items.values[:, drifted].copy()
    first[np.ix_(new, drifted)] = np.nan
    second[old] = np.nan
    parts = items.parts.copy()
    parts[drifted] = "old"
    names = (*items.names, *(items.names[i] for i in drifted))
    return _Items(
        items.respondents, names, np.append(parts, ["new"] * len(drifted)), np.hstack([first, second])
    )


# Item response theory, if there are enough respondents.


def _by_item_response(items: _Items, drifted: tuple[DriftedAnchor, ...], level: float) -> Equating:
    """Link binary scores by Stocking and Lord. Standard errors are those of a jackknife over blocks."""
    blocks = _blocks(items)
    replicates = [_linked_scores(items)]
    replicates += [_linked_scores(_without(items, block)) for block in blocks]
    scores = np.array([s for s, _ in replicates])
    means = np.array([[m] for _, m in replicates])[:, 0]
    fit = _Fit(scores, scores, np.full(len(blocks), "both"), len(blocks))
    found = tuple(
        EquatedScore(r, float(np.nanmean(items.values[i])), fit.estimate(scores[:, i], level))
        for i, r in enumerate(items.respondents)
    )
    place = {r: i for i, r in enumerate(items.respondents)}
    pairs = [(r, Respondent(r.model, "old")) for r in items.respondents if r.form == "new"]
    contrasts = {
        (a, b): fit.estimate(scores[:, place[a]] - scores[:, place[b]], level) for a, b in pairs if b in place
    }
    return Equating(
        status="measured",
        reason=None,
        method="stocking_lord",
        anchors=len(_usable_anchors(items)),
        scores=found,
        shift=fit.estimate(means, level),
        drift="measured",
        drift_reason=None,
        drifted=drifted,
        contrasts=contrasts,
    )


IRT_BLOCKS = 10
"""Blocks of items of the jackknife. Each one needs two calibrations."""


def _blocks(items: _Items) -> list[NDArray[np.intp]]:
    """Distribute the items of every part over the blocks."""
    order = np.argsort(items.parts, kind="stable")
    return [order[k::IRT_BLOCKS] for k in range(IRT_BLOCKS)]


def _without(items: _Items, block: NDArray[np.intp]) -> _Items:
    kept = np.setdiff1d(np.arange(len(items.names)), block)
    names = tuple(items.names[i] for i in kept)
    return _Items(items.respondents, names, items.parts[kept], items.values[:, kept])


def _linked_scores(items: _Items) -> tuple[Floats, float]:
    """Return the expected share of ones on the old release by respondent, and the shift of the form."""
    old, new = items.of_form("old"), items.of_form("new")
    in_old, in_new = np.flatnonzero(items.parts != "new"), np.flatnonzero(items.parts != "old")
    first = fit_two_parameters(items.values[np.ix_(old, in_old)])
    second = fit_two_parameters(items.values[np.ix_(new, in_new)])
    in_both = np.flatnonzero(items.parts == "both")
    pairs = list(zip(np.searchsorted(in_old, in_both), np.searchsorted(in_new, in_both), strict=True))
    a, b = stocking_lord(first, second, [(int(i), int(j)) for i, j in pairs])
    scores = np.empty(len(items.respondents))
    scores[old] = first.probabilities(first.abilities).mean(axis=1)
    scores[new] = first.probabilities(a * second.abilities + b).mean(axis=1)
    own = second.probabilities(second.abilities).mean(axis=1)
    return scores, float((own - scores[new]).mean())
