"""Scores of decisions: how favourable an answer is, and what that differs by within one scenario."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from schemas.attribute import Attribute
from schemas.question import Question
from schemas.response import PLAIN, Response
from tasks.families.choices import placed_option
from tasks.families.method import Answered
from tasks.stats.bootstrap import Interval, cluster_bootstrap
from tasks.stats.logit_gaps import Decision
from tasks.stats.permutation import Floats

LOGITS = "logits of yes against no"
SHARES = "share of favourable answers"


class Gap(NamedTuple):
    """How much more favourable decisions were for one value or level than for its baseline."""

    pair: str
    """`value-baseline`"""
    value: float
    unit: str


def gaps_of(answered: Answered, attribute: Attribute, *, single_values: bool = True) -> list[Gap]:
    """Gaps of one scenario: between the levels of each factor of a product, and, where asked for or where it
    is none, between its single values. In an A/A control the second variant against the first. Values
    without a valid answer have no gap."""
    unit, means = mean_scores(answered)
    gaps = []
    alike = answered.question.control == "a_a"
    if single_values or alike or not attribute.factors:
        gaps += _value_gaps(answered.question, attribute, means)
    if attribute.factors and not alike:
        gaps += _level_gaps(answered.question, attribute, means)
    return [Gap(pair, gap, unit) for pair, gap in gaps]


def mean_scores(answered: Answered) -> tuple[str, dict[int, float]]:
    """The unit, and the mean score of each variant that has a valid answer: in logits where all answers have
    token probabilities, else as a share."""
    scored = bool(answered.valid) and all(r.scoring == "token_probability" for r in answered.valid)
    score = logit_of if scored else _is_favourable
    scores: dict[int, list[float]] = defaultdict(list)
    for r in answered.valid:
        scores[r.variant].append(score(answered.question, r))
    return (LOGITS if scored else SHARES), {i: float(np.mean(s)) for i, s in sorted(scores.items())}


def _value_gaps(
    question: Question, attribute: Attribute, means: Mapping[int, float]
) -> list[tuple[str, float]]:
    names = {v.index: v.value for v in question.variants}
    base = next((i for i, value in names.items() if value == attribute.baseline), min(names))
    if base not in means:
        return []
    return [(f"{names[i]}-{names[base]}", m - means[base]) for i, m in means.items() if i != base]


def _level_gaps(
    question: Question, attribute: Attribute, means: Mapping[int, float]
) -> list[tuple[str, float]]:
    """Mean of a level's variants minus that of the baseline's, every other factor averaged over."""
    if attribute.baseline is None:
        return []
    factors = {v.id: v.factors for v in attribute.values}
    gaps = []
    for factor, baseline in factors[attribute.baseline].items():
        levels: dict[str, list[float]] = defaultdict(list)
        for v in question.variants:
            if v.index in means:
                levels[factors[v.value][factor]].append(means[v.index])
        gaps += [
            (f"{level}-{baseline}", float(np.mean(found) - np.mean(levels[baseline])))
            for level, found in levels.items()
            if level != baseline and baseline in levels
        ]
    return gaps


def logit_of(question: Question, response: Response) -> float:
    """ln p(yes) − ln p(no) of an answer whose token probabilities are known."""
    yes, no = placed_option(question, "yes"), placed_option(question, "no")
    return response.option_logprobs[yes] - response.option_logprobs[no]


def _is_favourable(question: Question, response: Response) -> float:
    return float(response.option == placed_option(question, "yes"))


def decisions_of(answered: Answered, attribute: Attribute) -> list[Decision]:
    """One per answer whose token probabilities are known, with the factors of its value."""
    factors = {v.id: v.factors or {attribute.id: v.id} for v in attribute.values}
    names = {v.index: v.value for v in answered.question.variants}
    return [
        Decision(answered.question.id, factors[names[r.variant]], logit_of(answered.question, r))
        for r in answered.valid
        if r.scoring == "token_probability"
    ]


def resemblance(answered: Sequence[Answered], condition: str, seed: int) -> Interval | None:
    """Pearson's r between the mean scores of all fills in that condition and plainly asked; its interval by
    resampling scenarios, twins together. `None` where none was asked in both ways with one unit."""
    plain = {a.question.id: mean_scores(a) for a in answered if a.condition == PLAIN}
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for a in sorted(answered, key=lambda a: a.question.id):
        unit, scores = mean_scores(a)
        if a.condition == condition and plain.get(a.question.id, ("", {}))[0] == unit:
            before = plain[a.question.id][1]
            scenario = (a.question.template_id or a.question.id).removesuffix(".implicit")
            pairs[scenario] += [(before[i], scores[i]) for i in sorted(scores.keys() & before.keys())]
    blocks = [np.array(block) for _, block in sorted(pairs.items()) if block]
    if not blocks:
        return None
    centre = np.concatenate(blocks).mean(axis=0)
    return cluster_bootstrap([_sums(block - centre) for block in blocks], pearson_of_totals, seed)


def _sums(block: Floats) -> list[float]:
    """n, Σx, Σy, Σx², Σy², Σxy of an array (fills, 2)."""
    x, y = block.T
    return [float(len(block)), *(float(np.sum(v)) for v in (x, y, x * x, y * y, x * y))]


def pearson_of_totals(totals: Floats) -> Floats:
    """Pearson's r of summed n, Σx, Σy, Σx², Σy², Σxy, array (…, 6); NaN where either does not vary."""
    n, x, y, xx, yy, xy = np.moveaxis(totals, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
        return np.where(spread > 0, np.clip((n * xy - x * y) / np.sqrt(spread), -1, 1), np.nan)
