"""The record of a verdict, or of an abstention with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.ids import content_id
from schemas.judgement import Judgement, Score
from tasks.judging.groups import AnswerGroup

MISSING_ANSWERS = "missing_answers"
TOO_FEW_SAMPLES = "too_few_samples"
NOTHING_APPLIES = "no_check_applies"


@dataclass(frozen=True)
class Bench:
    """Who judges, by what: the parts that all judgements of one judge share."""

    judge: str
    rubric: str
    rubric_hash: str
    prompt_hash: str
    fitness_form: str
    masked: bool
    adjudicates: bool = False


@dataclass(frozen=True)
class Price:
    """What a verdict took: tokens and dollars."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


def record_verdict(
    bench: Bench,
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
    price: Price | None = None,
) -> Judgement:
    """The judgement of a group; its id depends on who judges what, when and how often, not on the verdict."""
    price = price or Price()
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
