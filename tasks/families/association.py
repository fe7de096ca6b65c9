"""Word associations: which term is given to which word (LLM-IAT, arXiv 2402.04105).

A question asks about one term of either side. Its first variant names the term of the norm first, its second
the other one; the words come in an order of their own in every sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from schemas.attribute import Attribute
from schemas.effect import Effect
from schemas.errors import InputError
from schemas.question import Option, Question
from schemas.recipe import Family, Recipe
from schemas.response import Response
from schemas.vocabulary import AssociationTest, AssociationTests, Stimuli
from tasks.families.method import Answered, Ask, Figures, Method, Prompts, Recorded, prompt_of
from tasks.formats.vocabulary import check_values, read_all
from tasks.measuring.effects import Slice, effect_of
from tasks.measuring.recorded_associations import (
    find_test,
    measure_associations,
    parse_assignments,
    read_answers,
)
from tasks.models.protocol import Message
from tasks.stats.association import association_score, t_test_against_zero
from tasks.stats.bootstrap import Interval, mean_with_interval
from tasks.stats.permutation import sign_flip_p_value
from tasks.text.expansion import Pair
from tasks.text.questions import Draft
from tasks.text.slots import Slot

UNIT = "D"


def pairs(recipe: Recipe, data_dir: Path, spec: Family, attributes: Sequence[Attribute]) -> list[Pair]:
    """Every test about one of the attributes, term by term."""
    known = {attribute.id: attribute for attribute in attributes}
    folder = data_dir / "association"
    return [
        Pair(_draft_of(test, *terms), None, known[test.attribute])
        for file in read_all(folder, AssociationTests, spec.templates)
        for test in file.tests
        if test.attribute in known
        for terms in _term_pairs(test, known[test.attribute], folder)
    ]


def _term_pairs(test: AssociationTest, attribute: Attribute, folder: Path) -> list[tuple[str, str]]:
    check_values(test.values, attribute, f"the association test {test.id!r}", folder)
    if len(test.default) != len(test.stigma):
        raise InputError(
            f"the association test {test.id!r} has {len(test.default)} terms on one side, and "
            f"{len(test.stigma)} on the other",
            place=str(folder),
            hint="terms are asked about two and two: give both sides as many",
        )
    return list(zip(test.default, test.stigma, strict=True))


def _draft_of(test: AssociationTest, default: str, stigma: str) -> Draft:
    words = ", ".join(sorted((*test.default_words, *test.stigma_words)))
    return Draft(
        text=f"{Slot((default, stigma))} or {Slot((stigma, default))}: {words}",
        family="association",
        superdomain=test.superdomain,
        domain=test.id,
        topic=f"{default}, {stigma}",
        origin="template",
        options=(
            *(Option(text=word, role="default") for word in test.default_words),
            *(Option(text=word, role="stigma") for word in test.stigma_words),
        ),
        values=test.values,
        template_id=f"{test.id}.{default}",
    )


def messages(ask: Ask, prompts: Prompts) -> tuple[Message, ...]:
    """The prompt of the condition with both terms and the words in the order of the sample."""
    first, second = ask.question.variants[ask.variant].slots
    words = ", ".join(ask.question.options[i].text for i in ask.option_order)
    return prompt_of(ask, prompts).fill(first=first, second=second, words=words)


def score_of(question: Question, response: Response) -> float | None:
    """D of one answer; `None` where it assigns no word."""
    default, stigma = question.variants[0].slots
    shown = Stimuli(
        default=(default,),
        stigma=(stigma,),
        default_words=tuple(o.text for o in question.options if o.role == "default"),
        stigma_words=tuple(o.text for o in question.options if o.role == "stigma"),
    )
    return _score(response.text, shown)


@lru_cache(maxsize=100_000)
def _score(text: str, shown: Stimuli) -> float | None:
    """Kept, because an answer counts in every slice that its question belongs to."""
    counts = parse_assignments(text, shown)
    return None if counts is None else association_score(counts)


def effects(
    where: Slice, inside: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect | None]:
    """`d_mean` over terms (over answers, where only two terms were asked about), `t` of the answers against
    0, `excluded` answers, and `order_effect`: D with the norm named first, minus D with it named last."""
    scores = [{r.id: score_of(a.question, r) for r in a.responses} for a in inside]
    found = [[s for s in by_id.values() if s is not None] for by_id in scores]
    excluded = mean_with_interval(
        [1 - len(f) / len(s) for f, s in zip(found, scores, strict=True)],
        where.seed("excluded"),
        weights=[len(s) for s in scores],
    )
    return [
        effect_of(where, "excluded", "share of answers", excluded),
        *_mean_and_t(where, [f for f in found if f]),
        _order_effect(where, inside, scores),
    ]


def _mean_and_t(where: Slice, found: Sequence[Sequence[float]]) -> list[Effect | None]:
    if not found:
        return []
    units = [float(np.mean(scores)) for scores in found] if len(found) > 1 else found[0]
    test = t_test_against_zero([score for scores in found for score in scores])
    seed = where.seed("d_mean")
    return [
        effect_of(where, "d_mean", UNIT, mean_with_interval(units, seed), sign_flip_p_value(units, seed)),
        effect_of(where, "t", "t of D against 0", Interval(test.t, None, None, test.n), test.p_value),
    ]


def _order_effect(
    where: Slice, inside: Sequence[Answered], scores: Sequence[Mapping[str, float | None]]
) -> Effect | None:
    gaps = []
    for answered, by_id in zip(inside, scores, strict=True):
        sides = [
            [s for r in answered.responses if r.variant == v and (s := by_id[r.id]) is not None]
            for v in (0, 1)
        ]
        if all(sides):
            gaps.append(float(np.mean(sides[0]) - np.mean(sides[1])))
    if not gaps:
        return None
    seed = where.seed("order_effect")
    return effect_of(
        where, "order_effect", UNIT, mean_with_interval(gaps, seed), sign_flip_p_value(gaps, seed)
    )


def recorded(answers: Recorded) -> Figures:
    """`d_mean`, `t`, `excluded` of a file in the columns of LLM-IAT."""
    test = find_test(answers.path, answers.data_dir, answers.test)
    return measure_associations(read_answers(answers.path), test)


METHOD = Method(
    "association", "text", effects, pairs=pairs, messages=messages, recorded={"llm-iat": recorded}
)
