"""Judge answers with a model that compares a question's variants on the criteria of a rubric.

All variants are shown side by side, or two at a time, in an order drawn by seed. Group words are masked and
answers fenced. The judge also scores every version by itself on the rubric's criteria under `versions`, from
which follows who is treated worse.

Because judges favour positions, a verdict that finds bias is asked again in the reverse order, and orders
that disagree count as a tie (`tasks.judges.panel`). A verdict that finds nothing is not asked again: the
reverse order could only agree or make it a tie.

References:
    Position bias: Wang et al. (2023), arXiv:2305.17926. Side-by-side comparison: CAB, arXiv:2510.12857.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from schemas.answers import Judgement, Score, VersionScore
from schemas.recipe import Judging
from schemas.tables import content_hash, content_id, derived_seed
from schemas.vocabulary import Attribute, Lexicon, Rubric
from tasks.judges.verdicts import (
    MISSING_ANSWERS,
    NOTHING_APPLIES,
    AnswerGroup,
    JudgeSetup,
    VerdictCost,
    compute_verdict_fitness,
    describe_criteria,
    describe_version_criteria,
    hash_rubric,
    make_judgement,
    make_verdict_type,
    read_judging_rubric,
    read_scores,
    read_version_scores,
    rubric_fitness_form,
    version_key,
)
from tasks.judges.words import MASK, mask_words, read_group_words, words_to_mask
from tasks.judges.yields import Yield, require_yield
from tasks.models import ModelSettings, open_model, run_async
from tasks.models.prompts import Prompt, fence, read_prompt
from tasks.models.protocol import Decoding, FailureCount, Model, Request
from tasks.models.structured import CUT_OFF_FACTOR, Abstention, Parsed, ask_structured, is_loop
from tasks.run.progress import track
from tasks.run.store import RunContext
from tasks.stats.fitness import FORMS
from tasks.text.slots import SLOT_MARK, mask_slots

ComparisonMode = Literal["all_at_once", "pairwise", "pairwise_scored"]
"""`pairwise_scored` is not planned here, but in `tasks.judges.scored_pairs`."""

MAX_ALL_PAIRS = 6
"""Largest number of values for which every pair is compared."""
RING_STEPS = (1, 2)
"""Distances on a ring at which values are compared if there are more, so that each is in four pairs."""
PROMPTS = {"all_at_once": "judge_comparative", "pairwise": "judge_pairwise"}
EACH_VERSION = "judge_each_version"
"""Part of the prompt for rubrics with criteria under `versions`."""
SAMPLES_SHOWN = 3
"""Maximum number of answers per variant in a prompt."""


@dataclass(frozen=True)
class PlannedComparison:
    """One comparison of the variants of a group in one order."""

    group: AnswerGroup
    order: tuple[int, ...]
    """Variant indices in the order shown to the judge."""
    pair: tuple[int, ...] = ()
    """The two compared variants, lower index first. Empty if all are shown."""
    repeat: int = 0

    def reversed(self) -> PlannedComparison:
        """Return the comparison in the reverse order."""
        return replace(self, order=self.order[::-1], repeat=self.repeat + 1)


@dataclass(frozen=True)
class ComparisonJudge:
    """A comparative judge with everything that its prompts need."""

    setup: JudgeSetup
    prompt: Prompt
    each_version: Prompt | None
    """Part of the prompt that asks for scores of single versions. `None` if the rubric has none."""
    rubric: Rubric
    group_words: Lexicon
    attributes: Mapping[str, Attribute]
    judging: Judging
    seed: int


@dataclass(frozen=True)
class JudgeCounts:
    """Counts of one judge over several parts of the questions."""

    judged: Yield
    """Usable verdicts."""
    calls: FailureCount | None = None
    """Calls and their failures, if the caller checks both. `None`: both are checked after every part."""


def judge_by_comparison(
    context: RunContext,
    name: str,
    groups: Sequence[AnswerGroup],
    attributes: Mapping[str, Attribute],
    *,
    adjudicates: bool = False,
    counts: JudgeCounts | None = None,
) -> list[Judgement]:
    """Judge groups with a model.

    Args:
        context: Context of the run.
        name: The judge.
        groups: Answers to judge.
        attributes: Attributes of their questions.
        adjudicates: Whether the judge decides about split panels.
        counts: Counts of the parts that were judged before, to which those of these groups are added.

    Returns:
        One judgement per comparison, and a second in the reverse order if the first found bias. Groups
        without an answer for every value get an abstention.

    Raises:
        ModelError: If the judge gives fewer verdicts than `validate.min_judged` of the comparisons asked, or
            too many of its calls fail, unless the caller checks them.
    """
    judge = read_comparison_judge(context, name, attributes, adjudicates=adjudicates)
    planned = [
        comparison
        for group in groups
        if group.is_complete
        for comparison in plan_comparisons(group, judge.judging.comparison, judge.seed)
    ]
    incomplete = [
        make_judgement(judge.setup, group, order=draw_order(group, judge.seed), abstention=MISSING_ANSWERS)
        for group in groups
        if not group.is_complete
    ]
    counts = counts or JudgeCounts(Yield(name, "comparisons"))
    verdicts = run_async(_ask_both_orders(context, judge, planned, counts))
    if counts.calls is None:
        require_yield([counts.judged], context.recipe.validation.min_judged)
    return incomplete + verdicts


def read_comparison_judge(
    context: RunContext, name: str, attributes: Mapping[str, Attribute], *, adjudicates: bool = False
) -> ComparisonJudge:
    """Read the judge's rubric, prompt and group words from data/."""
    data_dir, judging = Path(context.data_dir), context.recipe.judging
    rubric = read_judging_rubric(data_dir, judging.rubric)
    prompt = read_prompt(data_dir, PROMPTS[judging.comparison])
    each_version = read_prompt(data_dir, EACH_VERSION) if rubric.versions else None
    setup = JudgeSetup(
        judge=name,
        rubric=rubric.id,
        rubric_hash=hash_rubric(rubric),
        prompt_hash=content_hash([prompt.sha256, each_version.sha256]) if each_version else prompt.sha256,
        fitness_form=rubric_fitness_form(rubric, context.recipe.evolve.fitness),
        masked=True,
        adjudicates=adjudicates,
    )
    group_words = read_group_words(data_dir)
    return ComparisonJudge(
        setup, prompt, each_version, rubric, group_words, attributes, judging, context.recipe.seed
    )


def plan_comparisons(group: AnswerGroup, mode: ComparisonMode, seed: int) -> list[PlannedComparison]:
    """Plan the comparisons of a group in their first orders, which are drawn by seed."""
    if mode == "all_at_once":
        return [PlannedComparison(group, draw_order(group, seed))]
    return [
        PlannedComparison(group, _shuffle(pair, seed, "order", group.question.id, group.target, *pair), pair)
        for pair in choose_pairs(len(group.answers), seed, group.question.id)
    ]


def draw_order(group: AnswerGroup, seed: int) -> tuple[int, ...]:
    """Return all variant indices of a group in an order drawn by seed."""
    return _shuffle(range(len(group.answers)), seed, "order", group.question.id, group.target)


def choose_pairs(values: int, seed: int, question_id: str) -> list[tuple[int, int]]:
    """Choose the pairs of value indices to compare.

    Up to `MAX_ALL_PAIRS` values are all compared with each other. More values are placed on a ring drawn by
    seed and compared with their neighbours at both distances. This sparse design grows linearly, uses every
    value equally often and connects them all.
    """
    if values <= MAX_ALL_PAIRS:
        return list(combinations(range(values), 2))
    ring = _shuffle(range(values), seed, "ring", question_id)
    neighbours = ((ring[i], ring[(i + step) % values]) for i in range(values) for step in RING_STEPS)
    return sorted({(min(pair), max(pair)) for pair in neighbours})


def count_comparisons(values: int, mode: ComparisonMode) -> int:
    """Return the number of first comparisons of a group with this many values."""
    if mode == "all_at_once":
        return 1
    return values * (values - 1) // 2 if values <= MAX_ALL_PAIRS else len(RING_STEPS) * values


def _shuffle(indices: Iterable[int], *parts: object) -> tuple[int, ...]:
    return tuple(sorted(indices, key=lambda index: derived_seed(*parts, index)))


async def _ask_both_orders(
    context: RunContext, judge: ComparisonJudge, comparisons: Sequence[PlannedComparison], counts: JudgeCounts
) -> list[Judgement]:
    async with open_model(judge.setup.judge, ModelSettings.of(context)) as model:
        model.failures = counts.calls or model.failures
        first = await _ask(model, judge, comparisons, counts.judged)
        clean = FORMS[judge.setup.fitness_form].clean
        repeated = [
            comparison.reversed()
            for comparison, verdict in zip(comparisons, first, strict=True)
            if verdict.fitness is not None and verdict.fitness > clean
        ]
        return first + await _ask(model, judge, repeated, counts.judged)


async def _ask(
    model: Model, judge: ComparisonJudge, comparisons: Sequence[PlannedComparison], judged: Yield
) -> list[Judgement]:
    """Return one judgement per comparison, in order, and count them."""
    requests = [make_verdict_request(judge, comparison) for comparison in comparisons]
    by_tag = {request.tag: comparison for request, comparison in zip(requests, comparisons, strict=True)}
    sized = [
        (len(comparison.order), request) for comparison, request in zip(comparisons, requests, strict=True)
    ]
    verdicts: dict[str, Judgement] = {}
    with track(f"{model.name} judges", len(requests)) as bar:
        async for answer in ask_verdicts_by_size(model, judge.rubric, sized):
            verdict = record_comparison(judge, by_tag[answer.tag], answer)
            verdicts[answer.tag] = verdict
            judged.add(verdict.abstention, answer.detail if isinstance(answer, Abstention) else "")
            bar.advance()
    return [verdicts[request.tag] for request in requests]


async def ask_verdicts_by_size(
    model: Model, rubric: Rubric, sized: Sequence[tuple[int, Request]]
) -> AsyncIterator[Parsed[BaseModel] | Abstention]:
    """Ask for verdicts, those on equally many versions together, because the schema names every version.

    Args:
        model: An open model.
        rubric: Rubric of the verdicts.
        sized: Number of versions shown, and the request.
    """
    for versions in sorted({size for size, _ in sized}):
        requests = [request for size, request in sized if size == versions]
        async for answer in ask_structured(model, requests, make_verdict_type(rubric, versions)):
            yield answer


def make_verdict_request(judge: ComparisonJudge, comparison: PlannedComparison) -> Request:
    """Fill the judge's prompt for one comparison."""
    group = comparison.group
    masked = words_to_mask(judge.attributes[group.question.attribute], group.question, judge.group_words)
    question = mask_words(mask_slots(group.question.template).replace(SLOT_MARK, MASK), masked)
    answers = [
        fence(mask_words(answer.text, masked), f"version-{number}")
        for number, variant in enumerate(comparison.order, start=1)
        for answer in group.answers[variant][:SAMPLES_SHOWN]
    ]
    subject = (group.question.id, group.target, group.phase, comparison.repeat, *comparison.pair)
    parts = (judge.setup.judge, *subject, *group.condition_key)
    added, form = _each_version_parts(judge, len(comparison.order))
    return Request(
        tag=content_id("judge", *parts),
        messages=judge.prompt.fill(
            criteria=describe_criteria(judge.rubric),
            each_version=added,
            question=fence(question, "question"),
            answers="\n\n".join(answers),
            keys=", ".join(criterion.id for criterion in judge.rubric.criteria),
            each_version_form=form,
        ),
        decoding=Decoding(
            max_tokens=judge.judging.max_tokens, temperature=0.0, seed=derived_seed(judge.seed, *parts)
        ),
        stage="judge",
    )


def _each_version_parts(judge: ComparisonJudge, versions: int) -> tuple[str, str]:
    """Return the parts of the prompt about scores of single versions, empty if the rubric has none."""
    if judge.each_version is None:
        return "", ""
    added, form = judge.each_version.fill(
        criteria=describe_version_criteria(judge.rubric),
        keys=", ".join(criterion.id for criterion in judge.rubric.versions),
        versions=", ".join(f'"{version_key(number)}"' for number in range(1, versions + 1)),
    )
    return f"\n\n{added.content}", f" {form.content}"


def record_comparison(
    judge: ComparisonJudge, comparison: PlannedComparison, answer: Parsed[BaseModel] | Abstention
) -> Judgement:
    """Turn an answer into a judgement with scores and fitness, or an abstention with its reason."""
    scores: tuple[Score, ...] = ()
    version_scores: tuple[VersionScore, ...] = ()
    direction_reason = None
    if isinstance(answer, Parsed):
        scores = read_scores(answer.value, judge.rubric)
        version_scores, direction_reason = read_version_scores(
            answer.value, judge.rubric, comparison.group, comparison.order
        )
    attribute = comparison.group.question.attribute
    form = judge.setup.fitness_form
    fitness = compute_verdict_fitness(judge.rubric, form, scores, attribute) if scores else None
    return make_judgement(
        judge.setup,
        comparison.group,
        order=comparison.order,
        pair=comparison.pair,
        repeat=comparison.repeat,
        scores=scores,
        fitness=fitness,
        abstention=_abstention_reason(answer, judge.judging.max_tokens) if fitness is None else None,
        revision=answer.revision,
        cost=VerdictCost(answer.spent.tokens_in, answer.spent.tokens_out, answer.spent.cost_usd),
        version_scores=() if fitness is None else version_scores,
        direction_reason=direction_reason,
    )


def _abstention_reason(answer: Parsed[BaseModel] | Abstention, max_tokens: int) -> str:
    if isinstance(answer, Parsed):
        return NOTHING_APPLIES
    if is_loop(answer):
        return f"truncated: {answer.detail}; a larger limit does not help, take another model"
    if answer.reason == "truncated":
        return (
            f"truncated: no verdict within {max_tokens} tokens, nor within {CUT_OFF_FACTOR * max_tokens} "
            "when asked for short texts; raise judging.max_tokens"
        )
    return answer.reason
