"""What the judges' own verdicts say of the judges: how far they agree, and how often order decides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from schemas.effect import Effect
from schemas.judgement import Judgement
from tasks.judging.panel import SCREEN
from tasks.measuring.effects import EVERY, Slice, effect_of
from tasks.stats.agreement import krippendorff_alpha
from tasks.stats.bootstrap import Interval, mean_with_interval
from tasks.stats.fitness import FORMS

Unit = tuple[str, str, str]
"""(question, target, phase)"""


def judge_effects(judgements: Iterable[Judgement]) -> list[Effect]:
    """Krippendorff's alpha per criterion over judges, and each judge's share of flips. The divergence judge
    has no scale to agree on and sees no order."""
    said = [j for j in judgements if j.judge != SCREEN and j.abstention is None]
    found = [*_agreement(said), *_flips(said)]
    return [effect for effect in found if effect is not None]


def _agreement(said: Sequence[Judgement]) -> list[Effect | None]:
    """Of first verdicts; nothing with a single judge."""
    judges = sorted({j.judge for j in said})
    if len(judges) < 2:
        return []
    ratings: dict[str, dict[Unit, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for j in said:
        for score in j.scores if j.repeat == 0 else ():
            ratings[score.criterion][_unit(j)][j.judge] = score.value
    where = Slice("overall", "judges", "open", EVERY, EVERY)
    return [
        effect_of(where, f"agreement:{criterion}", "Krippendorff's alpha, ordinal", _alpha(judges, units))
        for criterion, units in sorted(ratings.items())
    ]


def _alpha(judges: Sequence[str], units: dict[Unit, dict[str, float]]) -> Interval:
    table = [[units[unit].get(judge) for unit in sorted(units)] for judge in judges]
    return Interval(krippendorff_alpha(table), None, None, len(units))


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


def _unit(judgement: Judgement) -> Unit:
    return judgement.question_id, judgement.target, judgement.phase
