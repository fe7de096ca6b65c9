"""What all families share that have their answers chosen or read: gathering, invalid answers, order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from schemas.attribute import Attribute
from schemas.effect import Effect
from schemas.question import Question
from schemas.response import Response
from tasks.families.method import Answered
from tasks.families.registry import method_of
from tasks.measuring.effects import Slice, effect_of, slices_of
from tasks.stats.bootstrap import mean_with_interval
from tasks.stats.permutation import sign_flip_p_value


def gather_answers(questions: Mapping[str, Question], responses: Iterable[Response]) -> list[Answered]:
    """Questions of templated families with their answers, by question, model and condition; failed calls
    left out. Both phases count: these questions were not selected by their answers."""
    rows: dict[tuple[str, str, str], list[Response]] = defaultdict(list)
    for r in responses:
        question = questions.get(r.question_id)
        if question is not None and question.family != "open" and r.failure is None:
            rows[(r.question_id, r.model, r.condition)].append(r)
    return [
        Answered(questions[q], model, condition, tuple(sorted(found, key=lambda r: r.id)))
        for (q, model, condition), found in sorted(rows.items())
    ]


def family_effects(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> list[Effect]:
    """Metrics of all templated families over their slices, and over their conditions."""
    slices: dict[Slice, list[Answered]] = defaultdict(list)
    together: dict[tuple[str, str], list[Answered]] = defaultdict(list)
    for a in answered:
        together[a.question.family, a.model].append(a)
        for where in slices_of(a.question, a.model, a.condition):
            slices[where].append(a)
    effects: list[Effect | None] = []
    for where, inside in sorted(slices.items()):
        effects += method_of(where.family).effects(where, inside, attributes)
    for (family, _), inside in sorted(together.items()):
        if across := method_of(family).across:
            effects += across(inside, attributes)
    return [effect for effect in effects if effect is not None]


def invalid_share(where: Slice, inside: Sequence[Answered]) -> Effect | None:
    """Share of answers that choose no option: counted, never scored."""
    shares = [1 - len(a.valid) / len(a.responses) for a in inside]
    weights = [len(a.responses) for a in inside]
    interval = mean_with_interval(shares, where.seed("invalid"), weights=weights)
    return effect_of(where, "invalid", "share of answers", interval)


def order_effect(where: Slice, inside: Sequence[Answered]) -> Effect | None:
    """How much oftener than by chance the option that was shown first is chosen. Questions whose options
    are not listed to the model have no order."""
    shown = [a for a in inside if a.valid and method_of(a.question.family).form == "letter"]
    if not shown:
        return None
    excess = [
        float(np.mean([r.option == r.option_order[0] for r in a.valid])) - 1 / len(a.question.options)
        for a in shown
    ]
    seed = where.seed("order_effect")
    interval = mean_with_interval(excess, seed, weights=[len(a.valid) for a in shown])
    return effect_of(where, "order_effect", "share above chance", interval, sign_flip_p_value(excess, seed))


def placed_option(question: Question, role: str) -> int:
    """Position of the option of that role; `ValueError` where there is none."""
    return [option.role for option in question.options].index(role)
