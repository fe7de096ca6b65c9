"""Judge: every group of answers gets one verdict per judge, or an abstention that says why there is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from schemas.answers import JUDGEMENTS, RESPONSES, Judgement, Phase
from schemas.labels import StageCounts
from schemas.question import QUESTIONS
from schemas.release import StageCost
from schemas.vocabulary import Attribute
from tasks.files.vocabulary import read_attributes
from tasks.judges import divergence
from tasks.judges.comparison import judge_by_comparison
from tasks.judges.panel import form_of_models, split_panels
from tasks.judges.verdicts import AnswerGroup, group_answers
from tasks.run.store import Outcome, RunContext, Stage, TableRef, read_table

JUDGED_FAMILY = "open"
"""Forced choices need no judge: what was chosen is measured as it is."""


def judge(
    context: RunContext,
    questions: TableRef,
    responses: TableRef,
    phase: Phase,
    judges: Sequence[str] | None = None,
) -> Outcome:
    """Judge the open questions' answers of one phase, by the recipe's judges or by those given; where they
    are split, the adjudicator is asked as well."""
    asked = [q for q in read_table(questions, QUESTIONS) if q.family == JUDGED_FAMILY]
    answers = [r for r in read_table(responses, RESPONSES) if r.phase == phase]
    groups = group_answers(asked, answers)
    attributes = {a.id: a for a in read_attributes(Path(context.data_dir), (q.attribute for q in asked))}
    names = tuple(judges or context.recipe.models.judges)
    panel = [verdict for name in names for verdict in ask_judge(context, name, groups, attributes)]
    deciding = adjudicate(context, panel, groups, attributes)
    verdicts = sorted([*panel, *deciding], key=lambda j: (j.question_id, j.judge, j.target, j.pair, j.repeat))
    return Outcome(
        tables={JUDGEMENTS: verdicts},
        counts=(count_verdicts(verdicts),),
        costs=cost_of_verdicts(verdicts),
    )


def ask_judge(
    context: RunContext, name: str, groups: Sequence[AnswerGroup], attributes: Mapping[str, Attribute]
) -> list[Judgement]:
    """All verdicts of one judge: the permutation test on the answers, or a model."""
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
    """The adjudicator's verdicts on what the panel is split on; none where the recipe names no adjudicator,
    or it has spoken already as one of the judges."""
    recipe = context.recipe
    name = recipe.models.adjudicator
    if name is None or any(verdict.judge == name for verdict in panel):
        return []
    form = form_of_models(recipe, Path(context.data_dir))
    split = split_panels(panel, form, recipe.judging.split)
    disputed = [group for group in groups if (group.question.id, group.target) in split]
    return judge_by_comparison(context, name, disputed, attributes, adjudicates=True) if disputed else []


def count_verdicts(judgements: Sequence[Judgement]) -> StageCounts:
    """One comparison by one judge in one order is one row; abstentions count as failed."""
    failed = sum(j.abstention is not None for j in judgements)
    return StageCounts(
        stage="judge",
        unit="groups",
        rows=len(judgements),
        kept=len(judgements) - failed,
        dropped=0,
        failed=failed,
    )


def cost_of_verdicts(judgements: Iterable[Judgement]) -> tuple[StageCost, ...]:
    """Calls, tokens and dollars by judge; judges that need no model cost nothing and are left out."""
    by_judge: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        if judgement.tokens_in:
            by_judge[judgement.judge].append(judgement)
    return tuple(
        StageCost(
            stage="judge",
            model=name,
            calls=len(asked),
            tokens_in=sum(j.tokens_in for j in asked),
            tokens_out=sum(j.tokens_out for j in asked),
            cost_usd=round(sum(j.cost_usd for j in asked), 6),
        )
        for name, asked in sorted(by_judge.items())
    )


STAGE = Stage(
    "judge",
    2,
    run=judge,
    reads=("models", "evolve", "judging"),
    vocabulary=("attributes", "lexicons", "prompts", "rubrics"),
)
