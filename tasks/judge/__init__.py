"""Judge stage: give every group of answers one verdict per judge, or an abstention with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from schemas.answers import JUDGEMENTS, RESPONSES, Judgement, Phase
from schemas.labels import StageCounts
from schemas.question import QUESTIONS
from schemas.release import StageCost, combine_costs
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_question_attributes
from tasks.judges import divergence
from tasks.judges.comparison import judge_by_comparison
from tasks.judges.panel import find_split_panels, model_fitness_form
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table

JUDGED_FAMILY = "open"
"""The only judged family. Forced choices are measured directly."""


def judge(
    context: RunContext,
    questions: TableRef,
    responses: TableRef,
    phase: Phase,
    judges: Sequence[str] | None = None,
) -> Outcome:
    """Judge the answers to open questions in one phase.

    The recipe's judges are used, or `judges` if given. Split panels go to the adjudicator.
    """
    open_questions = [q for q in read_table(questions, QUESTIONS) if q.family == JUDGED_FAMILY]
    answers = [r for r in read_table(responses, RESPONSES) if r.phase == phase]
    groups = group_answers(open_questions, answers)
    attributes = read_question_attributes(Path(context.data_dir), open_questions)
    names = tuple(judges or context.recipe.models.judges)
    panel = [verdict for name in names for verdict in run_judge(context, name, groups, attributes)]
    deciding = adjudicate(context, panel, groups, attributes)
    verdicts = sorted([*panel, *deciding], key=lambda j: (j.question_id, j.judge, j.target, j.pair, j.repeat))
    return Outcome(
        tables={JUDGEMENTS: verdicts},
        counts=(count_verdicts(verdicts),),
        costs=sum_verdict_costs(verdicts),
    )


def run_judge(
    context: RunContext, name: str, groups: Sequence[AnswerGroup], attributes: Mapping[str, Attribute]
) -> list[Judgement]:
    """Return all judgements of one judge: the divergence judge or a model."""
    if name == divergence.JUDGE:
        words = divergence.read_divergence_words(Path(context.data_dir))
        return divergence.judge_by_divergence(groups, attributes, words)
    return judge_by_comparison(context, name, groups, attributes)


def adjudicate(
    context: RunContext,
    panel: Sequence[Judgement],
    groups: Sequence[AnswerGroup],
    attributes: Mapping[str, Attribute],
) -> list[Judgement]:
    """Return the adjudicator's judgements of groups with a split panel.

    There are none if the recipe has no adjudicator or it is one of the judges.
    """
    recipe = context.recipe
    name = recipe.models.adjudicator
    if name is None or any(verdict.judge == name for verdict in panel):
        return []
    form = model_fitness_form(recipe, Path(context.data_dir))
    split = find_split_panels(panel, form, recipe.judging.split)
    disputed = [group for group in groups if (group.question.id, group.target) in split]
    return judge_by_comparison(context, name, disputed, attributes, adjudicates=True) if disputed else []


def count_verdicts(judgements: Sequence[Judgement]) -> StageCounts:
    """Count judgements. Each judge, comparison and order is one row, and abstentions count as failed."""
    failed = sum(j.abstention is not None for j in judgements)
    return StageCounts(
        stage="judge",
        unit="groups",
        rows=len(judgements),
        kept=len(judgements) - failed,
        dropped=0,
        failed=failed,
    )


def sum_verdict_costs(judgements: Iterable[Judgement]) -> tuple[StageCost, ...]:
    """Sum calls, tokens and dollars by judge. Judges without a model are left out."""
    costs = [
        StageCost(
            stage="judge",
            model=judgement.judge,
            calls=1,
            tokens_in=judgement.tokens_in,
            tokens_out=judgement.tokens_out,
            cost_usd=judgement.cost_usd,
        )
        for judgement in judgements
        if judgement.tokens_in
    ]
    return combine_costs(sorted(costs, key=lambda cost: cost.model))


STAGE = Stage(
    "judge",
    5,
    run=judge,
    reads=("models", "evolve", "judging", "validation"),
    vocabulary=("attributes", "lexicons", "prompts", "readers", "rubrics"),
    installed=divergence.installed_parts,
)
