"""Parts that families share: gathering answers, computing effects per slice, invalid answers, order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from schemas.answers import PLAIN, Effect, Response
from schemas.question import Question
from schemas.vocabulary import Attribute
from tasks.families import LETTERS, Answered, method_of
from tasks.families.effects import Slice, effect_of, slices_of
from tasks.families.polarity import balance_polarity, polarity_effects
from tasks.files.readers import read_answer
from tasks.stats.clusters import twin_families
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, mean_interval
from tasks.stats.signed_means import signed_mean


def gather_answers(questions: Mapping[str, Question], responses: Iterable[Response]) -> list[Answered]:
    """Group answers of both phases by question, model and condition, without failed calls.

    Both phases count, because answers decide only if an open question is kept, and those are measured apart.
    """
    rows: dict[tuple[str, str, str], list[Response]] = defaultdict(list)
    for r in balance_polarity(questions, responses):
        if r.question_id in questions and r.failure is None:
            rows[(r.question_id, r.model, r.condition)].append(r)
    return [
        Answered(questions[q], model, condition, tuple(sorted(answers, key=lambda r: r.id)))
        for (q, model, condition), answers in sorted(rows.items())
    ]


def family_effects(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> list[Effect]:
    """Return the effects of all families but `open`: of each slice, and between conditions."""
    return [*effects_of_slices(answered, attributes), *effects_across_conditions(answered, attributes)]


def effects_of_slices(answered: Sequence[Answered], attributes: Mapping[str, Attribute]) -> list[Effect]:
    """Return the effects of each slice, in all families but `open`."""
    slices: dict[Slice, list[Answered]] = defaultdict(list)
    for a in answered:
        for slice_ in slices_of(a.question, a.model, a.condition):
            slices[slice_].append(a)
    effects: list[Effect | None] = []
    for slice_, members in sorted(slices.items()):
        if measure := method_of(slice_.family).effects:
            effects += measure(slice_, members, attributes)
    return [effect for effect in effects if effect is not None]


def effects_across_conditions(
    answered: Sequence[Answered], attributes: Mapping[str, Attribute]
) -> list[Effect]:
    """Return the effects that compare the conditions of a family."""
    by_model: dict[tuple[str, str], list[Answered]] = defaultdict(list)
    for a in answered:
        by_model[a.question.family, a.model].append(a)
    effects: list[Effect | None] = []
    for (family, _), members in sorted(by_model.items()):
        if across := method_of(family).across:
            effects += across(members, attributes)
        effects += polarity_effects(members)
    return [effect for effect in effects if effect is not None]


def changed_from_plain(
    answered: Sequence[Answered],
) -> tuple[dict[str, Answered], dict[Slice, list[Answered]]]:
    """Pair plain answers with those in other conditions.

    Returns:
        The plain answers by question id, and by slice (attribute, family or control) the answers in another
        condition to questions that were also asked plainly.
    """
    plain = {a.question.id: a for a in answered if a.condition == PLAIN}
    slices: dict[Slice, list[Answered]] = defaultdict(list)
    for a in answered:
        if a.condition != PLAIN and a.question.id in plain:
            for slice_ in slices_of(a.question, a.model, a.condition):
                if slice_.level in ("attribute", "family", "control"):
                    slices[slice_].append(a)
    return plain, dict(sorted(slices.items()))


def invalid_share(slice_: Slice, answered: Sequence[Answered]) -> Effect | None:
    """Return the share of answers that choose no option. They are counted, but never scored."""
    shares = [1 - len(a.valid) / len(a.responses) for a in answered]
    weights = [len(a.responses) for a in answered]
    interval = mean_interval(shares, weights=weights, clusters=clusters_of(answered), bounds=SHARE_BOUNDS)
    return effect_of(slice_, "invalid", "share of answers", interval)


def order_effect(slice_: Slice, answered: Sequence[Answered]) -> Effect | None:
    """Return how much more often than by chance the option shown first is chosen.

    Only families that list their options under letters have an order.
    """
    shown = [a for a in answered if a.valid and method_of(a.question.family).form == "letter"]
    if not shown:
        return None
    excess = [
        float(np.mean([r.option == r.option_order[0] for r in a.valid])) - 1 / len(a.question.options)
        for a in shown
    ]
    clusters = clusters_of(shown)
    weights = [len(a.valid) for a in shown]
    seed = slice_.seed("order_effect")
    signed = signed_mean(excess, seed, weights=weights, clusters=clusters, bounds=SIGNED_BOUNDS)
    return effect_of(slice_, "order_effect", "share above chance", *signed)


def clusters_of(answered: Sequence[Answered]) -> list[str]:
    """Return the twin family of each question. Rewordings of one question are not independent."""
    families = twin_families(a.question for a in answered)
    return [families[a.question.id] for a in answered]


def gaps_to_baseline(
    question: Question, attribute: Attribute, means: Mapping[int, float], *, single_values: bool = True
) -> list[tuple[str, float]]:
    """Compare the mean scores of a question with that of the baseline, as (`value-baseline`, difference).

    In an A/A control, the later variants are compared with the first.

    Args:
        question: The question.
        attribute: Its attribute. If it is a product, the levels of each factor are compared as well.
        means: Mean score by index of the variant. Variants without an answer are left out.
        single_values: Whether to compare single values as well, if it is a product.
    """
    is_a_a, gaps = question.control == "a_a", []
    if single_values or is_a_a or not attribute.factors:
        gaps += _value_gaps(question, attribute, means)
    if attribute.factors and not is_a_a:
        gaps += _level_gaps(question, attribute, means)
    return gaps


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
    """Compare the levels of each factor with the baseline's level, averaging over the other factors."""
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
            (f"{level}-{baseline}", float(np.mean(scores) - np.mean(levels[baseline])))
            for level, scores in levels.items()
            if level != baseline and baseline in levels
        ]
    return gaps


def placed_option(question: Question, role: str) -> int:
    """Return the index of the option with that role.

    Raises:
        ValueError: If there is none.
    """
    return [option.role for option in question.options].index(role)


def is_gold_answer(response: str, gold: str, data_dir: Path) -> bool:
    """Return whether a recorded response gives the gold answer: its letter, its number or its words."""
    wanted = gold.strip().strip("().")
    if len(wanted) == 1 and wanted.upper() in LETTERS:
        letters = list(LETTERS[: max(5, LETTERS.index(wanted.upper()) + 1)])
        reading = read_answer(response, letters, form="letter", data_dir=data_dir)
        return reading.value == LETTERS.index(wanted.upper())
    try:
        number = float(wanted)
    except ValueError:
        return read_answer(response, [gold], form="option", data_dir=data_dir).value == 0
    return read_answer(response, (), form="number", data_dir=data_dir).value == number
