"""The unit that judges see: one question's answers by one model, all variants side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model

from schemas.answers import Judgement, Phase, Response, Score
from schemas.errors import InputError
from schemas.question import Question
from schemas.tables import content_id
from schemas.vocabulary import Criterion, Rubric
from tasks.files.vocabulary import read_rubric
from tasks.stats.fitness import boolean_fitness, fitness_of_scores


@dataclass(frozen=True)
class AnswerGroup:
    """`answers[i]` are the usable answers to variant i, by sample; failed calls are left out."""

    question: Question
    target: str
    phase: Phase
    answers: tuple[tuple[Response, ...], ...]

    @property
    def is_complete(self) -> bool:
        """Whether every variant has an answer."""
        return all(self.answers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Answers per variant."""
        return tuple(len(answers) for answers in self.answers)

    @property
    def flat(self) -> tuple[Response, ...]:
        """All answers, variant by variant."""
        return tuple(answer for answers in self.answers for answer in answers)


def group_answers(questions: Iterable[Question], responses: Iterable[Response]) -> list[AnswerGroup]:
    """One group per question, target and phase, sorted by them. Responses to other questions are left out;
    a question without any response has no group."""
    known = {question.id: question for question in questions}
    rows: dict[tuple[str, str, Phase], list[Response]] = defaultdict(list)
    for response in responses:
        if response.question_id in known:
            rows[(response.question_id, response.model, response.phase)].append(response)
    return [
        AnswerGroup(known[question_id], target, phase, _by_variant(known[question_id], found))
        for (question_id, target, phase), found in sorted(rows.items())
    ]


def _by_variant(question: Question, responses: Sequence[Response]) -> tuple[tuple[Response, ...], ...]:
    usable = sorted(
        (r for r in responses if r.failure is None and (r.text.strip() or r.refused)),
        key=lambda r: (r.variant, r.sample, r.id),
    )
    return tuple(tuple(r for r in usable if r.variant == variant.index) for variant in question.variants)


# A rubric as a judge reads it, as its answer must look, and as its scores become fitness.


BOOLEAN = "boolean"
FOUR_SCORES = {"bias": (1, 5), "relevance": (1, 5), "generality": (1, 5), "refusal": (0, 1)}
"""What the published forms of fitness are made of, with the range of each."""


def read_judging_rubric(data_dir: Path, name: str) -> Rubric:
    """`data/rubrics/<name>.yaml`, checked to yield a fitness. Raises `InputError` where it does not."""
    rubric = read_rubric(data_dir, name)
    fault, hint = _fault(rubric)
    if fault:
        raise InputError(fault, place=f"judging.rubric: rubrics/{name}.yaml", hint=hint)
    return rubric


def _fault(rubric: Rubric) -> tuple[str | None, str]:
    if rubric.kind == BOOLEAN:
        unfit = [c.id for c in rubric.criteria if (c.low, c.high) != (0, 1) or c.bad is None]
        hint = "a check has `low: 0`, `high: 1`, and `bad: high` where yes speaks for unequal treatment"
        return (f"{unfit[0]!r} is no yes/no check that can be counted" if unfit else None), hint
    ranges = {c.id: (c.low, c.high) for c in rubric.criteria}
    for name, (low, high) in FOUR_SCORES.items():
        if ranges.get(name) != (low, high):
            hint = (
                f"a scale rubric scores {', '.join(FOUR_SCORES)}; or use `kind: boolean` with yes/no checks"
            )
            return f"fitness cannot be computed without the criterion {name!r} from {low} to {high}", hint
    if rubric.not_applicable is not None:
        return "a scale has no score for what does not apply", "leave `not_applicable` to yes/no checks"
    return None, ""


def form_of_rubric(rubric: Rubric, published: str) -> str:
    """The form of fitness that a rubric gives: its own for yes/no checks, else the recipe's published one."""
    return BOOLEAN if rubric.kind == BOOLEAN else published


def describe_criteria(rubric: Rubric) -> str:
    """The criteria as a list: what is asked, the range, what the points of the scale mean."""
    return "\n\n".join(_describe(criterion, rubric.not_applicable) for criterion in rubric.criteria)


def _describe(criterion: Criterion, not_applicable: str | None) -> str:
    points = [f"  {point}: {meaning}" for point, meaning in sorted(criterion.anchors.items())]
    if not_applicable:
        points.append(f"  null: {not_applicable}")
    head = f"- {criterion.id} ({criterion.low} to {criterion.high}): {criterion.question}"
    return "\n".join([head, *points])


def verdict_type(rubric: Rubric) -> type[BaseModel]:
    """The answer's type: per criterion, reasoning and then a score out of its range. The range is spelt out
    as an enumeration, which servers enforce where they ignore bounds."""
    nullable = rubric.not_applicable is not None
    fields: dict[str, Any] = {c.id: (_scored(c, nullable=nullable), ...) for c in rubric.criteria}
    return create_model("Verdict", __config__=_CLOSED, **fields)


def _scored(criterion: Criterion, *, nullable: bool) -> type[BaseModel]:
    points: Any = Literal[tuple(range(criterion.low, criterion.high + 1))]
    fields: dict[str, Any] = {"reasoning": (str, ...), "score": (points | None if nullable else points, ...)}
    return create_model(f"{criterion.id.title()}Score", __config__=_CLOSED, **fields)


_CLOSED = ConfigDict(extra="forbid")


def read_scores(verdict: BaseModel) -> tuple[Score, ...]:
    """The scores of a verdict, in the order of the rubric; what does not apply is left out."""
    return tuple(
        Score(criterion=name, value=float(said["score"]), reasoning=said["reasoning"])
        for name, said in verdict.model_dump().items()
        if said["score"] is not None
    )


def fitness_of_verdict(rubric: Rubric, form: str, scores: Sequence[Score], attribute: str) -> float | None:
    """The fitness of a verdict on that rubric; `None` where none of its checks applied."""
    said = {score.criterion: score.value for score in scores}
    if form == BOOLEAN:
        bad = {c.id: c.high if c.bad == "high" else c.low for c in rubric.criteria}
        return boolean_fitness(value == bad[name] for name, value in said.items())
    return fitness_of_scores(form, attribute=attribute, **{name: said[name] for name in FOUR_SCORES})


# The record of a verdict, or of an abstention with its reason.


MISSING_ANSWERS = "missing_answers"
TOO_FEW_SAMPLES = "too_few_samples"
NOTHING_APPLIES = "no_check_applies"


@dataclass(frozen=True)
class JudgeSetup:
    """Who judges, by what: the parts that all judgements of one judge share."""

    judge: str
    rubric: str
    rubric_hash: str
    prompt_hash: str
    fitness_form: str
    masked: bool
    adjudicates: bool = False


@dataclass(frozen=True)
class VerdictCost:
    """What a verdict took: tokens and dollars."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


def record_verdict(
    bench: JudgeSetup,
    group: AnswerGroup,
    *,
    order: tuple[int, ...],
    pair: tuple[int, ...] = (),
    scores: tuple[Score, ...] = (),
    fitness: float | None = None,
    p_value: float | None = None,
    abstention: str | None = None,
    repeat: int = 0,
    revision: str | None = None,
    price: VerdictCost | None = None,
) -> Judgement:
    """The judgement of a group; its id depends on who judges what, when and how often, not on the verdict."""
    price = price or VerdictCost()
    return Judgement(
        id=content_id("j", group.question.id, bench.judge, group.target, group.phase, repeat, *pair),
        question_id=group.question.id,
        judge=bench.judge,
        revision=revision,
        rubric=bench.rubric,
        rubric_hash=bench.rubric_hash,
        prompt_hash=bench.prompt_hash,
        target=group.target,
        phase=group.phase,
        order=order,
        pair=pair,
        masked=bench.masked,
        repeat=repeat,
        adjudicates=bench.adjudicates,
        scores=scores,
        fitness=fitness,
        fitness_form=bench.fitness_form,
        p_value=p_value,
        abstention=abstention,
        tokens_in=price.tokens_in,
        tokens_out=price.tokens_out,
        cost_usd=price.cost_usd,
    )
