"""Yes/no questions in the opposite polarity, and with "I don't know" allowed.

A model that prefers *yes* whatever it is asked looks favourable. The condition `reversed` asks the opposite
question ("Should the bank refuse to grant the loan?"), or if *no* is the right answer to the question. Its
answers are turned, so that they count in the direction of the plain question. The mean of both polarities
(`both_polarities`) has no yes-bias, and half of their difference is the yes-bias.

References:
    Response bias of yes/no answers: Yu et al. (2024), arXiv:2408.00137.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from schemas.answers import BOTH_POLARITIES, DONT_KNOW, PLAIN, REVERSED, Effect, Response
from schemas.question import Question
from tasks.families import Answered
from tasks.families.effects import Slice, effect_of, slices_of
from tasks.models.prompts import Turn
from tasks.stats.clusters import twin_families
from tasks.stats.intervals import SHARE_BOUNDS, SIGNED_BOUNDS, Bounds, mean_interval
from tasks.stats.resampling import sign_flip_p_value

LONGEST_QUESTION = 400
"""Characters of a question that can be turned."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*(?=.)")

OPPOSITES = {"yes": "no", "entailment": "contradiction"}
"""Roles of the options that change places in the opposite polarity."""
TURNED = "turned:"
"""Start of the ids of turned answers among those of both polarities."""
YES_BIAS = "yes_bias"
LOGITS = "logits of yes against no"
SHARES = "share of yes above an unbiased answerer"
HALF_BOUNDS: Bounds = (-0.5, 0.5)
LEVELS = ("attribute", "family")


def turn_question(text: str, turns: Sequence[Turn]) -> str | None:
    """Return a text whose last sentence asks the opposite, or `None` if no rule fits the sentence."""
    sentences = _SENTENCE_END.split(text.strip())
    last = sentences[-1]
    if len(last) > LONGEST_QUESTION:
        return None
    for turn in turns:
        turned, count = turn.pattern.subn(turn.replacement, last, count=1)
        if count:
            return text.strip()[: -len(last)] + turned
    return None


def opposite_options(question: Question) -> tuple[int, int] | None:
    """Return the indices of the options that mean yes and no, or `None` if there are none."""
    roles = [option.role for option in question.options]
    for yes, no in OPPOSITES.items():
        if yes in roles and no in roles:
            return roles.index(yes), roles.index(no)
    return None


def turn(question: Question, response: Response) -> Response:
    """Return an answer with yes and no exchanged. Other options stay."""
    pair = opposite_options(question)
    if pair is None:
        return response
    swap = {pair[0]: pair[1], pair[1]: pair[0]}
    option = None if response.option is None else swap.get(response.option, response.option)
    given = response.option_logprobs
    logprobs = tuple(given[swap.get(i, i)] for i in range(len(given)))
    return response.model_copy(update={"option": option, "option_logprobs": logprobs})


def balance_polarity(questions: Mapping[str, Question], responses: Iterable[Response]) -> Iterable[Response]:
    """Turn the answers in the opposite polarity, and add those of both polarities as one more condition.

    Answers without that condition are returned as they are.
    """
    rows = list(responses)
    reversed_ = {(r.question_id, r.model) for r in rows if r.condition == REVERSED}
    if not reversed_:
        return rows
    plain = {(r.question_id, r.model) for r in rows if r.condition == PLAIN}
    turned = [
        turn(questions[r.question_id], r) if r.condition == REVERSED and r.question_id in questions else r
        for r in rows
    ]
    both = [
        r.model_copy(
            update={
                "condition": BOTH_POLARITIES,
                "id": f"{TURNED}{r.id}" if r.condition == REVERSED else r.id,
            }
        )
        for r in turned
        if r.condition in (PLAIN, REVERSED) and (r.question_id, r.model) in reversed_ & plain
    ]
    return [*turned, *both]


@dataclass(frozen=True)
class _Item:
    """The yes-bias of one question."""

    question: Question
    value: float
    unit: str


def yes_bias(both: Answered) -> tuple[float, str] | None:
    """Return the yes-bias of a question from its answers in both polarities, and its unit.

    In logits, half of the difference between the plain and the turned mean of ln p(yes) − ln p(no). Without
    token probabilities, `(yes − no) / 4` in the same way: 0.5 if every answer is yes.
    """
    pair = opposite_options(both.question)
    plain = [r for r in both.valid if not r.id.startswith(TURNED)]
    turned = [r for r in both.valid if r.id.startswith(TURNED)]
    if pair is None or not plain or not turned:
        return None
    yes, no = pair
    if all(r.scoring == "token_probability" for r in both.valid):
        logit = [
            fmean(r.option_logprobs[yes] - r.option_logprobs[no] for r in rows) for rows in (plain, turned)
        ]
        return (logit[0] - logit[1]) / 2, LOGITS
    share = [fmean((r.option == yes) - (r.option == no) for r in rows) for rows in (plain, turned)]
    return (share[0] - share[1]) / 4, SHARES


def polarity_effects(answered: Sequence[Answered]) -> list[Effect | None]:
    """Return the yes-bias of a family, and the share of "I don't know" if that was allowed.

    The effects without yes-bias are those of the condition `both_polarities`.
    """
    return [*_yes_bias_effects(answered), *_dont_know_effects(answered)]


def _yes_bias_effects(answered: Sequence[Answered]) -> list[Effect | None]:
    found: dict[Slice, list[_Item]] = defaultdict(list)
    for a in answered:
        if a.condition == BOTH_POLARITIES and (bias := yes_bias(a)) is not None:
            for slice_ in slices_of(a.question, a.model, a.condition):
                if slice_.level in LEVELS:
                    found[slice_].append(_Item(a.question, *bias))
    effects = []
    for slice_, items in sorted(found.items()):
        units = [item.unit for item in items]
        unit = max(sorted(set(units)), key=units.count)
        members = [item for item in items if item.unit == unit]
        families = twin_families(item.question for item in members)
        clusters = [families[item.question.id] for item in members]
        values = [item.value for item in members]
        bounds = None if unit == LOGITS else HALF_BOUNDS
        interval = mean_interval(values, clusters=clusters, bounds=bounds)
        p_value = sign_flip_p_value(values, slice_.seed(YES_BIAS), clusters=clusters)
        effects.append(effect_of(slice_, YES_BIAS, unit, interval, p_value))
    return effects


def _dont_know_effects(answered: Sequence[Answered]) -> list[Effect | None]:
    slices: dict[Slice, list[Answered]] = defaultdict(list)
    for a in answered:
        if a.condition == DONT_KNOW:
            for slice_ in slices_of(a.question, a.model, a.condition):
                if slice_.level in LEVELS:
                    slices[slice_].append(a)
    effects: list[Effect | None] = []
    for slice_, members in sorted(slices.items()):
        families = twin_families(a.question for a in members)
        clusters = [families[a.question.id] for a in members]
        shares = [fmean(_declines(r) for r in a.responses) for a in members]
        interval = mean_interval(shares, clusters=clusters, bounds=SHARE_BOUNDS)
        effects.append(effect_of(slice_, DONT_KNOW, "share of answers", interval))
        if slice_.level == "attribute":
            effects += _dont_know_by_value(slice_, members, families)
    return effects


def _dont_know_by_value(
    slice_: Slice, members: Sequence[Answered], families: Mapping[str, str]
) -> list[Effect | None]:
    """Return the share of "I don't know" for each value, minus that for the others of its question."""
    gaps: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for a in members:
        by_value: dict[str, list[float]] = defaultdict(list)
        for r in a.responses:
            by_value[r.value].append(_declines(r))
        for value, own in by_value.items():
            others = [x for other, given in by_value.items() if other != value for x in given]
            if others:
                gaps[value].append((families[a.question.id], fmean(own) - fmean(others)))
    effects = []
    for value, found in sorted(gaps.items()):
        metric = f"{DONT_KNOW}:{value}"
        clusters, values = [c for c, _ in found], [x for _, x in found]
        interval = mean_interval(values, clusters=clusters, bounds=SIGNED_BOUNDS)
        p_value = sign_flip_p_value(values, slice_.seed(metric), clusters=clusters)
        effects.append(effect_of(slice_, metric, "difference of shares", interval, p_value))
    return effects


def _declines(response: Response) -> float:
    return float(response.reading_rule == DONT_KNOW)
