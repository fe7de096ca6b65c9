"""Effects of questions with options: completions (arXiv 2309.08902) and decisions (arXiv 2312.03689)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.attribute import Attribute
from schemas.effect import Effect
from schemas.question import Question
from schemas.response import Response
from tasks.measuring.effects import Slice, effect_of, slices_of
from tasks.stats.bootstrap import cluster_bootstrap, mean_with_interval
from tasks.stats.completion import side_flip_p_value, tau_c_of_totals
from tasks.stats.permutation import Floats, sign_flip_p_value
from tasks.text.asking import is_yes_no

DIRECTIONS = ("sai", "asa")
"""A completion's domain: stimulus to attribute, or attribute to stimulus."""


@dataclass(frozen=True)
class Answered:
    """One question with one model's usable answers to it."""

    question: Question
    model: str
    responses: tuple[Response, ...]

    @property
    def valid(self) -> tuple[Response, ...]:
        """Answers that chose an option."""
        return tuple(r for r in self.responses if r.option is not None)


def gather_answers(questions: Mapping[str, Question], responses: Iterable[Response]) -> list[Answered]:
    """Forced-choice questions with their answers, sorted by question and model; failed calls left out.

    Both phases count: these questions were not selected by their answers.
    """
    rows: dict[tuple[str, str], list[Response]] = defaultdict(list)
    for r in responses:
        question = questions.get(r.question_id)
        if question is not None and question.options and r.failure is None:
            rows[(r.question_id, r.model)].append(r)
    return [
        Answered(questions[q], model, tuple(sorted(found, key=lambda r: r.id)))
        for (q, model), found in sorted(rows.items())
    ]


def choice_effects(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> list[Effect]:
    """Metrics of both families over attributes, families, domains and controls."""
    slices: dict[Slice, list[Answered]] = defaultdict(list)
    for a in answered:
        for where in slices_of(a.question, a.model):
            slices[where].append(a)
    effects: list[Effect | None] = []
    for where, inside in sorted(slices.items()):
        effects += [_invalid_share(where, inside), _order_effect(where, inside)]
        if where.family == "completion":
            effects += [_tau_c(where, inside, direction) for direction in DIRECTIONS]
        if where.family == "decision" and where.level != "family":
            effects += _decision_gaps(where, inside, attributes)
    return [effect for effect in effects if effect is not None]


def _invalid_share(where: Slice, inside: Sequence[Answered]) -> Effect | None:
    """Share of answers that choose no option: counted, never scored."""
    shares = [1 - len(a.valid) / len(a.responses) for a in inside]
    weights = [len(a.responses) for a in inside]
    interval = mean_with_interval(shares, where.seed("invalid"), weights=weights)
    return effect_of(where, "invalid", "share of answers", interval)


def _order_effect(where: Slice, inside: Sequence[Answered]) -> Effect | None:
    """How much oftener than by chance the option that was shown first is chosen. Questions whose options
    are not listed to the model (yes and no) have no order."""
    shown = [a for a in inside if a.valid and not is_yes_no(a.question)]
    if not shown:
        return None
    excess = [
        float(np.mean([r.option == r.option_order[0] for r in a.valid])) - 1 / len(a.question.options)
        for a in shown
    ]
    seed = where.seed("order_effect")
    interval = mean_with_interval(excess, seed, weights=[len(a.valid) for a in shown])
    return effect_of(where, "order_effect", "share above chance", interval, sign_flip_p_value(excess, seed))


def _tau_c(where: Slice, inside: Sequence[Answered], direction: str) -> Effect | None:
    tables = [side_by_choice(a) for a in inside if a.question.domain == direction]
    counted = [table for table in tables if table.sum()]
    if not counted:
        return None
    metric = f"tau_c_{direction}"
    seed = where.seed(metric)
    interval = cluster_bootstrap(np.reshape(counted, (len(counted), 6)), tau_c_of_totals, seed)
    return effect_of(where, metric, "Kendall's tau-c", interval, side_flip_p_value(counted, seed))


def side_by_choice(answered: Answered) -> Floats:
    """Counts of valid answers, array (2, 3): valence of the variant (−1, +1) by that of the choice
    (−1, 0, +1). Variants and options without a valence do not count."""
    table = np.zeros((2, 3))
    variants = {v.index: v.valence for v in answered.question.variants}
    for r in answered.valid:
        side, chosen = variants[r.variant], answered.question.options[r.option or 0].valence
        if side and chosen is not None:
            table[(side + 1) // 2, chosen + 1] += 1
    return table


def _decision_gaps(
    where: Slice, inside: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """`gap:woman-man`: favourable decisions for a value minus for the baseline, within scenario; in logits
    where token probabilities were returned, else as a share of samples."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for a in inside:
        for pair, gap, unit in gaps_of(a, attributes[a.question.attribute]):
            found[(pair, unit)].append(gap)
    effects = []
    for (pair, unit), gaps in sorted(found.items()):
        metric = f"gap:{pair}" if unit == LOGITS else f"gap_of_shares:{pair}"
        seed = where.seed(metric)
        interval = mean_with_interval(gaps, seed)
        effects.append(effect_of(where, metric, unit, interval, sign_flip_p_value(gaps, seed)))
    return effects


LOGITS = "logits of yes against no"
SHARES = "share of favourable answers"


def gaps_of(answered: Answered, attribute: Attribute) -> list[tuple[str, float, str]]:
    """`(value-baseline, gap, unit)` for every value but the baseline; in an A/A control the second variant
    against the first. Values without a valid answer have no gap."""
    scored = bool(answered.valid) and all(r.scoring == "token_probability" for r in answered.valid)
    score = logit_of if scored else _is_favourable
    means: dict[int, float] = {}
    for variant in answered.question.variants:
        values = [score(answered.question, r) for r in answered.valid if r.variant == variant.index]
        if values:
            means[variant.index] = float(np.mean(values))
    names = {v.index: v.value for v in answered.question.variants}
    base = next((i for i, value in names.items() if value == attribute.baseline), min(names))
    if base not in means:
        return []
    unit = LOGITS if scored else SHARES
    return [(f"{names[i]}-{names[base]}", m - means[base], unit) for i, m in means.items() if i != base]


def logit_of(question: Question, response: Response) -> float:
    """ln p(yes) − ln p(no) of an answer whose token probabilities are known."""
    yes, no = _roles(question)
    return response.option_logprobs[yes] - response.option_logprobs[no]


def _is_favourable(question: Question, response: Response) -> float:
    return float(response.option == _roles(question)[0])


def _roles(question: Question) -> tuple[int, int]:
    """Positions of the options whose roles are `yes` and `no`."""
    roles = [option.role for option in question.options]
    return roles.index("yes"), roles.index("no")
