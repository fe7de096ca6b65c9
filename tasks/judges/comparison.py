"""What a judge is shown at once, and in which order: all variants of a group, or two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from schemas.answers import Judgement
from schemas.recipe import Judging
from schemas.tables import content_hash, content_id, derived_seed
from schemas.vocabulary import Attribute, Lexicon, Rubric
from tasks.judges.verdicts import (
    MISSING_ANSWERS,
    NOTHING_APPLIES,
    AnswerGroup,
    JudgeSetup,
    VerdictCost,
    describe_criteria,
    fitness_of_verdict,
    form_of_rubric,
    read_judging_rubric,
    read_scores,
    record_verdict,
    verdict_type,
)
from tasks.judges.words import MASK, mask_words, masked_words, read_group_words
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, Model, Request
from tasks.models.structured import Abstention, Parsed, ask_structured
from tasks.run.progress import track
from tasks.run.store import RunContext
from tasks.stats.fitness import FORMS
from tasks.text.slots import SLOT_MARK, mask_slots

How = Literal["all_at_once", "pairwise"]

ALL_PAIRS_UP_TO = 6
"""Values of which every two are compared."""
STEPS = (1, 2)
"""Beyond that, each value is compared with those one and two places further on a ring: four in all."""


@dataclass(frozen=True)
class PlannedComparison:
    """One look at a group."""

    group: AnswerGroup
    order: tuple[int, ...]
    """Variant indices as the judge sees them."""
    pair: tuple[int, ...] = ()
    """The two variants compared, the lower index first; empty where all are shown."""
    repeat: int = 0

    def turned(self) -> PlannedComparison:
        """The same in the reverse order."""
        return replace(self, order=self.order[::-1], repeat=self.repeat + 1)


def plan_comparisons(group: AnswerGroup, how: How, seed: int) -> list[PlannedComparison]:
    """The first looks at a group, each in an order drawn by seed."""
    if how == "all_at_once":
        return [PlannedComparison(group, first_order(group, seed))]
    return [
        PlannedComparison(group, _drawn(pair, seed, "order", group.question.id, group.target, *pair), pair)
        for pair in pairs_to_compare(len(group.answers), seed, group.question.id)
    ]


def first_order(group: AnswerGroup, seed: int) -> tuple[int, ...]:
    """All variant indices in the order drawn for a group."""
    return _drawn(range(len(group.answers)), seed, "order", group.question.id, group.target)


def pairs_to_compare(values: int, seed: int, question_id: str) -> list[tuple[int, int]]:
    """Every two of up to six values. Of more, a sparse design whose size grows with the number of values and
    not with its square: the values on a ring drawn by seed, each with its neighbours at both distances, so
    that all take part equally often and all are connected."""
    if values <= ALL_PAIRS_UP_TO:
        return list(combinations(range(values), 2))
    ring = _drawn(range(values), seed, "ring", question_id)
    around = ((ring[place], ring[(place + step) % values]) for place in range(values) for step in STEPS)
    return sorted({(min(pair), max(pair)) for pair in around})


def count_comparisons(values: int, how: How) -> int:
    """First looks at a group of so many values."""
    if how == "all_at_once":
        return 1
    return values * (values - 1) // 2 if values <= ALL_PAIRS_UP_TO else len(STEPS) * values


def _drawn(indices: Iterable[int], *parts: object) -> tuple[int, ...]:
    return tuple(sorted(indices, key=lambda index: derived_seed(*parts, index)))


# The judge that reads: a model compares the answers to a question's variants, on the criteria of a rubric.
#
# All variants stand side by side, or two at a time, in an order drawn by seed, group words hidden, answers
# fenced. A verdict that finds something is asked again in the reverse order, because judges favour places
# (arXiv 2305.17926); what the two orders disagree on is a tie, settled by `tasks.judges.panel`. A verdict
# that
# found nothing is not asked again: whatever the other order said, nothing would be found.


PROMPTS = {"all_at_once": "judge_comparative", "pairwise": "judge_pairwise"}
SAMPLES_SHOWN = 3
"""Answers per variant that a judge reads at most: a prompt has an end."""


@dataclass(frozen=True)
class ComparisonContext:
    """What one judge brings to every group."""

    bench: JudgeSetup
    prompt: Prompt
    rubric: Rubric
    group_words: Lexicon
    attributes: Mapping[str, Attribute]
    judging: Judging
    seed: int


def judge_by_comparison(
    context: RunContext,
    name: str,
    groups: Sequence[AnswerGroup],
    attributes: Mapping[str, Attribute],
    *,
    adjudicates: bool = False,
) -> list[Judgement]:
    """One judgement per comparison, and a second where the first found something. Groups without an answer
    for every value are abstained from."""
    reading = read_for_judge(context, name, attributes, adjudicates=adjudicates)
    planned = [
        comparison
        for group in groups
        if group.is_complete
        for comparison in plan_comparisons(group, reading.judging.comparison, reading.seed)
    ]
    missing = [
        record_verdict(
            reading.bench, group, order=first_order(group, reading.seed), abstention=MISSING_ANSWERS
        )
        for group in groups
        if not group.is_complete
    ]
    return missing + run_async(_ask_twice(context, reading, planned))


def read_for_judge(
    context: RunContext, name: str, attributes: Mapping[str, Attribute], *, adjudicates: bool = False
) -> ComparisonContext:
    """Rubric, prompt and words from data/."""
    data_dir, judging = Path(context.data_dir), context.recipe.judging
    rubric = read_judging_rubric(data_dir, judging.rubric)
    prompt = read_prompt(data_dir, PROMPTS[judging.comparison])
    bench = JudgeSetup(
        judge=name,
        rubric=rubric.id,
        rubric_hash=content_hash(rubric.model_dump(mode="json")),
        prompt_hash=prompt.sha256,
        fitness_form=form_of_rubric(rubric, context.recipe.evolve.fitness),
        masked=True,
        adjudicates=adjudicates,
    )
    words = read_group_words(data_dir)
    return ComparisonContext(bench, prompt, rubric, words, attributes, judging, context.recipe.seed)


async def _ask_twice(
    context: RunContext, reading: ComparisonContext, comparisons: Sequence[PlannedComparison]
) -> list[Judgement]:
    async with open_model(reading.bench.judge, ModelSettings.of(context)) as model:
        first = await _ask(model, reading, comparisons)
        clean = FORMS[reading.bench.fitness_form].clean
        doubtful = [
            comparison.turned()
            for comparison, verdict in zip(comparisons, first, strict=True)
            if verdict.fitness is not None and verdict.fitness > clean
        ]
        return first + await _ask(model, reading, doubtful)


async def _ask(
    model: Model, reading: ComparisonContext, comparisons: Sequence[PlannedComparison]
) -> list[Judgement]:
    """One verdict per comparison, in their order."""
    requests = [request_for(reading, comparison) for comparison in comparisons]
    asked = {request.tag: look for request, look in zip(requests, comparisons, strict=True)}
    verdicts: dict[str, Judgement] = {}
    with track(f"{model.name} judges", len(requests)) as bar:
        async for answer in ask_structured(model, requests, verdict_type(reading.rubric)):
            verdicts[answer.tag] = record_answer(reading, asked[answer.tag], answer)
            bar.advance()
    return [verdicts[request.tag] for request in requests]


def request_for(reading: ComparisonContext, comparison: PlannedComparison) -> Request:
    """The prompt of one comparison."""
    group = comparison.group
    hidden = masked_words(reading.attributes[group.question.attribute], group.question, reading.group_words)
    question = mask_words(mask_slots(group.question.template).replace(SLOT_MARK, MASK), hidden)
    answers = [
        fence(mask_words(answer.text, hidden), f"version-{place}")
        for place, variant in enumerate(comparison.order, start=1)
        for answer in group.answers[variant][:SAMPLES_SHOWN]
    ]
    looked_at = (group.question.id, group.target, group.phase, comparison.repeat, *comparison.pair)
    parts = (reading.bench.judge, *looked_at)
    return Request(
        tag=content_id("judge", *parts),
        messages=reading.prompt.fill(
            criteria=describe_criteria(reading.rubric),
            question=fence(question, "question"),
            answers="\n\n".join(answers),
            keys=", ".join(criterion.id for criterion in reading.rubric.criteria),
        ),
        decoding=Decoding(
            max_tokens=reading.judging.max_tokens, temperature=0.0, seed=derived_seed(reading.seed, *parts)
        ),
        stage="judge",
    )


def record_answer(
    reading: ComparisonContext, comparison: PlannedComparison, answer: Parsed[BaseModel] | Abstention
) -> Judgement:
    """The judgement of one answer: scores and fitness, or an abstention with its reason."""
    scores = read_scores(answer.value) if isinstance(answer, Parsed) else ()
    attribute = comparison.group.question.attribute
    form = reading.bench.fitness_form
    fitness = fitness_of_verdict(reading.rubric, form, scores, attribute) if scores else None
    return record_verdict(
        reading.bench,
        comparison.group,
        order=comparison.order,
        pair=comparison.pair,
        repeat=comparison.repeat,
        scores=scores,
        fitness=fitness,
        abstention=_reason(answer, reading.judging.max_tokens) if fitness is None else None,
        revision=answer.revision,
        price=VerdictCost(answer.spent.tokens_in, answer.spent.tokens_out, answer.spent.cost_usd),
    )


def _reason(answer: Parsed[BaseModel] | Abstention, max_tokens: int) -> str:
    if isinstance(answer, Parsed):
        return NOTHING_APPLIES
    if answer.reason == "truncated":
        return f"truncated: no verdict within {max_tokens} tokens; raise judging.max_tokens"
    return answer.reason
