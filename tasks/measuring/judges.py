"""What the judges' own verdicts say of the judges: how far they agree, how often order decides, and how often
an adjudicator had to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from schemas.effect import Effect
from schemas.judgement import Judgement
from tasks.judging.panel import SCREEN
from tasks.measuring.effects import EVERY, Slice, effect_of
from tasks.stats.agreement import krippendorff_alpha, weighted_kappa
from tasks.stats.bootstrap import Interval, mean_with_interval
from tasks.stats.fitness import FORMS

Unit = tuple[str, str, str, tuple[int, ...]]
"""(question, target, phase, pair)"""
Ratings = Mapping[Unit, Mapping[str, float]]
"""A criterion's score by unit and judge."""

PANEL = Slice("overall", "judges", "open", EVERY, EVERY)


def judge_effects(judgements: Iterable[Judgement]) -> list[Effect]:
    """Agreement per criterion over judges, each judge's share of flips, and the share of escalations. The
    divergence judge has no scale to agree on and sees no order; the adjudicator sees only what others
    disagree on, so it counts for no agreement."""
    said = [j for j in judgements if j.judge != SCREEN and j.abstention is None]
    panel = [j for j in said if not j.adjudicates]
    found = [*_agreement(panel), *_flips(said), _escalations(panel, said)]
    return [effect for effect in found if effect is not None]


def _agreement(said: Sequence[Judgement]) -> list[Effect | None]:
    """Of first verdicts: Krippendorff's alpha of all judges, and weighted kappa of every two. Nothing with a
    single judge."""
    judges = sorted({j.judge for j in said})
    by_criterion: dict[str, dict[Unit, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for j in said:
        for score in j.scores if j.repeat == 0 else ():
            by_criterion[score.criterion][_unit(j)][j.judge] = score.value
    effects = []
    for criterion, ratings in sorted(by_criterion.items()) if len(judges) > 1 else ():
        alpha = _alpha(judges, ratings)
        effects.append(effect_of(PANEL, f"agreement:{criterion}", "Krippendorff's alpha, ordinal", alpha))
        for pair in combinations(judges, 2):
            where = Slice("overall", " and ".join(pair), "open", EVERY, EVERY)
            kappa = _kappa(pair, ratings)
            effects.append(effect_of(where, f"kappa:{criterion}", "Cohen's kappa, quadratic weights", kappa))
    return effects


def _alpha(judges: Sequence[str], ratings: Ratings) -> Interval:
    table = [[ratings[unit].get(judge) for unit in sorted(ratings)] for judge in judges]
    return Interval(krippendorff_alpha(table), None, None, len(ratings))


def _kappa(pair: tuple[str, str], ratings: Ratings) -> Interval:
    """Over the units that both scored."""
    both = [ratings[unit] for unit in sorted(ratings) if all(judge in ratings[unit] for judge in pair)]
    first, second = ([scores[judge] for scores in both] for judge in pair)
    return Interval(weighted_kappa(first, second), None, None, len(both))


def _flips(said: Sequence[Judgement]) -> list[Effect | None]:
    """Share of verdicts asked in two orders that found something in one of them only."""
    found: dict[str, dict[Unit, set[bool]]] = defaultdict(lambda: defaultdict(set))
    twice = {(j.judge, _unit(j)) for j in said if j.repeat == 1}
    for j in said:
        if (j.judge, _unit(j)) in twice and j.fitness is not None:
            found[j.judge][_unit(j)].add(j.fitness > FORMS[j.fitness_form].clean)
    effects = []
    for judge, units in sorted(found.items()):
        where = Slice("overall", judge, "open", EVERY, EVERY)
        flips = [float(len(units[unit]) > 1) for unit in sorted(units)]
        interval = mean_with_interval(flips, where.seed("order_flips"))
        effects.append(effect_of(where, "order_flips", "share of verdicts asked twice", interval))
    return effects


def _escalations(panel: Sequence[Judgement], said: Sequence[Judgement]) -> Effect | None:
    """Share of groups on which the panel was split, where there was an adjudicator to ask."""
    escalated = {_unit(j)[:3] for j in said if j.adjudicates}
    if not escalated:
        return None
    shares = [float(group in escalated) for group in sorted({_unit(j)[:3] for j in panel})]
    interval = mean_with_interval(shares, PANEL.seed("escalated"))
    return effect_of(PANEL, "escalated", "share of groups", interval)


def _unit(judgement: Judgement) -> Unit:
    return judgement.question_id, judgement.target, judgement.phase, judgement.pair
