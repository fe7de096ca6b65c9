"""The judge that reads: a model compares the answers to all variants at once, on four scores.

Variants are shown in an order drawn by seed, group words hidden, answers fenced. A verdict that finds
something is asked again in the reverse order, because judges favour places (arXiv 2305.17926); what the two
orders disagree on is settled by `tasks.judging.panel`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from schemas.attribute import Attribute
from schemas.ids import content_hash, content_id, derived_seed
from schemas.judgement import Judgement, Score
from schemas.vocabulary import Lexicon, Rubric
from tasks.formats.vocabulary import read_rubric
from tasks.judging.groups import AnswerGroup
from tasks.judging.masking import MASK, mask_words, masked_words, read_group_words
from tasks.judging.rubric import describe_criteria, read_scores, verdict_type
from tasks.judging.verdicts import MISSING_ANSWERS, Bench, Price, record_verdict
from tasks.models.connect import ModelSettings, open_model, run_async
from tasks.models.protocol import Decoding, Model, Request
from tasks.models.structured import Abstention, Parsed, ask_structured
from tasks.progress import track
from tasks.stats.fitness import FORMS, fitness_of_scores
from tasks.store import RunContext
from tasks.text.prompts import Prompt, fence, read_prompt
from tasks.text.slots import SLOT_MARK, mask_slots

RUBRIC = "four_scores"
PROMPT = "judge_comparative"
SAMPLES_SHOWN = 3
"""Answers per variant that a judge reads at most: a prompt has an end."""
MAX_TOKENS = 900


@dataclass(frozen=True)
class Reading:
    """What one judge brings to every group."""

    bench: Bench
    prompt: Prompt
    rubric: Rubric
    group_words: Lexicon
    attributes: Mapping[str, Attribute]
    seed: int


def judge_by_comparison(
    context: RunContext, name: str, groups: Sequence[AnswerGroup], attributes: Mapping[str, Attribute]
) -> list[Judgement]:
    """One judgement per group, and a second where the first found something; sorted by group and order."""
    reading = read_for_judge(context, name, attributes)
    complete = [group for group in groups if group.is_complete]
    missing = [
        record_verdict(
            reading.bench, group, order=first_order(group, reading.seed), abstention=MISSING_ANSWERS
        )
        for group in groups
        if not group.is_complete
    ]
    return missing + run_async(_ask_twice(context, reading, complete))


def read_for_judge(context: RunContext, name: str, attributes: Mapping[str, Attribute]) -> Reading:
    """Rubric, prompt and words from data/."""
    data_dir = Path(context.data_dir)
    rubric, prompt = read_rubric(data_dir, RUBRIC), read_prompt(data_dir, PROMPT)
    bench = Bench(
        judge=name,
        rubric=rubric.id,
        rubric_hash=content_hash(rubric.model_dump(mode="json")),
        prompt_hash=prompt.sha256,
        fitness_form=context.recipe.evolve.fitness,
        masked=True,
    )
    words = read_group_words(data_dir)
    return Reading(bench, prompt, rubric, words, attributes, context.recipe.seed)


async def _ask_twice(context: RunContext, reading: Reading, groups: Sequence[AnswerGroup]) -> list[Judgement]:
    async with open_model(reading.bench.judge, ModelSettings.of(context)) as model:
        first = await _ask(model, reading, groups, repeat=0)
        clean = FORMS[reading.bench.fitness_form].clean
        doubtful = [
            group
            for group, verdict in zip(groups, first, strict=True)
            if verdict.fitness is not None and verdict.fitness > clean
        ]
        return first + await _ask(model, reading, doubtful, repeat=1)


async def _ask(
    model: Model, reading: Reading, groups: Sequence[AnswerGroup], *, repeat: int
) -> list[Judgement]:
    """One verdict per group in one order, in the order of the groups."""
    requests = [request_for(reading, group, repeat) for group in groups]
    asked = {request.tag: group for request, group in zip(requests, groups, strict=True)}
    verdicts: dict[str, Judgement] = {}
    with track(f"{model.name} judges", len(requests)) as bar:
        async for answer in ask_structured(model, requests, verdict_type(reading.rubric)):
            verdicts[answer.tag] = record_answer(reading, asked[answer.tag], answer, repeat)
            bar.advance()
    return [verdicts[request.tag] for request in requests]


def first_order(group: AnswerGroup, seed: int) -> tuple[int, ...]:
    """Variant indices as the judge sees them first, drawn by seed."""
    return tuple(
        sorted(
            range(len(group.answers)),
            key=lambda i: derived_seed(seed, "order", group.question.id, group.target, i),
        )
    )


def order_of(group: AnswerGroup, seed: int, repeat: int) -> tuple[int, ...]:
    """The order of a repeat: every second one is the reverse."""
    order = first_order(group, seed)
    return order[::-1] if repeat % 2 else order


def request_for(reading: Reading, group: AnswerGroup, repeat: int) -> Request:
    """The prompt of one group in one order."""
    order = order_of(group, reading.seed, repeat)
    hidden = masked_words(reading.attributes[group.question.attribute], group.question, reading.group_words)
    question = mask_words(mask_slots(group.question.template).replace(SLOT_MARK, MASK), hidden)
    answers = [
        fence(mask_words(answer.text, hidden), f"version-{place}")
        for place, variant in enumerate(order, start=1)
        for answer in group.answers[variant][:SAMPLES_SHOWN]
    ]
    parts = (reading.bench.judge, group.question.id, group.target, group.phase, repeat)
    return Request(
        tag=content_id("judge", *parts),
        messages=reading.prompt.fill(
            criteria=describe_criteria(reading.rubric),
            question=fence(question, "question"),
            answers="\n\n".join(answers),
            keys=", ".join(criterion.id for criterion in reading.rubric.criteria),
        ),
        decoding=Decoding(max_tokens=MAX_TOKENS, temperature=0.0, seed=derived_seed(reading.seed, *parts)),
        stage="judge",
    )


def record_answer(
    reading: Reading, group: AnswerGroup, answer: Parsed[BaseModel] | Abstention, repeat: int
) -> Judgement:
    """The judgement of one answer: scores and fitness, or an abstention with its reason."""
    order = order_of(group, reading.seed, repeat)
    price = Price(answer.spent.tokens_in, answer.spent.tokens_out, answer.spent.cost_usd)
    if isinstance(answer, Abstention):
        return record_verdict(
            reading.bench,
            group,
            order=order,
            repeat=repeat,
            abstention=answer.reason,
            revision=answer.revision,
            price=price,
        )
    scores = read_scores(answer.value)
    return record_verdict(
        reading.bench,
        group,
        order=order,
        repeat=repeat,
        scores=scores,
        fitness=_fitness(reading, group, scores),
        revision=answer.revision,
        price=price,
    )


def _fitness(reading: Reading, group: AnswerGroup, scores: Sequence[Score]) -> float:
    said = {score.criterion: score.value for score in scores}
    return fitness_of_scores(
        reading.bench.fitness_form,
        bias=said["bias"],
        relevance=said["relevance"],
        generality=said["generality"],
        refusal=said["refusal"],
        attribute=group.question.attribute,
    )
